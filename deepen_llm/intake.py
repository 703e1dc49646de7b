"""Requests on their way in: put into every member's tokens, and handed to the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, final

from deepen_llm.config import SamplingParams
from deepen_llm.decoding.drawing import Drawing
from deepen_llm.decoding.engine import Engine
from deepen_llm.decoding.generation import GeneratingSequence
from deepen_llm.decoding.reading import ReadingSequence
from deepen_llm.decoding.scoring import ScoringSequence
from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.errors import ConfigError, PromptError
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests.deadline import Deadline
from deepen_llm.requests.drawn import check_drawn_params
from deepen_llm.requests.futures import submit_all
from deepen_llm.requests.messages import encode_chat
from deepen_llm.requests.prompt_size import check_time
from deepen_llm.requests.sources import Written, encode_for_all
from deepen_llm.requests.token_prompt import TokenPrompt, encode_ids, num_unread
from deepen_llm.results import Chunk, Generation, Score, TokenLogprob
from deepen_llm.structure import Constraint, Structure, StructureCompiler
from deepen_llm.vocabulary import EncodedText, Vocabulary
from deepen_llm.vocabulary.chat import Message, check_messages, check_text

Sink = Callable[[Chunk], None]


@final
@dataclass(frozen=True, slots=True)
class Chat:
    """What a chat is rendered from."""

    messages: Sequence[Message]
    template_kwargs: Mapping[str, Any] | None = None
    """Further variables that every member's template sees."""


