"""What both classes share: construction, identity, token counting, tracing."""

import json

import pytest
from langchain_core.load import dumps
from langchain_core.runnables import ConfigurableField
from pydantic import BaseModel, ValidationError

from deepen_llm.errors import ConfigError, GrammarError, PromptError
from deepen_llm.frontends.source import EnsembleSource
from langchain_deepen import ChatDeepen, DeepenLLM, __version__

pytestmark = pytest.mark.parametrize("model_class", [DeepenLLM, ChatDeepen])


@pytest.fixture
def opened(monkeypatch, make_ensemble):
    """Sources that were opened, each as a fake."""
    sources = []

    def open_fake(source):
        sources.append(source)
        return make_ensemble()

    monkeypatch.setattr(EnsembleSource, "open", open_fake)
    return sources


def test_a_setting_that_does_not_exist_is_refused(model_class, ensemble):
    with pytest.raises(ConfigError, match=rf"{model_class.__name__} has no setting 'temprature': did you mean 'temper"):
        model_class(ensemble=ensemble, temprature=1)
    with pytest.raises(ConfigError, match=r"has no setting 'xyz': known settings: cache, .*, weights"):
        model_class(ensemble=ensemble, xyz=1)


def test_a_model_or_an_ensemble_is_needed_and_not_both(model_class, ensemble):
    with pytest.raises(ConfigError, match=r"give model= .* or ensemble="):
        model_class()
    with pytest.raises(ConfigError, match="give ensemble= alone; got model, weights beside it"):
        model_class(ensemble=ensemble, model="starter", weights=[1.0])
    with pytest.raises(ConfigError, match=r"ensemble must be a deepen_llm\.Ensemble; got str"):
        model_class(ensemble="starter")


def test_values_that_cannot_be_used_are_refused_at_once(model_class, ensemble):
    with pytest.raises(ConfigError, match="temperature"):
        model_class(ensemble=ensemble, temperature=-1)
    with pytest.raises(ConfigError, match="temperature=0 takes the best token"):
        model_class(ensemble=ensemble, temperature=0, top_p=0.5)
    with pytest.raises(ConfigError, match="stop strings must not be empty"):
        model_class(ensemble=ensemble, stop=[""])
    with pytest.raises(ValidationError, match="valid number"):
        model_class(ensemble=ensemble, temperature="hot")


def test_aliases_and_short_forms_are_read(model_class, ensemble):
    model = model_class(ensemble=ensemble, max_new_tokens=5, stop="###", streaming=True)
    assert (model.max_tokens, model.stop, model.streaming) == (5, ["###"], True)


def test_the_source_is_what_the_constructor_was_given(model_class, opened):
    model_class(model=["org/a", "org/b"], weights=[0.6, 0.4], main=1, member_options={"dtype": "float32"})
    assert opened[0].given() == {
        "model": ["org/a", "org/b"],
        "weights": (0.6, 0.4),
        "main": 1,
        "member_options": {"dtype": "float32"},
    }


def test_configurable_fields_keep_the_loaded_models(model_class, opened):
    model = model_class(model="starter", max_tokens=3).configurable_fields(max_tokens=ConfigurableField("length"))
    model.invoke("a", config={"configurable": {"length": 1}})
    assert len(opened) == 1


def test_a_configurable_model_is_loaded_anew(model_class, opened):
    model = model_class(model="starter").configurable_fields(model=ConfigurableField("model"))
    model.invoke("a", config={"configurable": {"model": "other.yaml"}})
    assert [source.model for source in opened] == ["starter", "other.yaml"]


def test_configurable_fields_of_a_ready_ensemble_share_it(model_class, ensemble):
    model = model_class(ensemble=ensemble).configurable_fields(max_tokens=ConfigurableField("length"))
    model.invoke("a", config={"configurable": {"length": 1}})
    assert ensemble.params.max_new_tokens == 1


def test_ids_are_the_main_models_and_the_count_is_of_a_whole_prompt(model_class, ensemble):
    model = model_class(ensemble=ensemble)
    assert model.get_token_ids("abc") == [97, 98, 99]
    assert model.get_num_tokens("abc") == 3 + 1
    assert model_class(ensemble=ensemble, custom_get_token_ids=lambda text: [1]).get_num_tokens("abc") == 1


