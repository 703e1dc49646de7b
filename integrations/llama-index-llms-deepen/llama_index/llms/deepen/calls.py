"""Tool calls as LlamaIndex's responses hold them, from the text of an answer."""

from __future__ import annotations

import json
from typing import Any, final

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.tools import CallReader, ToolSet, explain_cut


@final
class ToolAnswer:
    """Follows one answer that may be calls of tools."""

    def __init__(self, params: SamplingParams, tools: ToolSet) -> None:
        """`params` are those of the call; `held_params` are for the engine."""
        self.held_params = tools.hold(params)
        self._max_tokens = params.max_new_tokens
        self._reader = CallReader(params.stop)
        self._said, self._text = "", ""

    def whole(self, response: ChatResponse) -> ChatResponse:
        """The response with its calls as blocks, and no text, where its text is calls; else its text.

        Raises:
            ConfigError: The last call is not whole, since the answer was cut.
        """
        new = response.message.content if response.delta is None else response.delta
        text = self._push(new or "", is_last=True)
        if not self._reader.calls:
            return self._respond(response, text, ChatMessage(role=MessageRole.ASSISTANT, content=self._text))
        if not self._reader.is_whole:
            reason = explain_cut("the call", self._max_tokens)
            raise ConfigError(f"a tool call must be whole; got {self._said!r}: {reason}")
        calls = [
            ToolCallBlock(tool_call_id=call.id, tool_name=call.name or "", tool_kwargs=call.values)
            for call in self._reader.calls
        ]
        # The list tells LlamaIndex's programs that there are calls; what they are is read from the blocks.
        listed = [{"id": call.tool_call_id, "name": call.tool_name, "arguments": call.tool_kwargs} for call in calls]
        message = ChatMessage(role=MessageRole.ASSISTANT, blocks=calls, additional_kwargs={"tool_calls": listed})
        return self._respond(response, "", message)

    def piece(self, response: ChatResponse) -> ChatResponse | None:
        """A response of a stream: text as it comes, and calls when they are whole, in the last one.

        None where nothing can be given away. Raises what `whole` does.
        """
        if "finish_reason" in (response.raw or {}):
            return self.whole(response)
        text = self._push(response.delta or "", is_last=False)
        if self._reader.calls or not (text or response.logprobs):
            return None
        return self._respond(response, text, ChatMessage(role=MessageRole.ASSISTANT, content=self._text))

    def _push(self, text: str, *, is_last: bool) -> str:
        """The text that can be given away."""
        released, _ = self._reader.push(text, is_last=is_last)
        self._said, self._text = self._said + text, self._text + released
        return released

    @staticmethod
    def _respond(response: ChatResponse, text: str, message: ChatMessage) -> ChatResponse:
        return response.model_copy(update={"message": message, "delta": None if response.delta is None else text})


def selections(response: ChatResponse) -> list[ToolSelection]:
    """The tools that a response selects, in its order, with their arguments."""
    return [
        ToolSelection(tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=_arguments(block))
        for block in response.message.blocks
        if isinstance(block, ToolCallBlock)
    ]


def text_of(response: ChatResponse) -> str:
    """What a response says in words."""
    return "\n".join(block.text for block in response.message.blocks if isinstance(block, TextBlock))


def _arguments(block: ToolCallBlock) -> dict[str, Any]:
    return dict(json.loads(block.tool_kwargs)) if isinstance(block.tool_kwargs, str) else block.tool_kwargs
