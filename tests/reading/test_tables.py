from __future__ import annotations

import pytest
import torch

from deepen_llm.reading import tables
from deepen_llm.reading.tables import ReadingTables, TokenTable
from deepen_llm.vocabulary import Vocabulary
from tests.reading.toys import END, FewTokens, first_token
from tests.toy_tokenizers import byte_level_bpe
from tests.vocabularies import load_toy


def test_tokens_behind_open_bytes_are_told_by_what_they_say_beyond():
    main = load_toy("gpt2")
    member = FewTokens(" the", " t", "t", " there", " dog", END)
    table = ReadingTables(member, main).behind(b" t")
    assert sorted(table.ids.tolist()) == [0, 1, 3]
    said = {token_id: place for place, token_id in enumerate(table.ids.tolist())}
    assert table.targets[said[0]] == first_token(main, b"he")
    assert table.targets[said[3]] == first_token(main, b"here")
    assert table.carries.tolist() == [token_id != 1 for token_id in table.ids.tolist()]
    assert table.opens[said[1]]


def test_tables_behind_open_bytes_are_kept_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(tables, "MAX_ENTRIES", 3)
    member = FewTokens("ab", "ac", "b", END)
    read = ReadingTables(member, load_toy("gpt2"))
    first = read.behind(b"a")
    assert read.behind(b"a") is first
    read.behind(b"b")
    assert read.behind(b"a") is first
    read.behind(b"ab")
    assert read.behind(b"a") is not first


def test_bytes_that_begin_no_token_have_an_empty_table():
    table = ReadingTables(FewTokens("a", END), load_toy("gpt2")).behind(b"zzz")
    assert table.ids.numel() == 0 and table.targets.dtype == torch.int64 and table.opens.dtype == torch.bool


def test_tokens_that_may_not_come_are_masked_and_no_rest():
    read = ReadingTables(FewTokens(None, b"", "a", END), load_toy("gpt2"))
    assert read.mask.tolist() == [-torch.inf, -torch.inf, 0.0, 0.0]
    assert not read.has_rest
    assert ReadingTables(FewTokens("☃", "a", END), load_toy("llama without bytes")).has_rest


def test_a_table_moves_as_a_whole():
    table = TokenTable.make([1, 2], [-1, 5], [True, False]).to(torch.device("meta"))
    assert {part.device.type for part in (table.ids, table.targets, table.carries, table.opens)} == {"meta"}


def test_a_token_counts_for_the_longer_tokens_that_it_begins_as_the_main_model_shares_them():
    main, member = load_toy("gpt2"), FewTokens(" t", "he", " dog", "?", END)
    read = ReadingTables(member, main)
    masses = torch.tensor([[0.4, 0.1, 0.3, 0.1, 0.1]], dtype=torch.float64)
    expected = torch.zeros(1, len(main), dtype=torch.float64)
    the, tea = first_token(main, b" the"), first_token(main, b" t")
    expected[0, [the, tea, main.eos_ids[0]]] = torch.tensor([0.3, 0.1, 0.6], dtype=torch.float64)

    counted, rest = read.count(masses, expected)
    plain, _ = read.count(masses)

    assert rest is None
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
    counted, _ = ReadingTables(member, main).count(torch.tensor([[0.7, 0.2, 0.1]]), expected)
    assert counted[0, first_token(main, b" t")].item() == pytest.approx(0.7)
    assert counted.sum().item() == pytest.approx(1)


def test_end_of_sequence_is_never_open_however_many_the_main_model_has():
    main = Vocabulary.from_tokenizer(byte_level_bpe(), name="several ends", eos_ids=[300, 301])
    assert len(main.eos_ids) == 3
    member = FewTokens("a", END)
    read = ReadingTables(member, main)
    expected = torch.full((1, len(main)), 1 / len(main))
    counted, _ = read.count(torch.tensor([[0.25, 0.75]]), expected)
    assert read.whole.opens.tolist() == [ReadingTables(FewTokens("a", END), load_toy("gpt2")).whole.opens[0], False]
    assert counted[0, list(main.eos_ids)].tolist() == pytest.approx([0.75, 0.0, 0.0])


def test_what_is_shared_among_longer_tokens_is_no_rest():
    main = load_toy("llama without bytes")
    character = next(token for token in main.tokens if token and len(token.decode()) == 1 and len(token) == 3)
    member = FewTokens(character[:1], character[1:], "a", END)
    member.encode = lambda text, at_start: [0] if text.encode().startswith(character) else []
    read = ReadingTables(member, main)
    expected = torch.zeros(1, len(main))
    expected[0, main.ids_by_token[character]] = 1.0

    counted, rest = read.count(torch.tensor([[0.6, 0.1, 0.2, 0.1]]), expected)
    plain, all_rest = read.count(torch.tensor([[0.6, 0.1, 0.2, 0.1]]))

    assert rest.tolist() == [pytest.approx([0.0, 0.1, 0.0, 0.0])]
    assert all_rest.tolist() == [pytest.approx([0.6, 0.1, 0.0, 0.0])]
    assert (counted.sum() + rest.sum()).item() == pytest.approx(1) == (plain.sum() + all_rest.sum()).item()
    assert counted[0, main.ids_by_token[character]].item() == pytest.approx(0.6)
