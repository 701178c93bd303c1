"""What the probes of kubelet are told: whether the process lives, and whether it is up to date."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final, Protocol

from embedding_operator.serving.listener import Page, Reply

LIVE_PATH: Final = "/healthz"
READY_PATH: Final = "/readyz"
DEADLINES: Final = 3
"""A process is restarted if no reconcile has ended for so many deadlines while some wait."""
GRACE: Final = 1.5
"""A reconcile is over its deadline by this factor before the process counts as not ready."""

Check = Callable[[], str | None]
"""What is wrong, in one sentence; None where all is well."""


class Work(Protocol):
    """How work on policies goes on."""

    def oldest_seconds(self) -> float:
        """For how long the oldest work that has not ended has been going on."""
        ...

    def stalled_seconds(self) -> float:
        """For how long work has been waiting while none has ended."""
        ...


def work_ends(work: Work, *, deadline_seconds: float) -> Check:
    """Reconciles end while others wait. Each has a deadline, so that no policy can prevent it."""

    def check() -> str | None:
        stalled_seconds = work.stalled_seconds()
        if stalled_seconds < DEADLINES * deadline_seconds:
            return None
        return f"no reconcile has ended for {stalled_seconds:.0f} s, and some wait"

    return check


def work_is_in_time(work: Work, *, deadline_seconds: float) -> Check:
    """No reconcile takes longer than its deadline."""

    def check() -> str | None:
        oldest_seconds = work.oldest_seconds()
        if oldest_seconds < GRACE * deadline_seconds:
            return None
        return f"a reconcile has been going on for {oldest_seconds:.0f} s"

    return check


def pages(*, live: Sequence[Check], ready: Sequence[Check]) -> Mapping[str, Page]:
    """The pages for the probes: 200, or 503 with what is wrong."""
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
