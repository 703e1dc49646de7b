"""Requests on their way in: put into every member's tokens, and handed to the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar, final

from deepen_llm.config import SamplingParams
from deepen_llm.decoding.engine import Engine
from deepen_llm.decoding.generation import GeneratingSequence
from deepen_llm.decoding.scoring import ScoringSequence
from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.errors import PromptError
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests.deadline import Deadline
from deepen_llm.requests.futures import cancel
from deepen_llm.requests.messages import encode_chat
from deepen_llm.requests.prompt_size import check_size, check_time
from deepen_llm.results import Chunk, Generation, Score
from deepen_llm.structure import Constraint, StructureCompiler
from deepen_llm.vocabulary import EncodedText
from deepen_llm.vocabulary.chat import Message, check_messages, check_text

Ask = TypeVar("Ask")
Result = TypeVar("Result")
Sink = Callable[[Chunk], None]


@final
class Intake:
    """Makes sequences of what people ask. May be used from many threads."""

    def __init__(
        self, members: Sequence[GuardedMember], main: int, canonical_ids: Sequence[int], engine: Engine
    ) -> None:
        """Take the parts.

        Args:
            members: Whose tokens everything is put into.
            main: Position of the main model.
            canonical_ids: For each token of the main model the one that it counts as, -1 for none.
            engine: Runs the sequences.
        """
        self._members, self._main, self._canonical_ids, self._engine = members, main, canonical_ids, engine
        self._vocabulary = members[main].vocabulary
        self._compiler = StructureCompiler(self._vocabulary)

    def submit_prompt(
        self, prompt: str, params: SamplingParams, deadline: Deadline, sink: Sink | None = None
    ) -> Future[Generation]:
        """Answer a prompt; its pieces go to `sink` as they come."""
        return self._submit_generation(self._encode(prompt, deadline), params, deadline, sink)

    def submit_chat(
        self, messages: Sequence[Message], params: SamplingParams, deadline: Deadline, sink: Sink | None = None
    ) -> Future[Generation]:
        """Reply to messages."""
        return self._submit_generation(self._encode_chat(messages, deadline), params, deadline, sink)

    def submit_score(self, context: str, continuation: str) -> Future[Score]:
        """Score a continuation; spaces at the end of the context are counted to it."""
        stripped = check_text(context, "the context").rstrip(" ") or context
        continuation = check_text(continuation, "the continuation")
        continuation = continuation and context[len(stripped) :] + continuation
        return self._submit_scoring(self._encode(stripped, Deadline(None)), continuation)

    def submit_score_chat(self, messages: Sequence[Message], reply: str) -> Future[Score]:
        """Score the beginning of a reply."""
        reply = check_text(reply, "the reply")
        return self._submit_scoring(self._encode_chat(messages, Deadline(None)), reply)

    def submit_all(self, submit: Callable[[Ask], Future[Result]], asks: Sequence[Ask]) -> list[Future[Result]]:
        """Submit several requests, or none where one of them cannot be."""
        futures: list[Future[Result]] = []
        try:
            for ask in asks:
                futures.append(submit(ask))
        except BaseException:
            cancel(futures)
            raise
        return futures

    def _encode(self, text: str, deadline: Deadline) -> list[EncodedText]:
        """A prompt in every member's tokens."""
        self._engine.check_usable()
        return [member.vocabulary.encode_prompt(text) for member in self._sized([text], deadline)]

    def _encode_chat(self, messages: Sequence[Message], deadline: Deadline) -> list[EncodedText]:
        self._engine.check_usable()
        check_messages(messages)
        contents = [message["content"] for message in messages]
        return [encode_chat(member.vocabulary, messages) for member in self._sized(contents, deadline)]

    def _sized(self, texts: Sequence[str], deadline: Deadline) -> list[GuardedMember]:
        """The members, once these texts are known to be no more than they might hold."""
        whole = "".join(texts)
        for member in self._members:
            check_size(member, whole, deadline)
        check_time(deadline)
        return list(self._members)

    def _submit_generation(
        self, prompts: Sequence[EncodedText], params: SamplingParams, deadline: Deadline, sink: Sink | None
    ) -> Future[Generation]:
        constraint = self._constrain(params, prompts[self._main]) if params.is_structured else None
        check_time(deadline)
        return self._submit(GeneratingSequence(self._members, self._main, prompts, params, deadline, sink, constraint))

    def _constrain(self, params: SamplingParams, prompt: EncodedText) -> Constraint:
        """What keeps an answer to the structure that is asked for."""
        structure = self._compiler.compile(params, after_space=self._vocabulary.continues_with_space(prompt))
        return Constraint(self._compiler, structure)

    def _submit_scoring(self, prompts: Sequence[EncodedText], continuation: str) -> Future[Score]:
        if not continuation:
            raise PromptError("the continuation to score is empty: give at least one character")
        main_prompt = prompts[self._main]
        ids = self._vocabulary.encode(continuation, at_start=main_prompt.at_start and not main_prompt.text)
        # A token that counts as another has no probability of its own.
        canonical = self._canonical_ids
        ids = [token_id if canonical[token_id] < 0 else canonical[token_id] for token_id in ids]
        return self._submit(ScoringSequence(self._members, self._main, prompts, ids))

    def _submit(self, sequence: RunningSequence) -> Future[Any]:
        self._engine.submit(sequence)
        return sequence.future
