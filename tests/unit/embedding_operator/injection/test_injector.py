"""A pod with the sidecar in it."""

import copy
import dataclasses
import json
from decimal import Decimal

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import names
from embedding_operator.injection import fields, injector, selection
from embedding_operator.kube import quantities

SIDECAR = injector.Sidecar(
    image="example/sidecar:1",
    pull_policy="IfNotPresent",
    resources={
        "requests": {"cpu": "25m", "memory": "96Mi"},
        "limits": {"cpu": "500m", "memory": "384Mi"},
    },
)
SEARCH = selection.Candidate(name="search", created_at="", pod_selector={})
ENVIRONMENT = {"configMapRef": {"name": "embedding-search-environment", "optional": True}}


def with_resources(resources):
    return selection.Candidate(name="search", created_at="", pod_selector={}, resources=resources)


def pod(*containers, **spec):
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": list(containers) or [{"name": "app", "image": "app"}], **spec},
    }


def inject(a_pod, *, sidecar=SIDECAR, candidate=SEARCH):
    return injector.inject(a_pod, sidecar=sidecar, candidate=candidate)


def is_outdated(a_pod, *, sidecar, candidate):
    expected = injector.sidecar_hash(sidecar, candidate)
    return injector.is_outdated(a_pod, expected, sidecar=sidecar, candidate=candidate)


def resources(a_pod, *, candidate=SEARCH):
    return inject(a_pod, candidate=candidate)["spec"]["initContainers"][0]["resources"]


def fixed(cpu, memory):
    amounts = {"cpu": cpu, "memory": memory}
    return {"name": "app", "resources": {"requests": amounts, "limits": amounts}}


def test_sidecar_comes_first_and_pod_says_whose_it_is():
    injected = inject(pod(initContainers=[{"name": "migrate", "image": "app"}]))
    assert [c["name"] for c in injected["spec"]["initContainers"]] == [names.CONTAINER, "migrate"]
    assert injected["metadata"]["labels"] == {names.LABEL_INJECTED: "search"}
    assert selection.carries_sidecar(injected)


def test_pod_names_pull_secrets_of_chart_beside_its_own():
    sidecar = dataclasses.replace(SIDECAR, pull_secrets=("registry", "own"))
    own = [{"name": "own"}, {"name": "other"}]
    injected = inject(pod(imagePullSecrets=own), sidecar=sidecar)
    assert injected["spec"]["imagePullSecrets"] == [*own, {"name": "registry"}]
    assert inject(injected, sidecar=sidecar) == injected
    assert "imagePullSecrets" not in inject(pod())["spec"]
    # Pods from before a Secret was named are outdated.
    assert is_outdated(inject(pod()), sidecar=sidecar, candidate=SEARCH)


def test_sidecar_is_told_collector_that_chart_names():
    url = "http://otel-collector.monitoring:4318"
    traced = dataclasses.replace(SIDECAR, otel_endpoint=url)
    (container,) = inject(pod(), sidecar=traced)["spec"]["initContainers"]
    told = {it["name"]: it.get("value") for it in container["env"]}
    assert told["OTEL_EXPORTER_OTLP_ENDPOINT"] == url
    assert told["OTEL_RESOURCE_ATTRIBUTES"] == "k8s.pod.uid=$(EMBEDDING_POD_UID)"
    (plain,) = inject(pod())["spec"]["initContainers"]
    assert [it["name"] for it in plain["env"]] == [names.ENV_POD_UID]


def test_sidecar_is_told_uid_of_its_pod():
    (container,) = inject(pod())["spec"]["initContainers"]
    uid = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}}
    assert container["env"] == [{"name": names.ENV_POD_UID, "valueFrom": uid}]


BY_IDENTITY = dataclasses.replace(SEARCH, has_identity=True)
IDENTITY_VOLUME = {
    "name": "embedding-identity",
    "projected": {
        "sources": [
            {
                "serviceAccountToken": {
                    "audience": "api://AzureADTokenExchange",
                    "expirationSeconds": 3600,
                    "path": "azure",
                }
            }
        ]
    },
}


def test_sidecar_alone_gets_token_for_identity_where_policy_has_one():
    plain, injected = inject(pod()), inject(pod(), candidate=BY_IDENTITY)
    assert injected["spec"]["volumes"] == [*plain["spec"]["volumes"], IDENTITY_VOLUME]
    mounts = [it.get("volumeMounts", []) for it in injected["spec"]["containers"]]
    assert mounts == [[]]
    (sidecar,) = injected["spec"]["initContainers"]
    mounted = {
        "name": "embedding-identity",
        "mountPath": "/etc/embedding/identity",
        "readOnly": True,
    }
    assert sidecar["volumeMounts"] == [
        *plain["spec"]["initContainers"][0]["volumeMounts"],
        mounted,
    ]


def test_pod_without_token_for_identity_is_outdated():
    older = inject(pod())
    assert not is_outdated(older, sidecar=SIDECAR, candidate=SEARCH)
    assert is_outdated(older, sidecar=SIDECAR, candidate=BY_IDENTITY)
    newer = inject(pod(), candidate=BY_IDENTITY)
    assert not is_outdated(newer, sidecar=SIDECAR, candidate=BY_IDENTITY)


