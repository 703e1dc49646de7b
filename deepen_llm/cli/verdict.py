"""How well members fit, as tables and plain sentences: the end of `deepen inspect`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from deepen_llm.cli.console import out, say

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.evaluation.fit import Cuts, Fit, MemberFit, PairFit
    from deepen_llm.vocabulary.agreement import Agreement

NUM_CHARACTERS = 8
CONSEQUENCES: dict[Cuts, str] = {
    "alike": "cut text alike: any reading works",
    "mostly alike": "cut text mostly alike: token by token works, read as text is the safer choice",
    "differently": "spell differently: read as text; token by token they would make each other worse",
    "unknown": "have no line of the sample that both can write: compare them on another one (--text)",
}


def print_verdict(ensemble: Ensemble, sample: Mapping[str, str]) -> None:
    """How every member cuts the sample, how alike each two cut it, and the settings that follow."""
    from deepen_llm.evaluation.fit import judge_fit

    members = [(member.name, member.vocabulary) for member in ensemble.members]
    fit = judge_fit(members, ensemble.main_name, sample)
    out.print(sample_table(fit, sample))
    if fit.pairs:
        out.print(agreement_table(fit))
    say("Verdict", style="bold italic")
    for sentence in describe_fit(fit):
        say(f"- {sentence}")
    if fit.pairs:
        say("\nRecommended settings (ensemble.yaml)", style="bold italic")
        say(recommend(fit))


def sample_table(fit: Fit, sample: Mapping[str, str]) -> Table:
    """Every member's tokens on the sample, and what it cannot write."""
    num_characters = sum(map(len, sample.values()))
    title = f"Sample text: {num_characters:,} characters"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("member")
    for column in ("bytes a token", "cannot write", "of the sample"):
        table.add_column(column, justify="right")
    for member in fit.members:
        missing = f"{member.missing_share:.1%}" if member.missing else "0"
        table.add_row(Text(member.name), f"{member.bytes_per_token:.2f}", Text(quote_missing(member)), missing)
    return table


def agreement_table(fit: Fit) -> Table:
    """For each two members: of each one's token ends, the share that are the other's, too."""
    table = Table(title="Token ends that agree", title_justify="left", title_style="bold")
    table.add_column("members")
    for column in ("of the first's ends", "of the second's ends", "they cut"):
        table.add_column(column, justify="right")
    for pair in fit.pairs:
        table.add_row(Text(f"{pair.first} + {pair.second}"), *_shares(pair.agreement), pair.cuts)
    return table


def describe_fit(fit: Fit) -> Iterator[str]:
    """The verdict: on each two members, on each member that cannot write the sample, on the main model."""
    if not fit.pairs:
        yield f"{fit.main} is alone: there is nothing to fuse."
    for pair in fit.pairs:
        yield describe_pair(pair)
    for member in fit.members:
        if member.missing:
            yield describe_missing(member)
    if fit.pairs:
        yield describe_main(fit)


def describe_pair(pair: PairFit) -> str:
    """What follows from how alike two members cut the sample."""
    names = f"{pair.first} and {pair.second}"
    if pair.agreement is None:
        return f"{names} {CONSEQUENCES['unknown']}."
    return f"{names} {CONSEQUENCES[pair.cuts]} ({pair.agreement.least_share:.0%} of their token ends agree)."


def describe_missing(member: MemberFit) -> str:
    """What a member cannot write, and what becomes of it."""
    return (
        f"{member.name} cannot write {quote_missing(member)} ({member.missing_share:.1%} of the sample): it reads "
        "them as unknown, and as main model it could never answer with them."
    )


def describe_main(fit: Fit) -> str:
    """Which member should be main, and why."""
    best, present = fit.best_main, fit.member(fit.main)
    if best == present:
        reason = "no other member that can write as much of the sample has much longer tokens"
        text = f"Main model: {present.name}, as it is set; {reason}."
    elif best.missing_share < present.missing_share:
        text = f"Main model: {best.name} rather than {present.name}, which cannot write all of the sample."
    else:
        lengths = f"{best.bytes_per_token:.2f} bytes a token, not {present.bytes_per_token:.2f}"
        text = f"Main model: {best.name} rather than {present.name}: {lengths}, so fewer steps an answer."
    return f"{text} Which model is the better one, only questions with answers can tell: `deepen calibrate`."


def recommend(fit: Fit) -> str:
    """The settings that follow, as lines of an ensemble.yaml."""
    reading = "text" if fit.needs_text else "token"
    note = "" if fit.needs_text else "  # or text: they cut alike"
    return f"main: {fit.best_main.name}\nfusion:\n  reading: {reading}{note}"


def quote_missing(member: MemberFit) -> str:
    """The most frequent characters that a member cannot write, quoted, and how many more there are."""
    if not member.missing:
        return "nothing"
    shown = " ".join(map(repr, member.missing[:NUM_CHARACTERS]))
    num_more = len(member.missing) - NUM_CHARACTERS
    return f"{shown} and {num_more} more" if num_more > 0 else shown


def _shares(agreement: Agreement | None) -> tuple[str, str]:
    """Of the first one's ends and of the second one's, the share that agrees."""
    if agreement is None:
        return "", ""
    first = f"{agreement.share_of_first:.1%} of {agreement.num_first:,}"
    return first, f"{agreement.share_of_second:.1%} of {agreement.num_second:,}"
