"""SGLang's own endpoint, `/generate`: one request for all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from pydantic import BaseModel, RootModel

from deepen_llm.members.server.client import NOT_FOUND, StatusError
from deepen_llm.members.server.dialect import Dialect, Prompt, Question, Served, Told

Entry = tuple[float | None, int, str | None]
"""A log-probability, the token's id, and its text where that was asked for."""


class _Meta(BaseModel):
    output_top_logprobs: list[list[Entry]]


class _Generation(BaseModel):
    meta_info: _Meta


class _Generations(RootModel[list[_Generation]]):
    pass


class _PromptMeta(BaseModel):
    input_token_logprobs: list[Entry]


class _ReadPrompt(BaseModel):
    meta_info: _PromptMeta


class _Tokens(BaseModel):
    tokens: list[int]


class _ModelInfo(BaseModel):
    tokenizer_path: str | None = None


@final
class SglangDialect(Dialect):
    """Its radix tree finds what a text has in common with all that came before, token by token."""

    name = "sglang"
    title = "SGLang"
    more_hint = "update SGLang: it tells as many as one asks for"

    def describe(self, served: Served) -> Served:
        """Where the server has its tokenizer from."""
        try:
            info = self.parse(_ModelInfo, self._client.get("/get_model_info"))
        except StatusError as error:
            if error.status != NOT_FOUND:
                raise
            info = self.parse(_ModelInfo, self._client.get("/model_info"))
        return served._replace(tokenizer=info.tokenizer_path or served.tokenizer)

    def tokenize(self, text: str) -> list[int]:
        """By `/tokenize`; servers without it tell the tokens of a prompt that they answer."""
        body: dict[str, object] = {"model": self._model, "prompt": text, "add_special_tokens": False}
        try:
            return self.parse(_Tokens, self._client.post("/tokenize", body)).tokens
        except StatusError as error:
            if error.status != NOT_FOUND:
                raise
        body = {"text": text, "return_logprob": True, "logprob_start_len": 0, "sampling_params": {"max_new_tokens": 1}}
        answer = self.parse(_ReadPrompt, self._client.post("/generate", body))
        return [token_id for _, token_id, _ in answer.meta_info.input_token_logprobs]

    def ask(self, prompts: Sequence[Prompt]) -> list[Question]:
        """A list of prompts. `logprob_start_len` -1 keeps the prefix cache."""
        body = {
            "input_ids": [list(prompt.ids) for prompt in prompts],
            "sampling_params": {"max_new_tokens": 1, "temperature": 0.0},
            "return_logprob": True,
            "top_logprobs_num": self._top,
            "logprob_start_len": -1,
        }
        return [Question("/generate", body, len(prompts))]

    def read(self, answer: bytes) -> list[Told]:
        """`output_top_logprobs` of the one token of each."""
        return [
            Told([token_id for _, token_id, _ in place], [logprob for logprob, _, _ in place])
            for generation in self.parse(_Generations, answer).root
            for place in generation.meta_info.output_top_logprobs
        ]
