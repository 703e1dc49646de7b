"""A model behind a server as a member."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import final

import torch

from deepen_llm.errors import ClosedError, MemberError, quote
from deepen_llm.members.base import Branch, Member, Pending
from deepen_llm.members.names import member_name
from deepen_llm.members.server.agreement import check_tokenizer
from deepen_llm.members.server.client import Client, StatusError
from deepen_llm.members.server.dialect import Dialect, Prompt, Served
from deepen_llm.members.server.passes import Measured, ServerPass, Wanted
from deepen_llm.members.server.recognition import recognise
from deepen_llm.members.server.settings import ServerConfig
from deepen_llm.members.server.tokenizer import read_vocabulary
from deepen_llm.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

MAX_MEASURED = 8
"""The most tokens of a row that are measured in a pass."""
FEW = 100
"""With fewer tokens than that answers get measurably worse."""


@final
class ServerMember(Member):
    """Keeps the text of its rows and sends it whole at each step; what was sent before, the server still has."""

    def __init__(self, client: Client, dialect: Dialect, served: Served, vocabulary: Vocabulary, *, top: int) -> None:
        """Take what was found; `load` finds it."""
        if served.max_tokens is None:
            raise MemberError(
                f"{client.where} must say how long a text may be (max_model_len of its models), as {dialect.title} "
                "does: update it"
            )
        self.name, self.vocabulary = vocabulary.name, vocabulary
        self.context_length = served.max_tokens - 1  # the one token that is asked for needs a place, too
        self._client, self._dialect, self._served, self._top = client, dialect, served, top
        self._rows: dict[int, list[int]] = {}
        self._is_closed = False

    @classmethod
    def load(cls, config: ServerConfig) -> ServerMember:
        """Find out what the server is, and whether it and the tokenizer belong together.

        Raises:
            ConfigError: A key that cannot be found.
            MemberError: The server does not answer, is of no kind that can be a member, or has another model or
                tokenizer.
            VocabularyError: The tokenizer's tokens cannot be read as bytes.
        """
        name = member_name(config)
        if config.top < FEW:
            logger.warning("member %r is told %d tokens a step: below %d answers get worse", name, config.top, FEW)
        if config.key is not None and config.is_open_to_all:
            logger.warning("the key of member %r goes over the network in the open: use https://", name)
        client = Client(name, config.model, key=config.key, timeout_s=config.timeout_s)
        try:
            return cls._load(name, client, config)
        except BaseException:
            client.close()
            raise

    @classmethod
    def _load(cls, name: str, client: Client, config: ServerConfig) -> ServerMember:
        kind, served = recognise(client, config)
        dialect = kind(client, served, config.top)
        served = dialect.describe(served)
        place = config.tokenizer or served.tokenizer
        if place is None:
            raise MemberError(
                f"member {quote(name)}: the tokenizer of a server's model is needed here, and {dialect.title} names "
                "none: give a folder with its tokenizer.json, that file, its GGUF file, or its name on the hub with "
                "tokenizer="
            )
        vocabulary = read_vocabulary(name, place, served.num_logits, config.chat_template)
        check_tokenizer(name, dialect, vocabulary, place)
        member = cls(client, dialect, served, vocabulary, top=config.top)
        member._try_step()
        return member

    @property
    def kind(self) -> str:
        """A member behind a server."""
        return "server"

    @property
    def device(self) -> torch.device:
        """The CPU, where answers arrive."""
        return torch.device("cpu")

    @property
    def weight_bytes(self) -> int:
        """None of this machine's memory, unless the server runs on it."""
        return 0

    @property
    def num_told(self) -> int:
        """As many as the server is asked for."""
        return min(self._top, len(self.vocabulary))

    @property
    def num_parameters(self) -> int | None:
        """What the server says of its model."""
        return self._served.num_parameters

    @property
    def cache_bytes_per_token(self) -> int | None:
        """None: the cache is the server's."""
        return None

    @property
    def identity(self) -> Mapping[str, object]:
        """Where the model is and what it is called there, which tokens it has, and how many of them are told."""
        return {
            "name": self.name,
            "server": self._client.address,
            "dialect": self._dialect.name,
            "model": self._served.model,
            "vocabulary": self.vocabulary.fingerprint,
            "top": self._top,
        }

    def open(self) -> int:
        """Begin an empty row: the lowest number that is free, for servers that give each row a place of its own."""
        self._check_open()
        row = next(row for row in itertools.count() if row not in self._rows)
        self._rows[row] = []
        return row

    def start_extend(
        self,
        tokens: Mapping[int, Sequence[int]],
        measured: Mapping[int, int] | None = None,
        *,
        temperature: float = 1.0,
    ) -> Pending:
        """Send each row's whole text, and for each token that is measured what is before it.

        A few tokens are measured, which costs the server a token each. More are not, nor, at most servers, those of a
        row that begins: they would compute a long text many times, or without their prefix cache.
        """
        self._check_open()
        prompts = []
        for row, ids in tokens.items():
            self._rows[row] += ids
            prompts.append(Prompt(list(self._rows[row]), row))
        places: dict[int, Measured] = {}
        for row, num in (measured or {}).items():
            text = self._rows[row]
            begins = len(text) == len(tokens[row])
            if num <= MAX_MEASURED and (not begins or self._dialect.measures_beginnings):
                places[row] = Measured(len(prompts), text[-num:])
                prompts += [Prompt(text[:end], row) for end in range(len(text) - num, len(text))]
        return self._start(prompts, len(tokens), places, temperature)

    def start_peek(self, branches: Sequence[Branch]) -> Pending:
        """Send the rows' texts with other ends; no row is changed."""
        self._check_open()
        return self._start([Prompt(self._text(branch), branch.row) for branch in branches])

    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last tokens of a row, here: the server keeps what it can use."""
        del self._rows[row][len(self._rows[row]) - num_tokens :]

    def release(self, row: int) -> None:
        """Forget a row; of a closed member nothing is left to forget."""
        self._rows.pop(row, None)

    def close(self) -> None:
        """Let go of the connections. May be called again."""
        self._is_closed = True
        self._rows.clear()
        self._client.close()

    def _text(self, branch: Branch) -> list[int]:
        ids = self._rows[branch.row]
        return [*ids[: len(ids) - branch.num_back], *branch.ids]

    def _start(
        self,
        prompts: Sequence[Prompt],
        num_rows: int | None = None,
        measured: Mapping[int, Measured] | None = None,
        temperature: float = 1.0,
    ) -> Pending:
        """A pass over prompts, of which the first `num_rows`, or all, are its rows."""
        wanted = Wanted(prompts, num_rows or len(prompts), measured or {}, temperature)
        return ServerPass(self._client, self._dialect, wanted, self.num_told, len(self.vocabulary))

    def _try_step(self) -> None:
        """Take one step, so that a server that tells less than is asked is found out at the start."""
        ids = [*self.vocabulary.prefix_ids, *self.vocabulary.encode("The")]
        try:
            self._start([Prompt(ids, 0)]).result()
        except StatusError as error:
            hint = f"if {self._top} tokens are more than it tells, {self._dialect.more_hint}"
            raise MemberError(f"{error}; {hint}") from error

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError(f"member {self.name!r} is closed: load it again")
