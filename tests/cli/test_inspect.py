from __future__ import annotations

import re
from itertools import combinations

import pytest
import yaml

from deepen_llm import Ensemble, EnsembleConfig
from deepen_llm.cli.tables import format_bytes
from deepen_llm.compatibility.agreement import Agreement
from deepen_llm.compatibility.sample import SAMPLE
from deepen_llm.members.generation_defaults import GenerationDefaults
from deepen_llm.vocabulary import Vocabulary, common_tokens
from tests import toy_tokenizers


def read_recommended(stdout):
    """The settings that were printed, as a file of them would be read."""
    return EnsembleConfig(**yaml.safe_load(stdout.split("(ensemble.yaml)")[1].split("\nWritten to")[0]))


def test_members_vocabularies_common_tokens_and_memory_are_shown(deepen, use_ensemble, make_ensemble):
    ensemble = make_ensemble(["a story."], ("bpe", "sentencepiece", "unigram"), fusion={"reading": "token"})
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
        assert numbers[5] == sum(token_id is not None for token_id in vocabulary.byte_ids)
    common = result.stdout.split("Common tokens")[1]
    for a, b in combinations(vocabularies, 2):
        assert re.search(rf"{a.name} \+ {b.name} .* {len(common_tokens([a, b])):,} ", common)
    assert f" {len(common_tokens(vocabularies)):,} " in common
    memory = result.stdout.split("Memory")[1]
    for vocabulary, num_bytes in zip(vocabularies, ensemble.fusion.member_bytes, strict=True):
        row = next(line for line in memory.splitlines() if f"relative rows of {vocabulary.name}, dense" in line)
        assert format_bytes(num_bytes) in row
    assert f"(all in {ensemble.fusion.build_s:.2f} s)" in memory


def test_a_relative_fusion_that_needs_no_rows_says_so(deepen, use_ensemble, make_ensemble):
    ensemble = make_ensemble(["a story."], ("bpe", "bpe"), fusion={"reading": "text"})
    assert not ensemble.fusion.member_bytes
    use_ensemble(ensemble)
    assert re.search(r"fusion: text says all, no relative rows +0 B", deepen("inspect").stdout)


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
    recommended = read_recommended(result.stdout)
    assert recommended.main == "bpe"
    assert recommended.fusion.reading == "text"


def test_members_that_cut_alike_may_be_read_either_way(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble(["a story."], kinds=("bpe", "bpe")))
    result = deepen("inspect")
    assert "cut text alike: any reading works (100% of their token ends agree)" in result.stdout
    assert "Main model: bpe, as it is set" in result.stdout
    assert read_recommended(result.stdout).fusion.reading == "token"
    assert "# reading: token; or text, since they cut alike" in result.stdout


def test_a_text_of_the_users_takes_the_place_of_the_sample(deepen, use_ensemble, make_ensemble, tmp_path):
    use_ensemble(make_ensemble(["a story."]))
    file = tmp_path / "prompts.txt"
    file.write_text("the lazy dog", encoding="utf-8")
    assert "Sample text: 12 characters\n" in deepen("inspect", "--text", file).stdout


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


@pytest.mark.parametrize(
    ("weights", "figures", "start"),
    [
        (None, ["0.5", "0.5"], "They begin uniform, since not every member tells its size."),
        ({"kind": "adaptive", "prior": (0.25, 0.75)}, ["0.25", "0.75"], "They begin as the given prior says."),
        ((0.25, 0.75), ["0.25", "0.75"], None),
    ],
)
def test_weights_that_learn_are_shown_as_they_begin(deepen, use_ensemble, make_ensemble, weights, figures, start):
    use_ensemble(make_ensemble(["a story."], weights=weights))
    shown = deepen("inspect", env={"COLUMNS": "200"}).stdout.split("Vocabularies")[0]
    assert [line.split()[2] for line in shown.splitlines() if line.startswith(("bpe", "sentencepiece"))] == figures
    assert ("Weights are adaptive: " in shown) == (start is not None)
    assert (start or "") in shown


def test_weights_by_size_are_shown_as_such(deepen):
    shown = deepen("inspect", env={"COLUMNS": "200"}).stdout
    assert "They begin by size, larger models with more." in shown


def test_one_members_weight_is_one(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble(["a story."], kinds=("bpe",), weights="adaptive"))
    shown = deepen("inspect").stdout
    assert "adaptive" not in shown.split("Vocabularies")[0]


