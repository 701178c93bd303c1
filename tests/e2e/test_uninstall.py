"""After all the other node tests, by its name: what was written, what was refused, and the end.

The last test uninstalls the product that the others share.
"""

import pytest

from tests.parts import installation

pytestmark = pytest.mark.node


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


def test_operator_met_no_403(shop):
    """From the API server's audit log: the chart's RBAC is all it runs with."""
    refused = [
        f"{entry['verb']} {entry['requestURI']}"
        for entry in shop.audit(f"system:serviceaccount:{installation.SYSTEM_NAMESPACE}:")
        if entry["responseStatus"]["code"] == 403
    ]
    assert refused == []


def test_uninstalled_nothing_of_ours_blocks_any_deletion(shop):
    shop.helm("uninstall", "embedding-operator", "-n", installation.SYSTEM_NAMESPACE, "--wait")
    shop.kubectl.apply(installation.application_pod("after", labels={"embeddings": "search"}))
    shop.kubectl("wait", "--for=condition=Ready", "pod/after", "-n", "shop", "--timeout=90s")
    assert shop.ask("vector", "sidecars outlive the operator")
    for command in (
        ("delete", "embpol", "--all", "-n", "shop"),
        ("delete", "namespace", "shop", installation.SYSTEM_NAMESPACE),
        ("delete", "crd", "embeddingpolicies.embedding.agenticverz.io"),
    ):
        shop.kubectl(*command, "--wait", "--timeout=120s", timeout=150)
