"""The Lease of coordination.k8s.io/v1 by which one replica reconciles and the others wait.

Not kopf's peering, in which replicas of equal priority all act or all pause (kopf#1266), and not
the Python client's leaderelection: its calls have no deadline, and it never gives a Lease back.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.election import decision
from embedding_operator.kube import deadline, kinds
from embedding_operator.kube.kinds import Kind, Object

_LOG = logging.getLogger(__name__)

CALL_SECONDS: Final = 4.0
"""The deadline of one call, so that a connection that hangs is given up while there is time for
another one."""
DENIED_SECONDS: Final = 10.0
"""A replica ends when it has been refused for so long: an API server that has just started refuses
everything until it has read the roles."""
RELEASED_SECONDS: Final = 1
"""The duration in a Lease that was given back, as client-go writes it."""

_NO_RIGHT: Final = (
    "leaderElection.enabled needs the right to get, create and update leases in {}, which the"
    " chart's Role grants; without it set replicas: 1 and leaderElection.enabled: false ({})"
)


class Objects(Protocol):
    """The calls of KubeClient that the Lease needs; these writes need no Lease."""

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """An object; None where there is none."""

    def create(self, kind: Kind, namespace: str | None, body: Object) -> Object:
        """Create an object; errors.Conflict where it exists."""

    def replace(self, kind: Kind, namespace: str | None, body: Object) -> Object:
        """Replace an object as it was read; errors.Conflict where it has changed since."""


def identity() -> str:
    """A name of this process: its pod's, and what no other process has."""
    return f"{os.environ.get('POD_ID') or socket.gethostname()}_{uuid.uuid4()}"


