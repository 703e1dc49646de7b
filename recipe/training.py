"""Trains one member from scratch and writes it in the Hugging Face layout."""

from __future__ import annotations

import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from recipe.corpus import Mixture, make_examples
from recipe.encoding import Encoder, pack_rows
from recipe.initialization import apply_mimetic, embedding_of
from recipe.members import StarterMember

logger = logging.getLogger(__name__)

CHECKPOINT_STEPS = 100
EMBEDDING_RATE = 0.3

Progress = Callable[[float, float], None]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    `max_minutes` shortens the run, at the cost of exactness: only a run that reaches `num_steps`
    repeats itself.
    """

    num_steps: int = 2800
    batch_tokens: int = 2048
    learning_rate: float = 3.0e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    max_minutes: float = 60.0

    def rate(self, done: float) -> float:
        """The learning rate after this share of the run: linear warmup, then a cosine to 3%."""
        warmup = min(1.0, (done * self.num_steps + 1) / self.warmup_steps)
        return self.learning_rate * warmup * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done)))


@dataclass(frozen=True)
class Stage:
    """From which share of the run on the text is drawn like this."""

    start: float
    max_sentences: int
    row_length: int
    mixture: Mixture


ONLY_READING = {"arithmetic": 0.0, "facts": 0.0, "prose": 0.0, "chat": 0.0}
STAGES = (
    Stage(0.0, 2, 128, Mixture(reading=0.4, copy=0.6, **ONLY_READING)),
    Stage(0.06, 4, 128, Mixture(reading=0.8, copy=0.2, **ONLY_READING)),
    Stage(0.28, 5, 192, Mixture()),
    Stage(0.85, 9, 384, Mixture()),
)
"""Reading alone first, and short passages: looking things up is learnt late unless it comes first."""


@dataclass(frozen=True)
class Batch:
    """Input ids, target ids and loss weights, each `(rows, length)`."""

    inputs: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


def build_model(member: StarterMember, encoder: Encoder) -> PreTrainedModel:
    """An untrained model of the member's architecture, for the encoder's vocabulary."""
    tokenizer = encoder.tokenizer
    token_ids = {
        f"{role}_token_id": tokenizer.token_to_id(token) if token else None
        for role, token in (("bos", member.bos), ("eos", member.eos), ("pad", member.pad))
    }
    arguments = member.config_arguments()
    config = AutoConfig.for_model(
        arguments.pop("model_type"),
        vocab_size=tokenizer.get_vocab_size(),
        **arguments,
        **token_ids,
    )
    torch.manual_seed(member.seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, dtype=torch.float32
    )
    apply_mimetic(model, member.seed)
    return model


def make_batches(encoder: Encoder, stage: Stage, seed: int, batch_tokens: int) -> Iterator[Batch]:
    """An endless stream of batches for one stage of the run."""
    member = encoder.member
    examples = make_examples(seed, member.part, stage.mixture, max_sentences=stage.max_sentences)
    rows = pack_rows(encoder, examples, stage.row_length + 1)
    num_rows = max(1, batch_tokens // stage.row_length)
    generator = torch.Generator().manual_seed(seed)
    first_word = len(member.special_tokens) + 256
    vocab_size = encoder.tokenizer.get_vocab_size()
    while True:
        ids = torch.zeros(num_rows, stage.row_length + 1, dtype=torch.long)
        weights = torch.zeros(num_rows, stage.row_length + 1)
        noise = torch.zeros(num_rows, stage.row_length + 1)
        for i, row in enumerate(itertools.islice(rows, num_rows)):
            ids[i, : len(row)] = torch.tensor(row.ids)
            weights[i, : len(row)] = torch.tensor(row.weights)
            noise[i, : len(row)] = torch.tensor(row.noise)
        weights[:, 0] = 0.0
        random_ids = torch.randint(first_word, vocab_size, ids.shape, generator=generator)
        is_noisy = torch.rand(ids.shape, generator=generator) < noise
        inputs = torch.where(is_noisy, random_ids, ids)
        yield Batch(inputs[:, :-1], ids[:, 1:], weights[:, 1:])


def batch_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """The weighted mean cross-entropy of the tokens that carry a weight."""
    hidden = model.base_model(input_ids=batch.inputs, use_cache=False).last_hidden_state
    kept = batch.weights > 0
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    losses = functional.cross_entropy(head(hidden[kept]), batch.targets[kept], reduction="none")
    weights = batch.weights[kept]
    return (losses * weights).sum() / weights.sum()


def make_optimizer(model: PreTrainedModel, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW that decays matrices only, and moves embeddings more slowly than the rest.

    Names are alike in all but which name they are: fast embeddings would soon be nearly equal.
    """
    embedding = embedding_of(model)
    others = [p for p in model.parameters() if p is not embedding]
    decay = schedule.weight_decay
    groups = [
        {"params": [embedding], "weight_decay": 0.0, "share": EMBEDDING_RATE},
        {"params": [p for p in others if p.dim() > 1], "weight_decay": decay, "share": 1.0},
        {"params": [p for p in others if p.dim() <= 1], "weight_decay": 0.0, "share": 1.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.98), fused=True)


def train_member(
    member: StarterMember, folder: Path, seed: int, schedule: Schedule, progress: Progress
) -> PreTrainedModel:
    """The trained model of a member whose tokenizer is already in `folder`.

    It is saved there now and then; `progress` is called after each step with the share done and
    the loss.
    """
    encoder = Encoder(member, folder, seed)
    model = build_model(member, encoder)
    optimizer = make_optimizer(model, schedule)
    started = time.monotonic()
    streams = [make_batches(encoder, stage, seed + i, schedule.batch_tokens) for i, stage in enumerate(STAGES)]
    model.train()
    for step in itertools.count():
        elapsed = (time.monotonic() - started) / (60.0 * schedule.max_minutes)
        done = max(step / schedule.num_steps, elapsed)
        if done >= 1.0:
            break
        stage_index = max(i for i, stage in enumerate(STAGES) if stage.start <= done)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(done) * group["share"]
        loss = batch_loss(model, next(streams[stage_index]))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress(done, loss.item())
        if step % CHECKPOINT_STEPS == 0:
            logger.info("%s step %d loss %.3f", member.name, step, loss.item())
            save_model(model, member, folder)
    logger.info("trained %s in %d steps", member.name, step)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def save_model(model: PreTrainedModel, member: StarterMember, folder: Path) -> None:
    """Writes the weights and both configurations beside the tokenizer."""
    config = model.generation_config
    if config is not None:
        config.do_sample = False
        if member.pad != member.eos and member.name == "qwen2":
            config.eos_token_id = [model.config.eos_token_id, model.config.pad_token_id]
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
