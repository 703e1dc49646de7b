"""One member's actor in the cluster: started where there is room, asked within a time, and stopped."""

from __future__ import annotations

from typing import Any, final

from deepen_llm.errors import ConfigError, MemberError, MemberTimeoutError, quote
from deepen_llm.members.ray.actor import MemberActor
from deepen_llm.members.ray.cluster import Connection, show_resources
from deepen_llm.members.ray.settings import RayConfig


class ActorLostError(MemberError):
    """The actor, or the machine that it ran on, is gone. It never leaves this folder."""


class ActorLateError(MemberTimeoutError):
    """The actor did not answer in time; a time limit of the member that it holds is something else."""


@final
class ActorHost:
    """Starts an actor as the settings say, and one more after that one died."""

    def __init__(self, config: RayConfig, name: str, connection: Connection) -> None:
        """Nothing is started yet."""
        self._config, self._name, self._connection = config, name, connection
        self._ray = connection.ray
        self._actor: Any = None
        self._place = ""

    @property
    def is_running(self) -> bool:
        """Whether there is an actor, as far as is known."""
        return self._actor is not None

    def start(self) -> None:
        """Start an actor, and load the model there.

        Raises:
            ActorLateError: Loading takes too long.
            ActorLostError: It died meanwhile.
            ConfigError: No such placement group, or settings that Ray refuses.
            MemberError: The cluster has no room, or the model cannot be loaded there.
        """
        self._actor = self._make()
        try:
            self._place = self._wait_for_room()
            self.ask("load", timeout_s=self._config.load_timeout_s)
        except BaseException:
            self.stop()
            raise

    def send(self, method: str, *arguments: object) -> Any:
        """Ask the actor, which answers when all before it is done; what comes back is for `wait`."""
        return getattr(self._actor, method).remote(*arguments)

    def wait(self, reference: Any, timeout_s: float) -> Any:
        """The answer.

        Raises:
            ActorLateError: It takes longer.
            ActorLostError: The actor died.
            Exception: What the member raised there.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference, timeout=timeout_s)
        except errors.GetTimeoutError as error:
            raise ActorLateError(
                f"the actor of member {quote(self._name)} on {self._place or 'the cluster'} did not answer within "
                f"{timeout_s:g} s"
            ) from error
        except errors.RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, Exception) else MemberError(str(error)) from error
        except errors.RaySystemError as error:  # what came cannot be unpacked here
            raise MemberError(f"what the actor of member {quote(self._name)} tells cannot be read: {error}") from error
        except errors.RayError as error:
            place = f" on {self._place}" if self._place else ""
            raise ActorLostError(f"the actor of member {quote(self._name)}{place} died: {_shorten(error)}") from error

    def ask(self, method: str, *arguments: object, timeout_s: float) -> Any:
        """`send` and `wait`."""
        return self.wait(self.send(method, *arguments), timeout_s)

    def stop(self) -> None:
        """End the actor, if there is one, and with it all that was asked of it."""
        actor, self._actor = self._actor, None
        if actor is not None and self._ray.is_initialized():
            self._ray.kill(actor)

    def _make(self) -> Any:
        """An actor, which starts when there is room for it."""
        held = self._config.held.replace(name=self._name)
        options = self._list_options()
        try:
            return self._ray.remote(MemberActor).options(**options).remote(held, self._config.top)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"Ray refuses what the actor of member {quote(self._name)} is to be, with {self._needed}: {error}"
            ) from error

    @property
    def _needed(self) -> str:
        """What the actor needs, in words."""
        config = self._config
        asked = {"CPU": config.num_cpus, "GPU": config.num_gpus, **config.resources}
        return show_resources({name: number for name, number in asked.items() if number})

    def _wait_for_room(self) -> str:
        config = self._config
        try:
            place: str = self.ask("find_place", timeout_s=config.room_timeout_s)
        except ActorLateError as error:
            raise MemberError(
                f"member {quote(self._name)} asked the Ray cluster for an actor with {self._needed} on one node, and "
                f"got no room within {config.room_timeout_s:g} s; {self._connection.describe_room()}: ask for less "
                "(num_cpus, num_gpus, resources), end what holds the rest, or add a node"
            ) from error
        return place

    def _list_options(self) -> dict[str, Any]:
        config = self._config
        options: dict[str, Any] = {
            "num_cpus": config.num_cpus,
            "num_gpus": config.num_gpus,
            "resources": config.resources,
            "max_restarts": 0,  # another one has to be fed, which Ray cannot know
        }
        if config.placement_group is not None:
            options["scheduling_strategy"] = self._find_group(config.placement_group)
        return options

    def _find_group(self, group: str) -> Any:
        from ray.util import get_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        try:
            found = get_placement_group(group)
        except ValueError as error:
            raise ConfigError(
                f"placement_group of member {quote(self._name)} must be the name of a placement group of the cluster "
                f"and of this namespace; got {quote(group)}: make it first (ray.util.placement_group(name=...))"
            ) from error
        return PlacementGroupSchedulingStrategy(found, self._config.bundle)


def _shorten(error: Exception) -> str:
    """What Ray says of the death of an actor, without its list of numbers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
