"""What members have read already is not read again, and no answer is another for it."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack

import pytest
import torch

from deepen_llm import Ensemble, EnsembleConfig, FusionConfig, SamplingParams
from deepen_llm.errors import MemberError
from deepen_llm.members.borrowed import BorrowedMember
from deepen_llm.starter import find_models
from deepen_llm.testing import FaultyMember, ScriptedMember
from deepen_llm.testing.faulty import always, once, raising, returning

STORY = (
    "The quick brown fox jumps over the lazy dog, and the cat sat on the mat until the sun went down. Nobody in the "
    "town has ever seen who drives the red car through the night, but the dog knows it by its sound. "
)
END = "In the end they all sat down, and the fox told them of the sea and of the boats that come and go."
TEXT = STORY + END
PROMPT = STORY + "In the end"
KINDS = ("bpe", "sentencepiece")
PATIENCE_S = 10.0
WEIGHTS = {"kind": "adaptive", "prior": (0.6, 0.4)}


@pytest.fixture(scope="module")
def loaded():
    """Three real models with tokenizers of their own, in float32."""
    members = [config.replace(dtype="float32").load() for config in find_configs()]
    yield members
    for member in members:
        member.close()


def find_configs():
    return EnsembleConfig(members=tuple(map(str, find_models(None)))).members


@pytest.fixture
def make_both(loaded):
    """The same ensemble with and without what is kept."""
    with ExitStack() as stack:

        def make(num_members=3, **settings):
            configs = find_configs()[:num_members]
            members = loaded[:num_members]
            return [
                stack.enter_context(
                    Ensemble(
                        [BorrowedMember(member) for member in members],
                        EnsembleConfig(members=configs, prefix_cache_bytes=num_bytes, **settings),
                    )
                )
                for num_bytes in (1 << 30, 0)
            ]

        yield make


def chat_twice(ensemble, **params):
    """A chat of three turns, and another one that begins alike."""
    params = SamplingParams(**{"max_new_tokens": 8, "trace": True, **params})
    messages = [{"role": "user", "content": STORY + "What did the fox do?"}]
    answers = []
    for question in ("And who saw it?", "Why?"):
        answers.append(ensemble.chat(messages, params))
        messages += [{"role": "assistant", "content": answers[-1].text}, {"role": "user", "content": question}]
    answers.append(ensemble.chat(messages, params))
    answers.append(ensemble.chat([messages[0] | {"content": STORY + "What did the dog know?"}], params))
    return [one for answer in answers for one in answer.answers]


def check_equal(kept, plain):
    """The same answers, for the same reasons."""
    assert [answer.text for answer in kept] == [answer.text for answer in plain]
    assert [answer.token_ids for answer in kept] == [answer.token_ids for answer in plain]
    for one, other in zip(kept, plain, strict=True):
        assert one.fusion.weights == pytest.approx(other.fusion.weights, abs=1e-3)
        assert [step.weights for step in one.trace or ()] == [
            pytest.approx(step.weights, abs=1e-3) for step in other.trace or ()
        ]


SETTINGS = {
    "adaptive weights": {},
    "the prompt read": {"weights": "prompt"},
    "fixed weights": {"weights": (0.5, 0.3, 0.2)},
    "safe": {"fusion": FusionConfig(method="text", fuse="safe")},
    "relative": {"fusion": FusionConfig(method="relative", reading="token")},
    "another main model": {"main": 1},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_turns_of_a_chat_are_answered_the_same_and_read_once(make_both, name):
    kept, plain = map(chat_twice, make_both(**SETTINGS[name]))
    check_equal(kept, plain)
    assert [answer.usage.cached_tokens for answer in plain] == [0] * 4
    for answer in kept[1:]:
        assert answer.usage.cached_tokens > 60
        assert len(answer.fusion.num_cached) == 3
    main = SETTINGS[name].get("main", 0)
    assert kept[1].fusion.num_cached[main] == kept[1].usage.cached_tokens


PARAMS = {
    "drawn": {"temperature": 1.0, "seed": 7},
    "several": {"temperature": 1.0, "seed": 7, "n": 3},
    "a regular expression": {"regex": "(yes|no), because the (dog|cat|fox) [a-z ]+\\."},
    "a schema": {"json_schema": {"type": "object", "properties": {"animal": {"type": "string", "maxLength": 9}}}},
    "penalties": {"repetition_penalty": 1.3},
    "logprobs": {"logprobs": 2},
}


@pytest.mark.parametrize("name", PARAMS)
def test_answers_of_every_kind_are_the_same(make_both, name):
    kept, plain = (chat_twice(ensemble, **PARAMS[name]) for ensemble in make_both(2))
    check_equal(kept, plain)
    assert kept[-1].usage.cached_tokens > 60


def test_prompts_that_come_at_once_are_answered_the_same(make_both):
    prompts = [STORY + STORY + end for end in ("The dog", "The dog", "The cat and the", "A fox", "The")] + [
        "The sun",
        STORY + STORY,
    ]
    answers = [ensemble.generate(prompts, SamplingParams(max_new_tokens=9)) for ensemble in make_both()]
    check_equal(*answers)
    assert [answer.usage.cached_tokens > 60 for answer in answers[0]] == [False, True, True, True, True, False, True]


def test_scores_are_the_same(make_both):
    pairs = [(STORY + "The animal is a", end) for end in (" dog.", " cat.", " fox and a dog.")]
    kept, plain = (ensemble.score_batch(pairs) for ensemble in make_both())
    assert [score.logprob for score in kept] == pytest.approx([score.logprob for score in plain], abs=1e-3)
    assert [score.fusion.num_cached[0] > 60 for score in kept] == [False, True, True]


@pytest.fixture
def make(vocabularies):
    """An ensemble of scripted members that can fork, which may be told to fail."""
    with ExitStack() as stack:

        def make(**settings):
            members = [
                FaultyMember(ScriptedMember(vocabularies[kind], [TEXT], seed=at, can_fork=True, context_length=4096))
                for at, kind in enumerate(KINDS)
            ]
            config = EnsembleConfig(members=KINDS, **{"weights": WEIGHTS, **settings})
            return stack.enter_context(Ensemble(members, config))

        yield make


def ask(ensemble, prompt=PROMPT, **params):
    return ensemble.generate(prompt, SamplingParams(**{"timeout_s": PATIENCE_S, **params}))


def count_fed(ensemble):
    """How many tokens each member was fed."""
    return [sum(len(ids) for fed in m.member.passes for ids in fed.values()) for m in ensemble.members]


def held(ensemble):
    """The tokens of the rows that each member has set aside."""
    return [list(member.member.parked.values()) for member in ensemble.members]


def test_the_next_request_reads_only_what_is_new(make):
    ensemble = make()
    first = ask(ensemble, max_new_tokens=5)
    before = count_fed(ensemble)
    second = ask(ensemble, PROMPT + first.text + TEXT[len(PROMPT + first.text) :][:9], max_new_tokens=1)
    assert TEXT.startswith(PROMPT + first.text) and second.text
    assert all(now - then < 60 for now, then in zip(count_fed(ensemble), before, strict=True))
    assert second.usage.cached_tokens > 60


def test_several_answers_read_their_prompt_once(make):
    once_read, often = make(), make()
    ask(once_read, max_new_tokens=1)
    answers = ask(often, max_new_tokens=1, n=4, temperature=1.0, seed=3).answers
    num_prompt = answers[0].usage.prompt_tokens
    assert [answer.usage.cached_tokens for answer in answers] == [0, *[num_prompt - 1] * 3]
    for alone, four in zip(count_fed(once_read), count_fed(often), strict=True):
        assert alone <= four <= alone + 4 * 3


def test_of_an_answer_that_runs_a_new_request_takes_the_beginning(make):
    ensemble = make()
    with ensemble.stream(PROMPT, SamplingParams(timeout_s=PATIENCE_S)) as stream:
        pieces = [next(stream).text]
        assert ask(ensemble, max_new_tokens=3).usage.cached_tokens > 60
        pieces += [chunk.text for chunk in stream]
    assert PROMPT + "".join(pieces) == TEXT


def test_a_row_takes_the_place_of_those_whose_tokens_it_holds(make):
    ensemble = make()
    for num in (2, 6, 6, 4):
        ask(ensemble, max_new_tokens=num)
    assert [len(rows) for rows in held(ensemble)] == [1, 1]
    assert all(len(rows[0]) > 60 for rows in held(ensemble))


def test_requests_that_begin_nearly_alike_begin_behind_the_same_row(make):
    ensemble = make()
    ends = (" they", " the", " all")
    for end in ends:
        ask(ensemble, PROMPT + end, max_new_tokens=1)
    for member in ensemble.members:
        member.member.forks.clear()
    ensemble.generate([PROMPT + end + " sat" for end in ends], SamplingParams(max_new_tokens=1))
    for member in ensemble.members:
        assert len(member.member.forks) == 3
        assert len({row for row, _ in member.member.forks}) == 1


def test_the_rows_that_were_used_last_stay_within_the_limit(make):
    texts = [f"{number} {PROMPT}" for number in range(4)]
    ensemble = make()
    for text in texts[:2]:
        ask(ensemble, text, max_new_tokens=1)
    limit = ensemble._engine._stepper.prefixes.num_bytes + 60  # of other digits there may be more tokens
    ensemble = make(prefix_cache_bytes=limit)
    for at in (0, 1, 0, 2):
        ask(ensemble, texts[at], max_new_tokens=1)
    assert ensemble._engine._stepper.prefixes.num_bytes <= limit
    cached = [ask(ensemble, texts[at], max_new_tokens=1).usage.cached_tokens for at in (0, 2, 1)]
    assert cached[0] > 60 and cached[1] > 60 and cached[2] == 0


def test_a_row_larger_than_the_limit_is_not_kept(make):
    ensemble = make(prefix_cache_bytes=100)
    ask(ensemble)
    assert held(ensemble) == [[], []]


def test_with_no_memory_for_it_every_row_begins_empty(make):
    ensemble = make(prefix_cache_bytes=0)
    for _ in range(2):
        assert [answer.usage.cached_tokens for answer in ask(ensemble, n=2, temperature=1.0).answers] == [0, 0]
    assert held(ensemble) == [[], []]
    assert not any(member.member.forks for member in ensemble.members)


def test_a_few_tokens_in_common_are_read_again(make):
    ensemble = make()
    for end in (" went", " came"):
        assert ask(ensemble, TEXT[:60] + end, max_new_tokens=1).usage.cached_tokens == 0


def test_closing_frees_what_is_kept_of_members_that_stay(vocabularies):
    lender = ScriptedMember(vocabularies["bpe"], [TEXT], can_fork=True)
    with Ensemble([BorrowedMember(lender)], EnsembleConfig(members=("bpe",))) as ensemble:
        ensemble.generate(PROMPT)
        assert lender.parked
    assert not lender.parked and not lender.rows


def test_an_answer_that_was_stopped_is_gone_on_with(make):
    ensemble = make()
    with ensemble.stream(PROMPT, SamplingParams(timeout_s=PATIENCE_S)) as stream:
        next(stream)
    wait_until_idle(ensemble)
    assert ask(ensemble, max_new_tokens=1).usage.cached_tokens > 60


def wait_until_idle(ensemble):
    end = time.monotonic() + PATIENCE_S
    while ensemble.num_running and time.monotonic() < end:
        time.sleep(0.002)
    assert ensemble.num_running == 0


FAULTS = {
    "fork raises": ("fork", raising(ValueError("no"))),
    "fork panics": ("fork", raising(SystemExit(1))),
    "fork gives text": ("fork", returning("row")),
    "fork gives nothing": ("fork", returning(None)),
    "park raises": ("park", raising(MemoryError("full"))),
    "park gives nothing": ("park", returning(None)),
    "park gives less than nothing": ("park", returning(-1)),
}


@pytest.mark.parametrize("at", [0, 1], ids=["main", "other"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_member_that_cannot_copy_costs_no_answer(make, name, at):
    ensemble = make()
    ensemble.members[at].choose = always(*FAULTS[name])
    assert PROMPT + ask(ensemble).text == TEXT
    several = ask(ensemble, max_new_tokens=4, n=3, temperature=1e-3, seed=1).answers
    assert all(TEXT.startswith(PROMPT + answer.text) for answer in several)
    assert [member.num_open for member in ensemble.members] == [0, 0]
    ensemble.members[at].choose = lambda operation: None
    answers = [ask(ensemble, max_new_tokens=3) for _ in range(2)]
    assert all(TEXT.startswith(PROMPT + answer.text) for answer in answers)
    assert answers[1].usage.cached_tokens > 60


def test_where_memory_runs_out_what_is_kept_is_given_up(make):
    ensemble = make()
    ask(ensemble)
    assert all(held(ensemble))
    ensemble.members[0].choose = once("result", raising(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(MemberError, match="out of memory"):
        ask(ensemble, "The quick brown")
    assert held(ensemble) == [[], []]


def test_a_row_of_a_request_that_failed_is_not_kept_and_not_begun_behind(make):
    ensemble = make()
    ensemble.members[1].choose = once("result", lambda call: call() * float("nan"))
    with pytest.raises(Exception, match="NaN"):
        ask(ensemble)
    assert held(ensemble) == [[], []]
    assert PROMPT + ask(ensemble).text == TEXT


def test_a_member_that_cannot_fork_reads_everything_beside_one_that_can(vocabularies):
    members = [
        ScriptedMember(vocabularies[kind], [TEXT], seed=at, can_fork=kind == "bpe") for at, kind in enumerate(KINDS)
    ]
    with Ensemble(members, EnsembleConfig(members=KINDS, weights=WEIGHTS)) as ensemble:
        for _ in range(2):
            answer = ensemble.generate(PROMPT)
    assert PROMPT + answer.text == TEXT
    assert answer.fusion.num_cached[0] > 60 and answer.fusion.num_cached[1] == 0


def test_what_was_cached_is_part_of_no_comparison(make):
    first, second = (ask(make_one) for make_one in [make()] * 2)
    assert first.usage.cached_tokens != second.usage.cached_tokens
    assert first == second and json.dumps(first.token_ids) == json.dumps(second.token_ids)
