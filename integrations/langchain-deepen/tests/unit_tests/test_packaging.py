"""What the distribution declares."""

from importlib.metadata import requires, version

from langchain_deepen import __version__


def test_the_version_is_that_of_the_distribution():
    assert version("langchain-deepen") == __version__


def test_dependencies_are_ranges_and_few():
    declared = requires("langchain-deepen") or []
    names = ["deepen-llm", "langchain-core", "pydantic"]
    assert sorted(line.split("<")[0].split(">")[0] for line in declared) == names
    assert all(">=" in line and "<" in line and "==" not in line for line in declared)
