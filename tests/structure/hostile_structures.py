"""Structures that nobody means well with, made anew from a seed; as a program it compiles and follows many of them.

    python -m tests.structure.hostile_structures COUNT SEED

It takes at most 1 GB of address space more than a good structure does, and writes a line of JSON: the counts by what
came of them, the slowest, and those that ended in anything but an answer or an own error.
"""

from __future__ import annotations

import json
import math
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepen_llm.config import SamplingParams
from deepen_llm.errors import DeepenError
from deepen_llm.structure import Constraint, Room, StructureCompiler
from tests.vocabularies import load_toy

GOOD = {"json_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}
NUMBERS = (
    0,
    1,
    -1,
    3,
    100,
    10_000,
    10**6,
    10**9,
    2**63,
    2**70,
    0.1,
    1e-9,
    1e308,
    math.nan,
    math.inf,
    True,
    None,
    "3",
    "1e9",
)
PIECES = (
    *(
        "a",
        "b",
        ".",
        "\\d",
        "\\w",
        "[a-z]",
        "[^x]",
        "(",
        ")",
        "(?:",
        "|",
        "*",
        "+",
        "?",
        "{2,5}",
        "{1000}",
        "{99999}",
        "^",
        "$",
    ),
    *(
        "(?=a)",
        "(?i)",
        "\\p{L}",
        "\\",
        "[",
        "]",
        "{",
        "}",
        "/",
        "\n",
        "é",
        "\U0001f600",
        "\x00",
        "\\1",
        "(?P<a>",
        ".*",
        "\ud800",
    ),
)
WORDS = (
    *(
        "start:",
        "a:",
        "b:",
        "A:",
        " a",
        " b",
        " A",
        " start",
        '"x"',
        '"y"',
        "/[a-z]+/",
        "/.*/",
        "|",
        "*",
        "+",
        "?",
        "(",
        ")",
    ),
    *(
        "~3",
        "~1..100000",
        "{1,9}",
        "\n",
        "<|im_end|>",
        "<[1]>",
        "<[0-99999999]>",
        "%json {",
        '{"type": "string"}',
        "}",
        "%ignore",
    ),
    *(
        "%regex {",
        "&",
        "~",
        "[capture]",
        "[max_tokens=3]",
        "[lazy]",
        "@x",
        "//",
        '"',
        "\\",
        "\x00",
        "\ud800",
        "%import common.INT",
    ),
)
KEYWORDS = (
    *(
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "multipleOf",
        "minProperties",
        "maxProperties",
    ),
    *(
        "exclusiveMinimum",
        "exclusiveMaximum",
        "type",
        "format",
        "pattern",
        "const",
        "enum",
        "required",
        "uniqueItems",
        "$ref",
    ),
    *(
        "items",
        "prefixItems",
        "additionalProperties",
        "not",
        "if",
        "anyOf",
        "oneOf",
        "allOf",
        "properties",
        "patternProperties",
    ),
    *("$defs", "x-guidance", "contains", "propertyNames", "dependentRequired", "$schema", "unknown"),
)


def soup(rng: random.Random, pieces: tuple[str, ...]) -> str:
    return "".join(rng.choices(pieces, k=rng.choice((1, 3, 8, 30, 200))))


def some_schema(rng: random.Random, depth: int = 3) -> Any:
    """Keywords with values that suit them, mostly."""
    if depth == 0 or rng.random() < 0.1:
        return rng.choice(
            ({"type": "string"}, {}, True, 3, None, {"$ref": "#"}, {"$ref": "#/$defs/a"}, {"type": "integer"})
        )
    return {key: some_value(rng, key, depth) for key in rng.sample(KEYWORDS, rng.randint(1, 5))}


def some_value(rng: random.Random, key: str, depth: int) -> Any:
    if rng.random() < 0.1:
        return rng.choice((*NUMBERS, [], {}, {1: 2}, object(), b"x", "\ud800", {"a"}))
    if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        return [some_schema(rng, depth - 1) for _ in range(rng.choice((1, 2, 5)))]
    if key in ("properties", "patternProperties", "$defs"):
        return {rng.choice(("a", "b", "[a-z]+", "", "c" * 99)): some_schema(rng, depth - 1) for _ in range(3)}
    if key in ("items", "additionalProperties", "not", "if", "contains", "propertyNames"):
        return some_schema(rng, depth - 1)
    texts = {
        "pattern": soup(rng, PIECES),
        "format": rng.choice(("date", "path", "uuid4", "")),
        "$ref": rng.choice(("#", "#/$defs/a", "x")),
    }
    lists = {
        "enum": list(range(rng.choice((1, 9, 3000)))),
        "required": ["a", "b"],
        "type": rng.choice(("object", "array", "string", 5)),
    }
    return {**texts, **lists}.get(key, rng.choice(NUMBERS))


def nested(rng: random.Random) -> dict[str, Any]:
    """As deep as asked, under one keyword."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(rng.choice((50, 90, 500, 5000))):
        key = rng.choice(("items", "not", "allOf", "properties"))
        schema = {key: {"a": schema} if key == "properties" else [schema] if key == "allOf" else schema}
    return {"json_schema": schema}


def holds_itself(rng: random.Random) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    schema["properties"]["a"] = rng.choice((schema, [schema], {"anyOf": [schema]}))
    return {"json_schema": schema}


def references(rng: random.Random) -> dict[str, Any]:
    """Definitions that each mention the one before, once or more often."""
    number, times = rng.choice(((14, 2), (9, 5), (900, 1), (3000, 1), (40, 3)))
    keys, kind = [f"k{n}" for n in range(times)], rng.choice(("properties", "anyOf", "allOf", "prefixItems"))

    def mention(n: int) -> dict[str, Any]:
        one = {"$ref": f"#/$defs/d{n - 1}"}
        return (
            {"properties": dict.fromkeys(keys, one), "required": keys}
            if kind == "properties"
            else {kind: [one] * times}
        )

    defs = {f"d{n}": mention(n) if n else {"type": "integer"} for n in range(number)}
    return {"json_schema": {"$defs": defs, "$ref": f"#/$defs/d{number - 1}"}}


def counted(rng: random.Random) -> dict[str, Any]:
    number = rng.choice((1000, 10_000, 10**6, 10**9))
    kinds = (
        {"type": "array", "minItems": number},
        {"type": "string", "minLength": number},
        {"multipleOf": 1 / 7, "type": "number"},
    )
    wide = {"type": "object", "properties": {f"p{n}": some_schema(rng, 1) for n in range(rng.choice((100, 2000)))}}
    return {"json_schema": rng.choice((*kinds, wide, {"enum": [f"{n:09}" for n in range(rng.choice((9, 20_000)))]}))}


def patterned(rng: random.Random) -> dict[str, Any]:
    deep, number = rng.choice((50, 500, 20_000)), rng.choice((3, 200, 9999, 10**6))
    kinds = (
        soup(rng, PIECES),
        "(" * deep + "a" + ")" * deep,
        "(" * 9 + "a" + f"){{{number}}}" * 9,
        f"(a|b|ab){{{number}}}",
        "|".join(f"w{n}" for n in range(deep * 5)),
        "(.*a)" * rng.choice((5, 30, 200)),
        f"(x+x+)+y|.{{0,{number}}}z",
        "[" + "".join(chr(n) for n in range(0x100, 0x100 + min(deep, 9999))) + "]+",
    )
    return {"regex": rng.choice(kinds)}


def ruled(rng: random.Random) -> dict[str, Any]:
    number = rng.choice((10, 200, 1900, 5000))
    chain = "start: r0\n" + "".join(f'r{n}: r{n + 1} | "x"\n' for n in range(number)) + f'r{number}: "y"'
    ring = "start: r0\n" + "\n".join(f"r{n}: r{(n + 1) % number} r{n * 7 % number} | /[a-z]+/ |" for n in range(number))
    deep = "start: " + "(" * number + '"a"' + ")" * number
    schema = json.dumps(references(rng)["json_schema"])
    kinds = (soup(rng, WORDS), "start: " + soup(rng, WORDS), chain, ring, deep, f"start: %json {schema}")
    return {
        "grammar": rng.choice(
            (*kinds, "start: start start |", f"start: a~1..{number**3}\na: /.*/ a |", "start: <|im_end|>")
        )
    }


MAKERS: tuple[Callable[[random.Random], dict[str, Any]], ...] = (
    *(lambda rng: {"json_schema": some_schema(rng)}, lambda rng: {"json_schema": some_schema(rng, 2)}),
    *(nested, holds_itself, references, counted, patterned, patterned, ruled, ruled),
)


def make(seed: int) -> dict[str, Any]:
    """A structure as the arguments of `SamplingParams`."""
    rng = random.Random(seed)
    return MAKERS[seed % len(MAKERS)](rng)


def follow(compiler: StructureCompiler, given: dict[str, Any], seed: int, num_tokens: int = 20) -> float:
    """Compile a structure and take random tokens under it; return the seconds of the slowest."""
    constraint = Constraint(compiler, compiler.compile(SamplingParams(**given)))
    rng, slowest = random.Random(seed), 0.0
    for number in range(num_tokens, 0, -1):
        begin_s = time.thread_time()
        if (token_id := constraint.next_forced()) is None:
            allowed = constraint.allowed().nonzero().flatten().tolist()
            if not allowed or constraint.is_complete:
                break
            constraint.way_out()
            token_id = constraint.steer(rng.choice(allowed), Room(number, 4 * number))
        constraint.push(token_id)
        slowest = max(slowest, time.thread_time() - begin_s)
        if token_id in compiler.vocabulary.eos_ids:
            break
    return slowest


def main(count: int, first: int) -> dict[str, Any]:
    compiler = StructureCompiler(load_toy("gpt2"))
    follow(compiler, GOOD, 0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    counts, misses = Counter[str](), list[str]()
    slowest, slowest_step = (0.0, -1), (0.0, -1)
    for seed in range(first, first + count):
        begin_s = time.perf_counter()
        try:
            step_s = follow(compiler, make(seed), seed)
            slowest_step = max(slowest_step, (step_s, seed))
            counts["followed"] += 1
        except DeepenError as error:
            counts[type(error).__name__] += 1
            if len(str(error)) > 2000 or not str(error).isprintable():
                misses.append(f"{seed}: message of {len(str(error))} characters {str(error)[:200]!r}")
        except BaseException as error:
            misses.append(f"{seed}: {type(error).__name__} {str(error)[:200]!r}")
        slowest = max(slowest, (time.perf_counter() - begin_s, seed))
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "counts": dict(counts),
        "misses": misses,
        "slowest": slowest,
        "step": slowest_step,
        "max_rss_gb": round(rss, 2),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
