"""`deepen inspect`: members, vocabularies, memory, and how well the members fit, before anything is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepen_llm.cli.console import counting, open_ensemble, out, say
from deepen_llm.cli.inspect_tables import (
    agreement_table,
    common_table,
    members_table,
    memory_table,
    own_text_table,
    sample_table,
    vocabularies_table,
)
from deepen_llm.cli.parameters import ENSEMBLE, check_new, take_options
from deepen_llm.errors import ConfigError, VocabularyError
from deepen_llm.frontends.source import EnsembleSource
from deepen_llm.text_file import check_readable

if TYPE_CHECKING:
    from deepen_llm.compatibility import Fit, Sample
    from deepen_llm.config import EnsembleConfig
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.evaluation import TextComparison

TEXT_HELP = (
    "A text file (UTF-8) of what you will ask: the members are compared on it, in bits per byte and by how they cut "
    "it. May be given more than once; of more than 16 kB, excerpts from the whole are read."
)
OUTPUT_HELP = "Write the recommended settings to this file, an ensemble.yaml."

TextFiles = Annotated[list[Path] | None, typer.Option("--text", help=TEXT_HELP, metavar="FILE")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help=OUTPUT_HELP, metavar="FILE")]
Force = Annotated[bool, typer.Option("--force", help="Write over a file that is there.")]


@take_options(source=ENSEMBLE)
def inspect(*, source: EnsembleSource, text: TextFiles = None, output: Output = None, force: Force = False) -> None:
    """Show what an ensemble is made of, and say how well its members fit.

    Members, vocabularies, common tokens and memory; then, on a sample text, how many of the places where one member
    ends a token are token ends of another, too, and the settings that follow, as a whole ensemble.yaml. The built-in
    sample has a story, prose, questions, a list, code and several languages. With `--text`, compare on what you will
    ask: then also how well each member alone predicts it, in bits per byte, and who is far weaker there.

    Examples:
    - `deepen inspect`
    - `deepen inspect -m org/main-model -m org/other-model --output ensemble.yaml`
    - `deepen inspect --config ensemble.yaml --text prompts.txt --text answers.txt`
    """
    from deepen_llm.compatibility import judge_fit, load_sample

    for file in text or ():
        check_readable(file, "--text")
    if output is not None:
        check_new(output, "--output", force=force)
    sample = load_sample(text or ())
    with open_ensemble(source) as ensemble:
        out.print(members_table(ensemble))
        out.print(vocabularies_table(ensemble))
        if len(ensemble.members) > 1:
            out.print(common_table(ensemble))
        out.print(memory_table(ensemble))
        print_generation_defaults(ensemble)
        vocabularies = [(member.name, member.vocabulary) for member in ensemble.members]
        fit = judge_fit(vocabularies, ensemble.main_name, sample.texts)
        comparison = print_verdict(ensemble, fit, sample)
        print_recommended(ensemble.config, fit, comparison, output)


def print_generation_defaults(ensemble: Ensemble) -> None:
    """What every member's own `generation_config` says, and what becomes of it; nothing where none says anything."""
    lines = []
    for member in ensemble.members:
        is_main, defaults = member.name == ensemble.main_name, member.generation_defaults
        followed, passed_over = defaults.followed(is_main=is_main), defaults.passed_over(is_main=is_main)
        parts = [f"followed: {'; '.join(followed)}"] if followed else []
        parts += [f"passed over: {'; '.join(passed_over)}"] if passed_over else []
        lines += [f"- {member.name}: {'; '.join(parts)}"] if parts else []
    if lines:
        say("\nThe models' own generation settings", style="bold italic")
    for line in lines:
        say(line)
    if any("passed over" in line for line in lines):
        say("An ensemble is greedy and without penalties: what is passed over may be asked for with each answer.")


def print_verdict(ensemble: Ensemble, fit: Fit, sample: Sample) -> TextComparison | None:
    """How every member cuts the sample, how alike each two cut it, who predicts it best, and what follows.

    Returns:
        The comparison on the user's own text, where there is one.
    """
    from deepen_llm.compatibility import describe_fit
    from deepen_llm.evaluation import describe_comparison

    out.print(sample_table(fit, sample))
    if fit.pairs:
        out.print(agreement_table(fit))
    sentences, comparison = list(describe_fit(fit)), None
    if sample.is_own:
        try:
            comparison = _compare(ensemble, sample)
        except (ConfigError, VocabularyError) as error:
            sentences.append(f"Not compared in bits per byte: {error}.")
        else:
            out.print(own_text_table(comparison))
            sentences += describe_comparison(comparison)
    elif fit.pairs:
        sentences.append("Which member predicts your own text best: give some of it, `--text FILE`.")
    say("\nVerdict", style="bold italic")
    for sentence in sentences:
        say(f"- {sentence}")
    return comparison


def print_recommended(config: EnsembleConfig, fit: Fit, comparison: TextComparison | None, output: Path | None) -> None:
    """The settings that follow as a whole file, and where it was written to. One member alone needs none."""
    from deepen_llm.compatibility import explain_recommended, recommend

    comment = explain_recommended(fit) if fit.pairs else ""
    if comparison is not None and config.weights is None and (weak := comparison.far_weaker):
        comment += f"\nweights: give {', '.join(weak)} less, or let deepen calibrate choose them"
    recommended = recommend(config, fit) if fit.pairs else config
    if fit.pairs:
        say("\nRecommended settings (ensemble.yaml)", style="bold italic")
        out.print(recommended.to_yaml(comment), end="", markup=False, soft_wrap=True)
    if output is not None:
        recommended.save(output, comment)
        say(f"\nWritten to {output}", style="bold")


def _compare(ensemble: Ensemble, sample: Sample) -> TextComparison:
    """Every member alone on the user's text, with a bar."""
    from deepen_llm.evaluation import OwnText, compare_on_text

    own = OwnText.cut(ensemble.members, sample.texts.values())
    with counting(len(ensemble.members) * len(own.passages), "passages") as report:
        return compare_on_text(ensemble, own, report)
