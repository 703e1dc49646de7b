"""From a configuration to the parts of an ensemble: its members, and what steps them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig, WeightingConfig
from deepen_llm.config.fusion import ProjectingConfig
from deepen_llm.decoding.drawing import Drawing
from deepen_llm.decoding.feeding import Feeder
from deepen_llm.decoding.gating import FuseAlways, FuseWhenUnsure
from deepen_llm.decoding.prefill import Prefill
from deepen_llm.decoding.prefixes import Prefixes
from deepen_llm.decoding.projecting import EnsembleProjector
from deepen_llm.decoding.speculation.speculator import Speculator
from deepen_llm.decoding.step import Stepper
from deepen_llm.decoding.threads import are_small
from deepen_llm.errors import ConfigError, quote
from deepen_llm.fusion.frame import FusionFrame
from deepen_llm.fusion.tokens import CanonicalTokens
from deepen_llm.fusion.words import WordWeigher
from deepen_llm.members.base import Member
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.members.names import name_members
from deepen_llm.projection import ExpansionLimits
from deepen_llm.vocabulary.canonical import canonical_ids
from deepen_llm.weighting.base import FixedWeighting, Weighting


def read_members(models: Any, options: Mapping[str, Any]) -> tuple[MemberConfig, ...]:
    """The settings of members that are named by folders, hub names or settings; a single one is a member alone.

    Args:
        models: What names them.
        options: Settings of every member that is given by name.

    Raises:
        ConfigError: Nothing that could name members, or options that no member would take.
    """
    if isinstance(models, (str, os.PathLike, MemberConfig)):
        models = [models]
    if isinstance(models, (bytes, Mapping)) or not isinstance(models, Iterable):
        raise ConfigError(f"models must be a list of folders, hub names or MemberConfig; got {quote(models)}")
    given = list(models)
    if options and given and all(isinstance(model, MemberConfig) for model in given):
        raise ConfigError(
            f"settings beside models are of those given by name; got {', '.join(options)} and only MemberConfig: write "
            "them into each MemberConfig"
        )
    for model in given:
        if isinstance(model, (str, os.PathLike)) and os.fspath(model).endswith((".yaml", ".yml")):
            raise ConfigError(f"a model is no configuration; got {quote(model)}: write Ensemble.from_config(path)")
    return tuple(model if isinstance(model, MemberConfig) else MemberConfig(model=model, **options) for model in given)


def read_config(config: Any, *, trust_remote_code: bool = False) -> EnsembleConfig:
    """A configuration, or what the `ensemble.yaml` at a path describes; see `EnsembleConfig.load`.

    Raises:
        ConfigError: Neither of them, or a file that cannot be used.
    """
    if isinstance(config, EnsembleConfig):
        return config
    if not isinstance(config, (str, os.PathLike)):
        raise ConfigError(
            f"config must be an EnsembleConfig or the path of an ensemble.yaml; got {quote(config)}: write "
            "EnsembleConfig(members=[...], ...), or Ensemble.from_pretrained([...])"
        )
    return EnsembleConfig.load(os.fspath(config), trust_remote_code=trust_remote_code)


def load_members(configs: Iterable[MemberConfig]) -> list[Member]:
    """Load every member; names that occur twice are told apart by a number.

    Raises:
        MemberError: A model that cannot be loaded.
        MissingDependencyError: A package that a kind of member needs is not installed.
        VocabularyError: A tokenizer that cannot be read as bytes.
    """
    return [config.load() for config in name_members(configs)]


def check_members(members: object, config: object) -> tuple[tuple[Member, ...], EnsembleConfig]:
    """What an ensemble is made of; without a configuration, one that gives the members' names.

    Raises:
        ConfigError: Something other than members, other than a configuration, or another number than it names.
    """
    if not isinstance(members, (list, tuple)):
        raise ConfigError(f"members must be a list of members that are loaded; got a {type(members).__name__}")
    if strange := [member for member in members if not isinstance(member, Member)]:
        raise ConfigError(
            f"members must be members that are loaded; got a {type(strange[0]).__name__} among them: to load models, "
            "write Ensemble.from_pretrained([...])"
        )
    if config is None:
        # A name is no place: whatever it looks like, it names no kind.
        config = EnsembleConfig(members=tuple(MemberConfig(model=one.name, kind="transformers") for one in members))
    if not isinstance(config, EnsembleConfig):
        raise ConfigError(f"config must be an EnsembleConfig; got a {type(config).__name__}")
    if len(config.members) != len(members):
        raise ConfigError(f"the configuration names {len(config.members)} members; got {len(members)}")
    return tuple(members), config


def find_main(main: int | str, members: Sequence[Member]) -> int:
    """The main model's position.

    Raises:
        ConfigError: No member has that position or name, or the member there cannot be the main model.
    """
    names = [member.name for member in members]
    if isinstance(main, str) and main in names:
        return _check_main(names.index(main), members)
    if isinstance(main, int) and 0 <= main < len(members):
        return _check_main(main, members)
    raise ConfigError(
        f"main must be a member's name or position; got {quote(main)}; the members are {dict(enumerate(names))}"
    )


def _check_main(main: int, members: Sequence[Member]) -> int:
    """The position, of a member that tells the logits of all its tokens."""
    member = members[main]
    if member.num_told is not None:
        fit = [other.name for other in members if other.num_told is None]
        hint = f"write main={fit[0]!r}" if fit else "add a member that runs in this process, and make it the main model"
        raise ConfigError(
            f"the main model must tell the probabilities of all its tokens; member {member.name!r} (kind "
            f"{member.kind!r}) tells those of its {member.num_told} most probable ones: {hint}"
        )
    return main


def build_frame(members: Sequence[Member], main: int, config: FusionConfig) -> FusionFrame:
    """The fusion method for these members and what is the same under every method; none for one member.

    Raises:
        ConfigError: Members for which the method does not work.
        VocabularyError: Two members, or all of them together, have too few tokens in common.
        NumericalError: Embeddings that hold NaN.
    """
    is_alone = len(members) == 1
    return FusionFrame(
        None if is_alone else config.build(members, main),
        read_tokens(members, config),
        main,
        trust=config.trust,
        main_ends=config.main_ends,
        eos_ids=members[main].vocabulary.eos_ids,
    )


def read_tokens(members: Sequence[Member], config: FusionConfig) -> list[CanonicalTokens]:
    """Every member's tokens, those that count as one merged; of one member alone, each counts for itself."""
    is_alone = len(members) == 1
    return [
        CanonicalTokens.build(
            canonical_ids(
                member.vocabulary,
                align_eos=config.align_eos and not is_alone,
                compares_strings=config.compares_strings or is_alone,
            ),
            member.device,
        )
        for member in members
    ]


