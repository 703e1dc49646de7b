"""A sequence-to-sequence model of `transformers` as a member."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

from transformers import PreTrainedModel

from deepen_llm.errors import MemberError
from deepen_llm.members.encoder_decoder.languages import read_target_language, with_source_language
from deepen_llm.members.encoder_decoder.positions import RowPositions
from deepen_llm.members.encoder_decoder.rows import SourcedRows
from deepen_llm.members.encoder_decoder.settings import PLACE, EncoderDecoderConfig
from deepen_llm.members.generation_defaults import GenerationDefaults
from deepen_llm.members.names import member_name
from deepen_llm.members.source import SourceReader
from deepen_llm.members.transformers.loading import load_model, own_errors
from deepen_llm.members.transformers.pretrained import PretrainedMember, context_length
from deepen_llm.members.transformers.shared import SharedWeights

START, FORCED = STARTS = ("decoder_start_token_id", "forced_bos_token_id")
"""From which tokens a decoder begins."""


@final
class EncoderDecoderMember(PretrainedMember):
    """Runs a model whose encoder reads a source and whose decoder follows the answer, one pass a step for all rows."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        *,
        settings: EncoderDecoderConfig,
        revision: str = "",
        adapter: str | None = None,
        shared: SharedWeights | None = None,
    ) -> None:
        """Wrap a model that is already loaded; of the settings, those count that say what is read.

        `adapter` and `shared` are as in `PretrainedMember`.

        Raises:
            VocabularyError: The tokenizer's tokens cannot be read as bytes.
            MemberError: A decoder whose positions cannot be set row by row, or that has no token to begin from.
            ConfigError: A language that the tokenizer does not have.
        """
        name = member_name(settings)
        rows = SourcedRows(model, RowPositions(model, name, context_length(model.config, tokenizer)))
        super().__init__(model, tokenizer, rows, name=name, revision=revision, adapter=adapter, shared=shared)
        self._sourced = rows
        self._settings = settings
        if settings.source_language is not None:
            tokenizer = with_source_language(tokenizer, settings.source_language, name)
        prefix_ids, suffix_ids = _read_frame(tokenizer)
        before, _, after = settings.source_template.partition(PLACE)
        self._reader = SourceReader(
            self.vocabulary,
            prefix_ids,
            suffix_ids,
            self._read_start(tokenizer),
            self.context_length,
            pattern=None if settings.source_pattern is None else re.compile(settings.source_pattern),
            before=before,
            after=after,
        )

    @classmethod
    def load(cls, config: EncoderDecoderConfig) -> EncoderDecoderMember:
        """Load what the configuration says. Raises what `__init__` does, and what `load_model` does."""
        name = member_name(config)
        loaded = load_model(config, name)
        with own_errors(name, config.model):
            return cls(
                loaded.model,
                loaded.tokenizer,
                settings=config,
                revision=loaded.commit,
                adapter=loaded.adapter,
                shared=loaded.shared,
            )

    @property
    def kind(self) -> str:
        """A member with an encoder."""
        return "encoder-decoder"

    @property
    def generation_defaults(self) -> GenerationDefaults:
        """The model's `generation_config`, without what the decoder begins from, which is followed always."""
        own = super().generation_defaults
        return replace(own, settings={name: value for name, value in own.settings.items() if name not in STARTS})

    @property
    def source_reader(self) -> SourceReader:
        """What of a prompt the encoder reads."""
        return self._reader

    @property
    def identity(self) -> dict[str, object]:
        """That of any model of transformers, and what it reads of a prompt."""
        names = ("source_pattern", "source_template", "source_language", "target_language")
        return {**super().identity, **{name: getattr(self._settings, name) for name in names}}

    def open(self) -> int:
        """Begin an empty row over no source: the encoder reads what is put around one."""
        return self.open_over(self._reader.frame(()))

    def open_over(self, source_ids: Sequence[int]) -> int:
        """Begin an empty row over what the encoder reads."""
        row = super().open()
        self._sourced.open(row, source_ids)
        return row

    def _read_start(self, tokenizer: Any) -> tuple[int, ...]:
        """The tokens from which the decoder begins."""
        start, language = self._read_setting(START), self._settings.target_language
        if start is None:
            raise MemberError(
                f"member {self.name!r} must say from which token its decoder begins: config.json has no "
                "decoder_start_token_id: add it"
            )
        forced = self._read_setting(FORCED)
        if language is not None:
            forced = read_target_language(tokenizer, self.vocabulary, language)
        return (start,) if forced is None else (start, forced)

    def _read_setting(self, name: str) -> int | None:
        """A token of the generation configuration, or else of the model's own."""
        for config in (getattr(self._model, "generation_config", None), self._model.config):
            if isinstance(token_id := getattr(config, name, None), int):
                return token_id
        return None


def _read_frame(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What a tokenizer puts before and after a text."""
    bare, whole = (tuple(tokenizer("a", add_special_tokens=adds).input_ids) for adds in (False, True))
    begin = next(begin for begin in range(len(whole) + 1) if whole[begin : begin + len(bare)] == bare)
    return whole[:begin], whole[begin + len(bare) :]
