"""Tools: which may be called, what the models are told about them, and the calls in an answer."""

from deepen_llm.frontends.tools.call_reader import CallPiece, CallReader
from deepen_llm.frontends.tools.calls import Call, explain_cut, write_call, write_head, write_result
from deepen_llm.frontends.tools.choice import Choice, ToolChoice, read_choice
from deepen_llm.frontends.tools.response_format import read_response_format
from deepen_llm.frontends.tools.tool import Tool, read_tool
from deepen_llm.frontends.tools.toolset import ToolSet, read_tools
from deepen_llm.frontends.tools.wording import ask_for, describe

__all__ = [
    "Call",
    "CallPiece",
    "CallReader",
    "Choice",
    "Tool",
    "ToolChoice",
    "ToolSet",
    "ask_for",
    "describe",
    "explain_cut",
    "read_choice",
    "read_response_format",
    "read_tool",
    "read_tools",
    "write_call",
    "write_head",
    "write_result",
]
