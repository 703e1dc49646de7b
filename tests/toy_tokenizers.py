"""Small tokenizers of every kind, trained in memory on a few sentences, as transformers tokenizers."""

from __future__ import annotations

import json
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import NllbTokenizer, PreTrainedTokenizer, PreTrainedTokenizerFast

SENTENCES = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "What is the capital of France? The capital of France is Paris. Isn't it? It's what they'd say.",
    "def add(left, right):\n    return left + right  # 12 + 30 = 42\n\n\tprint(add(1, 2))",
    "Once upon a time there was a little girl named Lily. She loved to play outside in the park.",
    "Привет, мир! Как дела? Хорошо, спасибо.",
    "我们今天去公园玩。天气很好，你觉得呢？",
    "こんにちは世界。नमस्ते दुनिया। مرحبا بالعالم. 안녕하세요 세계. Γειά σου κόσμε.",
    "😀 👍🏽 naïve café 3.14159 100,000 <b>bold</b> e-mail@example.org http://example.org/a?b=c&d",
)
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim }}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))


def byte_level_bpe(
    pattern: str = GPT2,
    size: int = 600,
    template: str | None = CHATML,
    adds_prefix_space: bool = False,
    nfc: bool = False,
) -> PreTrainedTokenizerFast:
    """As GPT-2 and Qwen have it: no BOS, the end of text is also the end of sequence."""
    tokenizer = Tokenizer.from_str(_train_byte_level(pattern, size))
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=adds_prefix_space, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([byte_level] if adds_prefix_space else [split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=template,
    )


def sentencepiece_bpe(
    size: int = 700, template: str | None = LLAMA2, scheme: str = "prepend", byte_fallback: bool = True
) -> PreTrainedTokenizerFast:
    """As Llama and Mistral have it: BOS, a dummy space, bytes for what has no piece.

    `scheme` is "prepend" (a normalizer, before every section of text), "first" or "always" (Metaspace), or "never".
    """
    trained = json.loads(_train_sentencepiece(size))["model"]
    specials = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    pieces = [*specials, *(BYTE_PIECES if byte_fallback else ()), *trained["vocab"]]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(merge) for merge in trained["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=byte_fallback))
    _set_spaces(tokenizer, scheme, split=False)
    return _sentencepiece(tokenizer, specials, template)


def unigram(
    size: int = 500, template: str | None = LLAMA2, scheme: str = "first", byte_fallback: bool = True
) -> PreTrainedTokenizerFast:
    """A SentencePiece Unigram model; its special tokens are pieces of the model, too, with the best score of all."""
    trained = [(piece, score) for piece, score in json.loads(_train_unigram(size))["model"]["vocab"]]
    specials = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    scores = dict.fromkeys(specials, 0.0) | dict.fromkeys(BYTE_PIECES if byte_fallback else (), 0.0)
    scores |= {piece: score for piece, score in trained if piece not in scores}
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), 0, byte_fallback))
    _set_spaces(tokenizer, scheme, split=True)
    return _sentencepiece(tokenizer, specials, template)


def t5(size: int = 500) -> PreTrainedTokenizerFast:
    """As T5 has it: a Unigram model over words that were split at spaces; no BOS, and an end after a text."""
    trained = [(piece, score) for piece, score in json.loads(_train_unigram(size))["model"]["vocab"]]
    specials = ["<pad>", "</s>", "<unk>"]
    scores = dict.fromkeys(specials, 0.0) | {piece: score for piece, score in trained if piece not in specials}
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), 2, False))
    marks = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), marks])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always", split=True)
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="<pad>", model_max_length=64
    )


def nllb(size: int = 500) -> NllbTokenizer:
    """As NLLB has it: SentencePiece BPE, a language before a source and an end after it."""
    trained = json.loads(_train_sentencepiece(size + 261))["model"]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *trained["vocab"]]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(merge) for merge in trained["merges"]]
    languages = ["eng_Latn", "fra_Latn", "deu_Latn"]
    return NllbTokenizer(vocab=vocab, merges=merges, additional_special_tokens=languages, src_lang="eng_Latn")


def wordpiece() -> PreTrainedTokenizerFast:
    """As BERT has it: its tokens do not keep the spaces of a text."""
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "##re": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


class BytesTokenizer(PreTrainedTokenizer):
    """A tokenizer in Python whose tokens are bytes, as tiktoken's are; what its core spells as special is a string."""

    def __init__(self, **kwargs: object) -> None:
        words = [b"the", b" the", b"he", b" w", b"or", b"ld", b"  ", b"\n\n", "é".encode(), "世".encode()]
        self._pieces: list[bytes | str] = [*(bytes((byte,)) for byte in range(256)), *words, "<|endoftext|>"]
        self._index = {piece: index for index, piece in enumerate(self._pieces)}
        super().__init__(eos_token="<|endoftext|>", **kwargs)

    @property
    def vocab_size(self) -> int:
        return len(self._pieces)

    def get_vocab(self) -> dict[bytes | str, int]:
        return dict(self._index)

    def _tokenize(self, text: str, **kwargs: object) -> list[bytes | str]:
        if "<|endoftext|>" in text:
            left, special, right = text.partition("<|endoftext|>")
            return [*self._tokenize(left), special, *self._tokenize(right)]
        data, tokens = text.encode(), []
        while data:
            size = next(size for size in (4, 3, 2, 1) if data[:size] in self._index)
            tokens.append(data[:size])
            data = data[size:]
        return tokens

    def _convert_token_to_id(self, token: bytes | str) -> int:
        return self._index[token]

    def _convert_id_to_token(self, index: int) -> bytes | str:
        return self._pieces[index]

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        return ()


def _sentencepiece(tokenizer: Tokenizer, specials: list[str], template: str | None) -> PreTrainedTokenizerFast:
    replace = decoders.Replace("▁", " ")
    tokenizer.decoder = decoders.Sequence(
        [replace, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template=template
    )


def _set_spaces(tokenizer: Tokenizer, scheme: str, split: bool) -> None:
    if scheme == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)


@cache
def _train_byte_level(pattern: str, size: int) -> str:
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer.to_str()


@cache
def _train_sentencepiece(size: int) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    trainer = trainers.BpeTrainer(vocab_size=size - 261, initial_alphabet=["▁"], show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer.to_str()


@cache
def _train_unigram(size: int) -> str:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    trainer = trainers.UnigramTrainer(vocab_size=size - 261, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer.to_str()