def build_stepper(members: Sequence[GuardedMember], main: int, frame: FusionFrame, config: EnsembleConfig) -> Stepper:
    """What takes the ensemble's steps."""
    fusion = config.fusion
    gate = FuseWhenUnsure(fusion.confidence) if fusion.fuse == "safe" else FuseAlways()
    projector = words = None
    if fusion.fuse != "drawn" and len(members) > 1 and fusion.projects and isinstance(fusion, ProjectingConfig):
        limits = ExpansionLimits(fusion.min_mass, fusion.max_rows, fusion.max_passes)
        projector = EnsembleProjector(members, main, frame, limits, align_eos=fusion.align_eos)
        words = WordWeigher([member.vocabulary for member in members], main)
    feeder = Feeder(
        members,
        are_projected=projector is not None,
        prefill=Prefill(config.prefill_tokens, are_small=are_small(members)),
        prefixes=Prefixes(members, config.prefix_cache_bytes),
    )
    return Stepper(members, main, feeder, frame, gate, projector, words, _build_speculator(members, main, config))


def _build_speculator(members: Sequence[GuardedMember], main: int, config: EnsembleConfig) -> Speculator | None:
    """What has the members read ahead; None where they do not, or where one is drawn, which nobody else checks."""
    num_tokens, remembers = config.num_speculative_tokens, config.drafts_from_answers
    is_drawn = config.fusion.fuse == "drawn" and len(members) > 1
    return Speculator(members, main, num_tokens, remembers_answers=remembers) if num_tokens and not is_drawn else None


def build_drawing(
    members: Sequence[GuardedMember], main: int, frame: FusionFrame, config: FusionConfig
) -> Drawing | None:
    """What drawing one member for each word needs; None where all are asked, or there is one alone."""
    is_drawn = config.fuse == "drawn" and len(members) > 1
    return Drawing(members, main, frame, align_eos=config.align_eos) if is_drawn else None


def build_weighting(members: Sequence[GuardedMember], config: EnsembleConfig) -> Weighting:
    """What gives each request its weights."""
    weights = config.request_weights
    if len(members) > 1 and isinstance(weights, WeightingConfig):
        return weights.build(members)
    return FixedWeighting(weights if isinstance(weights, tuple) else config.fixed_weights)


def describe(config: EnsembleConfig, members: Sequence[Member], main: int) -> dict[str, object]:
    """What tells one ensemble's answers from another's, as JSON values."""
    weights = config.request_weights
    return {
        "members": [_identify(member, one.temperature) for member, one in zip(members, config.members, strict=True)],
        "main": members[main].name,
        "weights": weights.model_dump() if isinstance(weights, WeightingConfig) else list(weights),
        "fusion": config.fusion.model_dump(),
    }


def _identify(member: Member, temperature: float) -> dict[str, object]:
    """A member's identity, with its temperature unless that is 1."""
    return dict(member.identity) | ({} if temperature == 1 else {"temperature": temperature})


def summarize(config: EnsembleConfig, members: Sequence[Member], main: int) -> str:
    """The members, the main model, the method and the weights in one line, as arguments are written."""
    weights = config.request_weights
    if isinstance(weights, WeightingConfig):
        said = repr(weights.kind)
    else:
        said = f"[{', '.join(f'{weight:.3g}' for weight in weights)}]"
    names = [member.name for member in members]
    method = config.fusion.method if len(members) > 1 else None
    return f"members={names!r}, main={names[main]!r}, method={method!r}, weights={said}"
