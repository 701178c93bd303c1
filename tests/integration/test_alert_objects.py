"""A policy's alerts as objects of a real API server, with the kinds of the Prometheus operator."""

import pytest

from dev import cluster as throwaway
from embedding_contract import names
from embedding_operator.kube import kinds
from embedding_operator.monitoring import prometheuses
from tests.parts import kubectl, reconciling

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

KINDS = ("prometheusrules", "podmonitors", "prometheuses", "prometheusagents", "thanosrulers")
ADDED = names.additional_alerts("search")


@pytest.fixture(scope="module")
def monitored(api_server: kubectl.Kubectl) -> kubectl.Kubectl:
    folder = throwaway.artifact("prometheus-operator-crds")
    for plural in KINDS:
        api_server.define(folder / f"monitoring.coreos.com_{plural}.yaml")
    return api_server


@pytest.fixture
def run(monitored: kubectl.Kubectl, namespace: str) -> reconciling.Reconciling:
    made = reconciling.Reconciling(reconciling.connect(monitored.kubeconfig), namespace)
    made.restart(additional_alerts=True)
    return made


def policy(namespace, **alerts):
    provider = {"name": "e5", "type": "OpenAICompatible", "model": "e5", "baseURL": "http://e5/v1"}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "search", "namespace": namespace},
        "spec": {"podSelector": {}, "providers": [provider], "alerts": alerts},
    }


def added(name, expr):
    return {"name": name, "expr": expr, "labels": {"channel": "#search"}}


def own(namespace, name="Own"):
    return added(name, f'sum(up{{namespace="{namespace}"}}) == 0')


def alerts_of(run, name):
    groups = run.get(kinds.PROMETHEUS_RULE, name)["spec"]["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]


def test_added_alert_becomes_object_that_goes_with_its_entry(run, monitored, namespace):
    monitored.apply(policy(namespace, additional=[own(namespace)]))
    run("search")
    assert alerts_of(run, ADDED) == ["Own"]
    assert run.condition("search", "AlertsAccepted")["status"] == "True"
    monitored.apply(policy(namespace, additional=[]))
    run("search")
    assert run.objects.get(kinds.PROMETHEUS_RULE, namespace, ADDED) is None
    assert "EmbeddingQuotaExhausted" in alerts_of(run, "embedding-search")


def test_refused_alert_is_named_and_others_are_applied(run, monitored, namespace):
    broken, foreign = added("Broken", "sum("), added("Foreign", 'up{namespace="kube-system"}')
    monitored.apply(policy(namespace, additional=[broken, own(namespace), foreign]))
    run("search")
    assert alerts_of(run, ADDED) == ["Own"]
    found = run.condition("search", "AlertsAccepted")
    assert (found["status"], found["reason"]) == ("False", "ExpressionRefused")
    assert "additional[Broken]" in found["message"]
    assert "unclosed left parenthesis (column 4)" in found["message"]
    assert (
        f'additional[Foreign] is ignored: expr up: every selector must have namespace="{namespace}"'
        in (found["message"])
    )
    assert run.condition("search", "Ready")["status"] == "True"


def test_added_alerts_are_left_out_where_they_are_not_allowed(run, monitored, namespace):
    run.restart()
    monitored.apply(policy(namespace, additional=[own(namespace)]))
    run("search")
    assert run.objects.get(kinds.PROMETHEUS_RULE, namespace, ADDED) is None
    assert run.condition("search", "AlertsAccepted")["reason"] == "AdditionalNotAllowed"


def test_alerts_that_are_switched_off_leave_no_object(run, monitored, namespace):
    monitored.apply(policy(namespace, additional=[own(namespace)]))
    run("search")
    monitored.apply(policy(namespace, enabled=False, additional=[own(namespace)]))
    run("search")
    assert not [key for key in run.owned("search") if key.startswith(("Prometheus", "PodMon"))]


def test_labels_that_every_prometheus_wants_are_set(run, monitored, namespace):
    selector = {"matchLabels": {"release": "stack"}}
    monitored.apply(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": {"name": "k8s", "namespace": namespace},
            "spec": {
                "ruleSelector": selector,
                "podMonitorSelector": selector,
                "ruleNamespaceSelector": {"matchLabels": {"monitored": "yes"}},
            },
        }
    )
    try:
        api = run.objects
        known = prometheuses.Prometheuses(find=api.prometheuses, labels_of=api.namespace_labels)
        run.restart(selected_by=known.agreed_labels)
        monitored.apply(policy(namespace))
        run("search")
        rule = run.get(kinds.PROMETHEUS_RULE, "embedding-search")
        assert rule["metadata"]["labels"]["release"] == "stack"
        monitor = run.get(kinds.POD_MONITOR, "embedding-search")
        assert monitor["metadata"]["labels"]["release"] == "stack"
        problem = known.not_selected(rule)
        assert problem is not None
        assert f"monitored=yes on namespace {namespace}" in problem.message
        monitored("label", "namespace", namespace, "monitored=yes")
        fresh = prometheuses.Prometheuses(find=api.prometheuses, labels_of=api.namespace_labels)
        assert fresh.not_selected(rule) is None
        monitored.apply(policy(namespace, labels={"team": "search"}))
        run("search")
        wrong = run.get(kinds.PROMETHEUS_RULE, "embedding-search")
        assert wrong["metadata"]["labels"].get("release") != "stack"
        problem = fresh.not_selected(wrong)
        assert problem is not None
        assert problem.reason == "NotSelected"
        assert "release=stack; set it in spec.alerts.labels" in problem.message
    finally:
        monitored("delete", "prometheus", "k8s", "-n", namespace)
