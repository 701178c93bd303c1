"""Merge the reports of an index's pods: pure.

Several pods may report about one database at a time, and an ended one about the state it left.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedding_contract.index_report import IndexReport, Problem, TargetReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Reports of running workers, of pods that search, and of workers that ended, newest first."""

    workers: tuple[IndexReport, ...] = ()
    searchers: tuple[IndexReport, ...] = ()
    ended: tuple[IndexReport, ...] = ()

    @property
    def all(self) -> tuple[IndexReport, ...]:
        """All of them, the most credible first."""
        return (*self.workers, *self.searchers, *self.ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The merged reports. `is_any`: there is a report; `targets` None if no report has any."""

    is_any: bool
    targets: tuple[TargetReport, ...] | None
    serving: str | None
    problems: tuple[Problem, ...]
    rows_per_second: float | None
    waits_until: str | None

    def target(self, name: str | None) -> TargetReport | None:
        """The report of a target."""
        return next((it for it in self.targets or () if it.id == name), None)


def merged(words: Words, *, target: str | None, document: str | None) -> Said:
    """Merge the reports of an index by the id of its target and its document's fingerprint.

    Problems of an ended worker count only for the same document.
    """
    telling = next((it for it in words.all if it.targets), None)
    live = (*words.workers, *words.searchers)
    last = [it for it in words.ended[:1] if it.document == document and not words.workers]
    rates = [
        it.rows_per_second
        for report in words.workers
        for it in report.targets
        if it.id == target and it.rows_per_second is not None
    ]
    return Said(
        is_any=bool(words.all),
        targets=None if telling is None else telling.targets,
        serving=None if telling is None else telling.serving,
        problems=_distinct(problem for it in (*live, *last) for problem in it.problems),
        rows_per_second=max(rates, default=None),
        waits_until=next((it.waits_until for it in words.workers if it.waits_until), None),
    )


def entries(targets: Sequence[TargetReport]) -> list[Mapping[str, Any]]:
    """Targets as the status lists them."""
    return [
        {
            "id": it.id,
            "model": it.model,
            "dimensions": it.dimensions,
            "space": it.space,
            "phase": it.phase,
            "rows": it.rows,
            "done": it.done,
            "parked": it.parked,
        }
        for it in targets
    ]


def _distinct(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple({it.reason: it for it in reversed(tuple(problems))}.values())[::-1]
