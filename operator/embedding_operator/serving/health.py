"""The pages for kubelet's liveness and readiness probes."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.queues.workqueue import WorkQueue
from embedding_operator.serving.listener import Page, Reply

LIVE_PATH: Final = "/healthz"
READY_PATH: Final = "/readyz"
DEADLINES: Final = 3
"""The process is restarted if no reconcile has ended for so many deadlines while some wait."""
GRACE: Final = 1.5
"""The process is not ready while a reconcile exceeds its deadline by this factor."""

Check = Callable[[], str | None]
"""Returns the fault in one sentence; None if there is none."""


def work_ends(work: WorkQueue[ObjectKey], *, deadline_seconds: float) -> str | None:
    """Check that reconciles end while others wait; each has a deadline."""
    stalled_seconds = work.stalled_seconds()
    if stalled_seconds < DEADLINES * deadline_seconds:
        return None
    return f"no reconcile has ended for {stalled_seconds:.0f} s, and some wait"


def work_is_in_time(work: WorkQueue[ObjectKey], *, deadline_seconds: float) -> str | None:
    """Check that no reconcile exceeds its deadline."""
    oldest_seconds = work.oldest_seconds()
    if oldest_seconds < GRACE * deadline_seconds:
        return None
    return f"a reconcile has been going on for {oldest_seconds:.0f} s"


def pages(*, live: Sequence[Check], ready: Sequence[Check]) -> Mapping[str, Page]:
    """The pages for the probes: 200, or 503 with the faults."""
    return {LIVE_PATH: _page(live), READY_PATH: _page((*live, *ready))}


def _page(checks: Sequence[Check]) -> Page:
    def page(_: str) -> Reply:
        wrong = [told for told in (check() for check in checks) if told is not None]
        if wrong:
            return Reply(
                HTTPStatus.SERVICE_UNAVAILABLE, "".join(f"{it}\n" for it in wrong).encode()
            )
        return Reply(HTTPStatus.OK, b"ok\n")

    return page
