"""A GGUF file that llama.cpp runs as a member."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from deepen_llm.errors import ClosedError, MemberError, VocabularyError, quote
from deepen_llm.members.base import Branch, Fork, Member, Pending
from deepen_llm.members.generation_defaults import ENDS, GenerationDefaults
from deepen_llm.members.gguf.embeddings import read_embeddings
from deepen_llm.members.gguf.files import GGUFFiles
from deepen_llm.members.gguf.library import load_library
from deepen_llm.members.gguf.memory import CacheSize, find_free_bytes
from deepen_llm.members.gguf.model import LlamaContext, LlamaModel
from deepen_llm.members.gguf.rows import LlamaRows
from deepen_llm.members.gguf.settings import GGUFConfig
from deepen_llm.members.gguf.tokenizer import GGUFTokenizer
from deepen_llm.members.gguf.worker import Worker
from deepen_llm.members.names import member_name
from deepen_llm.members.transformers.rows import Extended
from deepen_llm.vocabulary import Vocabulary

TOKEN_COST = 0.5
"""Of quantized weights on the CPU, which are unpacked for each token anew."""
SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
"""What a file may say of how tokens are drawn, by the names of transformers."""


@final
class GGUFMember(Member):
    """Runs a GGUF file with llama.cpp: one context, whose cache all rows share."""

    def __init__(self, config: GGUFConfig) -> None:
        """Load the file, and take the memory for its rows.

        Raises:
            MemberError: No such file, a damaged one, one that llama.cpp cannot load or that is no language model, or
                a cache larger than memory.
            MissingDependencyError: llama.cpp is not installed.
            VocabularyError: The tokens cannot be read as bytes, or the tokenizer that was given is another's.
        """
        self.name = member_name(config)
        library = load_library()
        self._config = config
        self._files = GGUFFiles.find(config.model, self.name, library)
        free_bytes = None if config.gpu_layers else find_free_bytes()
        size = CacheSize(self._files.header, config, self.name, free_bytes)
        self._model = LlamaModel(self._files.path, config, self.name)
        try:
            _check_decoder(self._model, self.name)
            self.vocabulary = _read_vocabulary(self._files, config, self.name)
            context = LlamaContext(self._model, config, size, self.name)
        except BaseException:
            self._model.free()
            raise
        self._context = context
        self.context_length = size.context
        self._is_recurrent = bool(library.llama_model_is_recurrent(self._model.pointer))
        self._worker = Worker(f"deepen-gguf-{self.name}")
        self._rows = LlamaRows(
            context,
            num_rows=config.rows,
            num_logits=len(self.vocabulary),
            bytes_per_token=None if self._is_recurrent else size.bytes_per_token or None,
            on_computing=self._worker.is_computing.set,
        )
        self._weight_bytes = int(library.llama_model_size(self._model.pointer))
        self._num_parameters = int(library.llama_model_n_params(self._model.pointer))
        self._generation_defaults = _read_generation_defaults(self._files, self._model, self.vocabulary)
        self._fingerprint = self._files.fingerprint
        self._handles = itertools.count()
        self._is_closed = False

    @classmethod
    def load(cls, config: GGUFConfig) -> GGUFMember:
        """As the constructor, which raises the same."""
        return cls(config)

    @property
    def kind(self) -> str:
        """A GGUF file."""
        return "gguf"

    @cached_property
    def embeddings(self) -> Tensor | None:
        """The embeddings of the file, (rows, hidden), float16; read when they are first asked for."""
        found = self._files.embeddings
        return None if found is None else read_embeddings(*found, load_library())

    @property
    def device(self) -> torch.device:
        """The CPU: llama.cpp brings logits there itself."""
        return torch.device("cpu")

    @property
    def weight_bytes(self) -> int:
        """Of all tensors, in the number formats of the file."""
        return self._weight_bytes

    @property
    def computes_beside(self) -> bool:
        """In llama.cpp's threads."""
        return True

    @property
    def num_parameters(self) -> int | None:
        """Of the whole model."""
        return self._num_parameters

    @property
    def cache_bytes_per_token(self) -> int | None:
        """Keys and values of all layers; None for a recurrent model."""
        return self._rows.bytes_per_token

    @property
    def generation_defaults(self) -> GenerationDefaults:
        """What the file says."""
        return self._generation_defaults

    @property
    def can_fork(self) -> bool:
        """Yes: llama.cpp copies and saves sequences."""
        return True

    @property
    def identity(self) -> Mapping[str, object]:
        """Name and place of the file, what it holds, and in which format keys and values are kept."""
        return {
            "name": self.name,
            "model": str(self._files.path),
            "fingerprint": self._fingerprint,
            "cache_type": self._config.cache_type,
        }

    @property
    def num_cached(self) -> int:
        """How many tokens all rows hold together."""
        return self._rows.num_tokens

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
        """Feed each row its new tokens; logits (len(tokens), num_logits), float32."""
        self._check_open()
        fed = {row: list(ids) for row, ids in tokens.items()}
        return self._worker.start(lambda: self._rows.extend(fed, measured or {}, temperature=temperature))

    @property
    def tells_each(self) -> bool:
        """It does, but for a recurrent model, whose state cannot be taken back."""
        return not self._is_recurrent

    @property
    def token_cost(self) -> float:
        """Much on the CPU, where a pass of a few tokens is little more than as many passes of one: see benchmarks."""
        return super().token_cost if self._config.gpu_layers else TOKEN_COST

    def start_extend_each(self, tokens: Mapping[int, Sequence[int]], num_told: Mapping[int, int]) -> Pending:
        """Logits after several tokens of a row (sum of num_told, num_logits), float32."""
        self._check_open()
        if not self.tells_each:
            return super().start_extend_each(tokens, num_told)
        fed, told = {row: list(ids) for row, ids in tokens.items()}, dict(num_told)
        return self._worker.start(lambda: Extended(self._rows.extend_each(fed, told), {}))

    def start_peek(self, branches: Sequence[Branch]) -> Pending:
        """Logits after other tokens (len(branches), num_logits); no row is changed."""
        self._check_open()
        return self._worker.start(lambda: Extended(self._rows.peek(branches), {}))

    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last tokens of a row."""
        self._worker.wait()
        self._rows.rollback(row, num_tokens)

    def fork(self, row: int, num_back: int) -> Fork | None:
        """Begin a row with what another holds."""
        self._check_open()
        self._worker.wait()
        new = next(self._handles)
        left_out = self._rows.fork(row, new, num_back)
        return None if left_out is None else Fork(new, left_out)

    def park(self, row: int) -> int:
        """Save a row outside the cache that all rows share."""
        self._worker.wait()
        return self._rows.park(row)

    def release(self, row: int) -> None:
        """Free a row; of a closed member nothing is left to free."""
        if not self._is_closed:
            self._worker.wait()
            self._rows.release(row)

    def close(self) -> None:
        """Give the memory of cache and weights back. May be called again."""
        self._is_closed = True
        self._worker.close()
        self._context.free()
        self._model.free()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError(f"member {self.name!r} is closed: load it again")


def _check_decoder(model: LlamaModel, name: str) -> None:
    """Refuse what does not go on with a text token by token."""
    library, pointer = model.library, model.pointer
    if library.llama_model_has_encoder(pointer) or not library.llama_model_has_decoder(pointer):
        raise MemberError(
            f"member {quote(name)} must be decoder-only, and this file has an encoder: take another model"
        )
    if library.llama_model_is_diffusion(pointer):
        raise MemberError(f"member {quote(name)} must write from left to right, and this is a diffusion model")


def _read_vocabulary(files: GGUFFiles, config: GGUFConfig, name: str) -> Vocabulary:
    """The file's own vocabulary, or that of the tokenizer that was given, which has to be the same."""
    source = GGUFTokenizer(files.header, name)
    own = Vocabulary.from_source(source, name=name, num_logits=source.num_tokens, chat_template=config.chat_template)
    if config.tokenizer is None:
        return own
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(Path(config.tokenizer).expanduser()))
    except (OSError, ValueError) as error:
        raise MemberError(
            f"member {quote(name)}: there is no tokenizer at {quote(config.tokenizer)} ({error})"
        ) from error
    given = Vocabulary.from_tokenizer(
        tokenizer, name=name, num_logits=len(own), eos_ids=own.eos_ids, chat_template=config.chat_template
    )
    differing = [i for i, token in enumerate(own.tokens) if token != given.tokens[i]]
    if differing:
        first = differing[0]
        raise VocabularyError(
            f"member {quote(name)}: the tokenizer at {quote(config.tokenizer)} must be the one of the GGUF file; of "
            f"{len(own):,} tokens {len(differing):,} differ, the first is {first}: {quote(given.tokens[first])} and in "
            f"the file {quote(own.tokens[first])}: give another one, or none"
        )
    return given


def _read_generation_defaults(files: GGUFFiles, model: LlamaModel, vocabulary: Vocabulary) -> GenerationDefaults:
    """How tokens are drawn, as the file says it, and which never come."""
    settings = {name: files.header.settings[key] for key, name in SAMPLING.items() if key in files.header.settings}
    num = ctypes.c_int32()
    suppressed = model.library.llama_vocab_get_suppress_tokens(model.vocab, ctypes.byref(num))
    ids = tuple(suppressed[: num.value]) if num.value > 0 else ()
    return GenerationDefaults(suppressed_ids=ids, settings=settings | {ENDS: list(vocabulary.eos_ids)})
