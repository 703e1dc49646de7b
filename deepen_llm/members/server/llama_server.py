"""llama.cpp's own server, `llama-server`: `/completion`, one request a row."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import final

from pydantic import BaseModel

from deepen_llm.members.server.client import Client
from deepen_llm.members.server.dialect import Dialect, Prompt, Question, Served, Told

logger = logging.getLogger(__name__)

WHOLE = "a"
BIAS = 1e6
"""More than any logit."""


class _Token(BaseModel):
    id: int
    logprob: float | None


class _Place(BaseModel):
    top_logprobs: list[_Token]


class _Completion(BaseModel):
    completion_probabilities: list[_Place]


class _Generation(BaseModel):
    n_ctx: int


class _Props(BaseModel):
    default_generation_settings: _Generation
    total_slots: int


class _Tokens(BaseModel):
    tokens: list[int]


@final
class LlamaServerDialect(Dialect):
    """The server keeps one text in each of its slots, and computes what a new one does not have in common with it.

    So a row always goes to its own slot, its branches too: they cost the tokens that differ. Rows beyond the slots take
    turns in them, and are computed anew each time.

    It tells nothing of a step whose token is a part of a character. So a token is drawn that is none, by a bias; what
    is told is computed from the logits without it.
    """

    name = "llama-server"
    title = "llama-server (llama.cpp)"
    measures_beginnings = True
    more_hint = "update llama.cpp: it tells as many as one asks for"

    def __init__(self, client: Client, served: Served, top: int) -> None:
        super().__init__(client, served, top)
        self._num_slots, self._whole_id = 1, 0
        self._has_warned = False

    def describe(self, served: Served) -> Served:
        """The context of one slot; and a token that is a whole character is looked for."""
        props = self.parse(_Props, self._client.get("/props"))
        self._num_slots, self._whole_id = props.total_slots, self.tokenize(WHOLE)[-1]
        return served._replace(max_tokens=props.default_generation_settings.n_ctx)

    def tokenize(self, text: str) -> list[int]:
        """By `/tokenize`."""
        body = {"content": text, "add_special": False, "parse_special": False}
        return self.parse(_Tokens, self._client.post("/tokenize", body)).tokens

    def ask(self, prompts: Sequence[Prompt]) -> list[Question]:
        """One request a prompt, to the slot of its row."""
        if not self._has_warned and any(prompt.row >= self._num_slots for prompt in prompts):
            self._has_warned = True
            logger.warning(
                "llama-server at %s has %d slots, and more rows are open: those beyond are computed from their first "
                "token at every step; start it with --parallel %d or more",
                self._client.address,
                self._num_slots,
                1 + max(prompt.row for prompt in prompts),
            )
        return [Question("/completion", self._body(prompt), 1) for prompt in prompts]

    def read(self, answer: bytes) -> list[Told]:
        """`completion_probabilities` of the one token."""
        places = self.parse(_Completion, answer).completion_probabilities
        return [
            Told([token.id for token in place.top_logprobs], [t.logprob for t in place.top_logprobs])
            for place in places
        ]

    def _body(self, prompt: Prompt) -> dict[str, object]:
        return {
            "model": self._model,
            "prompt": list(prompt.ids),
            "n_predict": 1,
            "n_probs": self._top,
            "temperature": 0.0,
            "logit_bias": [[self._whole_id, BIAS]],
            "cache_prompt": True,
            "id_slot": prompt.row if prompt.row < self._num_slots else -1,
            "response_fields": ["completion_probabilities"],
        }
