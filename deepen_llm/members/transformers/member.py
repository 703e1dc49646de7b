"""A decoder-only causal language model of `transformers` as a member."""

from __future__ import annotations

from typing import Any, final

from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicSlidingWindowLayer, LinearAttentionCacheLayerMixin

from deepen_llm.members.names import member_name
from deepen_llm.members.transformers.attention import AttentionRows
from deepen_llm.members.transformers.loading import load_model, own_errors
from deepen_llm.members.transformers.pretrained import PretrainedMember
from deepen_llm.members.transformers.recurrent import RecurrentRows
from deepen_llm.members.transformers.rows import Rows
from deepen_llm.members.transformers.settings import TransformersConfig
from deepen_llm.members.transformers.shared import SharedWeights


@final
class TransformersMember(PretrainedMember):
    """Runs a decoder-only model, with one forward pass a step for all its rows."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        *,
        name: str,
        chat_template: str | None = None,
        revision: str = "",
        adapter: str | None = None,
        shared: SharedWeights | None = None,
        record_passes: bool = True,
    ) -> None:
        """Wrap a model that is already loaded; `adapter` says where what changes it came from, `shared` the rest.

        `record_passes` is that of `TransformersConfig`.

        Raises:
            VocabularyError: The tokenizer's tokens cannot be read as bytes.
            MemberError: A `generation_config` that cannot be read.
        """
        super().__init__(
            model,
            tokenizer,
            _make_rows(model, record_passes),
            name=name,
            chat_template=chat_template,
            revision=revision,
            adapter=adapter,
            shared=shared,
        )

    @classmethod
    def load(cls, config: TransformersConfig) -> TransformersMember:
        """Load model and tokenizer as the configuration says, weights from safetensors only.

        Raises:
            ConfigError: A device that this machine does not have.
            MemberError: No such model, no tokenizer or weights, files that are damaged or do not belong together, or a
                model that is not decoder-only.
            MissingDependencyError: An adapter, and peft is not installed.
            VocabularyError: The tokenizer's tokens cannot be read as bytes.
        """
        name = member_name(config)
        loaded = load_model(config, name)
        with own_errors(name, config.model):
            return cls(
                loaded.model,
                loaded.tokenizer,
                name=name,
                chat_template=config.chat_template,
                revision=loaded.commit,
                adapter=loaded.adapter,
                shared=loaded.shared,
                record_passes=config.record_passes,
            )

    @property
    def kind(self) -> str:
        """A member of `transformers`."""
        return "transformers"


def _make_rows(model: PreTrainedModel, record_passes: bool) -> Rows:
    """The rows that fit the model's memory."""
    if _is_recurrent(model.config):
        return RecurrentRows(model)
    return AttentionRows(model, _window(model.config), records=record_passes)


def _is_recurrent(config: PreTrainedConfig) -> bool:
    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in DynamicCache(config=config).layers)


def _window(config: PreTrainedConfig) -> int | None:
    """The smallest window of the sliding layers, None where every layer sees everything."""
    layers = DynamicCache(config=config).layers
    return min((layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)), default=None)
