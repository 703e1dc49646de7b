"""The words of a prompt that all members measured: the same bytes, however each cuts them and whatever is around."""

from __future__ import annotations

import math
import random
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepen_llm.decoding.prompt_words import (
    LEAST_MEASURED,
    MOST_MEASURED,
    SHARE_MEASURED,
    MeasuredPrompt,
    given_words,
    num_to_measure,
)
from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.words import split_words
from tests import toy_tokenizers as toys
from tests.vocabularies import TEXTS, load_toy, mixed_texts

KINDS = ("gpt2", "llama", "unigram", "tiktoken")
CHATS = ("gpt2", "llama", "unigram")
"""Those with a chat template of their own: ChatML, and twice that of Llama 2."""
STORY = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all."
QUESTION = "What is the capital of France?"


def measure(vocabulary, prompt, num=None, seed=0):
    """A prompt whose last tokens cost any number of nats each, by default all but the first."""
    rng = random.Random(seed * 1000 + len(prompt.ids))
    most = len(prompt.ids) - 1
    num = most if num is None else min(num, most)
    return MeasuredPrompt(vocabulary, prompt.ids, [-rng.uniform(0.1, 9.0) for _ in range(num)])


def measure_all(names, text, num=None):
    vocabularies = [load_toy(name) for name in names]
    return [measure(one, one.encode_prompt(text), num, seed) for seed, one in enumerate(vocabularies)]


def measure_chat(names, messages, num=None):
    vocabularies = [load_toy(name) for name in names]
    return [measure(one, one.encode_chat(messages), num, seed) for seed, one in enumerate(vocabularies)]


def ends_of(prompt):
    """Where each token ends; what is no text takes one byte."""
    return list(accumulate(len(prompt.vocabulary.tokens[token_id] or b"?") for token_id in prompt.ids))


def spell(prompt):
    return b"".join(prompt.vocabulary.tokens[token_id] or b"\xff" for token_id in prompt.ids)


def recompute(prompts, begins, text):
    """The words of one text that begins at a byte of each prompt, token by token: [(bytes, nats of each member)]."""
    shared = []
    for end in [0, *split_words(text)]:
        known = []
        for prompt, begin in zip(prompts, begins, strict=True):
            ends = ends_of(prompt)
            known.append(begin + end in ends[len(ends) - len(prompt.logprobs) - 1 :])
        if all(known):
            shared.append(end)
    words = []
    for left, right in pairwise(shared):
        nats = []
        for prompt, begin in zip(prompts, begins, strict=True):
            ends, total = ends_of(prompt), 0.0
            for place, end in enumerate(ends):
                if begin + left < end <= begin + right:
                    total += prompt.logprobs[place - (len(ends) - len(prompt.logprobs))]
            nats.append(total)
        words.append((right - left, tuple(nats)))
    return words


def check(words, expected):
    assert [word.num_bytes for word in words] == [num for num, _ in expected]
    for word, (_, nats) in zip(words, expected, strict=True):
        assert word.logprobs == pytest.approx(nats)


@pytest.mark.parametrize("num", [None, 1, 5, LEAST_MEASURED])
@pytest.mark.parametrize("names", [("gpt2",), ("gpt2", "llama"), KINDS, ("gpt2", "gpt2", "cl100k")])
def test_the_words_of_a_prompt_are_given_what_its_tokens_cost(names, num):
    prompts = measure_all(names, STORY, num)
    begins = [spell(prompt).find(STORY.encode()) for prompt in prompts]
    words = given_words(prompts, (STORY,))
    check(words, recompute(prompts, begins, STORY))
    if num is None or num >= LEAST_MEASURED:
        assert len(words) >= 3


def test_all_but_what_the_first_token_holds_counts_where_everything_is_measured():
    (prompt,) = measure_all(["gpt2"], STORY)
    words = given_words([prompt], (STORY,))
    first = len(prompt.vocabulary.tokens[prompt.ids[0]])
    begun = next(end for end in split_words(STORY) if end >= first and end in ends_of(prompt))
    assert sum(word.num_bytes for word in words) == len(STORY) - begun
    counted = [nats for end, nats in zip(ends_of(prompt)[1:], prompt.logprobs, strict=True) if end > begun]
    assert sum(word.logprobs[0] for word in words) == pytest.approx(sum(counted))


def test_behind_a_bos_the_first_word_counts_too():
    (prompt,) = measure_all(["llama, never"], STORY)
    words = given_words([prompt], (STORY,))
    assert sum(word.num_bytes for word in words) == len(STORY)
    assert sum(word.logprobs[0] for word in words) == pytest.approx(sum(prompt.logprobs))


@pytest.mark.parametrize("script", TEXTS)
def test_words_are_compared_in_every_script(script):
    text = TEXTS[script]
    prompts = measure_all(KINDS, text)
    content = text.strip()
    begins = [spell(prompt).find(content.encode()) for prompt in prompts]
    words = given_words(prompts, (text,))
    if min(begins) < 0:
        assert not words
        return
    check(words, recompute(prompts, begins, content))
    assert sum(word.num_bytes for word in words) <= len(content.encode())


