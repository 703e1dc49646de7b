"""The engine and its face, over scripted members of every kind of tokenizer."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from deepen_llm import Ensemble, FusionConfig, SamplingParams
from deepen_llm.config import EnsembleConfig, MemberConfig
from deepen_llm.errors import (
    ClosedError,
    ConfigError,
    ContextLengthError,
    MemberError,
    NumericalError,
    PromptError,
    VocabularyError,
)
from deepen_llm.members.borrowed import BorrowedMember
from deepen_llm.requests.messages import encode_chat
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers

STORY = "The quick brown fox jumps over the lazy dog. Привет, мир! 今天 👍🏽 naïve café 3.14159\n\tdone"
OTHERS = [
    "Once upon a time there was a girl.",
    "What is the capital of France? Paris.",
    "def add(left, right):\n    return",
]
TEXTS = [STORY, *OTHERS]
KINDS = [("bpe", "sentencepiece"), ("sentencepiece", "bpe"), ("unigram", "bpe", "sentencepiece"), ("bpe",)]


def wait_until_idle(ensemble, seconds=5.0):
    end = time.monotonic() + seconds
    while (ensemble.num_running or any(member.rows for member in ensemble.members)) and time.monotonic() < end:
        time.sleep(0.005)
    assert ensemble.num_running == 0
    assert not any(member.rows for member in ensemble.members)


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("cut", [3, 4, 20, 50, 60])
def test_members_that_agree_say_the_text_whatever_their_tokens(make_ensemble, kinds, cut):
    ensemble = make_ensemble(TEXTS, kinds)
    prompt, rest = STORY[:cut], STORY[cut:]
    generation = ensemble.generate(prompt, SamplingParams(max_new_tokens=200))
    assert generation.text == rest
    assert generation.finish_reason == "stop"
    assert generation.token_ids[-1] in ensemble.members[0].vocabulary.eos_ids
    assert generation.usage.completion_tokens == len(generation.token_ids)
    assert generation.usage.prompt_tokens == len(ensemble.members[0].vocabulary.encode_prompt(prompt).ids)
    wait_until_idle(ensemble)


@pytest.mark.parametrize("kinds", KINDS)
def test_every_member_conditions_on_the_same_text_at_every_step(make_ensemble, kinds):
    ensemble = make_ensemble(TEXTS, kinds, fusion=FusionConfig(reading="token"))
    seen = {member.name: [] for member in ensemble.members}
    for member in ensemble.members:

        def watched(tokens, measured=None, member=member, start=member.start_extend):
            logits = start(tokens, measured)
            seen[member.name] += [member.text(member.rows[row]) for row in tokens]
            return logits

        member.start_extend = watched
    ensemble.generate(STORY[:10], SamplingParams(max_new_tokens=200))
    main = seen[ensemble.main_name]
    for name in ensemble.member_names[1:]:
        assert seen[name] == main


def test_each_step_feeds_new_tokens_only(make_ensemble):
    ensemble = make_ensemble(TEXTS, ("bpe", "sentencepiece"))
    ensemble.generate(OTHERS[0][:5], SamplingParams(max_new_tokens=200))
    for member in ensemble.members:
        num_prompt = len(member.vocabulary.encode_prompt(OTHERS[0][:5]).ids)
        sizes = [len(ids) for one in member.passes for ids in one.values()]
        assert sizes[0] == num_prompt
        assert max(sizes[1:]) <= 3
        assert sum(sizes) - member.num_rolled_back <= len(member.vocabulary.encode_prompt(OTHERS[0]).ids) + 1


def test_a_batch_gives_what_each_prompt_gives_alone_and_shares_its_passes(make_ensemble):
    ensemble = make_ensemble(TEXTS, ("bpe", "unigram"))
    prompts = [text[:cut] for text in TEXTS for cut in (4, 9)]
    alone = [ensemble.generate(prompt) for prompt in prompts]
    for member in ensemble.members:
        member.passes.clear()
    together = ensemble.generate(prompts)
    assert [generation.text for generation in together] == [generation.text for generation in alone]
    longest = max(len(generation.token_ids) for generation in alone)
    assert len(ensemble.members[0].passes) <= longest + len(prompts)
    wait_until_idle(ensemble)


def test_more_prompts_than_the_batch_holds_wait_their_turn(make_ensemble):
    ensemble = make_ensemble(TEXTS, max_batch_size=2)
    prompts = [text[:6] for text in TEXTS] * 3
    answers = [generation.text for generation in ensemble.generate(prompts)]
    assert answers == [text[6:] for text in TEXTS] * 3
    assert max(len(one) for one in ensemble.members[0].passes) <= 2


def test_sixteen_threads_get_what_they_get_alone(make_ensemble):
    ensemble = make_ensemble(TEXTS, ("sentencepiece", "bpe"))
    prompts = [TEXTS[index % 4][: 4 + index // 4] for index in range(16)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda prompt: ensemble.generate(prompt).text, prompts))
    assert answers == [TEXTS[index % 4][4 + index // 4 :] for index in range(16)]


@pytest.mark.parametrize("kinds", KINDS)
def test_streamed_pieces_join_to_the_answer_and_none_but_the_last_is_empty(make_ensemble, kinds):
    ensemble = make_ensemble(TEXTS, kinds)
    whole = ensemble.generate(STORY[:4])
    chunks = list(ensemble.stream(STORY[:4]))
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert sum((chunk.token_ids for chunk in chunks), ()) == whole.token_ids
    assert all(chunk.text and chunk.finish_reason is None and chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage
    assert "\ufffd" not in whole.text


def test_the_limit_ends_an_answer_with_length(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    generation = ensemble.generate(STORY[:4], SamplingParams(max_new_tokens=5))
    assert generation.finish_reason == "length"
    assert len(generation.token_ids) == 5
    assert STORY[4:].startswith(generation.text)


def test_a_limit_inside_a_character_gives_the_replacement_character(make_ensemble):
    ensemble = make_ensemble(["a 🧿"], ("bpe",))
    texts = [ensemble.generate("a", SamplingParams(max_new_tokens=limit)).text for limit in range(1, 6)]
    assert texts[-1] == " 🧿"
    assert any(text.endswith("\ufffd") for text in texts)


@pytest.mark.parametrize("stop", ["lazy dog", " over", "Привет", "no such text"])
def test_a_stop_string_is_cut_and_never_streamed(make_ensemble, stop):
    ensemble = make_ensemble(TEXTS)
    params = SamplingParams(stop=stop)
    expected = STORY[4:].split(stop)[0]
    assert ensemble.generate(STORY[:4], params).text == expected
    assert "".join(chunk.text for chunk in ensemble.stream(STORY[:4], params)) == expected


def test_ignore_eos_goes_on_to_the_limit(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    generation = ensemble.generate(OTHERS[0][:-3], SamplingParams(max_new_tokens=20, ignore_eos=True))
    assert generation.finish_reason == "length"
    assert len(generation.token_ids) == 20
    assert not set(generation.token_ids) & set(ensemble.members[0].vocabulary.eos_ids)


def test_special_and_padded_tokens_are_never_chosen(vocabularies):
    member = ScriptedMember(
        Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(), name="padded", num_logits=700), TEXTS
    )
    vocabulary = member.vocabulary
    forbidden = sorted((vocabulary.special_ids - set(vocabulary.eos_ids)) | vocabulary.padded_ids)
    assert forbidden
    member.change = lambda text, logits: logits.index_fill(0, torch.tensor(forbidden), 50.0)
    with Ensemble([member]) as ensemble:
        generation = ensemble.generate(STORY[:4], SamplingParams(temperature=1.0, seed=1, max_new_tokens=50))
        assert not set(generation.token_ids) & set(forbidden)


def test_the_same_seed_gives_the_same_text_alone_and_in_a_batch(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    for member in ensemble.members:
        member.confidence = 3.0
    params = SamplingParams(temperature=1.5, seed=11, max_new_tokens=30)
    alone = ensemble.generate(STORY[:4], params)
    assert ensemble.generate([STORY[:4], OTHERS[0][:4], STORY[:4]], params)[2] == alone
    assert ensemble.generate(STORY[:4], params.replace(seed=12)).text != alone.text


def test_logprobs_are_those_of_the_fused_distribution(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    generation = ensemble.generate(OTHERS[0][:4], SamplingParams(logprobs=3))
    assert len(generation.logprobs) == len(generation.token_ids)
    for token_id, choice in zip(generation.token_ids, generation.logprobs, strict=True):
        assert choice.token_id == token_id == choice.top[0].token_id
        assert choice.logprob == pytest.approx(torch.tensor(choice.top[0].prob).log().item(), abs=1e-4)
        assert sum(candidate.prob for candidate in choice.top) <= 1.0001
    assert ensemble.generate(OTHERS[0][:4]).logprobs is None


def test_the_trace_says_who_changed_the_choice(make_ensemble):
    ensemble = make_ensemble(
        None,
        texts_of={"bpe": ["The quick brown fox"], "sentencepiece": ["The quick dog"]},
        weights=(0.2, 0.8),
        fusion=FusionConfig(num_steps=50),
    )
    generation = ensemble.generate("The quick", SamplingParams(trace=True, max_new_tokens=1))
    assert generation.text == " dog"
    step = generation.trace[0]
    assert step.changed_by == ("sentencepiece",)
    assert [view.member for view in step.members] == ["bpe", "sentencepiece"]
    assert step.fused[0].text == step.text == " dog"
    agreed = ensemble.generate("The", SamplingParams(trace=True, max_new_tokens=1))
    assert agreed.trace[0].changed_by == ()


def test_scores_add_up_the_logprobs_of_the_tokens(make_ensemble):
    ensemble = make_ensemble(TEXTS, ("bpe", "unigram"))
    context, continuation = "Once upon a time", " there was a girl."
    score = ensemble.score(context, continuation)
    assert score.is_greedy
    assert score.num_tokens == ensemble.count_tokens(continuation)
    generated = ensemble.generate(context, SamplingParams(logprobs=0))
    assert score.logprob == pytest.approx(sum(choice.logprob for choice in generated.logprobs[:-1]), abs=1e-4)
    worse = ensemble.score(context, " there was a dog.")
    assert not worse.is_greedy
    assert worse.logprob < score.logprob
    together = ensemble.score_batch([(context, continuation), (context, " there was a dog.")])
    assert [one.logprob for one in together] == pytest.approx([score.logprob, worse.logprob], abs=1e-4)


def test_a_space_at_the_end_of_the_context_counts_to_the_continuation(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    assert ensemble.score("Once upon a time ", "there") == ensemble.score("Once upon a time", " there")


def test_closing_a_stream_frees_its_rows(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    stream = ensemble.stream(STORY[:4], SamplingParams(max_new_tokens=400, ignore_eos=True))
    next(stream)
    stream.close()
    wait_until_idle(ensemble)
    assert list(stream) == []
    assert next(stream, None) is None


def test_a_stream_that_nobody_holds_frees_its_rows(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    stream = ensemble.stream(STORY[:4], SamplingParams(max_new_tokens=400, ignore_eos=True))
    next(stream)
    del stream
    gc.collect()
    wait_until_idle(ensemble)


async def test_the_event_loop_stays_responsive_while_an_answer_is_made(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    ensemble.members[0].before_pass = lambda tokens: time.sleep(0.01)
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticker = asyncio.create_task(tick())
    generation = await ensemble.agenerate(STORY[:4])
    chunks = [chunk async for chunk in ensemble.astream(STORY[:4])]
    ticker.cancel()
    assert generation.text == STORY[4:] == "".join(chunk.text for chunk in chunks)
    assert ticks > 20


async def test_cancelling_a_task_ends_its_work(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    ensemble.members[0].before_pass = lambda tokens: time.sleep(0.01)
    endless = SamplingParams(max_new_tokens=400, ignore_eos=True)
    tasks = [asyncio.create_task(ensemble.agenerate([STORY[:4], STORY[:6]], endless))]

    async def consume():
        async for _ in ensemble.astream(STORY[:4], endless):
            pass

    tasks.append(asyncio.create_task(consume()))
    await asyncio.sleep(0.1)
    assert ensemble.num_running == 3
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await asyncio.to_thread(wait_until_idle, ensemble)


async def test_what_waits_for_a_place_and_is_cancelled_waits_no_more(make_ensemble):
    ensemble = make_ensemble(TEXTS, max_batch_size=1)
    ensemble.members[0].before_pass = lambda tokens: time.sleep(0.01)
    endless = SamplingParams(max_new_tokens=400, ignore_eos=True)
    running = asyncio.create_task(ensemble.agenerate(STORY[:4], endless))
    await asyncio.sleep(0.05)
    waiting = [asyncio.create_task(ensemble.agenerate(STORY[:4], endless)) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert ensemble.num_running == 4
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert ensemble.num_running == 1 and not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_chat_has_async_and_streaming_twins(make_ensemble, vocabularies):
    ensemble = make_ensemble(TEXTS)
    messages = [{"role": "user", "content": "hi"}]
    params = SamplingParams(max_new_tokens=3, ignore_eos=True)
    plain = ensemble.chat(messages, params)
    assert "".join(chunk.text for chunk in ensemble.stream_chat(messages, params)) == plain.text
    assert (await ensemble.achat(messages, params)).text == plain.text
    assert "".join([chunk.text async for chunk in ensemble.astream_chat(messages, params)]) == plain.text


def test_each_member_reads_a_chat_in_its_own_template(make_ensemble, vocabularies):
    ensemble = make_ensemble(TEXTS)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One."},
        {"role": "user", "content": "Two."},
    ]
    ensemble.chat(messages, SamplingParams(max_new_tokens=1))
    merged = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One.\n\nTwo."}]
    folded = [{"role": "user", "content": "Be brief.\n\nOne.\n\nTwo."}]
    bpe, sentencepiece = ensemble.members
    assert next(iter(bpe.passes[0].values())) == list(vocabularies["bpe"].encode_chat(merged).ids)
    assert next(iter(sentencepiece.passes[0].values())) == list(vocabularies["sentencepiece"].encode_chat(folded).ids)


def test_text_that_looks_special_stays_text_for_every_member(make_ensemble):
    ensemble = make_ensemble(TEXTS, ("bpe", "sentencepiece", "unigram"))
    ensemble.generate("x <s> </s> <|im_end|> <|endoftext|> [INST] <unk> y", SamplingParams(max_new_tokens=1))
    for member in ensemble.members:
        fed = next(iter(member.passes[0].values()))[len(member.vocabulary.prefix_ids) :]
        assert not set(fed) & member.vocabulary.special_ids
        assert b"<s> </s> <|im_end|> <|endoftext|> [INST] <unk> y" in member.vocabulary.join(fed)


def test_a_member_that_raises_fails_its_batch_by_name_and_the_engine_goes_on(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    calls = 0

    def fail_third(tokens):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("out of memory")

    ensemble.members[1].before_pass = fail_third
    futures = []
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(ensemble.generate, text[:4]) for text in (STORY, OTHERS[0])]
    errors = [future.exception() for future in futures]
    assert any(errors)
    for error in errors:
        assert error is None or (isinstance(error, MemberError) and "'sentencepiece' failed" in str(error))
    assert "out of memory" in str(next(filter(None, errors)))
    wait_until_idle(ensemble)
    assert ensemble.generate(STORY[:4]).text == STORY[4:]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_in_one_row_fails_that_row_and_names_member_and_step(make_ensemble, bad):
    ensemble = make_ensemble(TEXTS)

    def spoil(text, logits):
        return logits.index_fill(0, torch.tensor([7]), bad) if text.startswith(b"Once upon a time") else logits

    ensemble.members[1].change = spoil
    with ThreadPoolExecutor(2) as pool:
        sound, broken = pool.submit(ensemble.generate, STORY[:4]), pool.submit(ensemble.generate, "Once upon")
    assert sound.result().text == STORY[4:]
    with pytest.raises(NumericalError, match=r"logits of 'sentencepiece' at step [23]"):
        broken.result()
    wait_until_idle(ensemble)


def test_errors_surface_at_once_in_streams(make_ensemble):
    ensemble = make_ensemble(TEXTS)

    def fail(tokens):
        raise RuntimeError("broken")

    ensemble.members[0].before_pass = fail
    with pytest.raises(MemberError, match="'bpe' failed in a forward pass: RuntimeError: broken"):
        next(ensemble.stream(STORY[:4]))


def test_a_prompt_that_is_too_long_says_for_whom_and_how_much_fits(make_ensemble):
    ensemble = make_ensemble(TEXTS, context_length=12)
    with pytest.raises(
        ContextLengthError, match=r"has \d+ tokens for member 'bpe', whose context holds 12: at most 11"
    ):
        ensemble.generate(STORY)
    assert ensemble.generate("The").text


def test_a_full_context_ends_the_answer_with_length(make_ensemble):
    ensemble = make_ensemble(TEXTS, context_length=16)
    generation = ensemble.generate(STORY[:4])
    assert generation.finish_reason == "length"
    assert STORY[4:].startswith(generation.text.rstrip("\ufffd"))
    with pytest.raises(ContextLengthError, match="whose context holds 16"):
        ensemble.score(STORY[:4], STORY[4:])


def test_prompts_that_cannot_be_run_are_refused_and_nothing_else_suffers(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    with pytest.raises(PromptError, match="adds no BOS"):
        ensemble.generate("")
    with pytest.raises(PromptError, match="surrogate"):
        ensemble.generate(["fine", "bad \ud800"])
    with pytest.raises(PromptError, match="continuation to score is empty"):
        ensemble.score("a", "")
    with pytest.raises(PromptError, match="at least one message"):
        ensemble.chat([])
    wait_until_idle(ensemble)
    assert ensemble.generate(STORY[:4]).text == STORY[4:]


def test_an_empty_prompt_begins_from_bos_where_every_member_has_one(make_ensemble):
    ensemble = make_ensemble(TEXTS, ("sentencepiece", "unigram"))
    assert ensemble.generate("").text == STORY


def test_use_after_close_is_refused(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    ensemble.close()
    ensemble.close()
    assert ensemble.is_closed
    assert all(member.is_closed for member in ensemble.members)
    for use in (lambda: ensemble.generate("a"), lambda: ensemble.stream("a"), lambda: ensemble.score("a", "b")):
        with pytest.raises(ClosedError, match="closed: make a new one"):
            use()


def test_closing_while_answers_are_made_fails_them_by_name(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    ensemble.members[0].before_pass = lambda tokens: time.sleep(0.01)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(ensemble.generate, STORY[:4], SamplingParams(max_new_tokens=400, ignore_eos=True))
        time.sleep(0.1)
        ensemble.close()
        with pytest.raises(ClosedError, match="closed before the answer was done"):
            future.result()


def num_engines():
    return sum(thread.name == "deepen-engine" for thread in threading.enumerate())


def test_an_ensemble_that_nobody_holds_stops_its_thread(vocabularies):
    ensemble = Ensemble([ScriptedMember(vocabularies["bpe"], TEXTS)])
    before = num_engines()
    assert ensemble.generate(STORY[:4]).text
    del ensemble
    gc.collect()
    assert num_engines() == before - 1


def test_members_that_share_too_little_are_refused_by_name(make_ensemble):
    with pytest.raises(VocabularyError, match=r"at least 100000 tokens; .*'bpe' with 'unigram' only \d+"):
        make_ensemble(TEXTS, ("bpe", "unigram"), fusion=FusionConfig(maps="all", min_common_tokens=100_000))


@pytest.mark.parametrize(("main", "name"), [(0, "bpe"), (1, "unigram"), ("unigram", "unigram")])
def test_the_main_model_is_chosen_by_position_or_name(make_ensemble, main, name):
    ensemble = make_ensemble(TEXTS, ("bpe", "unigram"), main=main)
    assert ensemble.main_name == name
    assert ensemble.encode("quick") == ensemble.members[main if isinstance(main, int) else 1].vocabulary.encode("quick")


@pytest.mark.parametrize("main", [2, -1, "nobody"])
def test_a_main_model_that_is_not_there_is_refused(make_ensemble, main):
    with pytest.raises(ConfigError, match=r"main must be .*0: 'bpe'"):
        make_ensemble(TEXTS, ("bpe", "unigram"), main=main)


class TopMember(ScriptedMember):
    num_told = 64


def test_a_member_that_tells_its_best_tokens_only_cannot_be_the_main_model(vocabularies):
    told, whole = TopMember(vocabularies["bpe"], TEXTS), ScriptedMember(vocabularies["unigram"], TEXTS)
    with pytest.raises(ConfigError, match=r"'bpe' \(kind 'TopMember'\) .* 64 most probable.*write main='unigram'"):
        Ensemble([told, whole])
    with pytest.raises(ConfigError, match="add a member that runs in this process"):
        Ensemble([told])
    with Ensemble([BorrowedMember(told), whole], EnsembleConfig(members=("a", "b"), main=1)) as ensemble:
        assert ensemble.main_name == "unigram"


def test_names_of_members_that_were_handed_over_are_no_places(vocabularies):
    member = ScriptedMember(vocabularies["bpe"], TEXTS)
    member.name = "http://127.0.0.1/model.gguf"
    with Ensemble([member]) as ensemble:
        assert ensemble.config.members[0].kind == "transformers"


def test_the_configuration_must_fit_the_members(vocabularies):
    with pytest.raises(ConfigError, match="names 1 members; got 2"):
        Ensemble([ScriptedMember(vocabularies[k], TEXTS) for k in ("bpe", "unigram")], EnsembleConfig(members=("a",)))


def test_the_identity_tells_ensembles_apart_and_is_json(make_ensemble):
    import json

    kinds = ("bpe", "unigram")
    identities = [
        make_ensemble(TEXTS, kinds),
        make_ensemble(TEXTS, kinds, weights=(0.25, 0.75)),
        make_ensemble(TEXTS, kinds, main=1),
        make_ensemble(TEXTS, kinds, fusion=FusionConfig(trust=0.5)),
    ]
    dumped = [json.dumps(ensemble.identity, sort_keys=True) for ensemble in identities]
    assert len(set(dumped)) == 4
    assert json.dumps(make_ensemble(TEXTS, kinds).identity, sort_keys=True) == dumped[0]


def test_an_ensemble_shows_itself_in_one_line(make_ensemble):
    ensemble = make_ensemble(TEXTS, ("bpe", "unigram"), main="unigram", fusion=FusionConfig(method="text"))
    assert repr(ensemble) == ("Ensemble(members=['bpe', 'unigram'], main='unigram', method='text', weights=[0.7, 0.3])")
    ensemble.close()
    assert repr(ensemble).endswith("weights=[0.7, 0.3], closed)")
    assert "weights='prompt'" in repr(make_ensemble(TEXTS, weights="prompt"))
    three = ("bpe", "unigram", "sentencepiece")
    assert "weights='adaptive'" in repr(make_ensemble(TEXTS, three, weights=None))
    thirds = make_ensemble(TEXTS, three, weights=None, fusion=FusionConfig(method="union"))
    assert "weights=[0.333, 0.333, 0.333]" in repr(thirds)
    assert repr(make_ensemble(TEXTS, ("bpe",))) == "Ensemble(members=['bpe'], main='bpe', method=None, weights=[1])"


def test_what_an_ensemble_writes_makes_an_equal_one(tmp_path):
    file = tmp_path / "ensemble.yaml"
    settings = {"main": "qwen2", "weights": [0.4, 0.6], "fusion": FusionConfig(method="text", trust=0.5)}
    with Ensemble.starter(["llama", "qwen2"], max_batch_size=3, **settings) as ensemble:
        ensemble.save(file, "chosen by hand")
        with Ensemble.from_config(file) as again:
            assert again.config == ensemble.config
            assert again.identity == ensemble.identity
            assert repr(again) == repr(ensemble)
            prompt, params = "Question: What is the capital of Kenya?\nAnswer:", SamplingParams(max_new_tokens=4)
            assert again.generate(prompt, params) == ensemble.generate(prompt, params)
    assert file.read_text().startswith("# chosen by hand\nmembers:\n")
    ensemble.save(file)  # also when it is closed
    assert file.read_text().startswith("members:\n")


def test_members_that_are_there_twice_keep_their_names_in_the_file(tmp_path):
    with Ensemble.starter(["llama", "llama"], main="llama#2", fusion=FusionConfig(method="text")) as ensemble:
        ensemble.save(tmp_path / "twice.yaml")
        with Ensemble.from_config(tmp_path / "twice.yaml") as again:
            assert again.member_names == ("llama", "llama#2")
            assert again.main_name == "llama#2"


def test_members_that_no_file_can_name_are_not_saved(vocabularies, tmp_path):
    members = [ScriptedMember(vocabularies["bpe"], TEXTS), ScriptedMember(vocabularies["unigram"], TEXTS)]
    with Ensemble(members) as ensemble:
        with pytest.raises(ConfigError, match=r"handed over loaded: bpe, unigram: say where they come from"):
            ensemble.save(tmp_path / "ensemble.yaml")
        assert not (tmp_path / "ensemble.yaml").exists()
        assert repr(ensemble).startswith("Ensemble(members=['bpe', 'unigram'], main='bpe'")


def test_loaded_members_with_a_configuration_are_saved_as_it_says(vocabularies, tmp_path):
    config = EnsembleConfig(members=("org/one", "org/two"), weights=(0.9, 0.1))
    with Ensemble([ScriptedMember(vocabularies[kind], TEXTS) for kind in ("bpe", "unigram")], config) as ensemble:
        ensemble.save(tmp_path / "ensemble.yaml")
    assert EnsembleConfig.load(tmp_path / "ensemble.yaml") == config


def test_a_members_temperature_is_that_of_a_model_whose_logits_are_divided_by_it(vocabularies):
    """Whatever is read of it: its distribution, what it gives text, and the prompt that weights learn from."""

    def score(temperature, divisor):
        members = [ScriptedMember(vocabularies[kind], TEXTS, confidence=5.0) for kind in ("bpe", "sentencepiece")]
        members[1].change = lambda text, logits: logits / divisor
        configs = [MemberConfig(model="bpe"), MemberConfig(model="sentencepiece", temperature=temperature)]
        with Ensemble(members, EnsembleConfig(members=configs)) as ensemble:
            score = ensemble.score(STORY[:30], STORY[30:50])
            return score.logprob, *score.fusion.weights, ensemble.identity

    *tempered, identity = score(2.5, 1.0)
    *divided, plain = score(1.0, 2.5)
    assert tempered == pytest.approx(divided, abs=1e-5)
    assert tempered != pytest.approx(score(1.0, 1.0)[:-1], abs=1e-3)
    assert [member.get("temperature") for member in identity["members"]] == [None, 2.5]
    assert identity != plain


@pytest.mark.parametrize("temperature", [0, -1, float("inf"), float("nan")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ConfigError, match=r"MemberConfig\.temperature"):
        MemberConfig(model="one", temperature=temperature)


def test_a_reply_is_scored_in_each_members_own_template(make_ensemble, vocabularies):
    ensemble = make_ensemble(TEXTS)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}]
    plain = ensemble.score_chat(messages, "The quick fox")
    for member in ensemble.members:
        whole = [*messages, {"role": "assistant", "content": "The quick fox"}]
        member.texts.append(member.text(encode_chat(member.vocabulary, whole).ids))
    known, other = ensemble.score_chat_batch([(messages, "The quick fox"), (messages, "a dog")])
    assert known.is_greedy and known.logprob > -1 > plain.logprob
    assert not other.is_greedy and other.logprob < known.logprob
    assert known.num_tokens == len(vocabularies["bpe"].encode("The quick fox", at_start=False))


def test_a_reply_that_cannot_be_scored_is_refused(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    with pytest.raises(PromptError, match="continuation to score is empty"):
        ensemble.score_chat([{"role": "user", "content": "What?"}], "")
    with pytest.raises(PromptError):
        ensemble.score_chat([], "x")
    with pytest.raises(PromptError, match="continuation to score is empty"):
        ensemble.score("What? ", "")
