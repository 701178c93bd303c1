"""After all the other node tests, by its name: what was written, what was refused, and the end.

The last test uninstalls the product that the others share.
"""

import pytest

from tests.parts import installation

pytestmark = pytest.mark.node


def test_no_secret_value_is_anywhere_it_should_not_be(shop):
    """The keys in Vault, the API token and Vault's own token, searched for after all of it."""
    values = shop.secret_values()
    assert len(values) >= 4
    for place, text in shop.everything_written():
        for value in values:
            assert value not in text, f"a secret value stands in {place}"


def test_the_operator_met_no_403(shop):
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
