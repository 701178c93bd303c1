"""`make demo CLUSTER=current` on a cluster that is somebody's, with the images of a registry."""

import json
import os
import subprocess
import sys

import pytest

from dev import cluster
from dev.cluster import node, records
from tests.parts import installation, kubectl, policies, registry

pytestmark = pytest.mark.node

KINDS = (
    "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,"
    "mutatingwebhookconfigurations,validatingwebhookconfigurations,"
    "validatingadmissionpolicies,validatingadmissionpolicybindings,"
    "configmaps,secrets,services,serviceaccounts,roles,rolebindings,deployments,pods"
)
PORT = 5000
DEMO_SECONDS = 420
"""For one command of the demo, on a busy machine."""
DEFINITIONS = (
    "embeddingpolicies.embedding.agenticverz.io",
    "embeddinginjections.embedding.agenticverz.io",
)
"""Those of which objects stay: their policy, and what the operator made beside it."""
POLICY = {
    "apiVersion": "embedding.agenticverz.io/v1alpha1",
    "kind": "EmbeddingPolicy",
    "metadata": {"name": "theirs", "namespace": "theirs"},
    "spec": {
        "podSelector": {},
        "providers": [policies.LOCAL],
    },
}


@pytest.fixture(scope="module")
def foreign():
    """A node cluster that the demo did not make, with something of its owner's in it."""
    cluster.down_stale()
    name = f"foreign-{os.getpid()}"
    up = cluster.up(form="node", name=name, owner_pid=os.getpid())
    try:
        asked = kubectl.Kubectl(up.kubeconfig)
        asked("create", "namespace", "theirs")
        asked("create", "configmap", "theirs", "-n", "theirs", "--from-literal=a=1")
        yield up
    finally:
        cluster.down(name)


@pytest.fixture(scope="module")
def images_at(foreign, tmp_path_factory):
    """A registry that has our images, and that the node may pull from."""
    running = registry.Registry(
        tmp_path_factory.mktemp("registry"), host=foreign.host_address, port=PORT
    )
    running.start()
    try:
        record = records.load(foreign.name)
        assert record is not None
        node.allow_plain_http(record, running.address)
        said = demo("push", {"REGISTRY": running.address, "PLAIN_HTTP": "1"})
        assert said.returncode == 0, said.stderr
        yield running.address
    finally:
        running.stop()


@pytest.fixture
def settings(foreign, images_at, tmp_path):
    """What a person says who wants the demo there."""
    return {
        "CLUSTER": "current",
        "KUBECONFIG": str(foreign.kubeconfig),
        "CONTEXT": foreign.name,
        "REGISTRY": images_at,
        "CLUSTER_HOST_ADDRESS": foreign.host_address,
        "DEMO_FOLDER": str(tmp_path / "demo"),
    }


def demo(command, environment):
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", command],
        cwd=installation.ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
        check=False,
    )


def everything(foreign):
    """What stands in the cluster, by kind, place, name and uid."""
    found = kubectl.Kubectl(foreign.kubeconfig).get(KINDS, "--all-namespaces")["items"]
    return {
        (it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"], it["metadata"]["uid"])
        for it in found
    }


@pytest.mark.timeout(2 * DEMO_SECONDS)
def test_demo_runs_elsewhere_and_leaves_it_as_it_was(foreign, settings):
    asked = kubectl.Kubectl(foreign.kubeconfig)
    before = everything(foreign)
    theirs = asked.get("configmap", "theirs", "-n", "theirs")["metadata"]["resourceVersion"]
    try:
        up = demo("up", settings)
        assert up.returncode == 0, up.stdout + up.stderr
        assert "It works, and it is still up." in up.stdout
        pods = asked.get("pods", "--all-namespaces")["items"]
        pulled = {
            container["image"]
            for pod in pods
            if pod["metadata"]["namespace"] != "kube-system"
            for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", []))
        }
        assert all(image.startswith(f"{settings['REGISTRY']}/") for image in pulled)
        assert len(pulled) >= 4
        assert before <= everything(foreign)
        asked("create", "-f", "-", stdin=json.dumps(POLICY))
    finally:
        down = demo("down", settings)
    assert down.returncode == 0, down.stdout + down.stderr
    # To delete a definition deletes every object of its kind, whoever made it.
    assert all(f"left in the cluster: {it}, as" in down.stdout for it in DEFINITIONS)
    # What the operator made for their policy is the policy's, and so theirs.
    left = {it[:3] for it in everything(foreign) - before if it[1] != "theirs"}
    assert left == {("CustomResourceDefinition", None, it) for it in DEFINITIONS}
    assert before <= everything(foreign)
    assert asked("get", "embpol", "theirs", "-n", "theirs", "--output=name").strip()
    now = asked.get("configmap", "theirs", "-n", "theirs")["metadata"]["resourceVersion"]
    assert now == theirs
