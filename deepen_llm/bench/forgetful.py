"""An ensemble that learns nothing from one request for the next: a prompt that comes again costs what it did."""

from __future__ import annotations

from typing import Any

from deepen_llm.ensemble import Ensemble
from deepen_llm.members.borrowed import BorrowedMember


def make_forgetful(ensemble: Ensemble, **changes: Any) -> Ensemble:
    """An ensemble over the members of another, which steps in turn with it and is to be closed before it.

    It keeps no beginnings and looks nothing up in earlier answers; `changes` are further settings of its own.
    """
    settings = {"drafts_from_answers": False, "prefix_cache_bytes": 0, **changes}
    members = [BorrowedMember(member) for member in ensemble.members]
    return Ensemble(members, ensemble.config.replace(**settings), turns=ensemble.turns)
