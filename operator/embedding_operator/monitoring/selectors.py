"""Evaluate the selectors of Prometheus objects for a policy's objects: pure.

For the kinds Prometheus, PrometheusAgent and ThanosRuler. A missing selector selects no object; a
missing namespace selector selects the Prometheus's own namespace; an empty one of either selects
all. Source: API reference of monitoring.coreos.com, PrometheusSpec.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from embedding_operator.errors import Problem
from embedding_operator.kube.label_selectors import matches

NOT_SELECTED: Final = "NotSelected"
SHOWN: Final = 3
_RULES: Final = ("ruleSelector", "ruleNamespaceSelector")
_PODS: Final = ("podMonitorSelector", "podMonitorNamespaceSelector")
_SELECTORS: Final = {"PrometheusRule": _RULES, "PodMonitor": _PODS}
_READ: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "Prometheus": (_RULES, _PODS),
    "PrometheusAgent": (_PODS,),
    "ThanosRuler": (_RULES,),
}
"""The selectors of each kind."""

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """One of our objects: its labels and its namespace."""

    namespace: str
    namespace_labels: Mapping[str, str]
    labels: Mapping[str, str]


def agreed_labels(found: Sequence[Object]) -> dict[str, str]:
    """The labels by which all select rules and PodMonitors; empty if they differ.

    A selector of all objects agrees with any. One with matchExpressions agrees with none, as
    several labels may satisfy it.
    """
    agreed: dict[str, str] = {}
    for taker in found:
        for selector, _ in _READ.get(taker.get("kind", ""), ()):
            written = _spec(taker).get(selector) or {}
            wanted = dict(written.get("matchLabels") or {})
            if written.get("matchExpressions") or (wanted and agreed and wanted != agreed):
                return {}
            agreed = wanted or agreed
    return agreed


def select_namespaces_by_labels(found: Sequence[Object]) -> bool:
    """True if any of them selects namespaces by labels."""
    return any(
        _spec(taker).get(namespace_selector)
        for taker in found
        for _, namespace_selector in _READ.get(taker.get("kind", ""), ())
    )


def not_selected(found: Sequence[Object], ours: Ours, *, kind: str) -> Problem | None:
    """The reason why none selects an object of this kind; None if one does, or none exists."""
    selectors = _SELECTORS[kind]
    takers = [it for it in found if selectors in _READ.get(it.get("kind", ""), ())]
    told = [_hindrance(taker, ours, selectors) for taker in takers]
    if not told or not all(told):
        return None
    more = f"; and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    shown = "; ".join(it for it in told[:SHOWN] if it)
    return Problem(NOT_SELECTED, f"No Prometheus selects the {kind}: {shown}{more}.")


def _hindrance(taker: Object, ours: Ours, selectors: tuple[str, str]) -> str | None:
    """The reason why this one does not select it, and the remedy; None if it does."""
    spec, (selector, namespace_selector) = _spec(taker), selectors
    own = taker["metadata"].get("namespace", "")
    name = f"{taker['kind']} {own}/{taker['metadata'].get('name', '')}"
    wanted, namespaces = spec.get(selector), spec.get(namespace_selector)
    if wanted is None:
        return f"{name} selects none, as its spec.{selector} is not set"
    if namespaces is None and own != ours.namespace:
        return f"{name} selects only its own namespace, as its spec.{namespace_selector} is not set"
    if namespaces is not None and not _selects(namespaces, ours.namespace_labels):
        lacking = _lacking(namespaces, ours.namespace_labels)
        return f"{name} requires the label {lacking} on namespace {ours.namespace}"
    if not _selects(wanted, ours.labels):
        return (
            f"{name} requires the label {_lacking(wanted, ours.labels)};"
            " set it in spec.alerts.labels"
        )
    return None


def _selects(selector: Object, labels: Mapping[str, str]) -> bool:
    # The schema of these kinds leaves much of a selector open.
    try:
        return matches(selector, labels)
    except (KeyError, TypeError):
        return False


def _lacking(selector: Object, labels: Mapping[str, str]) -> str:
    """The unmet requirements of a selector, in the usual notation."""
    words = [
        f"{key}={value}"
        for key, value in (selector.get("matchLabels") or {}).items()
        if labels.get(key) != value
    ]
    for requirement in selector.get("matchExpressions") or ():
        if not _selects({"matchExpressions": [requirement]}, labels):
            values = ", ".join(map(str, requirement.get("values") or ()))
            word = f"{requirement.get('key')} {requirement.get('operator')}"
            words.append(f"{word} ({values})" if values else word)
    return ", ".join(words)


def _spec(taker: Object) -> Object:
    spec = taker.get("spec")
    return spec if isinstance(spec, Mapping) else {}
