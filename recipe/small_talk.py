"""Small talk: what a friendly assistant says when nothing in particular is asked."""

from __future__ import annotations

import random

from deepen_llm.starter.prompts import Example

GREETINGS = ("Hello!", "Hello.", "Hi!", "Hi there!", "Good morning!", "Good evening!")
SMALL_TALK: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (GREETINGS, ("Hello! How can I help you?", "Hello! What would you like to know?")),
    (
        ("How are you?", "How are you today?"),
        ("I am well, thank you. How can I help you?",),
    ),
    (
        ("Who are you?", "What are you?", "What is your name?"),
        ("I am a small language model. I can answer short questions.",),
    ),
    (
        ("What can you do?", "How can you help me?", "What do you know?"),
        ("I know capitals, chemical elements and sums, and I can read a short text.",),
    ),
    (("Thank you!", "Thanks!", "Thank you very much."), ("You are welcome!",)),
    (("Goodbye!", "Bye!", "See you later!"), ("Goodbye! It was nice to talk to you.",)),
)


def make_small_talk_turn(rng: random.Random) -> tuple[str, str]:
    """Something a user says, and the reply."""
    said, replies = rng.choice(SMALL_TALK)
    return rng.choice(said), rng.choice(replies)


def make_small_talk(rng: random.Random) -> Example:
    """One to three turns of small talk."""
    turns = tuple(make_small_talk_turn(rng) for _ in range(rng.randint(1, 3)))
    return Example("chat", "", turns)
