"""Vocabularies for tests: toy ones by kind, and the real ones of ../shared where that folder is there."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers as toys

SHARED = Path(__file__).parents[2] / "shared"
REAL = ("qwen2", "o200k", "dolma2", "gpt2", "neox20b", "mistral-v3")
TOYS = {
    "gpt2": toys.byte_level_bpe,
    "cl100k": lambda: toys.byte_level_bpe(pattern=toys.CL100K),
    "byte-level with a prefix space": lambda: toys.byte_level_bpe(adds_prefix_space=True),
    "llama": toys.sentencepiece_bpe,
    "llama, first": lambda: toys.sentencepiece_bpe(scheme="first"),
    "llama, never": lambda: toys.sentencepiece_bpe(scheme="never"),
    "llama without bytes": lambda: toys.sentencepiece_bpe(byte_fallback=False),
    "unigram": toys.unigram,
    "unigram, always": lambda: toys.unigram(scheme="always"),
    "unigram without bytes": lambda: toys.unigram(byte_fallback=False),
    "tiktoken": toys.BytesTokenizer,
}
OF_ENCODER_DECODERS = {"t5": toys.t5, "nllb": toys.nllb}
"""Without a chat template, a token for every text, or a line's end."""
LOSSLESS = tuple(name for name in TOYS if "without" not in name)

TEXTS = {
    "latin": "The café's naïve façade costs 1,234.50 — isn't it “odd”? Straße, Øl, żółć.",
    "cyrillic": "Привет, мир! Как дела? Всё хорошо, спасибо.",
    "greek": "Γειά σου κόσμε, τι κάνεις σήμερα;",
    "arabic": "مرحبا بالعالم، كيف حالك اليوم؟",
    "hebrew": "שלום עולם, מה שלומך היום?",
    "devanagari": "नमस्ते दुनिया, यह एक परीक्षण है।",
    "chinese": "我们今天去公园玩。天气很好，你觉得呢？",
    "japanese": "こんにちは世界。カタカナもひらがなも。",
    "korean": "안녕하세요 세계. 오늘은 날씨가 좋네요.",
    "thai": "สวัสดีชาวโลก วันนี้อากาศดี",
    "code": "def f(x: int) -> str:\n    if x >= 10:\n\t\treturn f'{x!r}'  # <b>&amp;</b>\n\n\nclass A(B): pass\r\n",
    "emoji": "👩‍👩‍👧‍👦 family 👍🏽!! 🏳️‍🌈 ✨ 🇫🇷 #️⃣",
    "whitespace": "a\t\tb\n\n\n c  d   e      f \r\n\r\n   g\u00a0h\u3000i\n",
    "specials": "<s> </s> <|im_end|> <unk> [INST] <|endoftext|> <0x41>",
    "base64": "aGVsbG8gd29ybGQgdGhpcyBpcyBhIHRlc3Qgb2YgYmFzZTY0" * 4 + "==",
}


@cache
def load_toy(name: str) -> Vocabulary:
    """A toy vocabulary, once a session."""
    return Vocabulary.from_tokenizer((TOYS | OF_ENCODER_DECODERS)[name](), name=name)


@cache
def load_real_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """A tokenizer of ../shared/tokenizers or a model's of ../shared/models, once a session."""
    folder = next((path for path in (SHARED / "tokenizers" / name, SHARED / "models" / name) if path.is_dir()), None)
    if folder is None:
        pytest.skip(f"the real tokenizer {name} lies in ../shared, which is not here")
    return AutoTokenizer.from_pretrained(folder)


@cache
def load_real(name: str) -> Vocabulary:
    """A real vocabulary, once a session."""
    return Vocabulary.from_tokenizer(load_real_tokenizer(name), name=name)


WORDS = "the cat isn't 's 're it's HTTPServer camelCase ABC a é e\u0301 ﬁ Привет мир"
WORDS += " 漢字 我们 天气 あいう カタカナ 한국 नमस्ते مرحبا Γειά สวัสดี"
SIGNS = "½ ٣ 1 23 456 100,000 , . ! ... ( ) [ < /> </s> <|im_end|> <0x41> // # $ € == _ - — 。 🙂 👍🏽 👩‍👩‍👧 🏳️‍🌈"
SPACES: tuple[str, ...] = (" ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\u3000", "\u00a0", "\u200b")
SPACES += ("\u200d", "\x1c", "\x85", "\u0301")
FRAGMENTS = (*WORDS.split(" "), " cat", " мир", *SIGNS.split(" "), *SPACES)


def mixed_texts() -> st.SearchStrategy[str]:
    """Scripts, spaces, digits and signs in any order, and now and then any characters at all."""
    known = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)
    return known | st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=8).map("".join)
