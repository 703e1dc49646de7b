"""Steps recorded while an ensemble answers: the members' logits, as a fusion method sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from deepen_llm.bench.decode import SENTENCES
from deepen_llm.config import SamplingParams
from deepen_llm.decoding.engine import Engine
from deepen_llm.decoding.generating import GeneratingSequence
from deepen_llm.ensemble import Ensemble
from deepen_llm.fusion.base import FusionMethod

TOKENS_EACH = 24


@final
class RecordingFusion(FusionMethod):
    """Does what another method does, and keeps the logits that it is given."""

    def __init__(self, method: FusionMethod) -> None:
        self._method = method
        self._steps: list[list[Tensor]] = []

    def fuse(self, logits: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
        """See `FusionMethod.fuse`."""
        self._steps.append([rows.clone() for rows in logits])
        return self._method.fuse(logits, weights)

    @property
    def num_bytes(self) -> int:
        """Memory of the method."""
        return self._method.num_bytes

    def recorded(self) -> list[Tensor]:
        """Everything so far, `(num_steps, num_logits)` a member."""
        return [torch.cat(list(rows)) for rows in zip(*self._steps, strict=True)]


def record_steps(ensemble: Ensemble, prompts: Sequence[str] = SENTENCES) -> list[Tensor]:
    """The members' logits `(num_steps, num_logits)` while the ensemble goes on from prompts."""
    method, members = RecordingFusion(ensemble.fusion), ensemble.members
    main = ensemble.member_names.index(ensemble.main_name)
    params = SamplingParams(max_new_tokens=TOKENS_EACH)
    engine = Engine(members, main, method, ensemble.config.max_batch_size)
    try:
        sequences = [
            GeneratingSequence(members, main, [member.vocabulary.encode_prompt(text) for member in members], params)
            for text in prompts
        ]
        for sequence in sequences:
            engine.submit(sequence)
        for sequence in sequences:
            sequence.future.result()
    finally:
        engine.close()
    return method.recorded()


def starter_prompts(num_each: int = 40) -> list[str]:
    """Held-out questions of every starter task."""
    from deepen_llm.starter import TASKS
    from deepen_llm.starter.tasks import load_task

    return [question.prompt for task in TASKS for question in load_task(task, num_each)]
