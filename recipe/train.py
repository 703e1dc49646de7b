"""The command that made the bundled models: `python -m recipe.train --member all`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from deepen_llm.starter import MODELS_FOLDER
from recipe.members import MEMBERS, StarterMember
from recipe.tokenization import save_tokenizer
from recipe.training import Schedule, save_model, train_member


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [member.name for member in MEMBERS]
    parser.add_argument("--member", choices=[*names, "all"], default="all")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=Schedule.num_steps)
    parser.add_argument("--minutes", type=float, default=Schedule.max_minutes)
    parser.add_argument("--learning-rate", type=float, default=Schedule.learning_rate)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=MODELS_FOLDER)
    return parser.parse_args()


def make_member(member: StarterMember, arguments: argparse.Namespace, bar: Progress) -> None:
    """Trains and saves the tokenizer and the model of one member."""
    folder: Path = arguments.out / member.name
    save_tokenizer(member, folder, arguments.seed)
    schedule = Schedule(
        num_steps=arguments.steps,
        learning_rate=arguments.learning_rate,
        max_minutes=arguments.minutes,
    )
    task = bar.add_task(member.name, total=1.0, loss=0.0)

    def advance(done: float, loss: float) -> None:
        bar.update(task, completed=done, loss=loss)

    model = train_member(member, folder, arguments.seed, schedule, advance)
    bar.update(task, completed=1.0)
    save_model(model, member, folder)


def main() -> None:
    """Trains the members named on the command line, one after another."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        for member in MEMBERS:
            if arguments.member in (member.name, "all"):
                make_member(member, arguments, bar)


if __name__ == "__main__":
    main()
