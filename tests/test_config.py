from __future__ import annotations

import copy
import json
import pickle

import pytest

from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig, SamplingParams, WeightingConfig
from deepen_llm.config.members import KINDS
from deepen_llm.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens.*greater than or equal to 1.*got 0"),
        ({"temperature": -0.1}, r"temperature.*got -0\.1"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p.*greater than 0"),
        ({"top_p": 1.5}, "top_p"),
        ({"min_p": 1.0}, "min_p"),
        ({"top_k": -1}, "top_k"),
        ({"stop": ("ok", "")}, "stop strings must not be empty"),
        ({"stop": ""}, "stop strings must not be empty"),
        ({"seed": -1}, "seed"),
        ({"max_new_tokens": True}, "max_new_tokens: Input should be a valid integer; got True"),
        ({"temperature": "1"}, "temperature: Input should be a valid number; got '1'"),
        ({"repetition_penalty": 0.0}, "repetition_penalty.*greater than 0"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty.*got nan"),
        ({"presence_penalty": float("inf")}, "presence_penalty.*got inf"),
        ({"frequency_penalty": -2.5}, "frequency_penalty.*got -2.5"),
        ({"logit_bias": {5: float("nan")}}, "logit_bias has numbers from -100 to 100; got nan for 5"),
        ({"logit_bias": {5: True}}, "logit_bias has numbers .*; got True for 5"),
        ({"logit_bias": {5: 10**400}}, "logit_bias has numbers"),
        ({"logit_bias": {True: 1.0}}, "logit_bias has a token's id or its text as key.*got True, which is neither"),
        ({"logit_bias": {-1: 1.0}}, "got -1, which is neither"),
        ({"logit_bias": {"\ud800": 1.0}}, "which is neither"),
        ({"logit_bias": {5: 1.0, "5": 2.0}}, "got '5', which comes twice"),
        ({"logit_bias": [5]}, "logit_bias.*got \\[5\\]"),
        ({"stop_token_ids": [True]}, "stop_token_ids.0.*got True"),
        ({"stop_token_ids": [-1]}, "stop_token_ids.0.*got -1"),
        ({"min_new_tokens": 300}, "min_new_tokens must not exceed max_new_tokens; got 300 and 256"),
        ({"regex": "a", "min_new_tokens": 2}, "regex ends the answer, and min_new_tokens goes on"),
        ({"regex": "a", "stop_token_ids": [2]}, "stop_token_ids would cut an answer by regex"),
        ({"n": 2}, "got n=2 with temperature=0: all would be equal"),
        ({"n": True, "temperature": 1.0}, "n: Input should be a valid integer; got True"),
        ({"temprature": 1.0}, "no setting 'temprature': did you mean 'temperature'"),
        ({"zzz": 1}, "no setting 'zzz': known settings: .*temperature"),
    ],
)
def test_sampling_params_refuse_what_cannot_be_used(settings, message):
    with pytest.raises(ConfigError, match=message):
        SamplingParams(**settings)


def test_a_config_error_is_a_value_error_too():
    with pytest.raises(ValueError, match="max_new_tokens"):
        SamplingParams(max_new_tokens=-5)


def test_a_single_stop_string_counts_as_one():
    assert SamplingParams(stop="END").stop == ("END",)


def test_a_bias_by_a_string_of_digits_is_one_by_id_as_json_has_it():
    params = SamplingParams(logit_bias={"50": -100, " Paris": 5})
    assert params.logit_bias == {50: -100.0, " Paris": 5.0}
    assert SamplingParams.model_validate_json(params.model_dump_json()) == params


def test_several_answers_are_one_each_with_seeds_of_their_own():
    one = SamplingParams(temperature=1.0, seed=2**63 - 1)
    assert one.split() == [one]
    assert [params.seed for params in one.replace(n=3).split()] == [2**63 - 1, 0, 1]
    assert {params.n for params in one.replace(n=3).split()} == {1}
    assert {params.seed for params in SamplingParams(temperature=1.0, n=2).split()} == {None}


