from __future__ import annotations

import pytest
import torch

from deepen_llm.bench.baseline import LEARNING_RATE, NUM_STEPS, RecomputingEnsemble
from deepen_llm.fusion.relative.inverse import gradient_search
from tests.models import make_model


@pytest.fixture
def baseline(vocabularies):
    chosen = [vocabularies["bpe"], vocabularies["sentencepiece"]]
    models = [make_model("llama", vocab_size=len(v.tokens), seed=seed) for seed, v in enumerate(chosen)]
    return RecomputingEnsemble(models, chosen)


def test_its_search_is_the_published_one_that_the_library_has_in_closed_form(baseline):
    generator = torch.Generator().manual_seed(1)
    logits = [torch.randn(len(relative), generator=generator) * 3 for relative in baseline._relative]
    shares = [rows.softmax(dim=-1) @ relative for rows, relative in zip(logits, baseline._relative, strict=True)]
    target = torch.stack(shares).mean(dim=0)
    expected = gradient_search(
        logits[0][None], baseline._relative[0], target[None], num_steps=NUM_STEPS, learning_rate=LEARNING_RATE
    )
    found = baseline._search(logits).log_softmax(dim=-1)
    torch.testing.assert_close(found, expected[0].log_softmax(dim=-1), atol=2e-3, rtol=0)


def test_it_generates_the_asked_number_of_text_tokens_and_repeats_itself(baseline):
    ids = baseline.generate("the cat", 6)
    assert len(ids) == 6
    assert all(baseline._vocabularies[0].tokens[token_id] is not None for token_id in ids)
    assert ids == baseline.generate("the cat", 6)


def test_one_model_twice_is_that_model_alone(vocabularies):
    vocabulary = vocabularies["bpe"]
    model = make_model("llama", vocab_size=len(vocabulary.tokens))
    twice = RecomputingEnsemble([model, model], [vocabulary, vocabulary])
    prompt_ids = list(vocabulary.encode_prompt("the cat").ids)
    allowed = torch.tensor([token is not None for token in vocabulary.tokens])
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt_ids])).logits[0, -1]
    assert twice.generate("the cat", 1) == [int(logits.masked_fill(~allowed, -torch.inf).argmax())]
