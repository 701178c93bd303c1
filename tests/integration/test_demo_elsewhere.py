"""`make demo CLUSTER=current` touches nothing that it did not make, on a real server."""

import json
import os

import pytest
import yaml

from dev import cluster
from examples.demo import elsewhere
from tests.parts import installation
from tests.parts.kubectl import Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

CHOSEN = {
    "CLUSTER": "current",
    "REGISTRY": "registry.example/team/",
    "CLUSTER_HOST_ADDRESS": "192.0.2.1",
}


@pytest.fixture(scope="module")
def up():
    """A cluster that the demo did not make."""
    cluster.down_stale()
    name = f"foreign-{os.getpid()}"
    made = cluster.up(form="control-plane", name=name, owner_pid=os.getpid())
    yield made
    cluster.down(name)


@pytest.fixture
def asked(up):
    return Kubectl(up.kubeconfig)


@pytest.fixture
def named(up, monkeypatch):
    """The environment of a person who names everything."""
    for name, value in {
        **CHOSEN,
        "CONTEXT": up.name,
        "KUBECONFIG": str(up.kubeconfig),
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def everything(asked):
    """The objects of the cluster, by kind, namespace, name and uid, with their versions."""
    kinds = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,configmaps"
    return {
        (
            it["kind"],
            it["metadata"].get("namespace"),
            it["metadata"]["name"],
            it["metadata"]["uid"],
            it["metadata"]["resourceVersion"],
        )
        for it in asked.get(kinds, "--all-namespaces")["items"]
    }


@pytest.mark.parametrize("missing", ["CONTEXT", "REGISTRY", "CLUSTER_HOST_ADDRESS"])
def test_setting_that_is_missing_is_refused_and_nothing_made(asked, named, tmp_path, missing):
    before = everything(asked)
    named.delenv(missing)
    with pytest.raises(elsewhere.RefusedError, match=missing):
        elsewhere.open_cluster(tmp_path)
    assert everything(asked) == before


def test_context_that_is_not_current_is_refused(up, named, tmp_path):
    named.setenv("CONTEXT", "another")
    with pytest.raises(elsewhere.RefusedError, match=f"say CONTEXT={up.name}"):
        elsewhere.open_cluster(tmp_path)


def test_namespace_of_somebody_is_refused_by_name(asked, named, tmp_path):
    asked("create", "namespace", "shop")
    try:
        before = everything(asked)
        with pytest.raises(elsewhere.RefusedError, match=r"did not make it: namespace/shop$"):
            elsewhere.open_cluster(tmp_path)
        assert everything(asked) == before
    finally:
        asked("delete", "namespace", "shop", "--wait")


def test_role_and_definition_of_somebody_are_refused_by_name(asked, named, tmp_path):
    asked("create", "clusterrole", "embedding-operator", "--verb=get", "--resource=pods")
    definition = installation.ROOT / "crds" / "embeddingindexes.yaml"
    asked.define(definition)
    try:
        with pytest.raises(elsewhere.RefusedError) as refused:
            elsewhere.open_cluster(tmp_path)
        assert "customresourcedefinition/embeddingindexes." in str(refused.value)
        assert "clusterrole/embedding-operator" in str(refused.value)
    finally:
        asked("delete", "clusterrole", "embedding-operator")
        asked("delete", "-f", str(definition), "--wait")


def test_demo_removes_what_it_made_and_nothing_else(asked, named, tmp_path):
    asked("create", "namespace", "theirs")
    before = everything(asked)
    product = elsewhere.open_cluster(tmp_path)
    assert product.registry == "registry.example/team"
    assert product.node.host_address == "192.0.2.1"
    # What the demo does next, without the pods that no node would run.
    product.helm(
        *("install", elsewhere.RELEASE, str(elsewhere.CHART)),
        *("--namespace", installation.SYSTEM_NAMESPACE, "--values", "-"),
        stdin=json.dumps(product.values()),
    )
    elsewhere.mark(product)
    product.kubectl("create", "clusterrolebinding", elsewhere.REVIEWER, "--clusterrole=view")
    elsewhere.mark_reviewer(product)
    assert elsewhere.is_up(tmp_path)
    # A second `up` finds what the first has made.
    elsewhere.open_cluster(tmp_path)
    deployment = asked.get("deployment", "embedding-operator", "-n", "embedding-system")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/team/embedding-operator:dev"
    assert elsewhere.remove(tmp_path) == []
    gone = everything(asked)
    assert {it[:4] for it in gone} == {it[:4] for it in before}


def test_definition_that_others_use_by_then_is_kept(asked, named, tmp_path):
    """To delete a definition deletes every object of its kind, whoever made it."""
    asked("create", "namespace", "users")
    product = elsewhere.open_cluster(tmp_path)
    product.helm(
        *("install", elsewhere.RELEASE, str(elsewhere.CHART)),
        *("--namespace", installation.SYSTEM_NAMESPACE, "--values", "-"),
        stdin=json.dumps(product.values()),
    )
    elsewhere.mark(product)
    definition = installation.ROOT / "crds" / "embeddingpolicies.yaml"
    asked.wait_until_served(definition)
    text = (installation.EXAMPLES / "policy.yaml").read_text(encoding="utf-8")
    policy = next(it for it in yaml.safe_load_all(text) if it["kind"] == "EmbeddingPolicy")
    policy["metadata"]["namespace"] = "users"
    asked("create", "-f", "-", stdin=json.dumps(policy))
    (left,) = elsewhere.remove(tmp_path)
    assert left.startswith("embeddingpolicies.embedding.agenticverz.io, as")
    assert asked("get", "embpol", "-n", "users", "--output=name").strip()
    asked("delete", "-f", str(definition), "--wait")


def test_pinned_context_is_asked_whatever_becomes_current(up, named, tmp_path):
    elsewhere.open_cluster(tmp_path)
    pinned = yaml.safe_load((tmp_path / "kubeconfig").read_text(encoding="utf-8"))
    assert pinned["current-context"] == up.name
    assert len(pinned["clusters"]) == len(pinned["users"]) == 1
    assert (tmp_path / "kubeconfig").stat().st_mode & 0o077 == 0
    named.setenv("KUBECONFIG", "/nowhere")
    assert elsewhere.remove(tmp_path) == []