def test_settings_cannot_be_changed_but_replaced():
    params = SamplingParams(temperature=1.0)
    with pytest.raises(Exception, match="frozen"):
        params.temperature = 2.0
    assert params.replace(top_k=5) == SamplingParams(temperature=1.0, top_k=5)
    with pytest.raises(ConfigError, match="top_k"):
        params.replace(top_k=-5)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "2 members, got 1 weights"),
        ([0.5, 0.6], r"sum to 1; got \[0.5, 0.6\], which sums to 1.1"),
        ([1.5, -0.5], "not negative"),
        ([float("nan"), 1.0], "finite"),
    ],
)
def test_weights_must_be_a_distribution_over_the_members(weights, message):
    with pytest.raises(ConfigError, match=message):
        EnsembleConfig(members=("a", "b"), weights=weights)


def test_an_ensemble_needs_members():
    with pytest.raises(ConfigError, match="at least one member"):
        EnsembleConfig(members=())


def test_an_unknown_key_of_a_member_is_named():
    with pytest.raises(ConfigError, match=r"revison.*did you mean|revison"):
        EnsembleConfig(members=({"model": "a", "revison": "main"},))


@pytest.mark.parametrize("kind", ["transfomers", "", None, 3])
def test_an_unknown_kind_of_member_is_refused_with_those_that_there_are(tmp_path, kind, monkeypatch):
    monkeypatch.setitem(KINDS, "parrot", "tests.extensions:ParrotConfig")
    message = rf"MemberConfig\.kind must be one of 'transformers'.*, 'parrot'; got {kind!r}$"
    with pytest.raises(ConfigError, match=message):
        MemberConfig(model="a", kind=kind)
    with pytest.raises(ConfigError, match=message):
        EnsembleConfig(members=("a", {"model": "b", "kind": kind}))
    (tmp_path / "ensemble.yaml").write_text(json.dumps({"members": [{"model": "a", "kind": kind}]}))
    with pytest.raises(ConfigError, match=message):
        EnsembleConfig.load(tmp_path / "ensemble.yaml")


def test_a_setting_of_another_kind_of_member_is_told_with_its_kind(monkeypatch):
    monkeypatch.setitem(KINDS, "parrot", "tests.extensions:ParrotConfig")
    with pytest.raises(ConfigError, match=r"'text', which belongs to kind='parrot': leave it out"):
        MemberConfig(model="a", text="the cat")


def test_device_and_device_map_exclude_each_other():
    with pytest.raises(ConfigError, match="either device or device_map"):
        MemberConfig(model="a", device="cpu", device_map="auto")


def test_the_published_method_has_the_published_constants():
    published = FusionConfig.published()
    assert (published.search, published.num_steps, published.learning_rate) == ("gradient", 5, 0.15)
    assert published.main_ends
    assert not published.align_eos
    assert (published.anchors, published.form, published.max_candidates) == ("strings", "dense", None)
    assert FusionConfig.published(learning_rate=0.3).learning_rate == 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "onion"}, "method must be one of 'relative'.*'union'.*'equal_text'; got 'onion'$"),
        ({"method": "union", "top_k": 0}, "top_k.*greater than or equal to 1.*got 0"),
        ({"method": "equal_text", "mean": "harmonic"}, "mean.*'arithmetic' or 'geometric'.*got 'harmonic'"),
        ({"method": "union", "reading": "text"}, "'reading', which belongs to method='relative': leave it out"),
        ({"method": "union", "mean": "geometric"}, "'mean', which belongs to method='text' or 'equal_text'"),
        ({"method": "union", "search": "gradient", "num_steps": 9}, "'search'.*'num_steps'"),
        ({"method": "text", "max_candidates": 4}, "'max_candidates', which belongs to method='relative'"),
        ({"method": "relative", "top_k": 3}, "'top_k', which belongs to method='union': leave it out"),
        ({"trst": 0.5}, r"FusionConfig\(method='relative'\) has no setting 'trst': did you mean 'trust'\?"),
        ({"learning_rate": 1}, "learning_rate=1.0 means nothing with search='multiplicative'.*take search='gradient'"),
        ({"reading": "token", "min_mass": 0.5}, "min_mass=0.5 means nothing with reading='token': leave it out"),
        ({"confidence": 0.5}, "confidence=0.5 means nothing with fuse='always': leave it out, or take fuse='safe'"),
        ({"max_candidates": None, "form": "sampled"}, "form='sampled' searches over candidates: give max_candidates"),
        ({"reading": "letters"}, "reading.*'token' or 'text'.*got 'letters'"),
        ({"min_mass": 1.5}, "min_mass.*less than or equal to 1.*got 1.5"),
        ({"max_rows": 0}, "max_rows.*greater than or equal to 1.*got 0"),
        ({"max_passes": -1}, "max_passes.*greater than or equal to 0.*got -1"),
        ({"fuse": "sometimes"}, "fuse.*'always', 'safe' or 'drawn'.*got 'sometimes'"),
        ({"fuse": "safe", "confidence": 0.0}, "confidence.*greater than 0.*got 0"),
    ],
)
def test_a_fusion_that_does_not_exist_is_refused_with_those_that_do(settings, message):
    with pytest.raises(ConfigError, match=message):
        FusionConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "projects"),
    [
        ({"reading": "text"}, True),
        ({"reading": "token"}, False),
        ({"method": "text"}, True),
        ({"method": "union"}, False),
        ({"method": "equal_text"}, False),
    ],
)
def test_distributions_are_projected_where_the_method_takes_them_as_text(settings, projects):
    assert FusionConfig(**settings).projects == projects
    assert not FusionConfig.published().projects


