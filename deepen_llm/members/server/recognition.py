"""Which kind of server answers at an address, and with which model; those that tell no ids are refused by name."""

from __future__ import annotations

from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from deepen_llm.errors import MemberError, quote
from deepen_llm.members.server.client import NOT_FOUND, Client, StatusError
from deepen_llm.members.server.deepen import DeepenDialect
from deepen_llm.members.server.dialect import Dialect, Served
from deepen_llm.members.server.llama_server import LlamaServerDialect
from deepen_llm.members.server.settings import ServerConfig
from deepen_llm.members.server.sglang import SglangDialect
from deepen_llm.members.server.vllm import VllmDialect

DIALECTS: dict[str, type[Dialect]] = {
    dialect.name: dialect for dialect in (LlamaServerDialect, SglangDialect, VllmDialect, DeepenDialect)
}
OWNERS = {"llamacpp": "llama-server", "sglang": "sglang", "vllm": "vllm", "deepen": "deepen", "deepen_llm": "deepen"}
"""How servers name themselves as the owner of their models, and the dialect of each."""
NO_IDS = {
    "library": "Ollama tells tokens as text, at most 20 of them, and takes no ids: run the same GGUF file as a member "
    "of its own (model=path/to/file.gguf), or with llama-server",
    "openai": "OpenAI tells no token ids, and goes on with no text of others: use such a model by itself, as a judge",
    "organization_owner": "LM Studio tells no token ids: run the same GGUF file as a member of its own "
    "(model=path/to/file.gguf), or with llama-server",
}
"""Owners whose servers cannot be members, and why."""
TGI = (
    "Text Generation Inference takes no token ids, and is no longer kept: serve the same model with vLLM, SGLang or "
    "llama-server"
)
MAX_SHOWN = 10


class _Meta(BaseModel):
    n_vocab: int | None = None
    n_params: int | None = None


class _Card(BaseModel):
    id: str
    owned_by: str = ""
    aliases: list[str] = []
    root: str | None = None
    max_model_len: int | None = None
    meta: _Meta | None = None


class _Models(BaseModel):
    data: list[_Card]


class Recognised(NamedTuple):
    """What answers at an address."""

    dialect: type[Dialect]
    served: Served


def recognise(client: Client, config: ServerConfig) -> Recognised:
    """The kind of server that settings name or that answers, and the model that they mean.

    Raises:
        MemberError: Nobody answers, it is no server of a known kind, or the model is not there.
    """
    host = urlsplit(client.address).hostname or ""
    if host == "openai.com" or host.endswith(".openai.com"):
        _refuse(client, NO_IDS["openai"])
    cards = _read_models(client)
    card = _choose(client, cards, config.server_model)
    meta = card.meta or _Meta()
    served = Served(card.id, card.max_model_len, meta.n_vocab, meta.n_params, card.root)
    name = config.dialect if config.dialect != "auto" else _find_dialect(client, card)
    return Recognised(DIALECTS[name], served)


def _read_models(client: Client) -> list[_Card]:
    try:
        answer = client.get("/v1/models")
    except StatusError as error:
        if error.status == NOT_FOUND:
            _refuse_unknown(client)
        raise
    try:
        return _Models.model_validate_json(answer).data
    except ValidationError as error:
        raise MemberError(
            f"{client.where} must list its models at /v1/models; it answered "
            f"{quote(answer[:80].decode('utf-8', 'replace'))}: give the address of a server of language models"
        ) from error


def _choose(client: Client, cards: list[_Card], wanted: str | None) -> _Card:
    """The model of this name, or the only one."""
    found = [card for card in cards if wanted is None or wanted == card.id or wanted in card.aliases]
    if len(found) == 1:
        return found[0]
    names = ", ".join(quote(card.id) for card in cards[:MAX_SHOWN]) or "none"
    if wanted is not None:
        raise MemberError(
            f"{client.where} has no model {quote(wanted)}; it has {names}: name one of them with "
            "server_model, or leave that out where there is one only"
        )
    for card in cards:  # a server that cannot be a member is told so before a model is chosen
        _check_owner(client, card)
    raise MemberError(f"{client.where} has {len(cards)} models ({names}): name one with server_model")


def _find_dialect(client: Client, card: _Card) -> str:
    _check_owner(client, card)
    if card.owned_by not in OWNERS:
        _refuse_unknown(client)
    return OWNERS[card.owned_by]


def _check_owner(client: Client, card: _Card) -> None:
    owner = "openai" if card.owned_by in ("system", "openai-internal") else card.owned_by
    if owner in NO_IDS:
        _refuse(client, NO_IDS[owner])


def _refuse_unknown(client: Client) -> NoReturn:
    """Refuse a server that does not say what it is; one that is gone tells by another endpoint."""
    try:
        is_tgi = b'"router"' in client.get("/info")
    except MemberError:
        is_tgi = False
    if is_tgi:
        _refuse(client, TGI)
    known = ", ".join(map(repr, DIALECTS))
    _refuse(
        client,
        "it does not say what kind of server it is; needed is one that takes and tells token ids: if it is of one of "
        f"these kinds, name it with dialect= ({known})",
    )


def _refuse(client: Client, why: str) -> NoReturn:
    raise MemberError(f"{client.where} cannot be a member: {why}")
