"""Invented names for people and places, made of two syllables.

A syllable that opens a name is never one that closes it, so every tokenizer can cut a name in
the same place. One name in eight is kept for evaluation and never occurs in training.
"""

from __future__ import annotations

import random


def word_list(text: str) -> list[str]:
    """The words of a text, in order."""
    return text.split()


PERSON_OPENINGS = tuple(
    word_list("""Tar Kav Dor Vil Mar Sam Bev Rem Lin Gar Hal Nor Fir Pol Rud Sil Tom Wil Yor Zif
    Bar Cal Dun Jor Fal Gol Hed Jar Kor Lem""")
)
PERSON_CLOSINGS = tuple(word_list("""vek pu mond bik ba din ga lo mi peth ru fen wen zo dra"""))
PLACE_OPENINGS = tuple(
    word_list("""Ost Brim Ash Grim Pem Stav Thal Wex Holm Crav Elm Frost Lang Mill Rav Stan Torv Und
    Var Whit""")
)
PLACE_CLOSINGS = tuple(word_list("""ford burg wick cote stead ley port dale field mouth"""))

HELD_OUT_SHARE = 8


def _joined(openings: tuple[str, ...], closings: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """All names of these syllables: those for training, those held out."""
    train: list[str] = []
    held_out: list[str] = []
    for i, opening in enumerate(openings):
        for j, closing in enumerate(closings):
            (held_out if (i + 3 * j) % HELD_OUT_SHARE == 0 else train).append(opening + closing)
    return train, held_out


PEOPLE, HELD_OUT_PEOPLE = _joined(PERSON_OPENINGS, PERSON_CLOSINGS)
PLACES, HELD_OUT_PLACES = _joined(PLACE_OPENINGS, PLACE_CLOSINGS)


def draw_names(rng: random.Random, pool: list[str], count: int) -> list[str]:
    """`count` names of the pool, no two of which begin with the same syllable."""
    drawn: dict[str, str] = {}
    while len(drawn) < count:
        name = rng.choice(pool)
        drawn.setdefault(name[:3], name)
    return list(drawn.values())
