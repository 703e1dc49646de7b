from __future__ import annotations

import pytest

from deepen_llm import Ensemble, MemberConfig
from deepen_llm.starter import find_models
from recipe.inscriptions import make_inscriptions
from recipe.specialist import ask, compare, make_tokenizer, train


def test_a_gain_is_paired_and_has_its_interval_over_groups():
    assert compare([True, True, False], [True, False, False], ["a", "b", "c"])[0] == pytest.approx(1 / 3)
    same = compare([True, False] * 20, [True, False] * 20, list("abcdefghij") * 4)
    assert same == (0, 0, 0)
    gain, low, high = compare([True] * 8 + [False] * 32, [False] * 40, [str(place // 2) for place in range(40)])
    assert low < gain == 0.2 < high


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_reader_and_a_starter_together_know_more_than_each_alone(tmp_path):
    tokenizer = make_tokenizer()
    train(tokenizer, num_steps=1500).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reader, inscriptions = MemberConfig(model=tmp_path, kind="encoder-decoder"), make_inscriptions(seed=11)
    found = []
    for members in ([reader], find_models(["llama"]), [*find_models(["llama"]), reader]):
        with Ensemble.from_pretrained(members) as ensemble:
            found.append(ask(ensemble, inscriptions))
    alone, together = max(found[:2], key=sum), found[2]
    gain, low, _ = compare(together, alone, [one.answer for one in inscriptions])
    assert gain > 0.05 and low > 0