@settings(deadline=None)
@given(mixed_texts().filter(bool), st.integers(1, 40))
def test_words_are_those_of_a_literal_recomputation(text, num):
    prompts = measure_all(("gpt2", "llama", "tiktoken"), text, num)
    content = text.strip()
    begins = [spell(prompt).find(content.encode()) for prompt in prompts]
    words = given_words(prompts, (text,))
    if not content or min(begins) < 0:
        assert words == []
    else:
        check(words, recompute(prompts, begins, content))


def test_words_that_a_member_does_not_cut_apart_count_as_one():
    vocabulary = load_toy("tiktoken")
    ids = tuple(vocabulary.ids_by_token[token] for token in (b"x", b" w", b"or", b"ld", b" the", b"  ", b"y"))
    cut = MeasuredPrompt(vocabulary, ids, [-1.0, -2.0, -4.0, -8.0, -16.0, -32.0])
    words = given_words([cut], ("x world the  y",))
    # " world" is one token's space and three tokens; the space stands for itself only where a token ends.
    check(words, [(6, (-7.0,)), (4, (-8.0,)), (2, (-16.0,)), (1, (-32.0,))])


MESSAGES = (
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": "The capital of France is Paris."},
    {"role": "user", "content": "Once upon a time there was a little girl."},
)
CONTENTS = tuple(message["content"] for message in MESSAGES)


@pytest.mark.parametrize("num", [None, 40, 60])
@pytest.mark.parametrize("names", [CHATS, CHATS[:2], CHATS[1:]])
def test_in_chat_templates_only_what_people_wrote_is_compared(names, num):
    prompts = measure_chat(names, MESSAGES, num)
    assert len({spell(prompt) for prompt in prompts}) > 1
    expected = []
    for content in CONTENTS:
        expected += recompute(prompts, [spell(prompt).find(content.encode()) for prompt in prompts], content)
    words = given_words(prompts, CONTENTS)
    check(words, expected)
    assert words and sum(word.num_bytes for word in words) <= sum(map(len, CONTENTS))
    if num is None:
        assert sum(word.num_bytes for word in words) > sum(map(len, CONTENTS)) - 30


def test_a_content_that_comes_twice_is_compared_where_it_stands_each_time():
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "Paris."}]
    messages += [{"role": "user", "content": QUESTION}]
    prompts = measure_chat(CHATS, messages)
    twice = QUESTION.encode()
    firsts = [spell(prompt).find(twice) for prompt in prompts]
    seconds = [spell(prompt).find(twice, first + 1) for prompt, first in zip(prompts, firsts, strict=True)]
    answers = [spell(prompt).find(b"Paris.") for prompt in prompts]
    assert min(seconds) > 0
    expected = [
        *recompute(prompts, firsts, QUESTION),
        *recompute(prompts, answers, "Paris."),
        *recompute(prompts, seconds, QUESTION),
    ]
    check(given_words(prompts, (QUESTION, "Paris.", QUESTION)), expected)
    assert recompute(prompts, firsts, QUESTION)[-1][1] != recompute(prompts, seconds, QUESTION)[-1][1]


@pytest.mark.parametrize("around", [" {}", "{} ", "\n\n  {}\t\n"])
def test_what_a_template_strips_is_not_compared_and_what_it_leaves_is(around):
    content = around.format(QUESTION)
    prompts = measure_chat(CHATS, [{"role": "user", "content": content}])
    begins = [spell(prompt).find(QUESTION.encode()) for prompt in prompts]
    words = given_words(prompts, (content,))
    assert words
    check(words, recompute(prompts, begins, QUESTION))


