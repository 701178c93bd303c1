"""A check just before a write is sent: on the connection, after every wait for one.

Between the check and the last byte of the request no other write passes the check. So a process
that is stopped there (SIGSTOP, a paused machine) and goes on later sends that request and no other.
"""

import threading
from collections.abc import Callable
from typing import Any, Final

import urllib3

_READS: Final = frozenset({"GET", "HEAD"})

Check = Callable[[], None]
"""Raises an error of ours if writes are not allowed now."""


def put_before(manager: urllib3.PoolManager, check: Check) -> None:
    """Have every write by this manager's connections checked; before its first request."""
    lock = threading.Lock()
    manager.pool_classes_by_scheme = {
        scheme: _fenced_pool(pool, check, lock)
        for scheme, pool in manager.pool_classes_by_scheme.items()
    }


def _fenced_pool(pool: Any, check: Check, lock: threading.Lock) -> Any:
    connection: Any = pool.ConnectionCls

    def request(self: Any, method: str, *arguments: Any, **named: Any) -> None:
        if method.upper() in _READS:
            connection.request(self, method, *arguments, **named)
            return
        with lock:
            check()
            connection.request(self, method, *arguments, **named)

    fenced = type(f"Fenced{connection.__name__}", (connection,), {"request": request})
    return type(f"Fenced{pool.__name__}", (pool,), {"ConnectionCls": fenced})
