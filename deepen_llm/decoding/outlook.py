"""What is known of a text beyond its end, where members have read ahead of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deepen_llm.decoding.track import Track
from deepen_llm.projection.foresight import Later, Outlook

MOST_TOKENS = 24
"""So many of a member's tokens beyond the text are looked at."""

ToProbs = Callable[[Tensor], Tensor]
"""Makes probs `(places, num_logits)` of logits of the same shape."""


def look_ahead(track: Track, main: Track, to_probs: ToProbs, to_expected: ToProbs) -> Outlook:
    """The outlook of one member's track.

    Args:
        track: The member's, whose distribution is to be expanded.
        main: The main model's track of the same sequence.
        to_probs: For the member's logits.
        to_expected: For the main model's.
    """
    boundary, ahead = track.boundary, track.ahead
    paths = [boundary.own_path + ahead.ids[: end + 1] for end in range(min(len(ahead.ids), MOST_TOKENS))]

    def look() -> Sequence[Later]:
        found = {tuple(track.alignment.ids[boundary.num_before : end]): place for end, place in track.told.items()}
        found |= dict(zip(paths, ahead.places, strict=False))
        if new := [path for path in found if path not in boundary.foreseen]:
            probs = to_probs(torch.stack([found[path].logits for path in new]))
            boundary.foreseen.update(zip(new, probs, strict=True))
        return _find_later(track, main, paths, to_expected)

    return Outlook(boundary.foreseen, look)


def _find_later(track: Track, main: Track, paths: Sequence[tuple[int, ...]], to_expected: ToProbs) -> list[Later]:
    """The places in the text that both have read ahead where a token of each ends."""
    texts = {track.member.vocabulary.join(path[len(track.boundary.own_path) :]): path for path in paths}
    begun = [main.member.vocabulary.join(main.ahead.ids[: end + 1]) for end in range(len(main.ahead.ids))]
    found = [(texts[text], main.ahead.places[at].logits) for at, text in enumerate(begun) if text in texts]
    if not found:
        return []
    expected = to_expected(torch.stack([logits for _, logits in found]))
    return [Later(path, probs) for (path, _), probs in zip(found, expected, strict=True)]
