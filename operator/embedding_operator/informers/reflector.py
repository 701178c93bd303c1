"""A list, and the watch that follows it, for ever: what client-go calls a reflector."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from embedding_operator import errors
from embedding_operator.informers import kept, lines, pages
from embedding_operator.informers.fifo_lock import FifoLock

_LOG = logging.getLogger(__name__)

SERVER_SECONDS: Final = 300
"""How long a stream is asked to last."""
STREAM_SECONDS: Final = SERVER_SECONDS + 10
"""A stream that says nothing for so long is given up."""
DEAF_SECONDS: Final = 2 * SERVER_SECONDS + 60
"""Nothing that a reflector does between two moves takes longer: a page of a list, a line or the end
of a stream. So one that has not moved for it is stuck."""
UNHEARD_SECONDS: Final = 60.0
"""A kind of which no stream could be had for so long is not heard of."""
_FIRST_BACKOFF_SECONDS: Final = 0.5
_LAST_BACKOFF_SECONDS: Final = 10.0
_NOT_SERVED_SECONDS: Final = 30.0
WORTH_A_WARNING: Final = 3
"""Failures in a row: a stream that is cut, or whose version has expired, is nothing unusual."""
_STEADY_SECONDS: Final = 5.0
"""A stream that lasted this long was none that fails at once."""
NOT_SERVED: Final = "NotServed"
"""The reason with which `relist` says that there is no such kind; it is asked again later."""
BOOKMARK: Final = "BOOKMARK"
ERROR: Final = "ERROR"


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct):
    code: int = 0
    reason: str = ""


class Reflector:
    """Keeps something in step with the API server, in a thread of its own.

    `opening` is called before each stream; `relist` reads all there is, calls what it is given with
    each page, and gives the version of all; `told` is given the events after it; `skipped` is told
    of each that could not be held or read.
    """

    def __init__(
        self,
        source: pages.Source,
        *,
        api: pages.Streams,
        relist: Callable[[Callable[[], None]], str],
        told: Callable[[str, msgspec.Raw], None],
        skipped: Callable[[int], None],
        turn: FifoLock,
        most_bytes: int = pages.MOST_BYTES,
        opening: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = source.name
        self._source = source
        self._api = api
        self._opening = opening
        self._relist = relist
        self._told = told
        self._skipped = skipped
        self._turn = turn
        self._most_bytes = most_bytes
        self._clock = clock
        self._moved = clock()
        self._version = ""
        self._has_skipped = False
        self._failures = 0
        self._failing_since: float | None = None

    def run(self, stopping: threading.Event) -> None:
        """List and watch until told to stop."""
        while not stopping.is_set():
            self.rest()
            wait_seconds = self.step()
            if wait_seconds:
                stopping.wait(wait_seconds)

    def rest(self) -> None:
        """Say that it has not got stuck, though nothing comes."""
        self._moved = self._clock()

    def is_stuck(self) -> bool:
        """True when it has not moved for longer than anything that it does can take."""
        return self._clock() - self._moved > DEAF_SECONDS

    def hears(self) -> bool:
        """False where streams have been refused, or nobody has answered, for long.

        A restart would not help, as it may where `is_stuck`.
        """
        since = self._failing_since
        return since is None or self._clock() - since < UNHEARD_SECONDS

    def step(self) -> float:
        """List if that is needed, and watch one stream to its end; the seconds to wait then."""
        started = self._clock()
        try:
            if self._opening is not None:
                self._opening()
            if not self._version:
                self._has_skipped = False
                self._version = self._relist(self.rest)
            self._watch()
        except errors.OperatorError as error:
            # Only where nobody answered does the watch go on from where it was.
            if not (isinstance(error, errors.Unavailable) and error.reason == "APIServerAway"):
                self._version = ""
            if isinstance(error, errors.Unavailable) and error.reason == NOT_SERVED:
                self._failing_since = None
                return _NOT_SERVED_SECONDS
            self._fails()
            return self._backoff(started, str(error))
        except Exception:  # noqa: BLE001 - no bug may end a watch
            # Whatever is wrong with one object, the others are watched.
            _LOG.exception("watching %s failed", self.name)
            self._version = ""
            self._fails()
            return self._backoff(started, "")
        if self._has_skipped:
            # An object that was passed over may have gone since.
            self._version = ""
        return self._backoff(started, "")

    def _fails(self) -> None:
        if self._failing_since is None:
            self._failing_since = self._clock()

    def _backoff(self, started: float, problem: str) -> float:
        if self._clock() - started >= _STEADY_SECONDS:
            self._failures = 0
        ceiling = min(_LAST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures, 8))
        if problem:
            level = logging.WARNING if self._failures >= WORTH_A_WARNING else logging.INFO
            _LOG.log(level, "watching %s: %s", self.name, problem)
        self._failures += 1
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    def _watch(self) -> None:
        query = self._source.query(
            watch="1",
            resourceVersion=self._version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(SERVER_SECONDS),
        )
        accept = pages.METADATA if self._source.metadata_only else pages.JSON
        with self._api.stream(
            self._source.kind,
            None,
            query=query,
            accept=accept,
            read_seconds=STREAM_SECONDS,
        ) as body:
            self._failing_since = None

            def holding(is_held: bool) -> None:  # noqa: FBT001 - the one thing that it is told
                body.wait_at_most(pages.READ_SECONDS if is_held else STREAM_SECONDS)

            self._read(
                lines.split(body, most_bytes=self._most_bytes, turn=self._turn, holding=holding)
            )

    def _read(self, found: Iterable[bytearray | None]) -> None:
        for line in found:
            self._moved = self._clock()
            if line is None:
                self._skip()
                continue
            try:
                event = msgspec.json.decode(line, type=_Event)
                if event.type == ERROR:
                    raise self._error(event.object)
                self._failures = 0
                self._version = kept.version(event.object) or self._version
                if event.type != BOOKMARK:
                    self._told(event.type, event.object)
            except msgspec.MsgspecError:
                self._skip()

    def _skip(self) -> None:
        self._has_skipped = True
        self._skipped(1)

    @staticmethod
    def _error(raw: msgspec.Raw) -> errors.Unavailable:
        """The error that a watch ends with, as 410 where its version is no longer kept."""
        status = msgspec.json.decode(raw, type=_Status)
        return errors.Unavailable(f"the watch ended with {status.code} {status.reason[:64]}")
