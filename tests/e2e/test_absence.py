"""What happens while a part is away; each test puts the installation back."""

import threading
import time

import pytest
import yaml

from dev.cluster import node, records
from embedding_operator.injection import selection
from tests.parts import both_ways, direct, installation

pytestmark = pytest.mark.node

OPERATOR = "deployment/embedding-operator"


def scale_operator(shop, replicas: int) -> None:
    namespace = installation.SYSTEM_NAMESPACE
    shop.kubectl("scale", OPERATOR, f"--replicas={replicas}", "-n", namespace)
    if replicas:
        shop.kubectl("rollout", "status", OPERATOR, "-n", namespace, "--timeout=120s")
    else:
        selector = "app.kubernetes.io/name=embedding-operator"
        shop.kubectl(
            "wait", "--for=delete", "pod", "-l", selector, "-n", namespace, "--timeout=90s"
        )


def test_new_pods_are_injected_without_operator_and_after_restart_of_node(shop):
    """C15: a cluster that starts each morning, before its operator is up."""
    scale_operator(shop, 0)
    try:
        record = records.load(shop.node.name)
        assert record is not None
        node.restart(record)
        before = {it["metadata"]["uid"] for it in pods_of(shop)}
        shop.kubectl("delete", "pods", "--all", "-n", "shop", "--force", "--grace-period=0")
        shop.kubectl.apply(installation.application_pod("morning"))
        shop.kubectl("rollout", "status", "deployment/search", "-n", "shop", "--timeout=180s")
        shop.kubectl("wait", "--for=condition=Ready", "pod/morning", "-n", "shop", "--timeout=90s")
        new = [it for it in pods_of(shop) if it["metadata"]["uid"] not in before]
        assert len(new) >= 2
        assert all(selection.carries_sidecar(it) for it in new)
        for it in new:
            pod = f"pod/{it['metadata']['name']}"
            assert shop.ask("vector", f"a morning without an operator {time.time()}", pod=pod)
    finally:
        scale_operator(shop, 1)
    shop.wait_for_status(lambda status: status["pods"]["summary"] == f"{len(new)}/{len(new)}")
    shop.kubectl("delete", "pod", "morning", "-n", "shop", "--wait")
    shop.wait_for_status(lambda status: status["pods"]["summary"] == "1/1")


def pods_of(shop):
    return shop.kubectl.get("pods", "-n", "shop", "-l", "embeddings=search")["items"]


def test_webhook_injects_nothing_without_operator_and_status_says_so(shop):
    shop.install_chart(injection={"by": "webhook"})
    scale_operator(shop, 0)
    try:
        shop.kubectl.apply(installation.application_pod("missed"))
        shop.kubectl("wait", "--for=condition=Ready", "pod/missed", "-n", "shop", "--timeout=90s")
        assert "initContainers" not in shop.kubectl.get("pod", "missed", "-n", "shop")["spec"]
        assert shop.ask("vector", f"without an operator {time.time()}")
    finally:
        scale_operator(shop, 1)
    status = shop.wait_for_status(lambda status: "missed" in str(status["pods"].get("missing")))
    assert status["pods"]["summary"] == "1/2"
    assert shop.condition(status, "PodsCovered")["reason"] == "PodsMissed"
    shop.kubectl("delete", "pod", "missed", "-n", "shop", "--wait")
    shop.wait_for_status(lambda status: status["pods"]["summary"] == "1/1")


def test_upgrade_from_webhook_to_policy_injects_each_pod_once(shop):
    """The webhook stays for the first upgrade, and goes with the next."""
    made, refused = [], []
    done = threading.Event()
    admission = both_ways.Admission(shop.kubectl.kubeconfig)
    pod = installation.application_pod("during")
    # The operator that comes back reconciles before its webhook is asked.
    both_ways.wait_until_injected(admission, "shop", pod)

    def create():
        while not done.is_set():
            try:
                made.append(admission.create("shop", pod))
            except direct.RefusedError as error:
                refused.append(error)

    creating = threading.Thread(target=create)
    creating.start()
    try:
        for webhooks in (1, 0):
            shop.install_chart()
            listed = shop.kubectl.get("mutatingwebhookconfiguration")["items"]
            assert len([it for it in listed if "embedding" in it["metadata"]["name"]]) == webhooks
    finally:
        done.set()
        creating.join()
        admission.close()
    assert refused == []
    assert len(made) > 100
    deployment = shop.kubectl.get(OPERATOR, "-n", installation.SYSTEM_NAMESPACE)
    # A single replica that is recreated answers nobody meanwhile.
    is_recreated = deployment["spec"]["strategy"]["type"] == "Recreate"
    missed = [it for it in made if not selection.carries_sidecar(it)]
    assert is_recreated or missed == []
    assert {len(it["spec"].get("initContainers", ())) for it in made} <= {0, 1}
    assert selection.carries_sidecar(made[0])
    assert selection.carries_sidecar(made[-1])


def test_policy_applied_while_vault_is_sealed_heals_by_itself(shop):
    # A path of its own: that of the other policy was read a moment ago and is known.
    keys = {"PRIMARY_KEY": "primary-key-1", "BACKUP_KEY": "backup-key-1"}
    shop.parts.accept_keys("primary", *shop.parts.keys("primary"), "primary-key-1")
    shop.parts.write_keys(path="shop/late", **keys)
    shop.parts.seal_vault()
    try:
        policy = yaml.safe_load((installation.EXAMPLES / "policy.yaml").read_text(encoding="utf-8"))
        policy["metadata"]["name"] = "late"
        for provider in policy["spec"]["providers"]:
            provider["apiKey"]["vault"]["path"] = "shop/late"
        policy["spec"]["podSelector"] = {"matchLabels": {"embeddings": "late"}}
        shop.kubectl.apply(policy)
        status = shop.wait_for_policy("SecretsSynced", name="late", expected="False")
        condition = shop.condition(status, "SecretsSynced")
        assert condition["reason"] == "VaultSealed"
        assert "secret/shop/late" in condition["message"]
        shop.kubectl.apply(installation.application_pod("late", labels={"embeddings": "late"}))
        shop.kubectl("wait", "--for=condition=Ready", "pod/late", "-n", "shop", "--timeout=90s")
        refused = shop.ask_and_fail("vector", "too early", pod="pod/late")
        assert "503" in refused
        assert "has not been synced yet" in refused
    finally:
        shop.parts.unseal_vault()
    shop.wait_for_policy("Ready", name="late")
    assert shop.ask("vector", "in time", pod="pod/late")


def test_deleted_policy_takes_its_objects_and_leaves_its_pods(shop):
    shop.kubectl("delete", "embpol", "late", "-n", "shop", "--wait")
    kinds = "configmap,secret"
    selector = "embedding.agenticverz.io/policy=late"
    shop.kubectl("wait", "--for=delete", kinds, "-l", selector, "-n", "shop", "--timeout=60s")
    pod = shop.kubectl.get("pod", "late", "-n", "shop")
    assert pod["status"]["phase"] == "Running"
    assert shop.ask("vector", "in time", pod="pod/late")
