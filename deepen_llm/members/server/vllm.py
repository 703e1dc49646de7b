"""vLLM, and servers that answer as it does: `/v1/completions`, one request for all rows."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from deepen_llm.errors import MemberError, quote
from deepen_llm.members.server.dialect import Dialect, Prompt, Question, Served, Told

ID_MARK = "token_id:"


class _Logprobs(BaseModel):
    top_logprobs: list[dict[str, float | None]]


class _Choice(BaseModel):
    index: int
    logprobs: _Logprobs


class _Completion(BaseModel):
    choices: list[_Choice]


class _Tokens(BaseModel):
    tokens: list[int]


class VllmDialect(Dialect):
    """Its prefix cache holds whole blocks of 16 tokens: up to 16 of a text are computed anew at each step."""

    name = "vllm"
    title = "vLLM"
    more_hint = "start vLLM with --max-logprobs 256 or more, or ask for what it tells with top=20"

    def describe(self, served: Served) -> Served:
        """The list of models has said everything."""
        return served

    def tokenize(self, text: str) -> list[int]:
        """By `/tokenize`."""
        body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        return self.parse(_Tokens, self._client.post("/tokenize", body)).tokens

    def ask(self, prompts: Sequence[Prompt]) -> list[Question]:
        """A list of prompts. Texts of tokens may be the same for two of them: ids are asked for."""
        body = {
            "model": self._model,
            "prompt": [list(prompt.ids) for prompt in prompts],
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": self._top,
            "return_tokens_as_token_ids": True,
        }
        return [Question("/v1/completions", body, len(prompts))]

    def read(self, answer: bytes) -> list[Told]:
        """`top_logprobs` of the one token of each, in the order of the prompts."""
        choices = sorted(self.parse(_Completion, answer).choices, key=lambda choice: choice.index)
        return [self._read_place(place) for choice in choices for place in choice.logprobs.top_logprobs]

    def _read_place(self, place: dict[str, float | None]) -> Told:
        try:
            ids = [int(key.removeprefix(ID_MARK)) for key in place if key.startswith(ID_MARK)]
        except ValueError:
            ids = []
        if len(ids) != len(place):
            raise MemberError(
                f"{self._client.where} must tell tokens by their ids ({ID_MARK}42); it told "
                f"{quote(list(place)[:3])}: update it to one that knows return_tokens_as_token_ids"
            )
        return Told(ids, list(place.values()))