def test_settings_of_a_method_are_a_class_of_their_own_wherever_they_come_from():
    given = FusionConfig(method="text", mean="geometric")
    assert type(given).__name__ == "TextConfig" and isinstance(given, FusionConfig)
    read = EnsembleConfig(members=("a",), fusion={"method": "text", "mean": "geometric"})
    assert read.fusion == given
    assert EnsembleConfig(**read.model_dump()) == read
    for copied in (copy.deepcopy(read), pickle.loads(pickle.dumps(read))):
        assert copied == read and type(copied.fusion) is type(given)
    with pytest.raises(ConfigError, match=r"EnsembleConfig\.fusion: FusionConfig.*'top_k', which belongs to"):
        EnsembleConfig(members=("a",), fusion={"method": "text", "top_k": 3})


def test_what_no_longer_applies_is_left_out_of_a_copy():
    gradient = FusionConfig(search="gradient", learning_rate=0.3, trust=0.5)
    assert gradient.replace(search="multiplicative") == FusionConfig(search="multiplicative", trust=0.5)
    assert gradient.replace(method="text") == FusionConfig(method="text", trust=0.5)
    with pytest.raises(ConfigError, match="learning_rate"):
        gradient.replace(search="multiplicative", learning_rate=0.2)


def test_a_yaml_file_is_read_and_its_paths_are_its_own(tmp_path):
    (tmp_path / "one").mkdir()
    file = tmp_path / "ensemble.yaml"
    file.write_text("members: [one, {model: org/two, dtype: float32}]\nweights: [0.25, 0.75]\nfusion: {trust: 0.5}\n")
    config = EnsembleConfig.load(file)
    assert config.members[0].model == str((tmp_path / "one").resolve())
    assert config.members[1] == MemberConfig(model="org/two", dtype="float32")
    assert config.weights == (0.25, 0.75)
    assert config.fusion.trust == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no configuration file"),
        ("members: [", "not valid YAML"),
        ("- a", "must hold a mapping.*list"),
        ("members: [a]\nwieghts: [1]", "no setting 'wieghts': did you mean 'weights'"),
    ],
)
def test_a_yaml_file_that_cannot_be_used_says_why(tmp_path, content, message):
    file = tmp_path / "ensemble.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        EnsembleConfig.load(file)


