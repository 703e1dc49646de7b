"""What a format is read as: whatever matches is read by Python, and any other format is an annotation."""

from __future__ import annotations

import random
import re
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import pydantic
import pytest
from pydantic import Field, create_model

from deepen_llm import SamplingParams
from deepen_llm.structure.completion import ByteTokenizer, find_completion
from deepen_llm.structure.formats import PATTERNS
from deepen_llm.structure.grammar import build_grammar
from deepen_llm.structure.matcher import Matcher

BYTES = ByteTokenizer.load()
NUM_SAMPLES = 40
DOMAIN_NAMES = (
    "AnyUrl",
    "AnyHttpUrl",
    "HttpUrl",
    "FileUrl",
    "FtpUrl",
    "WebsocketUrl",
    "PostgresDsn",
    "RedisDsn",
    "MongoDsn",
)
TYPES = [
    *(Decimal, Annotated[Decimal, Field(max_digits=5, decimal_places=2)], Annotated[Decimal, Field(gt=0, le=3)]),
    *(Fraction, complex, bytes, Path, pydantic.SecretStr, date, datetime, time, timedelta, uuid.UUID),
    *(getattr(pydantic, name) for name in DOMAIN_NAMES),
    *(pydantic.UUID1, pydantic.UUID4, pydantic.UUID5, pydantic.Base64Str, pydantic.Base64Bytes, pydantic.Base64UrlStr),
    *(pydantic.Base64UrlBytes, pydantic.IPvAnyAddress, pydantic.IPvAnyNetwork, pydantic.IPvAnyInterface),
    *(IPv4Address, IPv6Address, IPv4Network, IPv6Network, IPv4Interface, IPv6Interface),
]


def start(schema: Any) -> Matcher:
    return Matcher(BYTES, build_grammar(SamplingParams(json_schema=schema), after_space=False))


def write(matcher: Matcher, seed: int) -> bytes:
    """A text of the grammar: random bytes, up to 60, and then the shortest way to its end."""
    rng, matcher, text = random.Random(seed), matcher.copy(), bytearray()
    for _ in range(rng.randint(1, 60)):
        mask = matcher.bitmask()
        if not (allowed := [byte for byte in range(256) if mask[byte >> 3] >> (byte & 7) & 1]):
            break
        text.append(rng.choice(allowed))
        matcher.take(text[-1])
    rest = find_completion(matcher, bytes(range(256)))
    assert rest is not None
    return bytes(text) + rest


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_python_reads_whatever_may_be_written_for_a_type(kind):
    model = create_model("Answer", x=(kind, ...))
    matcher = start(model)
    for seed in range(NUM_SAMPLES):
        assert isinstance(model.model_validate_json(write(matcher, seed)), model)


def test_an_address_of_a_plain_schema_may_be_of_any_scheme():
    matcher = start({"type": "string", "format": "uri"})
    for address in (
        "https://example.com/a?b=c#d",
        "ftp://example.org/x",
        "urn:isbn:0451450523",
        "file:///tmp/x",
        "s3://bucket/key",
    ):
        text = f'"{address}"'.encode()
        assert matcher.copy().take_all(text) == len(text)
    assert all(urlsplit(write(matcher, seed).decode().strip('"')).scheme for seed in range(NUM_SAMPLES))


def test_an_address_as_long_as_pydantic_lets_those_of_the_web_be_is_one_of_the_web():
    model = create_model("Answer", x=(pydantic.HttpUrl, ...))
    matcher = start(model.model_json_schema())
    assert all(model.model_validate_json(write(matcher, seed)) for seed in range(NUM_SAMPLES))


def test_an_email_is_one():
    matcher = start({"type": "string", "format": "email"})
    for seed in range(NUM_SAMPLES):
        local, _, domain = write(matcher, seed).decode().strip('"').partition("@")
        assert local and re.fullmatch(r"[a-z0-9.-]+\.[a-z]+", domain)


@pytest.mark.parametrize("name", ["path", "binary", "password", "json-pointer", "no such", ""])
def test_any_other_format_is_an_annotation(name):
    text = b'"anything at all"'
    assert start({"type": "string", "format": name}).take_all(text) == len(text)


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_every_pattern_is_one_that_a_grammar_follows(name):
    matcher = start({"type": "string", "format": name})
    for seed in range(5):
        assert re.fullmatch(PATTERNS[name], write(matcher, seed).decode().strip('"'))
