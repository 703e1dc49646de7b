"""Command lines of which something is wrong, made anew by a seeded generator from the application's own options."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer

from deepen_llm.cli.app import app
from deepen_llm.frontends.source import EnsembleSource

LONG = "a" * 5000
STRANGE = ("", " ", LONG, "\udcff", "[red]x[/red]", "π🙂", "-", "--", "nan", "\x1b[31m", "{}", "%s")
"""Words for options that take any text."""
NO_NUMBERS = ("x", "", " ", "1e400x", "0x", "--", "\udcff", LONG, "[1]", "1,5", "None")
NO_CHOICES = ("x", "", LONG, "\udcff", "DEFAULT ")
OUT_OF_RANGE = {
    "max_new_tokens": ("0", "-1"),
    "temperature": ("-1", "nan", "inf", "101"),
    "top_k": ("-1",),
    "top_p": ("0", "nan", "1.5"),
    "min_p": ("1", "-0.1", "nan"),
    "seed": ("-1",),
    "logprobs": ("-1", "1001"),
    "timeout_s": ("0", "-1", "nan", "inf"),
    "limit": ("0", "-5"),
    "step": ("0", "0.7", "nan", "0.3"),
    "port": ("-1", "65536"),
    "max_waiting": ("-1",),
    "max_tokens": ("0",),
    "max_body_bytes": ("0",),
    "body_timeout_s": ("0", "nan"),
    "send_timeout_s": ("0", "inf"),
    "drain_s": ("-1", "nan"),
}
PARSED = ("config", "json_schema", "schema")
READ = ("grammar", "text", "file", "key_file")
WRITTEN = ("output", "out_file", "json_file", "plot_file")
FREE_TEXT = (
    *("prompt", "system", "delimiter", "main", "stop", "regex", "data_dir"),
    *("source", "host", "name", "cors_origins", "allowed_hosts"),
)
"""Options that take any text, or that are judged later."""


@dataclass
class Places:
    """Files and folders of which each is wrong in its own way."""

    folder: Path
    to_parse: list[str] = field(default_factory=list)
    to_read: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    to_write: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        contents = {
            "empty": b"",
            "latin": "members: [café]".encode("latin-1"),
            "binary": bytes(range(256)) * 8,
            "deep.json": b'{"a":' * 50_000,
            "deep": b"[" * 5000,
            "number-key": b"3: 4\nmembers: [a]",
            "list": b"- a\n- b",
            "nobody": b"members: [./nobody]",
            "anchors": b"a: &a [x, x, x, x, x, x, x, x, x]\n"
            + b"".join(b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 9)) for c in b"bcdefgh")
            + b"members: *h",
            "python": b"members: !!python/object/apply:os.system ['true']",
            "unknown": b"members: [a]\nwieghts: [1]",
        }
        for name, content in contents.items():
            (self.folder / name).write_bytes(content)
            self.to_parse.append(str(self.folder / name))
        (self.folder / "a-folder").mkdir()
        no_file = [
            str(self.folder / "a-folder"),
            str(self.folder / "none"),
            "/" + LONG,
            "/a\0b",
            "/\udcff",
            "/dev/zero",
        ]
        self.to_parse += no_file
        self.to_read = [*no_file, str(self.folder / "latin"), str(self.folder / "binary")]
        (self.folder / "broken").mkdir()
        (self.folder / "broken" / "config.json").write_text("{")
        self.models = [*no_file[:-1], str(self.folder / "broken"), str(self.folder / "empty"), "../../..", "a b", ""]
        self.to_write = [
            str(self.folder / "a-folder"),
            str(self.folder / "none" / "x"),
            "/" + LONG,
            "/tmp/a\0b",
        ]


def list_commands() -> dict[str, Any]:
    """Every command of the application by what is typed for it."""
    found, waiting = {}, [((), typer.main.get_command(app))]
    while waiting:
        words, command = waiting.pop()
        if hasattr(command, "commands"):
            waiting += [((*words, name), inner) for name, inner in command.commands.items()]
        else:
            found[" ".join(words)] = command
    return found


def spoil(option: Any, places: Places, rng: random.Random) -> list[str] | None:
    """The option with a value that cannot be right, or None where any value may be."""
    flag = max(option.opts, key=len)
    if option.name in FREE_TEXT or option.name in ("help", "version"):
        return None
    if option.name == "model":
        value = rng.choice(places.models)
    elif option.name == "weight":
        value = rng.choice(("x", "", "prompt2", LONG, "\udcff"))
    elif option.name in WRITTEN:
        value = rng.choice(places.to_write)
    elif option.name in PARSED:
        value = rng.choice(places.to_parse)
    elif option.name in READ:
        value = rng.choice(places.to_read)
    elif option.name in ("dtype", "device"):
        value = rng.choice(("float17", "x", "cuda:99", LONG, "\udcff"))
        return ["-m", str(places.folder / "a-folder"), flag, value]
    elif getattr(option, "is_flag", False):
        return [f"{flag}={rng.choice(STRANGE)}"]
    else:
        value = rng.choice((*OUT_OF_RANGE.get(option.name, ()), *NO_NUMBERS))
    return [value] if option.param_type_name == "argument" else [flag, value]


def make_bad(name: str, command: Any, places: Places, rng: random.Random) -> list[str]:
    """A command line with one thing in it that cannot be right, and perhaps others that are strange."""
    options = list(command.params)
    bad = None
    while bad is None:
        bad = rng.choice(
            (
                [f"--{rng.choice(('x', LONG, 'udcff', 'no-json', ''))}-nothing"],
                spoil(rng.choice(options), places, rng),
                spoil(rng.choice(options), places, rng),
                spoil(rng.choice(options), places, rng),
            )
        )
    noise = []
    for option in rng.sample(options, min(2, len(options))):
        if option.name in FREE_TEXT and option.param_type_name == "option":
            noise += [max(option.opts, key=len), rng.choice(STRANGE)]
    needed = [rng.choice(STRANGE[:2]) for option in options if option.param_type_name == "argument" and option.required]
    return [*name.split(), *noise, *bad, *needed]


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path)


@pytest.fixture
def _no_models(monkeypatch):
    """Only what cannot be refused without models comes to opening them; of the bundled ones that is a miss."""
    open_it = EnsembleSource.open

    def open_unless_starter(source):
        assert not source.is_starter, "a bad command line was taken"
        return open_it(source)

    monkeypatch.setattr(EnsembleSource, "open", open_unless_starter)


def check(deepen, arguments):
    """Why the outcome is no good answer to a bad command line, or None."""
    result = deepen(*arguments, input="", env={"COLUMNS": "80"})
    said = "".join(mark for mark in result.stderr if mark not in "│╭╮╰╯─")
    if result.exit_code not in (1, 2):
        return f"exit status {result.exit_code}"
    if "Traceback" in said or "not foreseen" in said:
        return said.strip()[-300:]
    if not said.strip() or len(" ".join(said.split())) > 2600:
        return f"{len(said)} characters"
    return None


def find_misses(deepen, places, num_inputs, seed):
    rng, commands = random.Random(seed), list_commands()
    made = ((name, make_bad(name, commands[name], places, rng)) for name in rng.choices(sorted(commands), k=num_inputs))
    return [([word[:80] for word in arguments], why) for _, arguments in made if (why := check(deepen, arguments))]


@pytest.mark.usefixtures("_no_models")
def test_a_bad_command_line_ends_with_a_readable_message_and_no_traceback(deepen, places):
    assert find_misses(deepen, places, 50, seed=1) == []


@pytest.mark.slow
@pytest.mark.usefixtures("_no_models")
@pytest.mark.timeout(1800)
def test_many_bad_command_lines_end_with_readable_messages(deepen, places):
    assert find_misses(deepen, places, 1500, seed=2) == []
