from __future__ import annotations

import re
from itertools import combinations

import pytest

from deepen_llm.cli.inspect import format_bytes
from deepen_llm.vocabulary import common_tokens


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


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (66_123_456, "66.1 MB"), (2e15, "2e+03 TB")]
)
def test_bytes_have_decimal_units(number, text):
    assert format_bytes(number) == text
