"""How well members fit together, judged before a run from their tokenizers and a sample text."""

from deepen_llm.compatibility.advice import describe_fit, quote_missing, recommend
from deepen_llm.compatibility.agreement import Agreement
from deepen_llm.compatibility.fit import CommonTokens, Fit, MemberFit, PairFit, count_common, judge_fit
from deepen_llm.compatibility.sample import SAMPLE, load_sample

__all__ = [
    "SAMPLE",
    "Agreement",
    "CommonTokens",
    "Fit",
    "MemberFit",
    "PairFit",
    "count_common",
    "describe_fit",
    "judge_fit",
    "load_sample",
    "quote_missing",
    "recommend",
]
