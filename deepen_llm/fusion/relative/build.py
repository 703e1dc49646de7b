"""From members to relative fusion: which tokens are anchors, how the matrices are held, and their tables."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import torch

from deepen_llm.errors import ConfigError, VocabularyError
from deepen_llm.fusion.relative.candidates import CandidateSearch, Search
from deepen_llm.fusion.relative.dense import DenseTables, FullSearch
from deepen_llm.fusion.relative.inverse import InverseSearch
from deepen_llm.fusion.relative.member_space import MemberSpace
from deepen_llm.fusion.relative.method import RelativeFusion
from deepen_llm.fusion.relative.sampled import SampledTables, draw_sample
from deepen_llm.fusion.relative.settings import RelativeConfig
from deepen_llm.members.base import Member, require_embeddings
from deepen_llm.table_store import TableStore, default_folder
from deepen_llm.vocabulary import Vocabulary, common_strings, common_tokens

if TYPE_CHECKING:
    Progress = Callable[[float], None]

DENSE_ENTRIES = 1 << 23
"""The most entries of a relative matrix, 32 MiB of them, with which "auto" takes the dense form."""


def build_relative(config: RelativeConfig, members: Sequence[Member], main: int) -> RelativeFusion:
    """Relative fusion of these members, its tables read or made with a progress bar. Raises what `build_from` does."""
    spaces = describe_spaces(members, config)
    folder = default_folder()
    with _progress_bar("relative rows") as advance:
        store = TableStore(folder) if folder is not None else None
        return build_from(spaces, config, main, store=store, progress=advance)


def build_from(
    spaces: Sequence[MemberSpace],
    config: RelativeConfig,
    main: int,
    *,
    store: TableStore | None = None,
    progress: Progress | None = None,
) -> RelativeFusion:
    """Relative fusion from what it needs to know of the members.

    Args:
        spaces: One per member; their embeddings may lie on different devices.
        config: The settings.
        main: Position of the main model.
        store: Where the tables of the sampled form are kept between runs.
        progress: Called with the share of the build that is done.

    Raises:
        ConfigError: The members disagree in their anchors, `align_eos` finds a member without end-of-sequence, or whole
            matrices do not fit into memory.
        NumericalError: An embedding holds NaN or infinity.
    """
    _check_spaces(spaces, align_eos=config.align_eos)
    begin = time.perf_counter()
    if config.align_eos:
        spaces = [space.with_eos_anchor() for space in spaces]
    form = _choose_form(spaces, config)
    inverse = InverseSearch(config.search, config.num_steps, config.learning_rate)
    if form == "dense":
        search = _build_dense(spaces, config, main, inverse)
    else:
        search = _build_sampled(spaces, config, main, inverse, store, progress)
    return RelativeFusion(search, main, form=form, maps_all=config.maps == "all", build_s=time.perf_counter() - begin)


def _build_dense(spaces: Sequence[MemberSpace], config: RelativeConfig, main: int, inverse: InverseSearch) -> Search:
    home = spaces[main].embeddings.device
    _check_memory(spaces, home)
    dense = [DenseTables.build(space, home) for space in spaces]
    if config.max_candidates is None:
        return FullSearch(dense, main, inverse)
    return CandidateSearch(dense, main, inverse, config.max_candidates)


def _build_sampled(
    spaces: Sequence[MemberSpace],
    config: RelativeConfig,
    main: int,
    inverse: InverseSearch,
    store: TableStore | None,
    progress: Progress | None,
) -> Search:
    if config.max_candidates is None:
        raise ConfigError("the sampled form searches over candidates: give max_candidates, or take form='dense'")
    sampled = [
        SampledTables.build(space, store=store, progress=_part_of(progress, index, len(spaces)))
        for index, space in enumerate(spaces)
    ]
    sample = draw_sample(len(spaces[main].anchor_ids)).to(spaces[main].embeddings.device)
    return CandidateSearch(sampled, main, inverse, config.max_candidates, sample)


def describe_spaces(members: Sequence[Member], config: RelativeConfig) -> list[MemberSpace]:
    """What relative fusion needs to know of these members.

    Raises:
        ConfigError: A member without input embeddings.
        VocabularyError: Two members, or all of them together, have too few tokens in common.
    """
    vocabularies = [member.vocabulary for member in members]
    common = common_strings(vocabularies) if config.compares_strings else common_tokens(vocabularies)
    if len(common) < config.min_common_tokens:
        raise _too_few(vocabularies, len(common), config.min_common_tokens)
    anchors = common if config.max_anchors is None else common[: config.max_anchors]
    return [
        MemberSpace(
            embeddings=require_embeddings(member),
            anchor_ids=torch.tensor([ids[index] for ids in anchors]),
            allowed=member.vocabulary.allowed,
            eos_ids=member.vocabulary.eos_ids,
            removed_directions=config.removed_directions,
        )
        for index, member in enumerate(members)
    ]


def _choose_form(spaces: Sequence[MemberSpace], config: RelativeConfig) -> Literal["dense", "sampled"]:
    """What is asked for, or the dense form where every token is searched over or every member's matrix is small."""
    if config.form != "auto":
        return config.form
    largest = max(len(space.allowed) * len(space.anchor_ids) for space in spaces)
    return "dense" if config.max_candidates is None or largest <= DENSE_ENTRIES else "sampled"


