"""Access tokens in force: each is renewed at half its life, by one task, and kept while valid.

Sources: azure-identity 1.27.0 (a renewal may fail while the old token is good, and is not tried
twice in 30 s); github.com/Azure/azure-workload-identity, docs: the file is read anew each time, as
kubelet replaces it (AADSTS700024 comes from an old one).
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from embedding_contract import document, provider_terms
from embedding_sidecar import errors
from embedding_sidecar.identity import entra
from embedding_sidecar.translation import provider_api

EXCHANGE_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 30.0
"""A token that a provider refuses is not replaced again within this time."""
FIRST_BACKOFF_SECONDS: Final = 1.0
MOST_BACKOFF_SECONDS: Final = 60.0
LEAST_LIFE_SECONDS: Final = 2.0
"""A shorter life counts as so long, or the renewals would follow each other at once."""
MAX_BYTES: Final = 65_536
"""A longer file is no token."""

_log = logging.getLogger(__name__)


class TokenSource:
    """The token of one identity. `problem` is the last exchange's failure; None after a success.

    `upstream` is in force for the next exchange.
    """

    def __init__(
        self,
        identity: provider_terms.Identity,
        *,
        file: Path,
        upstream: provider_api.Upstream,
        wall_clock: Callable[[], float] = time.time,
        share: Callable[[], float] = random.random,
    ) -> None:
        self._identity = identity
        self._file = file
        self.upstream = upstream
        self.problem: errors.ProviderFailed | None = None
        self._loop = asyncio.get_running_loop()
        self._wall_clock = wall_clock
        self._share = share
        self._token: entra.AccessToken | None = None
        self._expires_at = float("-inf")
        self._began_at = float("-inf")
        self._asked = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._task = self._loop.create_task(self._follow())

    @property
    def token(self) -> str | None:
        """The token; None while there is none that is valid."""
        if self._token is None or self._loop.time() >= self._expires_at:
            return None
        return self._token.value

    @property
    def word(self) -> str | None:
        """The problem in one word, with Entra's code, also while the old token is still valid."""
        if self.problem is None:
            return None
        return "_".join(filter(None, (self.problem.reason, self.problem.words.lower())))

    async def obstacle(self, *, within_seconds: float) -> errors.ProviderFailed | None:
        """The reason why there is no token; None as soon as there is one.

        An exchange that is under way is waited for, unless the one before it failed.
        """
        if self.token is None and self.problem is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_seconds):
                    await self._next()
        if self.token is not None:
            return None
        return self.problem or entra.unreachable()

    def renew(self, refused: str, *, done: Callable[[], None]) -> Callable[[], object]:
        """Replace a token that a provider refuses; `done` is called later, once, whatever came.

        The returned callback cancels that.
        """
        is_due = self.token == refused and self._loop.time() - self._began_at >= AGAIN_SECONDS
        if not is_due or self._task.done():
            return self._loop.call_soon(done).cancel
        self._asked.set()
        over = self._next()
        over.add_done_callback(lambda it: None if it.cancelled() else done())
        return over.cancel

    async def close(self) -> None:
        """End the renewals; the token stays, and nobody waits for another one."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._wake()

    def _next(self) -> "asyncio.Future[None]":
        """The end of the exchange that is under way or begins next."""
        over: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(over)
        return over

    async def _follow(self) -> None:
        failed = 0
        while True:
            self._asked.clear()
            self._began_at = self._loop.time()
            try:
                token = await self._exchange()
            except Exception as fault:  # noqa: BLE001 - whatever it is, calls wait for a token
                problem = self._problem_of(fault)
                wait = min(FIRST_BACKOFF_SECONDS * 2**failed, MOST_BACKOFF_SECONDS)
                failed = min(failed + 1, 10)
                # Between half and all of it, so that pods that failed together do not retry so.
                wait = max(wait * (1 + self._share()) / 2, problem.retry_after_seconds or 0.0)
                wait = min(wait, MOST_BACKOFF_SECONDS)
                self._fail(problem)
            else:
                failed = 0
                wait = max(token.seconds, LEAST_LIFE_SECONDS) / 2
                if self.problem is not None:
                    _log.info("client %s has an access token again", self._identity.client_id)
                self._token, self.problem = token, None
                self._expires_at = self._loop.time() + token.seconds
            self._wake()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._asked.wait()

    def _problem_of(self, fault: Exception) -> errors.ProviderFailed:
        if isinstance(fault, errors.ProviderFailed):
            return fault
        self._loop.call_exception_handler(
            {"message": "an access token could not be asked for", "exception": fault}
        )
        return entra.unreachable()

    def _fail(self, problem: errors.ProviderFailed) -> None:
        before, self.problem = self.word, problem.as_value()
        if self.word != before:
            _log.warning(
                "no access token for client %s of tenant %s: %s",
                self._identity.client_id,
                self._identity.tenant_id,
                self.word,
            )

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for over in waiting:
            if not over.done():
                over.set_result(None)

    async def _exchange(self) -> entra.AccessToken:
        """Exchange the ServiceAccount token. Raises errors.ProviderFailed."""
        assertion = self._assertion()
        came: asyncio.Future[provider_api.HttpAnswer | Exception] = self._loop.create_future()

        def done(said: provider_api.HttpAnswer | Exception) -> None:
            if not came.done():
                came.set_result(said)

        cancel = self.upstream.start(
            entra.request(self._identity, assertion), within_seconds=EXCHANGE_SECONDS, done=done
        )
        try:
            said = await came
        except asyncio.CancelledError:
            cancel()
            raise
        if isinstance(said, provider_api.HttpAnswer):
            return entra.read(said, now=self._wall_clock())
        if isinstance(said, errors.ProviderFailed):
            raise entra.unreachable()
        raise said

    def _assertion(self) -> str:
        try:
            with self._file.open("rb") as opened:
                written = opened.read(MAX_BYTES + 1)
            assertion = written.decode("ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise errors.ConfigurationError(entra.MISSING) from None
        if not assertion or len(written) > MAX_BYTES:
            raise errors.ConfigurationError(entra.MISSING)
        return assertion


class AccessTokens:
    """The sources of the policy in force; those of equal identities outlive an edit."""

    def __init__(self, *, file: Path) -> None:
        self._file = file
        self._sources: dict[provider_terms.Identity, TokenSource] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def follow(
        self, policy: document.PolicyDocument, *, upstream: provider_api.Upstream
    ) -> Mapping[str, TokenSource]:
        """The sources by name of the provider, of those that an identity calls."""
        wanted = {it.name: it.identity for it in policy.providers if it.identity is not None}
        for identity in self._sources.keys() - set(wanted.values()):
            task = asyncio.get_running_loop().create_task(self._sources.pop(identity).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        found = {}
        for name, identity in wanted.items():
            source = self._sources.get(identity)
            if source is None:
                source = TokenSource(identity, file=self._file, upstream=upstream)
                self._sources[identity] = source
            source.upstream = upstream
            found[name] = source
        return found

    async def close(self) -> None:
        """End all renewals."""
        ending = [it.close() for it in self._sources.values()]
        await asyncio.gather(*ending, *self._closing, return_exceptions=True)