def test_on_the_users_text_members_are_compared_in_bits_per_byte(deepen, use_ensemble, make_ensemble, tmp_path):
    known = "The quick brown fox jumps over the lazy dog."
    use_ensemble(make_ensemble([], texts_of={"bpe": [known], "sentencepiece": ["Nothing of the sort."]}))
    (tmp_path / "one.txt").write_text(known)
    (tmp_path / "two.txt").write_text(known)
    result = deepen("inspect", "--text", tmp_path / "one.txt", "--text", tmp_path / "two.txt")
    assert result.exit_code == 0
    table = result.stdout.split("Bits per byte, less is better: 82 bytes in 2 passages")[1].split("Verdict")[0]
    bpe, sentencepiece = (line.split() for line in table.splitlines() if "bpe" in line or "sentencepiece" in line)
    assert bpe[-1] == "best"
    assert sentencepiece[-1].startswith("+")
    assert f"- bpe predicts this text best: {bpe[1]} bits per byte." in result.stdout
    assert f"- sentencepiece is far weaker here: {sentencepiece[-1][1:]} more bits per byte than bpe" in result.stdout
    assert "# weights:" not in result.stdout, "they are given"
    assert "--text FILE" not in result.stdout


def test_a_member_that_is_far_weaker_is_named_in_the_file_where_weights_are_uniform(
    deepen, use_ensemble, make_ensemble, tmp_path
):
    known = "The quick brown fox jumps over the lazy dog."
    use_ensemble(make_ensemble([], texts_of={"bpe": [known], "sentencepiece": ["Nothing."]}, weights=None))
    (tmp_path / "text").write_text(known)
    result = deepen("inspect", "--text", tmp_path / "text", "--output", tmp_path / "ensemble.yaml")
    line = "# weights: give sentencepiece less, or let deepen calibrate choose them\n"
    assert line in result.stdout
    assert line in (tmp_path / "ensemble.yaml").read_text()


def test_one_member_alone_has_its_figure(deepen, use_ensemble, make_ensemble, tmp_path):
    use_ensemble(make_ensemble(["a story."], kinds=("bpe",)))
    (tmp_path / "text").write_text("a story.")
    stdout = deepen("inspect", "--text", tmp_path / "text").stdout
    assert re.search(r"bpe needs \d+\.\d\d bits per byte of this text\.", stdout)


def test_a_text_of_one_word_is_still_compared_by_how_it_is_cut(deepen, use_ensemble, make_ensemble, tmp_path):
    use_ensemble(make_ensemble(["a story."]))
    (tmp_path / "text").write_text("quick")
    result = deepen("inspect", "--text", tmp_path / "text")
    assert result.exit_code == 0
    assert "Sample text: 5 characters" in result.stdout
    assert "- Not compared in bits per byte: a text to compare members on must hold two words" in result.stdout
    assert "Recommended settings" in result.stdout


def test_lines_that_a_member_cannot_write_are_left_out_for_all(
    deepen, use_ensemble, make_ensemble, vocabularies, tmp_path
):
    tokenizer = toy_tokenizers.sentencepiece_bpe(byte_fallback=False)
    vocabularies["bare"] = Vocabulary.from_tokenizer(tokenizer, name="bare")
    try:
        use_ensemble(make_ensemble(["the lazy dog"], kinds=("bare", "bpe")))
    finally:
        del vocabularies["bare"]
    (tmp_path / "text").write_text("the lazy dog\n🙂\n")
    (tmp_path / "signs").write_text("🙂 🙂")
    result = deepen("inspect", "--text", tmp_path / "text")
    assert "9 bytes in 1 passage\n" in result.stdout
    assert "- 20% of this text was not compared: not every member can write it." in result.stdout
    result = deepen("inspect", "--text", tmp_path / "signs")
    assert result.exit_code == 0
    assert "- Not compared in bits per byte: members are compared on lines that all" in result.stdout
    assert "(bare cannot write '🙂')" in result.stdout


@pytest.mark.parametrize(
    ("content", "problem"), [(b"", "must hold some text"), (b"Gr\xfc\xdfe", "must be text in UTF-8")]
)
def test_a_text_that_cannot_be_used_ends_it_before_models_are_loaded(
    deepen, use_ensemble, make_ensemble, tmp_path, content, problem
):
    asked = use_ensemble(make_ensemble(["a story."]))
    (tmp_path / "text").write_bytes(content)
    result = deepen("inspect", "--text", tmp_path / "text")
    assert (result.exit_code, asked) == (1, [])
    assert problem in result.stderr


def test_how_much_of_a_long_text_was_read_is_said(deepen, use_ensemble, make_ensemble, tmp_path):
    use_ensemble(make_ensemble(["a story."], kinds=("bpe",)))
    (tmp_path / "text").write_text("the dog\n" * 3000)
    stdout = deepen("inspect", "--text", tmp_path / "text").stdout
    assert re.search(r"Sample text: 1[0-9],\d{3} characters, excerpts of 1[0-9],\d{3} of 24,000 bytes", stdout)


