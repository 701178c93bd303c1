"""Split a watch into lines, with bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from embedding_operator.informers.fifo_lock import FifoLock

SMALL_BYTES: Final = 65_536
"""A reader may buffer this at any time. It takes `lock` to buffer more, so that the memory of all
watches and lists together is that of one."""


def split(
    pieces: Iterable[bytes],
    *,
    most_bytes: int,
    lock: FifoLock,
    holding: Callable[[bool], None] = lambda _: None,
) -> Iterator[bytearray | None]:
    """The non-empty lines, without their newlines.

    None stands for a line of more than `most_bytes`, which is dropped. The rest after the last
    newline was cut off by the end of the connection and is dropped too. `holding` is called when
    `lock` is taken and released: meanwhile other readers wait.
    """
    held = bytearray()
    skipping, has_lock = False, False
    try:
        for piece in pieces:
            start = 0
            while start < len(piece):
                end = piece.find(b"\n", start)
                part = piece[start : len(piece) if end < 0 else end]
                start += len(part) + 1
                if not skipping and len(held) + len(part) > most_bytes:
                    held, skipping = bytearray(), True
                    yield None
                if not skipping:
                    if not has_lock and len(held) + len(part) > SMALL_BYTES:
                        lock.acquire()
                        has_lock = True
                        holding(has_lock)
                    held += part
                if end < 0:
                    break
                if held:
                    yield held
                # A new buffer: the caller may still use the line.
                held, skipping = bytearray(), False
                if has_lock:
                    lock.release()
                    has_lock = False
                    holding(has_lock)
    finally:
        if has_lock:
            lock.release()
