from __future__ import annotations

import dataclasses

import pytest
import torch

from deepen_llm.bench.reference import fuse_candidates
from deepen_llm.fusion.relative import build
from deepen_llm.fusion.relative.candidates import Columns
from deepen_llm.fusion.relative.inverse import InverseSearch
from deepen_llm.fusion.relative.rows import RowTables
from deepen_llm.fusion.relative.sampled import SampledTables, draw_sample
from deepen_llm.fusion.relative.space import SHARPNESS, build_relative_matrix
from deepen_llm.table_store import TableStore
from tests.fusion.relative.test_method import SEARCHES, close, make_fusion, make_logits, make_spaces, tolerance
from tests.rounding import rounding

ALL = 400
"""More candidates than the vocabularies have tokens."""


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(
    ("sizes", "num_common", "settings"),
    [
        ((150, 130), 60, {}),
        ((150, 130), 60, {"main": 1, "weights": [0.7, 0.3]}),
        ((150, 130, 170), 60, {"num_steps": 9}),
        ((150, 130), 60, {"trust": 0.4}),
        ((150, 130), 60, {"align_eos": False, "main_ends": True}),
        ((150, 130), 1, {}),
    ],
)
@pytest.mark.parametrize("max_candidates", [8, ALL])
def test_where_every_anchor_is_sampled_both_forms_equal_the_reference(
    sizes, num_common, settings, search, max_candidates
):
    spaces = make_spaces(sizes, num_common, num_special=3)
    logits = make_logits(spaces, batch=4)
    settings = {"search": search, "max_candidates": max_candidates, **settings}
    expected = fuse_by_reference(spaces, logits, **settings)
    for form in ("dense", "sampled"):
        found = make_fusion(spaces, form=form, **settings).fuse(logits)
        atol = tolerance(spaces, settings.get("num_steps", 5))
        torch.testing.assert_close(found.double().exp(), expected.exp(), atol=atol, rtol=0)


def fuse_by_reference(spaces, logits, *, search, max_candidates, num_steps=5, trust=1.0, **settings):
    """The float64 reference, with what the frame adds: aligned ends, trust, and steps that the main model ends."""
    main, count = settings.get("main", 0), len(spaces)
    if settings.get("align_eos", True):
        spaces = [space.with_eos_anchor() for space in spaces]
    found = fuse_candidates(
        spaces,
        logits,
        main=main,
        weights=settings.get("weights", [1 / count] * count),
        search=InverseSearch(search, num_steps, 0.15),
        max_candidates=max_candidates,
    )
    alone = logits[main].double().masked_fill(~spaces[main].allowed, -torch.inf).log_softmax(dim=-1)
    fused = torch.log_softmax((1 - trust) * alone + trust * found, dim=-1) if trust < 1 else found
    if not settings.get("main_ends"):
        return fused
    ends = (alone.argmax(dim=-1, keepdim=True) == torch.tensor(spaces[main].eos_ids)).any(dim=-1, keepdim=True)
    return torch.where(ends, alone, fused)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("removed_directions", [None, 2])
def test_removed_directions_zero_rows_and_missing_rows_mean_the_same_as_in_the_dense_form(search, removed_directions):
    spaces = []
    for space in make_spaces((150, 130), 60, num_special=3):
        embeddings = space.embeddings.clone()
        embeddings[space.anchor_ids[0]] = 0
        embeddings[-4] = 0
        anchor_ids = space.anchor_ids[space.anchor_ids < len(embeddings) - 2]
        spaces.append(dataclasses.replace(space, embeddings=embeddings[:-2], anchor_ids=anchor_ids))
    num_anchors = min(len(space.anchor_ids) for space in spaces)
    spaces = [
        dataclasses.replace(space, anchor_ids=space.anchor_ids[:num_anchors], removed_directions=removed_directions)
        for space in spaces
    ]
    logits = make_logits(spaces)
    dense = make_fusion(spaces, search=search, form="dense")
    form = make_fusion(spaces, search=search, form="sampled", max_candidates=ALL)
    close(form.fuse(logits), dense.fuse(logits), atol=2 * tolerance(spaces))


