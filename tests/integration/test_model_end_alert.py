"""EmbeddingModelRetires, caused by a policy of a model with an announced end."""

import pytest

from embedding_contract import names
from embedding_operator.cli import preview
from embedding_operator.policy import crd_schema, policy
from tests.parts import monitoring, operating
from tests.parts import vault as real

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

ALERT = "EmbeddingModelRetires"
PATIENCE_SECONDS = 90


def embedding_policy(namespace, *, model):
    key = {"secretKeyRef": {"name": "keys", "key": "VOYAGE"}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "search", "namespace": namespace},
        "spec": {
            "podSelector": {},
            "providers": [{"name": "voyage", "type": "Voyage", "model": model, "apiKey": key}],
            "alerts": {"rules": {"modelRetires": {"for": "1s", "threshold": 730}}},
        },
    }


@pytest.fixture
def operator(tmp_path, api_server):
    with real.running(tmp_path / "vault") as server:
        made = operating.Operator(tmp_path / "operator", api_server.kubeconfig, server)
        made.environment["RESYNC_SECONDS"] = "1"
        made.start()
        yield made
        made.stop()


def test_announced_end_fires_and_another_model_resolves(tmp_path, api_server, namespace, operator):
    api_server.apply(embedding_policy(namespace, model="voyage-3.5"))
    wanted = policy.parse(crd_schema.admit(embedding_policy(namespace, model="voyage-3.5")))
    with monitoring.chain(tmp_path / "monitoring") as chain:
        chain.prometheus.rule_file("search").write_text(
            preview.rule_file([wanted]), encoding="utf-8"
        )
        chain.prometheus.targets([monitoring.Target(address=operator.metrics_address)])
        assert chain.prometheus.reload()
        chain.until(lambda: chain.prometheus.alerts(ALERT), seconds=PATIENCE_SECONDS)
        (alert,) = chain.prometheus.alerts(ALERT)
        assert alert["labels"]["namespace"] == namespace
        assert (alert["labels"]["policy"], alert["labels"]["model"]) == ("search", "voyage-3.5")
        status = api_server.get("embeddingpolicy", "search", "-n", namespace)["status"]
        (told,) = [it for it in status["conditions"] if it["type"] == "ModelRetires"]
        assert "2027-12-01" in told["message"]
        chain.until(lambda: chain.alertmanager.alerts(ALERT), seconds=PATIENCE_SECONDS)
        api_server.apply(embedding_policy(namespace, model="voyage-4"))
        chain.until(
            lambda: chain.receiver.alerts(ALERT, status="resolved"), seconds=PATIENCE_SECONDS
        )
        assert not chain.prometheus.alerts(ALERT)
