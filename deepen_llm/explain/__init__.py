"""Why an answer came out as it did: who decided each token, as one page of HTML that needs nothing else."""

from deepen_llm.explain.deciding import Decision, decide
from deepen_llm.explain.explanation import ExplainedMember, ExplainedToken, Explanation, explain_answer
from deepen_llm.explain.page import render_page

__all__ = [
    "Decision",
    "ExplainedMember",
    "ExplainedToken",
    "Explanation",
    "decide",
    "explain_answer",
    "render_page",
]
