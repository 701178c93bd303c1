"""The rest that kopf does besides admission: it answers the probe, and writes nothing."""

from typing import Any, Final, Protocol

import kopf

SERVER_SECONDS: Final = 300


class DeafError(kopf.PermanentError):
    """A watch has ended and nothing would bring it back; the process should be restarted.

    Permanent, so that the probe says so at once: for other errors kopf lets it wait a minute.
    """


class Watches(Protocol):
    """Knows whether all that must be watched is."""

    def deaf(self) -> str | None:
        """The kind whose watch has ended or is stuck."""
        ...

    def watching(self) -> int:
        """How many watches run."""
        ...


def registry(watches: Watches) -> kopf.OperatorRegistry:
    """All handlers, in a registry of their own."""
    made = kopf.OperatorRegistry()

    async def watches_live(**_: Any) -> int:
        return watching(watches)

    kopf.on.login(registry=made)(kopf.login_via_client)
    kopf.on.probe(id="watches", registry=made)(watches_live)
    return made


def settings() -> kopf.OperatorSettings:
    """How kopf runs: alone, and silent in the cluster. It watches definitions of resources only."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.peering.standalone = True
    made.watching.server_timeout = SERVER_SECONDS
    made.watching.client_timeout = SERVER_SECONDS + 10
    made.watching.connect_timeout = 10
    return made


def watching(watches: Watches) -> int:
    """How many watches run.

    Raises:
        DeafError: one of them has ended or is stuck; an operator that hears nothing looks alive.
    """
    lost = watches.deaf()
    if lost is not None:
        raise DeafError(f"nothing watches {lost}")
    return watches.watching()
