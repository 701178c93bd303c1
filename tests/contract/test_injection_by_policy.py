"""The API server's own injection, and the webhook's, on the same pods: equal, case by case."""

import copy
import dataclasses
import typing

import pytest
from hypothesis import HealthCheck, given, settings

from embedding_contract import names
from embedding_operator.injection import (
    expressions,
    fields,
    injector,
    namespace_bounds,
    selection,
    templates,
)
from tests.parts import both_ways, direct, injected_pods, pods
from tests.parts.both_ways import WAYS, comparable

pytestmark = pytest.mark.needs_kubernetes("1.36", "MutatingAdmissionPolicy v1")

TOO_OLD = "server-too-old"
CASES = {case.name: case for case in pods.cases() if case.name != TOO_OLD}
"""A server without native sidecars has no MutatingAdmissionPolicy either."""
INJECTED = sorted(name for name, it in CASES.items() if "skipped" not in it.expected)
ENABLED = {names.LABEL_INJECTION: selection.ENABLED}
FULL = dataclasses.replace(
    pods.SIDECAR,
    pull_policy="Always",
    otel_endpoint="http://otel-collector.monitoring:4318",
    pull_secrets=("registry", "mirror"),
)
"""A sidecar with all that the chart can say of it."""
SIMPLE = injected_pods.pod(injected_pods.container())
BOUNDS = {
    name: namespace_bounds.Bounds(
        limit_ranges=[
            {
                "apiVersion": "v1",
                "kind": "LimitRange",
                "spec": {"limits": [{"type": "Container", "max": {"memory": most}}]},
            }
        ]
    )
    for name, most in (("fitting", "200Mi"), ("tight", "64Mi"))
}
CONDITIONS = [it["name"] for it in expressions.match_conditions()]


def test_sixty_pods_are_compared():
    assert len(CASES) >= 60


# --- the tables


def test_entry_is_left_out_where_its_term_is_false():
    table = {"a": 1, "b": templates.Only("is", templates.Term("it"))}
    assert templates.fill(table, {"is": False, "it": 2}) == {"a": 1}
    assert templates.fill(table, {"is": True, "it": 2}) == {"a": 1, "b": 2}
    said = templates.express(table, {"is": "x", "it": "y"})
    assert said == '{"a": dyn(1), ?"b": x ? optional.of(dyn(y)) : optional.none()}'


def test_item_is_left_out_where_its_term_is_false():
    table = ["a", templates.Only("is", "b")]
    assert templates.fill(table, {"is": False}) == ["a"]
    assert templates.fill(table, {"is": True}) == ["a", "b"]
    assert templates.express(table, {"is": "x"}) == '["a"] + (x ? ["b"] : [])'
    with pytest.raises(ValueError, match="last"):
        templates.express([templates.Only("is", "b"), "a"], {"is": "x"})


def test_every_field_of_sidecar_is_in_mutation():
    said = expressions.mutation()
    assert [it for it in fields.SIDECAR if f'"{it}": ' not in said] == []


# --- on a real API server


@pytest.fixture(scope="module")
def hook():
    return both_ways.Webhook(sidecar=pods.SIDECAR)


@pytest.fixture(scope="module")
def admission(api_server, hook, tmp_path_factory):
    """Every case's namespace and policies, once for each way, and the ways themselves."""
    objects = []

    def add(name, labels, policies, ways, sidecar=pods.SIDECAR):
        for way in ways:
            space = f"{name}-{way}"
            objects.extend(both_ways.namespaces(space, way, labels))
            objects.append(both_ways.injection(space, policies, sidecar=sidecar))
            hook.seen[space] = (labels, policies)
            hook.sidecars[space] = sidecar

    for name, case in CASES.items():
        add(name, case.namespace["metadata"].get("labels") or {}, case.policies, WAYS)
    add("any", ENABLED, [pods.POLICY], (*WAYS, "both", "alone"))
    add("some", ENABLED, injected_pods.POLICIES, WAYS, FULL)
    objects += both_ways.namespaces("bare-none", "none", ENABLED)
    for name, bounds in BOUNDS.items():
        objects += both_ways.namespaces(f"{name}-policy", "policy", ENABLED)
        for found in bounds.limit_ranges:
            objects.append({**found, "metadata": {"name": name, "namespace": f"{name}-policy"}})
        objects.append(
            both_ways.injection(
                f"{name}-policy", [pods.POLICY], sidecar=pods.SIDECAR, within=bounds
            )
        )
    objects += both_ways.policy_objects(pods.SIDECAR.image)
    for condition in CONDITIONS:
        objects += both_ways.rules_alone(condition)
    with hook.served(tmp_path_factory.mktemp("webhook")) as configuration:
        both_ways.apply(api_server, [*objects, configuration])
        made = both_ways.Admission(api_server.kubeconfig)
        for way in WAYS:
            both_ways.wait_until_injected(made, f"any-{way}", SIMPLE)
        yield made
        made.close()
        for it in objects:
            if it["kind"] in both_ways.POLICIES:
                api_server("delete", it["kind"], it["metadata"]["name"])
        kind = "mutatingwebhookconfiguration"
        api_server("delete", kind, configuration["metadata"]["name"])


