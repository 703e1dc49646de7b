from __future__ import annotations

import pytest

from deepen_llm.errors import CacheError
from deepen_llm.evaluation.request_cache import RequestCache, make_key


def test_answers_are_found_again_by_another_run(tmp_path):
    file = tmp_path / "requests.jsonl"
    RequestCache(file).add("a", {"text": "één\n"})
    RequestCache(file).add("b", {"text": "two"})
    again = RequestCache(file)
    assert len(again) == 2
    assert again.get("a") == {"text": "één\n"}


def test_a_line_cut_short_by_an_interruption_is_dropped_and_written_anew(tmp_path):
    file = tmp_path / "requests.jsonl"
    cache = RequestCache(file)
    cache.add("a", {"text": "one"})
    cache.add("b", {"text": "two"})
    file.write_bytes(file.read_bytes()[:-5])
    resumed = RequestCache(file)
    assert "a" in resumed and "b" not in resumed
    resumed.add("b", {"text": "two"})
    assert len(RequestCache(file)) == 2


def test_a_line_of_something_else_is_refused_with_its_place(tmp_path):
    file = tmp_path / "requests.jsonl"
    file.write_text('{"key": "a", "answer": {}}\n{"other": 1}\n')
    with pytest.raises(CacheError, match=r"requests\.jsonl:2 is not a finished request"):
        RequestCache(file)


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(CacheError, match="cannot be used"):
        RequestCache(tmp_path)


def test_a_cache_without_a_file_remembers():
    cache = RequestCache()
    cache.add("a", {"text": "one"})
    assert cache.get("a") == {"text": "one"}


def test_keys_tell_models_and_requests_apart_but_not_the_order_of_settings():
    key = make_key({"main": "a", "weights": [1]}, {"score": "x"})
    assert key == make_key({"weights": [1], "main": "a"}, {"score": "x"})
    assert key != make_key({"weights": [1], "main": "b"}, {"score": "x"})
    assert key != make_key({"weights": [1], "main": "a"}, {"score": "y"})
