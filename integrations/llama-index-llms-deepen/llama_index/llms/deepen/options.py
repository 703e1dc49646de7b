"""How answers are decoded, as fields of an LLM, with the engine's defaults."""

from __future__ import annotations

from llama_index.core.bridge.pydantic import BaseModel, Field

from deepen_llm.config import LogitBias, StopIds
from deepen_llm.frontends.options import default_of


class AnswerOptions(BaseModel):
    """The options of every call, which a single one can give anew. Abstract: an LLM adds the models."""

    max_tokens: int = Field(default=default_of("max_tokens"), description="The most tokens to generate.")
    temperature: float = Field(default=default_of("temperature"), description="0 is greedy.")
    top_k: int = Field(default=default_of("top_k"), description="Keep the k best tokens; 0 keeps all.")
    top_p: float = Field(default=default_of("top_p"), description="Keep the best tokens up to this probability.")
    min_p: float = Field(default=default_of("min_p"), description="Drop tokens below this share of the best one's.")
    repetition_penalty: float = Field(
        default=default_of("repetition_penalty"),
        strict=True,
        description="Above 1, make tokens less likely that were in prompt or answer.",
    )
    presence_penalty: float = Field(
        default=default_of("presence_penalty"), strict=True, description="Taken off every token that is in the answer."
    )
    frequency_penalty: float = Field(
        default=default_of("frequency_penalty"), strict=True, description="The same, each time that it is there."
    )
    logit_bias: LogitBias = Field(
        default=default_of("logit_bias"), description="Added for single tokens, by id or text: from -100 to 100."
    )
    min_new_tokens: int = Field(
        default=default_of("min_new_tokens"), strict=True, description="The fewest tokens after which an answer ends."
    )
    stop: str | list[str] = Field(default_factory=list, description="Strings at which the answer ends.")
    stop_token_ids: StopIds = Field(
        default=default_of("stop_token_ids"), description="Tokens of the main model at which the answer ends."
    )
    seed: int | None = Field(default=default_of("seed"), description="Seed of every call; None draws one a call.")
    n: int = Field(default=default_of("n"), strict=True, description="How many answers to draw; `raw` has the others.")
    logprobs: int | None = Field(
        default=default_of("logprobs"), description="Report log-probabilities, with so many others."
    )
    ignore_eos: bool = Field(default=default_of("ignore_eos"), description="Go on after end-of-sequence.")
    trace: bool = Field(default=default_of("trace"), description="Report every step in `raw`.")
    source: str | None = Field(
        default=default_of("source"), description="What members with an encoder read; mostly an option of a call."
    )
    prior: tuple[float, ...] | None = Field(
        default=default_of("prior"), description="The members' weights for an answer; 0 leaves a member out."
    )
    timeout: float | None = Field(
        default=default_of("timeout"), description="Seconds in which an answer must be whole; None waits."
    )
