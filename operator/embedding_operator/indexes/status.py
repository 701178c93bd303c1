"""Compute the status of an index from facts: pure, and equal for equal facts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from embedding_contract.index_report import IndexReport, TargetReport
from embedding_contract.index_report import Problem as PodProblem
from embedding_operator import errors
from embedding_operator.indexes import runs
from embedding_operator.indexes.reports import Said, Words, entries, merged
from embedding_operator.kube import conditions
from embedding_operator.kube.conditions import Condition, from_problem

READY: Final = "Ready"
MODEL_MISSING: Final = "ModelMissing"
WORKLOADS: Final = "WorkloadsApplied"
DATABASE: Final = "DatabaseReachable"
SCHEMA: Final = "SchemaReady"
FILLED: Final = "Filled"
SEARCHABLE: Final = "Searchable"
DECISIVE: Final = (
    "Accepted",
    MODEL_MISSING,
    WORKLOADS,
    DATABASE,
    SCHEMA,
    FILLED,
    SEARCHABLE,
)
"""The conditions that decide Ready; the first bad one is its reason."""
TOLD: Final = frozenset({READY, *DECISIVE, "Warned"})
"""The conditions whose changes are recorded as events."""
NOT_ASKED: Final = "NotAsked"
NO_PODS: Final = "NoPods"
NO_NEWS: Final = frozenset({NOT_ASKED, NO_PODS})
PENDING: Final = "Pending"
PLANNED: Final = "Planned"
SWITCHED: Final = "Switched"
SHOWN: Final = 5
_OF_DATABASE: Final = frozenset(
    {
        "DatabaseUnavailable",
        "DSNInvalid",
        "TLSRefused",
        "AuthenticationFailed",
        "TooManyConnections",
        "Timeout",
        "DiskFull",
    }
)
_OF_SCHEMA: Final = frozenset(
    {
        "ColumnMissing",
        "ColumnTypeUnsupported",
        "DimensionsDiffer",
        "ExtensionMissing",
        "ExtensionTooOld",
        "KeyDiffers",
        "KeyTypeUnsupported",
        "NoPrimaryKey",
        "PermissionDenied",
        "PlanPending",
        "SchemaDiffers",
        "SpaceDiffers",
        "TableMissing",
        "TargetTaken",
        "TextConfigurationMissing",
        "TooManyDimensions",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All observations of one reconcile.

    `target` is the id of the named target and `document` the fingerprint of the index document;
    both None if the index is not valid. `replicas` counts the search pods, None without search.
    `run` is the Job of the last change and its result. `silent` has a reason for each search pod
    that did not answer; `pending` counts pods not asked yet. `is_known_policy`: its policy exists
    and is valid.
    """

    refused: errors.Problem | None = None
    is_known_policy: bool = False
    missing_models: tuple[str, ...] = ()
    workloads: errors.Problem | None = None
    database: errors.Problem | None = None
    target: str | None = None
    document: str | None = None
    replicas: int | None = None
    applies_plan: bool = False
    run: tuple[str, str] | None = None
    words: Words = field(default_factory=Words)
    silent: tuple[errors.Problem, ...] = ()
    pending: int = 0


