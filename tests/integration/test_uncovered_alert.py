"""EmbeddingPodsUncovered, caused by a real pod that the operator was not asked about."""

import pytest

from embedding_contract import names
from embedding_operator.cli import preview
from embedding_operator.policy import crd_schema, policy
from tests.parts import monitoring, operating, policies, reconciling
from tests.parts import vault as real

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

ALERT = "EmbeddingPodsUncovered"
PATIENCE_SECONDS = 90


def embedding_policy(namespace):
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "search", "namespace": namespace},
        "spec": {
            "podSelector": {},
            "providers": [
                policies.compatible("local", model="e5", baseURL="http://e5.models.svc:8080/v1")
            ],
            "alerts": {"rules": {"podsUncovered": {"for": "1s"}}},
        },
    }


def pod(namespace):
    container = {"name": "app", "image": "app:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"containers": [container]},
    }


@pytest.fixture
def operator(tmp_path, api_server):
    """An operator that no webhook configuration points at, so that it misses every pod."""
    with real.running(tmp_path / "vault") as server:
        made = operating.Operator(tmp_path / "operator", api_server.kubeconfig, server)
        made.environment["RESYNC_SECONDS"] = "1"
        made.start()
        yield made
        made.stop()


def test_pod_without_its_sidecar_fires_and_its_end_resolves(
    tmp_path, api_server, namespace, operator
):
    api_server("label", "namespace", namespace, f"{names.LABEL_INJECTION}=enabled")
    reconciling.wait_for_default_account(api_server, namespace)
    api_server.apply(embedding_policy(namespace))
    wanted = policy.parse(crd_schema.admit(embedding_policy(namespace)))
    with monitoring.chain(tmp_path / "monitoring") as chain:
        chain.prometheus.rule_file("search").write_text(
            preview.rule_file([wanted]), encoding="utf-8"
        )
        chain.prometheus.targets([monitoring.Target(address=operator.metrics_address)])
        assert chain.prometheus.reload()
        chain.until(lambda: chain.prometheus.query("embedding_operator_reconciles_total > 0"))
        assert not chain.prometheus.alerts(ALERT)
        api_server.apply(pod(namespace))
        chain.until(lambda: chain.prometheus.alerts(ALERT), seconds=PATIENCE_SECONDS)
        (alert,) = chain.prometheus.alerts(ALERT)
        assert alert["labels"]["namespace"] == namespace
        assert alert["labels"]["policy"] == "search"
        chain.until(lambda: chain.alertmanager.alerts(ALERT), seconds=PATIENCE_SECONDS)
        api_server("delete", "pod", "web", "-n", namespace, "--force", "--grace-period=0")
        chain.until(
            lambda: chain.receiver.alerts(ALERT, status="resolved"), seconds=PATIENCE_SECONDS
        )
        assert not chain.alertmanager.alerts(ALERT)
