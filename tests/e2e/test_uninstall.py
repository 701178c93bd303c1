"""After all the other node tests, by its name: what was written, what was refused, and the end.

The last test uninstalls the product that the others share.
"""

import pytest

from tests.parts import installation

pytestmark = pytest.mark.node

INJECTING = {"MutatingWebhookConfiguration", "MutatingAdmissionPolicy"}


def injectors(shop):
    """Kind and name of each object of ours that is asked when a pod is created."""
    kinds = (
        "mutatingwebhookconfigurations,mutatingadmissionpolicies,mutatingadmissionpolicybindings,"
        "validatingadmissionpolicies,validatingadmissionpolicybindings"
    )
    found = [(it["kind"], it["metadata"]["name"]) for it in shop.kubectl.get(kinds)["items"]]
    return [(kind, name) for kind, name in found if "embedding" in name]


def test_no_secret_value_is_anywhere_it_should_not_be(shop):
    """All that Vault and Secrets have held, and Vault's own token, searched for after all of it."""
    secrets = shop.secrets()
    assert len(secrets) >= 4
    written = dict(shop.everything_written())
    assert secrets.find(written.items()) == []
    # It looked where the product is.
    for place in ("Event ", "ConfigMap ", "EmbeddingPolicy ", "Pod ", "log of embedding-system/"):
        assert any(it.startswith(place) for it in written), place
    for program in ("embedding-operator", "embedding-sidecar"):
        assert any(it.startswith("arguments of ") and program in it for it in written), program


def test_value_in_wrong_place_would_have_been_found(shop):
    secrets = shop.secrets()
    value = shop.parts.keys("primary")[-1]
    shop.kubectl("create", "configmap", "wrong", "-n", "shop", f"--from-literal=key={value}")
    try:
        assert secrets.find(shop.everything_written()) == ["ConfigMap shop wrong"]
    finally:
        shop.kubectl("delete", "configmap", "wrong", "-n", "shop")


POD_NAME = "authentication.kubernetes.io/pod-name"


def test_operator_met_no_403(shop):
    """From the API server's audit log: the chart's RBAC is all it runs with.

    Pods that an installation has replaced lose rights before they end; admission refuses with 403
    what a node or a LimitRange has no room for.
    """
    found = shop.kubectl.get("pods", "-n", installation.SYSTEM_NAMESPACE)["items"]
    running = {it["metadata"]["name"] for it in found if "deletionTimestamp" not in it["metadata"]}
    entries = [
        entry
        for entry in shop.audit(f"system:serviceaccount:{installation.SYSTEM_NAMESPACE}:")
        if running & set(entry["user"].get("extra", {}).get(POD_NAME, ()))
    ]
    assert entries
    refused = [
        f"{entry['verb']} {entry['requestURI']}"
        for entry in entries
        if (entry.get("annotations") or {}).get("authorization.k8s.io/decision") == "forbid"
    ]
    assert refused == []


@pytest.mark.timeout(300)
def test_uninstalled_nothing_of_ours_blocks_any_deletion(shop):
    """Of either way to inject: after the first upgrade both are there."""
    shop.install_chart(injection={"by": "webhook"})
    shop.install_chart()
    assert {kind for kind, _ in injectors(shop)} >= INJECTING
    kept = {it["metadata"]["name"] for it in shop.kubectl.get("secrets", "-n", "shop")["items"]}
    assert "embedding-search" in kept
    authority = ("secret", "embedding-operator-webhook", "-n", installation.SYSTEM_NAMESPACE)
    assert shop.kubectl.get(*authority)["metadata"]["ownerReferences"]
    shop.helm("uninstall", "embedding-operator", "-n", installation.SYSTEM_NAMESPACE, "--wait")
    # C15: no key of an authority stays, and nothing asks about pods any more.
    shop.kubectl("wait", "--for=delete", *authority, "--timeout=60s")
    assert injectors(shop) == []
    after = {it["metadata"]["name"] for it in shop.kubectl.get("secrets", "-n", "shop")["items"]}
    assert after == kept
    shop.kubectl.apply(installation.application_pod("after", labels={"embeddings": "search"}))
    shop.kubectl("wait", "--for=condition=Ready", "pod/after", "-n", "shop", "--timeout=90s")
    assert shop.ask("vector", "sidecars outlive the operator")
    # The application may take its grace period; what is ours takes none.
    shop.kubectl("delete", "deployment,job,pod", "--all", "-n", "shop", "--grace-period=1")
    shop.kubectl("delete", "namespace", "shop", "--wait", "--timeout=30s")
    for command in (
        ("delete", "namespace", installation.SYSTEM_NAMESPACE),
        ("delete", "crd", "embeddingpolicies.embedding.agenticverz.io"),
    ):
        shop.kubectl(*command, "--wait", "--timeout=120s", timeout=150)
