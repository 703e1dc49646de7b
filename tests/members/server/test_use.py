"""A server can be named wherever a model can: in a file, at the command line, in LangChain and in LlamaIndex."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from deepen_llm import Ensemble, EnsembleConfig, MemberConfig, SamplingParams
from deepen_llm.cli.app import app
from langchain_deepen import DeepenLLM
from llama_index.llms.deepen import DeepenLLM as IndexLLM
from tests.members.server.doubles import save_tokenizer, tiny_model

PROMPT = "Once upon a time"
KEY = "k3y-of-somebody"


@pytest.fixture
def main(tmp_path):
    """A folder with the main model."""
    tiny_model().save_pretrained(tmp_path / "main")
    return save_tokenizer(tmp_path / "main")


@pytest.fixture
def file(main, serve, tmp_path, monkeypatch):
    """An ensemble.yaml of a model here and one behind a server that wants a key."""
    monkeypatch.setenv("DEEPEN_SOME_KEY", KEY)
    members = [
        main,
        MemberConfig(model=serve("vllm").address, tokenizer=main, name="remote", api_key_env="DEEPEN_SOME_KEY"),
    ]
    EnsembleConfig(members=members).save(tmp_path / "ensemble.yaml")
    return tmp_path / "ensemble.yaml"


@pytest.fixture
def expected(file):
    with Ensemble.from_config(file) as ensemble:
        return ensemble.generate(PROMPT, SamplingParams(max_new_tokens=6)).text


def test_in_a_list_of_models(main, serve):
    double = serve("sglang")
    double.tokenizer_path = main
    with Ensemble.from_pretrained([main, double.address]) as ensemble:
        assert ensemble.generate(PROMPT, SamplingParams(max_new_tokens=6)).text
        assert ensemble.member_names == ("main", double.address.removeprefix("http://"))


def test_at_the_command_line(file, expected):
    run = CliRunner().invoke(app, ["generate", "--config", str(file), "-n", "6", PROMPT])
    assert (run.exit_code, run.stdout) == (0, expected + "\n")
    assert "remote" in CliRunner().invoke(app, ["inspect", "--config", str(file)]).stdout


def test_by_its_address_at_the_command_line(main, serve):
    double = serve("sglang")
    double.tokenizer_path = main
    run = CliRunner().invoke(app, ["generate", "-m", main, "-m", double.address, "-n", "6", PROMPT])
    assert run.exit_code == 0 and run.stdout.strip()


def test_in_langchain(file, expected):
    assert DeepenLLM(model=str(file), max_tokens=6).invoke(PROMPT) == expected


def test_in_llama_index(file, expected, event_loop_of_its_own):
    assert IndexLLM(model=str(file), max_tokens=6, is_chat_model=False).complete(PROMPT).text == expected


def test_the_key_stands_in_nothing_that_tells_of_the_ensemble(file):
    with Ensemble.from_config(file) as ensemble:
        told = repr(ensemble) + repr(ensemble.config) + repr([member.identity for member in ensemble.members])
    assert KEY not in told and KEY not in file.read_text()
