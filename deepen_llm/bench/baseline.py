"""The published form of the method, as a baseline to be measured against; nothing else uses it.

No KV cache: every member reads its whole context at each step. Dense float32 relative matrices over all common tokens,
and the published search (arXiv 2404.12715, section 3): 5 steps of AdamW on the main model's logits through autograd,
learning rate 0.15, cosine schedule of period 10 with a floor of a quarter, KL divergence averaged over anchors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from deepen_llm.fusion.relative.space import build_relative_matrix
from deepen_llm.vocabulary import Vocabulary, common_tokens

NUM_STEPS = 5
LEARNING_RATE = 0.15
SCHEDULE_PERIOD = 10


@final
class RecomputingEnsemble:
    """Greedy decoding with the first model as the main one and uniform weights; end-of-sequence never comes."""

    def __init__(self, models: Sequence[Any], vocabularies: Sequence[Vocabulary]) -> None:
        self._models, self._vocabularies = models, vocabularies
        anchors = common_tokens(vocabularies)
        self._relative = [
            build_relative_matrix(
                model.get_input_embeddings().weight.detach(), torch.tensor([ids[i] for ids in anchors]), len(vocabulary)
            ).to(models[0].device)
            for i, (model, vocabulary) in enumerate(zip(models, vocabularies, strict=True))
        ]
        self._forbidden = [torch.tensor([token is None for token in v.tokens]) for v in vocabularies]

    def generate(self, prompt: str, num_tokens: int) -> list[int]:
        """The main model's ids of `num_tokens` new tokens."""
        main = self._vocabularies[0]
        prompt_ids, new_ids = list(main.encode_prompt(prompt).ids), list[int]()
        while len(new_ids) < num_tokens:
            text = prompt + main.join(new_ids).decode("utf-8", "replace")
            others = [list(vocabulary.encode_prompt(text).ids) for vocabulary in self._vocabularies[1:]]
            logits = [self._read(i, ids) for i, ids in enumerate([prompt_ids + new_ids, *others])]
            new_ids.append(int(self._search(logits).argmax()))
        return new_ids

    def _read(self, index: int, ids: list[int]) -> Tensor:
        """Next-token logits (num_logits,) of one member, float32, from its whole context."""
        model = self._models[index]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1]
        forbidden = self._forbidden[index].to(logits.device)
        read: Tensor = logits.float().masked_fill(forbidden, -1e9).to(self._models[0].device)
        return read.clone()

    def _search(self, logits: Sequence[Tensor]) -> Tensor:
        """The main model's logits after the search for the fused relative probs."""
        shares = [rows.softmax(dim=-1) @ relative for rows, relative in zip(logits, self._relative, strict=True)]
        target = torch.stack(shares).mean(dim=0)
        found = logits[0].clone().requires_grad_()
        optimizer = torch.optim.AdamW([found], lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, SCHEDULE_PERIOD, eta_min=LEARNING_RATE / 4)
        for _ in range(NUM_STEPS):
            optimizer.zero_grad()
            log_relative = (found.softmax(dim=-1) @ self._relative[0]).clamp_min(1e-35).log()
            loss = F.kl_div(log_relative, target, reduction="sum") / len(target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        return found.detach()
