"""Values of any type, as a program full of mistakes would pass them, and every place that takes one.

`tests/test_any_value.py` puts each of these values into each of these places.
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import fractions
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from deepen_llm import Ensemble, EnsembleConfig, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.config import WeightingConfig
from deepen_llm.starter import model_paths

PROMPT = "Once upon"
MESSAGES = [{"role": "user", "content": PROMPT}]
NO_MODEL = "no-such-folder/no-such-model"


class Colour(enum.Enum):
    RED = "red"


class Unspeakable:
    """Whatever is asked of it raises."""

    def _refuse(self, *arguments: object) -> Any:
        raise RuntimeError("no")

    __repr__ = __str__ = __bool__ = __len__ = __iter__ = __eq__ = __hash__ = __float__ = __int__ = _refuse


class SubString(str):
    """Text, but not of the very type."""

    __slots__ = ()


def count_up() -> Iterator[int]:
    yield from range(3)


def nest(depth: int, *, as_dict: bool = False) -> Any:
    """Lists in lists, or mappings in mappings."""
    value: Any = 1
    for _ in range(depth):
        value = {"properties": {"a": value}} if as_dict else [value]
    return value


def cycle() -> list[Any]:
    """A list that holds itself."""
    ring: list[Any] = []
    ring.append(ring)
    return ring


ODDITIES: dict[str, Callable[[], Any]] = {
    "an object": object,
    "a class": lambda: dict,
    "a function": lambda: len,
    "a lambda": lambda: lambda: None,
    "a generator": count_up,
    "an iterator": lambda: iter(["a"]),
    "a set": lambda: {"a", "b"},
    "a range": lambda: range(3),
    "bytes": lambda: b"a",
    "invalid bytes": lambda: b"\xff\xfe",
    "a bytearray": lambda: bytearray(b"a"),
    "a memoryview": lambda: memoryview(b"a"),
    "a path": lambda: Path("no-such-file"),
    "a path with a null": lambda: Path("a\0b"),
    "a tensor": lambda: torch.zeros(2),
    "a meta tensor": lambda: torch.zeros(2, device="meta"),
    "an empty tensor": lambda: torch.zeros(0),
    "a dtype": lambda: torch.float16,
    "an array": lambda: np.arange(3),
    "a number of numpy": lambda: np.float32(0.5),
    "an integer of numpy": lambda: np.int64(3),
    "text of numpy": lambda: np.str_("a"),
    "a decimal": lambda: decimal.Decimal("0.5"),
    "a decimal that is no number": lambda: decimal.Decimal("sNaN"),
    "a fraction": lambda: fractions.Fraction(1, 3),
    "a complex": lambda: 1j,
    "a date": lambda: datetime.date(2026, 1, 1),
    "an enum": lambda: Colour.RED,
    "an exception": lambda: ValueError("a"),
    "an ellipsis": lambda: ...,
    "not implemented": lambda: NotImplemented,
    "a module": lambda: decimal,
    "text of another class": lambda: SubString("a"),
    "something unspeakable": Unspeakable,
    "a list of it": lambda: [Unspeakable()],
    "a mapping of it": lambda: {"a": Unspeakable()},
    "a deep list": lambda: nest(2_000),
    "a deep mapping": lambda: nest(500, as_dict=True),
    "a list of itself": cycle,
    "a long text": lambda: "a" * 20_000,
    "many spaces": lambda: " " * 20_000,
    "a long list": lambda: ["a"] * 3_000,
    "a huge integer": lambda: 10**400,
    "a lone surrogate": lambda: "\ud800",
    "a null character": lambda: "a\0b",
    "a mapping with numbers as keys": lambda: {1: 2, None: 3},
    "sampling parameters": SamplingParams,
    "a fusion configuration": FusionConfig,
    "a coroutine function": lambda: asyncio.sleep,
}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 4),
    st.floats(),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, 1e308, float("nan"), float("inf"), -float("inf"), 2**31, 2**63, 2**64, -1]),
    st.text(max_size=8),
    st.text(st.characters(codec=None), max_size=3),  # lone surrogates among them
    st.sampled_from(["", " ", "auto", "relative", "text", "adaptive", "prompt", "float32", "cpu", "a", "{{ 1/0 }}"]),
    st.binary(max_size=4),
    *[st.sampled_from(sorted(ODDITIES)).map(lambda name: ODDITIES[name]())] * 3,
)
KEYS = st.sampled_from(["role", "content", "type", "properties", "kind", "method", "model", "a", "", "$ref"])
ANY = SCALARS | st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=5,
)
"""A value of any type."""


@dataclass(frozen=True)
class Place:
    """One argument of the public surface."""

    call: Callable[[Ensemble, Any], Any]
    """Pass a value there."""
    names: tuple[str, ...]
    """One of these must stand in an error's message."""


