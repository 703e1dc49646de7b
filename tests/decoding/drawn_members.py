"""Members over a few letters that say everything by chance, for tests that count or enumerate what they write."""

from __future__ import annotations

import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from deepen_llm import Ensemble, EnsembleConfig, FusionConfig, MemberConfig
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import Vocabulary

LETTERS = ("a", "b", "Ġ")


def make_vocabulary(name, *merges):
    """The letters a and b, the space, and what the merges make of them; no letter is told from what stands before."""
    tokens = [*LETTERS, *("".join(pair) for pair in merges), "<end>"]
    model = models.BPE(vocab={token: at for at, token in enumerate(tokens)}, merges=list(merges))
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    return Vocabulary.from_tokenizer(fast, name=name)


def make_member(vocabulary, seed):
    """A member whose logits after every text are drawn once and for all, by text and token. It seldom ends."""
    member = ScriptedMember(vocabulary, [], confidence=0.0)

    def change(text, logits):
        chances = [random.Random(f"{seed} {text!r} {token!r}") for token in vocabulary.tokens]
        pairs = zip(vocabulary.tokens, chances, strict=True)
        return torch.tensor([chance.gauss(0.0 if token else -2.0, 1.0) for token, chance in pairs])

    member.change = change
    return member


def make_ensemble(vocabularies, weights, **fusion):
    """An ensemble of such members, the first one its main model."""
    members = [make_member(vocabulary, seed) for seed, vocabulary in enumerate(vocabularies)]
    config = EnsembleConfig(
        members=tuple(MemberConfig(model=member.name) for member in members),
        weights=tuple(weights),
        fusion=FusionConfig(method="text", **fusion),
        max_batch_size=128,
    )
    return Ensemble(members, config)
