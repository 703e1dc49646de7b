from __future__ import annotations

import torch

from deepen_llm.reading import tables
from deepen_llm.reading.tables import ReadingTables, TokenTable
from tests.reading.toys import END, FewTokens, first_token
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
