"""The kinds of member that a configuration can name. Nothing of a kind is imported before one of it is loaded."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from deepen_llm.config import MemberConfig, describe_unknown
from deepen_llm.errors import ConfigError, MissingDependencyError
from deepen_llm.members.base import Member

KINDS: dict[str, str] = {
    "transformers": "deepen_llm.members.transformers:TransformersMember",
}
"""Kind -> "module:Class". The class has a class method `load(config: MemberConfig) -> Member`."""


class Loadable(Protocol):
    """A class of members that are loaded from a configuration."""

    def load(self, config: MemberConfig) -> Member:
        """Load one member.

        Raises:
            MemberError: No such model, or one that cannot be a member.
            VocabularyError: A tokenizer that cannot be read as bytes.
        """


def load_member(config: MemberConfig) -> Member:
    """Load a member of the kind that its configuration names.

    Raises:
        ConfigError: No such kind.
        MissingDependencyError: A package that this kind needs is not installed.
        MemberError: A model that cannot be loaded.
        VocabularyError: A tokenizer that cannot be read as bytes.
    """
    return find_kind(config.kind).load(config)


def find_kind(kind: str) -> Loadable:
    """The class behind a kind, imported now.

    Raises:
        ConfigError: No such kind; the message lists the known ones.
        MissingDependencyError: A package that it needs is not installed.
    """
    if kind not in KINDS:
        raise ConfigError(f"{describe_unknown(kind, KINDS, owner='MemberConfig', kind='kind')}; known: {_known()}")
    module, _, name = KINDS[kind].partition(":")
    try:
        return cast(Loadable, getattr(import_module(module), name))
    except ImportError as error:
        raise MissingDependencyError(
            f"members of kind {kind!r} need a package that cannot be imported: {error}: install it, or take another "
            f"kind ({_known()})"
        ) from error


def _known() -> str:
    return ", ".join(map(repr, sorted(KINDS)))
