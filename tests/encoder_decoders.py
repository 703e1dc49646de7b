"""Tiny random sequence-to-sequence models of several architectures, and members of them."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from deepen_llm.members.encoder_decoder.member import EncoderDecoderMember
from deepen_llm.members.encoder_decoder.settings import EncoderDecoderConfig
from tests import toy_tokenizers as toys

LAYERED = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "init_std": 0.4,
}
T5_SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
FAMILIES = {
    "m2m100": (transformers.M2M100Config, LAYERED),
    "mbart": (transformers.MBartConfig, LAYERED),
    "bart": (transformers.BartConfig, LAYERED | {"forced_bos_token_id": None}),
    "marian": (transformers.MarianConfig, LAYERED),
    "pegasus": (transformers.PegasusConfig, LAYERED),
    "blenderbot": (transformers.BlenderbotConfig, LAYERED),
    "t5": (transformers.T5Config, T5_SIZES),
    "mt5": (transformers.MT5Config, T5_SIZES),
    "umt5": (transformers.UMT5Config, T5_SIZES),
    "long-t5": (transformers.LongT5Config, T5_SIZES),
}
SPECIALS = {
    "nllb": {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "bos_token_id": 0},
    "t5": {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
}
"""As NLLB and T5 have them."""


def make_tokenizer(family: str) -> Any:
    """T5's for its relatives, NLLB's for all others."""
    return toys.t5() if family.endswith("t5") else toys.nllb()


def make_model(family: str, vocab_size: int, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model in float32. Weights are wide enough that its choices are far apart."""
    torch.manual_seed(seed)
    make_config, sizes = FAMILIES[family]
    specials = SPECIALS["t5" if family.endswith("t5") else "nllb"]
    config = make_config(**{**sizes, "vocab_size": vocab_size, **specials, **changes})
    model = transformers.AutoModelForSeq2SeqLM.from_config(config)
    for parameter in model.parameters() if family.endswith("t5") else ():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def make_member(family: str, seed: int = 0, **settings: Any) -> EncoderDecoderMember:
    """A member of a random model."""
    tokenizer = make_tokenizer(family)
    model = make_model(family, len(tokenizer), seed)
    return EncoderDecoderMember(model, tokenizer, settings=EncoderDecoderConfig(model=family, **settings))
