"""What every kind of server has to tell of a step, whatever it calls it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from deepen_llm.errors import MemberError, quote
from deepen_llm.members.server.client import Client

Form = TypeVar("Form", bound=BaseModel)


class Prompt(NamedTuple):
    """A text of which the next token is asked."""

    ids: Sequence[int]
    row: int
    """The row that it is of: the lowest number that no other open row has."""


class Told(NamedTuple):
    """The most probable next tokens of one text, the best first, and their natural-log probabilities.

    A probability that is None is no number at the server.
    """

    ids: Sequence[int]
    logprobs: Sequence[float | None]


class Question(NamedTuple):
    """A request over the network, which answers one text or several."""

    path: str
    body: dict[str, Any]
    num_prompts: int


class Served(NamedTuple):
    """What a server says of its model."""

    model: str
    """Its name at the server."""
    max_tokens: int | None = None
    """The most tokens of a text and its answer together."""
    num_logits: int | None = None
    num_parameters: int | None = None
    tokenizer: str | None = None
    """A folder or hub name that may have the model's tokenizer."""


class Dialect(ABC):
    """How one kind of server is asked for a step, and how its answers are read.

    Every step asks for one token and the `top` best, never for the probabilities of the prompt: servers compute those
    without their prefix cache.
    """

    name: ClassVar[str]
    """As settings call it."""
    title: ClassVar[str]
    """As people call the server."""
    more_hint: ClassVar[str]
    """What to do where the server tells of fewer tokens than asked."""

    measures_beginnings: ClassVar[bool] = False
    """Whether tokens of a row that begins can be measured: a server that computes texts that come together one after
    the other computes what they have in common once."""

    def __init__(self, client: Client, served: Served, top: int) -> None:
        """Ask through this client for the `top` best tokens of this model."""
        self._client, self._model, self._top = client, served.model, top

    @abstractmethod
    def describe(self, served: Served) -> Served:
        """What else the server says of its model. Called once, at the start.

        Raises:
            MemberError: It does not answer as servers of this kind do.
        """

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """The server's own tokens of plain text, without a BOS.

        Raises:
            MemberError: It does not say.
        """

    @abstractmethod
    def ask(self, prompts: Sequence[Prompt]) -> list[Question]:
        """The requests of a step, which together answer the prompts in their order."""

    @abstractmethod
    def read(self, answer: bytes) -> list[Told]:
        """What the server told, one for each prompt of the question.

        Raises:
            MemberError: The answer has another form.
        """

    def parse(self, form: type[Form], answer: bytes) -> Form:
        """An answer in the form that such servers give it.

        Raises:
            MemberError: It has another form, or is no JSON.
        """
        try:
            return form.model_validate_json(answer)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise MemberError(
                f"{self._client.where} must answer as {self.title} does; {where or 'the answer'}: "
                f"{problem['msg']}; it began {quote(answer[:80].decode('utf-8', 'replace'))}: look whether it is "
                f"{self.title}, of this year, and say which with dialect="
            ) from error
