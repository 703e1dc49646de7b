"""Devices and number formats that there are not are refused by name, before anything is loaded."""

from __future__ import annotations

import pytest
import torch

from deepen_llm import MemberConfig
from deepen_llm.errors import ConfigError
from deepen_llm.members.transformers.placement import available_devices, check_placement


@pytest.mark.parametrize(
    "settings",
    [
        {"device": "x"},
        {"device": "cuda:99"},
        {"device": "meta"},
        {"device_map": "x"},
        {"device_map": {"": "cuda:99"}},
        {"device_map": {"": 99}},
        {"device_map": {"": None}},
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(settings):
    config = MemberConfig(model="/no/such/folder", **settings)
    (name,) = settings
    with pytest.raises(ConfigError, match=rf"^{name} of member 'folder' must be one of 'cpu'.*; got "):
        config.load()


@pytest.mark.parametrize(
    "settings", [{}, {"device": "cpu"}, {"device_map": "auto"}, {"device_map": {"": "cpu", "a": "disk"}}]
)
def test_what_is_there_passes(settings):
    check_placement(MemberConfig(model="a", **settings), "a")


def test_an_accelerator_counts_with_and_without_its_number(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert available_devices() == ["cpu", "cuda:0", "cuda:1"]
    check_placement(MemberConfig(model="a", device="cuda"), "a")
    check_placement(MemberConfig(model="a", device_map={"": "cuda:1"}), "a")
    with pytest.raises(ConfigError, match=r"'cuda:1'.*got 'cuda:2'"):
        check_placement(MemberConfig(model="a", device="cuda:2"), "a")


@pytest.mark.parametrize("dtype", ["float17", "", "int8", "x" * 10**6])
def test_a_number_format_that_there_is_not_is_refused_with_those_that_there_are(dtype):
    with pytest.raises(ConfigError, match=r"dtype: a model's number format is one of 'auto', 'float32'.*; got "):
        MemberConfig(model="a", dtype=dtype)


def test_a_number_format_may_also_be_given_as_torch_has_it():
    given = (torch.float16, "torch.float16", "half", "float16")
    assert {MemberConfig(model="a", dtype=dtype).dtype for dtype in given} == {"float16"}
