"""What a long command says on stderr while it works: what, how far, how long."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 30


@contextmanager
def step(what: str, *, number: int = 1, of: int = 1) -> Iterator[None]:
    """Announce ``[number/of] what``, then how long it took.

    A terminal sees the seconds run; a log file gets a line every half minute.
    """
    head = f"[{number}/{of}] {what}"
    start = time.monotonic()
    finished = threading.Event()
    ticker = threading.Thread(target=_tick, args=(head, start, finished), daemon=True)
    print(f"{head} …", end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
    ticker.start()
    outcome = "failed after"
    try:
        yield
        outcome = "…"
    finally:
        finished.set()
        ticker.join()
        took = time.monotonic() - start
        print(f"{head} {outcome} {took:.1f} s", file=sys.stderr, flush=True)


def _tick(head: str, start: float, finished: threading.Event) -> None:
    live = sys.stderr.isatty()
    while not finished.wait(1 if live else SECONDS_BETWEEN_LINES):
        took = round(time.monotonic() - start)
        print(f"{head} … {took} s", end="\r" if live else "\n", file=sys.stderr, flush=True)
