"""What happened in one step, for people to read."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from deepen_llm.decoding.sequence import describe_best
from deepen_llm.members.base import Member
from deepen_llm.results import MemberTrace, StepTrace

NUM_TOP = 5


def trace_step(
    members: Sequence[Member], main: int, logits: Sequence[Tensor], logprobs: Tensor, token_id: int, *, step: int
) -> StepTrace:
    """Each member's best tokens, the fused ones, and who changed the choice.

    Args:
        members: The members, of which `main` is the main model.
        main: Its position.
        logits: Each member's next-token logits, (num_logits,).
        logprobs: The fused logprobs, (num_logits of the main model,).
        token_id: The token chosen.
        step: Steps before this one.
    """
    views = tuple(
        MemberTrace(member.name, describe_best(member.vocabulary, row.float().softmax(dim=-1), NUM_TOP))
        for member, row in zip(members, logits, strict=True)
    )
    return StepTrace(
        step=step,
        token_id=token_id,
        text=members[main].vocabulary.display(token_id),
        members=views,
        fused=describe_best(members[main].vocabulary, logprobs.exp(), NUM_TOP),
        changed_by=_changed_by(members, main, logits, token_id),
    )


def _changed_by(members: Sequence[Member], main: int, logits: Sequence[Tensor], token_id: int) -> tuple[str, ...]:
    """The members whose best token reads as the one chosen, where the main model's best token is another."""
    best = [int(row.argmax()) for row in logits]
    if best[main] == token_id:
        return ()
    chosen = _reading(members[main], token_id)
    return tuple(
        member.name for index, member in enumerate(members) if index != main and _reading(member, best[index]) == chosen
    )


def _reading(member: Member, token_id: int) -> bytes | None:
    """A token's bytes; every end-of-sequence reads alike."""
    return b"" if token_id in member.vocabulary.eos_ids else member.vocabulary.tokens[token_id]
