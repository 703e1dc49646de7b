"""What followed the last tokens where they stood before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deepen_llm.decoding.speculation.lookup import SIZES, TokenLookup

texts = st.lists(st.integers(0, 3), max_size=60)


@given(texts, st.integers(0, 60))
def test_what_is_found_followed_these_tokens_where_they_stood_last(ids, cut):
    lookup = TokenLookup()
    lookup.note(ids[:cut], 0)
    lookup.note(ids, min(cut, len(ids)))
    for size in SIZES:
        last = tuple(ids[-size:])
        if len(last) == size:
            places = [at for at in range(size, len(ids)) if tuple(ids[at - size : at]) == last]
            assert lookup.find(last) == (ids[places[-1]] if places else None)


def test_beyond_its_size_the_older_half_is_forgotten():
    lookup = TokenLookup(max_contexts=40)
    for begin in range(0, 400, 20):
        lookup.note(range(begin, begin + 20), 0)
    assert lookup.find((398,)) == 399
    assert lookup.find((1,)) is None
    assert len(lookup._next) + len(lookup._older) < 40 + 5 * 20 * 2
