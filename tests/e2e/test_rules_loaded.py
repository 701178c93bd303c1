"""From `kubectl apply` to the proof that Prometheus has loaded the rules and scrapes the sidecars.

By the Prometheus operator, its config-reloader and a real Prometheus. A default kubelet takes up to
two minutes to write a changed ConfigMap: the long form waits for it, the short one tells it to.
"""

import statistics
import time

import pytest

from tests.parts import installation, prometheus_operator

pytestmark = pytest.mark.node

PATIENCE_SECONDS = 240
"""A kubelet's default sync takes up to two minutes."""
APART_SECONDS = 23
"""Between two applies: in step neither with kubelet's minute nor with the operator's 15 s."""


@pytest.fixture(scope="module")
def monitored(shop, tmp_path_factory):
    """The shop with a Prometheus that the operator asks."""
    folder = tmp_path_factory.mktemp("prometheus-operator")
    prometheus_operator.install(shop.kubectl, node=shop.node.name, folder=folder)
    values = shop.values() | {
        "monitoring": {"prometheus": [{"url": prometheus_operator.URL}]},
        "alerts": {"additional": True},
    }
    shop.helm.upgrade(
        "embedding-operator",
        installation.ROOT / "charts" / "embedding-operator",
        namespace=installation.SYSTEM_NAMESPACE,
        values=values,
    )
    yield shop
    prometheus_operator.remove(shop.kubectl)
    shop.install_chart()


def policy(name, **alerts):
    """One that selects no pod and needs no key."""
    provider = {
        "name": "e5",
        "type": "OpenAICompatible",
        "model": "e5",
        "baseURL": "http://primary.models.svc/v1",
    }
    return {
        "apiVersion": "embedding.agenticverz.io/v1alpha1",
        "kind": "EmbeddingPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "podSelector": {"matchLabels": {"embeddings": name}},
            "providers": [provider],
            "alerts": alerts,
        },
    }


def loaded(shop):
    """The names of the policies whose rules are proved to be loaded."""
    policies = shop.kubectl.get("embpol", "-n", "shop")["items"]
    found = {
        it["metadata"]["name"]: shop.condition(it.get("status", {}), "RulesLoaded")
        for it in policies
    }
    return {
        name
        for name, condition in found.items()
        if (condition.get("status"), condition.get("reason")) == ("True", "Loaded")
    }


def until(shop, name, *reasons, kind="RulesLoaded"):
    """Wait until the condition has one of these reasons; that condition."""

    def found():
        return shop.condition(shop.status(name), kind)

    installation.wait(
        lambda: found().get("reason") in reasons,
        f"{kind} of {name}",
        timeout_seconds=PATIENCE_SECONDS,
        last=found,
    )
    return found()


def until_listed(shop, group, *, is_listed):
    """Wait until Prometheus lists a group, or lists it no more, without waiting for kubelet."""

    def reached():
        prometheus_operator.refresh_volumes(shop.kubectl)
        return (group in prometheus_operator.groups(shop.kubectl)) is is_listed

    installation.wait(reached, f"{group} in Prometheus: {is_listed}")


def test_apply_to_rules_loaded_where_kubelet_is_told(monitored, say):
    names = [f"told-{number}" for number in range(3)]
    began = time.monotonic()
    monitored.kubectl.apply(*(policy(name) for name in names))

    def all_loaded():
        prometheus_operator.refresh_volumes(monitored.kubectl)
        return loaded(monitored).issuperset(names)

    installation.wait(all_loaded, "RulesLoaded")
    say(f"apply to RulesLoaded=True, kubelet told: {time.monotonic() - began:.1f} s")
    monitored.kubectl("delete", "embpol", *names, "-n", "shop")


def test_running_sidecars_are_seen_to_be_scraped(monitored, say):
    """By the PodMonitor that the operator made of the example's policy."""
    found = until(monitored, "search", "Up", kind="Scraped")
    assert found["status"] == "True"
    assert found["message"].startswith("Prometheus scrapes ")
    assert not found["message"].startswith("Prometheus scrapes 0 of")
    say(f"Scraped on the node: {found['message']}")


