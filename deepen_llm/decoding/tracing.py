"""What happened in one step, for people to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.results import Candidate, MemberTrace, StepTrace, TokenLogprob
from deepen_llm.vocabulary import Vocabulary

NUM_TOP = 5


def trace_step(sequence: RunningSequence, logprobs: Tensor, token_id: int) -> StepTrace:
    """Each member's best tokens, the fused ones, and who changed the choice.

    Args:
        sequence: Where the step happened; its tracks hold what each member gave, if it was asked.
        logprobs: What the token was chosen from, (num_logits of the main model,).
        token_id: The token chosen.
    """
    members, main = [track.member for track in sequence.tracks], sequence.main
    logits = {
        index: track.logits
        for index, track in enumerate(sequence.tracks)
        if track.logits is not None and (index == main or sequence.is_fused) and index not in sequence.resting
    }
    views = tuple(
        MemberTrace(
            members[index].name,
            describe_best(members[index].vocabulary, row.float().softmax(dim=-1), NUM_TOP),
            tuple(text.decode("utf-8", "replace") for text in _expanded(sequence, index)),
        )
        for index, row in logits.items()
    )
    return StepTrace(
        step=sequence.num_steps,
        token_id=token_id,
        text=members[main].vocabulary.display(token_id),
        members=views,
        fused=describe_best(members[main].vocabulary, sequence.told(logprobs).exp(), NUM_TOP),
        changed_by=_changed_by(members, main, logits, token_id),
        is_fused=sequence.is_fused,
        weights=sequence.word.weights.current,
    )


def _expanded(sequence: RunningSequence, index: int) -> list[bytes]:
    """The texts that were expanded of a member's at this step."""
    projection = sequence.tracks[index].projection
    return [] if projection is None else projection.expanded


def _changed_by(
    members: Sequence[GuardedMember], main: int, logits: Mapping[int, Tensor], token_id: int
) -> tuple[str, ...]:
    """The members whose best token reads as the one chosen, where the main model's best token is another."""
    best = {index: int(row.argmax()) for index, row in logits.items()}
    if best[main] == token_id:
        return ()
    chosen = _text_of(members[main], token_id)
    return tuple(
        members[index].name
        for index, best_id in best.items()
        if index != main and _text_of(members[index], best_id) == chosen
    )


def _text_of(member: GuardedMember, token_id: int) -> bytes | None:
    """A token's bytes; every end-of-sequence reads alike."""
    return b"" if token_id in member.vocabulary.eos_ids else member.vocabulary.tokens[token_id]


def describe_choice(vocabulary: Vocabulary, logprobs: Tensor, token_id: int, num_top: int) -> TokenLogprob:
    """The chosen token's log-probability with the best alternatives."""
    top = describe_best(vocabulary, logprobs.exp(), num_top)
    return TokenLogprob(token_id, vocabulary.display(token_id), float(logprobs[token_id]), top)


def describe_best(vocabulary: Vocabulary, probs: Tensor, num_top: int) -> tuple[Candidate, ...]:
    """The `num_top` best tokens of a distribution (num_logits,) that have any probability."""
    best = probs.topk(min(num_top, len(probs)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple(Candidate(token_id, vocabulary.display(token_id), prob) for token_id, prob in pairs if prob > 0)