@final
class Intake:
    """Makes sequences of what people ask. May be used from many threads."""

    def __init__(
        self,
        members: Sequence[GuardedMember],
        main: int,
        canonical_ids: Sequence[int],
        engine: Engine,
        drawing: Drawing | None = None,
    ) -> None:
        """Take the parts.

        Args:
            members: Whose tokens everything is put into.
            main: Position of the main model.
            canonical_ids: For each token of the main model the one that it counts as, -1 for none.
            engine: Runs the sequences.
            drawing: Where one member is drawn for each word, what is known of their tokens; None: all are asked.
        """
        self._members, self._main, self._canonical_ids, self._engine = members, main, canonical_ids, engine
        self._drawing = drawing
        self._vocabulary = members[main].vocabulary
        self._compiler = StructureCompiler(self._vocabulary)

    def submit_prompt(
        self, prompt: str | TokenPrompt, params: SamplingParams, deadline: Deadline, sink: Sink | None = None
    ) -> list[Future[Generation]]:
        """Answer a prompt, `params.n` times; the pieces go to `sink` as they come."""
        return self._submit_generations(self._encode(prompt, deadline, params.source), params, deadline, sink)

    def submit_chat(
        self, chat: Chat, params: SamplingParams, deadline: Deadline, sink: Sink | None = None
    ) -> list[Future[Generation]]:
        """Reply to messages, `params.n` times."""
        return self._submit_generations(self._encode_chat(chat, deadline, params.source), params, deadline, sink)

    def submit_reading(
        self, prompt: str | TokenPrompt, num_top: int, deadline: Deadline
    ) -> list[Future[tuple[TokenLogprob, ...]]]:
        """Tell how probable the tokens of a prompt are, all but those at its beginning that nothing comes before."""
        self._check_asked("log-probabilities of a prompt")
        if readers := [member.name for member in self._members if member.source_reader is not None]:
            raise ConfigError(
                f"a text is read token by token by members that continue it; {readers[0]!r} has an encoder: leave it "
                "out, or ask for no log-probabilities of the prompt"
            )
        ids = self._encode(prompt, deadline)[self._main].ids
        begin = num_unread(ids, self._vocabulary)
        if begin == len(ids):
            nothing: Future[tuple[TokenLogprob, ...]] = Future()
            nothing.set_result(())
            return [nothing]
        prompts = encode_ids(self._members, self._main, TokenPrompt(ids[:begin]), deadline)
        rest = self._canonical(ids[begin:])
        return self._submit(
            ReadingSequence(self._members, self._main, prompts, rest, num_top=num_top, deadline=deadline)
        )

    def submit_score(self, context: str, continuation: str) -> list[Future[Score]]:
        """Score a continuation; spaces at the end of the context are counted to it."""
        self._check_asked("scores")
        stripped = check_text(context, "the context").rstrip(" ") or context
        continuation = check_text(continuation, "the continuation")
        continuation = continuation and context[len(stripped) :] + continuation
        return self._submit_scoring(self._encode(stripped, Deadline(None)), continuation)

    def submit_score_chat(self, chat: Chat, reply: str) -> list[Future[Score]]:
        """Score the beginning of a reply."""
        self._check_asked("scores")
        reply = check_text(reply, "the reply")
        return self._submit_scoring(self._encode_chat(chat, Deadline(None)), reply)

    def _encode(self, prompt: str | TokenPrompt, deadline: Deadline, source: str | None = None) -> list[EncodedText]:
        """A prompt in every member's tokens; `source` is the part that encoders read, None for what they find."""
        self._engine.check_usable()
        if isinstance(prompt, TokenPrompt):
            return encode_ids(self._members, self._main, prompt, deadline, source)
        written = Written([prompt], prompt, source)
        return self._encode_for_all(written, lambda vocabulary: vocabulary.encode_prompt(prompt), deadline)

    def _encode_chat(self, chat: Chat, deadline: Deadline, source: str | None = None) -> list[EncodedText]:
        messages = chat.messages
        check_messages(messages)
        asked = [message["content"] for message in messages if message["role"] == "user"] or [messages[-1]["content"]]
        written = Written([message["content"] for message in messages], asked[-1], source)

        def encode(vocabulary: Vocabulary) -> EncodedText:
            return encode_chat(vocabulary, messages, chat_template_kwargs=chat.template_kwargs, deadline=deadline)

        return self._encode_for_all(written, encode, deadline)

    def _encode_for_all(
        self, written: Written, encode: Callable[[Vocabulary], EncodedText], deadline: Deadline
    ) -> list[EncodedText]:
        self._engine.check_usable()
        return encode_for_all(self._members, self._main, written, encode, deadline)

    def _submit_generations(
        self, prompts: Sequence[EncodedText], params: SamplingParams, deadline: Deadline, sink: Sink | None
    ) -> list[Future[Generation]]:
        if self._drawing is not None:
            check_drawn_params(params)
        structure = self._compile(params, prompts[self._main], deadline) if params.is_structured else None
        check_time(deadline)

        def answer(one: SamplingParams) -> list[Future[Generation]]:
            constraint = None if structure is None else Constraint(self._compiler, structure)
            sequence = GeneratingSequence(
                self._members, self._main, prompts, one, deadline, sink, constraint=constraint, drawing=self._drawing
            )
            return self._submit(sequence)

        return submit_all(answer, params.split())

    def _check_asked(self, what: str) -> None:
        """Refuse what needs to know what every member says, where one at a time is asked."""
        if self._drawing is not None:
            raise ConfigError(
                f"{what} need what every member says of every token, and fuse='drawn' asks one at a time: write "
                "FusionConfig(fuse='always')"
            )

    def _compile(self, params: SamplingParams, prompt: EncodedText, deadline: Deadline) -> Structure:
        after_space = self._vocabulary.continues_with_space(prompt)
        return self._compiler.compile(params, after_space=after_space, deadline=deadline)

    def _submit_scoring(self, prompts: Sequence[EncodedText], continuation: str) -> list[Future[Score]]:
        if not continuation:
            raise PromptError("the continuation to score is empty: give at least one character")
        main_prompt = prompts[self._main]
        ids = self._vocabulary.encode_reply(main_prompt, continuation)
        return self._submit(ScoringSequence(self._members, self._main, prompts, self._canonical(ids)))

    def _canonical(self, ids: Sequence[int]) -> list[int]:
        """The tokens, and for one that counts as another that one: it has no probability of its own."""
        canonical = self._canonical_ids
        return [token_id if canonical[token_id] < 0 else canonical[token_id] for token_id in ids]

    def _submit(self, sequence: RunningSequence) -> list[Future[Any]]:
        self._engine.submit(sequence)
        return [sequence.future]