class Lease:
    """The Lease in the operator's namespace.

    `gained` is called when this replica becomes the holder; `lost` with the reason when it is no
    longer, or may not use the Lease. Both are called once, in the Lease's thread.
    """

    def __init__(
        self,
        *,
        objects: Objects,
        namespace: str,
        identity: str,
        gained: Callable[[], None],
        lost: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._namespace = namespace
        self._identity = identity
        self._gained = gained
        self._lost = lost
        self._clock = clock
        self._seen: decision.Seen | None = None
        self._version = ""
        self._renewed_at: float | None = None
        """When the last renewal that succeeded was sent; None while this replica does not hold."""
        self._denied_since: float | None = None
        self._takes_part = False
        self._has_ended = False
        self._lock = threading.Lock()
        """Held for a step, and for giving back."""

    @property
    def is_held(self) -> bool:
        """True while this replica holds the Lease and its renewal is not overdue."""
        return decision.is_in_time(self._renewed_at, now=self._clock())

    def waits(self) -> str | None:
        """The reason why this replica is not ready: it has not yet taken part in the election."""
        return None if self._takes_part else "the Lease was neither read nor made yet"

    def check(self) -> None:
        """Allow a write of the holder, just before it is sent.

        Raises:
            errors.NotHolder: the Lease is not held, or its renewal is overdue.
        """
        if not self.is_held:
            raise errors.NotHolder("this replica does not hold the Lease")

    def run(self, stopping: threading.Event) -> None:
        """Take, renew and watch the Lease until stopped, given back or lost."""
        while not stopping.is_set() and not self._has_ended:
            stopping.wait(self.step())

    def step(self) -> float:
        """Look at the Lease once, and do what it calls for; the seconds until the next look."""
        with self._lock:
            if self._has_ended:
                return 0.0
            if self._renewed_at is not None and not self.is_held:
                self._end("the Lease was not renewed in time")
                return 0.0
            denied_since, self._denied_since = self._denied_since, None
            try:
                with deadline.within(self._call_seconds()):
                    self._look()
                self._takes_part = True
            except errors.Denied as error:
                _LOG.warning("the Lease %s: %s", names.LEASE, error)
                now = self._clock()
                self._denied_since = now if denied_since is None else denied_since
                # With a Lease held, the deadline of its renewal decides.
                if self._renewed_at is None and now - self._denied_since >= DENIED_SECONDS:
                    self._end(_NO_RIGHT.format(self._namespace, error))
            except errors.Conflict:
                # Another replica was faster, or a person edited it: look again at once.
                self._version = ""
                return 0.0 if self._renewed_at is not None else decision.RETRY_SECONDS
            except errors.OperatorError as error:
                self._version = ""
                _LOG.warning("the Lease %s: %s", names.LEASE, error)
            return self._wait_seconds()

    def release(self) -> None:
        """Give the Lease back, once all work has ended; nothing if it is not held."""
        with self._lock:
            held, self._renewed_at, self._has_ended = self.is_held, None, True
            if not held or not self._version or self._seen is None or self._seen.record is None:
                return  # others take it when it has run out
            record = self._seen.record
            try:
                with deadline.within(CALL_SECONDS):
                    # With the version that was read: never one that another replica has taken.
                    self._objects.replace(
                        kinds.LEASE,
                        self._namespace,
                        self._body(
                            decision.Record(
                                duration_seconds=RELEASED_SECONDS,
                                acquired=record.acquired,
                                renewed=_now(),
                                transitions=record.transitions,
                            )
                        ),
                    )
            except errors.OperatorError as error:
                _LOG.warning("the Lease was not given back: %s", error)
            else:
                _LOG.info("gave the Lease back")

    def _look(self) -> None:
        """Renew as it was last written; where that is not known, read first."""
        if self._renewed_at is None or not self._version:
            found = self._objects.get(kinds.LEASE, self._namespace, names.LEASE)
            self._version = found["metadata"]["resourceVersion"] if found else ""
            self._seen = decision.see(self._seen, decision.read(found), now=self._clock())
        seen = self._seen
        if seen is None:
            raise AssertionError("read above, or when it was written")
        now = self._clock()
        action = decision.decide(
            seen, identity=self._identity, holds=self._renewed_at is not None, now=now
        )
        if action == "lost":
            self._end(f"{seen.record.holder if seen.record else ''} holds the Lease")
        elif action != "wait":
            self._write(seen.record, is_renewal=action == "renew")

    def _write(self, before: decision.Record | None, *, is_renewal: bool) -> None:
        now = _now()
        if is_renewal and before is not None:
            acquired, transitions = before.acquired, before.transitions
        else:
            acquired, transitions = now, before.transitions + 1 if before is not None else 0
        record = decision.Record(
            holder=self._identity, acquired=acquired, renewed=now, transitions=transitions
        )
        sent_at = self._clock()
        if before is None:
            answer = self._objects.create(kinds.LEASE, self._namespace, self._body(record))
        else:
            answer = self._objects.replace(kinds.LEASE, self._namespace, self._body(record))
        self._version = answer["metadata"]["resourceVersion"]
        self._seen = decision.see(self._seen, decision.read(answer), now=sent_at)
        is_new = self._renewed_at is None
        self._renewed_at = sent_at
        if is_new:
            _LOG.info("holds the Lease %s: reconciles", names.LEASE)
            self._gained()

    def _body(self, record: decision.Record) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "name": names.LEASE,
            "namespace": self._namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
        }
        if self._version:
            metadata["resourceVersion"] = self._version
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": record.holder,
                "leaseDurationSeconds": int(record.duration_seconds),
                "acquireTime": record.acquired or record.renewed,
                "renewTime": record.renewed,
                "leaseTransitions": record.transitions,
            },
        }

    def _call_seconds(self) -> float:
        """The deadline of all calls of one step."""
        if self._renewed_at is None:
            return CALL_SECONDS
        left_seconds = self._renewed_at + decision.RENEW_DEADLINE_SECONDS - self._clock()
        return min(CALL_SECONDS, left_seconds)

    def _wait_seconds(self) -> float:
        now = self._clock()
        if self._renewed_at is None:
            return decision.wait_seconds(self._seen, identity=self._identity, now=now)
        # The end of the deadline is noticed when it comes, not with the next attempt.
        left_seconds = self._renewed_at + decision.RENEW_DEADLINE_SECONDS - now
        return max(0.0, min(decision.RETRY_SECONDS, left_seconds))

    def _end(self, reason: str) -> None:
        self._renewed_at, self._has_ended = None, True
        self._lost(reason)


def _now() -> str:
    """The form of metav1.MicroTime."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
