from __future__ import annotations

import errno
import webbrowser
from pathlib import Path

import pytest

from deepen_llm import SamplingParams
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers

STORY = "the cat sat on the mat. the dog [bold]ran[/bold] home."


@pytest.fixture(autouse=True)
def _work_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_answer_goes_to_stdout_and_the_page_to_the_file(deepen, use_ensemble, make_ensemble, tmp_path):
    use_ensemble(make_ensemble([STORY]))
    result = deepen("explain", "the cat sat", "--output", "page.html")
    assert (result.exit_code, result.stdout) == (0, STORY.removeprefix("the cat sat") + "\n")
    assert "written to page.html" in result.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and page.endswith("</html>\n")
    assert '<span class="prompt">the cat sat</span>' in page


def test_without_output_the_page_is_explain_html_here(deepen, use_ensemble, make_ensemble, tmp_path):
    use_ensemble(make_ensemble([STORY]))
    (tmp_path / "explain.html").write_text("an older page, replaced")
    assert deepen("explain", "the cat").exit_code == 0
    assert "older" not in (tmp_path / "explain.html").read_text(encoding="utf-8")


def test_options_become_sampling_params_with_a_trace(deepen, use_ensemble, make_ensemble, monkeypatch):
    ensemble = make_ensemble([STORY])
    asked = use_ensemble(ensemble)
    seen = []
    stream = ensemble.stream
    monkeypatch.setattr(ensemble, "stream", lambda text, params: (seen.append((text, params)), stream(text, params))[1])
    assert deepen("explain", "-", "-n", 3, "--stop", "mat", "-m", "one", "-m", "two", input="the cat\n").exit_code == 0
    assert seen == [("the cat", SamplingParams(max_new_tokens=3, stop=("mat",), trace=True))]
    assert asked[0].model == ["one", "two"]


