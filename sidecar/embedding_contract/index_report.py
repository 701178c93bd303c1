"""The index report: worker and search make it, the operator shows it in the index's status.

Search pods and running workers answer with it on `names.PATH_INDEX`; a worker that ends leaves it
in its termination message, of which Kubernetes keeps 4,096 bytes. It holds no secret: a database's
refusal is its SQLSTATE and words of our own, never its message or the DSN.
"""

import functools
import json
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from embedding_contract import json_fields, json_records
from embedding_contract.json_fields import Count, Positive, Read, Text, Word, check
from embedding_contract.json_records import REQUIRED, Key

MAX_BYTES: Final = 4_096
MESSAGE_CHARACTERS: Final = 400
TARGETS_LIMIT: Final = 4
PROBLEMS_LIMIT: Final = 4
MAX_RATE: Final = 10**9

PHASES: Final = ("Planned", "Filling", "Ready", "Switched", "Retired")
"""Phases of a target: not in the database; being filled; complete; complete, indexed and searched;
left for another target, and kept until it is dropped by annotation."""

Rate = Annotated[
    float,
    check(lambda it: 0 <= it < MAX_RATE, "must be a number that is not negative"),
    lambda value, _: float(value),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem of an index: `reason` is in CamelCase, `sqlstate` is PostgreSQL's.

    `is_warning` is True where everything works nevertheless.
    """

    reason: Word
    message: str
    sqlstate: Word | None = None
    is_warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """One target. `rows` are to be embedded, `done` have a vector, `parked` were given up.

    `rows_per_second` and `expected_end` (ISO 8601, UTC) are of a backfill under way, else None.
    `counts_exact` is False where the figures are an estimate.
    """

    id: Text
    model: Word
    dimensions: Positive
    space: Word
    phase: Annotated[Text, json_fields.one_of(*PHASES)]
    rows: Count
    done: Count
    parked: Count
    counts_exact: bool = True
    rows_per_second: Rate | None = None
    expected_end: Word | None = None


def _first(limit: int, kind: type[Any]) -> Read:
    read = json_records.reader(kind)
    return lambda value, path: json_fields.items(read, value, path, most=limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """A whole report. `document` is the fingerprint of the index document in force.

    `serving` is the id of the target that searches use, None where there is none yet.
    `waits_until` (ISO 8601, UTC) is when a worker that waits for the quota's reset goes on.
    """

    document: str
    serving: Text | None = None
    targets: Annotated[
        tuple[TargetReport, ...], Key(read=_first(TARGETS_LIMIT, TargetReport), absent=REQUIRED)
    ] = ()
    problems: Annotated[
        tuple[Problem, ...], Key(read=_first(PROBLEMS_LIMIT, Problem), absent=REQUIRED)
    ] = ()
    waits_until: Word | None = None


def dump(report: IndexReport) -> str:
    """The report as one line of JSON, of at most `MAX_BYTES` bytes; longer messages are cut."""
    characters = MESSAGE_CHARACTERS
    while True:
        problems = (
            replace(it, message=it.message[:characters]) for it in report.problems[:PROBLEMS_LIMIT]
        )
        cut = replace(report, targets=report.targets[:TARGETS_LIMIT], problems=tuple(problems))
        body = json_records.written(cut)
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        if len(text.encode()) <= MAX_BYTES or not characters:
            return text
        characters //= 2


parse: Final = functools.partial(json_records.parse, IndexReport)
"""Reads a report. Raises InvalidDocument where it is none."""
