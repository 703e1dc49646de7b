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
