"""List and watch one source for ever, like client-go's reflector."""

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
from embedding_operator.kube.bodies import STREAM_TIMED_OUT

_LOG = logging.getLogger(__name__)

SERVER_SECONDS: Final = 300
"""The requested duration of a stream."""
SILENT_SECONDS: Final = 75.0
"""A stream without a line for so long is ended, and the kind is listed again. The heartbeat is the
API server's: a bookmark a minute, which not each API server sends of a kind that does not change.
"""
SILENT_STREAMS: Final = 2
"""After so many silent streams in a row that missed a change the process ends: what it has at fault
may not outlive it."""
DEAF_SECONDS: Final = 2 * SERVER_SECONDS + 60
"""The longest time between two moves of a reflector: a page of a list, a line, or the end of a
stream. One that has not moved for longer is stuck."""
UNHEARD_SECONDS: Final = 60.0
"""After this time without a stream, changes of the kind count as unheard."""
_FIRST_BACKOFF_SECONDS: Final = 0.5
_LAST_BACKOFF_SECONDS: Final = 10.0
_NOT_SERVED_SECONDS: Final = 30.0
WORTH_A_WARNING: Final = 3
"""Failures in a row: a single one, such as an expired version, is usual."""
_STEADY_SECONDS: Final = 5.0
"""A stream that lasted this long resets the backoff."""
NOT_SERVED: Final = "NotServed"
"""The reason by which `relist` reports that the kind is not served; retried later."""
BOOKMARK: Final = "BOOKMARK"
ERROR: Final = "ERROR"


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_EVENT_DECODER: Final = msgspec.json.Decoder(_Event)


class _Status(msgspec.Struct):
    code: int = 0
    reason: str = ""


_STATUS_DECODER: Final = msgspec.json.Decoder(_Status)


class Reflector:
    """Follows a source of the API server, of one namespace or of all, in a thread of its own.

    `opening` is called before each stream. `relist` reads all objects, calls its argument after
    each page, and returns the version of the list. `told` gets the events after it. `skipped`
    counts events that were too large or could not be decoded. `changes` counts what lists and
    streams have brought. `deaf` gets the name when its streams have been silent, one after the
    other, about changes that the lists after them brought.
    """

    def __init__(
        self,
        source: pages.Source,
        *,
        stream: pages.Stream,
        relist: Callable[[Callable[[], None]], str],
        told: Callable[[str, msgspec.Raw], None],
        skipped: Callable[[int], None],
        lock: FifoLock,
        most_bytes: int = pages.MOST_BYTES,
        opening: Callable[[], None] | None = None,
        changes: Callable[[], int] = lambda: 0,
        deaf: Callable[[str], None] = lambda _: None,
        namespace: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = source.name
        self._namespace = namespace
        self._source = source
        self._stream = stream
        self._opening = opening
        self._changes = changes
        self._deaf = deaf
        self._relist = relist
        self._told = told
        self._skipped = skipped
        self._lock = lock
        self._most_bytes = most_bytes
        self._clock = clock
        self._moved = clock()
        self._heard_at = clock()
        self._silent_streams = 0
        self._changes_at_silence: int | None = None
        self._version = ""
        self._has_skipped = False
        self._failures = 0
        self._failing_since: float | None = None

    def run(self, stopping: threading.Event) -> None:
        """List and watch until stopped."""
        while not stopping.is_set():
            self.rest()
            wait_seconds = self.step()
            if wait_seconds:
                stopping.wait(wait_seconds)

    def rest(self) -> None:
        """Note that it is not stuck, though nothing arrives."""
        self._moved = self._clock()

    def is_stuck(self) -> bool:
        """True if it has not moved for longer than any step can take."""
        return self._clock() - self._moved > DEAF_SECONDS

    def hears(self) -> bool:
        """False if the API server has refused streams, or not answered, for long.

        A restart would not help, unlike for `is_stuck`.
        """
        since = self._failing_since
        return since is None or self._clock() - since < UNHEARD_SECONDS

    def silent_seconds(self) -> float:
        """The time since the last line, or since a list showed that none was due."""
        return self._clock() - self._heard_at

    def step(self) -> float:
        """List if needed, and watch one stream to its end; the seconds to wait then."""
        started = self._clock()
        try:
            if self._opening is not None:
                self._opening()
            if not self._version:
                self._has_skipped = False
                self._version = self._relist(self.rest)
                self._judge_silence()
            self._hear()
        except errors.OperatorError as error:
            # Only without an answer can the watch go on from its version.
            if not (isinstance(error, errors.Unavailable) and error.reason == "APIServerAway"):
                self._version = ""
            if isinstance(error, errors.Unavailable) and error.reason == NOT_SERVED:
                self._failing_since = None
                self._heard_at = self._clock()  # there is nothing to hear
                return _NOT_SERVED_SECONDS
            self._fails()
            return self._backoff(started, str(error))
        except Exception:  # noqa: BLE001 - no bug may end a watch
            # One bad object must not stop the watch of the others.
            _LOG.exception("watching %s failed", self.name)
            self._version = ""
            self._fails()
            return self._backoff(started, "")
        if self._has_skipped:
            # A skipped object may have been deleted since.
            self._version = ""
        return self._backoff(started, "")

    def _hear(self) -> None:
        """Watch one stream to its end, and note if it has become silent."""
        try:
            self._watch()
        except errors.Unavailable as error:
            if error.reason == STREAM_TIMED_OUT:
                self._changes_at_silence = self._changes()
            raise

    def _judge_silence(self) -> None:
        """Count the silent stream before this list, if there was something to say."""
        before, self._changes_at_silence = self._changes_at_silence, None
        if before is None:
            return
        if self._changes() == before:
            self._heard_at = self._clock()  # there was nothing to say
            return
        self._silent_streams += 1
        if self._silent_streams >= SILENT_STREAMS:
            self._deaf(self.name)

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
        with self._stream(
            self._source.kind,
            self._namespace,
            query=query,
            accept=accept,
            read_seconds=SILENT_SECONDS,
        ) as body:
            self._failing_since = None

            def holding(is_held: bool) -> None:  # noqa: FBT001 - its only argument
                body.wait_at_most(pages.READ_SECONDS if is_held else SILENT_SECONDS)

            self._read(
                lines.split(body, most_bytes=self._most_bytes, lock=self._lock, holding=holding)
            )

    def _read(self, found: Iterable[bytearray | None]) -> None:
        for line in found:
            self._moved = self._heard_at = self._clock()
            self._silent_streams = 0
            if line is None:
                self._skip()
                continue
            try:
                event = _EVENT_DECODER.decode(line)
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
        """The error in a watch, such as 410 for an expired version."""
        status = _STATUS_DECODER.decode(raw)
        return errors.Unavailable(f"the watch ended with {status.code} {status.reason[:64]}")
