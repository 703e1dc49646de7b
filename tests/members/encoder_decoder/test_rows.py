from __future__ import annotations

import random

import pytest
import torch

from deepen_llm.errors import MemberError
from deepen_llm.members.base import Branch
from deepen_llm.members.encoder_decoder.positions import RowPositions
from tests.encoder_decoders import FAMILIES, make_member
from tests.models import make_model as make_causal

SOURCES = ("the quick brown fox", "dog")


@pytest.fixture(params=["t5", "m2m100"])
def member(request):
    with torch.inference_mode():
        yield make_member(request.param)


def open_rows(member):
    """A row over each source, fed three tokens and four."""
    ids = member.vocabulary.encode("and the dog does not mind")
    rows = [member.open_over(member.source_reader.encode(source)) for source in SOURCES]
    member.extend({rows[0]: ids[:3], rows[1]: ids[:4]})
    return rows, ids


def test_branches_are_over_the_source_of_their_row(member):
    rows, ids = open_rows(member)
    peeked = member.peek([Branch(row, 1, ids[4:5]) for row in (rows[1], rows[0], rows[1])])
    for row, num_fed, logits in ((rows[0], 3, peeked[1]), (rows[1], 4, peeked[0])):
        member.rollback(row, 1)
        torch.testing.assert_close(member.extend({row: ids[4:5]})[0], logits, atol=1e-4, rtol=1e-4)
        assert num_fed == member._rows._cache.answer.lengths[rows.index(row)]
    torch.testing.assert_close(peeked[0], peeked[2])


def test_a_row_that_lost_all_its_tokens_keeps_its_source(member):
    rows, ids = open_rows(member)
    before = member.extend({rows[0]: ids[3:4]})[0]
    member.rollback(rows[0], 4)
    torch.testing.assert_close(member.extend({rows[0]: ids[:4]})[0], before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("place", [0, 1])
def test_a_pass_that_fails_halfway_leaves_the_rows_as_they_were(member, place):
    rows, ids = open_rows(member)
    due = member.peek([Branch(row, 0, ids[4:6]) for row in rows])
    decoder = member._model.get_decoder()
    layer = (decoder.block if hasattr(decoder, "block") else decoder.layers)[place]
    hook = layer.register_forward_pre_hook(lambda *_: torch.zeros(1)[5])
    with pytest.raises(IndexError):
        member.extend(dict.fromkeys(rows, ids[4:6]))
    with pytest.raises(IndexError):
        member.extend({member.open(): ids[:2]})
    hook.remove()
    torch.testing.assert_close(member.extend(dict.fromkeys(rows, ids[4:6])), due, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("where", ["answer", "source"])
def test_rows_of_which_one_cache_could_not_be_changed_are_lost_and_say_so(member, where, monkeypatch):
    rows, ids = open_rows(member)
    monkeypatch.setattr(getattr(member._rows._cache, where), "merge", lambda _: torch.zeros(1)[5])
    with pytest.raises(IndexError):
        member.extend({member.open(): ids[:2], rows[0]: ids[4:5]})
    monkeypatch.undo()
    if where == "source":
        with pytest.raises(RuntimeError, match="has cost this row its keys and values"):
            member.extend({rows[0]: ids[4:5]})
    else:
        member.extend({rows[0]: ids[4:5]})


def test_padded_rows_near_the_end_of_the_context_need_no_position_beyond_it():
    member = make_member("bart")
    ids = (member.vocabulary.encode("and the dog does not mind at all") * 8)[:64]
    source_ids = member.source_reader.encode("dog")
    with torch.inference_mode():
        full, short = member.open_over(source_ids), member.open_over(source_ids)
        due = member.extend({full: ids})[0]
        member.rollback(full, 1)
        member.extend({short: ids[:2]})
        logits = member.extend({full: ids[63:], short: ids[2:9]})[0]
    torch.testing.assert_close(logits, due, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_between_passes_the_model_is_as_it_was(family):
    member = make_member(family)
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "decoder_input_ids": torch.tensor([[2, 8, 9]])}
    with torch.inference_mode():
        before = member._model(**inputs).logits
        open_rows(member)
        torch.testing.assert_close(member._model(**inputs).logits, before)


def test_a_decoder_whose_positions_cannot_be_set_is_refused_by_name():
    model = make_causal("llama")
    with pytest.raises(MemberError, match="the decoder of member 'm', a LlamaForCausalLM, counts positions in a way"):
        RowPositions(model, "m", 8)


@pytest.mark.parametrize("family", ["t5", "m2m100", "bart"])
@torch.inference_mode()
def test_rows_that_join_grow_roll_back_and_leave_equal_recomputation(family):
    rng, member = random.Random(7), make_member(family)
    rows: dict[int, tuple[list[int], list[int]]] = {}

    def recompute(source, ids):
        tensors = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([ids])}
        return member._model(**tensors, use_cache=False).logits[0, -1]

    for _ in range(60):
        event = rng.random()
        if event < 0.15 and rows:
            gone = rng.choice(list(rows))
            member.release(gone)
            del rows[gone]
        for row, (_, ids) in rows.items():
            if rng.random() < 0.3 and len(ids) > 4:
                taken = rng.randint(1, 3)
                member.rollback(row, taken)
                del ids[-taken:]
        fed = {row: draw(rng, 3) for row, (_, ids) in rows.items() if rng.random() < 0.8 and len(ids) < 55}
        if (event > 0.7 and len(rows) < 5) or not rows:
            source = draw(rng, 20)
            row = member.open_over(source)
            rows[row], fed[row] = (source, []), draw(rng, 12)
        if not fed:
            continue
        for (row, ids), got in zip(fed.items(), member.extend(fed), strict=True):
            rows[row][1].extend(ids)
            torch.testing.assert_close(got, recompute(*rows[row]), atol=1e-3, rtol=1e-3)
        branches = [
            Branch(row, rng.randint(0, min(3, len(rows[row][1]) - 1)), draw(rng, 3))
            for row in rng.choices([*rows], k=3)
        ]
        for (row, num_back, ids), got in zip(branches, member.peek(branches), strict=True):
            source, before = rows[row]
            expected = recompute(source, before[: len(before) - num_back] + ids)
            torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)


def draw(rng, most):
    """Some tokens that are none of the special ones."""
    return rng.choices(range(8, 150), k=rng.randint(1, most))
