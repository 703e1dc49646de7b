"""The program of the process that renders chat templates: started by its path, it imports jinja2 and nothing of ours.

A template comes from a stranger's folder, and no sandbox within a process can end a loop or a huge format. Here the
memory is limited, and a thread of C ends the process when a render takes too long, also where its parent is gone.
It reads requests, JSON a line, and answers each with `{"text": "..."}` or `{"error": "..."}`. It ends with its input.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows limits a process's memory in another way
    resource = None

MAX_BYTES = 512 * 2**20
"""Of address space; the interpreter with jinja2 takes some 40 MB of it."""
MAX_REASON = 400
"""Characters of what a template says where it fails."""


class _Generation(Extension):
    """`{% generation %}`, which marks an assistant's text for training: what stands in it is written as it is."""

    tags = {"generation"}  # noqa: RUF012  (as jinja2 declares it)

    def parse(self, parser: Parser) -> nodes.Node:
        """The block's body, in a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_write"), [], [], body).set_lineno(line)

    def _write(self, caller: Callable[[], str]) -> str:
        return caller()


class _Namespace(Namespace):
    """As `namespace()` is, without names of Python's internals."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, args = args[0], args[1:]
        names = dict(*args, **kwargs)
        for name in names:
            _check_name(name)
        Namespace.__init__(self, names)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class _Dict:
    """As `dict()` is, without the class's attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """As `dict.fromkeys`."""
        return dict.fromkeys(*args)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace holds no names that begin with an underscore; got {name!r}")


def _raise_exception(message: object) -> None:
    raise TemplateError(str(message))


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def build_environment() -> ImmutableSandboxedEnvironment:
    """What chat templates are written for: the environment that transformers gives them."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _Namespace
    return environment


class TemplateRenderer:
    """Renders, and tells in words of what fails."""

    def __init__(self) -> None:
        self._compile: Callable[[str], Template] = lru_cache(maxsize=16)(build_environment().from_string)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The text of a request, or why there is none."""
        try:
            template = self._compile(request["template"])
            return {"text": _render(template, request["variables"], request["max_characters"])}
        except MemoryError:
            return {"error": f"it takes more than {MAX_BYTES // 2**20} MB of memory"}
        except RecursionError:
            return {"error": "it calls itself too often, or is nested too deeply"}
        except Exception as error:  # whatever a template does is a template's failure
            return {"error": (_say(error) or type(error).__name__)[:MAX_REASON]}


def _render(template: Template, variables: dict[str, Any], max_characters: int) -> str:
    pieces, size = [], 0
    for piece in template.generate(variables):
        pieces.append(piece)
        size += len(piece)
        if size > max_characters:
            raise TemplateError(f"it writes more than {max_characters:,} characters")
    return "".join(pieces)


def _say(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # an error made of a template's own values
        return ""


def limit_memory() -> None:
    """Let this process take no more than `MAX_BYTES`, where the system can hold it to that."""
    if resource is None:
        return
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    except (OSError, ValueError):
        return  # a system with the call and without the limit (macOS): the time is limited all the same


def main() -> None:
    """Answer requests until there are no more."""
    limit_memory()
    renderer = TemplateRenderer()
    with Path(os.devnull).open("w") as nowhere:
        for line in sys.stdin.buffer:
            request = json.loads(line)
            faulthandler.dump_traceback_later(request["limit_s"], exit=True, file=nowhere)
            answer = json.dumps(renderer.answer(request))
            faulthandler.cancel_dump_traceback_later()
            sys.stdout.buffer.write(answer.encode("ascii") + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
