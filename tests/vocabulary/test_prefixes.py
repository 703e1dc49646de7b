from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deepen_llm.vocabulary.prefixes import TokenPrefixes

BYTES = st.binary(max_size=4) | st.lists(st.sampled_from([b"a", b"b", b"\xff", b"\x00"]), max_size=4).map(b"".join)


@given(st.lists(st.none() | BYTES, max_size=30), BYTES)
def test_every_question_is_answered_as_by_a_look_at_every_token(tokens, text):
    prefixes = TokenPrefixes(tokens)
    used = {token_id: token for token_id, token in enumerate(tokens) if token}
    begin = {token_id for token_id, token in used.items() if token.startswith(text)}
    assert {prefixes.ids[place] for place in prefixes.beginning_with(text)} == begin
    assert set(prefixes.ids_of(text)) == {i for i in begin if used[i] == text}
    assert prefixes.has_longer(text) == any(used[i] != text for i in begin)
    assert prefixes.longest == max(map(len, used.values()), default=0)
