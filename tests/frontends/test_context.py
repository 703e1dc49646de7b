"""Prompts are counted in one unit: what fits by it fits every member."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepen_llm import Ensemble, SamplingParams
from deepen_llm.config import EnsembleConfig, MemberConfig
from deepen_llm.errors import ContextLengthError, PromptError
from deepen_llm.frontends.context import ContextMeter
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers
from tests.vocabularies import load_toy

TEMPLATES = {
    "bpe": "{% for m in messages %}<|{{ m.role }}|> {{ m.content }}\n{% endfor %}<|assistant|>",
    "sentencepiece": "{% if messages[0].role != 'user' %}{{ raise_exception('the user begins') }}{% endif %}"
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}assistant:",
}
MAKERS = {"bpe": toy_tokenizers.byte_level_bpe, "sentencepiece": toy_tokenizers.sentencepiece_bpe}
CONTEXTS = [(48, 48), (40, 90), (90, 40), (31, 37)]
texts = st.text(st.sampled_from("the quick brown fox été 中文 \n.,!"), max_size=60)
roles = st.sampled_from(["system", "user", "assistant"])


@pytest.fixture(scope="module")
def chatting():
    """A vocabulary of each kind with a chat template of its own."""
    return {
        kind: Vocabulary.from_tokenizer(MAKERS[kind](), name=kind, chat_template=TEMPLATES[kind]) for kind in MAKERS
    }


@pytest.fixture(scope="module", params=CONTEXTS, ids=str)
def ensemble(request, chatting):
    members = [
        ScriptedMember(chatting[kind], ["the quick"], context_length=context_length)
        for kind, context_length in zip(MAKERS, request.param, strict=True)
    ]
    config = EnsembleConfig(members=tuple(MemberConfig(model=member.name) for member in members), weights=(0.7, 0.3))
    with Ensemble(members, config) as opened:
        yield opened


def fits(ask):
    """Whether the members take a request."""
    try:
        ask()
    except ContextLengthError:
        return False
    except PromptError:
        return True  # a template refuses it, whatever its length
    return True


ONE = SamplingParams(max_new_tokens=1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts.filter(bool))
def test_a_prompt_fits_every_member_if_and_only_if_it_fits_by_the_count(ensemble, text):
    meter = ContextMeter(ensemble.members)
    assert fits(lambda: ensemble.generate(text, ONE)) == (meter.count_prompt(text) < meter.window)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(st.tuples(roles, texts), min_size=1, max_size=4))
def test_a_chat_that_fits_by_the_count_fits_every_member(ensemble, said):
    messages = [{"role": role, "content": content} for role, content in said]
    meter = ContextMeter(ensemble.members)
    if meter.count_chat(messages) < meter.window:
        assert fits(lambda: ensemble.chat(messages, ONE))


def test_a_text_counts_as_the_largest_share_of_a_context(chatting):
    narrow = ScriptedMember(chatting["sentencepiece"], [], context_length=30)
    wide = ScriptedMember(chatting["bpe"], [], context_length=60)
    text = "the quick brown fox"
    of_narrow, of_wide = (len(member.vocabulary.encode(text)) for member in (narrow, wide))
    meter = ContextMeter([wide, narrow])
    assert meter.window == 30
    assert meter.count_text(text) == max(of_narrow, -(-of_wide // 2))


def test_a_part_that_a_template_refuses_counts_message_by_message(chatting):
    meter = ContextMeter([ScriptedMember(chatting["sentencepiece"], [])])
    reply = {"role": "assistant", "content": "the fox"}
    asked = {"role": "user", "content": "the fox"}
    assert meter.count_chat([reply]) >= meter.count_chat([asked]) > meter.count_text("the fox")
    assert meter.count_chat([reply, asked]) >= meter.count_chat([asked, reply])
    assert meter.count_chat([]) == 0


def test_what_is_no_message_is_refused(chatting):
    meter = ContextMeter([ScriptedMember(chatting["bpe"], [])])
    with pytest.raises(PromptError, match="message 0: content must be a string"):
        meter.count_chat([{"role": "user", "content": 5}])


def test_what_stands_around_a_prompt_is_known_before_there_is_one(chatting):
    meter = ContextMeter([ScriptedMember(vocabulary, []) for vocabulary in chatting.values()])
    assert meter.around_prompt == max(len(vocabulary.prefix_ids) for vocabulary in chatting.values())
    assert meter.around_chat > meter.around_prompt


def test_importing_it_loads_no_torch():
    code = "import sys, deepen_llm.frontends.context; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_options_add_to_a_template_is_counted(vocabularies):
    template = "{% for m in messages %}{{ m.content }} {% endfor %}{{ 'think a long time about it ' if thinks }}"
    vocabulary = Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(template=template), name="bpe")
    meter = ContextMeter([ScriptedMember(vocabulary, [])])
    messages = [{"role": "user", "content": "Hi"}]
    plain, longer = (meter.count_chat(messages, chat_template_kwargs={"thinks": thinks}) for thinks in (False, True))
    assert longer == len(vocabulary.encode_chat(messages, chat_template_kwargs={"thinks": True}).ids) > plain + 3


def test_who_reads_a_source_in_an_encoder_takes_nothing_of_a_prompt():
    continues = SimpleNamespace(vocabulary=load_toy("gpt2"), context_length=512, source_reader=None)
    reads = SimpleNamespace(vocabulary=load_toy("t5"), context_length=16, source_reader=object())
    meter = ContextMeter([continues, reads])
    assert meter.window == 512
    assert meter.count_text("the dog") == len(continues.vocabulary.encode("the dog"))
    assert ContextMeter([reads]).window == 16