def test_without_a_text_it_says_how_to_compare_on_one(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble(["a story."]))
    stdout = deepen("inspect").stdout
    assert "- Which member predicts your own text best: give some of it, `--text FILE`." in stdout
    assert "Bits per byte" not in stdout


def test_what_it_writes_is_what_it_shows_and_opens_as_an_ensemble(deepen, tmp_path):
    file = tmp_path / "ensemble.yaml"
    result = deepen("inspect", "--output", file)
    assert result.exit_code == 0
    assert file.read_text() in result.stdout
    assert f"Written to {file}" in result.stdout
    with Ensemble.from_config(file) as ensemble:
        assert ensemble.member_names == ("llama", "neox", "qwen2")
        assert ensemble.config == read_recommended(result.stdout)


def test_a_file_that_is_there_is_not_written_over_unless_told_to(deepen, use_ensemble, make_ensemble, tmp_path):
    asked = use_ensemble(make_ensemble(["a story."]))
    file = tmp_path / "ensemble.yaml"
    file.write_text("mine")
    result = deepen("inspect", "--output", file)
    assert (result.exit_code, asked, file.read_text()) == (1, [], "mine")
    assert "is there already: give another --output, or --force" in result.stderr
    assert deepen("inspect", "--output", file, "--force").exit_code == 0
    assert EnsembleConfig.load(file).main == "bpe"
    assert "--output must name a file in a folder" in deepen("inspect", "--output", tmp_path / "no" / "file").stderr


def test_a_method_without_a_reading_keeps_its_settings(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble(["a story."], fusion={"method": "union", "trust": 0.5}))
    fusion = read_recommended(deepen("inspect").stdout).fusion
    assert (fusion.method, fusion.trust) == ("union", 0.5)


LONG = "SmolLM2-135M-Instruct-finetuned-on-very-long-stories-v2"


def test_at_80_columns_no_name_and_no_figure_is_cut(deepen, use_ensemble, make_ensemble, vocabularies, tmp_path):
    (tmp_path / "text").write_text("the lazy dog\n" * 3000)
    vocabularies[LONG] = Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(), name=LONG)
    shown = []
    try:
        for width in ("200", "80"):
            kinds = (LONG, "unigram", "bpe")
            use_ensemble(make_ensemble(["the lazy dog"], kinds, context_length=131_072, weights="prompt"))
            result = deepen("inspect", "--text", tmp_path / "text", env={"COLUMNS": width})
            assert result.exit_code == 0
            shown.append(re.sub(r"in [\d.]+ s", "", result.stdout.split("Verdict")[0]))
    finally:
        del vocabularies[LONG]
    wide, narrow = shown
    assert all(len(line) <= 80 for line in narrow.splitlines())
    assert "…" not in narrow
    figures = re.compile(r"(?<!\S)[-+]?[\d,.]*\d[\d,.]*%?(?!\S)")
    assert sorted(figures.findall(narrow)) == sorted(figures.findall(wide))


def test_what_the_models_own_settings_say_is_shown_member_by_member(deepen, use_ensemble, make_ensemble, monkeypatch):
    ensemble = make_ensemble(["a story."], ("bpe", "unigram"))
    use_ensemble(ensemble)
    assert "generation settings" not in deepen("inspect").stdout
    defaults = GenerationDefaults((5,), (), {"eos_token_id": [2, 0], "suppress_tokens": [5], "temperature": 0.6})
    monkeypatch.setattr(type(ensemble.members[0]), "generation_defaults", defaults)
    shown = " ".join(deepen("inspect").stdout.split())
    assert "bpe: followed: eos_token_id 2, 0; suppress_tokens 5; passed over: temperature 0.6" in shown
    assert "unigram: followed: eos_token_id 2, 0; passed over: suppress_tokens 5; temperature 0.6" in shown
    assert "An ensemble is greedy and without penalties" in shown


def test_shared_weights_are_counted_once_and_how_weights_are_stored_is_said(
    deepen, use_ensemble, make_ensemble, monkeypatch
):
    ensemble = make_ensemble(["a story."])
    one, two = ensemble.members
    monkeypatch.setattr(type(one), "weight_bytes", property(lambda self: 5_000_000))
    monkeypatch.setattr(type(one), "shared_weight_bytes", property(lambda self: 4_000_000 if self is two else 0))
    stored = {"dtype": "float16", "quantization": {"quant_method": "torchao"}, "adapter": "/a"}
    identity = {"name": "a", "dtype": "float32", "quantization": ""}
    monkeypatch.setattr(type(one), "identity", property(lambda self: stored if self is two else identity))
    use_ensemble(ensemble)
    shown = deepen("inspect").stdout
    assert "5 MB, 4 MB of them counted before" in shown
    assert re.search(r"all members +6 MB", shown)
    assert "float16 + torchao + adapter" in shown
