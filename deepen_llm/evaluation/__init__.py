"""How good an ensemble is: systems on the same tasks, graded, compared and reported with 95% intervals."""

from deepen_llm.evaluation.comparison import best_on_average, mean_gain, mean_share
from deepen_llm.evaluation.estimates import Estimate, wilson_estimate
from deepen_llm.evaluation.own_text import MemberOnText, OwnText, TextComparison, compare_on_text
from deepen_llm.evaluation.own_text_verdict import describe_comparison
from deepen_llm.evaluation.request_cache import RequestCache
from deepen_llm.evaluation.runner import Runner
from deepen_llm.evaluation.scores import Cost, Scores
from deepen_llm.evaluation.settling import count_trial_requests, lend_members, settle_tasks
from deepen_llm.evaluation.systems import (
    METHODS,
    System,
    SystemResult,
    TaskResult,
    each_alone,
    find_method,
    list_members,
    list_systems,
    run_system,
)
from deepen_llm.evaluation.tasks import Task, TextTask, find_tasks

__all__ = [
    "METHODS",
    "Cost",
    "Estimate",
    "MemberOnText",
    "OwnText",
    "RequestCache",
    "Runner",
    "Scores",
    "System",
    "SystemResult",
    "Task",
    "TaskResult",
    "TextComparison",
    "TextTask",
    "best_on_average",
    "compare_on_text",
    "count_trial_requests",
    "describe_comparison",
    "each_alone",
    "find_method",
    "find_tasks",
    "lend_members",
    "list_members",
    "list_systems",
    "mean_gain",
    "mean_share",
    "run_system",
    "settle_tasks",
    "wilson_estimate",
]