def test_weights_by_prompt_are_a_word_or_settings(tmp_path):
    config = EnsembleConfig(members=("a", "b"), weights={"kind": "prompt", "temperature": 0.3})
    assert EnsembleConfig(members=("a", "b"), weights="prompt").weights == WeightingConfig(kind="prompt")
    assert config.weights.temperature == 0.3
    assert config.fixed_weights == (0.5, 0.5)
    (tmp_path / "ensemble.yaml").write_text("members: [a, b]\nweights: {kind: prompt, temperature: 0.3}\n")
    assert EnsembleConfig.load(tmp_path / "ensemble.yaml") == config


def test_weights_that_learn_are_a_word_or_settings(tmp_path):
    config = EnsembleConfig(members=("a", "b"), weights={"kind": "adaptive", "eta": 0.2, "prior": [0.25, 0.75]})
    word = EnsembleConfig(members=("a", "b"), weights="adaptive").weights
    assert word == WeightingConfig(kind="adaptive") == WeightingConfig()
    assert (word.eta, word.alone, word.prior) == (0.15, 0.4, None)
    assert config.weights.prior == (0.25, 0.75) and config.fixed_weights == (0.5, 0.5)
    (tmp_path / "ensemble.yaml").write_text(
        "members: [a, b]\nweights: {kind: adaptive, eta: 0.2, prior: [0.25, 0.75]}\n"
    )
    assert EnsembleConfig.load(tmp_path / "ensemble.yaml") == config
    config.save(tmp_path / "again.yaml")
    assert EnsembleConfig.load(tmp_path / "again.yaml") == config
    for copied in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert copied == config and type(copied.weights) is type(word)


def test_a_file_of_an_earlier_version_with_every_setting_written_out_still_loads(tmp_path):
    fusion = {
        **{"method": "text", "top_k": 10, "mean": "geometric", "reading": "text", "min_mass": 0.02, "max_rows": 4},
        **{"max_passes": 6, "fuse": "always", "confidence": 0.95, "search": "multiplicative", "num_steps": 5},
        **{"learning_rate": 0.15, "trust": 1.0, "main_ends": False, "align_eos": True, "removed_directions": None},
        **{"max_anchors": None, "max_candidates": 32, "form": "auto", "min_common_tokens": 64},
    }
    values = {"members": ["a", "b"], "weights": "prompt", "weights_temperature": 0.3, "fusion": fusion}
    (tmp_path / "ensemble.yaml").write_text(json.dumps(values))
    config = EnsembleConfig.load(tmp_path / "ensemble.yaml")
    assert config.fusion == FusionConfig(method="text", mean="geometric")
    assert config.weights == WeightingConfig(kind="prompt", temperature=0.3)
    fusion["max_candidates"] = 4
    (tmp_path / "ensemble.yaml").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="'max_candidates', which belongs to method='relative': leave it out"):
        EnsembleConfig.load(tmp_path / "ensemble.yaml")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "promt"}, "weights: weights must be numbers, .* or the word 'adaptive' or 'prompt'; got 'promt'$"),
        ({"weights": {"kind": "prompt", "temperature": 0.0}}, "temperature.*greater than 0"),
        ({"weights": {"kind": "prompt", "temperature": float("inf")}}, "temperature.*finite"),
        ({"weights": {"kind": "prompt", "temperature": float("nan")}}, "temperature"),
        ({"weights": {"kind": "prophet"}}, "WeightingConfig.kind must be one of 'adaptive', 'prompt'; got 'prophet'"),
        ({"weights": {"kind": "prompt", "eta": 0.1}}, "'eta', which belongs to kind='adaptive': leave it out"),
        ({"weights": {"kind": "adaptive", "temperature": 1}}, "'temperature', which belongs to kind='prompt'"),
        ({"weights": {"eta": 1.5}}, "eta.*less than or equal to 1.*got 1.5"),
        (
            {"weights": "prompt", "weights_temperature": 0.3},
            "no setting 'weights_temperature' any more: write",
        ),
    ],
)
def test_weights_of_each_request_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        EnsembleConfig(members=("a", "b"), **settings)


def test_fixed_weights_are_those_given_or_uniform():
    assert EnsembleConfig(members=("a", "b"), weights=(0.25, 0.75)).fixed_weights == (0.25, 0.75)
    assert EnsembleConfig(members=("a", "b", "c")).fixed_weights == (1 / 3,) * 3
