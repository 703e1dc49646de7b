"""A text of several sorts, written for this project, on which tokenizers are compared before a run."""

from __future__ import annotations

from pathlib import Path

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


def load_sample(path: Path | None = None) -> dict[str, str]:
    """The built-in sample, or a text file (UTF-8) in its place, by the file's name.

    Raises:
        ConfigError: A file that is not there, is no text or has nothing in it.
    """
    if path is None:
        return dict(SAMPLE)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"there must be a text file at {str(path)!r}; {error.strerror}: give another path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{str(path)!r} must be text in UTF-8; {error}: give a text file") from error
    if not text.strip():
        raise ConfigError(f"{str(path)!r} must hold some text; it has none: give a text such as your prompts")
    return {path.name: text}
