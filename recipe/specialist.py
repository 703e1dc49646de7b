"""Trains a reader of worn inscriptions, and asks it beside a starter member: `python -m recipe.specialist`.

The reader is a sequence-to-sequence model that sees the worn writing only. The starter member sees the question only.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from deepen_llm import Ensemble, MemberConfig, SamplingParams
from deepen_llm.starter import find_models
from recipe.inscriptions import GONE, LETTERS, Inscription, make_inscriptions, make_pairs

logger = logging.getLogger(__name__)

SPECIALS = ("<pad>", "</s>", "<unk>")
NUM_STEPS, BATCH_SIZE, RATE, WARMUP = 2500, 32, 3e-3, 100
NUM_RESAMPLED = 10_000


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Letter by letter, with T5's marks of spaces and ends."""
    pad, end, unknown = SPECIALS
    vocab = {piece: place for place, piece in enumerate([*SPECIALS, "▁", GONE, *LETTERS])}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always", split=False)
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, 1)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=pad, eos_token=end, unk_token=unknown, model_max_length=128
    )


def build_model(vocab_size: int, seed: int) -> T5ForConditionalGeneration:
    """An untrained reader of 0.2 million parameters."""
    torch.manual_seed(seed)
    config = T5Config(vocab_size=vocab_size, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0)
    config.pad_token_id, config.eos_token_id, config.decoder_start_token_id = 0, 1, 0
    return T5ForConditionalGeneration(config)


def train(tokenizer: PreTrainedTokenizerFast, num_steps: int = NUM_STEPS, seed: int = 7) -> T5ForConditionalGeneration:
    """A reader, from scratch: the learning rate rises linearly and falls as a cosine."""
    model = build_model(len(tokenizer), seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    pairs = make_pairs(seed)
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / num_steps))
        worn, texts = zip(*itertools.islice(pairs, BATCH_SIZE), strict=True)
        inputs = tokenizer(list(worn), return_tensors="pt", padding=True)
        labels = tokenizer(list(texts), return_tensors="pt", padding=True).input_ids
        ignored = labels.masked_fill(labels == 0, -100)
        loss = model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, labels=ignored).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0:
            logger.info("step %d of %d: loss %.3f", step, num_steps, loss.item())
    model.train(False)
    return model


def ask(ensemble: Ensemble, inscriptions: Sequence[Inscription]) -> list[bool]:
    """Which of the inscriptions are answered right; each one's worn writing goes to the encoder, if there is one."""
    has_reader = any(member.source_reader is not None for member in ensemble.members)

    def answer(one: Inscription) -> str:
        source = one.worn if has_reader else None
        return ensemble.generate(one.prompt, SamplingParams(max_new_tokens=32, stop="\n", source=source)).text

    return [answer(one).strip() == one.answer for one in inscriptions]


def compare(first: Sequence[bool], second: Sequence[bool], groups: Sequence[str]) -> tuple[float, float, float]:
    """How far the first is above the second, and from where to where with 95%: paired, whole groups drawn again."""
    by_group: dict[str, list[int]] = {}
    for group, one, other in zip(groups, first, second, strict=True):
        by_group.setdefault(group, []).append(one - other)
    sums, rng = [(sum(values), len(values)) for values in by_group.values()], random.Random(0)
    drawn = (rng.choices(sums, k=len(sums)) for _ in range(NUM_RESAMPLED))
    means = sorted(sum(total for total, _ in some) / sum(count for _, count in some) for some in drawn)
    return sum(total for total, _ in sums) / len(groups), means[NUM_RESAMPLED // 40], means[-NUM_RESAMPLED // 40]


def main() -> None:
    """Train the reader, and tell how many inscriptions each is right about: alone, and together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Where the reader is, or goes.")
    parser.add_argument("--steps", type=int, default=NUM_STEPS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    if not (arguments.folder / "config.json").exists():
        tokenizer = make_tokenizer()
        train(tokenizer, arguments.steps).save_pretrained(arguments.folder)
        tokenizer.save_pretrained(arguments.folder)
    inscriptions = make_inscriptions(seed=11)
    reader = MemberConfig(model=arguments.folder, kind="encoder-decoder", name="reader")
    with Ensemble.from_pretrained(reader) as alone:
        read = ask(alone, inscriptions)
    logger.info("reader alone: %d of %d", sum(read), len(read))
    for starter in ("llama", "neox", "qwen2"):
        [place] = find_models([starter])
        with Ensemble.from_pretrained(place) as alone:
            knows = ask(alone, inscriptions)
        with Ensemble.from_pretrained([place, reader]) as both:
            together = ask(both, inscriptions)
        best = max(knows, read, key=sum)
        gain, low, high = compare(together, best, [one.answer for one in inscriptions])
        logger.info(
            "%s alone: %d; with the reader: %d; above the better one by %+.3f (%+.3f to %+.3f)",
            *(starter, sum(knows), sum(together), gain, low, high),
        )


if __name__ == "__main__":
    main()
