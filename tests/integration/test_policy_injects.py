"""The chart's policy, with the operator that keeps its parameters, on a real API server."""

import json
import os
import time
from datetime import datetime

import pytest

from dev import cluster
from embedding_contract import names
from embedding_operator.injection import embedding_injection, selection
from tests.parts import admitting, both_ways, charted, direct, injected_pods, policies
from tests.parts.installation import SYSTEM_NAMESPACE, wait
from tests.parts.kubectl import Kubectl, KubectlError

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.integration,
    pytest.mark.needs_kubernetes("1.36", "MutatingAdmissionPolicy v1"),
]

NAMESPACE_CONTROLLER = "system:serviceaccount:kube-system:namespace-controller"
POD = injected_pods.pod(injected_pods.container(), labels={"app": "search"})


class World:
    """The chart as it comes, its operator as a process, and a namespace `shop`."""

    def __init__(self, asked, folder):
        self.asked = asked
        self.operator = charted.Operator(asked, folder)
        self.admission = both_ways.Admission(asked.kubeconfig)

    def start(self):
        self.operator.start(RESYNC_SECONDS="2")

    def policy(self, name, namespace="shop", **selector):
        self.asked.apply(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": {"name": name, "namespace": namespace},
                "spec": {
                    "podSelector": selector,
                    "providers": [policies.LOCAL],
                },
            }
        )

    def held(self, namespace="shop"):
        """The policies that the API server injects, in their order."""
        found = self.asked.get(names.INJECTION_PLURAL, "-n", namespace)["items"]
        return [it["name"] for object_ in found for it in object_["spec"]["policies"]]

    def wait_for(self, *policies, namespace="shop"):
        wait(
            lambda: self.held(namespace) == list(policies),
            f"an EmbeddingInjection with {policies}",
            last=lambda: f"{self.held(namespace)}\n{self.operator.log()}",
        )

    def injected(self, pod=POD, namespace="shop"):
        """The policy whose sidecar a new pod gets; None for none."""
        made = self.admission.create(namespace, pod)
        assert selection.carries_sidecar(made) == (
            names.LABEL_INJECTED in (made["metadata"].get("labels") or {})
        )
        return (made["metadata"].get("labels") or {}).get(names.LABEL_INJECTED)

    def wait_until_injected(self, policy, pod=POD, namespace="shop"):
        wait(lambda: self.injected(pod, namespace) == policy, f"pods of {policy}")

    def status(self, name):
        return self.asked.get("embpol", name, "-n", "shop").get("status", {})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    cluster.down_stale()
    name = f"policy-{os.getpid()}"
    up = cluster.up(form="control-plane", name=name, owner_pid=os.getpid())
    try:
        asked = Kubectl(up.kubeconfig)
        charted.install(asked, {})
        made = World(asked, tmp_path_factory.mktemp("operator"))
        enabled = {names.LABEL_INJECTION: selection.ENABLED}
        guarded = {**enabled, "embedding.agenticverz.io/pod-guard": "enabled"}
        for space, labels in (("shop", enabled), ("guarded", guarded)):
            both_ways.apply(asked, both_ways.namespaces(space, "policy", labels))
        made.start()
        try:
            yield made
        finally:
            made.operator.stop()
            made.admission.close()
    finally:
        cluster.down(name)


@pytest.fixture
def searched(world):
    """A policy for pods of app=search, in force."""
    world.policy("search", matchLabels={"app": "search"})
    world.wait_for("search")
    world.wait_until_injected("search")
    return world


def created_at(world, name):
    """The second in which a policy was created, by Unix time."""
    metadata = world.asked.get("embpol", name, "-n", "shop")["metadata"]
    return datetime.fromisoformat(metadata["creationTimestamp"]).timestamp()


def test_chart_installs_no_webhook_where_server_injects(world):
    listed = ("get", "mutatingwebhookconfiguration,service", "-n", SYSTEM_NAMESPACE, "-o", "name")
    assert world.asked(*listed) == ""


def test_pod_is_injected_and_status_expects_it_from_then_on(searched):
    wait(lambda: "covering" in searched.status("search"), "a time since when pods are covered")
    assert searched.injected(injected_pods.pod(injected_pods.container())) is None


def test_oldest_policy_wins_and_changed_selector_follows(searched):
    # Policies of one second are ordered by name.
    second = created_at(searched, "search")
    wait(lambda: time.time() >= second + 1, "a second later than the oldest policy's")
    searched.policy("all")
    searched.wait_for("search", "all")
    assert searched.injected() == "search"
    searched.policy("search", matchLabels={"app": "other"})
    searched.wait_until_injected("all")
    searched.asked("delete", "embpol", "all", "-n", "shop")
    searched.wait_for("search")
    searched.wait_until_injected(None)


def test_object_goes_with_its_last_policy(world):
    namespace = "guarded"
    world.policy("gone", namespace)
    world.wait_for("gone", namespace=namespace)
    world.asked("delete", "embpol", "gone", "-n", namespace)
    wait(lambda: not world.asked.get(names.INJECTION_PLURAL, "-n", namespace)["items"], "no object")


def test_object_is_writable_by_operator_alone_and_goes_with_namespace(searched):
    name = ("embeddinginjection", names.INJECTION_NAME, "-n", "shop")
    for command in (
        ("patch", *name, "--type=merge", "-p", '{"spec":{"policies":[]}}'),
        ("delete", *name),
    ):
        with pytest.raises(KubectlError, match="written by the operator alone"):
            searched.asked(*command)
    searched.asked("delete", *name, f"--as={NAMESPACE_CONTROLLER}")
    # The operator writes it again.
    searched.wait_for("search")


