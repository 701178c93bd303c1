"""The current policy: one reference, swapped when a new document was loaded and can be used."""

import asyncio
import logging
from typing import Final

from embedding_contract import names
from embedding_sidecar import errors
from embedding_sidecar.policy import policy_file
from embedding_sidecar.policy.runtime import Runtime, RuntimeFactory

POLL_SECONDS: Final = 0.25
GENERATIONS_SECONDS: Final = 1.0
"""Other pods obey a cleared cache within 2 s: one poll, and time for a slow Redis."""
QUOTA_SECONDS: Final = 30.0
"""Interval of reading the policy's day, so that a scrape of a sidecar without calls shows it. The
scrape itself does not read it: it needs no token, and reading is a write in Redis."""

_log = logging.getLogger(__name__)


class Fixed:
    """A policy that does not change, the environment's: with policy_file.Follower's methods."""

    missing: str | None = None
    rejected: str | None = None

    def __init__(self, loaded: policy_file.Loaded) -> None:
        self._loaded = loaded
        self._next: policy_file.Loaded | None = loaded

    def poll(self) -> policy_file.Loaded | None:
        """The policy, once."""
        found, self._next = self._next, None
        return found

    def secret(self, name: str) -> str:
        """A secret's value; empty for none."""
        return self._loaded.secrets.get(name, "")


Source = policy_file.Follower | Fixed


class CurrentPolicy:
    """Follows a source, and holds the runtime of the last good policy."""

    def __init__(self, *, source: Source, factory: RuntimeFactory) -> None:
        self.source = source
        self._factory = factory
        self._runtime: Runtime | None = None
        self._told: str | None = None

    def runtime(self) -> Runtime:
        """The runtime. Raises errors.Unavailable while there is none, with the reason."""
        if self._runtime is None:
            reason = self.source.rejected or self.source.missing
            raise errors.Unavailable(
                f"This sidecar has no policy yet: {reason}.", code="policy_not_loaded"
            )
        return self._runtime

    def runtime_or_none(self) -> Runtime | None:
        """The runtime, or None while there is none."""
        return self._runtime

    def api_token(self) -> str:
        """The token of the management pages; empty if none is configured."""
        return self.source.secret(names.SECRET_API_TOKEN)

    async def look(self) -> None:
        """Take over a new policy, if there is one."""
        loaded = self.source.poll()
        problem = self.source.rejected or self.source.missing
        if problem is not None and problem != self._told:
            _log.warning("%s", problem)
        self._told = problem
        if loaded is None:
            return
        await self._factory.prepare(loaded)
        new = self._factory.make(loaded)
        # Otherwise the first entries would be kept under keys that no request looks up later.
        await new.cache.refresh()
        self._runtime = new
        level = logging.getLevelNamesMapping().get(loaded.document.log_level.upper(), logging.INFO)
        logging.getLogger("embedding_sidecar").setLevel(level)
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
        """Follow other pods that clear the cache, until cancelled."""
        while True:
            if self._runtime is not None:
                await self._runtime.cache.refresh()
            await asyncio.sleep(GENERATIONS_SECONDS)

    async def follow_quota(self) -> None:
        """Read the calls of other pods, until cancelled."""
        asked, due = None, 0.0
        while True:
            runtime, now = self._runtime, asyncio.get_running_loop().time()
            if runtime is not None and (runtime.quota is not asked or now >= due):
                asked, due = runtime.quota, now + QUOTA_SECONDS
                try:
                    await runtime.quota.state()
                except Exception:  # noqa: BLE001 - no answer of a Redis may end the sidecar
                    _log.warning("quota: the calls of other pods are unknown", exc_info=True)
            await asyncio.sleep(POLL_SECONDS)
