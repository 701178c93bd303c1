"""The thread that asks sidecars: one event loop with at most `schedule.PLACES` requests."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from embedding_operator import errors
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.sidecars import config_request
from embedding_operator.sidecars.nudges import Nudger
from embedding_operator.sidecars.schedule import Item
from embedding_operator.sidecars.targets import Seen, Target
from embedding_operator.sidecars.watchlist import Question, Watchlist
from embedding_operator.status import config_in_force

_LOG = logging.getLogger(__name__)
_FAILED: Final = errors.Problem(
    config_in_force.NO_ANSWER, "could not be asked: see the operator's log"
)


class Prober:
    """Asks the sidecars of all policies, until it is closed.

    `changed` gets a policy with news, and the seconds after which to reconcile it; `asked` gets
    "ok" or the reason of each failed request.
    """

    def __init__(
        self,
        *,
        asks: config_request.Client,
        nudge: Callable[[str, str, str], None],
        changed: Callable[[ObjectKey, float], None],
        asked: Callable[[str], None],
        period_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asks = asks
        self._asked = asked
        self._nudger = Nudger(nudge=nudge, nudged=self._was_nudged, clock=clock)
        self._watchlist = Watchlist(
            nudges=self._nudger, changed=changed, period_seconds=period_seconds, clock=clock
        )
        self._thread = threading.Thread(target=self._run, name="sidecars", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_lock = threading.Lock()
        self._wake = asyncio.Event()
        self._closed = False

    def start(self) -> None:
        """Start the threads."""
        self._nudger.start()
        self._thread.start()

    def close(self) -> None:
        """End, after the requests in progress."""
        self._closed = True
        self._nudger.close()
        self._look_at_once()
        if self._thread.ident is not None:
            self._thread.join()

    def has_ended(self) -> bool:
        """True if the thread was started and runs no more."""
        return self._thread.ident is not None and not self._thread.is_alive()

    def watch(self, policy: ObjectKey, target: Target) -> None:
        """Set all pods of a policy with a running sidecar, and what they should have in force."""
        if self._watchlist.watch(policy, target):
            self._look_at_once()

    def seen(self, policy: ObjectKey) -> Seen:
        """The last answers of a policy's sidecars; sends no request."""
        return self._watchlist.seen(policy)

    def forget(self, policy: ObjectKey) -> None:
        """A policy has gone."""
        self._watchlist.forget(policy)

    def _was_nudged(self, item: Item) -> None:
        self._watchlist.nudged(item)
        self._look_at_once()

    def _look_at_once(self) -> None:
        with self._loop_lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._wake.set)

    # --- in the thread

    def _run(self) -> None:
        asyncio.run(self._ask_all())

    async def _ask_all(self) -> None:
        with self._loop_lock:
            self._loop = asyncio.get_running_loop()
        try:
            await self._ask_until_closed()
        finally:
            with self._loop_lock:
                self._loop = None

    async def _ask_until_closed(self) -> None:
        async with asyncio.TaskGroup() as under_way:
            while not self._closed:
                self._wake.clear()
                while (question := self._watchlist.take()) is not None:
                    under_way.create_task(self._ask(question))
                wait_seconds = self._watchlist.next_seconds()
                try:
                    async with asyncio.timeout(wait_seconds):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _ask(self, question: Question) -> None:
        ask = self._ask_for_quota if question.is_of_quota else self._ask_in_force
        await ask(question)
        self._wake.set()  # a place is free

    async def _ask_in_force(self, question: Question) -> None:
        try:
            outcome = await self._asks.in_force(question.pod, token=question.token)
        except Exception:  # noqa: BLE001 - a bug with one answer must not end the thread
            _LOG.exception("asking %s/%s failed", question.pod.namespace, question.pod.name)
            outcome = _FAILED
        self._asked(outcome.reason if isinstance(outcome, errors.Problem) else "ok")
        self._watchlist.answered(question, outcome)

    async def _ask_for_quota(self, question: Question) -> None:
        try:
            quota = await self._asks.quota(question.pod, token=question.token)
        except Exception:  # noqa: BLE001 - as above
            _LOG.exception("asking %s/%s failed", question.pod.namespace, question.pod.name)
            quota = None
        self._watchlist.told_quota(question, quota)