@pytest.mark.lengthy
@pytest.mark.parametrize("search", SEARCHES)
def test_a_sample_of_the_anchors_comes_close_to_all_of_them(search):
    spaces = make_spaces((3000, 2500), 1500, hidden=48, seed=1)
    logits = make_logits(spaces, batch=40, scale=6.0)
    expected = make_fusion(spaces, search=search, form="dense", max_candidates=32).fuse(logits).double()
    found = make_fusion(spaces, search=search, form="sampled", max_candidates=32).fuse(logits).double()
    losses = (expected.exp() * (expected - found)).where(expected > -torch.inf, 0.0).sum(dim=-1)
    assert (expected.argmax(dim=-1) == found.argmax(dim=-1)).double().mean() >= 0.95
    assert losses.median() < {"multiplicative": 1e-2, "gradient": 1e-3}[search]


@pytest.mark.parametrize("search", SEARCHES)
def test_a_row_does_not_depend_on_the_others_of_its_batch(search):
    spaces = make_spaces((300, 260), 120, num_special=2)
    fusion = make_fusion(spaces, search=search, form="sampled", max_candidates=20)
    logits = make_logits(spaces, batch=5)
    together = fusion.fuse(logits)
    for row in range(5):
        alone = fusion.fuse([rows[row : row + 1] for rows in logits])
        close(alone, together[row : row + 1], atol=2 * tolerance(spaces))


def test_the_result_is_a_distribution_over_the_tokens_that_may_come():
    spaces = make_spaces((300, 260), 120, num_special=4)
    fused = make_fusion(spaces, form="sampled").fuse(make_logits(spaces))
    torch.testing.assert_close(fused.exp().sum(dim=-1), torch.ones(3), atol=tolerance(spaces), rtol=0)
    assert (fused[:, :3] == -torch.inf).all()
    assert fused.isfinite()[:, 3:].all()


def test_a_token_that_only_another_member_proposes_becomes_a_candidate():
    spaces = make_spaces((600, 500), 200)
    anchor = 17
    logits = [torch.zeros(1, 600), torch.zeros(1, 500)]
    main_token, other_token = int(spaces[0].anchor_ids[anchor]), int(spaces[1].anchor_ids[anchor])
    logits[0][0, int(spaces[0].anchor_ids[3])] = 9.0
    logits[0][0, main_token] = -6.0  # the last of 600 for the main model
    logits[1][0, other_token] = 25.0
    fused = make_fusion(spaces, form="sampled", max_candidates=8, weights=[0.2, 0.8], num_steps=20).fuse(logits)
    assert fused.argmax() == main_token


def test_rows_at_the_columns_have_the_entries_of_the_matrix_and_sum_to_one():
    space = make_spaces((900,), 700, hidden=24)[0]
    member = SampledTables.build(space)
    matrix = build_relative_matrix(space.embeddings, space.anchor_ids, 900)
    anchors = torch.tensor([[5, 9, 5, 300], [0, 699, 1, 1]])
    columns = Columns.choose(anchors, member.sample)
    token_ids = torch.tensor([[3, 20, 899], [700, 1, 2]])
    rows = member.rows(token_ids, columns)
    torch.testing.assert_close(rows.sum(dim=-1), torch.ones(2, 4), atol=rounding(rows.shape[-1], 2), rtol=0)
    # Of an entry, as a share of it: an exponential whose argument is at most the sharpness.
    entry = rounding(space.embeddings.shape[1], 3, SHARPNESS)
    for batch in range(2):
        for column, anchor in enumerate(columns.anchors[batch]):
            expected = matrix[token_ids[batch], anchor] * columns.is_new[batch, column]
            torch.testing.assert_close(rows[batch, :3, column], expected, atol=rounding(1), rtol=entry)
            mean = matrix[space.allowed, anchor].mean() * columns.is_new[batch, column]
            torch.testing.assert_close(rows[batch, 3, column], mean, atol=rounding(1), rtol=entry + rounding(900))


