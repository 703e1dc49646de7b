"""An answer in progress: which token comes, what text is certain, where it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from deepen_llm.config import SamplingParams
from deepen_llm.decoding.drawing import Drawing
from deepen_llm.decoding.drawn_text import DrawnText
from deepen_llm.decoding.ends import Ends, check_drawn
from deepen_llm.decoding.penalties import Penalties
from deepen_llm.decoding.sampling import apply_filters, make_generator, sample
from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.decoding.stopping import StopMatcher
from deepen_llm.decoding.tracing import describe_choice
from deepen_llm.errors import ConfigError, GrammarError
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests.deadline import Deadline
from deepen_llm.results import Candidate, Chunk, FinishReason, Generation, StepTrace, TokenLogprob, Usage
from deepen_llm.structure import Constraint, Room
from deepen_llm.vocabulary import EncodedText

LEAVING = 0.5
"""With more of the mass than this outside a structure, the members are taken to be done with the value at hand."""


@final
class GeneratingSequence(RunningSequence):
    """Decodes an answer. Pieces of text go to `on_chunk` as they become certain, from the engine's thread."""

    def __init__(
        self,
        members: Sequence[GuardedMember],
        main: int,
        prompts: Sequence[EncodedText],
        params: SamplingParams,
        deadline: Deadline,
        on_chunk: Callable[[Chunk], None] | None = None,
        constraint: Constraint | None = None,
        drawing: Drawing | None = None,
    ) -> None:
        """Take the request.

        Args:
            members: Of the ensemble.
            main: Position of the main model.
            prompts: What is answered, in every member's tokens.
            params: They ask for one answer (`SamplingParams.split`).
            deadline: When it must be done.
            on_chunk: Gets the pieces; None where nobody reads them.
            constraint: Follows the answer's structure; None for none.
            drawing: Where one member is drawn for each word, what is known of their tokens; None: all are asked.

        Raises:
            ConfigError: A token in `params` that the main model does not have, weights of other members, or tokens
                that may not come where members are drawn.
            ContextLengthError: The prompt leaves no room for an answer in some member's context.
        """
        super().__init__(members, main, prompts, deadline)
        self.params, self.prior = params, params.prior
        if params.prior is not None and len(params.prior) != len(members):
            raise ConfigError(
                f"prior must have one weight a member, in their order: {len(members)} members, got "
                f"{len(params.prior)} weights: write one for each"
            )
        self._ends = Ends(params, self._vocabulary, members[main].member.generation_defaults)
        self._penalties = Penalties.build(
            params, self._vocabulary, self._prompt.ids, self._ends.ids, members[main].device
        )
        self._told: Tensor | None = None
        """The logprobs before bias and penalties, where they may have been changed."""
        self._constraint = constraint
        self.wants_trace = params.trace
        self._on_chunk = on_chunk
        self._matcher = StopMatcher(params.stop)
        self._generator = make_generator(params) if params.temperature else None
        self._finish_reason: FinishReason = "length"
        self._pieces: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._trace: list[StepTrace] = []
        self._num_sent = 0
        self._rule_out()
        if drawing is not None:
            check_drawn(self._ends, self.forbidden_ids, self._vocabulary)
            generator = self._generator or make_generator(params)
            self.drawn = DrawnText(self.tracks, drawing, generator, self.last_tokens)

    @property
    def is_checked(self) -> bool:
        """Whether the best token of all is taken, and nothing else of the distribution told."""
        is_plain = self._generator is None and self._restricts_nothing and not self.forbidden_ids
        return is_plain and not self.wants_trace and self.params.logprobs is None

    @property
    def most_ahead(self) -> int:
        """Also no more than may still come."""
        return min(super().most_ahead, self.params.max_new_tokens - len(self._token_ids) - 1)

    @property
    def _restricts_nothing(self) -> bool:
        """Whether a token is chosen from the fused logprobs as they are, but for those that may not come."""
        return self._constraint is None and self._penalties is None and not self._ends.has_special

    def restrict(self, logprobs: Tensor) -> Tensor:
        """What a token is chosen from, normalised: only what the structure allows, then with bias and penalties.

        Raises:
            GrammarError: The main model's vocabulary has no token with which the structure can go on.
        """
        self._told = None
        if self._restricts_nothing:
            return logprobs
        if self._ends.has_special:
            weight = self.word.weights.current[self.main] if self.is_fused else 1.0
            logprobs = self._ends.admit(logprobs, self._main_logits(), weight)
        if self._constraint is not None:
            logprobs = self._keep_structure(logprobs, self._constraint)
        self._told = logprobs
        if self._penalties is not None:
            logprobs = self._penalties.apply(logprobs, self._main_logits())
        if self.forbidden_ids:
            left = _leave_out(logprobs, self.forbidden_ids)
            # What the structure asks for comes, whatever the model's own settings say of it.
            logprobs = logprobs if self._constraint is not None and left.max() == -torch.inf else left
        return logprobs.log_softmax(dim=-1)

    def told(self, logprobs: Tensor) -> Tensor:
        """The logprobs before bias and penalties, whatever of the others is forbidden."""
        return logprobs if self._told is None else self._told

    def _keep_structure(self, logprobs: Tensor, constraint: Constraint) -> Tensor:
        """Only the tokens that the structure allows, normalised.

        What would leave the structure counts for the end where the answer may end; where it is most of the mass, it
        counts for what closes the value that the answer is in. Where nothing that may come has probability after
        fusion, the main model's own logits count.

        Raises:
            GrammarError: The main model's vocabulary has no token with which the structure can go on.
        """
        forbidden = ~constraint.allowed().to(logprobs.device)
        restricted = logprobs.masked_fill(forbidden, -torch.inf)
        left = 1 - float(restricted.exp().sum())
        if left > LEAVING or constraint.may_end():
            way_out = constraint.way_out()
            if way_out is not None and left > 0:
                restricted[way_out] = torch.logaddexp(restricted[way_out], restricted.new_tensor(left).log())
        if restricted.max() == -torch.inf:
            restricted = self._main_logits().masked_fill(forbidden, -torch.inf)
        if restricted.max() == -torch.inf:
            raise GrammarError(
                f"no token of the main model {self._vocabulary.name!r} goes on with the structure after "
                f"{''.join(self._pieces)[-40:]!r}: make a member the main model whose vocabulary has what it needs"
            )
        return restricted.log_softmax(dim=-1)

    def choose(self, logprobs: Tensor, best: int) -> int:
        """The best token, or one drawn as the sampling parameters say; or what closes a structure in time."""
        token_id = best
        if self._generator is not None:
            if self.forbidden_ids and self._restricts_nothing:
                logprobs = _leave_out(logprobs, self.forbidden_ids)
            token_id = sample(apply_filters(logprobs, self.params), self._generator)
        return token_id if self._constraint is None else self._constraint.steer(token_id, self._room())

    def accept(self, token_id: int, logprobs: Tensor, trace: StepTrace | None) -> None:
        """Record the token, release what text is certain, end where the answer does."""
        self._count_step()
        if self.params.logprobs is not None:
            told = self.told(logprobs)
            self._logprobs.append(describe_choice(self._vocabulary, told, token_id, self.params.logprobs))
        if trace is not None:
            self._trace.append(trace)
        self._take(token_id)

    def accept_forced(self) -> None:
        """Take in what the structure leaves no choice about; a row may then have many new tokens at the next step.

        So it does what was drawn.
        """
        while not self.is_finished and (token_id := self._next_drawn()) is not None:
            self._count_step()
            self._take(token_id)
            self.read_text()
        if self._constraint is None:
            return
        while not self.is_finished and (forced := self._constraint.next_forced()) is not None:
            token_id = self._constraint.steer(forced, self._room())
            self._num_forced += 1
            self.num_steps += 1
            certain = Candidate(token_id, self._vocabulary.display(token_id), 1.0)
            if self.params.logprobs is not None:
                top = (certain,) if self.params.logprobs else ()
                self._logprobs.append(TokenLogprob(token_id, certain.text, 0.0, top))
            if self.wants_trace:
                self._trace.append(
                    StepTrace(self.num_steps - 1, token_id, certain.text, (), fused=(certain,), is_fused=False)
                )
            self._take(token_id)

    def _next_drawn(self) -> int | None:
        """The next token that was drawn; None where there is none."""
        return None if self.drawn is None else self.drawn.next_token(self.word)

    def _take(self, token_id: int) -> None:
        """End at end-of-sequence, a stop token or string, a whole structure or the limit."""
        self._token_ids.append(token_id)
        if self._constraint is not None:
            self._constraint.push(token_id)
        if token_id in self._ends.ids:
            self._end("stop", self._matcher.push(self._detokenizer.flush()))
            return
        if self._penalties is not None:
            self._penalties.push(token_id)
        self._rule_out()
        is_too_early = self._ends.is_too_early(len(self._token_ids))
        text = self._matcher.push(self._push(token_id), is_too_early=is_too_early)
        if self._matcher.is_matched:
            self._end("stop", text)
        elif self._constraint is not None and self._constraint.is_complete:
            self._end("stop", text + self._matcher.push(self._detokenizer.flush()))
        elif len(self._token_ids) == self.params.max_new_tokens:
            self._end_cut(text + self._matcher.push(self._detokenizer.flush()))
        else:
            self._emit(text)

    def finish_full(self) -> None:
        """A full context ends the answer as its length limit does."""
        self._end_cut(self._matcher.push(self._detokenizer.flush()))

    def result(self) -> Generation:
        """The whole answer."""
        return Generation(
            text="".join(self._pieces),
            token_ids=tuple(self._token_ids),
            finish_reason=self._finish_reason,
            usage=self._usage(),
            logprobs=tuple(self._logprobs) if self.params.logprobs is not None else None,
            trace=tuple(self._trace) if self.params.trace else None,
            fusion=self.fusion_report(),
            is_shortened=self._is_shortened,
        )

    @property
    def _is_shortened(self) -> bool:
        return self._constraint is not None and self._constraint.is_shortened

    def _rule_out(self) -> None:
        """Note what may not come next."""
        self.forbidden_ids = self._ends.ruled_out(len(self._token_ids))

    def _main_logits(self) -> Tensor:
        """What the main model said by itself, (num_logits,)."""
        logits = self.tracks[self.main].logits
        if logits is None:
            raise RuntimeError("a token is chosen only after the main model ran")
        return logits.float()

    def _room(self) -> Room:
        """What still fits under the limit and into every member's context."""
        num_tokens = self.params.max_new_tokens - len(self._token_ids)
        return Room(
            min(num_tokens, *(track.num_left for track in self.tracks if track.takes_main_tokens)),
            min((track.num_left for track in self.tracks if not track.takes_main_tokens), default=sys.maxsize),
        )

    def _end_cut(self, text: str) -> None:
        """End at a limit. JSON or a match that is whole as it stands is not cut: it only might have gone on."""
        is_value = self.params.json_schema is not None or self.params.regex is not None
        if self._constraint is not None and is_value and self._constraint.may_end():
            self._constraint.is_shortened = True
            self._end("stop", text)
        else:
            self._end("length", text)

    def _end(self, reason: FinishReason, text: str) -> None:
        self.is_finished = True
        self._finish_reason = reason
        self._emit(text + self._matcher.flush())

    def _usage(self) -> Usage:
        num_prompt = len(self._prompt.source_ids) + len(self._prompt.ids)
        num_cached = self.tracks[self.main].num_reused
        return Usage(prompt_tokens=num_prompt, completion_tokens=len(self._token_ids), cached_tokens=num_cached)

    def _emit(self, text: str) -> None:
        """Keep a piece and stream it, with all tokens since the last one. Only the last piece may be empty."""
        if not text and not self.is_finished:
            return
        self._pieces.append(text)
        if self._on_chunk is None:
            return
        begin, self._num_sent = self._num_sent, len(self._token_ids)
        self._on_chunk(
            Chunk(
                text=text,
                token_ids=tuple(self._token_ids[begin:]),
                logprobs=tuple(self._logprobs[begin:]) if self.params.logprobs is not None else None,
                trace=tuple(self._trace[begin:]) if self.params.trace else None,
                finish_reason=self._finish_reason if self.is_finished else None,
                usage=self._usage() if self.is_finished else None,
                fusion=self.fusion_report() if self.is_finished else None,
                is_shortened=self.is_finished and self._is_shortened,
            )
        )


def _leave_out(logprobs: Tensor, ids: Sequence[int]) -> Tensor:
    """Logprobs `(num_logits,)`, not normalised, without some tokens."""
    return logprobs.index_fill(0, torch.tensor(ids, device=logprobs.device), -torch.inf)
