"""The index report, made from the bookkeeping: used by workers and search pods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from embedding_contract.index_document import IndexDocument, Target
from embedding_contract.index_report import IndexReport, Problem, TargetReport
from embedding_vectors.database.facts import TargetRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The speed at which all workers fill a target; `expected_end` is ISO 8601, UTC."""

    rows_per_second: float
    expected_end: str | None


def of(
    document: IndexDocument,
    *,
    fingerprint: str,
    targets: Sequence[TargetRow] = (),
    problems: Sequence[Problem] = (),
    rates: Mapping[str, Rate] = MappingProxyType({}),
    waits_until: str | None = None,
) -> IndexReport:
    """The report of an index. `targets` are rows of the bookkeeping, also of other indexes.

    A target of the document that is not yet in the database is Planned.
    """
    own = {it.id: it for it in targets if it.index_uid == document.uid}
    wanted = [it for it in (document.target, document.failover_target) if it is not None]
    known = [document.target_id(it) for it in wanted]
    others = sorted(set(own) - set(known), key=lambda it: (own[it].phase == "Retired", it))
    reports = [
        _report(own[it], rates.get(it)) if it in own else _planned(it, target)
        for it, target in zip(known, wanted, strict=True)
    ]
    reports += [_report(own[it], rates.get(it)) for it in others]
    return IndexReport(
        document=fingerprint,
        serving=serving(document, targets),
        targets=tuple(reports),
        problems=tuple(dict.fromkeys(problems)),
        waits_until=waits_until,
    )


def serving(document: IndexDocument, targets: Sequence[TargetRow]) -> str | None:
    """The target whose model embeds queries: the one switched to, else the document's if ready.

    Without either, any ready target; None where none is.
    """
    phases = {it.id: it.phase for it in targets if it.index_uid == document.uid}
    wanted = document.target_id(document.target)
    switched = [it for it, phase in phases.items() if phase == "Switched"]
    ready = [it for it, phase in phases.items() if phase == "Ready"]
    return next(iter([*switched, *(it for it in ready if it == wanted), *ready]), None)


def _planned(place: str, target: Target) -> TargetReport:
    return TargetReport(
        id=place,
        model=target.model,
        dimensions=target.dimensions,
        space=target.space,
        phase="Planned",
        rows=0,
        done=0,
        parked=0,
    )


def _report(row: TargetRow, rate: Rate | None) -> TargetReport:
    return TargetReport(
        id=row.id,
        model=row.model,
        dimensions=row.dimensions,
        space=row.space,
        phase=row.phase,
        rows=row.rows,
        done=row.done,
        parked=row.parked,
        rows_per_second=rate.rows_per_second if rate else None,
        expected_end=rate.expected_end if rate else None,
    )
