"""Every way to write a tool choice, and what is none."""

import pytest

from deepen_llm.errors import ConfigError
from deepen_llm.frontends.tools import Choice, read_choice


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        (None, Choice()),
        ("auto", Choice()),
        (False, Choice()),
        ("any", Choice(is_forced=True)),
        ("required", Choice(is_forced=True)),
        (True, Choice(is_forced=True)),
        ("none", Choice(is_allowed=False)),
        ("add", Choice(is_forced=True, name="add")),
        ({"type": "function", "function": {"name": "add"}}, Choice(is_forced=True, name="add")),
        ({"type": "tool", "name": "none"}, Choice(is_forced=True, name="none")),
    ],
)
def test_a_choice_is_read(given, choice):
    assert read_choice(given) == choice


@pytest.mark.parametrize("given", [{}, {"type": "function"}, {"function": "add"}, {"function": {"name": 3}}])
def test_a_dictionary_without_a_name_is_refused(given):
    with pytest.raises(ConfigError, match=r'tool_choice must hold \{"function": \{"name": ...\}\}; got'):
        read_choice(given)


def test_what_is_no_choice_is_refused():
    with pytest.raises(ConfigError, match=r"tool_choice must be auto, any, .* or a tool's name; got \['add'\]"):
        read_choice(["add"])
