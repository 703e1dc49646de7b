"""Tables of what happened step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from deepen_llm.results import Candidate, StepTrace, TokenLogprob

NUM_SHOWN = 3


def trace_table(steps: Sequence[StepTrace]) -> Table:
    """Each step: the token, the best tokens of every member and of the fusion, and who changed the choice."""
    table = Table("step", "token", show_lines=True)
    names = list(dict.fromkeys(view.member for step in steps for view in step.members))
    for name in names:
        table.add_column(Text(name))
    table.add_column("fused")
    table.add_column("changed by")
    for step in steps:
        tops = {view.member: view.top for view in step.members}
        views = [_candidates(tops.get(name, ())) for name in names]
        table.add_row(
            str(step.step), _quoted(step.text), *views, _candidates(step.fused), Text(", ".join(step.changed_by))
        )
    return table


def logprobs_table(logprobs: Sequence[TokenLogprob]) -> Table:
    """Each token with its log-probability and the alternatives asked for."""
    table = Table("token", "logprob", "alternatives", show_lines=any(len(entry.top) > 1 for entry in logprobs))
    for entry in logprobs:
        table.add_row(_quoted(entry.text), f"{entry.logprob:.3f}", _candidates(entry.top, len(entry.top)))
    return table


def _candidates(candidates: Sequence[Candidate], num_shown: int = NUM_SHOWN) -> Text:
    return Text("\n").join(Text.assemble(_quoted(c.text), f" {c.prob:.1%}") for c in candidates[:num_shown])


def _quoted(text: str) -> Text:
    """A token with its spaces and newlines visible."""
    return Text(repr(text))
