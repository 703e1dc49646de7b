"""Steps recorded while an ensemble answers: the members' distributions, as a fusion method sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from deepen_llm.assembly import read_tokens
from deepen_llm.bench.decode import SENTENCES
from deepen_llm.config import SamplingParams
from deepen_llm.decoding.engine import Engine
from deepen_llm.decoding.feeding import Feeder
from deepen_llm.decoding.gating import FuseAlways
from deepen_llm.decoding.generation import GeneratingSequence
from deepen_llm.decoding.step import Stepper
from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import ConfigError
from deepen_llm.fusion.base import FusionMethod, Step
from deepen_llm.fusion.frame import FusionFrame
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests.deadline import Deadline
from deepen_llm.weighting.base import FixedWeighting

TOKENS_EACH = 24


@final
class RecordingFusion(FusionMethod):
    """Does what another method does, and keeps the members' distributions that it is given token by token."""

    def __init__(self, method: FusionMethod) -> None:
        self._method = method
        self._steps: list[list[Tensor]] = []

    def combine(self, step: Step) -> Tensor:
        """See `FusionMethod.combine`."""
        others = {other.member: other.own.log() for other in step.others if other.own is not None}
        by_member = {step.main: step.logprobs.clone(), **others}
        self._steps.append([by_member[index] for index in sorted(by_member)])
        return self._method.combine(step)

    def recorded(self) -> list[Tensor]:
        """Everything so far: logprobs `(num_steps, num_logits)` per member."""
        return [torch.cat(list(rows)) for rows in zip(*self._steps, strict=True)]


def record_steps(ensemble: Ensemble, prompts: Sequence[str] = SENTENCES) -> list[Tensor]:
    """The members' logprobs `(num_steps, num_logits)` while the ensemble goes on from prompts, fused token by token.

    Raises:
        ConfigError: An ensemble of one, which fuses nothing.
    """
    if ensemble.fusion is None:
        raise ConfigError("steps of one member alone are not fused: give at least two")
    method, main = RecordingFusion(ensemble.fusion), ensemble.member_names.index(ensemble.main_name)
    members = [
        GuardedMember(member, one.temperature)
        for member, one in zip(ensemble.members, ensemble.config.members, strict=True)
    ]
    frame = FusionFrame(method, read_tokens(ensemble.members, ensemble.config.fusion), main)
    params = SamplingParams(max_new_tokens=TOKENS_EACH)
    stepper = Stepper(members, main, Feeder(members, are_projected=False), frame, FuseAlways())
    engine = Engine(stepper, FixedWeighting(ensemble.config.fixed_weights), ensemble.config.max_batch_size)
    try:
        sequences = [
            GeneratingSequence(
                members, main, [member.vocabulary.encode_prompt(text) for member in members], params, Deadline(None)
            )
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
