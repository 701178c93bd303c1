"""What happens while a part is away; each test puts the installation back."""

import time

import pytest
import yaml

from tests.parts import installation

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


def test_pods_start_and_sidecars_serve_on_without_operator(shop):
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
    shop.kubectl("delete", "pod", "missed", "-n", "shop", "--wait")
    shop.wait_for_status(lambda status: status["pods"]["summary"] == "1/1")


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
