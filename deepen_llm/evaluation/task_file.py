"""Task files: what is asked, where the questions lie, and how an answer is graded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from jinja2 import StrictUndefined, TemplateError, UndefinedError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import SandboxedEnvironment
from pydantic import Field, model_validator

from deepen_llm.config import Settings
from deepen_llm.config.settings import named
from deepen_llm.config.yaml_file import read_mapping
from deepen_llm.errors import ConfigError
from deepen_llm.evaluation.grading import LETTERS

TASKS_FOLDER = Path(__file__).parent / "tasks"
Kind = Literal["choice", "short", "number"]
Way = Literal["letter", "text"]
"""What of a question's options is scored."""
ScoreBy = Literal[Way, "auto"]
"""The same, or whichever a trial of the letters says."""
NEEDED = {"choice": ("choices", "gold"), "short": ("answers",), "number": ("gold",)}
"""The fields that each kind of question must have, besides those that its prompt uses."""

_ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
_ENVIRONMENT.globals["LETTERS"] = LETTERS


class LocalRows(Settings):
    """Questions in JSON lines below the data folder."""

    file: str
    """The questions, a path below the data folder."""
    examples_file: str | None = None
    """Where worked examples are taken from, if not from the task file."""


class HubRows(Settings):
    """Questions in a data set on the Hugging Face hub."""

    path: str
    """The data set."""
    name: str | None = None
    """One of its configurations."""
    split: str
    """The questions."""
    examples_split: str | None = None
    """Where worked examples are taken from, if not from the task file."""
    fields: dict[str, str] = Field(default_factory=dict)
    """As `TaskFile.fields`, where the hub's rows differ from the local ones."""


class TaskFile(Settings):
    """One task. What is written, from `introduction` to `text_prompt`, are Jinja templates over a question's fields."""

    applies: ClassVar[Mapping[str, tuple[str, Any]]] = {
        "score_by": ("kind", "choice"),
        "text_introduction": ("kind", "choice"),
        "text_prompt": ("kind", "choice"),
    }

    task: str
    """What the task is called."""
    about: str
    """One line for `--help` and the report: what is asked and how many examples are shown."""
    kind: Kind
    """`choice`: the most probable option counts; `short`: the first line must match; `number`: the last number."""
    local: LocalRows
    hub: HubRows | None = None
    fields: dict[str, str]
    """A Jinja expression over a row for each field of a question."""
    score_by: ScoreBy = "auto"
    """Of options: `letter`, the most probable letter counts; `text`, the option whose text, after `text_prompt`, has
    the highest log-probability per byte; `auto`, by text where no member's letters are above chance on a sample."""
    introduction: str = ""
    """What stands before the examples."""
    prompt: str
    """One question, up to where its answer begins."""
    target: str
    """The answer as an example shows it, after one space."""
    text_introduction: str = ""
    """By text: what stands before the examples."""
    text_prompt: str = "Question: {{ question }}\nAnswer:"
    """By text: one question, without its options. Its answer, after one space, is an option's text."""
    examples: tuple[dict[str, Any], ...] = ()
    """Fields of questions that are shown with their answers."""
    num_examples: int = Field(default=0, ge=0)
    """How many examples are taken from `examples_file`."""
    examples_like: str | None = None
    """A field: only examples that have the question's own value in it are shown."""
    stop: tuple[str, ...] = ()
    """Where a generated answer ends."""
    max_new_tokens: int = Field(default=32, ge=1)
    """The longest generated answer."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if lacking := [name for name in NEEDED[self.kind] if name not in self.fields]:
            raise ValueError(f"a task of kind {self.kind!r} must have `fields` for {', '.join(lacking)}")
        if self.num_examples and self.local.examples_file is None:
            raise ValueError("num_examples needs an examples_file to take them from")
        for template in (self.introduction, self.prompt, self.target, self.text_introduction, self.text_prompt):
            _compile(template)
        for expression in self.fields.values():
            _compile_expression(expression)
        self._check_text_prompt()
        return self

    def _check_text_prompt(self) -> None:
        if self.kind != "choice" or self.score_by == "letter":
            return
        known = {*self.fields, *(self.hub.fields if self.hub else ())}
        used = find_undeclared_variables(_ENVIRONMENT.parse(self.text_introduction + self.text_prompt))
        if lacking := sorted(used - known - set(_ENVIRONMENT.globals)):
            raise ValueError(
                f"score_by={self.score_by!r} asks with text_prompt, which uses {', '.join(lacking)}: give `fields` for "
                "it, write a text_prompt, or take score_by='letter'"
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a YAML file.

        Raises:
            ConfigError: The file is not there or is not a mapping, a field is missing, unknown or cannot be used; it
                names the file.
        """
        values = read_mapping(path, "a task file")
        try:
            return cls(**named(values, cls.title()))
        except ConfigError as error:
            raise ConfigError(f"task file {str(path)!r}: {error}") from error

    def read_fields(self, row: dict[str, Any], where: str, *, is_hub: bool = False) -> dict[str, Any]:
        """The fields of one question.

        Raises:
            ConfigError: The row lacks something that a field needs; it names the row and the field.
        """
        expressions = {**self.fields, **(self.hub.fields if self.hub and is_hub else {})}
        return {
            name: _evaluate(expression, row, f"{where}: field {name!r}") for name, expression in expressions.items()
        }

    def write_question(self, fields: dict[str, Any], *, by_text: bool = False) -> str:
        """A question up to where its answer begins; by text, without its options."""
        name = "text_prompt" if by_text else "prompt"
        return _render(getattr(self, name), fields, f"task {self.task!r}: {name}")

    def write_example(self, fields: dict[str, Any], *, by_text: bool = False) -> str:
        """A question with its answer; by text, the right option's."""
        target = "{{ choices[gold] }}" if by_text else self.target
        answer = _render(target, fields, f"task {self.task!r}: {'an example by text' if by_text else 'target'}")
        return f"{self.write_question(fields, by_text=by_text)} {answer.strip()}"

    def write_introduction(self, fields: dict[str, Any], *, by_text: bool = False) -> str:
        """What stands before the examples."""
        name = "text_introduction" if by_text else "introduction"
        return _render(getattr(self, name), fields, f"task {self.task!r}: {name}").strip()


@cache
def _compile(template: str) -> Any:
    try:
        return _ENVIRONMENT.from_string(template)
    except (TemplateError, RecursionError) as error:
        raise ValueError(f"not a Jinja template: {error}; got {template!r}") from error


@cache
def _compile_expression(expression: str) -> Any:
    try:
        return _ENVIRONMENT.compile_expression(expression, undefined_to_none=False)
    except (TemplateError, RecursionError) as error:
        raise ValueError(f"not a Jinja expression: {error}; got {expression!r}") from error


def _render(template: str, fields: dict[str, Any], where: str) -> str:
    try:
        return str(_compile(template).render(fields))
    except UndefinedError as error:
        raise ConfigError(f"{where} uses a field that the question does not have: {error}") from error
    except Exception as error:  # a template is a program, and may raise whatever it likes
        raise ConfigError(f"{where} fails: {type(error).__name__}: {error}") from error


def _evaluate(expression: str, row: dict[str, Any], where: str) -> Any:
    try:
        value = _compile_expression(expression)(row)
        if isinstance(value, StrictUndefined):
            raise UndefinedError(f"there is no {expression!r}")
    except Exception as error:  # an expression is a program, and may raise whatever it likes
        raise ConfigError(f"{where} cannot be read from {sorted(row)}: {error}") from error
    return value
