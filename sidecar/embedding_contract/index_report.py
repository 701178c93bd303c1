"""The index report: what worker and search say of an index, and the operator shows in its status.

Search pods and running workers answer with it on `names.PATH_INDEX`; a worker that ends leaves it
in its termination message, of which Kubernetes keeps 4,096 bytes. It holds no secret: a database's
refusal is its SQLSTATE and words of our own, never its message or the DSN.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from embedding_contract import json_fields as fields
from embedding_contract.json_fields import InvalidDocument

MAX_BYTES: Final = 4_096
MESSAGE_CHARACTERS: Final = 400
TARGETS_LIMIT: Final = 4
PROBLEMS_LIMIT: Final = 4
MAX_RATE: Final = 10**9

PHASES: Final = ("Planned", "Filling", "Ready", "Switched", "Retired")
"""Of a target: not in the database yet; being filled; complete; complete, indexed and searched;
left for another target, and kept until it is dropped by annotation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that stands in the way: `reason` in CamelCase, `sqlstate` as PostgreSQL said.

    `is_warning` is True where everything works nevertheless.
    """

    reason: str
    message: str
    sqlstate: str | None = None
    is_warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """One target. `rows` are to be embedded, `done` have a vector, `parked` were given up.

    `rows_per_second` and `expected_end` (ISO 8601, UTC) are of a backfill under way, else None.
    `counts_exact` is False where the figures are an estimate.
    """

    id: str
    model: str
    dimensions: int
    space: str
    phase: str
    rows: int
    done: int
    parked: int
    counts_exact: bool = True
    rows_per_second: float | None = None
    expected_end: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """A whole report. `document` is the fingerprint of the index document that was obeyed.

    `serving` is the id of the target that searches use, None where there is none yet.
    `waits_until` (ISO 8601, UTC) is when a worker that waits for the quota's reset goes on.
    """

    document: str
    serving: str | None = None
    targets: tuple[TargetReport, ...] = ()
    problems: tuple[Problem, ...] = ()
    waits_until: str | None = None


def dump(report: IndexReport) -> str:
    """The report as one line of JSON, of at most `MAX_BYTES` bytes; what is too long is cut."""
    characters = MESSAGE_CHARACTERS
    while True:
        text = json.dumps(_body(report, characters), ensure_ascii=False, separators=(",", ":"))
        if len(text.encode()) <= MAX_BYTES or not characters:
            return text
        characters //= 2


def parse(text: str | bytes) -> IndexReport:
    """Read a report.

    Raises:
        InvalidDocument: it is no report.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidDocument("", f"not JSON: {error}") from None
    root = fields.Object(raw, "")
    return IndexReport(
        document=root.get("document", fields.string),
        serving=root.get("serving", fields.nullable(fields.text), default=None),
        targets=tuple(
            _target(fields.Object(item, f"targets[{index}]"))
            for index, item in enumerate(root.get("targets", fields.array)[:TARGETS_LIMIT])
        ),
        problems=tuple(
            _problem(fields.Object(item, f"problems[{index}]"))
            for index, item in enumerate(root.get("problems", fields.array)[:PROBLEMS_LIMIT])
        ),
        waits_until=root.get("waitsUntil", fields.nullable(fields.word), default=None),
    )


def _body(report: IndexReport, characters: int) -> Mapping[str, Any]:
    return {
        "document": report.document,
        "serving": report.serving,
        "targets": [
            {
                "id": it.id,
                "model": it.model,
                "dimensions": it.dimensions,
                "space": it.space,
                "phase": it.phase,
                "rows": it.rows,
                "done": it.done,
                "parked": it.parked,
                "countsExact": it.counts_exact,
                "rowsPerSecond": it.rows_per_second,
                "expectedEnd": it.expected_end,
            }
            for it in report.targets[:TARGETS_LIMIT]
        ],
        "problems": [
            {
                "reason": it.reason,
                "message": it.message[:characters],
                "sqlstate": it.sqlstate,
                "isWarning": it.is_warning,
            }
            for it in report.problems[:PROBLEMS_LIMIT]
        ],
        "waitsUntil": report.waits_until,
    }


def _target(item: fields.Object) -> TargetReport:
    phase = item.get("phase", fields.text)
    if phase not in PHASES:
        raise InvalidDocument("phase", f"must be one of {' '.join(PHASES)}")
    return TargetReport(
        id=item.get("id", fields.text),
        model=item.get("model", fields.word),
        dimensions=item.get("dimensions", fields.positive),
        space=item.get("space", fields.word),
        phase=phase,
        rows=item.get("rows", fields.count),
        done=item.get("done", fields.count),
        parked=item.get("parked", fields.count),
        counts_exact=item.get("countsExact", fields.boolean, default=True),
        rows_per_second=item.get("rowsPerSecond", fields.nullable(_number), default=None),
        expected_end=item.get("expectedEnd", fields.nullable(fields.word), default=None),
    )


def _problem(item: fields.Object) -> Problem:
    return Problem(
        reason=item.get("reason", fields.word),
        message=item.get("message", fields.string),
        sqlstate=item.get("sqlstate", fields.nullable(fields.word), default=None),
        is_warning=item.get("isWarning", fields.boolean, default=False),
    )


def _number(value: object, path: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < MAX_RATE:
        raise InvalidDocument(path, "must be a number that is not negative")
    return float(value)
