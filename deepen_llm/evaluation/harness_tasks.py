"""Task files as tasks of lm-evaluation-harness, and their grades, question by question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepen_llm.evaluation.grading import LETTERS, best_option, first_letter, is_among, is_number
from deepen_llm.evaluation.harness import HarnessModel
from deepen_llm.evaluation.items import Item
from deepen_llm.evaluation.task_file import TaskFile, Way

METRIC = "right"


def run_task(
    model: HarnessModel, task: TaskFile, items: Sequence[Item], *, score_by: Way = "letter", in_chat: bool = False
) -> tuple[bool, ...]:
    """Ask every question through lm-eval and grade the answers, in the order of the questions.

    Args:
        model: Who answers.
        task: What is asked.
        items: Its questions.
        score_by: Of options, whether their letters or their texts are scored.
        in_chat: Put each prompt into the members' chat templates. Options are then named in words, not scored.

    Raises:
        DeepenError: A prompt that cannot be run, or a member that failed.
    """
    from lm_eval import evaluate

    built = build_task(task, items, score_by=score_by, in_chat=in_chat)
    results = evaluate(lm=model, task_dict={task.task: built}, bootstrap_iters=0, apply_chat_template=in_chat)
    samples = sorted(results["samples"][task.task], key=lambda sample: sample["doc_id"])
    return tuple(bool(sample[METRIC]) for sample in samples)


def build_task(task: TaskFile, items: Sequence[Item], *, score_by: Way = "letter", in_chat: bool = False) -> Any:
    """The task as lm-eval's `ConfigurableTask`, its questions ready in memory."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    by_text = score_by == "text"
    prompts = [item.text_prompt if by_text else item.prompt for item in items]
    rows = [{"number": number, "prompt": prompt} for number, prompt in enumerate(prompts)]
    config: dict[str, Any] = {
        "task": task.task,
        "custom_dataset": lambda: {"test": Dataset.from_list(rows)},
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "prompt",
        "metric_list": [{"metric": METRIC, "aggregation": "mean", "higher_is_better": True}],
    }
    if task.kind == "choice" and not in_chat:
        config |= {
            "output_type": "multiple_choice",
            "doc_to_choice": lambda row: list(list_continuations(items[row["number"]], score_by)),
            "doc_to_target": lambda row: items[row["number"]].right_option,
            "process_results": lambda row, results: {METRIC: is_best_option(items[row["number"]], results, score_by)},
        }
    else:
        config |= {
            "output_type": "generate_until",
            "generation_kwargs": {"until": list(task.stop), "max_gen_toks": task.max_new_tokens, "do_sample": False},
            "doc_to_target": lambda row: (
                items[row["number"]].accepted[:1] or LETTERS[items[row["number"]].right_option]
            ),
            "process_results": lambda row, results: {METRIC: is_right(task, items[row["number"]], results[0])},
        }
    return ConfigurableTask(config=config)


def list_continuations(item: Item, score_by: Way) -> Sequence[str]:
    """What is scored for each option, after one space: its letter, or its text.

    In the place of an empty text a letter is asked, since lm-eval asks something of each; it is never chosen.
    """
    if score_by == "text":
        return [option or LETTERS[0] for option in item.options]
    return LETTERS[: item.num_options]


def is_best_option(item: Item, scores: Sequence[tuple[float, bool]], score_by: Way = "letter") -> bool:
    """Whether the right option is the most probable one, by text per byte; see `best_option`."""
    texts = item.options if score_by == "text" else None
    return best_option([logprob for logprob, _ in scores], texts) == item.right_option


def is_right(task: TaskFile, item: Item, text: str) -> bool:
    """Whether a generated answer is right, by the task's kind."""
    if task.kind == "choice":
        return first_letter(text, item.num_options) == item.right_option
    if task.kind == "number":
        return is_number(text, item.accepted[0])
    return is_among(text, item.accepted)
