"""The tables of `deepen inspect`. At 80 columns neither a name nor a figure in them is cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from deepen_llm.cli.narrow_table import NarrowTable
from deepen_llm.cli.tables import format_bytes
from deepen_llm.config import WeightingConfig

if TYPE_CHECKING:
    from deepen_llm.compatibility import Agreement, Fit, Sample
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.evaluation import TextComparison
    from deepen_llm.members.base import Member

CACHE_TOKENS = 1000


def members_table(ensemble: Ensemble) -> Group:
    """Who takes part, with which weight, and where. Of weights that learn, those with which a request begins."""
    members, way, learning = ensemble.members, ensemble.config.request_weights, _describe_learning(ensemble)
    kind = way.kind if isinstance(way, WeightingConfig) and len(members) > 1 else None
    weights = [f"by {kind}" if kind and not learning else f"{weight:.3g}" for weight in ensemble.prior_weights]
    rows = [
        (
            member.name,
            _yes(member.name == ensemble.main_name),
            weight,
            describe_numbers(member),
            str(member.device),
            f"{member.context_length:,}",
            _yes(member.vocabulary.has_chat_template),
        )
        for member, weight in zip(members, weights, strict=True)
    ]
    columns = (
        "member",
        "main",
        "first weight" if learning else "weight",
        "dtype",
        "device",
        "context in tokens",
        "chat template",
    )
    table = NarrowTable("Members", columns, rows)
    return Group(table, Text(learning, style="dim")) if learning else Group(table)


def describe_numbers(member: Member) -> str:
    """How a member's weights are stored, and whether an adapter changes them."""
    identity = member.identity
    quantization = identity.get("quantization")
    method = quantization.get("quant_method", "") if isinstance(quantization, dict) else ""
    parts = (str(identity.get("dtype", "")), str(method), "adapter" if "adapter" in identity else "")
    return " + ".join(filter(None, parts))


def _describe_learning(ensemble: Ensemble) -> str:
    """What is learnt of adaptive weights, and how they begin; nothing of other weights, or of one member's."""
    from deepen_llm.weighting.adaptive import AdaptiveWeightingConfig

    way = ensemble.config.request_weights
    if not isinstance(way, AdaptiveWeightingConfig) or len(ensemble.members) == 1:
        return ""
    start = "uniform, since not every member tells its size"
    if way.prior is not None:
        start = "as the given prior says"
    elif all(member.num_parameters for member in ensemble.members):
        start = "by size, larger models with more"
    return f"Weights are adaptive: each request's prompt and answer move them, word by word. They begin {start}."


def vocabularies_table(ensemble: Ensemble) -> NarrowTable:
    """Every member's tokens by sort: text, special, added, padded."""
    rows = []
    for member in ensemble.members:
        vocabulary = member.vocabulary
        numbers = (
            len(vocabulary.tokens),
            sum(token is not None for token in vocabulary.tokens),
            len(vocabulary.special_ids),
            len(vocabulary.added_ids),
            len(vocabulary.padded_ids),
            sum(token_id is not None for token_id in vocabulary.byte_ids),
        )
        rows.append((member.name, vocabulary.kind, *(f"{number:,}" for number in numbers)))
    columns = ("member", "kind", "tokens", "text", "special", "added", "padded", "of 256 bytes")
    return NarrowTable("Vocabularies", columns, rows, loose=(0, 1))


def common_table(ensemble: Ensemble) -> NarrowTable:
    """Tokens that members share as bytes: every pair, then all together."""
    from deepen_llm.compatibility import count_common

    found = count_common([(member.name, member.vocabulary) for member in ensemble.members])
    rows = [(" + ".join(common.names), f"{common.number:,}", f"{common.share:.0%}") for common in found]
    return NarrowTable("Common tokens", ("members", "tokens", "of the smaller vocabulary"), rows)


