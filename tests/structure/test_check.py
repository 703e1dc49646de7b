"""A structure is refused without any model, as it would be with one; and what that costs to import."""

import subprocess
import sys

import pytest

from deepen_llm import SamplingParams, structure
from deepen_llm.errors import GrammarError
from deepen_llm.structure import check_structure


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"json_schema": {"properties": {"x": {"not": {}}}}},
            r"the JSON schema cannot .*, at \$\.properties\.x: .*not",
        ),
        ({"json_schema": {"type": 5}}, "the JSON schema cannot be followed in decoding.* type must be a string"),
        ({"regex": "("}, r"the regular expression .* cannot be read: unclosed group: correct"),
        ({"grammar": "start: missing"}, "the grammar cannot be read: .*missing"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_place(given, message):
    with pytest.raises(GrammarError, match=message):
        check_structure(SamplingParams(**given))


@pytest.mark.parametrize(
    "given", [{}, {"json_schema": {"type": "integer"}}, {"regex": "a/b"}, {"grammar": 'start: "a"'}]
)
def test_what_can_be_followed_is_not_refused(given):
    assert check_structure(SamplingParams(**given)) is None


def test_the_public_names_exist_and_others_do_not():
    assert all(hasattr(structure, name) for name in structure.__all__)
    assert not hasattr(structure, "NoSuchName")


@pytest.mark.parametrize(
    "module", ["deepen_llm.structure", "deepen_llm.structure.grammar", "deepen_llm.frontends.tools"]
)
def test_checking_needs_no_torch(module):
    program = f"import sys, {module}; print({{'torch', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
