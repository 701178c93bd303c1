"""Injected pods, case by case, and that a real API server accepts them."""

import copy
import dataclasses
import json
import typing

import pytest

from embedding_contract import names
from embedding_operator.injection import namespace_bounds, selection
from tests.parts import kubectl, pods

CASES = {case.name: case for case in pods.cases()}
SKIPPED = sorted(name for name, case in CASES.items() if "skipped" in case.expected)
INJECTED = sorted(CASES.keys() - set(SKIPPED))


@pytest.mark.parametrize("name", CASES)
def test_pod_becomes_what_its_file_says(name):
    assert CASES[name].outcome() == CASES[name].expected


@pytest.mark.parametrize("name", INJECTED)
def test_pod_that_has_its_sidecar_is_as_it_should_be(name):
    case = CASES[name]
    again = dataclasses.replace(case, pod=case.expected)
    assert again.outcome() == case.expected


def test_every_reason_has_case():
    seen = {CASES[name].expected["skipped"] for name in SKIPPED}
    # Bounds of a namespace are not in a pod's file: test_namespace_bounds.py.
    of_pods = set(typing.get_args(selection.Reason)) - set(namespace_bounds.REASONS)
    assert seen == of_pods


NAMESPACES = {
    "free": {},
    "restricted": {"pod-security.kubernetes.io/enforce": "restricted"},
    "limited": {},
    "counted": {},
}
OF_PODS = pytest.mark.needs_kubernetes("1.32", "resources of a pod")
LIMITS = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "limits", "namespace": "limited"},
    "spec": {
        "limits": [
            {
                "type": "Container",
                "max": {"cpu": "2", "memory": "2Gi"},
                "min": {"cpu": "10m", "memory": "16Mi"},
            }
        ]
    },
}
QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "quota", "namespace": "counted"},
    "spec": {"hard": {"limits.cpu": "20", "limits.memory": "20Gi", "requests.cpu": "20"}},
}


@pytest.fixture(scope="module")
def shop(api_server):
    """A namespace that takes any pod, and three that ask something of it."""
    for name, labels in NAMESPACES.items():
        api_server.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "default", "namespace": name},
            },
        )
    api_server.apply(LIMITS, QUOTA)
    return api_server


@pytest.mark.cluster
@pytest.mark.parametrize(
    "name",
    [pytest.param(it, marks=OF_PODS if it == "budget-of-the-pod" else ()) for it in INJECTED],
)
def test_api_server_takes_pod_and_classes_it_as_before(shop, name):
    after = _created(shop, CASES[name].expected, namespace="free")
    sidecar = after["spec"]["initContainers"][0]
    assert sidecar["name"] == names.CONTAINER
    before = _created(shop, CASES[name].pod, namespace="free")
    if before["status"]["qosClass"] == "Guaranteed":
        assert after["status"]["qosClass"] == "Guaranteed"


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("namespace", "case", "spoiled", "refusal"),
    [
        ("restricted", "restricted", {"securityContext": {}}, "violates PodSecurity"),
        ("counted", "guaranteed", {"resources": {}}, "must specify limits"),
        ("limited", "best-effort", {"resources": {"limits": {"memory": "8Gi"}}}, "maximum memory"),
    ],
)
def test_namespace_that_asks_something_takes_our_sidecar(shop, namespace, case, spoiled, refusal):
    pod = copy.deepcopy(CASES[case].expected)
    assert _created(shop, pod, namespace=namespace)["spec"]["initContainers"]
    pod["spec"]["initContainers"][0] |= spoiled
    with pytest.raises(kubectl.KubectlError, match=refusal):
        _created(shop, pod, namespace=namespace)


def _created(server, pod, *, namespace):
    """The pod as the API server would store it."""
    pod = copy.deepcopy(pod)
    pod["metadata"]["namespace"] = namespace
    command = ["create", "--dry-run=server", "-f", "-", "-o", "json"]
    return json.loads(server(*command, stdin=json.dumps(pod)))
