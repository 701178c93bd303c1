"""An API server's refusal of one object is in the policy's status, and the rest is applied."""

import json
from typing import Any

import pytest

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.kube import kinds
from embedding_operator.render import secrets
from tests.parts import kubectl, policies, reconciling

pytestmark = pytest.mark.cluster

POLICY: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "search"},
    "spec": {
        "podSelector": {},
        "providers": [policies.compatible("local", model="e5", baseURL="http://e5.models.svc/v1")],
        "secrets": [{"name": "database", "vault": {"mount": "secret", "path": "shop/database"}}],
    },
}


class Unmonitored:
    """An API server without the Prometheus operator's kinds."""

    def __init__(self, real):
        self._real = real

    def __getattr__(self, name):
        return getattr(self._real, name)

    def serves(self, kind):
        return kind not in {kinds.PROMETHEUS_RULE, kinds.POD_MONITOR}


@pytest.fixture
def run(api_server: kubectl.Kubectl, namespace: str) -> reconciling.Reconciling:
    made = reconciling.Reconciling(reconciling.connect(api_server.kubeconfig), namespace)
    made.store.paths = {"secret/shop/database": {"password": b"pw-1"}}
    apply(api_server, namespace, POLICY)
    return made


def apply(user, namespace, *objects):
    user.apply(*({**it, "metadata": {**it["metadata"], "namespace": namespace}} for it in objects))


def held(run, name) -> dict[str, bytes]:
    return secrets.decode(run.get(kinds.SECRET, name))


def edited(**spec):
    return {**POLICY, "spec": {**POLICY["spec"], **spec}}


@pytest.mark.parametrize("key", ["a/b", "with space", "..", "..data", "ä", "k" * 254])
def test_key_of_vault_that_no_secret_can_hold_is_named_and_others_are_kept(run, key):
    run.store.paths["secret/shop/database"] = {"password": b"pw-1", key: b"pw-2"}
    run("search")
    found = run.condition("search", "SecretsSynced")
    assert (found["status"], found["reason"]) == ("False", "KeyUnusable")
    assert key in found["message"]
    assert "secret/shop/database" in found["message"]
    assert held(run, "database") == {"password": b"pw-1"}


@pytest.mark.parametrize("name", ["..", "..data", "."])
def test_name_that_no_secret_can_hold_is_refused_at_once(run, api_server, namespace, name):
    entry = {**POLICY["spec"]["secrets"][0], "keys": [{"key": "password", "as": name}]}
    with pytest.raises(AssertionError, match="letters, digits"):
        apply(api_server, namespace, edited(secrets=[entry]))


def test_object_that_server_refuses_is_named_and_rest_is_done(run, api_server, namespace):
    run("search")
    api_server(
        "patch", "secret", "database", "-n", namespace, "--type=merge", "-p", '{"immutable":true}'
    )
    run.store.paths["secret/shop/database"] = {"password": b"pw-2"}
    apply(api_server, namespace, edited(quota={"daily": {"requests": 7}}))
    run("search")
    found = run.condition("search", "SecretsSynced")
    assert (found["status"], found["reason"]) == ("False", "Refused")
    assert "secrets/database" in found["message"]
    assert "pw-" not in found["message"]
    assert found["observedGeneration"] == 2
    text = run.get(kinds.CONFIG_MAP, "embedding-search-document")["data"][names.DOCUMENT_KEY]
    assert json.loads(text)["quota"]["daily"]["requests"] == 7


def test_invalid_api_token_is_made_anew(run, api_server, namespace):
    run("search")
    for nonsense in ("/w==", "w6Q=", "YSBi", ""):
        patch = json.dumps({"data": {"api-token": nonsense}})
        api_server(
            "patch", "secret", "embedding-search", "-n", namespace, "--type=merge", "-p", patch
        )
        run("search")
        token = held(run, "embedding-search")["api-token"]
        assert len(token) >= 32
        assert token.isascii()


def test_pod_with_longest_name_does_not_keep_status_from_being_written(run, api_server, namespace):
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p" * 253},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }
    apply(api_server, namespace, pod)
    run("search")
    assert run.status("search")["pods"]["missing"] == [f"{'p' * 253} (NamespaceNotEnabled)"]


def test_deleted_policy_leaves_no_memory(run, api_server, namespace):
    run("search")
    applier = run._reconciler._applier
    assert applier._owned._applied
    api_server("delete", "embpol", "search", "-n", namespace)
    run("search")
    assert not applier._owned._applied
    assert not run._reconciler._missing_since
    assert run.store.followed == {(namespace, "search"): frozenset()}


def test_policy_that_is_not_accepted_is_not_said_to_be_in_force(run, api_server, namespace):
    run("search")
    other = {**POLICY["spec"]["providers"][0], "name": "other", "model": "another"}
    apply(api_server, namespace, edited(providers=[*POLICY["spec"]["providers"], other]))
    run("search")
    found = run.condition("search", "ConfigInForce")
    assert (found["status"], found["reason"]) == ("False", "NotAccepted")
    apply(api_server, namespace, POLICY)
    run("search")
    assert run.condition("search", "ConfigInForce")["status"] == "True"


def test_path_that_cannot_be_read_is_told_with_keys_it_was_to_give(run, api_server, namespace):
    sealed = errors.Problem("VaultSealed", "Vault is sealed; secret/shop/database")
    run.store.paths = {"secret/shop/database": sealed}
    reference = {"mount": "secret", "path": "shop/openai", "key": "API_KEY"}
    provider = {"name": "openai", "type": "OpenAI", "model": "m", "apiKey": {"vault": reference}}
    entry = {**POLICY["spec"]["secrets"][0], "keys": [{"key": "password"}]}
    apply(api_server, namespace, edited(providers=[provider], secrets=[entry]))
    run("search")
    message = run.condition("search", "SecretsSynced")["message"]
    for named in ("secret/shop/openai", "API_KEY", "secret/shop/database", "password"):
        assert named in message


def test_policy_without_alerts_does_not_miss_monitoring_kinds(run, api_server, namespace):
    run.restart(Unmonitored(run.subject))
    run("search")
    assert run.condition("search", "MonitoringApplied")["reason"] == "CRDsAbsent"
    apply(api_server, namespace, edited(alerts={"enabled": False}))
    run("search")
    assert run.condition("search", "MonitoringApplied")["status"] == "True"
