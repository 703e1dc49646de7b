"""How good an ensemble is: questions answered in batches, graded, and reported as data with 95% intervals."""

from deepen_llm.evaluation.accuracy import Estimate, mean_over_tasks, wilson_estimate
from deepen_llm.evaluation.comparison import Comparison, Contestant
from deepen_llm.evaluation.questions import Question, Task, answer_task

__all__ = [
    "Comparison",
    "Contestant",
    "Estimate",
    "Question",
    "Task",
    "answer_task",
    "mean_over_tasks",
    "wilson_estimate",
]