def test_a_chat_goes_through_the_templates_with_its_system_message(
    deepen, use_ensemble, make_ensemble, monkeypatch, tmp_path
):
    ensemble = make_ensemble([STORY])
    use_ensemble(ensemble)
    seen = []
    stream_chat = ensemble.stream_chat
    monkeypatch.setattr(ensemble, "stream_chat", lambda m, params: (seen.append(m), stream_chat(m, params))[1])
    assert deepen("explain", "hello", "--chat", "--system", "be brief", "-n", 2).exit_code == 0
    assert seen == [[{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]]
    assert "<h2>system</h2>" in (tmp_path / "explain.html").read_text(encoding="utf-8")


def test_open_opens_the_page_that_was_written(deepen, use_ensemble, make_ensemble, monkeypatch, tmp_path):
    use_ensemble(make_ensemble([STORY]))
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert deepen("explain", "the cat", "-o", "a b.html").exit_code == 0
    assert opened == []
    use_ensemble(make_ensemble([STORY]))
    assert deepen("explain", "the cat", "-o", "a b.html", "--open").exit_code == 0
    assert opened == [(tmp_path / "a b.html").as_uri()]


def test_help_explains_and_gives_examples_and_has_no_option_that_would_do_nothing(deepen):
    result = deepen("explain", "--help")
    assert result.exit_code == 0
    assert "deepen explain" in result.stdout.split("Examples:")[1]
    assert "--temperature" in result.stdout
    assert "--trace" not in result.stdout and "--logprobs" not in result.stdout


def test_html_in_a_prompt_stays_text(deepen, use_ensemble, make_ensemble, tmp_path):
    use_ensemble(make_ensemble([STORY]))
    assert deepen("explain", "<script>alert(1)</script>", "-n", 2).exit_code == 0
    page = (tmp_path / "explain.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_an_empty_prompt_is_refused_where_nothing_begins_a_text_and_no_page_is_written(
    deepen, use_ensemble, make_ensemble, tmp_path
):
    use_ensemble(make_ensemble([STORY]))
    result = deepen("explain", "")
    assert result.exit_code == 1
    assert "the prompt must not be empty" in result.stderr
    assert not (tmp_path / "explain.html").exists()


def test_an_empty_prompt_is_answered_where_every_member_has_a_bos(deepen, use_ensemble, make_ensemble, tmp_path):
    use_ensemble(make_ensemble([STORY], kinds=("sentencepiece", "unigram")))
    assert deepen("explain", "").stdout == STORY + "\n"
    assert "(empty prompt)" in (tmp_path / "explain.html").read_text(encoding="utf-8")


def test_a_prompt_that_ends_inside_a_word_goes_on_inside_it(deepen, use_ensemble, make_ensemble, tmp_path):
    use_ensemble(make_ensemble([STORY]))
    assert deepen("explain", "the cat s").stdout == STORY.removeprefix("the cat s") + "\n"
    page = (tmp_path / "explain.html").read_text(encoding="utf-8")
    assert 'class="prompt">the cat s</span><span class="answer"' in page


def test_a_folder_that_is_not_there_is_named_before_models_are_loaded(deepen, use_ensemble, make_ensemble, tmp_path):
    asked = use_ensemble(make_ensemble([STORY]))
    result = deepen("explain", "the cat", "-o", tmp_path / "nowhere" / "page.html")
    assert (result.exit_code, result.stdout, asked) == (1, "", [])
    assert "--output must name a file in a folder that exists" in result.stderr and "nowhere" in result.stderr


def test_a_folder_is_no_page(deepen, use_ensemble, make_ensemble, tmp_path):
    asked = use_ensemble(make_ensemble([STORY]))
    result = deepen("explain", "the cat", "-o", tmp_path)
    assert (result.exit_code, asked) == (1, [])
    assert "--output must name a file in a folder that exists" in result.stderr


def test_a_name_that_no_file_can_have_is_refused_before_models_are_loaded(
    deepen, use_ensemble, make_ensemble, tmp_path
):
    asked = use_ensemble(make_ensemble([STORY]))
    result = deepen("explain", "the cat", "-o", tmp_path / ("x" * 300))
    assert (result.exit_code, asked) == (1, [])
    assert "--output cannot be written: File name too long" in result.stderr


def test_a_page_that_cannot_be_written_is_an_error_that_names_it(
    deepen, use_ensemble, make_ensemble, monkeypatch, tmp_path
):
    def fail(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    use_ensemble(make_ensemble([STORY]))
    monkeypatch.setattr(Path, "write_bytes", fail)
    result = deepen("explain", "the cat", "-o", tmp_path / "page.html")
    assert result.exit_code == 1
    assert "--output cannot be written: No space left on device" in result.stderr and "page.html" in result.stderr
    assert "written to" not in result.stderr


def test_a_system_message_without_a_chat_is_wrong_usage(deepen, use_ensemble, make_ensemble):
    asked = use_ensemble(make_ensemble([STORY]))
    result = deepen("explain", "the cat", "--system", "be brief")
    assert (result.exit_code, asked) == (2, [])
    assert "--system goes with --chat" in result.stderr


def test_a_chat_with_a_member_without_a_template_is_refused(
    deepen, use_ensemble, make_ensemble, vocabularies, tmp_path
):
    bare = Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(template=None), name="bare")
    vocabularies["bare"] = bare
    try:
        use_ensemble(make_ensemble([STORY], kinds=("bpe", "bare")))
    finally:
        del vocabularies["bare"]
    result = deepen("explain", "hello", "--chat")
    assert result.exit_code == 1
    assert "chat template" in result.stderr
    assert not (tmp_path / "explain.html").exists()


def test_the_page_draws_weights_that_the_answer_changed(deepen, use_ensemble, make_ensemble, tmp_path):
    ensemble = make_ensemble([STORY], texts_of={"sentencepiece": ["?"]}, weights="adaptive")
    use_ensemble(ensemble)
    generation = ensemble.generate("the cat sat", SamplingParams(trace=True))
    first, last = generation.trace[0].weights, generation.fusion.weights
    assert deepen("explain", "the cat sat", "-o", tmp_path / "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<svg " in page
    assert f"weight from {first[0]:.3g} to {last[0]:.3g}" in page


def test_the_page_tells_the_weights_that_the_prompt_gave(deepen, use_ensemble, make_ensemble, tmp_path):
    prompt = STORY + " and then the dog ran home"
    ensemble = make_ensemble(
        [prompt], texts_of={"sentencepiece": ["?"]}, weights={"kind": "prompt", "temperature": 1.0}
    )
    use_ensemble(ensemble)
    weights = ensemble.generate(prompt).fusion.weights
    assert weights[0] != weights[1]
    assert deepen("explain", prompt, "-o", tmp_path / "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text()
    assert all(f"weight {weight:.3g}" in page for weight in weights)
