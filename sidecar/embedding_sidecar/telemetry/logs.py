"""Logs: one JSON object a line on stderr. They hold no input text and no secret."""

import json
import logging
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import Final

REPEATED_SECONDS: Final = 60.0
MAX_REMEMBERED: Final = 256
"""Messages that are remembered; at one more, all are forgotten."""


class Lines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Repeated:
    """The messages of the last minute: one is logged once, so that no lasting fault fills a log."""

    def __init__(self) -> None:
        self._said_at: dict[Hashable, float] = {}

    def is_news(self, thing: Hashable, *, now: float) -> bool:
        """True if this was not logged for REPEATED_SECONDS; then it counts as logged now."""
        before = self._said_at.get(thing)
        if before is not None and now - before < REPEATED_SECONDS:
            return False
        if len(self._said_at) >= MAX_REMEMBERED:
            self._said_at.clear()
        self._said_at[thing] = now
        return True


def configure() -> None:
    """Send all logs of the process to stderr as lines; our own from INFO, others from WARNING.

    Errors of clients are in their answers, not in the log: any client could fill it.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("embedding_sidecar").setLevel(logging.INFO)
