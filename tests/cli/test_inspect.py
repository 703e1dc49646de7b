from __future__ import annotations

import re
from itertools import combinations

from deepen_llm.cli.tables import format_bytes
from deepen_llm.compatibility.agreement import Agreement
from deepen_llm.compatibility.sample import SAMPLE
from deepen_llm.vocabulary import Vocabulary, common_tokens
from tests import toy_tokenizers


def test_members_vocabularies_common_tokens_and_memory_are_shown(deepen, use_ensemble, make_ensemble):
    ensemble = make_ensemble(["a story."], kinds=("bpe", "sentencepiece", "unigram"))
    use_ensemble(ensemble)
    vocabularies = [member.vocabulary for member in ensemble.members]
    result = deepen("inspect")
    assert result.exit_code == 0
    for vocabulary in vocabularies:
        row = next(line for line in result.stdout.split("Vocabularies")[1].splitlines() if vocabulary.name in line)
        numbers = [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", row)]
        special, added, padded = map(len, (vocabulary.special_ids, vocabulary.added_ids, vocabulary.padded_ids))
        assert vocabulary.kind in row
        assert numbers[0] == len(vocabulary.tokens)
        assert numbers[2:5] == [special, added, padded]
    common = result.stdout.split("Common tokens")[1]
    for a, b in combinations(vocabularies, 2):
        assert re.search(rf"{a.name} \+ {b.name} .* {len(common_tokens([a, b])):,} ", common)
    assert f" {len(common_tokens(vocabularies)):,} " in common
    memory = result.stdout.split("Memory")[1]
    for vocabulary, num_bytes in zip(vocabularies, ensemble.fusion.member_bytes, strict=True):
        row = next(line for line in memory.splitlines() if f"relative rows of {vocabulary.name}, dense" in line)
        assert format_bytes(num_bytes) in row
    assert f"(all in {ensemble.fusion.build_s:.2f} s)" in memory


def test_one_member_has_nothing_in_common_with_others(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble(["a story."], kinds=("bpe",)))
    result = deepen("inspect")
    assert result.exit_code == 0
    assert "Common tokens" not in result.stdout
    assert "Token ends that agree" not in result.stdout
    assert "bpe is alone: there is nothing to fuse" in result.stdout
    assert "ensemble.yaml" not in result.stdout


def test_the_share_of_token_ends_that_agree_is_told_both_ways(deepen, use_ensemble, make_ensemble, vocabularies):
    use_ensemble(make_ensemble(["a story."]))
    result = deepen("inspect")
    agreement = Agreement.over(vocabularies["bpe"], vocabularies["sentencepiece"], SAMPLE.values())
    row = next(line for line in result.stdout.split("ends that agree")[1].splitlines() if "bpe + sentencepiece" in line)
    assert f"{agreement.share_of_first:.1%} of {agreement.num_first:,}" in row
    assert f"{agreement.share_of_second:.1%} of {agreement.num_second:,}" in row
    assert f"({agreement.least_share:.0%} of their token ends agree)" in result.stdout


def test_members_that_spell_differently_are_to_be_read_as_text(deepen, use_ensemble, make_ensemble, vocabularies):
    vocabularies["letters"] = Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(size=256), name="letters")
    try:
        use_ensemble(make_ensemble(["a story."], kinds=("letters", "bpe")))
    finally:
        del vocabularies["letters"]
    result = deepen("inspect")
    assert "letters and bpe spell differently: read as text" in result.stdout
    assert "Main model: bpe rather than letters" in result.stdout
    assert result.stdout.split("ensemble.yaml)")[1].split() == ["main:", "bpe", "fusion:", "reading:", "text"]


def test_members_that_cut_alike_may_be_read_either_way(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble(["a story."], kinds=("bpe", "bpe")))
    result = deepen("inspect")
    assert "cut text alike: any reading works (100% of their token ends agree)" in result.stdout
    assert "Main model: bpe, as it is set" in result.stdout
    assert "reading: token  # or text" in result.stdout


def test_a_text_of_the_users_takes_the_place_of_the_sample(deepen, use_ensemble, make_ensemble, tmp_path):
    use_ensemble(make_ensemble(["a story."]))
    file = tmp_path / "prompts.txt"
    file.write_text("the lazy dog", encoding="utf-8")
    assert "Sample text: 12 characters" in deepen("inspect", "--text", file).stdout


def test_a_text_that_is_not_there_ends_it_before_models_are_loaded(deepen, use_ensemble, make_ensemble, tmp_path):
    asked = use_ensemble(make_ensemble(["a story."]))
    result = deepen("inspect", "--text", tmp_path / "nothing.txt")
    assert (result.exit_code, asked) == (1, [])
    assert "nothing.txt" in result.stderr


def test_a_member_that_cannot_write_the_sample_is_told_and_is_not_to_be_main(
    deepen, use_ensemble, make_ensemble, vocabularies
):
    tokenizer = toy_tokenizers.sentencepiece_bpe(byte_fallback=False)
    vocabularies["bare"] = Vocabulary.from_tokenizer(tokenizer, name="bare")
    try:
        use_ensemble(make_ensemble(["a story."], kinds=("bare", "bpe")))
    finally:
        del vocabularies["bare"]
    result = deepen("inspect")
    assert result.exit_code == 0
    assert re.search(r"bare cannot write '.* more \(.*% of the sample\): it reads them as unknown", result.stdout)
    assert "Main model: bpe rather than bare, which cannot write all of the sample" in result.stdout
    assert "bpe cannot write" not in result.stdout


def test_weights_that_each_prompt_chooses_are_shown_as_such(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble(["a story."], weights="prompt"))
    assert deepen("inspect").stdout.count("by prompt") == 2
