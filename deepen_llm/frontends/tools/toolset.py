"""The tools of one request: what the models are told of them, and the grammar of an answer that may call them.

Chat templates differ in how they tell a model about tools, and many do not at all. So tools are put in words, into
the system message, where every member reads the same; a call is one line of JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError, quote
from deepen_llm.frontends.options import STRUCTURE_NAMES
from deepen_llm.frontends.tools.calls import FORM
from deepen_llm.frontends.tools.choice import ToolChoice, read_choice
from deepen_llm.frontends.tools.tool import Tool, read_tool


@final
@dataclass(frozen=True, slots=True)
class ToolSet:
    """The tools that may be called in one answer."""

    tools: tuple[Tool, ...]
    is_forced: bool
    """Whether the answer has to be a call."""
    is_parallel: bool
    """Whether an answer may hold several calls."""

    def grammar(self, stop: Sequence[str] = ()) -> str:
        """The grammar of an answer: calls, a line each, or, where none is forced, a text.

        A text does not begin with a brace, nor with one after white space, so that nothing which looks like a call is
        one by chance. It ends after a stop string; a call has none.
        """
        numbers = range(len(self.tools))
        calls = 'call ("\\n" call)*' if self.is_parallel else "call"
        rules = [f"calls: {calls}", f"call: {' | '.join(f'call_{n}' for n in numbers)}"]
        rules += [f"call_{n}: {self.tools[n].rule}" for n in numbers]
        if self.is_forced:
            return "\n".join(["start: calls", *rules])
        return "\n".join(["start: calls | TEXT", *rules, rf"TEXT: /\s*[^{{\s](.|\n)*/{_nothing_after(stop)}"])

    @property
    def words(self) -> str:
        """What the models are told: the tools, and how to call them."""
        how = f"To call one, answer with nothing but {FORM}. Otherwise answer in words."
        if self.is_forced:
            how = f"Answer with a call of one of them, and nothing else: {FORM}"
        several = " Write several calls on a line each." if self.is_parallel else ""
        return "\n".join(["Tools:", *[tool.words for tool in self.tools], how + several])

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse options that contradict the tools of the same call.

        Raises:
            ConfigError: A structure, what ends an answer elsewhere than a call does, or stop strings where the answer
                has to be a call.
        """
        refused = (*STRUCTURE_NAMES, "ignore_eos", "min_new_tokens", "stop_token_ids")
        if given := [name for name in refused if options.get(name)]:
            raise ConfigError(f"an answer that may call tools takes no {given[0]}: leave it out, or leave tools out")
        if self.is_forced and options.get("stop"):
            raise ConfigError(
                f"a tool call must not be cut; got stop={quote(options['stop'])} with a tool_choice that forces one: "
                "leave stop out"
            )

    def hold(self, params: SamplingParams) -> SamplingParams:
        """The parameters by which the engine holds an answer to this set, which is the only structure and ends it.

        The stop strings, which would cut a call, go into the grammar: read the answer with `CallReader(params.stop)`.
        """
        ends = {"stop": (), "stop_token_ids": (), "ignore_eos": False, "min_new_tokens": 0}
        changes = {**dict.fromkeys(STRUCTURE_NAMES), **ends}
        return params.replace(**{**changes, "grammar": self.grammar(params.stop)})


def read_tools(described: Iterable[Any], choice: ToolChoice = None, *, is_parallel: bool = False) -> ToolSet | None:
    """The tools of one request; None where there are none, or where none may be called.

    Args:
        described: Tools, each as `read_tool` reads it. One that is given twice counts once.
        choice: See `read_choice`.
        is_parallel: Whether an answer may hold several calls.

    Raises:
        ConfigError: Something that is no tool, two different tools of one name, or a choice that is not among them.
        GrammarError: A tool whose arguments cannot be decoded by their schema; the message names it.
    """
    tools, chosen = _read_apart(described), read_choice(choice)
    if not tools and chosen.is_forced:
        raise ConfigError(f"tool_choice={quote(choice)} needs tools to choose from; got none: give tools")
    if chosen.name is not None:
        names = [tool.name for tool in tools]
        if chosen.name not in names:
            raise ConfigError(
                f"tool_choice must name a tool, or be auto, any, required or none; got {quote(chosen.name)}: "
                f"the tools are {', '.join(names)}"
            )
        tools = tuple(tool for tool in tools if tool.name == chosen.name)
    return ToolSet(tools, chosen.is_forced, is_parallel) if tools and chosen.is_allowed else None


def _read_apart(described: Iterable[Any]) -> tuple[Tool, ...]:
    """The tools, no two of one name."""
    by_name: dict[str, Tool] = {}
    for tool in map(read_tool, described):
        known = by_name.setdefault(tool.name, tool)
        if not known.is_same(tool):
            raise ConfigError(
                f"tools must have names of their own; got two of the name {quote(tool.name)}, {quote(known)} "
                f"and {quote(tool)}: name one of them otherwise"
            )
    return tuple(by_name.values())


def _nothing_after(stop: Sequence[str]) -> str:
    """The end of a terminal's pattern: nothing may follow one of the stop strings."""
    if not stop:
        return ""
    # By number, because no way of escaping is the same for Python, for Lark and for the regular expressions in it.
    texts = "|".join(re.sub(r"[^0-9A-Za-z]", lambda char: rf"\x{{{ord(char[0]):x}}}", one) for one in stop)
    return rf" & ~/(.|\n)*({texts})(.|\n)+/"
