"""A text of several sorts, written for this project, on which tokenizers are compared before a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from deepen_llm.compatibility.excerpts import read_excerpts
from deepen_llm.errors import ConfigError

STORY = """\
On the last evening of the fair, Oskar found a brass key under the wooden horse. It was no longer than his thumb. \
"Whose are you?" he asked, and of course nobody answered. He tried it on the ticket booth, on the baker's cart, and \
on the little green door behind the stage. That one opened. Inside sat an old woman who was mending a lantern. \
"You're late," she said, smiling. "I've kept your supper warm since Tuesday."
"""
PROSE = """\
Soil stores more water than most people expect. After heavy rain, a healthy field may hold several hundred thousand \
litres in each hectare, which later feeds streams through the dry months. Where the ground has been compacted by \
machinery, however, much of that water runs off at once; it carries away nutrients and raises the risk of flooding. \
Engineers therefore measure infiltration rates before they recommend drainage.
"""
QUESTIONS = """\
Question: Which metal is liquid at room temperature?
Answer: Mercury

Question: A shop sells 14 boxes of pencils with 24 pencils each. How many pencils are that?
Answer: 14 * 24 = 336, so the shop sells 336 pencils.
"""
LIST = """\
# Before you leave

1. Close the windows (kitchen first).
2. Water the plants: 250 ml each, 3 times a week.
3. Pay the invoice of 1,249.50 EUR by 2031-04-17, or call 555-0142.
"""
CODE = """\
def running_mean(values, window=5):
    total = 0.0
    for index, value in enumerate(values):
        total += value
        if index >= window:
            total -= values[index - window]
        yield total / min(index + 1, window)
"""
LANGUAGES = """\
Der Fluss führt im Frühling so viel Wasser, dass die Brücke gesperrt werden muss.
Le marché ouvre à huit heures, et l'on y vend déjà des cerises.
Mañana iremos a la montaña si el tiempo lo permite.
Зимой озеро замерзает, и дети катаются на коньках.
春になると、川のそばに小さな市が立つ。
"""
SAMPLE: dict[str, str] = {
    "story": STORY,
    "prose": PROSE,
    "questions": QUESTIONS,
    "list": LIST,
    "code": CODE,
    "languages": LANGUAGES,
}
"""The sorts of text, by name."""


MAX_BYTES = 16_000
"""So much is read of a user's text: a small model takes a minute for it on a CPU, and a weak one shows."""


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """Texts by name, none of them empty."""

    texts: Mapping[str, str]
    num_bytes: int
    """The size of what they were taken from."""
    is_own: bool = False
    """Whether it is the user's own text."""

    @property
    def num_read_bytes(self) -> int:
        """The size of the texts, in UTF-8."""
        return sum(len(text.encode()) for text in self.texts.values())


def load_sample(paths: Sequence[str | Path] = (), *, max_bytes: int = MAX_BYTES) -> Sample:
    """The built-in sample, or text files (UTF-8) in its place, by their names.

    Of files that hold more than `max_bytes` together, excerpts from the whole of each: a small file is read whole, and
    the others have equal parts of the rest.

    Raises:
        ConfigError: A file that is not there, is no text or has nothing in it.
    """
    if not paths:
        return Sample(dict(SAMPLE), sum(len(text.encode()) for text in SAMPLE.values()))
    files = [Path(path) for path in dict.fromkeys(map(str, paths))]
    sizes = [_size(file) for file in files]
    texts: dict[str, str] = {}
    for file, share in zip(files, _divide(max_bytes, sizes), strict=True):
        excerpts = _read(file, share)
        for number, excerpt in enumerate(excerpts, start=1):
            name = file.name if len({file.name for file in files}) == len(files) else str(file)
            texts[name if len(excerpts) == 1 else f"{name} ({number} of {len(excerpts)})"] = excerpt
    return Sample(texts, sum(sizes), is_own=True)


def _read(file: Path, max_bytes: int) -> list[str]:
    """A file or excerpts from it, those without text left out."""
    try:
        excerpts = [excerpt for excerpt in read_excerpts(file, max_bytes) if excerpt.strip()]
    except OSError as error:
        raise _not_there(file, error.strerror) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{str(file)!r} must be text in UTF-8; {error}: give a text file") from error
    if not excerpts:
        raise ConfigError(f"{str(file)!r} must hold some text; it has none: give a text such as your prompts")
    return excerpts


def _size(file: Path) -> int:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise _not_there(file, error.strerror) from error
    if not file.is_file():
        raise _not_there(file, "it is a folder or a pipe")
    return size


def _not_there(file: Path, reason: str | None) -> ConfigError:
    return ConfigError(f"there must be a text file at {str(file)!r}; {reason}: give another path")


def _divide(total: int, sizes: Sequence[int]) -> list[int]:
    """Parts of a total: what is smaller than an equal part is taken whole, the others share the rest."""
    parts, left = [0] * len(sizes), total
    for num_done, place in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        parts[place] = min(sizes[place], left // (len(sizes) - num_done))
        left -= parts[place]
    return parts
