"""An adapter (LoRA and its like, by peft): a folder with the changes to a base model that lies elsewhere."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from deepen_llm.errors import MemberError, MissingDependencyError, quote
from deepen_llm.members.transformers.checkpoint import ADAPTER_CONFIG, CONFIG, Checkpoint

WEIGHTS = "adapter_model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
KINDS = ("LORA", "LOHA", "LOKR", "IA3")
"""The ways of peft that change a model's layers and nothing else; others want a wrapper around its passes."""
MAX_SHOWN = 500
"""Characters of an error that names every tensor that does not fit."""
REPEATED = (".modules_to_save.", ".original_module.")
PREFIX = "base_model.model."
"""What peft puts before the names of a model's tensors."""


@final
@dataclass(frozen=True)
class Adapter:
    """An adapter and the model that it changes."""

    checkpoint: Checkpoint
    base: Checkpoint

    @classmethod
    def find(cls, checkpoint: Checkpoint, over: str | None = None) -> Self | None:
        """The adapter that a checkpoint is, or the one at `over`, which changes it; None where there is neither.

        Raises:
            MemberError: An adapter without a base model, without weights in safetensors, over another adapter, or of a
                kind that is not supported.
            MissingDependencyError: peft is not installed: transformers would pass the adapter over in silence.
        """
        values = checkpoint.read_json(ADAPTER_CONFIG)
        if over is None:
            return None if values is None else cls(checkpoint, cls._find_base(checkpoint, values))
        if values is not None:
            checkpoint.refuse(
                f"this is an adapter already ({ADAPTER_CONFIG}), and adapter={quote(over)} goes over a whole model: "
                f"name its base, {quote(values.get('base_model_name_or_path'))}, as the model"
            )
        found = checkpoint.at(over)
        if (values := found.read_json(ADAPTER_CONFIG)) is None:
            found.refuse(f"there is no {ADAPTER_CONFIG}: adapter= is the folder or hub name of an adapter")
        _check(found, values)
        return cls(found, checkpoint)

    @classmethod
    def _find_base(cls, checkpoint: Checkpoint, values: dict[str, Any]) -> Checkpoint:
        _check(checkpoint, values)
        if checkpoint.find(CONFIG) is not None:
            return checkpoint
        place = values.get("base_model_name_or_path")
        if not isinstance(place, str) or not place:
            checkpoint.refuse(f"{ADAPTER_CONFIG} must name the model that it changes (base_model_name_or_path)")
        try:
            return checkpoint.at(place)
        except MemberError as error:
            raise MemberError(
                f"{error}; {ADAPTER_CONFIG} names it as the base: if that lies elsewhere, name it as the model, and "
                f"write adapter={quote(checkpoint.place)}"
            ) from error

    @property
    def is_within(self) -> bool:
        """Whether it lies in one folder with its base: transformers loads both as one model."""
        return self.base is self.checkpoint

    @property
    def tokenizer(self) -> Checkpoint:
        """Where the tokenizer lies: with the adapter, or else with the model."""
        has_own = any(self.checkpoint.find(file) is not None for file in TOKENIZER_FILES)
        return self.checkpoint if has_own else self.base

    def apply(self, model: PreTrainedModel) -> None:
        """Put the adapter's layers into a model, whose modules are its own and whose tensors may be shared.

        Raises:
            MemberError: The adapter is damaged, or is not one of this model.
        """
        import peft

        if offloaded := [name for name, weight in model.named_parameters() if weight.is_meta]:
            self.checkpoint.refuse(
                f"an adapter's base must be in memory whole, and {offloaded[0]} is kept on disk or in another memory "
                "between passes: take a device_map without 'disk', or a smaller base"
            )
        weights = self._read_weights(model)
        _fit_vocabulary(model, weights)
        changes = peft.PeftConfig.from_pretrained(str(self._folder))
        changes.inference_mode = True
        # Its layers are made without memory, and then are those of the file: what it says of sizes need not be true.
        with torch.device("meta"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # which peft asks for
            wrapper = peft.PeftModel(model, changes, low_cpu_mem_usage=True)
        try:
            added = _replace_held(model, weights)
            result: Any = peft.set_peft_model_state_dict(wrapper, added, low_cpu_mem_usage=True)
        except (RuntimeError, KeyError) as error:
            raise MemberError(self.checkpoint.say(f"{_FOREIGN} ({str(error)[:MAX_SHOWN]})")) from error
        if lacking := [name for name, weight in model.named_parameters() if weight.is_meta]:
            self.checkpoint.refuse(f"{WEIGHTS} lacks {len(lacking)} tensors ({min(lacking)}, ...): fetch it anew")
        # Where tokens were added, peft writes embeddings a second time, by names that it does not read.
        if unexpected := [name for name in result.unexpected_keys if not any(part in name for part in REPEATED)]:
            self.checkpoint.refuse(f"{_FOREIGN} ({min(unexpected)}, ... are not among its tensors)")

    @property
    def _folder(self) -> Path:
        """Where its files lie, fetched from the hub if need be."""
        path = self.checkpoint.find(WEIGHTS)
        if path is None:
            raise FileNotFoundError(WEIGHTS)
        return path.parent

    def _read_weights(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """The adapter's tensors by name, in the model's number format."""
        try:
            weights = load_file(self._folder / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise MemberError(
                self.checkpoint.say(f"{WEIGHTS} is damaged or cut short ({error}): fetch it anew")
            ) from error
        return {
            name: tensor.to(model.dtype) if tensor.is_floating_point() else tensor for name, tensor in weights.items()
        }


_FOREIGN = "its tensors do not fit the model: name the model that it was trained on"


def _check(checkpoint: Checkpoint, values: dict[str, Any]) -> None:
    """What must hold of every adapter before its base is loaded."""
    if find_spec("peft") is None:
        raise MissingDependencyError(
            f"member {quote(checkpoint.name)} is an adapter ({ADAPTER_CONFIG} in {quote(checkpoint.place)}), which "
            "needs the package peft: pip install 'deepen-llm[lora]'"
        )
    if checkpoint.find(WEIGHTS) is None:
        checkpoint.refuse(f"an adapter's weights must be in {WEIGHTS}, which is not there; pickles are not read")
    kind = values.get("peft_type", "LORA")
    if kind not in KINDS:
        checkpoint.refuse(
            f"{ADAPTER_CONFIG} says peft_type={quote(kind)}, and a member's adapter is one of {', '.join(KINDS)}: "
            "merge it into its base, if it can be, and name the merged model"
        )
    if values.get("alora_invocation_tokens"):
        checkpoint.refuse("an adapter that waits for its invocation tokens (alora) is not supported: take plain LoRA")


def _fit_vocabulary(model: PreTrainedModel, weights: dict[str, Tensor]) -> None:
    """Give a model as many tokens as an adapter brings embeddings for: those who train it may add tokens."""
    ends: Any = (model.get_input_embeddings(), model.get_output_embeddings())  # type: ignore[no-untyped-call]
    names = {name for name, module in model.named_modules() if any(module is end for end in ends)}
    for key, tensor in weights.items():
        name = key.removeprefix(PREFIX).removesuffix(".weight").removesuffix(".base_layer")
        if name in names and len(tensor) != len(ends[0].weight):
            for end in ends:  # which transformers writes into
                _put(model, end.weight, end.weight.clone())
            model.resize_token_embeddings(len(tensor), mean_resizing=False)
            return


def _replace_held(model: PreTrainedModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put those of an adapter's tensors that the base has itself (embeddings, biases) in the place of the base's.

    The base's are not written into, for others may share them.

    Returns:
        The tensors that are left: what the adapter adds.
    """
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    held = {key: name for key in weights if (name := key.removeprefix(PREFIX)) in names}
    for key, name in held.items():
        mine, tensor = model.get_parameter(name), weights[key]
        if mine.shape != tensor.shape:
            raise RuntimeError(f"{key} is {tuple(tensor.shape)}, the model's {tuple(mine.shape)}")
        _put(model, mine, tensor.to(mine.device))
    return {key: tensor for key, tensor in weights.items() if key not in held}


def _put(model: PreTrainedModel, held: Tensor, tensor: Tensor) -> None:
    """Put a tensor in the place of a parameter, wherever the model has that."""
    own = nn.Parameter(tensor, requires_grad=False)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if parameter is held:
                setattr(module, name, own)
