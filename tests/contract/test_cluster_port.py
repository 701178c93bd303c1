"""The promises of the API server's adapter to the operator, by a real API server."""

import kubernetes
import pytest

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.kube import client, kinds
from tests.parts import kubectl, reconciling

pytestmark = pytest.mark.cluster

SENTINEL = "s3cr3t-of-nobody"


@pytest.fixture
def api(api_server: kubectl.Kubectl) -> client.KubeClient:
    return reconciling.connect(api_server.kubeconfig)


def config_map(namespace, name="it", **data):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def test_missing_object_is_read_as_none(api, namespace):
    assert api.get(kinds.CONFIG_MAP, namespace, "nothing") is None
    assert api.get(kinds.CONFIG_MAP, "no-such-namespace", "nothing") is None


def test_apply_creates_and_then_changes_and_then_does_nothing(api, namespace):
    first = api.apply(config_map(namespace, a="1"))
    second = api.apply(config_map(namespace, a="2"))
    third = api.apply(config_map(namespace, a="2"))
    assert first["data"] == {"a": "1"}
    assert second["data"] == {"a": "2"}
    assert third["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    assert api.get(kinds.CONFIG_MAP, namespace, "it") == third


def test_apply_takes_back_what_another_has_changed(api, api_server, namespace):
    api.apply(config_map(namespace, a="1"))
    api_server("patch", "configmap", "it", "-n", namespace, "-p", '{"data": {"a": "x"}}')
    assert api.apply(config_map(namespace, a="1"))["data"] == {"a": "1"}


def test_field_no_longer_applied_is_removed(api, namespace):
    api.apply(config_map(namespace, a="1", b="1"))
    assert api.apply(config_map(namespace, a="1"))["data"] == {"a": "1"}


def test_keys_of_others_are_removed_only_when_asked_to(api, api_server, namespace):
    api.apply(config_map(namespace, a="1"))
    api_server("patch", "configmap", "it", "-n", namespace, "-p", '{"data": {"b": "x"}}')
    assert api.apply(config_map(namespace, a="1"))["data"] == {"a": "1", "b": "x"}
    assert api.remove_keys(config_map(namespace), ["b"])["data"] == {"a": "1"}


def test_deleting_what_is_not_there_is_no_error(api, namespace):
    live = api.apply(config_map(namespace))
    api.delete(live)
    api.delete(live)
    assert api.get(kinds.CONFIG_MAP, namespace, "it") is None


def test_object_changed_since_read_is_not_deleted(api, namespace):
    live = api.apply(config_map(namespace, a="1"))
    api.apply(config_map(namespace, a="2"))
    with pytest.raises(errors.Conflict):
        api.delete(live)
    assert api.get(kinds.CONFIG_MAP, namespace, "it")["data"] == {"a": "2"}


def test_list_goes_on_over_its_pages(api, namespace, monkeypatch):
    for number in range(5):
        api.apply(config_map(namespace, f"it-{number}"))
    monkeypatch.setattr(client, "PAGE", 2)
    listed = {it["metadata"]["name"] for it in api.find(kinds.CONFIG_MAP, namespace)}
    assert listed >= {f"it-{number}" for number in range(5)}


def test_list_is_narrowed_by_labels_and_namespaces(api, namespace):
    labelled = config_map(namespace, "labelled")
    labelled["metadata"]["labels"] = {"x": namespace}
    api.apply(labelled)
    api.apply(config_map(namespace, "bare"))
    for where in (namespace, None):
        found = api.find(kinds.CONFIG_MAP, where, selector=f"x={namespace}")
        assert [it["metadata"]["name"] for it in found] == ["labelled"]


def test_existing_object_is_not_created_again(api, namespace):
    api.create(kinds.CONFIG_MAP, namespace, config_map(namespace))
    with pytest.raises(errors.Conflict):
        api.create(kinds.CONFIG_MAP, namespace, config_map(namespace))


def test_object_changed_since_read_is_not_replaced(api, namespace):
    read = api.create(kinds.CONFIG_MAP, namespace, config_map(namespace, a="1"))
    api.replace(kinds.CONFIG_MAP, namespace, {**read, "data": {"a": "2"}})
    with pytest.raises(errors.Conflict):
        api.replace(kinds.CONFIG_MAP, namespace, {**read, "data": {"a": "3"}})
    found = api.get(kinds.CONFIG_MAP, namespace, "it")
    assert found["data"] == {"a": "2"}


def test_status_of_deleted_policy_is_not_written(api, namespace):
    api.patch_status(namespace, "gone", {"provider": "x"})


def test_annotations_are_added_and_changed_and_nothing_else(api, namespace):
    mine = config_map(namespace, a="1")
    mine["metadata"]["annotations"] = {"theirs": "1", "asked": "before"}
    before = api.create(kinds.CONFIG_MAP, namespace, mine)
    after = api.annotate(kinds.CONFIG_MAP, namespace, "it", {"asked": "now", "new": "2"})
    assert after == api.get(kinds.CONFIG_MAP, namespace, "it")
    assert after["metadata"]["annotations"] == {"theirs": "1", "asked": "now", "new": "2"}
    assert after["data"] == before["data"]


def test_missing_object_cannot_be_annotated(api, namespace):
    assert api.annotate(kinds.CONFIG_MAP, namespace, "gone", {"asked": "now"}) is None


def test_pod_that_has_gone_needs_no_nudge(api, namespace):
    api.nudge(namespace, "gone", "x")


def test_token_is_of_account_and_audience_that_were_asked_for(api, api_server, namespace):
    api_server("create", "serviceaccount", "reader", "-n", namespace)
    made = api.service_account_token(
        namespace=namespace, name="reader", audience="vault", seconds=600
    )
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": made, "audiences": ["vault"]},
    }
    reviews = kinds.Kind("apis/authentication.k8s.io/v1", "tokenreviews", namespaced=False)
    status = api.create(reviews, None, review)["status"]
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:reader"
    assert status["audiences"] == ["vault"]


