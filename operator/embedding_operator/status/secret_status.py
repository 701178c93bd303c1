"""What a status says of secrets: which path filled which Secret, with which version. No values.

Nothing here changes by the passing of time. The next look at a path is never further away than the
poll interval, whatever failed before, so that is what is said of it, and not a time.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from embedding_operator.errors import Problem
from embedding_operator.kube.conditions import Verdict
from embedding_operator.policy.provider_guard import HOST_NOT_ALLOWED, SECRET_NOT_USABLE

CONDITION: Final = "SecretsSynced"
PATH_NOT_ALLOWED: Final = "PathNotAllowed"
NOT_READ: Final = "NotReadYet"
_REFUSALS: Final = frozenset({PATH_NOT_ALLOWED, HOST_NOT_ALLOWED, SECRET_NOT_USABLE})
_WITHHELD: Final = frozenset({HOST_NOT_ALLOWED, SECRET_NOT_USABLE})
PROBLEMS_SHOWN: Final = 5
PATHS_SHOWN: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A path of Vault that fills a Secret; `whole` is why its values are read at each look.

    `is_good` is None where nobody has looked yet.
    """

    secret: str
    path: str
    version: int | None = None
    changed_at: datetime | None = None
    whole: str | None = None
    is_good: bool | None = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """All that was seen of a policy's secrets.

    `pending` names paths that nobody has looked at yet, `deleted` the Secrets that went as Vault
    holds nothing for them any more.
    """

    problems: tuple[Problem, ...] = ()
    pending: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    poll_seconds: float = 60.0


def verdict(secrets: Secrets, *, generation: int, previous: Mapping[str, Any]) -> Verdict:
    """Whether all keys are in place; what was last seen of this generation, until all is known."""
    if secrets.problems:
        return _problem(secrets)
    if secrets.pending:
        for before in previous.get("conditions", []):
            if before["type"] == CONDITION and before.get("observedGeneration") == generation:
                return Verdict(before["status"], before["reason"], before["message"])
        told = _few(secrets.pending)
        return Verdict("Unknown", NOT_READ, f"Vault is being asked for {told}.")
    message = "Every key that the policy names is in place."
    whole = sorted({f"{it.path} ({it.whole})" for it in secrets.sources if it.whole})
    if whole:
        message += f" Read whole at each look, as there is no version to ask for: {_few(whole)}."
    return Verdict("True", "Synced", message)


def part(secrets: Secrets, *, previous: Mapping[str, Any]) -> dict[str, Any]:
    """`status.secrets`; nothing where no path of Vault is named."""
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
        return str(before["summary"])  # until all are looked at, what was last seen stays
    return f"{sum(source.is_good is True for source in sources)}/{len(sources)}"


def _problem(secrets: Secrets) -> Verdict:
    # A refusal of the guard comes first, as it is the one that somebody must hear of.
    problems = sorted(secrets.problems, key=lambda it: it.reason not in _REFUSALS)
    message = f"{_few([it.message for it in problems])}."
    if secrets.deleted:
        message += f" Deleted, as deletionPolicy says: {_few(secrets.deleted)}."
    is_withheld = any(it.reason in _WITHHELD for it in problems)
    if is_withheld:
        message += (
            " What the chart's values under providers do not allow is kept out of the Secret."
        )
    what = "What else" if secrets.deleted or is_withheld else "What"
    return Verdict("False", problems[0].reason, f"{message} {what} was there stays.")


def _path(source: Source, *, before: Mapping[str, Any]) -> dict[str, Any]:
    if source.version is None and not source.changed_at:
        # Not looked at yet, or an engine without versions: what was last seen stays.
        kept = {key: before[key] for key in ("version", "lastChanged") if key in before}
        return {"secret": source.secret, "path": source.path, **kept}
    made: dict[str, Any] = {"secret": source.secret, "path": source.path}
    if source.version is not None:
        made["version"] = source.version
    if source.changed_at is not None:
        made["lastChanged"] = source.changed_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return made


def _few(told: Sequence[str]) -> str:
    more = len(told) - PROBLEMS_SHOWN
    tail = f"; and {more} more" if more > 0 else ""
    return f"{'; '.join(told[:PROBLEMS_SHOWN])}{tail}"
