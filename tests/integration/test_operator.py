"""The operator runs by itself: changes in the cluster reach it, and it leaves no traces."""

import base64
import json
import time
from typing import Any

import pytest

from embedding_contract import names
from tests.parts import operating
from tests.parts import vault as real
from tests.parts.kubectl import Kubectl, KubectlError

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

PATIENCE_SECONDS = 30
COLLECTED_SECONDS = 120
"""Kubernetes's garbage collector looks for new kinds, as the policy's is, every 30 s."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with real.running(tmp_path_factory.mktemp("vault")) as started:
        yield started


@pytest.fixture(scope="module")
def operator(tmp_path_factory, api_server, server):
    made = operating.Operator(tmp_path_factory.mktemp("operator"), api_server.kubeconfig, server)
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Shop:
    """A namespace with a policy, as its user sees it."""

    def __init__(self, kubectl: Kubectl, namespace: str, server: real.Vault) -> None:
        self._kubectl = kubectl
        self.namespace = namespace
        self._server = server

    def policy(self, name="search", **spec) -> dict[str, Any]:
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "podSelector": {},
                "providers": [
                    {
                        "name": "openai",
                        "type": "OpenAI",
                        "model": "text-embedding-3-small",
                        "apiKey": self.reference("keys", "KEY"),
                    }
                ],
                **spec,
            },
        }

    def reference(self, path: str, key: str) -> dict[str, Any]:
        """A key of a path that this namespace may read."""
        return {"vault": {"mount": "secret", "path": f"{self.namespace}/{path}", "key": key}}

    def apply(self, **spec) -> None:
        self._kubectl.apply(self.policy(**spec))

    def write_key(self, value: str) -> None:
        self._server.write(f"{self.namespace}/keys", KEY=value)

    def __call__(self, *arguments: str) -> str:
        return self._kubectl(*arguments, "-n", self.namespace)

    def get(self, *arguments: str) -> dict[str, Any]:
        return self._kubectl.get(*arguments, "-n", self.namespace)

    def ready(self) -> tuple[str, str]:
        """Status and reason of the policy's condition Ready."""
        conditions = self.get("embpol", "search").get("status", {}).get("conditions", [])
        found = [it for it in conditions if it["type"] == "Ready"]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def key(self) -> str:
        """The provider's key in the owned Secret."""
        data = self.get("secret", names.owned_secret("search"))["data"]
        return base64.b64decode(data.get(names.secret_provider_key("openai"), "")).decode()

    def wait(self, check, expected, *, seconds=PATIENCE_SECONDS) -> None:
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
            time.sleep(0.1)


def opened(api_server, namespace, server) -> Shop:
    """A shop whose policy is ready."""
    made = Shop(api_server, namespace, server)
    made.write_key("sk-1")
    made.apply()
    made.wait(made.ready, ("True", "Ready"))
    return made


@pytest.fixture
def shop(api_server, namespace, server, operator) -> Shop:
    """A shop in a namespace that came after the operator."""
    return opened(api_server, namespace, server)


def test_applied_policy_becomes_ready(shop):
    assert shop.key() == "sk-1"


def test_objects_hold_no_finalizer_or_annotation_of_kopf(shop):
    listed = shop.get("embpol,configmaps,secrets", "-l", names.LABEL_POLICY)["items"]
    found = [shop.get("embpol", "search"), *listed]
    assert len(found) >= 4
    for it in found:
        assert "finalizers" not in it["metadata"]
        annotations = it["metadata"].get("annotations", {})
        assert not [key for key in annotations if "kopf" in key]


def test_key_that_rotates_in_vault_reaches_secret(shop):
    shop.write_key("sk-2")
    shop.wait(shop.key, "sk-2")


def test_edited_policy_reaches_document(shop):
    shop.apply(quota={"daily": {"requests": 7}})

    def requests():
        text = shop.get("configmap", names.document_configmap("search"))["data"]["document.json"]
        return json.loads(text)["quota"]["daily"]["requests"]

    shop.wait(requests, 7)


