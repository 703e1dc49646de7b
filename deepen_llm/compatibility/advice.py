"""What follows from how well members fit, in plain sentences, and the settings that go with it."""

from __future__ import annotations

from collections.abc import Iterator

from deepen_llm.compatibility.fit import Cuts, Fit, MemberFit, PairFit
from deepen_llm.config import EnsembleConfig

NUM_CHARACTERS = 8
CONSEQUENCES: dict[Cuts, str] = {
    "alike": "cut text alike: any reading works",
    "mostly alike": "cut text mostly alike: token by token works, read as text is the safer choice",
    "differently": "spell differently: read as text; token by token they would make each other worse",
    "unknown": "have no line of the sample that both can write: compare them on another one (--text)",
}


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


def recommend(config: EnsembleConfig, fit: Fit) -> EnsembleConfig:
    """The configuration with the settings that follow: the main model, and how distributions are read."""
    fusion = config.fusion
    if "reading" in type(fusion).model_fields:
        fusion = fusion.replace(reading="text" if fit.needs_text else "token")
    return config.replace(main=fit.best_main.name, fusion=fusion)


def explain_recommended(fit: Fit) -> str:
    """A comment to the file of what `recommend` gives, in lines."""
    if fit.needs_text:
        return "Recommended by deepen inspect.\nreading: text, since members spell differently"
    return "Recommended by deepen inspect.\nreading: token; or text, since they cut alike"


def quote_missing(member: MemberFit) -> str:
    """The most frequent characters that a member cannot write, quoted, and how many more there are."""
    if not member.missing:
        return "nothing"
    shown = " ".join(map(repr, member.missing[:NUM_CHARACTERS]))
    num_more = len(member.missing) - NUM_CHARACTERS
    return f"{shown} and {num_more} more" if num_more > 0 else shown
