"""The Job to start for an index, and the result of the last one: pure.

A change that needs another state of the database makes one Job, named after that state. The status
records a finished Job, so that it is not made again after its deletion.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from embedding_contract import names
from embedding_contract.index_report import IndexReport
from embedding_operator import sidecars

RUNNING: Final = "Running"
COMPLETE: Final = "Complete"
FAILED: Final = "Failed"

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The Job to start, overtaken Jobs to delete, and the result of the needed Job."""

    starts: str | None
    ends: tuple[str, ...]
    result: str


def plan(name: str, jobs: Sequence[Object], *, uid: str, recorded: Object) -> Plan:
    """Plan for the Job `name` that an index of this UID needs now; `recorded` is `status.run`."""
    made = {it["metadata"]["name"]: it for it in jobs if _controller(it) == uid}
    ends = tuple(sorted(made.keys() - {name}))
    there = made.get(name)
    if there is not None:
        return Plan(starts=None, ends=ends, result=_result(there))
    before = str(recorded.get("result", "")) if recorded.get("job") == name else ""
    if before in (COMPLETE, FAILED):
        return Plan(starts=None, ends=ends, result=before)
    return Plan(starts=name, ends=ends, result=RUNNING)


def last_words(jobs: Sequence[Object], runs: Iterable[Object]) -> tuple[IndexReport, ...]:
    """The reports of ended workers, the newest first.

    Only pods controlled by one of the Jobs count: anybody may set the label alone.
    """
    ours = {it["metadata"]["uid"] for it in jobs}
    ended = [
        moment
        for pod in runs
        if _controller(pod) in ours
        for status in pod["status"].get("containerStatuses") or ()
        if status["name"] == names.VECTORS_CONTAINER
        for moment in (_ended(status, "state"), _ended(status, "lastState"))
        if moment is not None
    ]
    newest_first = sorted(ended, key=lambda it: str(it.get("finishedAt") or ""), reverse=True)
    return tuple(report for it in newest_first if (report := _report(it)) is not None)


def _ended(status: Object, which: str) -> Object | None:
    found: Object | None = (status.get(which) or {}).get("terminated")
    return found


def _report(ended: Object) -> IndexReport | None:
    try:
        return sidecars.index_report_of(str(ended.get("message") or ""))
    except ValueError:
        return None


def _result(job: Object) -> str:
    for condition in job["status"].get("conditions") or ():
        if condition.get("type") in (COMPLETE, FAILED) and condition.get("status") == "True":
            return str(condition["type"])
    return RUNNING


def _controller(found: Object) -> str:
    references = found["metadata"].get("ownerReferences") or ()
    return next((str(it.get("uid", "")) for it in references if it.get("controller")), "")
