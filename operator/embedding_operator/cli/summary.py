"""A policy and its status as text: pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from embedding_operator import terminal

_INDENT = "  "


def text(policy: Mapping[str, Any]) -> str:
    """The output of `kubectl embedding status` for a policy."""
    return "\n".join(_lines(policy)) + "\n"


def _lines(policy: Mapping[str, Any]) -> Iterator[str]:
    metadata, spec = policy["metadata"], policy["spec"]
    status = policy.get("status") or {}
    conditions = status.get("conditions") or []
    yield f"{metadata['namespace']}/{metadata['name']}"
    if not conditions:
        yield f"{_INDENT}no status yet: the operator has not reconciled it, or does not run"
    if conditions and status.get("observedGeneration") != metadata.get("generation"):
        yield f"{_INDENT}older than the policy: the operator has not reconciled its last change"
    yield from _table("providers", _providers(spec))
    yield from _table("conditions", _conditions(conditions))
    yield from _table("pods", _pods(status.get("pods") or {}))
    yield from _table("quota", _quota(status.get("quota") or {}))
    yield from _table("secrets", _secrets(spec, status))


def _table(title: str, rows: list[tuple[str, ...]]) -> Iterator[str]:
    if not rows:
        return
    yield f"{_INDENT}{title}"
    # A condition's message may quote a pod.
    for line in terminal.columns(rows):
        yield f"{_INDENT * 2}{line}"


def _providers(spec: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            entry.get("name") or entry["ref"],
            entry.get("type") or f"class {entry['ref']}",
            entry.get("model", ""),
        )
        for entry in spec["providers"]
    ]


def _conditions(conditions: list[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (entry["type"], entry["status"], entry["reason"], entry["message"]) for entry in conditions
    ]


def _pods(pods: Mapping[str, Any]) -> list[tuple[str, ...]]:
    counts = ("matching", "covered", "inForce", "outdated", "bypassing")
    told = [(name, str(pods[name])) for name in counts if name in pods]
    return told + [("missing", name) for name in pods.get("missing", [])]


def _quota(quota: Mapping[str, Any]) -> list[tuple[str, ...]]:
    told: list[tuple[str, ...]] = [
        (name, str(quota[name]), "") for name in ("summary", "resetAt", "mode") if name in quota
    ]
    return told + [
        (
            f"{it['period']}.{it['unit']}",
            f"{it['used']}/{it['limit']}",
            f"until {it['resetAt']}" if "resetAt" in it else "",
        )
        for it in quota.get("limits", [])
    ]


def _secrets(spec: Mapping[str, Any], status: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The paths in the status, and those of the policy that the status lacks."""
    seen = status.get("secrets") or {}
    rows: list[tuple[str, ...]] = [
        (
            entry["secret"],
            entry["path"],
            f"version {entry['version']}" if "version" in entry else "",
            entry.get("lastChanged", ""),
        )
        for entry in seen.get("paths", [])
    ]
    told = {name for name, *_ in rows}
    waiting = [entry for entry in spec.get("secrets", []) if entry["name"] not in told]
    rows += [
        (entry["name"], f"{entry['vault']['mount']}/{entry['vault']['path']}", "", "")
        for entry in waiting
    ]
    return rows
