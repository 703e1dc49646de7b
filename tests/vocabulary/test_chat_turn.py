"""What templates put around an assistant's message, in the shapes in which families of models have them."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken

from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.chat_turn import ChatTurn
from tests import toy_tokenizers as toys
from tests.chat_templates import TEMPLATES

ENDS = ("<|eot_id|>", "<end_of_turn>", "<|end|>", "<|end_of_sentence|>", "<|User|>")


def load(template: str | None, bos: str | None = None) -> Vocabulary:
    tokenizer = toys.byte_level_bpe(template=template)
    tokenizer.add_special_tokens({"bos_token": bos} if bos else {})
    tokenizer.add_tokens([AddedToken(text, special=True) for text in ENDS], special_tokens=True)
    return Vocabulary.from_tokenizer(tokenizer, name="toy")


def ends_of(vocabulary: Vocabulary) -> list[str]:
    return [vocabulary.display(token_id) for token_id in vocabulary.eos_ids]


@pytest.mark.parametrize(
    ("family", "end", "lead"),
    [
        ("chatml", "<|im_end|>", ""),
        ("llama 3", "<|eot_id|>", ""),
        ("qwen 3", "<|im_end|>", ""),
        ("mistral", "<|endoftext|>", " "),
        ("gemma", "<end_of_turn>", ""),
        ("phi 3", "<|end|>", ""),
        ("deepseek r1", "<|end_of_sentence|>", ""),
        ("zephyr", "<|endoftext|>", ""),
        ("vicuna", "<|endoftext|>", " "),
        ("blocks", "<|im_end|>", " "),
        ("either", "<|im_end|>", ""),
        ("generation", "<|im_end|>", ""),
    ],
)
def test_the_token_after_an_assistants_message_ends_an_answer(family, end, lead):
    vocabulary = load(TEMPLATES[family], bos="<s>")
    assert ends_of(vocabulary) == list(dict.fromkeys(["<|endoftext|>", end]))
    assert vocabulary._chat.turn.lead == lead
    assert vocabulary.encode_chat([{"role": "user", "content": "Hi"}]).opens_with_space == (lead == " ")


def test_a_template_that_ends_nothing_shows_whose_turn_comes():
    said = "{% for m in messages %}{{ ('<|User|>' if m.role == 'user' else '<|im_start|>') + m.content }}{% endfor %}"
    assert ends_of(load(said)) == ["<|endoftext|>", "<|User|>"]


@pytest.mark.parametrize(
    "template",
    [
        None,
        "plain",
        "{{ 1/0 }}",
        "{{ messages[0].content }}",
        "{% for m in messages %}{{ m.content }}, <|im_end|>{% endfor %}",
        "{% for m in messages %}{{ bos_token + m.content }}{% endfor %}",
    ],
)
def test_where_a_template_shows_no_end_there_is_none(template):
    vocabulary = load(template, bos="<|User|>")
    assert ends_of(vocabulary) == ["<|endoftext|>"]
    assert vocabulary._chat.turn.lead == ""


def test_a_chat_without_a_template_has_no_turns():
    assert load(None)._chat.turn == ChatTurn()


def test_white_space_before_an_answer_is_part_of_the_prompt_but_for_one_space():
    template = (
        "{% for m in messages %}{{ m.role + ':\n ' + m.content + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    prompt = load(template).encode_chat([{"role": "user", "content": "Hi"}])
    assert (prompt.text, prompt.opens_with_space) == ("assistant:\n", True)
    assert list(prompt.ids[prompt.num_fixed :]) == load(template).encode("assistant:\n", at_start=False)
