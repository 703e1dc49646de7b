"""Templates of any bytes and of bad intent: every one gives tokens or an own error, in bounded time and memory."""

from __future__ import annotations

import random
import resource
import time

import pytest

from deepen_llm.errors import DeepenError
from deepen_llm.vocabulary import Vocabulary, rendering
from tests import toy_tokenizers as toys
from tests.chat_templates import TEMPLATES

SIZES = (1, 60, 10**3, 10**6, 10**9, 10**12)
MOST_S = 5.0
MOST_BYTES = 2**30
MESSAGES = [{"role": "system", "content": "a"}, {"role": "user", "content": "b <|im_end|>"}]


def make_number(rng: random.Random) -> str:
    return str(rng.choice(SIZES))


def make_text(rng: random.Random) -> str:
    return rng.choice(
        ["'a'", "'ab'", "messages[0].content", "'\\ud800'", "'<|im_end|>'", "bos_token", "messages | string"]
    )


def make_value(rng: random.Random) -> str:
    """An expression that may be huge, slow, broken or out of bounds."""
    text, number = make_text(rng), make_number(rng)
    return rng.choice(
        [
            f"{text} * {number}",
            f"'%{number}d' % 1",
            f"'%.{number}f' | format(1.0)",
            f"'{{:>{number}}}'.format(1)",
            f"{text}.ljust({number})",
            f"{text} | indent({number})",
            f"{text} | center({number})",
            f"{text}.replace('', {text} * {number})",
            f"{number} ** {number}",
            f"({number} ** {rng.choice((2, 1000))}) | string",
            f"range({number}) | list",
            f"[[0] * {number}] * {number}",
            f"{text} | wordwrap(1, wrapstring={text} * {number})",
            f"messages | tojson(indent={number})",
            f"lipsum(n={number})",
            f"1 / {rng.choice((0, 3))}",
            f"{text}.__class__.__mro__",
            f"{text}[{number}]",
            "self._TemplateReference__context",
            "cycler.__init__.__globals__",
            "namespace.__init__.__globals__",
            "raise_exception(messages | string * 1000)",
            f"strftime_now('%Y' * {number})",
            f"{text} | batch({number}) | list",
            f"dict.fromkeys(range({number}))",
            "(" * rng.choice((5, 500)) + text + ")" * rng.choice((5, 500)),
            " ~ ".join([text] * rng.choice((2, 2000))),
            "messages.clear()",
            f"({text} * 40) | list | permutations",
            f"namespace(**{{{text}: 1}})",
        ]
    )


def make_statement(rng: random.Random, depth: int = 3) -> str:
    """Something of Jinja, with such expressions in it."""
    inner = make_statement(rng, depth - 1) if depth else ""
    return rng.choice(
        [
            f"{{{{ {make_value(rng)} }}}}{inner}",
            f"{{% for i in range({make_number(rng)}) %}}{inner}{{% endfor %}}",
            f"{{% for m in messages %}}{{{{ m.content }}}}{inner}{{% endfor %}}",
            f"{{% set ns = namespace(s={make_text(rng)}) %}}"
            f"{{% for i in range(60) %}}{{% set ns.s = ns.s + ns.s %}}{inner}{{% endfor %}}{{{{ ns.s }}}}",
            f"{{% macro f(x) %}}{inner}{{{{ f(x ~ 'a') }}}}{{% endmacro %}}{{{{ f('a') }}}}",
            f"{{% for i in [messages] recursive %}}{{{{ loop([i]) }}}}{inner}{{% endfor %}}",
            f"{{% if {make_value(rng)} %}}{inner}{{% endif %}}",
            f"{{% set x %}}{inner}{{% endset %}}{{{{ x * {make_number(rng)} }}}}",
            f"{{% filter upper %}}{inner}{{% endfilter %}}",
            f"{{% generation %}}{inner}{{% endgeneration %}}",
            f"{{% include {make_text(rng)} %}}{inner}",
            f"{{% {rng.choice(('break', 'continue', 'raw', 'import', 'else'))} %}}{inner}",
        ]
    )


def make_template(rng: random.Random) -> str:
    """A statement, or a good template with one in it, or cut, or with characters of it changed."""
    good = rng.choice(list(TEMPLATES.values()))
    at = rng.randrange(len(good))
    noise = "".join(
        chr(rng.choice((rng.randrange(32, 127), rng.randrange(0xD800)))) for _ in range(rng.randrange(1, 9))
    )
    return rng.choice(
        [
            make_statement(rng),
            good[:at] + make_statement(rng) + good[at:],
            good[:at],
            good[:at] + noise + good[at + len(noise) :],
            make_statement(rng) + good,
            noise * rng.choice((1, 10_000)),
        ]
    )


def meet(template: str) -> str:
    """What becomes of a model with such a template, from its loading to a chat: "answered", or the error's kind."""
    vocabulary = Vocabulary.from_tokenizer(toys.byte_level_bpe(), name="hostile", chat_template=template)
    try:
        prompt = vocabulary.encode_chat(MESSAGES)
    except DeepenError as error:
        is_readable = "'hostile'" in str(error) and len(str(error)) < 1000
        return type(error).__name__ if is_readable else str(error)
    assert vocabulary.join(prompt.ids)
    return "answered"


def check(num_templates: int, seed: int) -> None:
    rng = random.Random(seed)
    began_bytes = used_bytes()
    kinds = set()
    for _ in range(num_templates):
        template = make_template(rng)
        begin_s = time.monotonic()
        kinds.add(meet(template))
        assert time.monotonic() - begin_s < MOST_S, template[:1000]
    assert {"answered", "ChatRefusedError"} <= kinds <= {"answered", "ChatRefusedError", "PromptError"}
    assert used_bytes() - began_bytes < MOST_BYTES


def used_bytes() -> int:
    """The most that this process and any child that has ended have used."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * 1024


def test_a_hostile_template_gives_an_own_error_in_time_and_memory(monkeypatch):
    monkeypatch.setattr(rendering, "MAX_RENDER_S", 0.2)
    check(40, seed=1)


@pytest.mark.slow
def test_many_hostile_templates_give_own_errors_in_time_and_memory():
    check(600, seed=2)
