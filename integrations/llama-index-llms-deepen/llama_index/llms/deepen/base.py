"""`DeepenLLM`: an ensemble as an ordinary LLM of LlamaIndex."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from llama_index.core.base.llms.generic_utils import messages_to_prompt as default_messages_to_prompt
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import (
    CompletionToPromptType,
    MessagesToPromptType,
    ToolSelection,
    default_completion_to_prompt,
)
from llama_index.core.tools.types import BaseTool

from deepen_llm.config import EnsembleConfig, FusionConfig, GivenWeights, MemberConfig
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.context import ContextMeter
from deepen_llm.frontends.options import (
    ALIASES,
    OPTION_NAMES,
    check_names,
    make_params,
    put_nearer,
    read_options,
    resolve_aliases,
)
from deepen_llm.frontends.source import EnsembleSource, ModelSource, without_paths
from llama_index.llms.deepen.calls import ToolAnswer, selections, text_of
from llama_index.llms.deepen.errors import PromptRefusedError
from llama_index.llms.deepen.messages import reads_messages, to_plain, with_system
from llama_index.llms.deepen.options import AnswerOptions
from llama_index.llms.deepen.predicting import PredictingLLM
from llama_index.llms.deepen.request import Request
from llama_index.llms.deepen.responses import chat_response, completion_response
from llama_index.llms.deepen.selections import limit_selection
from llama_index.llms.deepen.streaming import (
    aread_tool_answer,
    astream_responses,
    observed_astream,
    observed_stream,
    read_tool_answer,
    stream_responses,
)
from llama_index.llms.deepen.tools import CHAT_OPTIONS, describe_tool, is_object_tool, read_parameters, read_tools

if TYPE_CHECKING:
    from deepen_llm import Ensemble

_SOURCE_NAMES = [field.name for field in fields(EnsembleSource)]


class DeepenLLM(AnswerOptions, PredictingLLM):
    """Two or more language models that answer as one.

    Give `model`: a list of models (folders or names on the Hugging Face hub), the path of an `ensemble.yaml`, or
    "starter" for the small bundled models. Or give a ready `ensemble`, which may serve others at the same time.

    `chat` renders the messages under each member's own chat template, unless `messages_to_prompt` is given, whose text
    every member then reads. `complete(prompt)` sends the prompt as one user message where `is_chat_model` is true, and
    as it stands where it is not; `completion_to_prompt`, if given, decides instead. `complete(prompt, formatted=True)`
    always takes the prompt as it stands. Query engines chat with a chat model and complete with any other.

    The options of decoding (`temperature`, `max_tokens`, `stop`, ...) hold for every call and can be given anew in one.
    `timeout` is in seconds: an answer that is not whole by then raises MemberTimeoutError, a TimeoutError. A call alone
    takes `json_schema` (a dictionary or a pydantic class), `regex` or `grammar`, by which its answer is then decoded,
    and a chat takes `tools`, `tool_choice`, `tool_required` and `allow_parallel_tool_calls`.

    Example:
        >>> llm = DeepenLLM(model=["org/main-model", "org/other-model"], weights=[0.6, 0.4], max_tokens=128)
        >>> llm.complete("Why is the sky blue?", stop=["Question:"]).text
    """

    model: ModelSource | None = Field(default=None, description="What the ensemble was loaded from.")
    weights: GivenWeights = Field(
        default=None, description='One weight per member, summing to 1; "prompt" finds them for each call.'
    )
    main: int | str | None = Field(default=None, description="The main model; the first one if not given.")
    fusion: FusionConfig | None = Field(default=None, description="How the members' distributions become one.")
    max_batch_size: int | None = Field(default=None, description="The most calls that run at the same time.")
    member_options: dict[str, Any] | None = Field(
        default=None, repr=False, description="How to load each model of a list: dtype, device_map, ..."
    )
    is_chat_model: bool | None = Field(
        default=None,
        description="Whether LlamaIndex chats. None: if every member has a template and no completion_to_prompt came.",
    )

    chat_template_kwargs: dict[str, Any] | None = Field(
        default=None, description="Further variables that every chat template sees, such as enable_thinking."
    )

    _ensemble: Ensemble = PrivateAttr()
    _is_own: bool = PrivateAttr()
    _meter: ContextMeter = PrivateAttr()

    def __init__(
        self,
        model: str | Path | EnsembleConfig | Sequence[str | Path | MemberConfig] | None = None,
        *,
        ensemble: Ensemble | None = None,
        **settings: Any,
    ) -> None:
        """Open the ensemble, or take a ready one. `settings` are the fields of this class and of LlamaIndex's `LLM`.

        Raises:
            ConfigError: A setting that does not exist or does not fit, or not exactly one of `model` and `ensemble`.
            DeepenError: A member cannot be loaded, or the members do not fit together.
        """
        check_names(settings, {*type(self).model_fields, *ALIASES}, owner=type(self).__name__, kind="setting")
        settings = resolve_aliases(settings)
        make_params({name: settings[name] for name in OPTION_NAMES if name in settings})
        super().__init__(model=without_paths(model), **settings)
        self._is_own = ensemble is None
        source = EnsembleSource(**{name: getattr(self, name) for name in _SOURCE_NAMES})
        self._ensemble = source.open_unless(ensemble)
        self._meter = ContextMeter(self._ensemble.members)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A copy that shares the open ensemble."""
        memo = {} if memo is None else memo
        memo |= {id(shared): shared for shared in (self._ensemble, self._meter)}
        return super().__deepcopy__(memo)

    def __reduce__(self) -> tuple[Callable[..., DeepenLLM], tuple[type[DeepenLLM], dict[str, Any]]]:
        """What is given is pickled, and the models loaded anew; observers stay here.

        Raises:
            ConfigError: The ensemble came ready, so that nothing says where it comes from.
        """
        if not self._is_own:
            raise ConfigError(
                "a pickle keeps where models come from; this one has an ensemble= that was opened elsewhere: give "
                "model= (a list of models, the path of an ensemble.yaml, an EnsembleConfig) to have it loaded anew"
            )
        names = self.model_fields_set - {"callback_manager"}
        return _make, (type(self), {name: getattr(self, name) for name in names})

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """The LLM that `to_dict` wrote down, loaded anew; what is as by default was not given, so nothing clashes."""
        fields = cls.model_fields
        given = {
            name: value
            for name, value in data.items()
            if name not in fields or value != fields[name].get_default(call_default_factory=True, validated_data={})
        }
        return super().from_dict(given, **kwargs)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex records this LLM."""
        return "DeepenLLM"

    @property
    def ensemble(self) -> Ensemble:
        """The ensemble that answers."""
        return self._ensemble

    @property
    def tokenizer(self) -> Callable[[str], list[int]]:
        """What LlamaIndex can count texts with, to fit prompts: `Settings.tokenizer = llm.tokenizer`.

        A text has as many tokens as it takes of `metadata.context_window` in the member for which it takes most. They
        are numbered, since they need not be those of one model; the main model's are `llm.ensemble.encode(text)`.
        """
        return self._count_out

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex plans with.

        The context window is the smallest of the members', without what stands around a prompt: what fits into it by
        `tokenizer` fits into every member's context.

        It calls functions wherever it can chat at all: calls are decoded by a grammar, which asks nothing of a model.
        """
        return LLMMetadata(
            context_window=self._window,
            num_output=self.max_tokens,
            is_chat_model=self._chats(),
            is_function_calling_model=self._ensemble.has_chat_template or self._own_messages_to_prompt() is not None,
            model_name=self._model_name,
        )

    def to_payload(self) -> dict[str, Any]:
        """What observers are told of this LLM: the metadata, the main model and the temperature."""
        about = {"main": self._ensemble.main_name, "temperature": self.temperature}
        return {"class_name": self.class_name(), **self.metadata.model_dump(), **about}

    def close(self) -> None:
        """Free the ensemble, unless it was given ready: then it belongs to whoever made it."""
        if self._is_own:
            self._ensemble.close()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The answer to a prompt. `raw` tells usage, finish reason, model name, fused steps' share and last weights.

        Raises:
            DeepenError: An option or the prompt cannot be used, or a member failed.
        """
        answer = self._completion(prompt, formatted, kwargs).run(self._ensemble)
        return completion_response(answer.text, answer, self._ensemble.member_names)

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """`complete` for an event loop; cancelling the task stops the work."""
        answer = await self._completion(prompt, formatted, kwargs).arun(self._ensemble)
        return completion_response(answer.text, answer, self._ensemble.member_names)

    @observed_stream(llm_completion_callback())
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        """`complete` in pieces: each has the text so far and what is new; the last one has `raw`.

        Wrong options raise at the call, everything else at the piece where it happens. Closing the stream, or letting
        go of it, stops the work.
        """
        build = partial(completion_response, member_names=self._ensemble.member_names)
        return stream_responses(self._completion(prompt, formatted, kwargs), self._ensemble, build)

    @observed_astream(llm_completion_callback())
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> AsyncGenerator[CompletionResponse, None]:
        """`stream_complete` for an event loop: await it, then iterate."""
        build = partial(completion_response, member_names=self._ensemble.member_names)
        return astream_responses(self._completion(prompt, formatted, kwargs), self._ensemble, build)

    @reads_messages
    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The assistant's next message, which holds calls where `tools` came and the models call one.

        Raises:
            DeepenError: An option or a message cannot be used, a call did not fit into `max_tokens`, a member failed.
        """
        request, tool_answer = self._chat(messages, kwargs)
        answer = request.run(self._ensemble)
        response = chat_response(answer.text, answer, self._ensemble.member_names)
        return response if tool_answer is None else tool_answer.whole(response)

    @reads_messages
    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat` for an event loop; cancelling the task stops the work."""
        request, tool_answer = self._chat(messages, kwargs)
        answer = await request.arun(self._ensemble)
        response = chat_response(answer.text, answer, self._ensemble.member_names)
        return response if tool_answer is None else tool_answer.whole(response)

    @reads_messages
    @observed_stream(llm_chat_callback())
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        """`chat` in pieces, as `stream_complete` gives them; calls of tools come when they are whole."""
        request, tool_answer = self._chat(messages, kwargs)
        build = partial(chat_response, member_names=self._ensemble.member_names)
        responses = stream_responses(request, self._ensemble, build)
        return responses if tool_answer is None else read_tool_answer(responses, tool_answer)

    @reads_messages
    @observed_astream(llm_chat_callback())
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncGenerator[ChatResponse, None]:
        """`stream_chat` for an event loop: await it, then iterate."""
        request, tool_answer = self._chat(messages, kwargs)
        build = partial(chat_response, member_names=self._ensemble.member_names)
        responses = astream_responses(request, self._ensemble, build)
        return responses if tool_answer is None else aread_tool_answer(responses, tool_answer)

    def get_tool_calls_from_response(
        self,
        response: ChatResponse,
        error_on_no_tool_call: bool = True,
        **kwargs: Any,  # noqa: ARG002
    ) -> list[ToolSelection]:
        """The tools that a response selects, with their arguments.

        Raises:
            ConfigError: There is none, and `error_on_no_tool_call`.
        """
        calls = selections(response)
        if not calls and error_on_no_tool_call:
            text = text_of(response)
            raise ConfigError(f"the answer must hold a tool call; got the text {text!r}: give tool_required=True")
        return calls

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,  # noqa: ARG002
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The arguments of `chat` that `chat_with_tools` and its twins stand for."""
        messages = list(chat_history or ())
        if user_msg is not None:
            messages.append(ChatMessage(role="user", content=user_msg) if isinstance(user_msg, str) else user_msg)
        described = [
            describe_tool(tool, limit_selection(tool.metadata.fn_schema, read_parameters(tool), messages))
            for tool in tools
        ]
        is_required = tool_required or any(map(is_object_tool, tools))
        choices = {"tool_required": is_required, "allow_parallel_tool_calls": allow_parallel_tool_calls}
        return {"messages": messages, "tools": described, **choices, **kwargs}

    def _completion(self, prompt: str, formatted: bool, call: Mapping[str, Any]) -> Request:
        if not isinstance(prompt, str):
            raise PromptRefusedError(f"the prompt must be a string; got {type(prompt).__name__}: use chat for messages")
        if formatted:
            return self._request(prompt, call)
        if (completion_to_prompt := self._own_completion_to_prompt()) is not None:
            return self._request(_check_prompt(completion_to_prompt(prompt), "completion_to_prompt"), call)
        if not self._chats():
            return self._request(prompt, call)
        request = self._request([{"role": "user", "content": prompt}], call)
        return replace(request, template_kwargs=self.chat_template_kwargs)

    def _chat(self, messages: Sequence[ChatMessage], call: Mapping[str, Any]) -> tuple[Request, ToolAnswer | None]:
        """The request, and who reads its answer, where it may be calls of tools."""
        tools = read_tools({name: call[name] for name in call if name in CHAT_OPTIONS})
        given = call.get("chat_template_kwargs")
        template_kwargs = self.chat_template_kwargs if given is None else given
        call = {name: call[name] for name in call if name not in (*CHAT_OPTIONS, "chat_template_kwargs")}
        if tools is not None:
            tools.check_options(call)
            messages = with_system(messages, tools.words)
        messages_to_prompt = self._own_messages_to_prompt()
        if messages_to_prompt is None:
            request = replace(self._request(to_plain(messages), call), template_kwargs=template_kwargs)
        else:
            request = self._request(_check_prompt(messages_to_prompt(messages), "messages_to_prompt"), call)
        if tools is None:
            return request, None
        answer = ToolAnswer(request.params, tools)
        return replace(request, params=answer.held_params), answer

    def _request(self, content: str | list[dict[str, str]], call: Mapping[str, Any]) -> Request:
        own = {name: getattr(self, name) for name in OPTION_NAMES if name in self.model_fields_set}
        changes = put_nearer(own, read_options(call, owner=type(self).__name__))
        return Request(content, make_params({**own, **changes}))

    def _count_out(self, text: str) -> list[int]:
        return list(range(self._meter.count_text(text)))

    @property
    def _window(self) -> int:
        """The tokens that prompts can be planned with. One stays for the answer, which needs a place to begin."""
        is_templated = self._ensemble.has_chat_template and self._own_messages_to_prompt() is None and self._chats()
        around = self._meter.around_chat if is_templated else self._meter.around_prompt
        return max(self._meter.window - around - 1, 1)

    @property
    def _model_name(self) -> str:
        return "+".join(self._ensemble.member_names)

    def _chats(self) -> bool:
        if self.is_chat_model is not None:
            return self.is_chat_model
        return self._ensemble.has_chat_template and self._own_completion_to_prompt() is None

    def _own_messages_to_prompt(self) -> MessagesToPromptType | None:
        """What the user gave; None where it is LlamaIndex's default, which would hide the members' own templates."""
        return None if self.messages_to_prompt is default_messages_to_prompt else self.messages_to_prompt

    def _own_completion_to_prompt(self) -> CompletionToPromptType | None:
        """What the user gave; None where it is LlamaIndex's default, which changes nothing."""
        return None if self.completion_to_prompt is default_completion_to_prompt else self.completion_to_prompt


def _make(llm_class: type[DeepenLLM], settings: dict[str, Any]) -> DeepenLLM:
    """What a pickle stands for."""
    return llm_class(**settings)


def _check_prompt(prompt: object, made_by: str) -> str:
    """A prompt that a function of the user made.

    Raises:
        ConfigError: It is no text.
    """
    if not isinstance(prompt, str):
        raise ConfigError(f"{made_by} must return a text; got {type(prompt).__name__}")
    return prompt
