"""`deepen inspect`: members, vocabularies, memory, and how well the members fit, before anything is asked."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from deepen_llm.cli.console import out
from deepen_llm.cli.opening import open_ensemble
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.cli.verdict import print_verdict
from deepen_llm.config import WeightingConfig
from deepen_llm.source import EnsembleSource

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.members.base import Member

CACHE_TOKENS = 1000
UNITS = ("B", "kB", "MB", "GB", "TB")


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
    from deepen_llm.evaluation.sample import load_sample

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
    from deepen_llm.vocabulary import common_tokens

    table = _table("Common tokens", "members", "tokens", "of the smaller vocabulary")
    groups: list[tuple[Member, ...]] = list(combinations(ensemble.members, 2))
    if len(ensemble.members) > 2:
        groups.append(ensemble.members)
    for group in groups:
        number = len(common_tokens([member.vocabulary for member in group]))
        smallest = min(sum(token is not None for token in member.vocabulary.tokens) for member in group)
        names = Text(" + ".join(member.name for member in group))
        table.add_row(names, f"{number:,}", f"{number / max(smallest, 1):.0%}")
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


def format_bytes(number: float) -> str:
    """A number of bytes with a decimal unit and three figures."""
    unit = 0
    while number >= 1000 and unit < len(UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.3g} {UNITS[unit]}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def _yes(value: bool) -> str:
    return "yes" if value else "no"
