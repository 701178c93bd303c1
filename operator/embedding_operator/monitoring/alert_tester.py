"""Send test alerts: post one, wait until it is active and sent, and resolve it.

One at a time, as Alertmanager counts notifications by integration and not by alert.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, TypeVar

from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.monitoring import alert_test, alertmanager
from embedding_operator.monitoring.alert_test import Result
from embedding_operator.monitoring.alertmanager import Counts
from embedding_operator.monitoring.answers import NoAnswer
from embedding_operator.monitoring.connection import Connection

LIFE_SECONDS: Final = 600.0
"""A test alert ends after this time, if the operator cannot resolve it."""
ACTIVE_SECONDS: Final = 10.0
SENT_SECONDS: Final = 330.0
"""Longer than Alertmanager's default group_interval of 5 m, which applies to existing groups."""
LOOK_SECONDS: Final = 2.0
WAITING_LIMIT: Final = 64

Kinds = tuple[str, ...]
_ByHost = dict[str, dict[str, Counts]]
T = TypeVar("T")


class _Wanted(NamedTuple):
    key: ObjectKey
    labels: Mapping[str, str]


class AlertTester:
    """Test alerts of all policies; all methods but `run` and `test` are safe in any thread.

    `changed` gets each policy whose test has ended.
    """

    def __init__(
        self,
        *,
        alertmanagers: Sequence[Connection],
        changed: Callable[[ObjectKey], None],
        sent_seconds: float = SENT_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._alertmanagers = tuple(alertmanagers)
        self._changed = changed
        self._sent_seconds = sent_seconds
        self._look_seconds = look_seconds
        self._lock = threading.Lock()
        self._waiting: deque[_Wanted] = deque()
        self._running: set[ObjectKey] = set()
        self._ended: dict[ObjectKey, Result] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()

    def begin(self, key: ObjectKey, labels: Mapping[str, str]) -> None:
        """Test a policy after the tests before it."""
        with self._lock:
            if key in self._running:
                return
            if len(self._waiting) >= WAITING_LIMIT:
                message = (
                    f"{WAITING_LIMIT} tests are waiting already; set another value in 10 minutes."
                )
                self._ended[key] = Result(result="CannotAsk", message=message)
                return
            self._running.add(key)
            self._ended.pop(key, None)
            self._waiting.append(_Wanted(key, labels))
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._arrived.set)

    def is_running(self, key: ObjectKey) -> bool:
        """True if a test has begun and not ended."""
        with self._lock:
            return key in self._running

    def ended(self, key: ObjectKey) -> Result | None:
        """The result of the last test of a policy."""
        with self._lock:
            return self._ended.get(key)

    def forget(self, key: ObjectKey) -> None:
        """A policy has gone."""
        with self._lock:
            self._ended.pop(key, None)

    async def run(self) -> None:
        """Run the waiting tests, until cancelled."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._arrived.set()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while (wanted := self._next()) is not None:
                found = await self.test(wanted.labels)
                with self._lock:
                    self._running.discard(wanted.key)
                    self._ended[wanted.key] = found
                self._changed(wanted.key)

    def _next(self) -> _Wanted | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    async def test(self, labels: Mapping[str, str]) -> Result:
        """Send one test alert; its result. Bounded in time."""
        if not self._alertmanagers:
            return Result(
                result="NotConfigured",
                message="The chart value monitoring.alertmanager names no Alertmanager to ask.",
            )
        try:
            before = await self._counts()
            integrations = (await self._each(_integrations))[0]
            since = datetime.now(UTC)
            await self._post(labels, since=since, until=since + timedelta(seconds=LIFE_SECONDS))
            try:
                return await self._follow(labels, before, integrations)
            finally:
                with suppress(NoAnswer):  # then it ends after LIFE_SECONDS
                    await self._post(labels, since=since, until=datetime.now(UTC))
        except NoAnswer as failure:
            return Result(result="CannotAsk", message=f"{failure.message}.")

    async def _follow(
        self, labels: Mapping[str, str], before: _ByHost, integrations: Mapping[str, Kinds]
    ) -> Result:
        held = await self._held(labels)
        if held is None:
            message = "Alertmanager accepted the test alert but does not list it as active."
            return Result(result="NotActive", message=message)
        nobody = alert_test.unrouted(held, integrations)
        if nobody is not None:
            return nobody
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._sent_seconds
        while True:
            is_over = loop.time() >= deadline
            now = await self._counts()
            sent = alertmanager.added(
                [alertmanager.since(before.get(host, {}), of) for host, of in now.items()]
            )
            found = alert_test.delivered(held, integrations, sent, is_over=is_over)
            if found is not None:
                return found
            await asyncio.sleep(self._look_seconds)

    async def _held(self, labels: Mapping[str, str]) -> alertmanager.Held | None:
        """The alert in Alertmanager, once it is processed."""
        filters = [
            ("filter", f'{name}="{labels[name]}"')
            for name in ("alertname", "namespace", "policy", "test")
        ]

        async def ask(asks: Connection) -> alertmanager.Held | None:
            return await asks.read(alertmanager.ALERTS, alertmanager.held, parameters=filters)

        loop = asyncio.get_running_loop()
        deadline = loop.time() + ACTIVE_SECONDS
        while True:
            for found in await self._each(ask):
                if found is not None and found.state != "unprocessed":
                    return found
            if loop.time() >= deadline:
                return None
            await asyncio.sleep(min(0.5, self._look_seconds))

    async def _counts(self) -> _ByHost:
        return dict(await self._each(_counts))

    async def _post(self, labels: Mapping[str, str], *, since: datetime, until: datetime) -> None:
        body = [alert_test.alert(labels, since=since, until=until)]
        await self._each(lambda asks: asks.post(alertmanager.ALERTS, body))

    async def _each(self, ask: Callable[[Connection], Coroutine[None, None, T]]) -> list[T]:
        """The answers of the Alertmanagers, of at least one."""

        async def tried(asks: Connection) -> T | NoAnswer:
            try:
                return await ask(asks)
            except NoAnswer as failure:
                return failure

        answers = await asyncio.gather(*map(tried, self._alertmanagers))
        good = [it for it in answers if not isinstance(it, NoAnswer)]
        if not good:
            raise next(it for it in answers if isinstance(it, NoAnswer))
        return good


async def _counts(asks: Connection) -> tuple[str, dict[str, Counts]]:
    return asks.host, await asks.read(alertmanager.METRICS, alertmanager.counts)


async def _integrations(asks: Connection) -> dict[str, Kinds]:
    return await asks.read(alertmanager.STATUS, alertmanager.integrations)
