"""From a configuration to the parts of an ensemble: the members, and the fusion method that fits them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations

import torch
from transformers.utils.logging import tqdm

from deepen_llm.baselines import build_equal_text, build_text, build_union
from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig
from deepen_llm.decoding.reading import EnsembleReader
from deepen_llm.decoding.safety import Safety
from deepen_llm.decoding.weighting import PromptWeighting
from deepen_llm.errors import ConfigError, VocabularyError
from deepen_llm.fusion.alone import MainAlone
from deepen_llm.fusion.base import FusionMethod
from deepen_llm.fusion.relative.method import MemberSpace, RelativeFusion
from deepen_llm.fusion.relative.storage import TableStore, default_folder
from deepen_llm.members.base import Member
from deepen_llm.members.transformers import TransformersMember
from deepen_llm.reading import ReadingBounds
from deepen_llm.vocabulary import Vocabulary, common_tokens

NUM_EXTENDED = 32
"""Of a distribution that extends a token so many best tokens are read."""


def load_members(configs: Iterable[MemberConfig]) -> list[Member]:
    """Load every member; names that occur twice are told apart by a number.

    Raises:
        MemberError: A model that cannot be loaded.
        VocabularyError: A tokenizer that cannot be read as bytes.
    """
    members: list[Member] = []
    for config in configs:
        member = TransformersMember.load(config)
        same = sum(other.name.split("#")[0] == member.name for other in members)
        if same:
            member.name = f"{member.name}#{same + 1}"
        members.append(member)
    return members


def find_main(main: int | str, members: Sequence[Member]) -> int:
    """The main model's position.

    Raises:
        ConfigError: No member has that position or name.
    """
    names = [member.name for member in members]
    if isinstance(main, str) and main in names:
        return names.index(main)
    if isinstance(main, int) and 0 <= main < len(members):
        return main
    raise ConfigError(
        f"main must be a member's name or position; got {main!r}; the members are {dict(enumerate(names))}"
    )


def build_fusion(members: Sequence[Member], main: int, weights: Sequence[float], config: FusionConfig) -> FusionMethod:
    """The fusion method for these members.

    Raises:
        VocabularyError: Two members, or all of them together, have too few tokens in common.
        NumericalError: Embeddings that hold NaN.
    """
    if len(members) == 1:
        return MainAlone(main, members[main].allowed)
    if config.method == "union":
        return build_union(members, main, weights, config)
    if config.method == "equal_text":
        return build_equal_text(members, main, weights, config)
    if config.method == "text":
        return build_text(members, main, weights, config)
    return _build_relative(members, main, weights, config)


def build_reader(members: Sequence[Member], main: int, config: FusionConfig) -> EnsembleReader | None:
    """What reads the members' distributions as text; None where they are fused as they are."""
    if len(members) == 1 or not config.reads_text:
        return None
    bounds = ReadingBounds(
        min_mass=config.min_mass, max_rows=config.max_rows, max_passes=config.max_passes, num_tokens=NUM_EXTENDED
    )
    return EnsembleReader(members, main, bounds)


def build_weighting(members: Sequence[Member], config: EnsembleConfig) -> PromptWeighting | None:
    """What gives each request weights of its own; None where all requests have the same."""
    if len(members) == 1 or config.weights != "prompt":
        return None
    return PromptWeighting(members, config.weights_temperature)


def _build_relative(
    members: Sequence[Member], main: int, weights: Sequence[float], config: FusionConfig
) -> RelativeFusion:
    """Relative fusion, its tables read or made with a progress bar."""
    spaces = describe_spaces(members, config)
    folder = default_folder()
    with _progress_bar("relative rows") as advance:
        return RelativeFusion(
            spaces,
            main=main,
            weights=tuple(weights),
            search=config.search,
            num_steps=config.num_steps,
            learning_rate=config.learning_rate,
            trust=config.trust,
            main_ends=config.main_ends,
            align_eos=config.align_eos,
            max_candidates=config.max_candidates,
            form=config.form,
            store=TableStore(folder) if folder is not None else None,
            progress=advance,
        )


def build_safety(members: Sequence[Member], main: int, config: FusionConfig) -> Safety | None:
    """What chooses the steps to fuse; None where all are."""
    if len(members) == 1 or config.fuse == "always":
        return None
    return Safety([member.vocabulary for member in members], main, config.confidence)


def describe_spaces(members: Sequence[Member], config: FusionConfig) -> list[MemberSpace]:
    """What relative fusion needs to know of these members.

    Raises:
        VocabularyError: Two members, or all of them together, have too few tokens in common.
    """
    vocabularies = [member.vocabulary for member in members]
    common = common_tokens(vocabularies)
    if len(common) < config.min_common_tokens:
        raise _too_few(vocabularies, len(common), config.min_common_tokens)
    anchors = common if config.max_anchors is None else common[: config.max_anchors]
    return [
        MemberSpace(
            embeddings=member.embeddings,
            anchor_ids=torch.tensor([ids[index] for ids in anchors]),
            allowed=member.allowed,
            eos_ids=member.vocabulary.eos_ids,
            removed_directions=config.removed_directions,
        )
        for index, member in enumerate(members)
    ]


@contextmanager
def _progress_bar(name: str) -> Iterator[Callable[[float], None]]:
    """A function that takes the share done. The bar shows after two seconds, unless transformers' bars are off."""
    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with tqdm(total=1.0, desc=name, delay=2.0, bar_format=form, leave=False) as bar:
        shown = 0.0  # transformers' bar, where bars are off, does not count

        def advance(done: float) -> None:
            nonlocal shown
            bar.update(done - shown)
            shown = done

        yield advance


def _too_few(vocabularies: Sequence[Vocabulary], num_common: int, needed: int) -> VocabularyError:
    """The error that names the pair which shares least."""
    counts = {(a.name, b.name): len(common_tokens([a, b])) for a, b in combinations(vocabularies, 2)}
    (first, second), fewest = min(counts.items(), key=lambda item: item[1])
    return VocabularyError(
        f"members must share at least {needed} tokens; these share {num_common}, and {first!r} with {second!r} only "
        f"{fewest}: leave one of them out, or lower FusionConfig(min_common_tokens=...)"
    )


def describe(config: EnsembleConfig, members: Sequence[Member], main: int) -> dict[str, object]:
    """What tells one ensemble's answers from another's, as JSON values."""
    by_prompt = {"weights": "prompt", "weights_temperature": config.weights_temperature}
    return {
        "members": [dict(member.identity) for member in members],
        "main": members[main].name,
        **(by_prompt if config.weights == "prompt" else {"weights": list(config.fixed_weights)}),
        "fusion": config.fusion.model_dump(),
    }
