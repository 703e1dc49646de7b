"""Trains the three tokenizers on the same text and writes them in the Hugging Face layout.

All three see words with their leading space, single digits and single line ends. Invented names
reach the trainers already cut between their syllables, so no tokenizer learns a name whole.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from deepen_llm.starter.capitals import CAPITALS
from deepen_llm.starter.elements import ELEMENTS
from deepen_llm.starter.names import PERSON_CLOSINGS, PERSON_OPENINGS, PLACE_CLOSINGS, PLACE_OPENINGS
from deepen_llm.starter.prompts import FORMATS, RETRIEVAL, write_plain
from recipe.corpus import Mixture, make_examples
from recipe.members import StarterMember
from recipe.unigram import learn_pieces

SPACE = "▁"
CUT = "\u2063"
NUM_EXAMPLES = 6000
WORD_REPEATS = 60
WORDS = rf"[ {SPACE}]?\p{{L}}+|\p{{N}}|\n|[ {SPACE}]?[^\s{SPACE}\p{{L}}\p{{N}}]+|[\s{SPACE}]"
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
ASCII = [chr(code) for code in range(33, 127)]
_NAMES = re.compile(
    rf"\b({'|'.join(PERSON_OPENINGS)})({'|'.join(PERSON_CLOSINGS)})\b"
    rf"|\b({'|'.join(PLACE_OPENINGS)})({'|'.join(PLACE_CLOSINGS)})\b"
)


def cut_names(text: str, mark: str) -> str:
    """The text with `mark` between the two syllables of every invented name."""
    return _NAMES.sub(lambda m: (m[1] or m[3]) + mark + (m[2] or m[4]), text)


def training_lines(seed: int) -> Iterator[str]:
    """Lines of training text, with a cut inside each invented name; rare names repeated."""
    streams = [make_examples(seed, part, Mixture()) for part in range(3)]
    forms = [*FORMATS, RETRIEVAL]
    for i in range(NUM_EXAMPLES):
        example = next(streams[i % 3])
        segments = write_plain(example, forms[i % len(forms)])
        text = "".join(segment.text for segment in segments) or example.context
        for line in cut_names(text, CUT).split("\n"):
            yield from (line, f" {line}")
        yield from (cut_names(question, CUT) for question, _ in example.turns)
    names = [name for pair in itertools.chain(*CAPITALS) for name in pair]
    names += [word for element in ELEMENTS for word in (element.name, element.symbol)]
    for name in names * WORD_REPEATS:
        yield f" {name}"


def _word_splitter() -> Any:
    """The pre-tokenizer that every tokenizer is trained with."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(CUT, "removed"),
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
        ]
    )


def _spaced(lines: Iterator[str]) -> Iterator[str]:
    """Lines with each space written as SentencePiece writes it."""
    return (line.replace(" ", SPACE) for line in lines)


def train_byte_bpe(member: StarterMember, seed: int) -> dict[str, Any]:
    """A byte-level BPE tokenizer, as the content of its tokenizer.json."""
    split = pre_tokenizers.Split(Regex(WORDS), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([_word_splitter(), byte_level])
    trainer = trainers.BpeTrainer(
        vocab_size=member.num_tokens,
        special_tokens=list(member.special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_lines(seed), trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    return content


def _sentencepiece_layout(content: dict[str, Any], member: StarterMember) -> dict[str, Any]:
    """The parts that both SentencePiece kinds share: the decoder and, where wanted, a BOS."""
    content["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    if member.is_bos_added and member.bos:
        bos = {"SpecialToken": {"id": member.bos, "type_id": 0}}
        bos_id = member.special_tokens.index(member.bos)
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [bos, *({"Sequence": {"id": s, "type_id": 0}} for s in "AB")],
            "special_tokens": {member.bos: {"id": member.bos, "ids": [bos_id], "tokens": [member.bos]}},
        }
    return content


def train_sentencepiece_bpe(member: StarterMember, seed: int) -> dict[str, Any]:
    """A SentencePiece-style BPE tokenizer with byte fallback: no pre-tokenizer, a dummy space."""
    tokenizer = Tokenizer(models.BPE(unk_token=member.unk, byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = _word_splitter()
    trainer = trainers.BpeTrainer(
        vocab_size=member.num_tokens,
        special_tokens=[*member.special_tokens, *BYTE_TOKENS],
        initial_alphabet=[SPACE, *ASCII],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_spaced(training_lines(seed)), trainer)
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    content["pre_tokenizer"] = None
    special = set(member.special_tokens)
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] in special]
    content["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": SPACE},
            {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        ],
    }
    return _sentencepiece_layout(content, member)


def train_unigram(member: StarterMember, seed: int) -> dict[str, Any]:
    """A Unigram tokenizer with byte fallback and a dummy space before the first word only."""
    splitter = _word_splitter()
    words: Counter[str] = Counter()
    for line in _spaced(training_lines(seed)):
        words.update(word for word, _ in splitter.pre_tokenize_str(line))
    first = [*member.special_tokens, *BYTE_TOKENS]
    pieces = learn_pieces(words, [SPACE, *ASCII], member.num_tokens - len(first))
    lowest = pieces[-1][1]
    vocab = [(token, 0.0) for token in member.special_tokens]
    vocab += [(token, lowest - 10.0) for token in BYTE_TOKENS] + pieces
    unk_id = member.special_tokens.index(member.unk)
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=unk_id, byte_fallback=True))
    metaspace = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first", split=True)
    split = pre_tokenizers.Split(Regex(WORDS), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([metaspace, split])
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    content["added_tokens"] = [
        {"id": i, "content": token, "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for i, token in enumerate(member.special_tokens)
    ]
    return _sentencepiece_layout(content, member)


def save_tokenizer(member: StarterMember, folder: Path, seed: int) -> None:
    """Trains the member's tokenizer and writes both of its files."""
    train = {
        "byte-bpe": train_byte_bpe,
        "sentencepiece-bpe": train_sentencepiece_bpe,
        "unigram": train_unigram,
    }[member.tokenizer_kind]
    content = train(member, seed)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": member.bos,
        "eos_token": member.eos,
        "pad_token": member.pad,
        "unk_token": member.unk,
        "chat_template": member.chat.template(),
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "padding_side": "left",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (("tokenizer.json", content), ("tokenizer_config.json", settings)):
        text = json.dumps(data, ensure_ascii=False, indent=1)
        (folder / name).write_text(text + "\n", encoding="utf-8")
