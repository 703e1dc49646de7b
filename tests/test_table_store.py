from __future__ import annotations

import errno
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from deepen_llm import table_store as storage
from deepen_llm.table_store import TableStore, default_folder, make_key

KEY = "0123456789abcdef" * 4


def make_tables():
    generator = torch.Generator().manual_seed(0)
    return {
        "scales": torch.rand(100, generator=generator),
        "sampled": torch.rand(100, 8, generator=generator).half(),
        "nearest": torch.randint(0, 100, (100, 4), generator=generator, dtype=torch.int32),
        "wide": torch.rand(10, 3, generator=generator).bfloat16(),
    }


@pytest.fixture
def store(tmp_path):
    return TableStore(tmp_path / "cache")


def test_what_was_saved_is_loaded(store):
    tables = make_tables()
    assert store.load(KEY) is None
    store.save(KEY, tables)
    loaded = store.load(KEY)
    assert loaded.keys() == tables.keys()
    assert all(torch.equal(loaded[name], table) and loaded[name].dtype == table.dtype for name, table in tables.items())


def test_another_key_is_not_there_even_if_its_file_name_is_the_same(store):
    store.save(KEY, make_tables())
    assert store.load("f" * 64) is None
    assert store.load(KEY[:32] + "0" * 32) is None


def test_a_file_of_another_format_is_not_taken(store, monkeypatch):
    store.save(KEY, make_tables())
    monkeypatch.setattr(storage, "FORMAT", "deepen_llm relative rows 2")
    assert store.load(KEY) is None


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "not safetensors"])
def test_a_damaged_file_is_noticed_and_replaced(store, damage, caplog):
    tables = make_tables()
    store.save(KEY, tables)
    path = store.path(KEY)
    whole = path.read_bytes()
    broken = {
        "truncated": whole[:-100],
        "empty": b"",
        "flipped": whole[:-10] + bytes([whole[-10] ^ 1]) + whole[-9:],
        "not safetensors": b"hello" * 100,
    }
    path.write_bytes(broken[damage])
    with caplog.at_level(logging.WARNING):
        assert store.load(KEY) is None
    assert "made again" in caplog.text
    store.save(KEY, tables)
    assert torch.equal(store.load(KEY)["scales"], tables["scales"])


def test_a_file_without_a_checksum_is_not_taken(store):
    store.save(KEY, make_tables())
    tables = load_file(store.path(KEY))
    save_file(tables, store.path(KEY), metadata={"format": storage.FORMAT, "key": KEY})
    assert store.load(KEY) is None


def test_a_loaded_table_outlives_its_file(store):
    tables = make_tables()
    store.save(KEY, tables)
    loaded = store.load(KEY)
    store.path(KEY).write_bytes(b"\0" * store.path(KEY).stat().st_size)
    assert torch.equal(loaded["scales"], tables["scales"])


def test_a_disk_that_fills_leaves_nothing_behind(store, monkeypatch, caplog):
    def fill(tables, path, metadata):
        Path(path).write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "save_file", fill)
    store.save(KEY, make_tables())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left" in caplog.text and "DEEPEN_CACHE" in caplog.text
    assert store.load(KEY) is None
    assert list(store.path(KEY).parent.iterdir()) == []


def test_a_folder_that_cannot_be_made_costs_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    store = TableStore(tmp_path / "file" / "cache")
    store.save(KEY, make_tables())
    assert store.load(KEY) is None
    assert len(caplog.records) == 1 and "DEEPEN_CACHE" in caplog.text


def test_two_processes_may_save_at_once(store):
    code = (
        "import sys, torch; from pathlib import Path; from deepen_llm.table_store import TableStore\n"
        "tables = {'scales': torch.arange(300_000.0)}\n"
        "for _ in range(20): TableStore(Path(sys.argv[1])).save(sys.argv[2], tables)"
    )
    folder = store.path(KEY).parent
    writers = [subprocess.Popen([sys.executable, "-c", code, str(folder), KEY]) for _ in range(2)]
    while any(writer.poll() is None for writer in writers):
        loaded = store.load(KEY)
        assert loaded is None or torch.equal(loaded["scales"], torch.arange(300_000.0))
    assert [writer.returncode for writer in writers] == [0, 0]
    assert [path.name for path in folder.iterdir()] == [store.path(KEY).name]


def test_the_key_changes_with_every_part_and_not_with_their_order():
    parts = {"embeddings": torch.arange(6.0).reshape(2, 3), "removed": 1, "share": 0.5, "name": "a", "none": None}
    keys = {make_key(parts)}
    assert make_key(dict(reversed(parts.items()))) in keys
    changes = {
        "embeddings": [torch.arange(6.0).reshape(3, 2), torch.arange(6.0).reshape(2, 3).half(), torch.arange(6) + 1.0],
        "removed": [2, None, "1"],
        "share": [0.25],
        "name": ["b"],
        "none": [0],
    }
    for name, values in changes.items():
        for value in values:
            key = make_key({**parts, name: value})
            assert key not in keys
            keys.add(key)
    assert make_key({**parts, "more": 1}) not in keys


def test_the_key_reads_every_tile_of_half_precision_and_strided_tensors(monkeypatch):
    monkeypatch.setattr(storage, "HASH_BYTES", 8)
    table = torch.arange(40).bfloat16().reshape(8, 5)
    changed = table.clone()
    changed[7, 4] = -1
    assert make_key({"table": table}) != make_key({"table": changed})
    assert make_key({"table": table.T}) == make_key({"table": table.T.contiguous()})
    assert make_key({"table": torch.empty(0)}) != make_key({"table": torch.empty(0, 2)})


@pytest.mark.parametrize(
    ("settings", "folder"),
    [
        ({"DEEPEN_CACHE": "/some/place"}, Path("/some/place")),
        ({"DEEPEN_CACHE": "off"}, None),
        ({"DEEPEN_CACHE": ""}, None),
        ({"XDG_CACHE_HOME": "/cache"}, Path("/cache/deepen_llm")),
        ({}, Path.home() / ".cache" / "deepen_llm"),
    ],
)
def test_the_environment_says_where_tables_are_kept(settings, folder, monkeypatch):
    for name in ("DEEPEN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert default_folder() == folder


@pytest.mark.parametrize("folder", ["a" * 5000, "a\0b", "/dev/null/x"])
def test_a_folder_that_there_cannot_be_costs_a_warning(folder, caplog):
    store = TableStore(Path(folder))
    assert store.load("0" * 64) is None
    store.save("0" * 64, {"a": torch.zeros(3)})
    assert "tables cannot be kept in" in caplog.text


def test_a_user_without_a_home_folder_keeps_no_tables(monkeypatch):
    for name in ("DEEPEN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert default_folder() is None
