"""`/tokenize` and `/detokenize`, in the form of vLLM."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict

from deepen_llm.requests.messages import encode_chat
from deepen_llm.requests.token_prompt import check_ids, spell
from deepen_llm.server.messages import read_messages
from deepen_llm.server.refusals import RefusedError, naming
from deepen_llm.server.service import Service
from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.chat import check_text


class TokenizeRequest(BaseModel):
    """The body of `/tokenize`: a prompt or messages."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    model: str | None = None
    prompt: str | None = None
    messages: list[Any] | None = None
    add_special_tokens: bool = True
    """Whether a prompt gets what the tokenizer puts before one."""
    chat_template_kwargs: dict[str, Any] | None = None


class DetokenizeRequest(BaseModel):
    """The body of `/detokenize`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    tokens: list[int]


def tokens_router(service: Service) -> APIRouter:
    """The endpoints over a service."""
    router = APIRouter(tags=["Tokens"])

    @router.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> dict[str, Any]:
        """The tokens that the model that is asked makes of a prompt or of messages; of the ensemble, the main model."""
        ensemble, origin = service.origin(body.model, "tok")
        ids = await run_in_threadpool(_encode, body, origin.vocabulary)
        return {"count": len(ids), "max_model_len": ensemble.context_length, "tokens": ids}

    @router.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> dict[str, str]:
        """The text of tokens, special ones left out."""
        _, origin = service.origin(body.model, "tok")
        vocabulary = origin.vocabulary
        with naming("tokens"):
            check_ids(body.tokens, vocabulary)
        return {"prompt": spell(body.tokens, vocabulary)}

    return router


def _encode(body: TokenizeRequest, vocabulary: Vocabulary) -> list[int]:
    """The tokens of a prompt, or of messages in the model's own template."""
    if (body.prompt is None) == (body.messages is None):
        raise RefusedError("give either prompt or messages", param="prompt")
    if body.messages is not None:
        with naming("messages"):
            messages = read_messages(body.messages)
            return list(encode_chat(vocabulary, messages, chat_template_kwargs=body.chat_template_kwargs).ids)
    with naming("prompt"):
        ids = vocabulary.encode(check_text(body.prompt, "the prompt"))
    return [*(vocabulary.prefix_ids if body.add_special_tokens else ()), *ids]