@pytest.mark.parametrize("stop", [5, True, object(), [1], [None], {"a": 1}, b"x", [""]])
def test_a_stop_that_is_none_is_refused_by_name(model_class, ensemble, stop):
    model = model_class(ensemble=ensemble)
    for call in (model.invoke, lambda asked, **options: list(model.stream(asked, **options))):
        with pytest.raises(ConfigError, match=r"^stop"):
            call("Hi", stop=stop)
    assert ensemble.calls == []


def test_one_stop_string_needs_no_list(model_class, ensemble):
    model_class(ensemble=ensemble).invoke("Hi", stop="is")
    assert ensemble.params.stop == ("is",)


@pytest.mark.parametrize("asked", [[[{"role": "user"}, {1}]], [(ValueError, {})], [{"role": {}, "content": "Hi"}]])
def test_an_input_that_langchain_stumbles_over_is_refused(model_class, ensemble, asked):
    with pytest.raises((PromptError, ValueError, NotImplementedError), match=r"[Ii]nput|[Mm]essage"):
        model_class(ensemble=ensemble).invoke(asked)


def test_no_secret_is_shown_or_dumped(model_class, opened):
    model = model_class(model=["org/a"], member_options={"model_kwargs": {"token": "hf_secret"}})
    assert "hf_secret" not in repr(model) + dumps(model) + dumps(model.bind(stop=["x"]))


def test_the_identity_is_plain_json_and_holds_the_options(model_class, ensemble):
    identity = model_class(ensemble=ensemble, temperature=0.5, stop=["x"])._identifying_params
    assert json.loads(json.dumps(identity)) == identity
    assert identity["ensemble"] == ensemble.identity
    assert (identity["options"]["temperature"], identity["options"]["stop"]) == (0.5, ["x"])


def test_traces_are_told_the_options_in_force(model_class, ensemble):
    model = model_class(ensemble=ensemble, max_tokens=7)
    traced = model._get_ls_params(stop=["x"], temperature=0.5)
    assert traced["ls_provider"] == "deepen"
    assert traced["ls_model_name"] == "a+b"
    assert model._get_ls_params(model="other")["ls_model_name"] == "other"
    assert (traced["ls_temperature"], traced["ls_max_tokens"], traced["ls_stop"]) == (0.5, 7, ["x"])
    assert model.metadata["lc_versions"]["langchain-deepen"] == __version__


def test_the_representation_names_the_settings_and_not_the_engine(model_class, ensemble):
    text = repr(model_class(ensemble=ensemble, temperature=0.5))
    assert "temperature=0.5" in text
    assert "OpenEnsemble" not in text


def test_structures_reach_the_engine(model_class, ensemble):
    model = model_class(ensemble=ensemble, regex="a+", stop=["x"])
    model.invoke("?")
    assert (ensemble.params.regex, ensemble.params.stop) == ("a+", ())
    model.invoke("?", json_schema={"type": "object"})
    assert (ensemble.params.regex, ensemble.params.json_schema) == (None, {"type": "object"})
    model.bind(grammar="start: A\nA: /a/").invoke("?")
    assert (ensemble.params.regex, ensemble.params.grammar) == (None, "start: A\nA: /a/")
    with pytest.raises(ConfigError, match=r"an answer of a given regex must not be cut; got stop=\['y'\]"):
        model.invoke("?", stop=["y"])
    with pytest.raises(ConfigError, match="an answer has one structure; got json_schema and regex"):
        model_class(ensemble=ensemble, regex="a", json_schema={})


@pytest.mark.parametrize(
    "structure", [{"json_schema": {"type": "foo"}}, {"regex": "("}, {"grammar": "start: nothing"}], ids=str
)
def test_a_structure_that_cannot_be_followed_is_refused_before_anything_is_loaded(model_class, opened, structure):
    with pytest.raises(GrammarError):
        model_class(model="starter", **structure)
    assert opened == []


def test_a_pydantic_model_is_a_schema_of_the_constructor(model_class, ensemble):
    class Point(BaseModel):
        x: int

    model = model_class(ensemble=ensemble, json_schema=Point)
    assert model.json_schema == Point.model_json_schema()
    assert model._identifying_params["options"]["json_schema"] == Point.model_json_schema()


