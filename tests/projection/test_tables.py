from __future__ import annotations

import pytest
import torch

from deepen_llm.projection import tables
from deepen_llm.projection.tables import ProjectionTables, TokenMap
from deepen_llm.vocabulary import Vocabulary
from tests.projection.toys import END, FewTokens, first_token
from tests.rounding import rounding
from tests.toy_tokenizers import byte_level_bpe
from tests.vocabularies import load_toy

FEW = rounding(num_terms=4, num_steps=3)
"""Four tokens at most, shared out and added up in float32."""


def test_tokens_after_pending_bytes_are_told_by_what_they_go_on_with():
    main = load_toy("gpt2")
    member = FewTokens(" the", " t", "t", " there", " dog", END)
    table = ProjectionTables(member, main).after(b" t")
    assert sorted(table.ids.tolist()) == [0, 1, 3]
    said = {token_id: place for place, token_id in enumerate(table.ids.tolist())}
    assert table.main_ids[said[0]] == first_token(main, b"he")
    assert table.main_ids[said[3]] == first_token(main, b"here")
    assert table.can_map.tolist() == [token_id != 1 for token_id in table.ids.tolist()]
    assert table.is_open[said[1]]


def test_tables_after_pending_bytes_are_kept_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(tables, "MAX_ENTRIES", 3)
    member = FewTokens("ab", "ac", "b", END)
    read = ProjectionTables(member, load_toy("gpt2"))
    first = read.after(b"a")
    assert read.after(b"a") is first
    read.after(b"b")
    assert read.after(b"a") is first
    read.after(b"ab")
    assert read.after(b"a") is not first


def test_bytes_that_begin_no_token_have_an_empty_table():
    table = ProjectionTables(FewTokens("a", END), load_toy("gpt2")).after(b"zzz")
    assert table.ids.numel() == 0 and table.main_ids.dtype == torch.int64 and table.is_open.dtype == torch.bool


def test_tokens_that_may_not_come_are_masked_and_no_residual():
    read = ProjectionTables(FewTokens(None, b"", "a", END), load_toy("gpt2"))
    assert read.mask.tolist() == [-torch.inf, -torch.inf, 0.0, 0.0]
    assert not read.has_residual
    assert ProjectionTables(FewTokens("☃", "a", END), load_toy("llama without bytes")).has_residual


def test_a_table_moves_as_a_whole():
    table = TokenMap.make([1, 2], [-1, 5], [True, False]).to(torch.device("meta"))
    assert {part.device.type for part in (table.ids, table.main_ids, table.can_map, table.is_open)} == {"meta"}


def test_a_token_counts_for_the_longer_tokens_that_it_begins_as_the_main_model_shares_them():
    main, member = load_toy("gpt2"), FewTokens(" t", "he", " dog", "?", END)
    read = ProjectionTables(member, main)
    masses = torch.tensor([[0.4, 0.1, 0.3, 0.1, 0.1]], dtype=torch.float64)
    expected = torch.zeros(1, len(main), dtype=torch.float64)
    the, tea = first_token(main, b" the"), first_token(main, b" t")
    expected[0, [the, tea, main.eos_ids[0]]] = torch.tensor([0.3, 0.1, 0.6], dtype=torch.float64)

    counted, residual = read.count(masses, expected)
    plain, _ = read.count(masses)

    assert residual is None
    assert counted[0, [the, tea]].tolist() == pytest.approx([0.3, 0.1])
    assert plain[0, [the, tea]].tolist() == pytest.approx([0.0, 0.4])
    for said in (counted, plain):
        assert said[0, first_token(main, b" dog")].item() == pytest.approx(0.3)
        assert said[0, main.eos_ids[0]].item() == pytest.approx(0.1)
        assert said.sum().item() == pytest.approx(1)


def test_a_token_of_which_the_main_model_expects_nothing_longer_counts_as_it_stands():
    main, member = load_toy("gpt2"), FewTokens(" t", "?", END)
    expected = torch.zeros(1, len(main))
    expected[0, main.eos_ids[0]] = 1.0
    counted, _ = ProjectionTables(member, main).count(torch.tensor([[0.7, 0.2, 0.1]]), expected)
    assert counted[0, first_token(main, b" t")].item() == pytest.approx(0.7, abs=FEW)
    assert counted.sum().item() == pytest.approx(1, abs=FEW)


def test_end_of_sequence_is_never_open_however_many_the_main_model_has():
    main = Vocabulary.from_tokenizer(byte_level_bpe(), name="several ends", eos_ids=[300, 301])
    assert len(main.eos_ids) > 2
    member = FewTokens("a", END)
    read = ProjectionTables(member, main)
    expected = torch.full((1, len(main)), 1 / len(main))
    counted, _ = read.count(torch.tensor([[0.25, 0.75]]), expected)
    assert read.all_tokens.is_open.tolist() == [
        ProjectionTables(FewTokens("a", END), load_toy("gpt2")).all_tokens.is_open[0],
        False,
    ]
    assert counted[0, list(main.eos_ids)].tolist() == pytest.approx([0.75, *[0.0] * (len(main.eos_ids) - 1)], abs=FEW)


def test_what_is_shared_among_longer_tokens_is_no_residual():
    main = load_toy("llama without bytes")
    character = next(token for token in main.tokens if token and len(token.decode()) == 1 and len(token) == 3)
    member = FewTokens(character[:1], character[1:], "a", END)
    member.encode = lambda text, at_start: [0] if text.encode().startswith(character) else []
    read = ProjectionTables(member, main)
    expected = torch.zeros(1, len(main))
    expected[0, main.ids_by_token[character]] = 1.0

    counted, residual = read.count(torch.tensor([[0.6, 0.1, 0.2, 0.1]]), expected)
    plain, all_rest = read.count(torch.tensor([[0.6, 0.1, 0.2, 0.1]]))

    assert residual.tolist() == [pytest.approx([0.0, 0.1, 0.0, 0.0], abs=FEW)]
    assert all_rest.tolist() == [pytest.approx([0.6, 0.1, 0.0, 0.0], abs=FEW)]
    for said, own in ((counted, residual), (plain, all_rest)):
        assert (said.sum() + own.sum()).item() == pytest.approx(1, abs=FEW)
    assert counted[0, main.ids_by_token[character]].item() == pytest.approx(0.6, abs=FEW)
