"""How well members fit together, judged before a run from their tokenizers and a sample text."""

from deepen_llm.compatibility.advice import describe_fit, explain_recommended, quote_missing, recommend
from deepen_llm.compatibility.agreement import Agreement, comparable_texts
from deepen_llm.compatibility.fit import CommonTokens, Fit, MemberFit, PairFit, count_common, judge_fit
from deepen_llm.compatibility.sample import SAMPLE, Sample, load_sample

__all__ = [
    "SAMPLE",
    "Agreement",
    "CommonTokens",
    "Fit",
    "MemberFit",
    "PairFit",
    "Sample",
    "comparable_texts",
    "count_common",
    "describe_fit",
    "explain_recommended",
    "judge_fit",
    "load_sample",
    "quote_missing",
    "recommend",
]
