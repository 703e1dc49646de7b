"""Files of an ensemble, damaged in every way that a seed can draw, as bytes."""

from __future__ import annotations

import random

GOOD = """\
# an ensemble
members:
  - {model: org/one, dtype: float32, model_kwargs: {max_memory: {0: 1GB}}}
  - model: org/two
    name: second
    chat_template: plain
weights: [0.25, 0.75]
main: second
fusion: {method: relative, trust: 0.5}
max_batch_size: 4
"""
KEYS = (
    "members",
    "weights",
    "main",
    "fusion",
    "max_batch_size",
    "model",
    "dtype",
    "device_map",
    "model_kwargs",
    "x",
    "3",
)
VALUES = (
    *(
        "",
        "null",
        "3",
        "-1",
        "1e999",
        ".nan",
        "9" * 5000,
        "0x",
        "2001-99-99",
        "12:30:45",
        "yes",
        "~",
        "[]",
        "{}",
        "[[]]",
    ),
    *("!!python/object/apply:os.system [true]", "!!binary é", "!!set {a}", "!x y", "*nobody", "&a [*a]", "&a {b: *a}"),
    *("{3: 4}", "{[1]: 2}", "{{a: b}: c}", "{null: 1}", "{kind: 3}", "{kind: prompt, 3: 4}", "{method: text, 3: 4}"),
    *("{? a}", '"\\0"', '"\\ud800"', "'" + "a" * 300_000 + "'", "[" * 5000, "{a: " * 3000, "- " * 3000, "? " * 3000),
    *("[" + "1, " * 200_000 + "1]", "|\n" + "  x\n" * 1000, "[{trust_remote_code: true, model: a}]", "2020-01-01"),
    *("{trust_remote_code: true}", "<<: {a: 1}", "float17", "[a, b, c]", "{model: a, model: b}"),
)


def laugh(levels: int, width: int, key: str) -> str:
    """Lists of lists by anchors: a few bytes that stand for width ** levels values."""
    lines = ["l0: &l0 [x]", *(f"l{at}: &l{at} [{', '.join([f'*l{at - 1}'] * width)}]" for at in range(1, levels))]
    return "\n".join([*lines, f"{key}: *l{levels - 1}"]) + "\n"


def damage(seed: int) -> tuple[bytes, str]:
    """A file with something wrong, and what."""
    draw = random.Random(seed)
    way = draw.choice(("value", "value", "value", "value", "bytes", "laughs", "line", "encoding", "cut", "large"))
    if way == "value":
        key, value = draw.choice(KEYS), draw.choice(VALUES)
        place = draw.choice(("", "  - ", "fusion:\n  ", "members:\n- "))
        text = "" if draw.random() < 0.3 else GOOD
        return f"{text}{place}{key}: {value}\n".encode("utf-8", "surrogatepass"), f"{key}: {value[:40]}"
    if way == "laughs":
        key, levels, width = draw.choice(KEYS), draw.randint(2, 30), draw.randint(2, 12)
        return laugh(levels, width, key).encode(), f"laughs {key} {levels} {width}"
    if way == "bytes":
        data = bytearray(GOOD.encode())
        for _ in range(draw.randint(1, 5)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        return bytes(data), "bytes"
    if way == "line":
        lines = GOOD.splitlines()
        at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
        lines.insert(at, lines[other])
        return "\n".join(lines).encode(), f"line {other} again at {at}"
    if way == "encoding":
        return (GOOD + "# é ü").encode(draw.choice(("latin-1", "utf-16", "utf-32", "utf-8-sig", "cp1252"))), "encoding"
    if way == "large":
        return GOOD.encode() + b"#" * draw.choice((10**6, 10**8)), "large"
    return GOOD.encode()[: draw.randrange(len(GOOD))], "cut"
