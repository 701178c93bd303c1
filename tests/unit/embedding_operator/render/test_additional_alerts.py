"""Alerts that a policy adds: each is judged by itself, and none routes as another policy's."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_contract import names
from embedding_operator.policy import alerts, policy
from embedding_operator.render import additional_alerts, monitoring

EVERYTHING = Path(__file__).parents[3] / "contract/cases/good/everything.yaml"
EXPR = 'sum(rate(aos_embedding_tokens_total{namespace="shop"}[5m])) > 1000'


def entry(**changed):
    made = alerts.Additional(
        name="TooManyTokens",
        expr=EXPR,
        for_seconds=300,
        labels={"channel": "#embeddings"},
        annotations={"summary": "{{ $value | humanize }} in {{ $labels.pod }}"},
    )
    return dataclasses.replace(made, **changed)


def parsed(*additional, **changed):
    spec = yaml.safe_load(EVERYTHING.read_text(encoding="utf-8"))["spec"]
    spec["alerts"] = {"enabled": True, "additional": list(additional), **changed}
    metadata = {"namespace": "shop", "name": "search", "uid": "1"}
    return policy.parse({"metadata": metadata, "spec": spec})


def own(name="Own", **changed):
    return {"name": name, "expr": EXPR, **changed}


def test_alert_is_rendered_into_object_of_its_own():
    made = monitoring.of(parsed(own(**{"for": "5m"})), additional_allowed=True)
    assert made.problems == ()
    assert made.additional is not None
    assert made.additional["metadata"]["name"] == names.additional_alerts("search")
    ((rule,),) = [group["rules"] for group in made.additional["spec"]["groups"]]
    assert rule["expr"] == EXPR
    assert rule["for"] == "5m"
    assert rule["labels"] == {"severity": "warning", "namespace": "shop", "policy": "search"}
    built_in = {it.get("alert") for it in made.rule["spec"]["groups"][0]["rules"]}
    assert "Own" not in built_in


def test_alert_counts_only_where_installation_allows_it():
    made = monitoring.of(parsed(own()))
    assert made.additional is None
    (problem,) = made.problems
    assert problem.reason == "AdditionalNotAllowed"
    assert "alerts.additional" in problem.message


def test_refused_alert_keeps_no_other_away():
    broken = own("Broken", expr="sum(")
    made = monitoring.of(parsed(own(), broken, own("Third")), additional_allowed=True)
    assert made.additional is not None
    ((*rules,),) = [group["rules"] for group in made.additional["spec"]["groups"]]
    assert [it["alert"] for it in rules] == ["Own", "Third"]
    (problem,) = made.problems
    assert problem.reason == "ExpressionRefused"
    assert problem.message == (
        "spec.alerts.additional[Broken] is ignored: expr does not parse: unclosed left"
        " parenthesis (column 4)"
    )


def test_labels_of_policy_and_of_alert_are_joined():
    chosen = {"labels": {"team": "search", "severity": "critical"}}
    made = monitoring.of(
        parsed(own(labels={"severity": "info", "channel": "c"}), **chosen), additional_allowed=True
    )
    assert made.additional is not None
    (rule,) = made.additional["spec"]["groups"][0]["rules"]
    assert rule["labels"] == {
        "team": "search",
        "severity": "info",
        "channel": "c",
        "namespace": "shop",
        "policy": "search",
    }


def test_labels_that_expression_makes_up_do_not_win():
    forged = f'label_replace({EXPR}, "namespace", "kube-system", "", "")'
    made = monitoring.of(parsed(own(expr=forged)), additional_allowed=True)
    assert made.additional is not None
    (rule,) = made.additional["spec"]["groups"][0]["rules"]
    assert (rule["labels"]["namespace"], rule["labels"]["policy"]) == ("shop", "search")


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "a label of ours": ("LabelRefused", {"labels": {"namespace": "kube-system"}}),
    "the policy's label": ("LabelRefused", {"labels": {"policy": "other"}}),
    "the alert's name as a label": ("LabelRefused", {"labels": {"alertname": "Other"}}),
    "a label that Prometheus keeps for itself": ("LabelRefused", {"labels": {"__x": "y"}}),
    "a label with a dash": ("LabelRefused", {"labels": {"a-b": "y"}}),
    "an unknown severity": ("LabelRefused", {"labels": {"severity": "page"}}),
    "a template as a label": ("LabelRefused", {"labels": {"team": "{{ $labels.pod }}"}}),
    "a query as a label": ("LabelRefused", {"labels": {"team": '{{ query "up" }}'}}),
    "an over-long label": ("LabelRefused", {"labels": {"team": "a" * 129}}),
    "a label that UTF-8 cannot hold": ("LabelRefused", {"labels": {"team": "a\ud800"}}),
    "a label with a line break": ("LabelRefused", {"labels": {"team": "a\nb"}}),
    "a label with a zero byte": ("LabelRefused", {"labels": {"team": "a\x00"}}),
    "an annotation that queries all": (
        "AnnotationRefused",
        {"annotations": {"summary": '{{ range query "up" }}{{ .Labels }}{{ end }}'}},
    ),
    "an annotation with a pipe to query": (
        "AnnotationRefused",
        {"annotations": {"summary": '{{ "up" | query | first }}'}},
    ),
    "an annotation that trims": ("AnnotationRefused", {"annotations": {"a": "{{- $value -}}"}}),
    "an annotation with labels of elsewhere": (
        "AnnotationRefused",
        {"annotations": {"a": "{{ $externalLabels.cluster }}"}},
    ),
    "an annotation split over braces": (
        "AnnotationRefused",
        {"annotations": {"a": '{{{ $value }}{{ query "up" }}'}},
    ),
    "a template that closing makes": (
        "AnnotationRefused",
        {"annotations": {"a": '{{{ $value }}{ query "up" }}'}},
    ),
    "an annotation that UTF-8 cannot hold": (
        "AnnotationRefused",
        {"annotations": {"a": "\udfff"}},
    ),
    "an over-long annotation": ("AnnotationRefused", {"annotations": {"a": "b" * 1025}}),
    "a name of a built-in alert": ("NameRefused", {"name": "EmbeddingQuotaExhausted"}),
    "another namespace's series": ("ExpressionRefused", {"expr": "up == 0"}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_alert_is_refused_with(what):
    reason, changed = REFUSED[what]
    told = additional_alerts.refusal(entry(**changed), namespace="shop")
    assert told is not None
    assert told[0] == reason
    told[1].encode()  # a condition can hold it


def test_alert_of_plain_labels_and_templates_is_allowed():
    assert additional_alerts.refusal(entry(), namespace="shop") is None
