"""A ClusterEmbeddingProvider with the operator as a process: what changes reaches its policies."""

import base64
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_contract import names
from tests.parts import operating, vault
from tests.parts.kubectl import Kubectl, KubectlError

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

PAGE = Path(__file__).parents[2] / "docs" / "providers-cluster.md"
PROVIDER, POLICY = (
    yaml.safe_load(it)
    for it in re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
)
SYSTEM = "embedding-system"
ENTRY = names.secret_class_key("openai")
PATIENCE_SECONDS = 30
ROTATION_SECONDS = 5
"""Within this time a new key is in all owned Secrets."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with vault.running(tmp_path_factory.mktemp("vault")) as started:
        yield started


@pytest.fixture(scope="module")
def operator(tmp_path_factory, api_server, server):
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    made = operating.Operator(tmp_path_factory.mktemp("operator"), api_server.kubeconfig, server)
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Tenant:
    """A namespace with the policy of the page."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self.namespace = namespace

    def apply(self) -> None:
        metadata = {**POLICY["metadata"], "namespace": self.namespace}
        self._kubectl.apply({**POLICY, "metadata": metadata})

    def key(self) -> str | None:
        """The platform's key in the owned Secret."""
        name = names.owned_secret("search")
        data = self._kubectl.get("secret", name, "-n", self.namespace)["data"]
        return base64.b64decode(data[ENTRY]).decode() if ENTRY in data else None

    def condition(self, kind: str = "Accepted") -> tuple[str, str]:
        found = self._kubectl.get("embpol", "search", "-n", self.namespace)
        listed = found.get("status", {}).get("conditions", [])
        return next(((it["status"], it["reason"]) for it in listed if it["type"] == kind), ("", ""))


def wait(check, expected: Any, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Until a check gives what is expected."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = check()
        except KubectlError as error:
            found = error
        if found == expected:
            return
        assert time.monotonic() < deadline, f"{expected!r} expected, {found!r} found"
        time.sleep(0.05)


@pytest.fixture
def tenants(api_server, namespace, operator):
    """Two namespaces that may use the provider, and one that may not."""
    write_key(api_server, "sk-1")
    api_server.apply(PROVIDER)
    found = [Tenant(api_server, it) for it in (namespace, f"{namespace}-b", f"{namespace}-c")]
    for tenant in found[1:]:
        api_server("create", "namespace", tenant.namespace)
    for tenant in found[:2]:
        api_server("label", "namespace", tenant.namespace, "embedding=allowed")
    for tenant in found:
        tenant.apply()
    for tenant in found[:2]:
        wait(tenant.key, "sk-1")
    wait(found[2].condition, ("False", "ClassForbidden"))
    yield found
    for tenant in found:
        api_server("delete", "embpol", "--all", "-n", tenant.namespace)
    for tenant in found[1:]:
        api_server("delete", "namespace", tenant.namespace, "--wait=false")
    api_server("delete", "cembp", "--all")
    api_server("delete", "secret", "openai", "-n", SYSTEM, "--ignore-not-found")


def write_key(api_server, value):
    api_server.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "openai", "namespace": SYSTEM},
            "data": {"KEY": base64.b64encode(value.encode()).decode()},
        }
    )


def counts(api_server):
    status = api_server.get("cembp", "openai").get("status", {})
    return status.get("policies"), status.get("namespaces"), status.get("refused")


def test_key_rotated_in_one_place_is_in_all_owned_secrets(tenants, api_server, say):
    began = time.monotonic()
    write_key(api_server, "sk-2")
    left = float(ROTATION_SECONDS)
    for tenant in tenants[:2]:
        wait(tenant.key, "sk-2", seconds=left)
        left = max(0.0, ROTATION_SECONDS - (time.monotonic() - began))
    seconds = time.monotonic() - began
    say(f"a class's key rotated in one place was in 2 owned Secrets after {seconds:.2f} s")
    wait(lambda: counts(api_server), (2, 2, 1))
    assert tenants[2].key() is None


def test_namespace_without_label_loses_key_and_others_keep_it(tenants, api_server, say):
    lost, kept, never = tenants
    began = time.monotonic()
    api_server("label", "namespace", lost.namespace, "embedding-")
    wait(lost.key, None)
    say(f"a namespace that lost the right lost the key after {time.monotonic() - began:.2f} s")
    wait(lost.condition, ("False", "ClassForbidden"))
    assert kept.key() == "sk-1"
    wait(lambda: counts(api_server), (1, 1, 2))
    api_server("label", "namespace", never.namespace, "embedding=allowed")
    wait(never.key, "sk-1")
    wait(never.condition, ("True", "Accepted"))


def test_selector_that_no_longer_selects_takes_key_everywhere(tenants, api_server):
    selector = {"matchLabels": {"embedding": "nobody"}}
    api_server.apply({**PROVIDER, "spec": {**PROVIDER["spec"], "namespaceSelector": selector}})
    for tenant in tenants:
        wait(tenant.condition, ("False", "ClassForbidden"))
        wait(tenant.key, None)
    api_server.apply(PROVIDER)
    wait(tenants[0].key, "sk-1")


def test_class_deleted_in_use_is_named_and_back_again(tenants, api_server):
    api_server("delete", "cembp", "openai")
    for tenant in tenants:
        wait(tenant.condition, ("False", "ClassMissing"))
        wait(tenant.key, None)
    api_server.apply(PROVIDER)
    for tenant in tenants[:2]:
        wait(tenant.key, "sk-1")
        wait(tenant.condition, ("True", "Accepted"))


def test_key_may_come_from_path_of_operators_own_namespace(tenants, api_server, server):
    server.write(f"{SYSTEM}/openai", KEY="sk-vault-1")
    reference = {"vault": {"mount": "secret", "path": f"{SYSTEM}/openai", "key": "KEY"}}
    api_server.apply({**PROVIDER, "spec": {**PROVIDER["spec"], "apiKey": reference}})
    for tenant in tenants[:2]:
        wait(tenant.key, "sk-vault-1")
    server.write(f"{SYSTEM}/openai", KEY="sk-vault-2")
    for tenant in tenants[:2]:
        wait(tenant.key, "sk-vault-2")


def test_key_of_tenants_path_is_refused_to_class(tenants, api_server):
    path = f"{tenants[0].namespace}/keys"
    reference = {"vault": {"mount": "secret", "path": path, "key": "KEY"}}
    api_server.apply({**PROVIDER, "spec": {**PROVIDER["spec"], "apiKey": reference}})

    def reason():
        listed = api_server.get("cembp", "openai").get("status", {}).get("conditions", [])
        return {it["type"]: it["reason"] for it in listed}.get("KeyAvailable")

    wait(reason, "PathNotAllowed")


def test_restarted_operator_keeps_and_takes_what_it_should(tenants, api_server, operator):
    kept, lost, _ = tenants
    operator.stop()
    api_server("label", "namespace", lost.namespace, "embedding-")
    assert lost.key() == "sk-1"
    operator.start()
    wait(lost.key, None)
    assert kept.key() == "sk-1"


def test_log_holds_no_key(tenants, operator):
    said = operator.log()
    assert said
    assert "sk-1" not in said
