"""Watches of a test whose connection ends."""

import http.client
import threading
from pathlib import Path

import pytest

from tests.parts import arrivals, direct

ENDS = [None, OSError("ended"), http.client.IncompleteRead(b"")]


class Connection:
    """A connection to an API server that never sends an event."""

    def __init__(self, end):
        self._end = end
        self._cut = threading.Event()

    def lines(self, path):
        return self._wait()

    def cut(self):
        self._cut.set()

    def close(self):
        pass

    def _wait(self):
        self._cut.wait()
        if self._end is not None:
            raise self._end
        yield from ()


def watch_of(monkeypatch, connection):
    monkeypatch.setattr(direct, "Direct", lambda kubeconfig: connection)
    return arrivals.Arrivals(Path())


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_closed_watch_ends_silently(monkeypatch, end):
    watched = watch_of(monkeypatch, Connection(end))
    watched.close()
    assert watched.count() == 0


@pytest.mark.parametrize("end", ENDS[1:], ids=repr)
def test_watch_that_breaks_ends_loudly(monkeypatch, end):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda found: told.append(found.exc_value))
    connection = Connection(end)
    watched = watch_of(monkeypatch, connection)
    connection.cut()
    watched._thread.join()
    assert told == [end]
