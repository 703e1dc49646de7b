"""What `deepen calibrate` shows. At 80 columns neither a name nor a figure is cut: members go by their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from deepen_llm.cli.narrow_table import NarrowTable

if TYPE_CHECKING:
    from deepen_llm.calibration import Calibration, Choice, Trial
    from deepen_llm.evaluation import Estimate


def label_choice(choice: Choice) -> str:
    """A choice while it is tried, short enough to stand beside a bar."""
    if choice.is_alone:
        at = "" if choice.temperatures is None else f" at {choice.temperatures[choice.main]:.3g}"
        return f"member {choice.main + 1} alone{at}"
    return f"main {choice.main + 1}, weights {_list(choice.weights)}%"


def members_table(calibration: Calibration, names: Sequence[str]) -> NarrowTable:
    """The members' numbers and, where temperatures were fitted, what each alone has of its own."""
    if not calibration.fits:
        return NarrowTable(
            "Members", ("no.", "member"), [(str(at), name) for at, name in enumerate(names, 1)], loose=(1,)
        )
    rows = []
    for number, (name, fit) in enumerate(zip(names, calibration.fits, strict=True), start=1):
        gain = fit.after.gain_over(fit.before)
        rows.append(
            (
                str(number),
                name,
                f"{fit.before.bits_per_byte.value:.3f}",
                f"{_temperature(fit.after):.3g}",
                f"{fit.after.bits_per_byte.value:.3f}",
                "" if fit.after is fit.before else f"{gain.low:.3f} to {gain.high:.3f}",
            )
        )
    columns = ("no.", "member alone", "bits per byte", "temperature", "bits per byte", "saved, 95% interval")
    return NarrowTable("Members", columns, rows, loose=(1,))


def trials_table(calibration: Calibration) -> NarrowTable:
    """Everything that was tried, in order. `exact`: what greedy decoding would get right to the last token."""
    learns, chosen = calibration.start.choice.learns, calibration.chosen
    columns = ["main", "prior, %" if learns else "weights, %", *(("eta", "alone") if learns else ()), "trust"]
    rows = []
    for trial in calibration.trials:
        choice, bits = trial.choice, trial.bits_per_byte
        mark = " *" if trial is chosen else ""
        ways = [f"{value:.3g}" for value in (choice.eta, choice.alone) if value is not None]
        rows.append(
            (
                f"{choice.main + 1}{mark}",
                _list(choice.weights),
                *("" if choice.is_alone else way for way in ways),
                "" if choice.is_alone else f"{choice.trust:.3g}",
                "" if choice.is_alone else _say_tempered(choice, calibration),
                f"{bits.value:.3f}",
                f"{bits.low:.3f} to {bits.high:.3f}",
                f"{trial.accuracy.value:.1%}",
            )
        )
    columns += ["tempered", "bits per byte", "95% interval", "exact"]
    if all(fit.after is fit.before for fit in calibration.fits):
        rows = [(*row[:-4], *row[-3:]) for row in rows]
        columns.remove("tempered")
    return NarrowTable("What was tried; * is written", columns, rows, loose=(1,))


def describe_choice(calibration: Calibration, names: Sequence[str], num_rows: int) -> Iterator[str]:
    """What is written, and how sure it is."""
    best, chosen, start = calibration.best, calibration.chosen, calibration.start
    if len(calibration.trials) == 1:
        yield f"Uniform weights, main model {names[chosen.choice.main]}, as asked for: nothing was chosen."
        return
    if best is start:
        yield "Nothing that was tried needs fewer bits than the defaults."
    else:
        sure = "beyond doubt" if best.is_surely_above(start) else "which may be luck, so that it is not taken"
        yield f"The best of all, {_say(best, names)}, saves {_say_gain(best.gain_over(start))} on the defaults: {sure}."
    if calibration.num_right:
        found = ", ".join(str(calibration.num_right[rival.choice]) for rival in calibration.rivals)
        text = f"Right answers, of {num_rows}: the defaults {calibration.num_right[start.choice]}, the best {found}"
        text += " (which bits do not tell apart beyond doubt)" if len(calibration.rivals) > 1 else ""
        yield text + (", fewer than the defaults, which stay." if calibration.has_fewer_right else ".")
    yield f"Chosen: {_say(chosen, names)}."
    if not chosen.choice.is_alone:
        alone = calibration.best_alone
        gain = _say_gain(chosen.gain_over(alone))
        yield f"Against the best main model alone, {names[alone.choice.main]}, it saves {gain}."


def _say(trial: Trial, names: Sequence[str]) -> str:
    choice = trial.choice
    if choice.is_alone:
        at = "" if choice.temperatures is None else f" at temperature {_temperature(trial):.3g}"
        return f"{names[choice.main]} alone{at}"
    word = "prior" if choice.learns else "weights"
    weights = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(names, choice.weights, strict=True))
    ways = f", eta {choice.eta:.3g}, alone {choice.alone:.3g}" if choice.learns else ""
    heat = choice.temperatures or ()
    tempered = f", temperatures {', '.join(f'{t:.3g}' for t in heat)}" if any(t != 1 for t in heat) else ""
    return f"main model {names[choice.main]}, {word} {weights}{ways}, trust {choice.trust:g}{tempered}"


def _say_gain(gain: Estimate) -> str:
    return f"{gain.value:.3f} bits per byte (95% interval {gain.low:+.3f} to {gain.high:+.3f})"


def _say_tempered(choice: Choice, calibration: Calibration) -> str:
    """How far the temperatures are those that suit each member alone."""
    if choice.temperatures == calibration.start.choice.temperatures:
        return "no"
    fitted = tuple(_temperature(fit.after) for fit in calibration.fits)
    return "fully" if choice.temperatures == fitted else "halfway"


def _list(weights: Sequence[float]) -> str:
    """In percent."""
    return " ".join(f"{100 * weight:.0f}" for weight in weights)


def _temperature(trial: Trial) -> float:
    temperatures = trial.choice.temperatures
    return 1.0 if temperatures is None else temperatures[trial.choice.main]