def test_given_pod_is_not_changed():
    given_pod = pod()
    before = copy.deepcopy(given_pod)
    inject(given_pod)
    assert given_pod == before


def test_environment_comes_before_everything_application_sets():
    own = {"configMapRef": {"name": "own"}}
    injected = inject(
        pod(
            {"name": "app", "envFrom": [own], "env": [{"name": "OPENAI_BASE_URL", "value": "x"}]},
            initContainers=[{"name": "migrate"}, {"name": "mesh", "restartPolicy": "Always"}],
        )
    )
    sidecar, migrate, mesh = injected["spec"]["initContainers"]
    assert injected["spec"]["containers"][0]["envFrom"] == [ENVIRONMENT, own]
    assert injected["spec"]["containers"][0]["env"] == [{"name": "OPENAI_BASE_URL", "value": "x"}]
    assert migrate["envFrom"] == [ENVIRONMENT]
    assert "envFrom" not in mesh
    assert "envFrom" not in sidecar


def test_container_that_another_webhook_adds_later_gets_environment():
    first = inject(pod())
    first["spec"]["containers"].append({"name": "late"})
    again = inject(first, candidate=selection.Candidate(name="b", created_at="", pod_selector={}))
    assert again["spec"]["containers"][1]["envFrom"] == [ENVIRONMENT]
    assert again["spec"]["initContainers"] == first["spec"]["initContainers"]


def test_pod_with_older_sidecar_keeps_it_and_is_outdated():
    older = inject(pod())
    newer = injector.Sidecar(
        image="example/sidecar:2", pull_policy="Always", resources=SIDECAR.resources
    )
    assert inject(older, sidecar=newer) == older
    assert is_outdated(older, sidecar=newer, candidate=SEARCH)
    assert not is_outdated(older, sidecar=SIDECAR, candidate=SEARCH)


def test_policys_resources_make_its_pods_outdated_and_kind_of_pod_does_not():
    best_effort, guaranteed = inject(pod()), inject(pod(fixed("1", "1Gi")))
    for injected in (best_effort, guaranteed):
        assert not is_outdated(injected, sidecar=SIDECAR, candidate=SEARCH)
        assert is_outdated(
            injected, sidecar=SIDECAR, candidate=with_resources({"limits": {"cpu": "2"}})
        )


def test_label_copied_without_sidecar_is_replaced():
    copied = pod()
    copied["metadata"]["labels"] = {names.LABEL_INJECTED: "other"}
    assert inject(copied)["metadata"]["labels"] == {names.LABEL_INJECTED: "search"}


# --- resources


@pytest.mark.parametrize(
    "containers",
    [
        [fixed("1", "1Gi")],
        [fixed("0.5", "1024Mi"), fixed("500m", "1Gi")],
        [{"name": "app", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}],
        [
            {
                "name": "app",
                "resources": {
                    "limits": {"cpu": "1", "memory": "1Gi"},
                    "requests": {"cpu": "1000m", "memory": "1073741824"},
                },
            }
        ],
    ],
)
def test_guaranteed_pod_stays_guaranteed(containers):
    found = resources(pod(*containers))
    assert found["requests"] == found["limits"] == {"cpu": "500m", "memory": "384Mi"}


@pytest.mark.parametrize("own", [{"limits": {"memory": "1Gi"}}, {"requests": {"cpu": "1"}}])
def test_guaranteed_pod_stays_so_whatever_policy_leaves_out(own):
    found = resources(pod(fixed("1", "1Gi")), candidate=with_resources(own))
    assert found["requests"] == found["limits"]
    assert {"cpu", "memory"} <= found["limits"].keys()


@pytest.mark.parametrize(
    "containers",
    [
        [{"name": "app"}],
        [fixed("1", "1Gi"), {"name": "b"}],
        [{"name": "app", "resources": {"limits": {"cpu": "1"}}}],
        [
            {
                "name": "app",
                "resources": {
                    "limits": {"cpu": "1", "memory": "1Gi"},
                    "requests": {"cpu": "500m"},
                },
            }
        ],
    ],
)
def test_any_other_pod_gets_what_chart_says(containers):
    assert resources(pod(*containers)) == SIDECAR.resources


def test_policys_resources_stand_in_place_of_charts():
    own = {"limits": {"memory": "1Gi"}}
    assert resources(pod(), candidate=with_resources(own)) == own


def test_request_above_its_limit_is_limit_as_pod_would_be_refused():
    own = {"requests": {"cpu": "2", "memory": "64Mi"}, "limits": {"cpu": "1500m"}}
    assert resources(pod(), candidate=with_resources(own)) == {
        "requests": {"cpu": "1500m", "memory": "64Mi"},
        "limits": {"cpu": "1500m"},
    }


def test_resource_no_server_would_take_is_left_out():
    own = {"requests": {"cpu": "-1", "gold": "1", "memory": "1Mi"}}
    assert resources(pod(), candidate=with_resources(own)) == {"requests": {"memory": "1Mi"}}


