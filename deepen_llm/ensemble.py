"""The public API: several models, used as one."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, final, overload

from deepen_llm.assembly import (
    build_drawing,
    build_frame,
    build_stepper,
    build_weighting,
    check_members,
    describe,
    find_main,
    load_members,
    read_config,
    read_members,
    summarize,
)
from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig, SamplingParams, WeightingConfig
from deepen_llm.decoding.engine import Engine
from deepen_llm.decoding.threads import choose_num_threads
from deepen_llm.decoding.turns import Turns
from deepen_llm.errors import ConfigError
from deepen_llm.intake import Chat, Intake
from deepen_llm.members.base import Member
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests.arguments import check_pairs, check_params, check_params_of_stream, check_prompt, check_prompts
from deepen_llm.requests.deadline import Deadline
from deepen_llm.requests.futures import gather, submit_all, submit_aside, wait
from deepen_llm.requests.streams import AsyncStream, Stream
from deepen_llm.requests.token_prompt import TokenPrompt, takes_long
from deepen_llm.results import Generation, Score, StepTimes, TokenLogprob
from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.chat import Message, check_text

Several: TypeAlias = list[str] | list[str | TokenPrompt]
Prompts: TypeAlias = str | TokenPrompt | Several


@final
class Ensemble:
    """Two or more language models, with tokenizers of their own, that answer as one.

    May be used from many threads and event loops at once: every request joins the batch that runs. Close it, or use
    it as a context manager, to free the models.
    """

    def __init__(
        self, members: Sequence[Member], config: EnsembleConfig | None = None, *, turns: Turns | None = None
    ) -> None:
        """Wrap members that are loaded already; `config` says how they are fused, and where `save` finds them again.

        With the `turns` of another ensemble both may have the same members (`BorrowedMember`), and step in turn.

        Raises:
            ConfigError: No members, or settings that do not fit them.
            VocabularyError: Members with too few common tokens.
        """
        self._is_configured = config is not None
        self._members, self.config = check_members(members, config)
        self._main = find_main(self.config.main, members)
        frame = build_frame(members, self._main, self.config.fusion)
        self.fusion = frame.method
        """The fusion method that runs at every step; None for one member alone."""
        temperatures = (member.temperature for member in self.config.members)
        self._guarded = tuple(map(GuardedMember, members, temperatures))
        weighting = build_weighting(self._guarded, self.config)
        self.prior_weights = weighting.begin().current
        """The weights with which a request begins, one a member, before anything of it is read."""
        self.turns = turns or Turns()
        """Taken by each step: see `__init__`."""
        self._engine = Engine(
            build_stepper(self._guarded, self._main, frame, self.config),
            weighting,
            self.config.max_batch_size,
            num_threads=choose_num_threads(self._guarded),
            turns=self.turns,
        )
        drawing = build_drawing(self._guarded, self._main, frame, self.config.fusion)
        canonical_ids = frame.tokens[self._main].canonical_ids
        self._intake = Intake(self._guarded, self._main, canonical_ids, self._engine, drawing)
        self.identity: dict[str, Any] = describe(self.config, members, self._main)
        """Everything that changes the answers, as JSON values: models, weights, fusion."""
        self._finalizer = weakref.finalize(self, _close, self._engine, self._members)

    @classmethod
    def from_pretrained(
        cls,
        models: str | Path | MemberConfig | Sequence[str | Path | MemberConfig],
        *,
        weights: Sequence[float] | str | WeightingConfig | None = None,
        main: int | str = 0,
        fusion: FusionConfig | None = None,
        max_batch_size: int | None = None,
        **member_options: Any,
    ) -> Self:
        """Load models from folders or from the hub.

        Args:
            models: Folders, hub names, or a `MemberConfig` for a member with settings of its own; one alone needs no
                list.
            weights: One weight per member, summing to 1, or a word or settings for weights that each request has for
                itself: see `EnsembleConfig.weights`. By default they learn from prompt and answer whom to trust.
            main: The main model's position or name: its vocabulary is spoken.
            fusion: How the members' distributions become one.
            max_batch_size: The most sequences that run at the same time.
            **member_options: Settings of `MemberConfig` for every model given by name (`dtype`, `device_map`, ...).

        Raises:
            ConfigError: Settings that cannot be used.
            MemberError: A model that cannot be loaded.
            VocabularyError: A tokenizer that cannot be read as bytes, or too few common tokens.
        """
        settings: dict[str, Any] = {"members": read_members(models, member_options), "main": main}
        optional = {"weights": weights, "fusion": fusion, "max_batch_size": max_batch_size}
        settings |= {key: value for key, value in optional.items() if value is not None}
        return cls.from_config(EnsembleConfig(**settings))

    @classmethod
    def from_config(cls, config: EnsembleConfig | str | Path, *, trust_remote_code: bool = False) -> Self:
        """Load what a configuration, or an `ensemble.yaml`, describes. Raises what `from_pretrained` does.

        A file that asks to run code of its models is refused unless `trust_remote_code` allows it here as well.
        """
        config = read_config(config, trust_remote_code=trust_remote_code)
        return cls(load_members(config.members), config)

    @classmethod
    def starter(cls, members: str | Sequence[str] | None = None, **settings: Any) -> Self:
        """The bundled starter models, offline: all of them, or those named. Takes the settings of `from_pretrained`.

        Raises:
            ConfigError: A name that no bundled model has.
        """
        from deepen_llm.starter import find_models

        return cls.from_pretrained(find_models(members), **settings)

    @property
    def members(self) -> tuple[Member, ...]:
        """The members, in the order given."""
        return self._members

    @property
    def member_names(self) -> tuple[str, ...]:
        """The members' names, in the order given."""
        return tuple(member.name for member in self._members)

    @property
    def main_name(self) -> str:
        """The name of the model whose vocabulary is spoken."""
        return self._members[self._main].name

    @property
    def context_length(self) -> int:
        """The smallest context of the members, in that member's tokens."""
        return min(member.context_length for member in self._members)

    @property
    def has_chat_template(self) -> bool:
        """Whether every member has a chat template; those that read a source in an encoder need none."""
        members = self._members
        return all(member.source_reader is not None or member.vocabulary.has_chat_template for member in members)

    @property
    def num_running(self) -> int:
        """Requests that run or wait to run."""
        return self._engine.num_running

    @property
    def step_times(self) -> StepTimes:
        """How many steps the engine took, and how long it waited for each member in them."""
        return self._engine.step_times

    @property
    def is_closed(self) -> bool:
        """Whether nothing is answered any more: `close` was called, or the engine ended by a fault."""
        return not self._finalizer.alive or self._engine.has_ended

    def encode(self, text: str) -> list[int]:
        """The main model's tokens of a text, no special tokens among them."""
        return self._vocabulary.encode(check_text(text, "text"))

    def count_tokens(self, text: str) -> int:
        """How many tokens the main model makes of a text."""
        return len(self.encode(text))

    @overload
    def generate(self, prompt: str | TokenPrompt, params: SamplingParams | None = None) -> Generation: ...
    @overload
    def generate(self, prompt: Several, params: SamplingParams | None = None) -> list[Generation]: ...
    def generate(self, prompt: Prompts, params: SamplingParams | None = None) -> Generation | list[Generation]:
        """Answer a prompt, or several in one batch.

        Raises:
            PromptError: A prompt that cannot be encoded or (ContextLengthError) is too long for a member.
            GrammarError: A JSON schema, regular expression or grammar that cannot be followed.
            MemberError: A member failed or (MemberTimeoutError) `timeout_s` was over before the answers were whole.
            NumericalError: A member's logits hold NaN or infinity.
            ClosedError: The ensemble is closed.
        """
        prompts, params = check_prompts(prompt), check_params(params)
        deadline = Deadline(params.timeout_s)
        answers = _join(wait(self._submit_prompts(prompts, params, deadline), deadline), params.n)
        return answers if isinstance(prompt, (list, tuple)) else answers[0]

    def stream(self, prompt: str | TokenPrompt, params: SamplingParams | None = None) -> Stream:
        """Answer piece by piece. Closing or dropping the stream ends the work. Raises what `generate` does."""
        prompt, params = check_prompt(prompt), check_params_of_stream(params)
        deadline = Deadline(params.timeout_s)
        return Stream(lambda sink: self._intake.submit_prompt(prompt, params, deadline, sink)[0], deadline)

    @overload
    async def agenerate(self, prompt: str | TokenPrompt, params: SamplingParams | None = None) -> Generation: ...
    @overload
    async def agenerate(self, prompt: Several, params: SamplingParams | None = None) -> list[Generation]: ...
    async def agenerate(self, prompt: Prompts, params: SamplingParams | None = None) -> Generation | list[Generation]:
        """`generate` without blocking the event loop; cancelling the task ends the work."""
        prompts, params = check_prompts(prompt), check_params(params)
        deadline = Deadline(params.timeout_s)
        submitted = await submit_aside(
            lambda: self._submit_prompts(prompts, params, deadline), is_slow=takes_long(params, prompts)
        )
        answers = _join(await gather(submitted, deadline), params.n)
        return answers if isinstance(prompt, (list, tuple)) else answers[0]

    def astream(self, prompt: str | TokenPrompt, params: SamplingParams | None = None) -> AsyncStream:
        """`stream` for the running event loop."""
        prompt, params = check_prompt(prompt), check_params_of_stream(params)
        deadline = Deadline(params.timeout_s)
        return AsyncStream(
            lambda sink: self._intake.submit_prompt(prompt, params, deadline, sink)[0],
            deadline,
            is_slow=takes_long(params, [prompt]),
        )

    def chat(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Generation:
        """Reply to messages ({"role": ..., "content": ...}), which every member reads in its own chat template.

        A last message of the assistant is gone on with. Neighbouring messages of one role are joined; a system message
        is put before the next user message for a member whose template refuses it or loses its text. Templates are
        rendered in a process of their own, within limits of time and memory.

        Args:
            messages: The conversation.
            params: How the answer is chosen.
            chat_template_kwargs: Further variables that every template sees, such as `enable_thinking`.

        Raises what `generate` does.
        """
        chat, params = Chat(messages, chat_template_kwargs), check_params(params)
        deadline = Deadline(params.timeout_s)
        return Generation.join(wait(self._intake.submit_chat(chat, params, deadline), deadline))

    def stream_chat(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Stream:
        """`chat`, piece by piece."""
        chat, params = Chat(messages, chat_template_kwargs), check_params_of_stream(params)
        deadline = Deadline(params.timeout_s)
        return Stream(lambda sink: self._intake.submit_chat(chat, params, deadline, sink)[0], deadline)

    async def achat(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Generation:
        """`chat` without blocking the event loop."""
        chat, params = Chat(messages, chat_template_kwargs), check_params(params)
        deadline = Deadline(params.timeout_s)
        submitted = await submit_aside(lambda: self._intake.submit_chat(chat, params, deadline))
        return Generation.join(await gather(submitted, deadline))

    def astream_chat(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> AsyncStream:
        """`stream_chat` for the running event loop."""
        chat, params = Chat(messages, chat_template_kwargs), check_params_of_stream(params)
        deadline = Deadline(params.timeout_s)
        return AsyncStream(
            lambda sink: self._intake.submit_chat(chat, params, deadline, sink)[0], deadline, is_slow=True
        )

    def score(self, context: str, continuation: str) -> Score:
        """The natural-log probability that the ensemble gives to a continuation of a context.

        The continuation is cut into tokens of the main model, spaces at the end of the context counted to it, and
        followed token by token (teacher forcing); every member keeps conditioning on the text so far.

        Raises:
            PromptError: An empty continuation, or texts that cannot be encoded or do not fit.
        """
        return self.score_batch([(context, continuation)])[0]

    def score_batch(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """`score` for many pairs in one batch."""
        pairs = check_pairs(pairs, "context", "continuation")
        return wait(submit_all(lambda pair: self._intake.submit_score(*pair), pairs), Deadline(None))

    def score_chat(
        self, messages: Sequence[Message], reply: str, *, chat_template_kwargs: Mapping[str, Any] | None = None
    ) -> Score:
        """`score` of the beginning of a reply to messages, which are read as by `chat`.

        Raises `PromptError` also for messages that are none and for a member without a template.
        """
        return self.score_chat_batch([(messages, reply)], chat_template_kwargs=chat_template_kwargs)[0]

    def score_chat_batch(
        self,
        pairs: Sequence[tuple[Sequence[Message], str]],
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[Score]:
        """`score_chat` for many pairs in one batch."""
        asks = [
            (Chat(messages, chat_template_kwargs), reply) for messages, reply in check_pairs(pairs, "messages", "reply")
        ]
        return wait(submit_all(lambda ask: self._intake.submit_score_chat(*ask), asks), Deadline(None))

    async def aprompt_logprobs(
        self, prompt: Prompts, num_top: int = 0, *, timeout_s: float | None = None
    ) -> list[tuple[TokenLogprob, ...]]:
        """How probable a prompt's tokens are, each after those before it. Raises what `generate` does."""
        prompts, deadline = check_prompts(prompt), Deadline(timeout_s)
        read = partial(self._intake.submit_reading, num_top=num_top, deadline=deadline)
        return await gather(await submit_aside(lambda: submit_all(read, prompts)), deadline)

    def save(self, path: str | Path, comment: str = "") -> None:
        """Write an `ensemble.yaml`, over what was there: `from_config` makes an equal ensemble of it.

        The lines of `comment` go before it. Also after `close`.

        Raises:
            ConfigError: Members that were handed over loaded, without a configuration that says where they come from; a
                setting that no file can hold; a file that cannot be written.
        """
        if not self._is_configured:
            raise ConfigError(
                "a file can name only members whose configuration is known; these were handed over loaded: "
                f"{', '.join(self.member_names)}: say where they come from, Ensemble(members, config)"
            )
        self.config.save(path, comment)

    def close(self) -> None:
        """Stop the engine and free the models. What still runs fails with `ClosedError`."""
        self._finalizer()

    def __repr__(self) -> str:
        closed = ", closed" if self.is_closed else ""
        return f"Ensemble({summarize(self.config, self._members, self._main)}{closed})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _vocabulary(self) -> Vocabulary:
        return self._members[self._main].vocabulary

    def _submit_prompts(
        self, prompts: Sequence[str | TokenPrompt], params: SamplingParams, deadline: Deadline
    ) -> list[Future[Generation]]:
        return submit_all(lambda prompt: self._intake.submit_prompt(prompt, params, deadline), prompts)


def _join(answers: Sequence[Generation], num_each: int) -> list[Generation]:
    """The answers to each prompt as one, the first with the others as its alternatives."""
    return [Generation.join(answers[begin : begin + num_each]) for begin in range(0, len(answers), num_each)]


def _close(engine: Engine, members: Sequence[Member]) -> None:
    """What closing does; holds no reference to the ensemble, so that it also runs when one is collected."""
    if engine.close():
        for member in members:
            member.close()
