"""Requests at a steady rate, in step with a clock and not with their answers."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def paced(send: Callable[[T], R], items: Sequence[T], *, a_second: float, threads: int) -> list[R]:
    """The answers in order; late ones catch up, as many at once as there are threads."""
    began = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        sent = []
        for count, item in enumerate(items):
            time.sleep(max(0.0, began + count / a_second - time.monotonic()))
            sent.append(pool.submit(send, item))
        return [it.result() for it in sent]
