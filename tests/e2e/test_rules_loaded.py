"""From `kubectl apply` to the proof that Prometheus has loaded the rules, on a default kubelet.

By the Prometheus operator, its config-reloader and a real Prometheus.
"""

import statistics
import time

import pytest
import yaml

from tests.parts import installation, prometheus_operator

pytestmark = pytest.mark.node

PATIENCE_SECONDS = 240
"""A kubelet's default sync takes up to two minutes."""


@pytest.fixture(scope="module")
def monitored(shop, tmp_path_factory):
    """The shop with a Prometheus that the operator asks."""
    folder = tmp_path_factory.mktemp("prometheus-operator")
    prometheus_operator.install(shop.kubectl, node=shop.node.name, folder=folder)
    values = shop.values() | {"monitoring": {"prometheus": [{"url": prometheus_operator.URL}]}}
    shop.helm.upgrade(
        "embedding-operator",
        installation.ROOT / "charts" / "embedding-operator",
        namespace=installation.SYSTEM_NAMESPACE,
        values=values,
    )
    yield shop
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


def until(shop, name, *reasons):
    """Wait until RulesLoaded has one of these reasons; that condition."""

    def found():
        return shop.condition(shop.status(name), "RulesLoaded")

    installation.wait(
        lambda: found().get("reason") in reasons,
        f"RulesLoaded of {name}",
        timeout_seconds=PATIENCE_SECONDS,
        last=found,
    )
    return found()


@pytest.mark.timeout(2600)
@pytest.mark.parametrize("count", [3, pytest.param(10, marks=pytest.mark.soak)])
def test_apply_to_rules_loaded(monitored, say, count):
    took = []
    for number in range(count):
        name = f"loaded-{count}-{number}"
        started = time.monotonic()
        monitored.kubectl.apply(policy(name))
        assert until(monitored, name, "Loaded")["status"] == "True"
        took.append(time.monotonic() - started)
        monitored.kubectl("delete", "embpol", name, "-n", "shop")
        # In no step with the kubelet's own period.
        time.sleep(3 + 7 * number % 11)
    say(
        f"apply to RulesLoaded=True, default kubelet, {count} policies: p50"
        f" {statistics.median(took):.1f} s, max {max(took):.1f} s"
    )


@pytest.mark.timeout(900)
def test_what_keeps_rules_away_is_told(monitored, say):
    monitored.kubectl.apply(policy("faulty", labels={"team": "search"}))
    try:
        assert until(monitored, "faulty", "Loaded")["status"] == "True"
        selector = {"matchLabels": {"release": "stack"}}
        monitored.kubectl.apply(prometheus_operator.prometheus(rule_selector=selector))
        found = until(monitored, "faulty", "NotSelected")
        assert found["status"] == "False"
        assert "release" in found["message"]
        monitored.kubectl.apply(prometheus_operator.prometheus())
        assert until(monitored, "faulty", "Loaded")["status"] == "True"
        paused = {"spec": {"replicas": 0}}
        monitored.kubectl(
            *("patch", "prometheus", "main", "-n", prometheus_operator.NAMESPACE),
            *("--type=merge", "-p", yaml.safe_dump(paused)),
        )
        found = until(monitored, "faulty", "Unreachable", "Slow")
        assert found["status"] == "Unknown"
        assert "prometheus-operated.monitoring" in found["message"]
        say(f"Prometheus stopped: {found['message']}")
    finally:
        monitored.kubectl.apply(prometheus_operator.prometheus())
        monitored.kubectl("delete", "embpol", "faulty", "-n", "shop")
