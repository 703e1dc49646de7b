"""Configuration: frozen, validated once, unknown keys refused. Every default is written here and nowhere else."""

from deepen_llm.config.ensemble import EnsembleConfig
from deepen_llm.config.fusion import FusionConfig
from deepen_llm.config.members import MemberConfig
from deepen_llm.config.sampling import LogitBias, SamplingParams, StopIds
from deepen_llm.config.settings import Settings, describe_unknown
from deepen_llm.config.weighting import GivenWeights, WeightingConfig, check_weights

__all__ = [
    "EnsembleConfig",
    "FusionConfig",
    "GivenWeights",
    "LogitBias",
    "MemberConfig",
    "SamplingParams",
    "Settings",
    "StopIds",
    "WeightingConfig",
    "check_weights",
    "describe_unknown",
]