def test_a_message_that_a_template_leaves_out_is_passed_over():
    template = (
        "{% for message in messages %}{% if message['role'] != 'assistant' %}<|im_start|>"
        "{{ message['content'] | trim }}<|im_end|>{% endif %}{% endfor %}"
    )
    drops = Vocabulary.from_tokenizer(toys.byte_level_bpe(template=template), name="drops")
    keeps = load_toy("gpt2")
    messages = [{"role": "assistant", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    prompts = [measure(one, one.encode_chat(messages), seed=at) for at, one in enumerate((drops, keeps))]
    words = given_words(prompts, ("Be brief.", QUESTION))
    check(words, recompute(prompts, [spell(prompt).find(QUESTION.encode()) for prompt in prompts], QUESTION))
    assert words


def test_text_that_a_member_spells_otherwise_is_not_compared():
    normalizes = Vocabulary.from_tokenizer(toys.byte_level_bpe(nfc=True), name="nfc")
    keeps = load_toy("gpt2")
    spelled = "nai\u0308ve cafe\u0301 of the quick brown fox"  # which NFC makes shorter
    prompts = [measure(one, one.encode_prompt(spelled)) for one in (normalizes, keeps)]
    assert given_words(prompts, (spelled,)) == []
    assert given_words(prompts[1:], (spelled,))
    messages = [{"role": "user", "content": spelled}, {"role": "user", "content": QUESTION}]
    prompts = [measure(one, one.encode_chat(messages)) for one in (normalizes, keeps)]
    begins = [spell(prompt).find(QUESTION.encode()) for prompt in prompts]
    words = given_words(prompts, (spelled, QUESTION))
    assert words
    check(words, recompute(prompts, begins, QUESTION))


@pytest.mark.parametrize("name", ["llama without bytes", "unigram without bytes"])
@pytest.mark.parametrize("text", ["the ⁂⁂ fox", "⁂", "᚛᚛ᚉ", "the fox ⁂"])
def test_characters_that_a_member_does_not_know_are_not_compared(name, text):
    prompts = measure_all(["gpt2", name], text)
    assert prompts[1].vocabulary.unk_id in prompts[1].ids
    assert given_words(prompts, (text,)) == []


def test_other_messages_count_where_one_has_a_script_that_a_member_lacks():
    names = ("gpt2", "llama without bytes")
    messages = [{"role": "user", "content": "᚛᚛ᚉ ⁂"}, {"role": "assistant", "content": "I see."}]
    messages += [{"role": "user", "content": QUESTION}]
    prompts = measure_chat(names, messages)
    contents = tuple(message["content"] for message in messages)
    expected = []
    for content in contents[1:]:
        expected += recompute(prompts, [spell(prompt).find(content.encode()) for prompt in prompts], content)
    words = given_words(prompts, contents)
    assert words
    check(words, expected)


@pytest.mark.parametrize("text", ["a", " ", "\n", "é", "世"])
def test_a_prompt_of_one_character_tells_of_it_only_behind_a_token(text):
    prompts = measure_all(KINDS, text)
    assert given_words(prompts, (text,)) == []  # some have nothing before it
    (behind_bos,) = measure_all(["llama, never"], text)
    words = given_words([behind_bos], (text,))
    assert [word.num_bytes for word in words] == ([len(text.encode())] if text.strip() else [])


@pytest.mark.parametrize("contents", [(), ("",), (" \n",), ("the",)])
def test_a_prompt_of_only_special_tokens_has_no_words(contents):
    vocabulary = load_toy("llama")
    ids = (vocabulary.bos_id, *sorted(vocabulary.special_ids)[:2])
    prompt = MeasuredPrompt(vocabulary, ids, [-1.0] * (len(ids) - 1))
    assert given_words([prompt, prompt], contents) == []
    assert prompt.text == b"\xff" * len(ids)


def test_a_special_token_inside_a_content_is_no_text_and_breaks_it():
    vocabulary = load_toy("gpt2")
    left, right = (vocabulary.encode(part, at_start=False) for part in ("the quick", " brown fox"))
    ids = (*left, vocabulary.eos_ids[0], *right)
    prompt = MeasuredPrompt(vocabulary, ids, [-1.0] * (len(ids) - 1))
    assert given_words([prompt], ("the quick brown fox",)) == []
    assert given_words([prompt], ("brown fox",))


def test_a_prompt_of_which_nothing_was_measured_has_no_words():
    vocabulary = load_toy("gpt2")
    ids = tuple(vocabulary.encode(STORY))
    assert given_words([MeasuredPrompt(vocabulary, ids, [])], (STORY,)) == []
    whole = MeasuredPrompt(vocabulary, ids, [-1.0] * (len(ids) - 1))
    assert given_words([whole, MeasuredPrompt(vocabulary, ids, [])], (STORY,)) == []


def test_what_a_member_rules_out_stays_ruled_out():
    vocabulary = load_toy("gpt2")
    ids = tuple(vocabulary.encode("the the the"))
    prompt = MeasuredPrompt(vocabulary, ids, [-1.0] * (len(ids) - 2) + [-math.inf])
    words = given_words([prompt], ("the the the",))
    assert words[-1].logprobs == (-math.inf,)
    assert all(math.isfinite(word.logprobs[0]) for word in words[:-1])


def test_a_third_of_a_prompt_is_measured_but_neither_little_nor_without_end():
    assert [num_to_measure(num) for num in (1, 24, 72, 75, 300, 384, 10_000)] == [24, 24, 24, 25, 100, 128, 128]
    for num in range(1, 2000):
        assert LEAST_MEASURED <= num_to_measure(num) <= MOST_MEASURED
        assert num_to_measure(num) in (LEAST_MEASURED, MOST_MEASURED, num // SHARE_MEASURED)


@pytest.mark.parametrize("repeats", [1, 4, 12])
def test_within_the_budget_the_end_of_a_prompt_is_compared(repeats):
    text = " ".join([STORY] * repeats)
    prompts = []
    for seed, name in enumerate(KINDS):
        vocabulary = load_toy(name)
        prompt = vocabulary.encode_prompt(text)
        prompts.append(measure(vocabulary, prompt, num_to_measure(len(prompt.ids)), seed))
    begins = [spell(prompt).find(text.encode()) for prompt in prompts]
    words = given_words(prompts, (text,))
    check(words, recompute(prompts, begins, text))
    least = min(ends_of(prompt)[-1] - ends_of(prompt)[-len(prompt.logprobs) - 1] for prompt in prompts)
    assert 8 <= sum(word.num_bytes for word in words) <= least
