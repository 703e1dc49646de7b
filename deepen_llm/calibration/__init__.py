"""The main model, the weights and the trust, chosen on a development set."""

from deepen_llm.calibration.choice import Calibration, Choice, Trial
from deepen_llm.calibration.development_set import DevelopmentSet
from deepen_llm.calibration.search import calibrate, measure_uniform
from deepen_llm.calibration.trials import OnScored, Trials

__all__ = [
    "Calibration",
    "Choice",
    "DevelopmentSet",
    "OnScored",
    "Trial",
    "Trials",
    "calibrate",
    "measure_uniform",
]
