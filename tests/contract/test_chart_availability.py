"""The chart's replicas: one Lease, a budget for drains, a spread, and the order of an upgrade."""

import json

import pytest
import yaml

from embedding_contract import names
from tests.parts import helm
from tests.parts.installation import ROOT

CHART = ROOT / "charts" / "embedding-operator"
ONE_WITHOUT_LEASE = {"replicas": 1, "leaderElection": {"enabled": False}}


def render(**values):
    text = helm.Helm()(
        *("template", "embedding-operator", str(CHART), "-n", "embedding-system", "-f", "-"),
        stdin=json.dumps(values),
    )
    return [it for it in yaml.safe_load_all(text) if it]


def found(objects, kind, name="embedding-operator"):
    return [it for it in objects if it["kind"] == kind and it["metadata"]["name"] == name]


@pytest.fixture(scope="module")
def default():
    return render()


def deployment(objects):
    (one,) = found(objects, "Deployment")
    return one["spec"]


def env(objects):
    (container,) = deployment(objects)["template"]["spec"]["containers"]
    return {it["name"]: it.get("value") for it in container["env"]}


def test_new_replica_answers_before_old_one_ends(default):
    spec = deployment(default)
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert env(default)["LEADER_ELECTION"] == "true"


def test_replica_on_ports_of_node_makes_room_first():
    spec = deployment(render(hostNetwork=True))
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}


def test_single_replica_without_lease_ends_before_next_begins():
    objects = render(**ONE_WITHOUT_LEASE)
    assert deployment(objects)["strategy"] == {"type": "Recreate"}
    assert env(objects)["LEADER_ELECTION"] == "false"
    assert not found(objects, "Role", "embedding-operator-lease")


def test_rights_to_lease_are_of_its_name_alone(default):
    (role,) = found(default, "Role", "embedding-operator-lease")
    assert role["metadata"]["namespace"] == "embedding-system"
    rules = {verb: it.get("resourceNames") for it in role["rules"] for verb in it["verbs"]}
    assert rules == {"create": None, "get": [names.LEASE], "update": [names.LEASE]}


def test_drain_keeps_replica_and_does_not_wait_for_single_one(default):
    (budget,) = found(default, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == deployment(default)["selector"]
    assert not found(render(podDisruptionBudget={"enabled": False}), "PodDisruptionBudget")


def test_replicas_are_spread_over_nodes(default):
    (spread,) = deployment(default)["template"]["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    assert spread["labelSelector"] == deployment(default)["selector"]


def test_spread_of_ones_own_keeps_its_selector():
    own = {
        "maxSkew": 2,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"mine": "yes"}},
    }
    pod = deployment(render(topologySpreadConstraints=[own]))["template"]["spec"]
    assert pod["topologySpreadConstraints"] == [own]
    assert "topologySpreadConstraints" not in str(render(topologySpreadConstraints=[]))


def test_priority_class_is_that_of_values(default):
    assert "priorityClassName" not in deployment(default)["template"]["spec"]
    pod = deployment(render(priorityClassName="system-cluster-critical"))["template"]["spec"]
    assert pod["priorityClassName"] == "system-cluster-critical"
