"""What a proxy before the API server may do wrong: data, of which `TABLE` has all."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class To(StrEnum):
    """The requests of the operator that a fault is about."""

    WRITES = "writes"
    READS = "reads"
    LISTS = "lists"
    WATCHES = "watches"


class Harm(StrEnum):
    """What happens to the answer of a request, or to the lines of a watch.

    KILL, ERROR_AFTER and HALF first have the API server do what it was asked.
    """

    KILL = "kill"
    ERROR = "error"
    ERROR_AFTER = "error after"
    HALF = "half a body"
    OLD = "old"
    MISSED = "missed"
    REPEATED = "repeated"
    LATE = "late"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A harm to the k-th write or read in a namespace, to the first list of each kind, or to
    all watches.

    `status` and `reason` are those of an error.
    """

    name: str
    to: To
    harm: Harm
    status: int = 0
    reason: str = ""
    retry_after_seconds: int | None = None


CRASH: Final = Fault(name="crash", to=To.WRITES, harm=Harm.KILL)
OLD_LIST: Final = Fault(name="old list", to=To.LISTS, harm=Harm.OLD)

_ERRORS: Final = (
    (409, "Conflict", None),
    (410, "Expired", None),
    (429, "TooManyRequests", 1),
    (500, "InternalError", None),
)


def _errors(to: To) -> tuple[Fault, ...]:
    return tuple(
        Fault(
            name=f"{status} to {to}",
            to=to,
            harm=Harm.ERROR,
            status=status,
            reason=reason,
            retry_after_seconds=after,
        )
        for status, reason, after in _ERRORS
    )


TABLE: Final[tuple[Fault, ...]] = (
    *_errors(To.WRITES),
    Fault(
        name="500 to writes that were carried out",
        to=To.WRITES,
        harm=Harm.ERROR_AFTER,
        status=500,
        reason="InternalError",
    ),
    Fault(name="half a body to writes", to=To.WRITES, harm=Harm.HALF),
    *_errors(To.READS),
    Fault(name="half a body to reads", to=To.READS, harm=Harm.HALF),
    *_errors(To.LISTS),
    Fault(name="half a body to lists", to=To.LISTS, harm=Harm.HALF),
    OLD_LIST,
    *_errors(To.WATCHES),
    Fault(name="missed events", to=To.WATCHES, harm=Harm.MISSED),
    Fault(name="repeated events", to=To.WATCHES, harm=Harm.REPEATED),
    Fault(name="late events", to=To.WATCHES, harm=Harm.LATE),
)