def _check_memory(spaces: Sequence[MemberSpace], device: torch.device) -> None:
    """Refuse matrices that do not fit.

    Raises:
        ConfigError: With the memory that they would take.
    """
    # While one is made, it and the rows that may come are there in a copy.
    sizes = [4 * len(space.allowed) * len(space.anchor_ids) for space in spaces]
    needed, free = sum(sizes) + 2 * max(sizes), _free_bytes(device)
    if free is not None and needed > free:
        raise ConfigError(
            f"whole relative matrices of these members take {sum(sizes) / 1e9:.1f} GB, and {needed / 1e9:.1f} GB while "
            f"they are made; {device} has {free / 1e9:.1f} GB free: take "
            "FusionConfig(form='sampled', max_candidates=32), which makes what a step needs, or fewer max_anchors"
        )


def _free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device; None where it is not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


@contextmanager
def _progress_bar(name: str) -> Iterator[Progress]:
    """A function that takes the share done. The bar shows after two seconds, unless transformers' bars are off."""
    from transformers.utils.logging import tqdm

    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with tqdm(total=1.0, desc=name, delay=2.0, bar_format=form, leave=False) as bar:
        shown = 0.0  # transformers' bar, where bars are off, does not count

        def advance(done: float) -> None:
            nonlocal shown
            bar.update(done - shown)
            shown = done

        yield advance


def _part_of(progress: Progress | None, index: int, count: int) -> Progress:
    """The progress of one of several builds, as a share of all."""

    def advance(done: float) -> None:
        if progress is not None:
            progress((index + done) / count)

    return advance


def _check_spaces(spaces: Sequence[MemberSpace], *, align_eos: bool) -> None:
    numbers = [len(space.anchor_ids) for space in spaces]
    if len(set(numbers)) != 1 or numbers[0] == 0:
        raise ConfigError(
            f"every member must name the same anchors, one at least; got {numbers} anchors: "
            "pass anchor_ids of equal length"
        )
    without = [i for i, space in enumerate(spaces) if not space.eos_ids]
    if align_eos and without:
        raise ConfigError(
            f"align_eos needs an end-of-sequence token in every member; members {without} have none: "
            "set align_eos=False"
        )


def _too_few(vocabularies: Sequence[Vocabulary], num_common: int, needed: int) -> VocabularyError:
    """The error that names the pair which shares least."""
    counts = {(a.name, b.name): len(common_tokens([a, b])) for a, b in combinations(vocabularies, 2)}
    (first, second), fewest = min(counts.items(), key=lambda item: item[1])
    return VocabularyError(
        f"members must share at least {needed} tokens; these share {num_common}, and {first!r} with {second!r} only "
        f"{fewest}: leave one of them out, or lower FusionConfig(min_common_tokens=...)"
    )