def test_built_in_roles_cannot_write_object(world):
    world.asked.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "tenant", "namespace": "shop"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "admin",
            },
            "subjects": [
                {"kind": "User", "name": "tenant", "apiGroup": "rbac.authorization.k8s.io"}
            ],
        }
    )

    def may(verb, resource):
        try:
            said = world.asked("auth", "can-i", verb, resource, "-n", "shop", "--as=tenant")
        except KubectlError as refused:
            said = refused.said
        return said.strip().splitlines()[-1]

    wait(lambda: may("create", names.PLURAL) == "yes", "aggregated roles")
    assert {may(verb, names.INJECTION_PLURAL) for verb in ("get", "create", "delete")} == {"no"}


def test_pod_guard_takes_pods_that_server_injects(world):
    namespace = "guarded"
    world.policy("search", namespace, matchLabels={"app": "search"})
    world.wait_for("search", namespace=namespace)
    world.wait_until_injected("search", namespace=namespace)
    spoiled = world.admission.create(namespace, POD)
    again = both_ways.again(spoiled)
    assert both_ways.without_token(world.admission.create(namespace, again))
    again["spec"]["initContainers"][0]["args"] = ["--else"]
    with pytest.raises(direct.RefusedError, match="embedding-sidecar"):
        world.admission.create(namespace, again)


def test_pods_are_injected_while_operator_is_away(searched):
    searched.operator.stop()
    try:
        assert searched.injected() == "search"
        # Edits wait for the operator: what it wrote last holds.
        searched.policy("search", matchLabels={"app": "later"})
        assert searched.injected() == "search"
    finally:
        searched.start()
    searched.wait_until_injected(None)
    searched.policy("search", matchLabels={"app": "search"})
    searched.wait_until_injected("search")


def test_policy_deleted_while_operator_is_away_ends_injection_after(world):
    namespace = "guarded"
    world.policy("search", namespace, matchLabels={"app": "search"})
    world.wait_for("search", namespace=namespace)
    world.operator.stop()
    try:
        world.asked("delete", "embpol", "search", "-n", namespace)
    finally:
        world.start()
    wait(lambda: not world.asked.get(names.INJECTION_PLURAL, "-n", namespace)["items"], "no object")


def test_pod_that_server_did_not_inject_is_named_as_missed(searched):
    wait(lambda: "covering" in searched.status("search"), "a time since when pods are covered")
    binding = f"{charted.NAME}.{SYSTEM_NAMESPACE}.embedding.agenticverz.io"
    kind = "mutatingadmissionpolicybinding"
    kept = searched.asked.get(kind, binding)
    kept["metadata"] = {"name": binding}
    searched.asked("delete", kind, binding)
    try:
        wait(lambda: searched.injected() is None, "pods without injection")
        admitting.create(searched.asked, "shop", metadata={"labels": {"app": "search"}})

        def missed():
            found = searched.status("search").get("conditions", [])
            return {it["type"]: it["reason"] for it in found}.get("PodsCovered") == "PodsMissed"

        # A pod of the first seconds is not expected to have one.
        def missed_later():
            admitting.create(searched.asked, "shop", metadata={"labels": {"app": "search"}})
            return missed()

        wait(missed_later, "a pod that was missed", last=lambda: searched.status("search"))
    finally:
        searched.asked.apply(kept)
        searched.asked("delete", "pods", "--all", "-n", "shop", "--force", "--grace-period=0")
    searched.wait_until_injected("search")


def test_status_says_why_object_cannot_be_written(searched):
    """The quota of objects is used up."""
    counted = f"count/{names.INJECTION_PLURAL}.{names.GROUP}"
    quota = ("resourcequota", "none", "-n", "guarded")
    searched.asked("create", "quota", "none", "-n", "guarded", f"--hard={counted}=0")
    # No controller counts here.
    status = json.dumps({"status": {"hard": {counted: "0"}, "used": {counted: "0"}}})
    searched.asked("patch", *quota, "--subresource=status", "--type=merge", "-p", status)
    searched.policy("search", "guarded", matchLabels={"app": "search"})

    def reason():
        found = searched.asked.get("embpol", "search", "-n", "guarded").get("status", {})
        return next(
            (
                it["reason"]
                for it in found.get("conditions", [])
                if it["type"] == "InjectionSupported"
            ),
            None,
        )

    wait(lambda: reason() == "InjectionNotWritten", "the reason", last=searched.operator.log)
    searched.asked("delete", *quota)
    wait(lambda: reason() != "InjectionNotWritten", "no reason", last=searched.operator.log)
    assert searched.held("guarded") == ["search"]


def test_operator_met_no_403(searched):
    """By the audit log: what the chart grants is enough."""
    log = searched.asked.kubeconfig.parent / "log" / "audit.log"
    refused = [
        line
        for line in log.read_text(encoding="utf-8").splitlines()
        if charted.USER in line and '"code":403' in line and "exceeded quota" not in line
    ]
    assert refused == []


def test_object_holds_policies_and_chart_values_alone(searched):
    (found,) = searched.asked.get(names.INJECTION_PLURAL, "-n", "shop")["items"]
    assert found["metadata"]["name"] == names.INJECTION_NAME
    assert set(embedding_injection.selectors(found["spec"])) == {"search"}
    assert found["spec"].keys() == {"sidecar", "policies"}
