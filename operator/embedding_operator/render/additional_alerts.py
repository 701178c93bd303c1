"""The alerts that a policy adds, checked one by one, so that a refused one does not block others.

Annotations are templates, and a template can query all of Prometheus: so it may use only the labels
and the value of the alert itself. Labels route alerts, so they must not be templates.
"""

import re
from typing import Any, Final

from embedding_contract import built_in_alerts as table
from embedding_operator.errors import Problem
from embedding_operator.policy import alerts
from embedding_operator.policy.policy import EmbeddingPolicy
from embedding_operator.render import alert_rules, promql

DEFAULT_SEVERITY: Final = "warning"
MAX_LABEL_CHARACTERS: Final = 128
MAX_ANNOTATION_CHARACTERS: Final = 1024
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TEMPLATE: Final = re.compile(
    r"\{\{ *(\$labels\.[a-zA-Z_][a-zA-Z0-9_]*|\$value)"
    r"( *\| *(humanize|humanize1024|humanizeDuration|humanizePercentage))? *\}\}"
)

Rule = dict[str, Any]


def rules(policy: EmbeddingPolicy, *, allowed: bool) -> tuple[list[Rule], list[Problem]]:
    """The accepted rules, and the problems of the others."""
    if policy.additional_alerts and not allowed:
        message = (
            "spec.alerts.additional is ignored: the administrator must set alerts.additional of the"
            " chart to allow it"
        )
        return [], [Problem("AdditionalNotAllowed", message)]
    made, problems = [], []
    for alert in policy.additional_alerts:
        told = refusal(alert, namespace=policy.namespace)
        if told is None:
            made.append(_rule(alert, policy))
        else:
            reason, message = told
            problems.append(
                Problem(
                    reason, f"spec.alerts.additional[{_clean(alert.name)}] is ignored: {message}"
                )
            )
    return made, problems


def refusal(alert: alerts.Additional, *, namespace: str) -> tuple[str, str] | None:
    """The reason and message for refusing an alert; None if it is accepted."""
    if alert.name.startswith(table.PREFIX):
        return (
            "NameRefused",
            f"names that begin with {table.PREFIX} are reserved for built-in alerts",
        )
    if told := _labels(alert):
        return "LabelRefused", told
    if told := _annotations(alert):
        return "AnnotationRefused", told
    if told := promql.refusal(alert.expr, namespace=namespace):
        return "ExpressionRefused", f"expr {told}"
    return None


def _labels(alert: alerts.Additional) -> str | None:
    told = (_name(name) or _value(name, value) for name, value in alert.labels.items())
    return next((it for it in told if it), None)


def _name(name: str) -> str | None:
    if name in table.OUR_LABELS:
        return f"the label {name} is set by the operator"
    if not _LABEL.fullmatch(name) or name.startswith("__"):
        return f"{_clean(name)!r} is not a valid label name"
    return None


def _value(name: str, value: str) -> str | None:
    if not value.isprintable():  # surrogates are not, either
        return f"the label {name} has unprintable characters"
    if len(value) > MAX_LABEL_CHARACTERS:
        return f"the label {name} has more than {MAX_LABEL_CHARACTERS} characters"
    if "{{" in value:
        return f"the label {name} is a template, which cannot route alerts"
    if name == "severity" and value not in table.SEVERITIES:
        return f"the severity {_clean(value)!r} must be one of {', '.join(table.SEVERITIES)}"
    return None


def _annotations(alert: alerts.Additional) -> str | None:
    for name, value in alert.annotations.items():
        if not _LABEL.fullmatch(name):
            return f"{_clean(name)!r} is not a valid annotation name"
        if not all(it.isprintable() or it == "\n" for it in value):
            return f"the annotation {name} has unprintable characters"
        if len(value) > MAX_ANNOTATION_CHARACTERS:
            return f"the annotation {name} has more than {MAX_ANNOTATION_CHARACTERS} characters"
        if "{{" in _TEMPLATE.sub("", value):
            return (
                f"the annotation {name} has a template other than {{{{ $labels.NAME }}}} and"
                " {{ $value }}, which may be humanized"
            )
    return None


def _rule(alert: alerts.Additional, policy: EmbeddingPolicy) -> Rule:
    severity = alert.labels.get("severity")
    # Ours last, as an expression may set labels, for example by label_replace().
    labels = {
        **alert_rules.labels(policy, severity=DEFAULT_SEVERITY, own=severity),
        **{name: value for name, value in alert.labels.items() if name != "severity"},
        "namespace": policy.namespace,
        "policy": policy.name,
    }
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alerts.duration(alert.for_seconds),
        "labels": labels,
        "annotations": dict(alert.annotations),
    }


def _clean(text: str) -> str:
    """A name, safe to show in a message."""
    return "".join(it for it in text if it.isprintable())[:64]
