"""The models that a server offers: the ensemble, and each member alone under its name."""

from __future__ import annotations

import logging
from typing import final

from deepen_llm.config import EnsembleConfig
from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import ConfigError, quote
from deepen_llm.members.base import Member
from deepen_llm.members.borrowed import BorrowedMember
from deepen_llm.server.refusals import RefusedError

logger = logging.getLogger(__name__)


@final
class ServedModels:
    """Finds what a request asks for. Members alone step in turn with the ensemble: the models are loaded once."""

    def __init__(self, ensemble: Ensemble, name: str) -> None:
        """Offer an ensemble by this name. It stays its owner's; what is made here ends with `close`.

        Raises:
            ConfigError: A member has that name.
        """
        if name in ensemble.member_names and len(ensemble.members) > 1:
            raise ConfigError(f"the ensemble must have a name of its own; got {name!r}, which a member has: set `name`")
        self.ensemble, self.name = ensemble, name
        self._by_name = {name: ensemble}
        if len(ensemble.members) > 1:
            for member, config in zip(ensemble.members, ensemble.config.members, strict=True):
                kept_bytes = ensemble.config.prefix_cache_bytes // len(ensemble.members)
                alone = ensemble.config.replace(members=(config,), weights=None, main=0, prefix_cache_bytes=kept_bytes)
                self._offer(member, alone)

    def _offer(self, member: Member, config: EnsembleConfig) -> None:
        """Add a member alone, where it can speak for itself."""
        try:
            self._by_name[member.name] = Ensemble([BorrowedMember(member)], config, turns=self.ensemble.turns)
        except ConfigError as error:
            logger.info("member %r is not offered alone: %s", member.name, error)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that can be asked for, the ensemble first."""
        return tuple(self._by_name)

    @property
    def num_running(self) -> int:
        """Sequences that run or wait in all of them."""
        return sum(ensemble.num_running for ensemble in self._by_name.values())

    def find(self, name: str | None) -> Ensemble:
        """The model of a name; the ensemble where none is given.

        Raises:
            RefusedError: There is no such model (status 404).
        """
        if name is None:
            return self.ensemble
        if name not in self._by_name:
            raise RefusedError(
                f"there is no model {quote(name)}: ask for one of {', '.join(map(repr, self.names))}",
                status=404,
                param="model",
                code="model_not_found",
            )
        return self._by_name[name]

    def close(self) -> None:
        """End what was made here; the ensemble itself goes on."""
        for ensemble in self._by_name.values():
            if ensemble is not self.ensemble:
                ensemble.close()