async def _read(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


async def _astream(start: Callable[[], Any]) -> list[Any]:
    return await _read(start())


STRUCTURES = {"json_schema": ("schema", "JSON schema"), "regex": ("regular expression",)}
"""What errors call a structure beside the name of its field."""
SHORT = SamplingParams(max_new_tokens=2)
SYNC: dict[str, Callable[[Ensemble, Any, Any], Any]] = {
    "generate": lambda ensemble, asked, params: ensemble.generate(asked, params),
    "stream": lambda ensemble, asked, params: list(ensemble.stream(asked, params)),
    "agenerate": lambda ensemble, asked, params: asyncio.run(ensemble.agenerate(asked, params)),
    "astream": lambda ensemble, asked, params: asyncio.run(_astream(lambda: ensemble.astream(asked, params))),
}
CHATS: dict[str, Callable[[Ensemble, Any, Any], Any]] = {
    "chat": lambda ensemble, asked, params: ensemble.chat(asked, params),
    "stream_chat": lambda ensemble, asked, params: list(ensemble.stream_chat(asked, params)),
    "achat": lambda ensemble, asked, params: asyncio.run(ensemble.achat(asked, params)),
    "astream_chat": lambda ensemble, asked, params: asyncio.run(_astream(lambda: ensemble.astream_chat(asked, params))),
}


def _requests() -> Iterator[tuple[str, Place]]:
    """What a running ensemble is asked."""
    for name, ask in SYNC.items():
        yield f"{name}(prompt)", Place(lambda e, value, ask=ask: ask(e, value, SHORT), ("prompt",))
        yield f"{name}(params)", Place(lambda e, value, ask=ask: ask(e, PROMPT, value), ("params",))
    for name in ("generate", "agenerate"):
        ask = SYNC[name]
        yield f"{name}([prompt])", Place(lambda e, value, ask=ask: ask(e, [PROMPT, value], SHORT), ("prompt",))
    for name, ask in CHATS.items():
        yield f"{name}(messages)", Place(lambda e, value, ask=ask: ask(e, value, SHORT), ("message", "messages"))
        yield f"{name}(params)", Place(lambda e, value, ask=ask: ask(e, MESSAGES, value), ("params",))
    for key in ("role", "content"):
        names = (key, "message", "messages")
        yield f"chat({key})", Place(lambda e, value, key=key: e.chat([{**MESSAGES[0], key: value}], SHORT), names)
    yield "chat([message])", Place(lambda e, value: e.chat([value], SHORT), ("message", "messages"))


def _scores() -> Iterator[tuple[str, Place]]:
    """What a running ensemble is asked to score, and to count."""
    yield "score(context)", Place(lambda e, value: e.score(value, "a"), ("context", "prompt"))
    yield "score(continuation)", Place(lambda e, value: e.score(PROMPT, value), ("continuation",))
    names = ("pairs", "pair", "context", "continuation")
    yield "score_batch(pairs)", Place(lambda e, value: e.score_batch(value), names)
    yield "score_batch([pair])", Place(lambda e, value: e.score_batch([(PROMPT, "a"), value]), names)
    yield "score_chat(messages)", Place(lambda e, value: e.score_chat(value, "a"), ("message", "messages"))
    yield "score_chat(reply)", Place(lambda e, value: e.score_chat(MESSAGES, value), ("reply", "continuation"))
    names = ("pairs", "pair", "messages", "message", "reply", "continuation")
    yield "score_chat_batch(pairs)", Place(lambda e, value: e.score_chat_batch(value), names)
    yield "score_chat_batch([pair])", Place(lambda e, value: e.score_chat_batch([value]), names)
    yield "encode(text)", Place(lambda e, value: e.encode(value), ("text",))
    yield "count_tokens(text)", Place(lambda e, value: e.count_tokens(value), ("text",))


def _ensembles() -> Iterator[tuple[str, Place]]:
    """How an ensemble is made and kept."""
    yield "Ensemble(members)", Place(lambda e, value: Ensemble(value), ("members", "member"))
    yield "Ensemble([member])", Place(lambda e, value: Ensemble([copy(e.members[0]), value]), ("members", "member"))
    yield "Ensemble(config)", Place(lambda e, value: Ensemble([copy(e.members[0])], value), ("config", "members"))
    loading: dict[str, Callable[..., Any]] = {
        "from_pretrained": lambda **given: Ensemble.from_pretrained([NO_MODEL] * 2, **given),
        "starter": lambda **given: Ensemble.starter(["no-such-starter"], **given),
    }
    for argument in ("weights", "main", "fusion", "max_batch_size", "dtype", "model_kwargs", "no_such_setting"):
        for name, load in loading.items():
            names = (argument, NO_MODEL, "no-such-starter")
            yield (
                f"{name}({argument})",
                Place(lambda e, value, load=load, argument=argument: load(**{argument: value}), names),
            )
    names = ("models", "model", "member", "members")
    yield "from_pretrained(models)", Place(lambda e, value: Ensemble.from_pretrained(value), names)
    yield "from_pretrained([model])", Place(lambda e, value: Ensemble.from_pretrained([NO_MODEL, value]), names)
    yield "from_config(config)", Place(lambda e, value: Ensemble.from_config(value), ("config", "configuration"))
    yield "starter(members)", Place(lambda e, value: Ensemble.starter(value), ("members", "member", "starter"))
    yield "save(path)", Place(lambda e, value: e.save(value), ("path", "file"))
    yield "save(comment)", Place(lambda e, value: e.config.to_yaml(value), ("comment",))
    yield "load(path)", Place(lambda e, value: EnsembleConfig.load(value), ("path", "file"))


def _settings() -> Iterator[tuple[str, Place]]:
    """Every field of every settings class."""
    for field in SamplingParams.model_fields:
        names = (field, *STRUCTURES.get(field, ()))
        yield f"SamplingParams.{field}", Place(_answering(field), names)
    bases: list[tuple[str, type[Any], dict[str, Any]]] = [
        ("MemberConfig", MemberConfig, {"model": NO_MODEL}),
        ("EnsembleConfig", EnsembleConfig, {"members": (NO_MODEL, "another")}),
        *((f"WeightingConfig {kind}", WeightingConfig, {"kind": kind}) for kind in WeightingConfig.variants),
    ]
    for kind in FusionConfig.variants:
        for field in _fields(FusionConfig, {"method": kind}):
            yield f"FusionConfig {kind}.{field}", Place(_fusing(kind, field), (field,))
    for name, cls, given in bases:
        for field in _fields(cls, given):
            yield f"{name}.{field}", Place(_building(cls, given, field), (field, field.removesuffix("s")))
    yield "SamplingParams.replace", Place(lambda e, value: SHORT.replace(top_k=value), ("top_k",))


def _fields(cls: type[Any], given: dict[str, Any]) -> list[str]:
    return list(type(cls(**given)).model_fields)


def _answering(field: str) -> Callable[[Ensemble, Any], Any]:
    return lambda ensemble, value: ensemble.generate(PROMPT, SamplingParams(**{"max_new_tokens": 2, field: value}))


def _fusing(kind: str, field: str) -> Callable[[Ensemble, Any], Any]:
    def fuse(ensemble: Ensemble, value: Any) -> None:
        fusion = FusionConfig(**{"method": kind, field: value})
        Ensemble([copy(member) for member in ensemble.members], ensemble.config.replace(fusion=fusion)).close()

    return fuse


def _building(cls: type[Any], given: dict[str, Any], field: str) -> Callable[[Ensemble, Any], Any]:
    return lambda _, value: cls(**{**given, field: value})


def _loads() -> Iterator[tuple[str, Place]]:
    """Settings of a member that are read only while it is loaded."""
    model = str(model_paths()[0])
    for field in ("dtype", "device", "device_map", "attn_implementation", "tokenizer", "chat_template", "revision"):
        yield f"load({field})", Place(_loading(model, field), (field,))
    yield (
        "load(model_kwargs)",
        Place(lambda _, value: _load(model, model_kwargs={"no_such_thing": value}), ("no_such_thing",)),
    )


def _loading(model: str, field: str) -> Callable[[Ensemble, Any], Any]:
    return lambda _, value: _load(model, **{field: value})


def _load(model: str, **settings: Any) -> None:
    MemberConfig(model=model, **settings).load().close()


SLOW_PLACES = dict(_loads())
"""Arguments for which a model is loaded each time."""
PLACES = dict([*_requests(), *_scores(), *_ensembles(), *_settings()])
"""Every argument of the public surface, by a name for people."""
