"""The event of the operator's own write is recognised, once, and no other is."""

import pytest

from embedding_operator.kube import kinds
from tests.parts import reconciling

pytestmark = [pytest.mark.cluster, pytest.mark.integration]


@pytest.fixture
def objects(api_server):
    return reconciling.connect(api_server.kubeconfig)


def config_map(namespace, **data):
    metadata = {"name": "made", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def is_echo(objects, namespace, live):
    version = live["metadata"]["resourceVersion"]
    return objects.is_echo("configmaps", namespace, "made", version=version)


def test_applied_object_is_echo_once(objects, namespace):
    live = objects.apply(config_map(namespace, a="1"))
    assert is_echo(objects, namespace, live)
    assert not is_echo(objects, namespace, live)


def test_object_left_after_removal_of_keys_is_echo(objects, namespace):
    desired = config_map(namespace, a="1", b="2")
    objects.apply(desired)
    assert is_echo(objects, namespace, objects.remove_keys(desired, ["b"]))


def test_object_changed_by_another_is_no_echo(objects, api_server, namespace):
    objects.apply(config_map(namespace, a="1"))
    api_server("patch", "configmap", "made", "-n", namespace, "-p", '{"data": {"a": "2"}}')
    live = objects.get(kinds.CONFIG_MAP, namespace, "made")
    assert not is_echo(objects, namespace, live)


def test_unwatched_kind_leaves_no_record_of_writes(objects, namespace):
    labels = {"app": "made"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }
    live = objects.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "made", "namespace": namespace},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
        }
    )
    version = live["metadata"]["resourceVersion"]
    assert not objects.is_echo("deployments", namespace, "made", version=version)
