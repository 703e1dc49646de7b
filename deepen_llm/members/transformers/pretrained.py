"""What members have in common whose model and tokenizer are of `transformers`, whatever its architecture."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from deepen_llm.errors import ClosedError
from deepen_llm.members.base import Branch, Fork, Member, Pending, Ready
from deepen_llm.members.generation_defaults import GenerationDefaults
from deepen_llm.members.transformers.embeddings import read_embeddings
from deepen_llm.members.transformers.footprint import measure_parts
from deepen_llm.members.transformers.generation_defaults import read_generation_defaults
from deepen_llm.members.transformers.placement import input_device
from deepen_llm.members.transformers.quantization import describe_quantization
from deepen_llm.members.transformers.rows import Rows
from deepen_llm.members.transformers.shared import SharedWeights
from deepen_llm.vocabulary import Vocabulary

NO_LIMIT = 10**9
SLOW_TOKEN_COST, SLOW_BYTES = 0.25, 32 << 20
"""What one more token costs a model in float32 on the CPU, if its weights take more than that."""


class PretrainedMember(Member):
    """Runs a `PreTrainedModel` that has a language-modelling head; its class says how its rows are kept."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        rows: Rows,
        *,
        name: str,
        chat_template: str | None = None,
        revision: str = "",
        adapter: str | None = None,
        shared: SharedWeights | None = None,
    ) -> None:
        """Wrap a model that is already loaded; `adapter` says where what changes it came from, `shared` the rest.

        Raises:
            VocabularyError: The tokenizer's tokens cannot be read as bytes.
            MemberError: A `generation_config` that cannot be read.
        """
        self.name = name
        model.train(False)
        self._model = model
        self._revision = revision
        self._adapter = adapter
        self._shared = shared
        self.vocabulary = Vocabulary.from_tokenizer(
            tokenizer,
            name=name,
            num_logits=_num_logits(model),
            eos_ids=_eos_ids(model),
            chat_template=chat_template,
        )
        self.context_length = context_length(model.config, tokenizer)
        self._generation_defaults = read_generation_defaults(model, name, len(self.vocabulary))
        self._rows = rows
        self._handles = itertools.count()
        self._is_closed = False

    @property
    def embeddings(self) -> Tensor:
        """The model's own input embeddings, not a copy, unless they are packed, changed by an adapter, or on disk."""
        return read_embeddings(self._model)

    @property
    def device(self) -> torch.device:
        """Where the logits come out."""
        return input_device(self._model)

    @property
    def weight_bytes(self) -> int:
        """Memory of parameters and buffers, tied ones counted once; what is kept on disk counts as well."""
        return sum(measure_parts(self._model).values())

    @property
    def shared_weight_bytes(self) -> int:
        """What lies in memory for a member over the same weights, loaded before."""
        return 0 if self._shared is None else self._shared.count_shared(self._model)

    @property
    def num_parameters(self) -> int | None:
        """Of the whole model, shared ones counted once."""
        return int(self._model.num_parameters())

    @property
    def cache_bytes_per_token(self) -> int | None:
        """Keys and values of every layer for one token; None for a recurrent model."""
        return self._rows.bytes_per_token

    @property
    def generation_defaults(self) -> GenerationDefaults:
        """The model's `generation_config`."""
        return self._generation_defaults

    @property
    def can_fork(self) -> bool:
        """Yes: what a row holds can be copied."""
        return True

    @property
    def identity(self) -> Mapping[str, object]:
        """Name, place, revision and number format of the model, and its adapter where it has one."""
        adapter = {} if self._adapter is None else {"adapter": self._adapter}
        return adapter | {
            "name": self.name,
            "model": str(self._model.config.name_or_path),
            "revision": self._revision,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "quantization": describe_quantization(self._model.config),
        }

    def open(self) -> int:
        """Begin an empty row."""
        self._check_open()
        return next(self._handles)

    def start_extend(
        self,
        tokens: Mapping[int, Sequence[int]],
        measured: Mapping[int, int] | None = None,
        *,
        temperature: float = 1.0,
    ) -> Pending:
        """Feed each row its new tokens; logits (len(tokens), num_logits). A GPU may still work at them."""
        self._check_open()
        return Ready(*self._rows.extend(tokens, measured or {}, temperature=temperature))

    @property
    def tells_each(self) -> bool:
        """It does, but for recurrent models, whose rows go forwards a token a pass."""
        return self._rows.tells_each

    @property
    def token_cost(self) -> float:
        """More in float32 on the CPU, where products of a few rows take long: see benchmarks, "Reading ahead".

        Of small models a pass is mostly what is around the products.
        """
        is_slow = self.device.type == "cpu" and self._model.dtype == torch.float32
        return SLOW_TOKEN_COST if is_slow and self.weight_bytes > SLOW_BYTES else super().token_cost

    def start_extend_each(self, tokens: Mapping[int, Sequence[int]], num_told: Mapping[int, int]) -> Pending:
        """Logits after several tokens of a row (sum of num_told, num_logits)."""
        self._check_open()
        return Ready(self._rows.extend_each(tokens, num_told))

    def start_peek(self, branches: Sequence[Branch]) -> Pending:
        """Logits after other tokens (len(branches), num_logits); no row is changed."""
        self._check_open()
        return Ready(self._rows.peek(branches))

    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last tokens of a row."""
        self._rows.rollback(row, num_tokens)

    def fork(self, row: int, num_back: int) -> Fork | None:
        """Begin a row with a copy of what another holds."""
        self._check_open()
        new = next(self._handles)
        left_out = self._rows.fork(row, new, num_back)
        return None if left_out is None else Fork(new, left_out)

    def park(self, row: int) -> int:
        """Take a row out of the batch."""
        return self._rows.park(row)

    def release(self, row: int) -> None:
        """Free a row; of a closed member nothing is left to free."""
        if not self._is_closed:
            self._rows.release(row)

    def close(self) -> None:
        """Let go of the model and its cache. May be called again."""
        if not self._is_closed:
            self._is_closed = True
            if self._shared is not None:
                self._shared.release(self._model)
            del self._model, self._rows, self._shared

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError(f"member {self.name!r} is closed: load it again")


def _head(model: PreTrainedModel) -> Any:
    """The language-modelling head, None where the model does not tell."""
    return model.get_output_embeddings()  # type: ignore[no-untyped-call]


def _num_logits(model: PreTrainedModel) -> int:
    head = _head(model)
    if head is not None and hasattr(head, "out_features"):
        return int(head.out_features)
    return int(model.config.get_text_config().vocab_size)


def _eos_ids(model: PreTrainedModel) -> list[int]:
    """End-of-sequence ids of the generation configuration and of the model's own."""
    generation = getattr(model, "generation_config", None)
    found: list[int] = []
    for ids in (getattr(generation, "eos_token_id", None), getattr(model.config, "eos_token_id", None)):
        found += [ids] if isinstance(ids, int) else list(ids or [])
    return list(dict.fromkeys(found))


def context_length(config: PreTrainedConfig, tokenizer: Any) -> int:
    """The most tokens that a row can hold, as the configuration or else the tokenizer says."""
    text_config = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"):
        if isinstance(length := getattr(text_config, name, None), int) and length > 0:
            return length
    return min(int(tokenizer.model_max_length), NO_LIMIT)