def test_refused_expression_is_told_and_stops_no_other_rule(monitored, say):
    name, group = "refused", "shop.embedding-refused"
    broken = {"name": "TooMany", "expr": 'sum(aos_embedding_errors_total{namespace="shop"}'}
    try:
        monitored.kubectl.apply(policy(name, additional=[broken]))
        found = until(monitored, name, "ExpressionRefused", kind="AlertsAccepted")
        assert found["status"] == "False"
        assert "does not parse" in found["message"]
        assert "column" in found["message"]
        until_listed(monitored, group, is_listed=True)
        assert until(monitored, name, "Loaded")["status"] == "True"
        say(f"AlertsAccepted on the node: {found['message']}")
    finally:
        monitored.kubectl("delete", "embpol", name, "-n", "shop", "--ignore-not-found")


@pytest.mark.soak
@pytest.mark.timeout(2600)
def test_apply_to_rules_loaded_by_default_kubelet(monitored, say):
    """Applied one after another, so that each meets kubelet at another point of its period."""
    count = 10
    names = [f"loaded-{number}" for number in range(count)]
    applied: dict[str, float] = {}
    took: dict[str, float] = {}
    deadline = time.monotonic() + count * APART_SECONDS + PATIENCE_SECONDS
    due = time.monotonic()
    while len(took) < count:
        now = time.monotonic()
        assert now < deadline, f"not loaded: {applied.keys() - took.keys()}"
        if len(applied) < count and now >= due:
            name = names[len(applied)]
            applied[name] = now
            monitored.kubectl.apply(policy(name))
            due = now + APART_SECONDS
        for name in loaded(monitored) & applied.keys() - took.keys():
            took[name] = time.monotonic() - applied[name]
        time.sleep(0.3)
    monitored.kubectl("delete", "embpol", *names, "-n", "shop")
    say(
        f"apply to RulesLoaded=True, default kubelet, {count} policies: p50"
        f" {statistics.median(took.values()):.1f} s, max {max(took.values()):.1f} s"
    )


@pytest.mark.timeout(900)
def test_status_tells_why_rules_are_not_loaded(monitored, say):
    """A wrong label, then a deleted ConfigMap, then a Prometheus that is stopped."""
    kubectl, name, group = monitored.kubectl, "faulty", "shop.embedding-faulty"
    selector = {"matchLabels": {"release": "stack"}}
    try:
        kubectl.apply(prometheus_operator.prometheus(rule_selector=selector))
        kubectl.apply(policy(name, labels={"release": "other"}))
        found = until(monitored, name, "NotSelected")
        assert found["status"] == "False"
        assert "release=stack; set it in spec.alerts.labels" in found["message"]

        kubectl.apply(policy(name, labels={"release": "stack"}))
        until_listed(monitored, group, is_listed=True)
        assert until(monitored, name, "Loaded")["status"] == "True"

        prometheus_operator.stop_operator(kubectl)
        prometheus_operator.delete_rules(kubectl)
        until_listed(monitored, group, is_listed=False)
        gone = time.monotonic()
        found = until(monitored, name, "NotLoaded")
        told_seconds = time.monotonic() - gone
        assert found["status"] == "False"
        assert group in found["message"]
        say(f"rules gone from Prometheus, told {told_seconds:.1f} s later: {found['message']}")

        prometheus_operator.stop_prometheus(kubectl)
        stopped = time.monotonic()
        found = until(monitored, name, "Unreachable", "Slow")
        told_seconds = time.monotonic() - stopped
        assert found["status"] == "Unknown"
        assert "prometheus-operated.monitoring" in found["message"]
        say(f"Prometheus stopped, told {told_seconds:.1f} s later: {found['message']}")
    finally:
        kubectl("delete", "embpol", name, "-n", "shop", "--ignore-not-found")