def build(
    facts: Facts, *, generation: int, previous: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """The status for these facts; times and unreported fields of `previous` stay."""
    said = merged(facts.words, target=facts.target, document=facts.document)
    found = _conditions(facts, said, generation=generation, previous=previous)
    made: dict[str, Any] = {
        "observedGeneration": generation,
        "conditions": [
            conditions.stamped(it, generation=generation, previous=previous, now=now)
            for it in (_ready(found), *found)
        ],
        "phase": PENDING,
    }
    if facts.run is not None:
        made["run"] = {"job": facts.run[0], "result": facts.run[1]}
    elif "run" in previous:
        made["run"] = previous["run"]
    if facts.document is not None:
        made["document"] = facts.document
    return made | _progress(facts, said, previous=previous)


def changes(previous: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Condition]:
    """The conditions to record as events."""
    found = conditions.changes(previous, wanted, no_news=NO_NEWS)
    return [it for it in found if it.type in TOLD]


def _progress(facts: Facts, said: Said, *, previous: Mapping[str, Any]) -> dict[str, Any]:
    """The progress of the targets; without a report, as in `previous`."""
    made: dict[str, Any] = {}
    if said.targets is None:
        kept = ("targets", "serving", "rows", "done", "parked", "countsExact")
        made |= {key: previous[key] for key in kept if key in previous}
        phases = [it["phase"] for it in previous.get("targets", ()) if it["id"] == facts.target]
        return made | {"phase": phases[0]} if phases else made
    made["targets"] = entries(said.targets)
    if said.serving is not None:
        made["serving"] = said.serving
    wanted = said.target(facts.target)
    if wanted is not None:
        made["phase"] = wanted.phase
        made |= {"rows": wanted.rows, "done": wanted.done, "parked": wanted.parked}
        made["countsExact"] = wanted.counts_exact
        if wanted.expected_end is not None:
            made["expectedEnd"] = wanted.expected_end
    if said.rows_per_second is not None:
        made["rate"] = f"{said.rows_per_second:.1f}/s"
    if said.waits_until is not None:
        made["waitsUntil"] = said.waits_until
    return made


def _conditions(
    facts: Facts, said: Said, *, generation: int, previous: Mapping[str, Any]
) -> list[Condition]:
    failing = [it for it in said.problems if not it.is_warning]

    def last_seen(kind: str) -> Condition:
        """The condition as it was for this generation, without a new report."""
        for before in previous.get("conditions", ()):
            if before["type"] == kind and before.get("observedGeneration") == generation:
                return Condition(kind, before["status"], before["reason"], before["message"])
        return Condition(kind, "Unknown", NOT_ASKED, "No pod of the index has reported it yet.")

    found = [
        from_problem(
            "Accepted", facts.refused, "Accepted", "The index is valid and can be applied."
        ),
        _model_missing(facts, failing) or last_seen(MODEL_MISSING),
        _workloads(facts) or last_seen(WORKLOADS),
        _database(facts, said, failing) or last_seen(DATABASE),
        _schema(facts, said, failing) or last_seen(SCHEMA),
        _filled(facts, said, failing) or last_seen(FILLED),
        _searchable(facts) or last_seen(SEARCHABLE),
    ]
    warnings = [_told(it) for it in said.problems if it.is_warning]
    if warnings:
        reason = next(it.reason for it in said.problems if it.is_warning)
        found.append(Condition("Warned", "True", reason, " ".join(warnings)))
    return found


def _ready(found: Iterable[Condition]) -> Condition:
    decisive = [it for it in found if it.type in DECISIVE]
    for condition in decisive:
        if condition.is_bad:
            return Condition(READY, "False", condition.reason, condition.message)
    for condition in decisive:
        if condition.status == "Unknown":
            return Condition(READY, "Unknown", condition.reason, condition.message)
    return Condition(READY, "True", READY, "The table is embedded.")


def _workloads(facts: Facts) -> Condition | None:
    if facts.refused is not None:
        return None
    message = "The objects match the index."
    return from_problem(WORKLOADS, facts.workloads, "Applied", message)


def _model_missing(facts: Facts, failing: Sequence[PodProblem]) -> Condition | None:
    told = next((it for it in failing if it.reason == MODEL_MISSING), None)
    if facts.missing_models:
        message = (
            f"The policy has no provider for {', '.join(facts.missing_models)}. Until searches use"
            " the new target, the model of the old one is needed too; nothing is dropped."
        )
        return Condition(MODEL_MISSING, "True", MODEL_MISSING, message)
    if told is not None:
        return Condition(MODEL_MISSING, "True", MODEL_MISSING, _told(told))
    if not facts.is_known_policy:
        return None
    message = "The policy has a provider for each model."
    return Condition(MODEL_MISSING, "False", "ModelsPresent", message)


def _database(facts: Facts, said: Said, failing: Sequence[PodProblem]) -> Condition | None:
    if facts.database is not None:
        return from_problem(DATABASE, facts.database, "", "")
    problem = next((it for it in failing if _is_of_database(it)), None)
    if problem is not None:
        return Condition(DATABASE, "False", problem.reason, _told(problem))
    if not said.is_any:
        return None
    return Condition(DATABASE, "True", "Reached", "The pods of the index reach the database.")


def _schema(facts: Facts, said: Said, failing: Sequence[PodProblem]) -> Condition | None:
    problem = next((it for it in failing if it.reason in _OF_SCHEMA), None)
    if problem is not None:
        return Condition(SCHEMA, "False", problem.reason, _told(problem))
    if any(map(_is_of_database, failing)) or facts.target is None or not said.is_any:
        return None
    wanted = said.target(facts.target)
    if wanted is not None and wanted.phase != PLANNED:
        message = f"The database has {wanted.id} with its trigger and tables."
        return Condition(SCHEMA, "True", "Applied", message)
    if facts.applies_plan:
        message = f"{facts.target} is not in the database yet; the worker creates it."
        return Condition(SCHEMA, "False", "Applying", message)
    message = (
        f"{facts.target} is not in the database. In a pod of the index, embedding-vectors plan"
        " prints the SQL and embedding-vectors apply runs it; or set spec.applyPlan: true to have"
        " the worker run it."
    )
    return Condition(SCHEMA, "False", "PlanPending", message)


def _filled(facts: Facts, said: Said, failing: Sequence[PodProblem]) -> Condition | None:
    of_others = (*_OF_SCHEMA, MODEL_MISSING)
    problem = next(
        (it for it in failing if it.reason not in of_others and not _is_of_database(it)), None
    )
    if problem is not None:
        return Condition(FILLED, "False", problem.reason, _told(problem))
    wanted = said.target(facts.target)
    if wanted is None or wanted.phase == PLANNED:
        if facts.run is not None and facts.run[1] == runs.FAILED:
            message = f"Job {facts.run[0]} failed. Start another by: {_again(facts.run[0])}."
            return Condition(FILLED, "False", "RunFailed", message)
        return None
    if wanted.phase == SWITCHED:
        return Condition(FILLED, "True", "Complete", _counts(wanted))
    if said.waits_until is not None:
        message = f"{_counts(wanted)} The quota is used up until {said.waits_until}."
        return Condition(FILLED, "False", "QuotaExhausted", message)
    reason = "Filling" if wanted.phase == "Filling" else "Switching"
    return Condition(FILLED, "False", reason, _counts(wanted))


def _searchable(facts: Facts) -> Condition | None:
    if facts.target is None:
        return None
    if facts.replicas is None:
        return Condition(SEARCHABLE, "True", "SearchOff", "spec.search.enabled is false.")
    if facts.words.searchers:
        return _searched(facts.words.searchers, of=facts.replicas)
    if facts.pending:
        return None
    if facts.silent:
        told = "; ".join(it.message for it in facts.silent[:SHOWN])
        return Condition(SEARCHABLE, "False", facts.silent[0].reason, f"{told}.")
    return Condition(SEARCHABLE, "Unknown", NO_PODS, "No search pod has answered yet.")


def _searched(reports: Sequence[IndexReport], *, of: int) -> Condition:
    told = f"{len(reports)} of {of} search pods answer"
    serving = next((it.serving for it in reports if it.serving is not None), None)
    if serving is None:
        message = f"{told}, by text alone, until a target is complete."
        return Condition(SEARCHABLE, "False", "NoTarget", message)
    return Condition(SEARCHABLE, "True", "Searchable", f"{told}, with {serving}.")


def _is_of_database(problem: PodProblem) -> bool:
    if problem.reason in _OF_DATABASE:
        return True
    return problem.sqlstate is not None and problem.reason not in (*_OF_SCHEMA, MODEL_MISSING)


def _counts(wanted: TargetReport) -> str:
    about = "" if wanted.counts_exact else "about "
    told = f"{about}{wanted.done} of {wanted.rows} rows have a vector in {wanted.id}"
    return f"{told}, {wanted.parked} are parked." if wanted.parked else f"{told}."


def _told(problem: PodProblem) -> str:
    state = f" (SQLSTATE {problem.sqlstate})" if problem.sqlstate is not None else ""
    return f"{problem.message.rstrip('.')}{state}."


def _again(job: str) -> str:
    cron_job = job.rpartition("-")[0]
    return f"kubectl create job --from=cronjob/{cron_job} NAME"