DELETED = ("configmap/embedding-search-environment", "secret/embedding-search")


@pytest.mark.parametrize("what", DELETED)
def test_deleted_object_comes_back(shop, what):
    shop("delete", what)
    shop.wait(lambda: shop.get(what)["metadata"]["name"], what.partition("/")[2])


@pytest.mark.parametrize("label", [names.LABEL_POLICY, names.LABEL_MANAGED_BY])
def test_label_that_is_taken_off_comes_back(shop, label):
    what = "configmap/embedding-search-document"
    shop("label", what, f"{label}-")
    shop.wait(lambda: label in shop.get(what)["metadata"]["labels"], True)


def test_changed_document_is_put_back(shop):
    what = "configmap/embedding-search-document"
    before = shop.get(what)["data"]
    shop("patch", what, "-p", '{"data": {"document.json": "{}"}}')
    shop.wait(lambda: shop.get(what)["data"], before)


def test_deleted_policy_takes_its_objects_along(shop):
    shop("delete", "embpol", "search")
    shop.wait(
        lambda: shop.get("cm,secrets", "-l", names.LABEL_POLICY)["items"],
        [],
        seconds=COLLECTED_SECONDS,
    )


def test_policy_deleted_and_applied_again_is_ready_again(shop):
    shop("delete", "embpol", "search")
    shop.apply()
    shop.wait(shop.ready, ("True", "Ready"))
    uid = shop.get("embpol", "search")["metadata"]["uid"]

    def owners():
        listed = shop.get("configmaps,secrets", "-l", names.LABEL_POLICY)["items"]
        return {owner["uid"] for it in listed for owner in it["metadata"]["ownerReferences"]}

    shop.wait(owners, {uid})


def test_status_tells_of_sealed_vault_and_heals_by_itself(shop, server):
    shop.apply(
        cache={
            "redis": {"vault": {"mount": "secret", "path": f"{shop.namespace}/redis", "key": "URL"}}
        }
    )
    shop.wait(shop.ready, ("False", "PathMissing"))
    server.seal()
    try:
        shop.wait(shop.ready, ("False", "VaultSealed"))
        assert shop.key() == "sk-1"
    finally:
        server.unseal()
    server.write(f"{shop.namespace}/redis", URL="redis://:password@redis:6379/0")
    shop.wait(shop.ready, ("True", "Ready"))


def test_change_during_operators_absence_is_seen_on_return(shop, operator):
    operator.stop()
    shop("delete", "secret", "embedding-search")
    shop.write_key("sk-3")
    operator.start()
    shop.wait(shop.key, "sk-3")


def test_events_tell_of_work_and_hold_no_secret(shop, operator):
    shop.apply(cache={"redis": shop.reference("redis", "URL")})
    shop.wait(lambda: "SecretsSynced=False" in shop("get", "events", "-o", "yaml"), True)
    events = shop("get", "events", "-o", "yaml")
    token = shop.get("secret", names.owned_secret("search"))["data"]["api-token"]
    for value in ("sk-1", base64.b64decode(token).decode()):
        assert value not in events
        assert value not in operator.log()


def test_its_metrics_count(shop, operator):
    said = operator.metrics()
    assert 'embedding_operator_reconciles_total{result="ok"}' in said
    assert 'embedding_operator_vault_requests_total{outcome="ok"}' in said


def test_namespace_that_goes_takes_everything_along(api_server, namespace, server, operator):
    goes = f"{namespace}-goes"
    api_server("create", "namespace", goes)
    opened(api_server, goes, server)
    api_server("delete", "namespace", goes, "--timeout=30s")
    assert f"reconcile of {goes}" not in operator.log()


def test_operator_log_has_no_refusal_and_no_failed_reconcile(operator):
    said = operator.log()
    assert "reconcile of" not in said
    assert "Forbidden" not in said
