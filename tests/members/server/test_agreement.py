"""A tokenizer that is not that of the server's model, or that is not there, is found out at the start."""

from __future__ import annotations

import pytest

from deepen_llm.errors import MemberError
from tests import toy_tokenizers
from tests.members.server.doubles import DOUBLES, Refusal, num_logits


@pytest.mark.parametrize("kind", list(DOUBLES))
def test_another_tokenizer_is_refused_with_the_sentence(kind, serve, load, tmp_path):
    toy_tokenizers.byte_level_bpe(size=400).save_pretrained(tmp_path)
    with pytest.raises(MemberError, match=r"must be that of the server's model; of 'The quick brown fox.*tokenizer="):
        load(serve(kind), tokenizer=str(tmp_path))


def test_a_tokenizer_that_differs_in_other_scripts_only_is_refused(serve, load):
    double = serve("vllm")
    double.change = lambda path, answer: (
        {**answer, "tokens": answer["tokens"][::-1]} if path == "/tokenize" and 400 in answer["tokens"] else answer
    )
    asked = []
    double.before = lambda handler, path, body: asked.append(body.get("prompt")) if path == "/tokenize" else False
    load(double)
    assert len(asked) == 3 and any("水" in sentence for sentence in asked)


def test_a_bos_that_the_server_puts_first_does_not_count(serve, load, tmp_path):
    tokenizer = toy_tokenizers.sentencepiece_bpe()
    tokenizer.save_pretrained(tmp_path)
    double = serve("vllm")
    double.encode = lambda text: tokenizer.encode(text)[:-1]  # without the end
    assert tokenizer.encode("a")[0] == tokenizer.bos_token_id
    load(double, tokenizer=str(tmp_path), top=10)


def test_an_sglang_without_tokenize_tells_the_tokens_of_a_prompt(serve, load):
    double = serve("sglang")

    def before(handler, path, body):
        if path == "/tokenize":
            raise Refusal(404, {"detail": "Not Found"})
        return False

    double.before = before
    assert len(load(double).vocabulary) == num_logits()


def test_the_server_may_name_the_tokenizer(serve, load, tokenizer_folder):
    double = serve("sglang")
    double.tokenizer_path = tokenizer_folder
    assert len(load(double, tokenizer=None).vocabulary) == num_logits()


def test_a_tokenizer_that_nobody_names_is_asked_for(serve, load):
    with pytest.raises(MemberError, match=r"llama-server .* names none: give a folder with its tokenizer.json"):
        load(serve("llama-server"), tokenizer=None)


@pytest.mark.parametrize("place", ["no/such-model", "/no/such/folder", "."])
def test_a_tokenizer_that_is_not_there_is_named(place, serve, load):
    with pytest.raises(MemberError, match=f"'remote': the tokenizer of its model cannot be read from '{place}'"):
        load(serve("llama-server"), tokenizer=place)


def test_a_tokenizer_may_be_a_file(serve, load, tokenizer_folder):
    member = load(serve("llama-server"), tokenizer=f"{tokenizer_folder}/tokenizer.json")
    assert len(member.vocabulary) == num_logits()


def test_a_damaged_file_is_no_tokenizer(serve, load, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        with pytest.raises(MemberError, match="cannot be read from"):
            load(serve("llama-server"), tokenizer=str(place))
