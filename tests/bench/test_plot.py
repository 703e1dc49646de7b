from __future__ import annotations

import sys

import pytest

from deepen_llm.bench.fusion import FusionBenchmark
from deepen_llm.bench.plot import check_matplotlib, plot_cost
from deepen_llm.bench.synthetic import make_logits, make_members
from deepen_llm.errors import MissingDependencyError
from tests.bench.test_synthetic import VOCABULARIES


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    members = make_members(VOCABULARIES, 16)
    figures = FusionBenchmark(members, make_logits(members, 4), num_repetitions=1).run()
    plot_cost([figures, figures], tmp_path / "cost.png")
    assert (tmp_path / "cost.png").read_bytes()[:4] == b"\x89PNG"


def test_a_missing_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'deepen-llm\[bench\]'"):
        check_matplotlib()
