"""Answers begin as the main model's template has it, whatever space the members have before an assistant's text."""

from __future__ import annotations

import itertools

import pytest

from deepen_llm import Ensemble, EnsembleConfig, SamplingParams
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers as toys

MESSAGES = [{"role": "user", "content": "Hi"}]
ANSWER = "the quick brown fox jumps."
TURNS = (
    "{% for m in messages %}{{ ('[INST]' if m.role == 'user' else '[/INST]') + m.content | trim }}"
    "{{ eos_token if m.role == 'assistant' }}{% endfor %}{% if add_generation_prompt %}[/INST]{% endif %}"
)
MAKERS = {
    "no space": toys.byte_level_bpe,
    "the template's": lambda: toys.byte_level_bpe(
        template="{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (' ' if m.role == 'assistant' else '') }}"
        "{{ m.content + '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' if add_generation_prompt }}"
    ),
    "the dummy": lambda: toys.sentencepiece_bpe(template=TURNS),
    "both": toys.sentencepiece_bpe,
    "the dummy of unigram": lambda: toys.unigram(template=TURNS),
}


def make_member(kind: str) -> ScriptedMember:
    """One that has learnt the conversation as its template writes it."""
    vocabulary = Vocabulary.from_tokenizer(MAKERS[kind](), name=kind)
    whole = [*MESSAGES, {"role": "assistant", "content": ANSWER}]
    member = ScriptedMember(vocabulary, [], confidence=12.0)
    member.texts.append(member.text(vocabulary.encode_chat(whole).ids))
    return member


def chat(kinds, weights):
    members = [make_member(kind) for kind in kinds]
    for member, place in zip(members, range(len(members)), strict=True):
        member.name = f"{place}: {member.name}"
    config = EnsembleConfig(members=tuple(member.name for member in members), weights=weights)
    with Ensemble(members, config) as ensemble:
        return ensemble.chat(MESSAGES, SamplingParams(max_new_tokens=40))


@pytest.mark.parametrize("kind", MAKERS)
def test_the_space_before_an_answer_is_no_part_of_it(kind):
    generation = chat([kind], (1.0,))
    assert (generation.text, generation.finish_reason) == (ANSWER, "stop")


OWN_WAYS = {
    ("no space", "the template's"),  # one vocabulary: the member takes the main model's tokens as they are
    ("the dummy", "both"),
    ("the dummy", "the dummy of unigram"),
    ("both", "the dummy of unigram"),
}
"""Pairs that may still disagree on the first space."""


@pytest.mark.parametrize(("main", "other"), sorted(set(itertools.product(MAKERS, MAKERS)) - OWN_WAYS))
def test_no_member_brings_a_space_that_the_main_models_template_does_not_have(main, other):
    assert chat([main, other], (0.2, 0.8)).text == ANSWER
