"""An adapter (LoRA and its like, by peft): a folder with the changes to a base model that lies elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Self, final

from deepen_llm.errors import MissingDependencyError, quote
from deepen_llm.members.transformers.checkpoint import ADAPTER_CONFIG, CONFIG, Checkpoint

WEIGHTS = "adapter_model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@final
@dataclass(frozen=True)
class Adapter:
    """An adapter and the model that it changes."""

    checkpoint: Checkpoint
    base: Checkpoint

    @classmethod
    def find(cls, checkpoint: Checkpoint) -> Self | None:
        """The adapter that a checkpoint is; None where it is a model by itself.

        Raises:
            MemberError: An adapter without a base model, or without weights in safetensors.
            MissingDependencyError: peft is not installed: transformers would pass the adapter over in silence.
        """
        values = checkpoint.read_json(ADAPTER_CONFIG)
        if values is None:
            return None
        if find_spec("peft") is None:
            raise MissingDependencyError(
                f"member {quote(checkpoint.name)} is an adapter ({ADAPTER_CONFIG} in {quote(checkpoint.place)}), which "
                "needs the package peft: pip install peft"
            )
        if checkpoint.find(WEIGHTS) is None:
            checkpoint.refuse(f"an adapter's weights must be in {WEIGHTS}, which is not there; pickles are not read")
        if checkpoint.find(CONFIG) is not None:
            return cls(checkpoint, checkpoint)
        place = values.get("base_model_name_or_path")
        if not isinstance(place, str) or not place:
            checkpoint.refuse(f"{ADAPTER_CONFIG} must name the model that it changes (base_model_name_or_path)")
        return cls(checkpoint, checkpoint.at(place))

    @property
    def tokenizer(self) -> Checkpoint:
        """Where the tokenizer lies: with the adapter, or else with the model."""
        has_own = any(self.checkpoint.find(file) is not None for file in TOKENIZER_FILES)
        return self.checkpoint if has_own else self.base