def test_sidecar_shares_resource_budget_of_pod():
    assert resources(pod(resources={"limits": {"cpu": "1"}})) == {}


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [("100m", "0.1"), ("1Ki", "1024"), ("2k", "2000"), (3, "3"), ("1e3", "1000"), ("1E", "1e18")],
)
def test_quantities_are_read_as_kubernetes_reads_them(quantity, amount):
    assert quantities.amount(quantity) == Decimal(amount)


# --- security


def test_sidecar_meets_restricted_standard_and_forces_no_user():
    security = inject(pod())["spec"]["initContainers"][0]["securityContext"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_sidecar_does_not_run_as_root_in_pod_that_does():
    injected = inject(pod(securityContext={"runAsUser": 0}))
    assert injected["spec"]["initContainers"][0]["securityContext"]["runAsUser"] == fields.USER


# --- pods that bypass the sidecar


def running(*starts):
    states = [{"state": {"running": {"startedAt": start}}} for start in starts]
    return {"status": {"containerStatuses": states}}


def test_container_older_than_environment_bypasses_sidecar():
    created = "2026-01-01T00:00:10Z"
    early, late = "2026-01-01T00:00:09Z", "2026-01-01T00:00:10Z"
    assert injector.is_bypassing(running(late, early), environment_since=created)
    assert not injector.is_bypassing(running(late), environment_since=created)
    assert injector.is_bypassing(running(late), environment_since=None)


def test_pod_that_runs_nothing_yet_bypasses_nothing():
    waiting: dict[str, object] = {"status": {"containerStatuses": [{"state": {"waiting": {}}}]}}
    for a_pod in (dict[str, object](), waiting):
        assert not injector.is_bypassing(a_pod, environment_since=None)


# --- properties

NAMES = st.sampled_from(["app", "worker", "migrate", "mesh", "proxy"])
AMOUNTS = st.sampled_from(["1", "100m", "0.5", "64Mi", "1Gi", "1073741824"])
QUANTITIES = st.dictionaries(st.sampled_from(["cpu", "memory"]), AMOUNTS)
SOURCES = st.sampled_from([{"configMapRef": {"name": "own"}}, {"secretRef": {"name": "s"}}])
CONTAINERS = st.fixed_dictionaries(
    {"name": NAMES, "image": st.just("app")},
    optional={
        "env": st.lists(st.just({"name": "OPENAI_BASE_URL", "value": "x"}), max_size=1),
        "envFrom": st.lists(SOURCES | st.just(ENVIRONMENT), max_size=3),
        "resources": st.fixed_dictionaries(
            {}, optional={"limits": QUANTITIES, "requests": QUANTITIES}
        ),
        "restartPolicy": st.just("Always"),
    },
)
WORDS = st.dictionaries(st.sampled_from(["a/b", "app", "x~y"]), st.sampled_from(["1", ""]))
PODS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {}, optional={"name": NAMES, "labels": WORDS, "annotations": WORDS}
        ),
        "spec": st.fixed_dictionaries(
            {"containers": st.lists(CONTAINERS, min_size=1, max_size=3)},
            optional={
                "initContainers": st.lists(CONTAINERS, max_size=3),
                "volumes": st.lists(st.just({"name": "data", "emptyDir": {}}), max_size=2),
                "securityContext": st.just({"runAsUser": 0}),
                "resources": st.just({"limits": {"cpu": "1"}}),
            },
        ),
    }
)


@given(PODS, st.none() | st.fixed_dictionaries({}, optional={"limits": QUANTITIES}))
def test_injecting_twice_is_injecting_once(a_pod, own):
    candidate = with_resources(own)
    once = inject(a_pod, candidate=candidate)
    assert inject(once, candidate=candidate) == once
    assert not is_outdated(once, sidecar=SIDECAR, candidate=candidate)


@given(PODS)
def test_injection_keeps_all_of_application(a_pod):
    injected = inject(a_pod)
    spec, before = injected["spec"], a_pod["spec"]
    for kind in ("initContainers", "containers"):
        kept = [c for c in spec[kind] if c["name"] != names.CONTAINER]
        for container, original in zip(kept, before.get(kind, []), strict=True):
            assert {**container, "envFrom": 0} == {**original, "envFrom": 0}
            own = original.get("envFrom", [])
            assert (
                container.get("envFrom", [])[len(container.get("envFrom", [])) - len(own) :] == own
            )
    assert spec["volumes"][: len(before.get("volumes", []))] == before.get("volumes", [])
    others = spec.keys() - {"containers", "initContainers", "volumes"}
    assert {key: spec[key] for key in others} == {
        key: value
        for key, value in before.items()
        if key not in {"containers", "initContainers", "volumes"}
    }


@given(PODS)
def test_operations_that_kopf_makes_of_it_give_injected_pod(a_pod):
    """jsonpatch compares lists by index, which is where such differs go wrong."""
    before = json.loads(json.dumps(a_pod))  # on the wire nothing is shared
    injected = json.loads(json.dumps(inject(before)))
    operations = json.loads(json.dumps(jsonpatch.make_patch(before, injected).patch))
    assert jsonpatch.apply_patch(before, operations) == injected
