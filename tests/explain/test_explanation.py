from __future__ import annotations

import pytest

from deepen_llm import SamplingParams
from deepen_llm.explain import explain_answer
from deepen_llm.explain.deciding import Decision

STORY = "the cat sat on the mat. café 🙂 — naïve.\nthe dog ran home."
TRACED = SamplingParams(trace=True)


def explain(ensemble, prompt, **changes):
    generation = ensemble.generate(prompt, TRACED.replace(**changes))
    return generation, explain_answer(ensemble, prompt, generation.text, generation.trace)


@pytest.mark.parametrize("kinds", [("bpe", "sentencepiece"), ("sentencepiece", "bpe"), ("unigram", "bpe")])
@pytest.mark.parametrize("prompt", ["the cat sat", "the c", "the cat sat on "])
def test_the_tokens_texts_join_to_the_answer(make_ensemble, kinds, prompt):
    generation, explanation = explain(make_ensemble([STORY], kinds=kinds), prompt)
    assert "".join(token.text for token in explanation.tokens) == generation.text == STORY.removeprefix(prompt)
    assert len(explanation.tokens) == len(generation.token_ids)
    assert not any(token.cut_text for token in explanation.tokens)


def test_a_dummy_space_that_the_answer_does_not_have_belongs_to_no_token(make_ensemble):
    generation, explanation = explain(make_ensemble([STORY], kinds=("sentencepiece", "unigram")), "")
    assert generation.text == STORY
    assert "".join(token.text for token in explanation.tokens) == STORY
    assert explanation.asked == (("", ""),)


def test_the_end_of_sequence_is_told_and_has_no_text(make_ensemble):
    _, explanation = explain(make_ensemble([STORY]), "the cat sat")
    *before, last = explanation.tokens
    assert last.is_end and last.text == ""
    assert not any(token.is_end for token in before)


def test_parts_of_a_character_have_no_text_until_it_is_whole(make_ensemble):
    _, explanation = explain(make_ensemble([STORY], kinds=("sentencepiece", "bpe")), "the cat sat on the mat. café ")
    texts = [token.text for token in explanation.tokens]
    at = next(index for index, text in enumerate(texts) if "🙂" in text)
    assert texts[at - 3 : at] == ["", "", ""]


def test_bytes_that_never_become_a_character_end_as_the_answer_ends(make_ensemble):
    ensemble = make_ensemble([STORY], kinds=("sentencepiece", "bpe"))
    generation, explanation = explain(ensemble, "the cat sat on the mat. café ", max_new_tokens=2)
    assert generation.text.endswith("\ufffd")
    assert "".join(token.text for token in explanation.tokens) == generation.text


def test_what_a_stop_string_took_away_is_kept_apart(make_ensemble):
    generation, explanation = explain(make_ensemble([STORY]), "the cat sat", stop="mat")
    assert generation.text == " on the "
    assert "".join(token.text for token in explanation.tokens) == generation.text
    cut = "".join(token.cut_text for token in explanation.tokens)
    assert cut.startswith("mat")


def test_members_come_with_weights_and_the_main_model_is_told(make_ensemble):
    ensemble = make_ensemble([STORY], kinds=("bpe", "unigram"), weights=(0.25, 0.75), main="unigram")
    _, explanation = explain(ensemble, "the cat")
    assert [(m.name, m.weight, m.is_main) for m in explanation.members] == [
        ("bpe", 0.25, False),
        ("unigram", 0.75, True),
    ]


def test_the_weights_of_this_answer_come_before_those_of_the_ensemble(make_ensemble):
    ensemble = make_ensemble([STORY], kinds=("bpe", "unigram"), weights=(0.25, 0.75))
    explanation = explain_answer(ensemble, "the cat", "", [], weights=(0.5, 0.5))
    assert [member.weight for member in explanation.members] == [0.5, 0.5]


def test_weights_are_those_of_the_last_step_or_those_that_a_request_begins_with(make_ensemble):
    prior = {"kind": "adaptive", "prior": (0.25, 0.75)}
    ensemble = make_ensemble([STORY], kinds=("bpe", "unigram"), texts_of={"unigram": ["?"]}, weights=prior)
    generation = ensemble.generate("the cat sat", TRACED)
    trace = generation.trace
    assert ensemble.prior_weights == (0.25, 0.75)

    def weights(*args, **options):
        members = explain_answer(ensemble, "the cat sat", *args, **options).members
        return [member.first_weight for member in members], [member.weight for member in members]

    assert weights("", []) == ([None, None], [0.25, 0.75])
    first, last = map(list, (trace[0].weights, generation.fusion.weights))
    assert first != last
    assert weights(generation.text, trace) == (first, list(trace[-1].weights))
    assert weights(generation.text, trace, weights=generation.fusion.weights) == (first, last)


def test_the_curve_ends_with_the_last_weights(make_ensemble):
    ensemble = make_ensemble([STORY], texts_of={"sentencepiece": ["?"]}, weights="adaptive")
    generation = ensemble.generate("the cat sat", TRACED)
    given = generation.fusion.weights
    explanation = explain_answer(ensemble, "the cat sat", generation.text, generation.trace, weights=given)
    curve = explanation.weight_curve
    assert curve.names == ensemble.member_names
    assert [weights for _, weights in curve.points] == [*(step.weights for step in generation.trace), given]
    assert not curve.is_level


def test_counts_add_up_and_put_several_members_together(make_ensemble):
    _, explanation = explain(make_ensemble([STORY], kinds=("bpe", "sentencepiece", "unigram")), "the cat")
    assert sum(explanation.counts.values()) == len(explanation.tokens)
    assert explanation.counts[Decision("agreed", ())] > 0
    assert all(not key.members for key in explanation.counts if key.kind in ("agreed", "overruled", "fusion"))


def test_each_member_is_told_which_of_its_tokens_reads_as_the_chosen_one(make_ensemble):
    _, explanation = explain(make_ensemble([STORY]), "the cat sat")
    end = explanation.tokens[-1]
    assert all(end.matches[member.name][0] for member in explanation.members), "ends of sequence read alike"
    for token in explanation.tokens:
        for view in token.step.members:
            assert len(token.matches[view.member]) == len(view.top)
        if token.decision.kind == "main":
            assert token.matches["bpe"][0]


def test_steps_count_as_fused_unless_the_trace_says_otherwise(make_ensemble):
    _, explanation = explain(make_ensemble([STORY]), "the cat sat")
    assert explanation.num_fused == sum(token.is_fused for token in explanation.tokens)
    assert explanation.num_fused == len(explanation.tokens)


def test_a_token_that_was_drawn_against_the_odds_is_told(make_ensemble):
    ensemble = make_ensemble([STORY])
    assert all(token.is_best for token in explain(ensemble, "the cat")[1].tokens)
    _, drawn = explain(ensemble, "the cat", temperature=5.0, seed=3, max_new_tokens=20)
    assert not all(token.is_best for token in drawn.tokens)


def test_a_chat_is_told_turn_by_turn(make_ensemble):
    ensemble = make_ensemble([STORY])
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    generation = ensemble.chat(messages, TRACED.replace(max_new_tokens=4))
    explanation = explain_answer(ensemble, messages, generation.text, generation.trace)
    assert explanation.asked == (("system", "be brief"), ("user", "hello"))
