"""The status of secrets: which path filled which Secret, with which version. No values.

Nothing depends on the time: the status names the poll interval, which bounds the time of the next
poll even after failures.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from embedding_operator.errors import Problem
from embedding_operator.kube.conditions import Verdict, few
from embedding_operator.policy import classes
from embedding_operator.policy.provider_guard import (
    HOST_NOT_ALLOWED,
    SECRET_NOT_USABLE,
    SECRET_OF_OPERATOR,
)

CONDITION: Final = "SecretsSynced"
PATH_NOT_ALLOWED: Final = "PathNotAllowed"
NOT_READ: Final = "NotReadYet"
_REFUSALS: Final = frozenset(
    {PATH_NOT_ALLOWED, HOST_NOT_ALLOWED, SECRET_NOT_USABLE, SECRET_OF_OPERATOR}
)
_WITHHELD: Final = frozenset({HOST_NOT_ALLOWED, SECRET_NOT_USABLE})
OF_CLASSES: Final = frozenset(
    {
        classes.CLASS_MISSING,
        classes.CLASS_FORBIDDEN,
        classes.CLASS_CHANGED,
        classes.CLASS_NOT_ACCEPTED,
    }
)
"""Reasons for which values of a ClusterEmbeddingProvider leave the Secret; watches announce their
end."""
_REMOVED: Final = OF_CLASSES | {SECRET_OF_OPERATOR}
"""Reasons for which values leave the Secret, whatever the chart's values are."""
PATHS_SHOWN: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A path of Vault that fills a Secret.

    `whole` is the reason why every poll reads its values; `is_good` is None before the first poll.
    """

    secret: str
    path: str
    version: int | None = None
    changed_at: datetime | None = None
    whole: str | None = None
    is_good: bool | None = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """The observations about a policy's secrets.

    `pending` names paths not polled yet, `deleted` the Secrets deleted because Vault holds nothing
    for them any more.
    """

    problems: tuple[Problem, ...] = ()
    pending: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    poll_seconds: float = 60.0


def verdict(secrets: Secrets, *, generation: int, previous: Mapping[str, Any]) -> Verdict:
    """Condition SecretsSynced; as it was for this generation until every path is polled."""
    if secrets.problems:
        return _problem(secrets)
    if secrets.pending:
        for before in previous.get("conditions", []):
            if before["type"] == CONDITION and before.get("observedGeneration") == generation:
                return Verdict(before["status"], before["reason"], before["message"])
        told = few(secrets.pending)
        return Verdict("Unknown", NOT_READ, f"Not read from Vault yet: {told}.")
    message = "Every key that the policy names is in place."
    whole = sorted({f"{it.path} ({it.whole})" for it in secrets.sources if it.whole})
    if whole:
        message += f" Every poll reads all values of paths without a version: {few(whole)}."
    return Verdict("True", "Synced", message)


def part(secrets: Secrets, *, previous: Mapping[str, Any]) -> dict[str, Any]:
    """`status.secrets`; empty if the policy names no path of Vault."""
    if not secrets.sources:
        return {}
    before = {(it["secret"], it["path"]): it for it in previous.get("secrets", {}).get("paths", [])}
    paths = [
        _path(source, before=before.get((source.secret, source.path), {}))
        for source in secrets.sources[:PATHS_SHOWN]
    ]
    changed = [it["lastChanged"] for it in paths if "lastChanged" in it]
    made: dict[str, Any] = {
        "summary": _summary(secrets.sources, before=previous.get("secrets", {}), paths=before),
        "versions": ", ".join(f"{it['secret']}={it['version']}" for it in paths if "version" in it),
        "nextCheckWithinSeconds": max(1, round(secrets.poll_seconds)),
        "paths": paths,
    }
    if changed:
        made["lastChanged"] = max(changed)
    return made


def _summary(
    sources: Sequence[Source], *, before: Mapping[str, Any], paths: Collection[tuple[str, str]]
) -> str:
    named = {(source.secret, source.path) for source in sources}
    if "summary" in before and named == set(paths) and any(it.is_good is None for it in sources):
        return str(before["summary"])  # until every path is polled, the last summary stays
    return f"{sum(source.is_good is True for source in sources)}/{len(sources)}"


def _problem(secrets: Secrets) -> Verdict:
    # Refusals of the guard come first: an administrator must hear of them.
    problems = sorted(secrets.problems, key=lambda it: it.reason not in _REFUSALS)
    message = f"{few([it.message for it in problems])}."
    if secrets.deleted:
        message += f" Deleted by deletionPolicy: {few(secrets.deleted)}."
    is_withheld = any(it.reason in _WITHHELD for it in problems)
    if is_withheld:
        message += " The Secret leaves out values that the chart's providers values forbid."
    is_removed = any(it.reason in _REMOVED for it in problems)
    values = "Other values" if secrets.deleted or is_withheld or is_removed else "Values"
    return Verdict("False", problems[0].reason, f"{message} {values} already in a Secret stay.")


def _path(source: Source, *, before: Mapping[str, Any]) -> dict[str, Any]:
    if source.version is None and not source.changed_at:
        # Not polled yet, or an engine without versions: the last values stay.
        kept = {key: before[key] for key in ("version", "lastChanged") if key in before}
        return {"secret": source.secret, "path": source.path, **kept}
    made: dict[str, Any] = {"secret": source.secret, "path": source.path}
    if source.version is not None:
        made["version"] = source.version
    if source.changed_at is not None:
        made["lastChanged"] = source.changed_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return made
