"""A sidecar under attack from four pods and one provider, with the memory that the chart gives it.

Cases D2 and D4 of the field, against the cgroup of a real container.
"""

import threading
from pathlib import Path

import pytest

from embedding_contract import names
from tests.parts import besieger, flood, installation

pytestmark = pytest.mark.node

BESIEGERS = 4
SHORT_SECONDS, LONG_SECONDS = 60, 600
POLICY = "besieged"
E5 = "multilingual-e5-small"


def policy(hostile_url):
    return {
        "apiVersion": "embedding.agenticverz.io/v1alpha1",
        "kind": "EmbeddingPolicy",
        "metadata": {"name": POLICY, "namespace": "shop"},
        "spec": {
            "podSelector": {"matchLabels": {"embeddings": POLICY}},
            "providers": [
                {
                    "name": "hostile",
                    "type": "OpenAICompatible",
                    "baseURL": hostile_url,
                    "model": E5,
                    "space": E5,
                },
                {
                    "name": "fine",
                    "type": "OpenAICompatible",
                    "baseURL": "http://backup.models.svc.cluster.local/v1",
                    "model": "e5-small-standby",
                    "space": E5,
                    "apiKey": {
                        "vault": {"mount": "secret", "path": "shop/embeddings", "key": "BACKUP_KEY"}
                    },
                },
            ],
            "vault": {"role": "shop"},
            "quota": {"daily": {"requests": 100_000}},
        },
    }


def attacking_pod(number, address, seconds):
    code = Path(besieger.__file__).read_text(encoding="utf-8")
    arguments = [address, str(names.ADMIN_PORT), str(seconds)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"besieger-{number}", "namespace": "besiegers"},
        "spec": {
            "containers": [
                {
                    "name": "besieger",
                    "image": installation.APPLICATION.name,
                    "imagePullPolicy": "Never",
                    "command": ["/opt/venv/bin/python", "-c", code, *arguments],
                }
            ],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
        },
    }


def sidecar_status(shop):
    pod = shop.kubectl.get("pod", POLICY, "-n", "shop")
    (found,) = [
        it for it in pod["status"]["initContainerStatuses"] if it["name"] == names.CONTAINER
    ]
    return pod["status"]["podIP"], found


def unhealthy(shop):
    events = shop.kubectl.get("events", "-n", "shop")["items"]
    return [
        it["message"]
        for it in events
        if it["involvedObject"]["name"] == POLICY
        and it["reason"] in ("Unhealthy", "Killing")
        # The first probe may come before the process listens, and before any attack.
        and not it["message"].startswith("Startup probe")
    ]


def besieged(shop, seconds, say):
    kubectl = shop.kubectl
    with flood.Endless(*flood.ANSWERS.values(), host=shop.node.host_address) as url:
        try:
            kubectl.apply(policy(url))
            shop.wait_for_policy("SecretsSynced", name=POLICY)
            labels = {"embeddings": POLICY, "app": POLICY}
            kubectl.apply(installation.application_pod(POLICY, labels=labels))
            kubectl("wait", f"pod/{POLICY}", "-n", "shop", "--for=condition=Ready", "--timeout=90s")
            address, before = sidecar_status(shop)
            kubectl("create", "namespace", "besiegers")
            kubectl.apply(*[attacking_pod(it, address, seconds) for it in range(BESIEGERS)])
            over = threading.Event()
            timer = threading.Timer(seconds, over.set)
            timer.start()
            asked = 0
            while not over.is_set():
                assert shop.ask("vector", f"asked under attack {asked}", pod=f"pod/{POLICY}")
                asked += 1
            _, after = sidecar_status(shop)
            say(f"{asked} requests answered in {seconds} s of attack")
            assert asked
            assert after["restartCount"] == before["restartCount"]
            assert "lastState" not in after or not after["lastState"]
            assert unhealthy(shop) == []
        finally:
            for kind in ("pod", "embpol"):
                kubectl("delete", kind, POLICY, "-n", "shop", "--ignore-not-found")
            kubectl("delete", "namespace", "besiegers", "--ignore-not-found")


def test_d2_d4_sidecar_under_attack_is_not_killed_and_answers(shop, say):
    besieged(shop, SHORT_SECONDS, say)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_d2_d4_sidecar_under_ten_minutes_of_attack_answers(shop, say):
    besieged(shop, LONG_SECONDS, say)
