"""`deepen inspect`: members, vocabularies, memory, and how well the members fit, before anything is asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from deepen_llm.cli.console import open_ensemble, out, say
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.cli.tables import format_bytes
from deepen_llm.config import WeightingConfig
from deepen_llm.frontends.source import EnsembleSource

if TYPE_CHECKING:
    from deepen_llm.compatibility import Agreement, Fit
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.vocabulary import Vocabulary

CACHE_TOKENS = 1000


Sample = Annotated[Path | None, typer.Option("--text", help="A text file to compare the tokenizers on (UTF-8).")]


@take_options(source=ENSEMBLE)
def inspect(*, source: EnsembleSource, text: Sample = None) -> None:
    """Show what an ensemble is made of, and say how well its members fit.

    Members, vocabularies, common tokens and memory; then, on a sample text, how many of the places where one member
    ends a token are token ends of another, too, and the settings that follow. The built-in sample has a story, prose,
    questions, a list, code and several languages; with `--text`, compare on what you will ask.

    Examples:
    - `deepen inspect`
    - `deepen inspect -m org/main-model -m org/other-model`
    - `deepen inspect --config ensemble.yaml --text prompts.txt`
    """
    from deepen_llm.compatibility import load_sample

    sample = load_sample(text)
    with open_ensemble(source) as ensemble:
        out.print(members_table(ensemble))
        out.print(vocabularies_table(ensemble))
        if len(ensemble.members) > 1:
            out.print(common_table(ensemble))
        out.print(memory_table(ensemble))
        print_verdict(ensemble, sample)


def members_table(ensemble: Ensemble) -> Table:
    """Who takes part, with which weight, and where."""
    table = _table("Members", "member", "main", "weight", "dtype", "device", "context", "chat template")
    config, members = ensemble.config, ensemble.members
    way = config.weights.kind if isinstance(config.weights, WeightingConfig) else None
    weights = [f"{weight:.3g}" if way is None else f"by {way}" for weight in config.fixed_weights]
    for member, weight in zip(members, weights, strict=True):
        table.add_row(
            Text(member.name),
            _yes(member.name == ensemble.main_name),
            weight,
            Text(str(member.identity.get("dtype", ""))),
            str(member.device),
            f"{member.context_length:,} tokens",
            _yes(member.vocabulary.has_chat_template),
        )
    return table


def vocabularies_table(ensemble: Ensemble) -> Table:
    """Every member's tokens by sort: text, special, added, padded."""
    table = _table("Vocabularies", "member", "kind", "tokens", "text", "special", "added", "padded", "single bytes")
    for member in ensemble.members:
        vocabulary = member.vocabulary
        numbers = (
            len(vocabulary.tokens),
            sum(token is not None for token in vocabulary.tokens),
            len(vocabulary.special_ids),
            len(vocabulary.added_ids),
            len(vocabulary.padded_ids),
        )
        num_bytes = sum(token_id is not None for token_id in vocabulary.byte_ids)
        counts = (f"{number:,}" for number in numbers)
        table.add_row(Text(member.name), vocabulary.kind, *counts, f"{num_bytes} of 256")
    return table


def common_table(ensemble: Ensemble) -> Table:
    """Tokens that members share as bytes: every pair, then all together."""
    from deepen_llm.compatibility import count_common

    table = _table("Common tokens", "members", "tokens", "of the smaller vocabulary")
    for common in count_common(_name_vocabularies(ensemble)):
        table.add_row(Text(" + ".join(common.names)), f"{common.number:,}", f"{common.share:.0%}")
    return table


def memory_table(ensemble: Ensemble) -> Table:
    """What the weights, the KV caches and the fusion take."""
    table = _table("Memory", "what", "weights", f"KV cache for {CACHE_TOKENS:,} tokens")
    for member in ensemble.members:
        per_token = member.cache_bytes_per_token
        cache = "one state a sequence" if per_token is None else format_bytes(per_token * CACHE_TOKENS)
        table.add_row(Text(member.name), format_bytes(member.weight_bytes), cache)
    for label, num_bytes in describe_fusion(ensemble):
        table.add_row(label, format_bytes(num_bytes), "")
    return table


def describe_fusion(ensemble: Ensemble) -> list[tuple[str, int]]:
    """What each member's relative rows take, with their form and the time that making them took."""
    from deepen_llm.fusion.relative.method import RelativeFusion

    fusion = ensemble.fusion
    if not isinstance(fusion, RelativeFusion):
        return [("fusion", 0 if fusion is None else fusion.num_bytes)]
    names = [f"relative rows of {name}, {fusion.form}" for name in ensemble.member_names]
    names[0] += f" (all in {fusion.build_s:.2f} s)"
    return list(zip(names, fusion.member_bytes, strict=True))


def print_verdict(ensemble: Ensemble, sample: Mapping[str, str]) -> None:
    """How every member cuts the sample, how alike each two cut it, and the settings that follow."""
    from deepen_llm.compatibility import describe_fit, judge_fit, recommend

    fit = judge_fit(_name_vocabularies(ensemble), ensemble.main_name, sample)
    out.print(sample_table(fit, sample))
    if fit.pairs:
        out.print(agreement_table(fit))
    say("Verdict", style="bold italic")
    for sentence in describe_fit(fit):
        say(f"- {sentence}")
    if fit.pairs:
        say("\nRecommended settings (ensemble.yaml)", style="bold italic")
        say(recommend(fit))


def sample_table(fit: Fit, sample: Mapping[str, str]) -> Table:
    """Every member's tokens on the sample, and what it cannot write."""
    from deepen_llm.compatibility import quote_missing

    num_characters = sum(map(len, sample.values()))
    title = f"Sample text: {num_characters:,} characters"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("member")
    for column in ("bytes a token", "cannot write", "of the sample"):
        table.add_column(column, justify="right")
    for member in fit.members:
        missing = f"{member.missing_share:.1%}" if member.missing else "0"
        table.add_row(Text(member.name), f"{member.bytes_per_token:.2f}", Text(quote_missing(member)), missing)
    return table


def agreement_table(fit: Fit) -> Table:
    """For each two members: of each one's token ends, the share that are the other's, too."""
    table = Table(title="Token ends that agree", title_justify="left", title_style="bold")
    table.add_column("members")
    for column in ("of the first's ends", "of the second's ends", "they cut"):
        table.add_column(column, justify="right")
    for pair in fit.pairs:
        table.add_row(Text(f"{pair.first} + {pair.second}"), *_shares(pair.agreement), pair.cuts)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _shares(agreement: Agreement | None) -> tuple[str, str]:
    """Of the first one's ends and of the second one's, the share that agrees."""
    if agreement is None:
        return "", ""
    first = f"{agreement.share_of_first:.1%} of {agreement.num_first:,}"
    return first, f"{agreement.share_of_second:.1%} of {agreement.num_second:,}"


def _name_vocabularies(ensemble: Ensemble) -> list[tuple[str, Vocabulary]]:
    return [(member.name, member.vocabulary) for member in ensemble.members]
