"""A real API server with LimitRanges and quotas, and the pods that the operator injects there."""

import pytest

from embedding_contract import names
from tests.parts import admitting, kubectl
from tests.parts.admitting import CONTAINER, create, sidecars
from tests.parts.installation import wait

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

AMOUNTS = {
    "requests": {"cpu": "25m", "memory": "96Mi"},
    "limits": {"cpu": "500m", "memory": "384Mi"},
}
SMALL = {
    **CONTAINER,
    "resources": {
        "requests": {"cpu": "50m", "memory": "64Mi"},
        "limits": {"cpu": "100m", "memory": "64Mi"},
    },
}


@pytest.fixture(scope="module")
def operator(api_server, tmp_path_factory):
    running = admitting.Operator(api_server, tmp_path_factory.mktemp("operator"))
    admitting.lead(api_server, running.webhook_port)
    running.start(
        SIDECAR_RESOURCES='{"requests": {"cpu": "25m", "memory": "96Mi"},'
        ' "limits": {"cpu": "500m", "memory": "384Mi"}}'
    )
    wait(lambda: admitting.is_trusted(api_server), "a trusted authority", last=running.log)
    yield running
    running.stop()
    api_server("delete", "mutatingwebhookconfiguration", admitting.CONFIGURATION)


@pytest.fixture
def shop(api_server, namespace, operator):
    admitting.open_shop(api_server, namespace)
    return namespace


def bound(api_server, namespace, **item):
    api_server.apply(
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "bounds", "namespace": namespace},
            "spec": {"limits": [item]},
        }
    )


def allow(api_server, namespace, **hard):
    api_server.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "team", "namespace": namespace},
            "spec": {"hard": hard},
        }
    )

    def counts():
        found = api_server.get("resourcequota", "team", "-n", namespace)
        return found.get("status", {}).get("hard") == hard

    wait(counts, "the quota controller")


def created(api_server, shop, **spec):
    return create(api_server, shop, **{"containers": [SMALL], **spec})


def first(pod):
    return pod["spec"]["initContainers"][0]["resources"]


def limited(api_server, shop, check):
    """Until the operator has seen the bounds, as a dry run tells."""
    wait(
        lambda: check(create(api_server, shop, options=("--dry-run=server",), containers=[SMALL])),
        "the operator's watch",
    )


def test_pod_starts_with_sidecar_that_limit_range_permits(api_server, shop):
    """field.md, C7: its pods were Forbidden, and the policy said 0/0."""
    bound(
        api_server,
        shop,
        type="Container",
        max={"cpu": "250m", "memory": "256Mi"},
        maxLimitRequestRatio={"cpu": "10"},
    )
    limited(api_server, shop, lambda pod: first(pod)["limits"]["cpu"] == "250m")
    pod = created(api_server, shop)
    assert sidecars(pod) == [names.CONTAINER]
    assert first(pod) == {
        "requests": {"cpu": "25m", "memory": "96Mi"},
        "limits": {"cpu": "250m", "memory": "268435456"},
    }


def test_pod_under_least_and_pod_bounds_is_accepted(api_server, shop):
    api_server.apply(
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "bounds", "namespace": shop},
            "spec": {
                "limits": [
                    {"type": "Container", "min": {"cpu": "50m", "memory": "64Mi"}},
                    {"type": "Pod", "max": {"cpu": "300m", "memory": "320Mi"}},
                ]
            },
        }
    )
    limited(api_server, shop, lambda pod: first(pod)["limits"]["cpu"] == "200m")
    assert first(created(api_server, shop)) == {
        "requests": {"cpu": "50m", "memory": "96Mi"},
        "limits": {"cpu": "200m", "memory": "268435456"},
    }


def test_pod_in_too_small_range_starts_without_and_status_says_so(api_server, shop):
    bound(api_server, shop, type="Container", max={"memory": "64Mi"})
    limited(api_server, shop, lambda pod: sidecars(pod) == [])
    pod = created(api_server, shop)
    assert sidecars(pod) == []
    name = pod["metadata"]["name"]
    assert pod["metadata"]["annotations"][names.ANNOTATION_SIDECAR_SKIPPED] == "LimitRange"

    def covered():
        status = api_server.get("embpol", "search", "-n", shop).get("status", {})
        (found,) = [it for it in status.get("conditions", []) if it["type"] == "PodsCovered"] or [
            {}
        ]
        return f"{name} (LimitRange)" in found.get("message", "") and found

    wait(covered, "the pod in the status")
    assert covered()["reason"] == "PodsMissing"
    events = api_server.get("events", "-n", shop)["items"]
    wait(lambda: told(api_server, shop), "an event about the policy", last=lambda: events)


def told(api_server, shop):
    found = api_server.get("events", "-n", shop)["items"]
    return [it for it in found if it["reason"] == "EmbeddingSidecarLimitRange"]


def test_quota_that_leaves_no_room_lets_pod_start_without(api_server, shop):
    allow(api_server, shop, **{"limits.memory": "560Mi", "limits.cpu": "2"})
    limited(api_server, shop, lambda pod: sidecars(pod) == [names.CONTAINER])
    with_sidecar = created(api_server, shop)
    assert sidecars(with_sidecar) == [names.CONTAINER]
    limited(api_server, shop, lambda pod: sidecars(pod) == [])
    without = created(api_server, shop)
    assert sidecars(without) == []
    assert without["metadata"]["annotations"][names.ANNOTATION_SIDECAR_SKIPPED] == "ResourceQuota"
    # Where the pod alone does not fit either, the API server says so, as ever.
    with pytest.raises(kubectl.KubectlError, match="exceeded quota: team"):
        created(api_server, shop)


def test_amount_that_quota_wants_comes_from_chart(api_server, shop):
    policy = api_server.get("embpol", "search", "-n", shop)
    policy["metadata"] = {"name": "search", "namespace": shop}
    policy["spec"]["sidecar"] = {"resources": {"requests": {"cpu": "30m"}}}
    policy.pop("status", None)
    api_server.apply(policy)
    allow(api_server, shop, **{"limits.memory": "2Gi", "limits.cpu": "2"})
    limited(api_server, shop, lambda pod: first(pod).get("limits", {}).get("memory") == "384Mi")
    assert first(created(api_server, shop))["requests"]["cpu"] == "30m"


def test_restricted_namespace_takes_injected_pod(api_server, shop):
    api_server("label", "namespace", shop, "pod-security.kubernetes.io/enforce=restricted")
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod = created(api_server, shop, containers=[{**SMALL, "securityContext": security}])
    assert sidecars(pod) == [names.CONTAINER]
    with pytest.raises(kubectl.KubectlError, match="violates PodSecurity"):
        created(api_server, shop)
