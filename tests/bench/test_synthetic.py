from __future__ import annotations

import pytest
import torch

from deepen_llm.bench.synthetic import calibrate, make_logits, make_members
from deepen_llm.errors import ConfigError

NAMES = ("the", "The", "she", "see", "seen", "run", "Run", "tea", "red", "one")
WORDS = [f"{space}{name}".encode() for space in ("", " ") for name in NAMES]
VOCABULARIES = [[None, *WORDS, b"left"], [*reversed(WORDS), None, b"right", b" rightly"]]


def test_made_up_members_share_their_common_tokens_and_are_always_the_same():
    members = make_members(VOCABULARIES, 16, seed=4)
    again = make_members(VOCABULARIES, 16, seed=4)
    for member, twin, tokens in zip(members, again, VOCABULARIES, strict=True):
        assert torch.equal(member.embeddings, twin.embeddings)
        assert member.allowed.tolist() == [token is not None for token in tokens]
    texts = [[tokens[i] for i in member.anchor_ids] for member, tokens in zip(members, VOCABULARIES, strict=True)]
    assert texts[0] == texts[1] and sorted(texts[0]) == sorted(WORDS)
    assert not torch.equal(make_members(VOCABULARIES, 16, seed=5)[0].embeddings, members[0].embeddings)


def test_made_up_tokens_of_one_word_are_alike():
    tokens = [f"{space}{word}".encode() for space in ("", " ") for word in (f"w{i:03d}" for i in range(200))]
    member = make_members([tokens, tokens], 64)[0]
    centred = member.embeddings - member.embeddings.mean(dim=0)
    unit = centred / torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    with_and_without_space = (unit[:200] * unit[200:]).sum(dim=1).mean()
    strangers = (unit[:200] * unit[200:].roll(1, 0)).sum(dim=1).mean()
    assert with_and_without_space > strangers + 0.2


def test_vocabularies_without_a_common_token_are_refused():
    with pytest.raises(ConfigError, match="share no token"):
        make_members([[b"one", None], [b"two", None]], 16)


@pytest.mark.parametrize("hidden", [32, 256])
def test_made_up_distributions_are_what_is_promised_whatever_the_dimensions(hidden):
    tokens = [f"{space}{word}".encode() for word in (f"w{i:04d}" for i in range(1500)) for space in ("", " ")]
    tables = [[None, *tokens], [*reversed(tokens), None]]
    members = make_members(tables, hidden)
    probs = [logits.softmax(dim=-1) for logits in make_logits(members, 300)]
    named = [[table[i] for i in rows.argmax(dim=-1)] for table, rows in zip(tables, probs, strict=True)]
    agreement = sum(one == other for one, other in zip(*named, strict=True)) / 300
    assert 0.5 < agreement < 0.7
    for rows in probs:
        best = rows.amax(dim=-1)
        beyond = 1 - rows.topk(256, dim=-1).values.sum(dim=-1)
        assert 0.599 < best.min() < 0.65 and 0.93 < best.max() < 0.981
        assert 0.003 < beyond.median() < 0.008


def test_calibration_keeps_the_order_of_the_tokens_and_what_may_not_come():
    logits = 3 * torch.randn(5, 1000, generator=torch.Generator().manual_seed(0))
    logits[:, 7] = -torch.inf
    order = logits.argsort(dim=-1, descending=True)
    best, wanted, tail = order[:, 3:4].clone(), torch.full((5, 1), 0.7), torch.full((5, 1), 0.02)
    calibrate(logits, best, wanted, tail)
    probs = logits.softmax(dim=-1)
    lifted = torch.cat([order[:, 3:4], order[:, :3], order[:, 4:50]], dim=1)
    assert torch.equal(probs.argsort(dim=-1, descending=True)[:, :50], lifted)
    torch.testing.assert_close(probs.amax(dim=-1), wanted[:, 0])
    torch.testing.assert_close(1 - probs.topk(256).values.sum(dim=-1), tail[:, 0], atol=1e-4, rtol=0)
    assert torch.equal(probs[:, 7], torch.zeros(5))


def test_a_vocabulary_without_a_tail_gets_its_best_share_alone():
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    calibrate(logits, torch.tensor([[1]]), torch.tensor([[0.8]]), torch.tensor([[0.1]]))
    probs = logits.softmax(dim=-1)
    assert probs[0, 1] == pytest.approx(0.8)
    assert (probs[0, 2] / probs[0, 0]).item() == pytest.approx(2.718281828, rel=1e-5)
