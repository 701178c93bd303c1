"""A namespace that takes no more objects, or goes, or is restricted: each is said."""

from typing import Any

import pytest

from embedding_contract import names
from embedding_operator.kube import kinds
from tests.parts import kubectl, policies, reconciling
from tests.parts.installation import wait

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

GONE_SECONDS = 30
POLICY: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "search"},
    "spec": {
        "podSelector": {},
        "providers": [policies.compatible("local", model="e5", baseURL="http://e5.models.svc/v1")],
        "alerts": {"enabled": False},
    },
}
COMPLIANT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "app"},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "app",
                "image": "app:1",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    },
}


def placed(found, namespace):
    return {**found, "metadata": {**found["metadata"], "namespace": namespace}}


def run_in(api_server, namespace):
    made = reconciling.Reconciling(reconciling.connect(api_server.kubeconfig), namespace)
    api_server.apply(placed(POLICY, namespace))
    return made


def owned(run):
    selector = f"{names.LABEL_POLICY}=search"
    return [
        it
        for kind in (kinds.SECRET, kinds.CONFIG_MAP)
        for it in run.objects.find(kind, run.namespace, selector=selector)
    ]


def quota(api_server, namespace, **hard):
    api_server.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "few", "namespace": namespace},
            "spec": {"hard": hard},
        }
    )
    wait(
        lambda: (
            api_server.get("resourcequota", "few", "-n", namespace).get("status", {}).get("hard")
            == hard
        ),
        "the quota in force",
    )


@pytest.mark.parametrize(
    ("resource", "condition"),
    [("count/secrets", "SecretsSynced"), ("count/configmaps", "Accepted")],
)
def test_quota_of_objects_that_is_used_up_is_condition(api_server, namespace, resource, condition):
    used = len(api_server.get("configmaps", "-n", namespace)["items"])
    quota(api_server, namespace, **{resource: str(used if "configmaps" in resource else 0)})
    run = run_in(api_server, namespace)
    run("search")
    found = run.condition("search", condition)
    assert (found["status"], found["reason"]) == ("False", "ObjectQuotaExceeded")
    assert "ResourceQuota few of the namespace is used up" in found["message"]
    assert f"limited: {resource}=" in found["message"]
    assert run.condition("search", "Ready")["status"] == "False"
    api_server("delete", "resourcequota", "few", "-n", namespace)
    run("search")
    assert run.condition("search", condition)["status"] == "True"
    assert run.condition("search", "Ready")["status"] == "True"


def test_namespace_that_is_being_deleted_is_condition(api_server, namespace):
    run = run_in(api_server, namespace)
    seen = run.seen.namespace

    def going(name):
        found = seen(name)
        ended = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
        return {**found, "metadata": {**found["metadata"], **ended}}

    run.seen.namespace = going
    run("search")
    found = run.condition("search", "Accepted")
    assert (found["status"], found["reason"]) == ("False", "NamespaceTerminating")
    assert owned(run) == []


def test_namespace_goes_within_30_seconds_without_operator(api_server):
    """Nothing of ours has a finalizer: what stands is deleted by Kubernetes alone."""
    api_server("create", "namespace", "goes")
    run = run_in(api_server, "goes")
    run("search")
    made = owned(run)
    assert len(made) == 3
    assert [it["metadata"].get("finalizers") for it in made] == [None] * 3
    api_server("delete", "namespace", "goes", "--wait", f"--timeout={GONE_SECONDS}s")


def test_pod_of_restricted_namespace_is_admitted_with_sidecar(api_server, namespace):
    label = "pod-security.kubernetes.io/enforce=restricted"
    api_server("label", "namespace", namespace, label)
    reconciling.wait_for_default_account(api_server, namespace)
    run = run_in(api_server, namespace)
    run("search")
    api_server.apply(reconciling.injected(placed(COMPLIANT, namespace), policy="search"))
    run("search")
    assert run.status("search")["pods"]["covered"] == 1
    assert run.condition("search", "Ready")["status"] == "True"
    assert run.objects.find(kinds.POD, namespace)
    bare = placed({**COMPLIANT, "metadata": {"name": "bare"}}, namespace)
    bare["spec"] = {"containers": [{"name": "app", "image": "app:1"}]}
    with pytest.raises(kubectl.KubectlError, match="violates PodSecurity") as refused:
        api_server.apply(reconciling.injected(bare, policy="search"))
    # What is named is the application's, not ours.
    assert names.CONTAINER not in refused.value.said
