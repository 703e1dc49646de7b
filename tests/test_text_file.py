from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from deepen_llm.errors import ConfigError
from deepen_llm.text_file import check_readable, check_writable, read_text, write_text


def test_a_text_is_read_as_it_is_and_without_a_byte_order_mark(tmp_path):
    file = tmp_path / "text.txt"
    file.write_bytes("\ufeffdie Brücke\r\n".encode())
    assert read_text(file, "a text") == "die Brücke\r\n"
    check_readable(file, "a text")


@pytest.mark.parametrize("name", ["none.txt", "x" * 5000, "a\0b", ".", "none/none.txt"])
def test_what_is_no_file_is_refused_by_what_it_is_for_and_its_name(tmp_path, name):
    for refuse in (read_text, check_readable):
        with pytest.raises(ConfigError, match=r"^--text cannot be read: "):
            refuse(tmp_path / name, "--text")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without an end")
def test_of_a_file_without_an_end_no_more_than_the_limit_is_read():
    with pytest.raises(ConfigError, match="more than 1,000 bytes"):
        read_text("/dev/zero", "--text", max_bytes=1000)


def test_a_file_in_another_encoding_is_refused_with_the_place(tmp_path):
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(ConfigError, match="byte 3 is not UTF-8"):
        read_text(tmp_path / "latin.txt", "--text")


def test_a_pipe_is_read_once(tmp_path):
    reading, writing = os.pipe()
    os.write(writing, b"{}")
    os.close(writing)
    check_readable(Path(f"/dev/fd/{reading}"), "--json-schema")
    assert read_text(f"/dev/fd/{reading}", "--json-schema") == "{}"
    os.close(reading)


@pytest.mark.parametrize("name", [".", "none/page.html", "x" * 5000, "a\0b"])
def test_a_place_that_takes_no_file_is_refused_before_work(tmp_path, name):
    with pytest.raises(ConfigError, match=r"^--output "):
        check_writable(tmp_path / name, "--output")


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    def fail(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "page.html"
    write_text(file, "old", "--output")
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ConfigError, match=r"--output cannot be written: No space left on device.*page\.html"):
        write_text(file, "new", "--output")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"] and file.read_text() == "old"


def test_a_link_is_written_through_and_a_device_is_not_replaced(tmp_path):
    (tmp_path / "link.txt").symlink_to(tmp_path / "target.txt")
    write_text(tmp_path / "link.txt", "text", "--output")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "target.txt").read_text() == "text"
    write_text(Path(os.devnull), "text", "--output")
    assert not Path(os.devnull).is_file()


def test_what_utf_8_cannot_hold_is_read_back_from_json(tmp_path):
    write_text(tmp_path / "a.json", json.dumps({"prompt": "\udcff"}, ensure_ascii=False), "--json")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"prompt": "\udcff"}
