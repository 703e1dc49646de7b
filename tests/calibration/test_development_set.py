from __future__ import annotations

import itertools
import json
import math

import pytest

from deepen_llm.calibration.development_set import DevelopmentRow, DevelopmentSet
from deepen_llm.errors import ConfigError


def write(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("prompt", "answer", "delimiter", "joined"),
    [
        ("Question: x\nAnswer:", "Paris", " ", "Question: x\nAnswer: Paris"),
        ("Answer: ", "Paris", " ", "Answer: Paris"),
        ("Answer:", " Paris", " ", "Answer: Paris"),
        ("Answer:\n", "Paris", " ", "Answer:\nParis"),
        ("问：", "巴黎", "", "问：巴黎"),
        ("", "Paris", " ", "Paris"),
    ],
)
def test_prompt_and_answer_are_joined_by_one_space_unless_told_otherwise(tmp_path, prompt, answer, delimiter, joined):
    file = write(tmp_path / "set.jsonl", {"prompt": prompt, "answer": answer, "id": 7}, "", "  ")
    rows = DevelopmentSet.load(file, delimiter=delimiter).rows
    assert len(rows) == 1
    assert rows[0].prompt == prompt and rows[0].prompt + rows[0].answer == joined


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"set\.jsonl:2 must be a JSON object; it is not JSON"),
        ({"prompt": "x"}, r'set\.jsonl:2 must be {"prompt".*got .*{"prompt": "x"}'),
        ({"prompt": "x", "answer": " "}, "the answer not empty"),
        ({"prompt": 1, "answer": "x"}, "two texts"),
        (["x", "y"], "two texts"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, line, message):
    file = write(tmp_path / "set.jsonl", {"prompt": "x", "answer": "y"}, line)
    with pytest.raises(ConfigError, match=message):
        DevelopmentSet.load(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.txt", "bytes.txt"):
        with pytest.raises(ConfigError, match=rf"development set.* cannot be read: .*{name}'"):
            DevelopmentSet.load(tmp_path / name)
    with pytest.raises(ConfigError, match=r"empty\.jsonl holds none"):
        DevelopmentSet.load(write(tmp_path / "empty.jsonl", ""))
    with pytest.raises(ConfigError, match=r"word\.txt holds none"):
        DevelopmentSet.load(write(tmp_path / "word.txt", "word"))
    with pytest.raises(ConfigError, match="one of pairs is empty"):
        DevelopmentSet.of_pairs("pairs", [("prompt", "")])


def test_a_text_is_cut_into_pieces_that_join_to_it_each_read_after_the_one_before(tmp_path):
    text = "Once upon a time there was a café.\n\nIt had " + "many words and no end, " * 60 + "but one. "
    rows = DevelopmentSet.load(write(tmp_path / "story.txt", " \n" + text)).rows
    assert len(rows) > 4
    assert rows[0].prompt == "Once"
    assert rows[0].prompt + "".join(row.answer for row in rows) == text.rstrip()
    assert all(later.prompt == row.answer for row, later in itertools.pairwise(rows))
    assert all(row.answer[0].isspace() for row in rows)


def test_the_mean_score_of_a_text_is_bits_a_byte(tmp_path):
    development = DevelopmentSet.load(write(tmp_path / "story.txt", "word " * 300))
    num_bytes = sum(len(row.answer.encode()) for row in development.rows)
    logprobs = [-3.0 * at for at in range(1, len(development.rows) + 1)]
    scores = [development.score(logprob) for logprob in logprobs]
    assert sum(scores) / len(scores) == pytest.approx(sum(logprobs) / math.log(2) / num_bytes)


def test_every_byte_of_an_answer_counts_alike():
    development = DevelopmentSet.of_pairs("pairs", [("a", " b"), ("a", " long answer")])
    assert development.rows[0] == DevelopmentRow("a", " b")
    bits = -(development.score(-2.5) + development.score(-1.5)) / 2
    assert bits == pytest.approx(4 / math.log(2) / 14)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [([" Paris\n", " 2+2=4, so 4"], True), ([" a\nb"], False), (["one two " * 6], False), (["a", "b c " * 9], False)],
)
def test_short_answers_are_right_or_wrong(answers, expected):
    assert DevelopmentSet.of_pairs("pairs", [("a", answer) for answer in answers]).has_short_answers is expected


def test_rows_of_a_chat_are_questions_or_messages(tmp_path):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital?"}]
    file = write(
        tmp_path / "set.jsonl", {"prompt": "Capital?", "answer": "Paris"}, {"messages": messages, "answer": " Rome "}
    )
    one, two = DevelopmentSet.load(file, in_chat=True).rows
    assert one == DevelopmentRow(({"role": "user", "content": "Capital?"},), "Paris")
    assert two == DevelopmentRow(tuple(messages), " Rome ")
    assert DevelopmentSet.load(file, in_chat=True, delimiter=" ").rows[0].answer == " Paris"


@pytest.mark.parametrize(
    ("line", "in_chat", "message"),
    [
        ({"messages": [{"role": "user", "content": "x"}], "answer": "y"}, False, "--chat"),
        ({"messages": [{"role": "user"}], "answer": "y"}, True, r"set\.jsonl:1: "),
        ({"messages": [], "answer": "y"}, True, r"set\.jsonl:1: "),
        ({"answer": "y"}, True, 'or "messages"'),
    ],
)
def test_messages_that_cannot_be_asked_are_named(tmp_path, line, in_chat, message):
    with pytest.raises(ConfigError, match=message):
        DevelopmentSet.load(write(tmp_path / "set.jsonl", line), in_chat=in_chat)


def test_running_text_is_no_chat(tmp_path):
    (tmp_path / "story.txt").write_text("once upon a time")
    with pytest.raises(ConfigError, match="running text"):
        DevelopmentSet.load(tmp_path / "story.txt", in_chat=True)
