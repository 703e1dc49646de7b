"""Parts of an engine around scripted members, without an ensemble."""

from __future__ import annotations

from deepen_llm.assembly import build_frame, build_stepper
from deepen_llm.config import EnsembleConfig, FusionConfig, SamplingParams
from deepen_llm.decoding.generation import GeneratingSequence
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests.deadline import Deadline
from deepen_llm.testing import ScriptedMember
from deepen_llm.weighting.base import FixedWeights

STORY = "The quick brown fox jumps over the lazy dog."


def make_members(vocabularies, kinds=("bpe", "sentencepiece"), texts=(STORY,)):
    return [ScriptedMember(vocabularies[kind], texts, seed=at) for at, kind in enumerate(kinds)]


def make_stepper(members, *, prefill_tokens=None, **fusion):
    names = tuple(member.name for member in members)
    settings = {"num_speculative_tokens": 0, "prefill_tokens": prefill_tokens}
    config = EnsembleConfig(members=names, fusion=FusionConfig(**fusion), **settings)
    frame = build_frame(members, 0, config.fusion)
    return build_stepper([GuardedMember(member) for member in members], 0, frame, config)


def make_sequence(members, prompt=STORY[:9], weights=None, timeout_s=None, *, begins=True, **params):
    """A sequence; one that does not begin waits for its engine to give it weights."""
    guarded = [GuardedMember(member) for member in members]
    prompts = [member.vocabulary.encode_prompt(prompt) for member in members]
    sequence = GeneratingSequence(guarded, 0, prompts, SamplingParams(**params), Deadline(timeout_s))
    if begins:
        sequence.begin(FixedWeights(weights or [1 / len(members)] * len(members)))
    return sequence
