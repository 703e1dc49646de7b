"""Settings of members with an encoder and a decoder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from deepen_llm.garbage import uncollected
from deepen_llm.members.transformers.settings import TransformersConfig

if TYPE_CHECKING:
    from deepen_llm.members.base import Member

PLACE = "{source}"
"""Where the source goes in a template."""


def _check_pattern(pattern: str) -> str:
    try:
        num_groups = re.compile(pattern).groups
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"must be a regular expression of Python's re: {error}") from error
    if num_groups != 1:
        raise ValueError(
            f"must have one group, which is the source; it has {num_groups}: write one as (...), others as (?:...)"
        )
    return pattern


def _check_template(template: str) -> str:
    if template.count(PLACE) != 1:
        raise ValueError(f"must hold {PLACE} once, where the source goes; it does {template.count(PLACE)} times")
    return template


class EncoderDecoderConfig(TransformersConfig):
    """A sequence-to-sequence model (T5, NLLB, mBART, BART, Marian, ...) that `transformers` loads."""

    kind: Literal["encoder-decoder"] = "encoder-decoder"  # type: ignore[assignment]
    source_pattern: Annotated[str, AfterValidator(_check_pattern)] | None = None
    """A regular expression with one group. Its last match in the prompt, in a chat in the last message of the user, has
    the source: what the encoder reads. A prompt without a match is refused. None: the whole prompt is the source.
    `SamplingParams.source` names it request by request, and then no pattern is looked for."""
    source_template: Annotated[str, AfterValidator(_check_template)] = PLACE
    """What the encoder reads, with `{source}` in it, such as "translate English to German: {source}"."""
    source_language: str | None = None
    """The language of the source, as the tokenizer calls it, such as "eng_Latn" (NLLB) or "en_XX" (mBART)."""
    target_language: str | None = None
    """The language of the answer, such as "deu_Latn": the special token with which the decoder begins. None: that of
    the model's `generation_config` (`forced_bos_token_id`), if it has one."""

    @model_validator(mode="after")
    def _check_text(self) -> Self:
        if self.chat_template is not None:
            raise ValueError("chat_template means nothing for an encoder, which reads a source: leave it out")
        return self

    def load(self) -> Member:
        """See `MemberConfig.load`."""
        with uncollected:
            from deepen_llm.members.encoder_decoder.member import EncoderDecoderMember

        return EncoderDecoderMember.load(self)