def test_half_precision_embeddings_are_not_copied():
    spaces = [
        dataclasses.replace(space, embeddings=space.embeddings.bfloat16()) for space in make_spaces((300, 260), 120)
    ]
    members = [SampledTables.build(space) for space in spaces]
    assert members[0].embeddings.data_ptr() == spaces[0].embeddings.data_ptr()
    logits = make_logits(spaces)
    dense = make_fusion(spaces, form="dense", max_candidates=16).fuse(logits)
    close(make_fusion(spaces, form="sampled", max_candidates=16).fuse(logits), dense, atol=1e-4)


def test_auto_takes_the_dense_form_while_the_matrices_are_small(monkeypatch):
    spaces = make_spaces((300, 260), 120)
    assert make_fusion(spaces, max_candidates=8).method.form == "dense"
    monkeypatch.setattr(build, "DENSE_ENTRIES", 300 * 121 - 1)
    assert make_fusion(spaces, max_candidates=8).method.form == "sampled"
    assert make_fusion(spaces).method.form == "dense"  # every token is searched over


@pytest.mark.lengthy
def test_the_sampled_form_holds_no_matrix():
    spaces = make_spaces((3000, 2500), 1500, hidden=48)
    form, dense = make_fusion(spaces, form="sampled"), make_fusion(spaces, form="dense")
    assert form.method.num_bytes == sum(form.method.member_bytes) < dense.method.num_bytes / 10
    assert max(form.method.member_bytes) < 40 * 3000 + 4 * 512 * 48


def test_a_second_build_takes_the_tables_from_the_store(tmp_path, monkeypatch):
    spaces = make_spaces((300, 260), 120)
    logits = make_logits(spaces)
    first = make_fusion(spaces, form="sampled", store=TableStore(tmp_path)).fuse(logits)

    def refuse(*_):
        raise AssertionError("built again")

    monkeypatch.setattr(RowTables, "build", refuse)
    again = make_fusion(spaces, form="sampled", store=TableStore(tmp_path)).fuse(logits)
    assert torch.equal(first, again)
    other = dataclasses.replace(spaces[0], removed_directions=1)
    with pytest.raises(AssertionError, match="built again"):
        make_fusion([other, spaces[1]], form="sampled", store=TableStore(tmp_path))


def test_the_build_reports_its_progress():
    shares = []
    make_fusion(make_spaces((300, 260), 120), form="sampled", progress=shares.append)
    assert shares == [0.5, 1.0]


@pytest.mark.gpu
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("devices", [("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")])
def test_members_on_different_devices_give_what_one_device_gives(search, devices):
    spaces = make_spaces((300, 260), 120)
    logits = make_logits(spaces)
    expected = make_fusion(spaces, search=search, form="sampled").fuse(logits)
    moved = [
        dataclasses.replace(space, embeddings=space.embeddings.to(device))
        for space, device in zip(spaces, devices, strict=True)
    ]
    fusion = make_fusion(moved, search=search, form="sampled")
    fused = fusion.fuse([rows.to(device) for rows, device in zip(logits, devices, strict=True)])
    assert fused.device.type == devices[0]
    close(fused.cpu(), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("search", SEARCHES)
def test_a_step_can_be_captured_in_a_cuda_graph(search):
    spaces = [
        dataclasses.replace(space, embeddings=space.embeddings.to("cuda")) for space in make_spaces((300, 260), 120)
    ]
    fusion = make_fusion(spaces, search=search, form="sampled")
    inputs = [rows.to("cuda") for rows in make_logits(spaces, batch=4)]
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        fusion.fuse(inputs)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = fusion.fuse(inputs)
    fresh = [rows.to("cuda") for rows in make_logits(spaces, batch=4, seed=9)]
    for place, rows in zip(inputs, fresh, strict=True):
        place.copy_(rows)
    graph.replay()
    close(captured, fusion.fuse(fresh))


def test_rows_of_the_sampled_form_are_never_made_whole():
    tables = SampledTables.build(make_spaces((90,), 50)[0])
    with pytest.raises(ValueError, match="needs columns"):
        tables.rows(torch.tensor([[1]]), None)


def test_the_sample_is_always_the_same_and_no_larger_than_the_anchors():
    assert torch.equal(draw_sample(5000), draw_sample(5000))
    assert draw_sample(10).tolist() == list(range(10))
    assert len(draw_sample(5000)) == 512