def test_a_calls_stop_counts_and_an_empty_one_asks_for_none(model_class, ensemble):
    for own, call, in_force in (
        (["x"], None, ("x",)),
        (["x"], ["y"], ("y",)),
        (["x"], [], ()),
        ([], ["y"], ("y",)),
        ([], None, ()),
    ):
        model_class(ensemble=ensemble, stop=own).invoke("?", stop=call)
        assert ensemble.params.stop == in_force


def test_greedy_decoding_and_top_p_contradict_each_other_on_one_level(model_class, ensemble):
    with pytest.raises(ConfigError, match="temperature=0 takes the best token"):
        model_class(ensemble=ensemble, temperature=0).invoke("?", top_p=0.5)
    model_class(ensemble=ensemble, temperature=0.5, top_p=0.5).invoke("?", temperature=0)
    assert (ensemble.params.temperature, ensemble.params.top_p) == (0, 1.0)


def test_settings_of_langchains_other_models_are_taken(model_class, ensemble):
    model = model_class(ensemble=ensemble, timeout=60, max_retries=2)
    assert (model.timeout, model.max_retries) == (60, 2)
    model.invoke("?")
    assert ensemble.params.timeout_s == 60
    model.invoke("?", timeout=5)
    assert ensemble.params.timeout_s == 5
    with pytest.raises(ConfigError, match=r"^timeout: .* greater than 0; got -1"):
        model.invoke("?", timeout=-1)
    for wrong in ({"timeout": 0}, {"timeout": -1}, {"max_retries": -1}):
        with pytest.raises(ValidationError):
            model_class(ensemble=ensemble, **wrong)


def test_weights_by_prompt_are_a_word(model_class, opened):
    model_class(model=["org/a", "org/b"], weights="prompt")
    assert opened[0].weights == "prompt"
    with pytest.raises(ValidationError):
        model_class(model=["org/a", "org/b"], weights="votes")


def test_a_model_of_one_call_is_loaded_once_and_kept(model_class, opened):
    model = model_class(model=["org/a", "org/b"], weights=[0.6, 0.4], member_options={"dtype": "float32"})
    for _ in range(2):
        model.invoke("?", model="other.yaml")
    model.bind(model=["org/c"]).invoke("?")
    model.invoke("?", model=["org/c"])
    model.invoke("?", model=("org/d",))
    assert [source.given() for source in opened[1:]] == [
        {"model": "other.yaml"},
        {"model": ["org/c"], "member_options": {"dtype": "float32"}},
        {"model": ("org/d",), "member_options": {"dtype": "float32"}},
    ]
    assert model.ensemble.calls == []


@pytest.mark.parametrize("options", [{"regex": "("}, {"max_tokens": 0}], ids=str)
def test_options_of_a_call_that_cannot_be_used_are_refused_before_its_model_is_loaded(model_class, opened, options):
    model = model_class(model="starter")
    with pytest.raises(ConfigError):
        model.invoke("?", model="other.yaml", **options)
    assert len(opened) == 1


@pytest.mark.parametrize("own", ["starter", ["org/a", "org/b"]])
def test_a_call_that_names_the_models_own_model_takes_what_is_open(model_class, opened, own):
    model = model_class(model=own, weights=[1.0, 0.0], main=1)
    model.invoke("?", model=own, max_tokens=3)
    assert [source.weights for source in opened] == [(1.0, 0.0)]
    assert model.ensemble.params.max_new_tokens == 3
    other = model._for_call(None, {"model": "other.yaml"})
    assert other._for_call(None, {"model": "other.yaml"}).ensemble is other.ensemble


def test_a_model_of_one_call_that_was_closed_is_loaded_again(model_class, opened):
    model = model_class(model="starter")
    model.invoke("?", model="other.yaml")
    model._for_call(None, {"model": "other.yaml"}).ensemble.is_closed = True
    model.invoke("?", model="other.yaml")
    assert len(opened) == 3


async def test_the_async_twins_take_a_model_too(model_class, opened):
    model = model_class(model="starter")
    await model.ainvoke("?", model="other.yaml")
    assert [piece async for piece in model.astream("?", model="other.yaml")]
    assert [source.model for source in opened] == ["starter", "other.yaml"]
    assert model.ensemble.calls == []
