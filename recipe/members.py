"""The three members: their architecture, kind of tokenizer, special tokens and chat format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["byte-bpe", "sentencepiece-bpe", "unigram"]

NUM_LAYERS = 4
HIDDEN_SIZE = 128
NUM_HEADS = 4
MAX_POSITIONS = 1024


@dataclass(frozen=True)
class ChatFormat:
    """What stands before and after a message of each role; a reply is closed by the EOS token."""

    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]

    def template(self) -> str:
        """The same format as a Jinja chat template."""
        lines = ["{%- for message in messages -%}"]
        for i, role in enumerate(("system", "user", "assistant")):
            before, after = getattr(self, role)
            test = f"{'if' if i == 0 else 'elif'} message['role'] == '{role}'"
            content = "message['content'] | trim" if role == "assistant" else "message['content']"
            lines.append(f"{{%- {test} -%}}{{{{ {before!r} + ({content}) + {after!r} }}}}")
        lines.append("{%- endif -%}{%- endfor -%}")
        opening = self.assistant[0].rstrip(" ")
        lines.append(f"{{%- if add_generation_prompt -%}}{{{{ {opening!r} }}}}{{%- endif -%}}")
        return "".join(lines)


@dataclass(frozen=True)
class StarterMember:
    """The recipe of one bundled model."""

    name: str
    part: int
    model_type: str
    tokenizer_kind: Kind
    num_tokens: int
    bos: str | None
    eos: str
    pad: str
    unk: str
    is_bos_added: bool
    chat: ChatFormat
    seed: int

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The special tokens in the order of their ids, which begin at 0."""
        marks = ("[SYS]", "[USER]", "[BOT]", "<|im_start|>", "<|rule|>", "<|human|>", "<|machine|>")
        opened = "".join(self.chat.system + self.chat.user + self.chat.assistant)
        named = [token for token in (self.unk, self.bos, self.eos, self.pad) if token]
        return tuple(dict.fromkeys(named + [mark for mark in marks if mark in opened]))

    def config_arguments(self) -> dict[str, Any]:
        """Arguments of the transformers configuration, less those the tokenizer decides."""
        arguments: dict[str, Any] = {
            "model_type": self.model_type,
            "hidden_size": HIDDEN_SIZE,
            "num_hidden_layers": NUM_LAYERS,
            "num_attention_heads": NUM_HEADS,
            "max_position_embeddings": MAX_POSITIONS,
            "tie_word_embeddings": True,
            "initializer_range": 0.05,
        }
        if self.model_type == "gpt_neox":
            return arguments | {
                "intermediate_size": 4 * HIDDEN_SIZE,
                "use_parallel_residual": False,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "partial_rotary_factor": 0.5,
                },
            }
        return arguments | {
            "intermediate_size": 336,
            "num_key_value_heads": NUM_HEADS,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        }


MEMBERS = (
    StarterMember(
        name="llama",
        part=0,
        model_type="llama",
        tokenizer_kind="sentencepiece-bpe",
        num_tokens=3600,
        bos="<s>",
        eos="</s>",
        pad="<unk>",
        unk="<unk>",
        is_bos_added=True,
        chat=ChatFormat(system=("[SYS]", ""), user=("[USER]", ""), assistant=("[BOT]", "</s>")),
        seed=11,
    ),
    StarterMember(
        name="neox",
        part=1,
        model_type="gpt_neox",
        tokenizer_kind="unigram",
        num_tokens=2600,
        bos="<|end|>",
        eos="<|end|>",
        pad="<|padding|>",
        unk="<|unknown|>",
        is_bos_added=False,
        chat=ChatFormat(
            system=("<|rule|> ", ""),
            user=("<|human|> ", ""),
            assistant=("<|machine|> ", "<|end|>"),
        ),
        seed=12,
    ),
    StarterMember(
        name="qwen2",
        part=2,
        model_type="qwen2",
        tokenizer_kind="byte-bpe",
        num_tokens=3400,
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        unk="<|endoftext|>",
        is_bos_added=False,
        chat=ChatFormat(
            system=("<|im_start|>system\n", "<|im_end|>\n"),
            user=("<|im_start|>user\n", "<|im_end|>\n"),
            assistant=("<|im_start|>assistant\n ", "<|im_end|>\n"),
        ),
        seed=13,
    ),
)
"""In the order of their parts; each is strong in the part of its own number."""
