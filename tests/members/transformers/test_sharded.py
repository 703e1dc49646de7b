"""Models over several places: what they answer, where their logits are, and maps that do not fit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from deepen_llm import Ensemble, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.config import EnsembleConfig
from deepen_llm.errors import ConfigError, MemberError
from deepen_llm.members.transformers.placement import input_device
from tests import toy_tokenizers
from tests.models import make_model

IDS = [5, 60, 17, 33, 9]
REST = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
MAPS = {
    "whatever fits": "auto",
    "half on disk": {**REST, "model.layers.0": "cpu", "model.layers.1": "disk"},
    "embeddings and head on disk": {**REST, "model.embed_tokens": "disk", "lm_head": "disk", "model.layers": "cpu"},
    "all on disk": {"": "disk"},
}


@pytest.fixture(scope="module", params=["llama", "mamba"])
def folder(request, tmp_path_factory):
    """A model in shards with an index."""
    folder, tokenizer = tmp_path_factory.mktemp(request.param) / "model", toy_tokenizers.byte_level_bpe()
    model = make_model(request.param, vocab_size=len(tokenizer))
    model.save_pretrained(folder, max_shard_size="50kB")
    tokenizer.save_pretrained(folder)
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    return folder


def load(folder, device_map, **settings):
    return MemberConfig(model=folder, device_map=device_map, **settings).load()


def answer(member):
    """Logits after several tokens, after one more, after a roll-back, and of a branch."""
    with torch.inference_mode():
        row, other = member.open(), member.open()
        logits = [member.extend({row: IDS, other: IDS[:2]}), member.extend({row: [7]})]
        member.rollback(row, 2)
        return torch.cat([*logits, member.extend({row: [12], other: [8]}), member.peek([(row, 1, [3, 4])])])


@pytest.mark.parametrize("places", MAPS)
def test_a_model_over_two_places_answers_as_in_one(folder, places, tmp_path):
    if "mamba" in str(folder) and not isinstance(MAPS[places], str) and "" not in MAPS[places]:
        pytest.skip("a map of another architecture")
    whole = MemberConfig(model=folder).load()
    member = load(folder, MAPS[places], model_kwargs={"offload_folder": str(tmp_path)})
    assert member.device == torch.device("cpu")
    logits = answer(member)
    assert logits.device == member.device
    assert torch.equal(logits, answer(whole))
    assert torch.equal(member.embeddings, whole.embeddings)
    assert member.weight_bytes >= whole.weight_bytes  # on disk, tied weights are two


def test_as_much_as_fits_is_in_memory_and_relative_fusion_works(folder, tmp_path):
    if "mamba" in str(folder):
        pytest.skip("its blocks are larger than the limit")
    settings = {"max_memory": {"cpu": 200_000}, "offload_folder": str(tmp_path)}
    member = load(folder, "auto", model_kwargs=settings)
    assert set(member._model.hf_device_map.values()) == {"cpu", "disk"}
    params = SamplingParams(max_new_tokens=8)
    with Ensemble([MemberConfig(model=folder, name="whole").load()]) as alone:
        expected = alone.generate("The quick", params).token_ids
    config = EnsembleConfig(members=(MemberConfig(model="a"),) * 2, fusion=FusionConfig(method="relative"))
    with Ensemble([MemberConfig(model=folder, name="whole").load(), member], config) as both:
        assert both.generate("The quick", params).token_ids == expected


def test_members_do_not_share_what_moves_between_places(folder):
    one, two = load(folder, {"": "disk"}), load(folder, {"": "disk"})
    assert two.shared_weight_bytes == 0
    assert torch.equal(answer(two), answer(one))


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"": "cpu", "model.nowhere": "cpu"}, r"has no part 'model\.nowhere'"),
        ({"lm_head": "cpu"}, "must give every weight of the model a device; it has none for "),
    ],
)
def test_a_map_that_does_not_fit_the_model_is_refused(folder, places, message):
    if "mamba" in str(folder):
        pytest.skip("one architecture is enough")
    with pytest.raises(ConfigError, match=f"^device_map of member 'model' {message}") as caught:
        load(folder, places)
    assert len(str(caught.value)) < 500


def test_a_shard_that_is_missing_is_named(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    first = min(tmp_path.glob("model-*.safetensors"))
    first.unlink()
    with pytest.raises(MemberError, match=f"index.json names '{first.name}', which is not there"):
        load(tmp_path, None)


def test_tokens_go_where_the_embeddings_are_computed():
    embedding = nn.Embedding(4, 2, device="meta")
    model = SimpleNamespace(get_input_embeddings=lambda: embedding)
    embedding._hf_hook = SimpleNamespace(execution_device="cpu")
    assert input_device(model) == torch.device("cpu")
