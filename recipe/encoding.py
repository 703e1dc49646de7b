"""Examples as token ids with a weight for each: what the training loop consumes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer

from deepen_llm.starter.prompts import FORMATS, QUESTION_ANSWER, RETRIEVAL, Example, Format, Segment, write_plain
from recipe.members import StarterMember

BARE = Format("{c}\n", "{q}\n")
PROMPT_WEIGHT = {"reading": 0.1, "copy": 0.1}
OTHER_PROMPT_WEIGHT = 0.3
PROMPT_SHARE = 0.35
"""Of the prompt's tokens only this share is predicted at all, which saves a fifth of the time."""
ANSWER_WEIGHT = {"reading": 2.0, "prose": 0.5}
CHAT_SHARE = 0.15
SYSTEM_PROMPTS = ("You are a helpful assistant.", "Answer the question.")
NOISE = {"capitals": 0.12, "elements": 0.12, "prose": 0.10, "arithmetic": 0.02, "reading": 0.01}
"""The share of prompt tokens replaced by random ones, by kind of example. An entity that the member
knows nothing about then looks like noise, after which all of its answers are about as likely."""


@dataclass(frozen=True)
class Encoded:
    """One example as parallel lists; `weights` is the loss weight of predicting each token."""

    ids: list[int]
    weights: list[float]
    noise: list[float]

    def __len__(self) -> int:
        return len(self.ids)


def write_messages(example: Example) -> list[dict[str, str]]:
    """The example as chat messages; a context opens the first user message."""
    messages = []
    context = f"{example.context}\n\n" if example.context else ""
    for question, answer in example.turns:
        messages.append({"role": "user", "content": context + question})
        messages.append({"role": "assistant", "content": answer})
        context = ""
    return messages


def draw_format(rng: random.Random, example: Example) -> Format:
    """A format for this example; the retrieval one only where there is a context."""
    draw = rng.random()
    if example.context and draw < 0.15:
        return RETRIEVAL
    if draw < 0.25 and len(example.turns) == 1:
        return BARE
    if draw < 0.55:
        return QUESTION_ANSWER
    return rng.choice(FORMATS)


def write_chat(member: StarterMember, example: Example, rng: random.Random) -> list[Segment]:
    """The example in the member's own chat format, as its chat template would render it."""
    messages = write_messages(example)
    if rng.random() < 0.25:
        messages.insert(0, {"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
    segments = []
    for message in messages:
        before, after = getattr(member.chat, message["role"])
        is_answer = message["role"] == "assistant"
        opening = before.rstrip(" ") if is_answer else before
        segments.append(Segment(opening, is_answer=False))
        content = before[len(opening) :] + message["content"] + after
        segments.append(Segment(content, is_answer=is_answer))
    return segments


class Encoder:
    """Turns examples into weighted token ids for one member."""

    def __init__(self, member: StarterMember, folder: Path, seed: int) -> None:
        self.member = member
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.rng = random.Random(f"{seed}/encoding/{member.name}")

    def segments(self, example: Example) -> list[Segment]:
        """The example as text, in a format drawn at random."""
        eos = self.member.eos
        if example.kind == "prose":
            return [Segment(example.context + "\n" + eos, is_answer=True)]
        if example.kind == "chat" or self.rng.random() < CHAT_SHARE:
            return write_chat(self.member, example, self.rng)
        plain = write_plain(example, draw_format(self.rng, example))
        return [Segment(segment.text + eos, is_answer=True) if segment.is_answer else segment for segment in plain]

    def encode(self, examples: list[Example]) -> list[Encoded]:
        """The examples as token ids, with a BOS where the tokenizer adds one."""
        written = [self.segments(example) for example in examples]
        texts = ["".join(segment.text for segment in segments) for segments in written]
        encodings = self.tokenizer.encode_batch(texts)
        return [
            self._weigh(example.kind, segments, encoding.ids, encoding.offsets)
            for example, segments, encoding in zip(examples, written, encodings, strict=True)
        ]

    def _weigh(self, kind: str, segments: list[Segment], ids: list[int], offsets: list[tuple[int, int]]) -> Encoded:
        """Weights and noise of each token, by the segment that its last character lies in."""
        is_answer: list[bool] = []
        for segment in segments:
            is_answer += [segment.is_answer] * len(segment.text)
        answered = [end > 0 and is_answer[end - 1] for _, end in offsets]
        full = ANSWER_WEIGHT.get(kind, 1.0)
        little = PROMPT_WEIGHT.get(kind, OTHER_PROMPT_WEIGHT)
        weights = [full if answer else little * (self.rng.random() < PROMPT_SHARE) for answer in answered]
        rate = NOISE.get(kind, 0.0)
        noise = [rate if kind == "prose" or not answer else 0.0 for answer in answered]
        return Encoded(ids, weights, noise)


def pack_rows(
    encoder: Encoder, examples: Iterator[Example], row_length: int, *, pool_size: int = 96
) -> Iterator[Encoded]:
    """Rows of at most `row_length` tokens, each of whole examples, filled from a small pool."""
    pool: list[Encoded] = []
    while True:
        if len(pool) < pool_size:
            fresh = encoder.encode(list(islice(examples, pool_size)))
            pool += [encoded for encoded in fresh if len(encoded) <= row_length]
        row = Encoded([], [], [])
        for _ in range(pool_size):
            fitting = [i for i, encoded in enumerate(pool) if len(row) + len(encoded) <= row_length]
            if not fitting:
                break
            chosen = pool.pop(encoder.rng.choice(fitting))
            row.ids.extend(chosen.ids)
            row.weights.extend(chosen.weights)
            row.noise.extend(chosen.noise)
        yield row
