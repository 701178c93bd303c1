"""The policy in force: one reference, swapped when something new was loaded and can be used."""

import asyncio
import logging
from typing import Final, Protocol

from embedding_contract import names
from embedding_sidecar import errors, policy_file
from embedding_sidecar.runtime import Runtime, Workshop

POLL_SECONDS: Final = 0.25
GENERATIONS_SECONDS: Final = 1.0
"""The others obey a cleared cache within 2 s: one poll, and time for a slow Redis."""
QUOTA_SECONDS: Final = 30.0
"""How often the day of the policy is asked for, so that a scrape of a sidecar that makes no calls
shows it too. A scrape itself asks nobody: it needs no token, and asking is a write in Redis."""

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Where policies come from."""

    missing: str | None
    rejected: str | None

    def poll(self) -> policy_file.Loaded | None:
        """What is new since the last time; None where nothing is."""
        ...

    def secret(self, name: str) -> str:
        """A secret's value as last seen, whether or not there is a document; empty for none."""
        ...


class Fixed:
    """A policy that does not change: the environment's."""

    missing: str | None = None
    rejected: str | None = None

    def __init__(self, loaded: policy_file.Loaded) -> None:
        self._loaded = loaded
        self._told = False

    def poll(self) -> policy_file.Loaded | None:
        """The policy, once."""
        if self._told:
            return None
        self._told = True
        return self._loaded

    def secret(self, name: str) -> str:
        """A secret's value; empty for none."""
        return self._loaded.secrets.get(name, "")


class InForce:
    """Follows a source, and holds the runtime of the last good policy."""

    def __init__(self, *, source: Source, workshop: Workshop) -> None:
        self._source = source
        self._workshop = workshop
        self._runtime: Runtime | None = None
        self._told: str | None = None

    def runtime(self) -> Runtime:
        """The runtime.

        Raises:
            errors.Unavailable: there is none yet; the message says why.
        """
        if self._runtime is None:
            reason = self._source.rejected or self._source.missing
            raise errors.Unavailable(
                f"This sidecar has no policy to obey: {reason}.", code="policy_not_loaded"
            )
        return self._runtime

    def runtime_or_none(self) -> Runtime | None:
        """The runtime, or None while there is none."""
        return self._runtime

    def api_token(self) -> str:
        """The token of the management pages; empty where none is configured."""
        return self._source.secret(names.SECRET_API_TOKEN)

    @property
    def rejected(self) -> str | None:
        """Why the newest document is not in force; None when it is."""
        return self._source.rejected

    async def look(self) -> None:
        """Obey what is new."""
        loaded = self._source.poll()
        problem = self._source.rejected or self._source.missing
        if problem is not None and problem != self._told:
            _log.warning("%s", problem)
        self._told = problem
        if loaded is None:
            return
        new = self._workshop.make(loaded)
        # Else what is asked in the first moments would be kept under keys nobody looks for later.
        await new.cache.refresh()
        self._runtime = new
        logging.getLogger("embedding_sidecar").setLevel(_level(loaded.document.log_level))
        _log.info(
            "policy %s is in force: document %s, secrets %s",
            loaded.document.scope,
            loaded.document_fingerprint,
            loaded.secrets_fingerprint,
        )

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.look()

    async def follow_generations(self) -> None:
        """Obey caches that other pods have cleared, until cancelled."""
        while True:
            if self._runtime is not None:
                await self._runtime.cache.refresh()
            await asyncio.sleep(GENERATIONS_SECONDS)

    async def follow_quota(self) -> None:
        """Learn what other pods have spent, until cancelled."""
        asked, due = None, 0.0
        while True:
            runtime, now = self._runtime, asyncio.get_running_loop().time()
            if runtime is not None and (runtime.quota is not asked or now >= due):
                asked, due = runtime.quota, now + QUOTA_SECONDS
                try:
                    await runtime.quota.state()
                except Exception:  # noqa: BLE001 - what a Redis says must not end the sidecar
                    _log.warning("quota: what other pods have spent is unknown", exc_info=True)
            await asyncio.sleep(POLL_SECONDS)


def _level(word: str) -> int:
    return logging.getLevelNamesMapping().get(word.upper(), logging.INFO)
