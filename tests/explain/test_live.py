"""Tokens as they come are those of the whole answer."""

from __future__ import annotations

import pytest

from deepen_llm import SamplingParams
from deepen_llm.explain import explain_answer
from deepen_llm.explain.live import LiveExplanation

STORY = "the cat sat on the mat. café 🙂 — naïve.\nthe dog ran home."


def follow(ensemble, prompt, **changes):
    """The tokens of each chunk, the text that was released up to there, and the tokens of the whole answer."""
    live, text, trace = LiveExplanation(ensemble), "", []
    told = []
    with ensemble.stream(prompt, SamplingParams(trace=True, **changes)) as stream:
        for chunk in stream:
            text += chunk.text
            trace += chunk.trace or ()
            told.append((list(live.push(chunk)), text))
    return told, explain_answer(ensemble, prompt, text, trace).tokens


@pytest.mark.parametrize("kinds", [("bpe", "sentencepiece"), ("sentencepiece", "bpe"), ("unigram", "bpe")])
@pytest.mark.parametrize("prompt", ["the cat sat", "the c", "the cat sat on the mat. café "])
@pytest.mark.parametrize(
    "changes", [{}, {"stop": "mat"}, {"stop": "the dog"}, {"max_new_tokens": 2}, {"stop": ("zzz", "home. and")}]
)
def test_they_are_the_same_one_by_one(make_ensemble, kinds, prompt, changes):
    told, whole = follow(make_ensemble([STORY], kinds=kinds), prompt, **changes)
    assert tuple(token for tokens, _ in told for token in tokens) == whole


def test_a_dummy_space_belongs_to_no_token(make_ensemble):
    told, whole = follow(make_ensemble([STORY], kinds=("sentencepiece", "unigram")), "")
    assert tuple(token for tokens, _ in told for token in tokens) == whole
    assert whole[0].text == "the"


def test_a_token_comes_with_the_piece_that_releases_its_text(make_ensemble):
    told, _ = follow(make_ensemble([STORY]), "the cat sat", stop=("mat. zzz",))
    so_far = ""
    for tokens, text in told:
        so_far += "".join(token.text for token in tokens)
        assert text.startswith(so_far)
        assert len(text) - len(so_far) < len("mat. zzz")
    assert so_far == text


def test_what_a_stop_string_may_yet_take_away_is_waited_for(make_ensemble):
    told, _ = follow(make_ensemble([STORY]), "the cat sat", stop="mat")
    *before, (last, _) = told
    assert not any(token.cut_text for tokens, _ in before for token in tokens)
    assert "".join(token.cut_text for token in last).startswith("mat")
