"""What an ensemble makes of a model's own generation settings."""

from __future__ import annotations

from deepen_llm.members.generation_defaults import GenerationDefaults

SETTINGS = {"eos_token_id": [2, 0], "temperature": 0.6, "suppress_tokens": list(range(10))}


def test_of_the_main_model_ends_and_suppressed_tokens_are_followed_of_others_the_ends():
    defaults = GenerationDefaults(settings=SETTINGS)
    suppressed = "suppress_tokens 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
    assert defaults.followed(is_main=True) == ["eos_token_id 2, 0", suppressed]
    assert defaults.passed_over(is_main=True) == ["temperature 0.6"]
    assert defaults.followed(is_main=False) == ["eos_token_id 2, 0"]
    assert defaults.passed_over(is_main=False) == ["temperature 0.6", suppressed]


def test_who_says_nothing_has_nothing_followed_or_passed_over():
    assert GenerationDefaults().followed(is_main=True) == GenerationDefaults().passed_over(is_main=True) == []
