"""Who decided a token: the members whose own best token says the same, or the fusion alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

from deepen_llm.results import StepTrace
from deepen_llm.vocabulary import Vocabulary

Kind = Literal["main", "other", "agreed", "overruled", "fusion", "forced"]


@final
@dataclass(frozen=True, slots=True)
class Decision:
    """Who decided one token.

    `kind` is "main" (the main model alone), "other" (one other member alone), "agreed" (the main model and others),
    "overruled" (several others against the main model), "fusion" (no member's best token: only together) or "forced"
    (a structure left no choice, and no member was asked).
    """

    kind: Kind
    members: tuple[str, ...]
    """Those who decided, in the ensemble's order; none where it was the fusion alone."""


def decide(step: StepTrace, vocabularies: Mapping[str, Vocabulary], main: str) -> Decision:
    """Who decided a step's token.

    Where the trace names those who changed the choice, it was they. Else a member takes part whose best token is the
    one chosen, or goes on from it: " shelter" speaks for " she", but " s" does not.

    Args:
        step: What happened.
        vocabularies: Every member's, by name, in the ensemble's order.
        main: The main model's name.
    """
    if not step.members:
        return Decision("forced", ())
    chosen = read_token(vocabularies[main], step.token_id)
    views = {view.member: view for view in step.members}
    deciders = []
    for name, vocabulary in vocabularies.items():
        best = views[name].top[:1] if name in views else ()
        if name in step.changed_by or any(_speaks_for(read_token(vocabulary, one.token_id), chosen) for one in best):
            deciders.append(name)
    if step.changed_by:
        deciders = [name for name in deciders if name in step.changed_by]
    return Decision(_kind(deciders, main), tuple(deciders))


def read_token(vocabulary: Vocabulary, token_id: int) -> bytes | None:
    """A token's bytes; b"" for any end of sequence, None for another special token."""
    return b"" if token_id in vocabulary.eos_ids else vocabulary.tokens[token_id]


def _speaks_for(said: bytes | None, chosen: bytes | None) -> bool:
    """Whether a token says what was chosen, and maybe more. An end says only an end."""
    if said is None or chosen is None:
        return False
    return said == chosen or (bool(chosen) and said.startswith(chosen))


def _kind(deciders: list[str], main: str) -> Kind:
    if not deciders:
        return "fusion"
    if len(deciders) == 1:
        return "main" if deciders == [main] else "other"
    return "agreed" if main in deciders else "overruled"
