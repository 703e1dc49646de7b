"""The main model, the weights, the temperatures and the trust, chosen on a development set."""

from deepen_llm.calibration.choice import Calibration, Choice, Fit, Trial
from deepen_llm.calibration.development_set import DevelopmentSet
from deepen_llm.calibration.search import calibrate, measure_start
from deepen_llm.calibration.trials import OnScored, Trials, start_of

__all__ = [
    "Calibration",
    "Choice",
    "DevelopmentSet",
    "Fit",
    "OnScored",
    "Trial",
    "Trials",
    "calibrate",
    "measure_start",
    "start_of",
]
