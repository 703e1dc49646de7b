import inspect
import pickle

import pytest

from deepen_llm import errors

ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", ERRORS)
def test_each_error_is_drawn_in_the_tree_and_survives_pickling(kind):
    assert issubclass(kind, errors.DeepenError)
    assert kind.__name__ in errors.__doc__
    again = pickle.loads(pickle.dumps(kind("what must hold")))
    assert type(again) is kind
    assert str(again) == "what must hold"


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if kind is not errors.DeepenError])
def test_each_error_is_the_standard_type_that_its_line_names(kind):
    line = next(line for line in errors.__doc__.splitlines() if f" {kind.__name__} " in line)
    if "(" in line:
        standard = line.split("(")[1].split(")")[0]
        assert issubclass(
            kind, __builtins__[standard] if isinstance(__builtins__, dict) else getattr(__builtins__, standard)
        )


@pytest.mark.parametrize("kind", ERRORS)
def test_a_long_message_keeps_its_beginning_and_its_end_also_through_a_pickle(kind):
    error = kind("begin " + "x" * 10_000_000 + " end")
    assert len(str(error)) == errors.MAX_MESSAGE
    assert str(error).startswith("begin x") and str(error).endswith("x end")
    assert "(10,000,010 characters)" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_message_of_readable_length_stays_as_it_is():
    text = "x" * errors.MAX_MESSAGE
    assert str(errors.DeepenError(text)) == text == errors.shorten(text)


def test_a_value_is_shown_within_bounds_before_it_is_written_out():
    laughs = ["x"]
    for _ in range(40):
        laughs = [laughs] * 9
    assert len(errors.quote(laughs)) < 10_000
    assert errors.quote({"b": 1, "a": [2, "c"]}) == "{'b': 1, 'a': [2, 'c']}"
    assert errors.quote("x" * 10**6) == "'" + "x" * 97 + "..." + "x" * 98 + "'"
    assert errors.quote(10**5000) == "<an integer of 16610 bits>"
    assert errors.quote(-7) == "-7" and errors.quote(None) == "None"