def memory_table(ensemble: Ensemble) -> NarrowTable:
    """What the weights, the KV caches and the fusion take."""
    rows = []
    for member in ensemble.members:
        per_token = member.cache_bytes_per_token
        cache = "one state a sequence" if per_token is None else format_bytes(per_token * CACHE_TOKENS)
        weights = format_bytes(member.weight_bytes)
        if shared := member.shared_weight_bytes:
            weights += f", {format_bytes(shared)} of them counted before"
        rows.append((member.name, weights, cache))
    if len(ensemble.members) > 1:
        own = sum(member.weight_bytes - member.shared_weight_bytes for member in ensemble.members)
        rows.append(("all members", format_bytes(own), ""))
    rows += [(label, format_bytes(num_bytes), "") for label, num_bytes in describe_fusion(ensemble)]
    return NarrowTable("Memory", ("what", "weights", f"KV cache for {CACHE_TOKENS:,} tokens"), rows)


def describe_fusion(ensemble: Ensemble) -> list[tuple[str, int]]:
    """What each member's relative rows take, with their form and the time that making them took."""
    from deepen_llm.fusion.relative.method import RelativeFusion

    fusion = ensemble.fusion
    if not isinstance(fusion, RelativeFusion):
        return [("fusion", 0 if fusion is None else fusion.num_bytes)]
    if not fusion.member_bytes:
        return [("fusion: text says all, no relative rows", 0)]
    names = [f"relative rows of {name}, {fusion.form}" for name in ensemble.member_names]
    names[0] += f" (all in {fusion.build_s:.2f} s)"
    return list(zip(names, fusion.member_bytes, strict=True))


def sample_table(fit: Fit, sample: Sample) -> NarrowTable:
    """Every member's tokens on the sample, and what it cannot write."""
    from deepen_llm.compatibility import quote_missing

    num_characters = sum(map(len, sample.texts.values()))
    title = f"Sample text: {num_characters:,} characters"
    if sample.num_read_bytes < sample.num_bytes:
        title += f", excerpts of {sample.num_read_bytes:,} of {sample.num_bytes:,} bytes"
    rows = [
        (
            member.name,
            f"{member.bytes_per_token:.2f}",
            quote_missing(member),
            f"{member.missing_share:.1%}" if member.missing else "0",
        )
        for member in fit.members
    ]
    return NarrowTable(title, ("member", "bytes a token", "cannot write", "of the sample"), rows, loose=(0, 2))


def agreement_table(fit: Fit) -> NarrowTable:
    """For each two members: of each one's token ends, the share that are the other's, too."""
    rows = [(f"{pair.first} + {pair.second}", *_shares(pair.agreement), pair.cuts) for pair in fit.pairs]
    columns = ("members", "of the first's ends", "of the second's ends", "they cut")
    return NarrowTable("Token ends that agree", columns, rows)


def own_text_table(comparison: TextComparison) -> NarrowTable:
    """Every member alone on the user's text."""
    text, rows = comparison.text, []
    for member in comparison.members:
        bits, more = member.bits_per_byte, comparison.more_bits(member)
        interval = "none" if math.isnan(bits.low) else f"{bits.low:.2f} to {bits.high:.2f}"
        against = "" if len(comparison.members) == 1 else f"+{more:.0%}" if more else "best"
        rows.append((member.name, f"{bits.value:.2f}", interval, against))
    plural = "" if len(text.passages) == 1 else "s"
    title = f"Bits per byte, less is better: {text.num_bytes:,} bytes in {len(text.passages)} passage{plural}"
    return NarrowTable(title, ("member alone", "bits per byte", "95% interval", "against the best"), rows)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _shares(agreement: Agreement | None) -> tuple[str, str]:
    """Of the first one's ends and of the second one's, the share that agrees."""
    if agreement is None:
        return "", ""
    first = f"{agreement.share_of_first:.1%} of {agreement.num_first:,}"
    return first, f"{agreement.share_of_second:.1%} of {agreement.num_second:,}"
