"""This library's own server, which answers as vLLM does."""

from __future__ import annotations

from typing import final

from deepen_llm.members.server.vllm import VllmDialect


@final
class DeepenDialect(VllmDialect):
    """A whole ensemble, or one of its members, as a member of another."""

    name = "deepen"
    title = "deepen serve"
    more_hint = "ask for what it tells, at most 1,000, with top=1000"