@pytest.mark.cluster
@pytest.mark.parametrize("name", CASES)
def test_pod_is_equal_by_both_ways(admission, name):
    try:
        by_policy, by_webhook = (
            comparable(admission.create(f"{name}-{way}", CASES[name].pod)) for way in WAYS
        )
    except direct.RefusedError:
        # A mirror pod is made by a kubelet alone.
        assert name == "mirror"
        return
    assert by_policy == by_webhook
    assert selection.carries_sidecar(by_policy) == (name in INJECTED)


@pytest.mark.cluster
def test_sidecar_is_as_large_as_limit_range_permits(admission):
    made = admission.create("fitting-policy", SIMPLE)
    assert made["spec"]["initContainers"][0]["resources"]["limits"]["memory"] == str(200 * 1024**2)


@pytest.mark.cluster
def test_pod_without_room_for_sidecar_is_created_with_note_of_why(admission):
    made = admission.create("tight-policy", SIMPLE)
    assert made["metadata"]["annotations"][names.ANNOTATION_SIDECAR_SKIPPED] == "LimitRange"
    assert "initContainers" not in made["spec"]
    assert "envFrom" not in made["spec"]["containers"][0]


@pytest.mark.cluster
@pytest.mark.parametrize("name", INJECTED)
def test_pod_that_is_injected_again_stays_as_it_is(admission, name):
    created = admission.create(f"{name}-policy", CASES[name].pod)
    again = admission.create(f"{name}-policy", both_ways.again(created))
    assert both_ways.without_token(again) == both_ways.without_token(created)


@pytest.mark.cluster
def test_pod_under_both_ways_is_injected_once(admission, hook):
    before = hook.asked
    by_both = comparable(admission.create("any-both", SIMPLE))
    assert hook.asked > before
    assert by_both == comparable(admission.create("any-policy", SIMPLE))


@pytest.mark.cluster
def test_webhook_is_not_asked_where_policy_injects(admission, hook):
    before = hook.asked
    assert selection.carries_sidecar(admission.create("any-policy", SIMPLE))
    assert hook.asked == before


@pytest.mark.cluster
def test_namespace_without_injection_object_gets_plain_pods(api_server, admission):
    both_ways.apply(api_server, both_ways.namespaces("empty-policy", "policy", ENABLED))
    assert not selection.carries_sidecar(admission.create("empty-policy", SIMPLE))


@pytest.mark.cluster
@pytest.mark.parametrize("condition", CONDITIONS)
def test_condition_alone_refuses_its_pods_and_no_other(admission, condition):
    refused = injected_pods.REFUSED_BY[condition]

    def passes(pod):
        made = admission.create("any-alone", pod)
        return set(CONDITIONS) & (made["metadata"].get("labels") or {}).keys()

    assert passes(SIMPLE) == set(CONDITIONS)
    for pod in refused:
        assert passes(pod) == set(CONDITIONS) - {condition}, pod


@pytest.mark.cluster
@pytest.mark.parametrize("field", fields.SIDECAR)
def test_field_of_sidecar_is_as_written(admission, field):
    made = admission.create("any-policy", SIMPLE)
    sidecar = made["spec"]["initContainers"][0]
    (candidate,) = selection.candidates([pods.POLICY])
    wanted = injector.inject(SIMPLE, sidecar=pods.SIDECAR, candidate=candidate)
    assert injected_pods.has(sidecar[field], wanted["spec"]["initContainers"][0][field])


@pytest.mark.cluster
def test_values_of_chart_reach_pod_by_both_ways(admission):
    by_policy, by_webhook = (comparable(admission.create(f"some-{way}", SIMPLE)) for way in WAYS)
    assert by_policy == by_webhook
    assert by_policy["spec"]["imagePullSecrets"] == [{"name": "registry"}, {"name": "mirror"}]
    sidecar = by_policy["spec"]["initContainers"][0]
    assert sidecar["imagePullPolicy"] == "Always"
    assert {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": FULL.otel_endpoint} in sidecar["env"]


@pytest.mark.cluster
@given(pod=injected_pods.pods())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_pod_is_equal_by_both_ways(admission, pod):
    by_policy, by_webhook = (
        comparable(admission.create(f"some-{way}", copy.deepcopy(pod))) for way in WAYS
    )
    assert by_policy == by_webhook


@pytest.mark.cluster
def test_two_hundred_policies_cost_no_injection(api_server, admission):
    """The API server bounds what an expression may cost; a pod beyond it gets no sidecar."""
    many = injected_pods.many_policies(200)
    both_ways.apply(
        api_server,
        [
            *both_ways.namespaces("crowd-policy", "policy", ENABLED),
            both_ways.injection("crowd-policy", many, sidecar=pods.SIDECAR),
        ],
    )
    last = many[-1]["metadata"]["name"]
    chosen = injected_pods.pod(injected_pods.container(), labels={"team": last})
    both_ways.wait_until_injected(admission, "crowd-policy", chosen)
    made = admission.create("crowd-policy", chosen)
    assert made["metadata"]["labels"][names.LABEL_INJECTED] == last


def test_every_condition_has_pods_that_it_refuses():
    assert injected_pods.REFUSED_BY.keys() == set(CONDITIONS)
    assert set(typing.get_args(selection.Reason)) >= {"HostNetwork", "Windows", "NameTaken"}
