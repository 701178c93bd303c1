"""Which workloads a rollout restarts, and what it says of the others."""

import pytest

from embedding_operator.cli import rollout_plan
from embedding_operator.injection import injector, selection

SMALL, LARGE = {"limits": {"memory": "128Mi"}}, {"limits": {"memory": "256Mi"}}
CANDIDATE = selection.Candidate(name="search", created_at="", pod_selector={})
SINCE = {"search": "2026-01-02T00:00:00Z"}


def pod(name="app-1", *, image=None, resources=SMALL, started="2026-01-03T00:00:00Z"):
    """A pod, with a sidecar of this image if there is one."""
    running = {"running": {"startedAt": started}}
    bare = {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "state": running}]},
    }
    if image is None:
        return bare
    sidecar = injector.Sidecar(image=image, pull_policy="Never", resources=resources)
    return injector.inject(bare, sidecar=sidecar, candidate=CANDIDATE)


NEW = rollout_plan.Look(pod("new", image="s:2"))


def workload(kind="Deployment", *, status=None, **spec):
    return {
        "kind": kind,
        "metadata": {"name": "app", "namespace": "shop", "uid": "u", "generation": 2},
        "spec": {"replicas": 2, "template": {"spec": {"containers": []}}, **spec},
        "status": {
            "observedGeneration": 2,
            "updatedReplicas": 2,
            "desiredNumberScheduled": 2,
            "updatedNumberScheduled": 2,
            "updateRevision": "a",
            "currentRevision": "a",
            **(status or {}),
        },
    }


def row(found, *pods, look=NEW):
    return rollout_plan.row(found, pods, look, environment_since=SINCE)


LATE = {
    "no sidecar": pod(),
    "older sidecar": pod(image="s:1"),
    "other resources": pod(image="s:2", resources=LARGE),
    "started before the sidecar's address was set": pod(
        image="s:2", started="2026-01-01T00:00:00Z"
    ),
}


@pytest.mark.parametrize("why", LATE)
def test_workload_with_late_pod_is_restarted(why):
    found = row(workload(), LATE[why], pod("app-2", image="s:2"))
    assert found.late == {"app-1": why}
    assert (found.pods, found.restarts) == (2, True)
    assert found.action.startswith("restart: rolling")


def test_workload_whose_pods_are_of_today_is_no_row():
    assert row(workload(), pod(image="s:2")) is None


ROLLING = {"rollingUpdate": {"maxUnavailable": "25%", "maxSurge": 1}, "type": "RollingUpdate"}
HOW = {
    "restart: rolling, maxUnavailable 25%, maxSurge 1": workload(strategy=ROLLING),
    "restart: all pods stop before new ones start (Recreate)": workload(
        strategy={"type": "Recreate"}
    ),
    "restart: one pod after another": workload("StatefulSet", updateStrategy={}),
    "restart: one pod after another; partition 1 keeps app-0": workload(
        "StatefulSet", updateStrategy={"rollingUpdate": {"partition": 1}}
    ),
    "restart: rolling, maxUnavailable 1": workload(
        "DaemonSet", updateStrategy={"rollingUpdate": {"maxUnavailable": 1}}
    ),
}


@pytest.mark.parametrize("action", HOW)
def test_strategy_of_workload_is_said(action):
    found = row(HOW[action], pod("app-0"), pod("app-1"))
    assert (found.action, found.restarts) == (action, True)


OLD_REVISION = {"updatedReplicas": 1, "currentRevision": "b"}
NOT = {
    "paused: kubectl rollout resume deployment/app first": workload(paused=True),
    "OnDelete: delete the pods yourself": workload(
        "StatefulSet", updateStrategy={"type": "OnDelete"}
    ),
    "partition 2 keeps these pods": workload(
        "StatefulSet", updateStrategy={"rollingUpdate": {"partition": 2}}
    ),
}
ROLLS = {
    "of a Deployment": workload(status={"updatedReplicas": 1}),
    "of a Deployment that surges": workload(status={"replicas": 3}),
    "of a StatefulSet": workload("StatefulSet", status=OLD_REVISION),
    "of a DaemonSet": workload("DaemonSet", status={"updatedNumberScheduled": 1}),
    "not seen by its controller yet": workload(status={"observedGeneration": 1}),
}


@pytest.mark.parametrize("why", NOT)
def test_workload_that_restart_does_not_renew_is_left_alone(why):
    found = row(NOT[why], pod("app-0"), pod("app-1"))
    assert (found.action, found.restarts) == (f"not restarted: {why}", False)


@pytest.mark.parametrize("case", ROLLS)
def test_workload_that_rolls_already_is_left_alone(case):
    found = row(ROLLS[case], pod("app-0"))
    assert not found.restarts
    assert "being replaced already" in found.action


LOOKS = {
    "a new pod would get no sidecar: the operator does not answer": rollout_plan.Look(
        pod("new"), "the operator does not answer"
    ),
    "the API server refuses a new pod: quota": rollout_plan.Look(None, "quota"),
}


@pytest.mark.parametrize("why", LOOKS)
def test_workload_whose_new_pods_get_no_sidecar_is_left_alone(why):
    found = row(workload(), pod(), look=LOOKS[why])
    assert (found.action, found.restarts) == (f"not restarted: {why}", False)
    old = row(workload(), pod(image="s:1"), look=LOOKS[why])
    assert old is not None
    assert old.late == {"app-1": "not compared"}


def other(kind, name="a"):
    found = rollout_plan.other(kind, name, [pod()])
    assert found is not None
    return found


def test_pods_that_nothing_replaces_are_listed():
    job = other("Job")
    assert "the next run gets a new one" in job.action
    assert "create it anew" in other("Pod").action
    assert "a Rollout is restarted by its own tool" in other("Rollout").action
    assert rollout_plan.other("Job", "load", [pod(image="s:1")]) is None
    assert not job.restarts


def test_new_pod_has_volumes_for_claims():
    claim = {"metadata": {"name": "data"}, "spec": {}}
    made = rollout_plan.new_pod(workload("StatefulSet", volumeClaimTemplates=[claim]))
    assert made["spec"]["volumes"] == [{"name": "data", "emptyDir": {}}]
    assert made["metadata"]["generateName"] == "app-"


def test_table_shows_restarts_first_and_no_control_characters():
    rows = [
        other("Job", "a\x1b[2J"),
        row(workload(), pod(), pod("app-2"), pod("app-3", image="s:1")),
    ]
    lines = rollout_plan.table(rows).splitlines()
    assert lines[0].split() == ["WORKLOAD", "PODS", "REASON", "ACTION"]
    assert lines[1].split("  ")[0] == "Deployment/app"
    assert "3/3" in lines[1]
    assert "2 no sidecar, 1 older sidecar" in lines[1]
    assert "\x1b" not in "".join(lines)
