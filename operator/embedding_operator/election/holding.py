"""The right to reconcile: by the Lease, or always where there is no election."""

import threading
from collections.abc import Callable

from embedding_operator.election.lease import Lease, Objects, identity


class Holding:
    """Without `elect` the right is always held."""

    def __init__(self) -> None:
        self._lease: Lease | None = None

    def elect(
        self,
        *,
        objects: Objects,
        namespace: str,
        gained: Callable[[], None],
        lost: Callable[[str], None],
    ) -> None:
        """Hold the right by a Lease only, with the arguments of `Lease`; before `run`."""
        self._lease = Lease(
            objects=objects, namespace=namespace, identity=identity(), gained=gained, lost=lost
        )

    @property
    def is_held(self) -> bool:
        """True while this replica may reconcile."""
        return self._lease is None or self._lease.is_held

    def waits(self) -> str | None:
        """The reason why this replica is not ready, if the election is one."""
        return None if self._lease is None else self._lease.waits()

    def check(self) -> None:
        """Allow a write, just before it is sent.

        Raises:
            errors.NotHolder: the Lease is not held, or its renewal is overdue.
        """
        if self._lease is not None:
            self._lease.check()

    def run(self, stopping: threading.Event) -> None:
        """Take part in the election until stopped."""
        if self._lease is not None:
            self._lease.run(stopping)

    def release(self) -> None:
        """Give the right back, once all work has ended."""
        if self._lease is not None:
            self._lease.release()
