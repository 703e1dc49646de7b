"""The stories are as large as promised, in characters that every story model has, and no two alike."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
NUM_BYTES = {"dev": 12_000, "test": 24_000, "hard_dev": 12_000, "hard_test": 24_000}
CHARACTERS = {*string.ascii_letters, *" .,!?'\"-"}
STORY_TOKENIZER = FOLDER.parents[2] / "shared" / "models" / "babyllama-tok105" / "tokenizer.json"


def read_text(name: str) -> str:
    return (FOLDER / f"stories_{name}.txt").read_bytes().decode("ascii")


def read_stories(name: str) -> list[str]:
    return read_text(name).removesuffix("\n").split("\n\n")


def every_story() -> list[str]:
    return [story for name in NUM_BYTES for story in read_stories(name)]


@pytest.mark.parametrize("name", NUM_BYTES)
def test_a_file_is_large_enough_and_one_story_a_line_with_an_empty_line_between(name):
    text = read_text(name)
    assert len(text) >= NUM_BYTES[name]
    assert text.endswith("\n") and "\r" not in text
    assert all(story and "\n" not in story and story == " ".join(story.split()) for story in read_stories(name))


@pytest.mark.parametrize("name", NUM_BYTES)
def test_a_story_has_400_to_800_characters_and_closes_its_quotes(name):
    for story in read_stories(name):
        assert 400 <= len(story) <= 800
        assert story.count('"') % 2 == 0
        assert story[-1] in '.!?"'


@pytest.mark.parametrize("name", NUM_BYTES)
def test_only_letters_spaces_and_plain_punctuation_are_used(name):
    assert set("".join(read_stories(name))) <= CHARACTERS


@pytest.mark.parametrize("name", NUM_BYTES)
def test_the_model_with_105_tokens_can_write_every_character(name):
    if not STORY_TOKENIZER.exists():
        pytest.skip("needs ../shared/models, which a clone does not have")
    vocabulary = json.loads(STORY_TOKENIZER.read_text(encoding="utf-8"))["model"]["vocab"]
    assert {character.replace(" ", "▁") for story in read_stories(name) for character in story} <= set(vocabulary)


def test_no_two_stories_share_a_run_of_nine_words_but_their_openings():
    runs = []
    for story in every_story():
        words = re.findall(r"[\w']+", re.sub(r"^Once upon a time,[^.]*\.", "", story).lower())
        runs.append({tuple(words[i : i + 9]) for i in range(len(words) - 8)})
    assert sum(map(len, runs)) == len(set().union(*runs))


def test_no_two_stories_share_a_longer_sentence():
    counts = Counter(sentence for story in every_story() for sentence in set(re.findall(r"[^.!?]{30,}[.!?]", story)))
    assert [sentence for sentence, count in counts.items() if count > 1] == []