def test_account_that_is_not_there_has_no_token(api, namespace):
    wanted = {"namespace": namespace, "name": "nobody", "audience": "vault", "seconds": 600}
    assert api.service_account_token(**wanted) is None


def test_client_knows_kinds_and_version_of_server(api):
    assert api.serves(kinds.POLICY)
    assert not api.serves(kinds.Kind("apis/nobody.example/v1", "things"))
    assert not api.serves(kinds.Kind("api/v1", "things"))
    assert api.version() >= (1, 29)


@pytest.fixture
def nobody(api_server: kubectl.Kubectl, namespace: str) -> client.KubeClient:
    """The adapter as a ServiceAccount that may do nothing."""
    api_server("create", "serviceaccount", "nobody", "-n", namespace)
    token = api_server("create", "token", "nobody", "-n", namespace).strip()
    raw = kubernetes.config.new_client_from_config(str(api_server.kubeconfig)).configuration
    configuration = kubernetes.client.Configuration()
    configuration.host, configuration.ssl_ca_cert = raw.host, raw.ssl_ca_cert
    configuration.api_key = {"authorization": f"Bearer {token}"}
    return client.KubeClient(kubernetes.client.ApiClient(configuration))


def test_permission_that_is_missing_is_named(nobody, namespace):
    with pytest.raises(errors.Denied) as refusal:
        nobody.get(kinds.CONFIG_MAP, namespace, "it")
    assert 'cannot get resource "configmaps"' in str(refusal.value)


def test_permission_on_secrets_that_is_missing_is_named_too(nobody, namespace):
    with pytest.raises(errors.Denied) as refusal:
        nobody.find(kinds.SECRET, namespace)
    assert "secrets" in str(refusal.value)
    assert "GET" in str(refusal.value)


def test_refused_secret_is_not_quoted(api, namespace):
    bad = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "it", "namespace": namespace},
        "data": {"key": SENTINEL},  # no base64, which the API server would quote
    }
    with pytest.raises(errors.OperatorError) as refusal:
        api.apply(bad)
    assert SENTINEL not in str(refusal.value)


def test_server_that_is_away_is_unavailable_and_no_header_is_told(api):
    configuration = kubernetes.client.Configuration()
    configuration.host = "http://127.0.0.1:9"
    configuration.api_key = {"authorization": f"Bearer {SENTINEL}"}
    away = client.KubeClient(kubernetes.client.ApiClient(configuration))
    with pytest.raises(errors.Unavailable) as refusal:
        away.get(kinds.POLICY, "a", "b")
    assert refusal.value.reason == "APIServerAway"
    assert SENTINEL not in str(refusal.value)


def test_nudge_changes_nothing_but_its_annotation(api, api_server, namespace):
    reconciling.wait_for_default_account(api_server, namespace)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "it", "namespace": namespace, "annotations": {"theirs": "1"}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }
    api_server.apply(pod)
    before = api.get(kinds.POD, namespace, "it")
    api.nudge(namespace, "it", "x.1")
    after = api.get(kinds.POD, namespace, "it")
    assert after["metadata"]["annotations"] == {"theirs": "1", names.ANNOTATION_NUDGE: "x.1"}
    assert (after["spec"], after["status"]) == (before["spec"], before["status"])
