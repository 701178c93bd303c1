"""Which running sidecars are resized, how many at once, and what is said of them."""

import pytest

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.controller import resizes
from embedding_operator.injection import injector, selection
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.kinds import ObjectKey

KEY = ObjectKey("shop", "search")
SMALL = {"requests": {"cpu": "25m", "memory": "96Mi"}, "limits": {"memory": "128Mi"}}
LARGE = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}
SIDECAR = injector.Sidecar(image="s:1", pull_policy="Never", resources=SMALL)
FIXED = {"cpu": "1", "memory": "1Gi"}


def candidate(resources=None):
    return selection.Candidate(name="search", created_at="", pod_selector={}, resources=resources)


def pod(name="a", *, app=None, spec=None, made_with=None):
    """A pod with a sidecar, whose resources kubelet reports as they are."""
    bare = {
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}"},
        "spec": {"containers": [{"name": "app", "resources": app or {}}], **(spec or {})},
    }
    made = injector.inject(bare, sidecar=SIDECAR, candidate=candidate(made_with))
    made["status"] = {"phase": "Running", "initContainerStatuses": []}
    return seen(made, made["spec"]["initContainers"][0]["resources"])


def seen(found, amounts, **condition):
    status = {"initContainerStatuses": [{"name": names.CONTAINER, "resources": amounts}]}
    status["conditions"] = [{"status": "True", **condition}] if condition else []
    return {**found, "status": {**found["status"], **status}}


def is_outdated(a_pod, *, sidecar, candidate):
    expected = injector.sidecar_hash(sidecar, candidate)
    return injector.is_outdated(a_pod, expected, sidecar=sidecar, candidate=candidate)


class Server(KubeClient):
    """Takes every change, unless told otherwise."""

    def __init__(self):
        self.asked = []
        self.refuses = None
        self.keeps = False

    def resize(self, namespace, pod, resources, *, uid):
        self.asked.append((pod, uid, resources))
        if self.refuses is not None:
            raise errors.Denied(self.refuses)
        found = {} if self.keeps else LARGE
        container = {"name": names.CONTAINER, "resources": found}
        return {"spec": {"initContainers": [container]}}


class Run:
    def __init__(self, *, enabled=True):
        self.server = Server()
        self.seconds = 0.0
        self.made = resizes.Resizes(
            objects=self.server, sidecar=SIDECAR, enabled=enabled, clock=lambda: self.seconds
        )

    def __call__(self, *pods, resources=LARGE, version=(1, 37)):
        return self.made.look(
            KEY, candidate=candidate(resources), running=pods, server_version=version
        )


def test_new_resources_are_asked_for_and_not_yet_there():
    run = Run()
    found = run(pod())
    assert run.server.asked == [("a", "uid-a", LARGE)]
    assert found.problem.reason == "Resizing"
    assert "1 of 1 running sidecars" in found.problem.message


def test_only_amounts_that_differ_are_asked_for():
    run = Run()
    run(pod(), resources={**SMALL, "limits": {"memory": "0.25Gi"}})
    assert run.server.asked == [("a", "uid-a", {"limits": {"memory": "0.25Gi"}})]


def test_memory_limit_is_not_lowered_in_running_pod():
    """The sidecar sized its work by it."""
    run = Run()
    high = pod(made_with={**LARGE, "limits": {"memory": "1Gi"}})
    found = run(high)
    assert run.server.asked == []
    assert found.problem.reason == "NewPodsOnly"
    assert is_outdated(high, sidecar=SIDECAR, candidate=candidate(LARGE))


def test_request_left_out_is_limit_as_api_server_has_it():
    run = Run()
    run(pod(), resources={"limits": {"cpu": "1"}})
    assert run.server.asked[0][2] == {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}


def test_pod_made_with_its_resources_is_left_alone():
    """Also where an admission plugin has made other amounts of them."""
    run = Run()
    other = seen(pod(made_with=LARGE), SMALL)
    other["spec"]["initContainers"][0]["resources"] = SMALL
    assert run(other) == resizes.Resized()
    assert run.server.asked == []


def test_resized_pod_follows_policy_back_to_what_it_was_made_with():
    run = Run()
    back = seen(pod(made_with=LARGE), SMALL)
    back["spec"]["initContainers"][0]["resources"] = SMALL
    back["metadata"]["generation"] = 2
    run(back)
    assert run.server.asked == [("a", "uid-a", LARGE)]


def test_condition_ends_once_kubelet_reports_resources():
    run = Run()
    asked = pod()
    asked["spec"]["initContainers"][0]["resources"] = LARGE
    assert run(seen(asked, SMALL)).problem.reason == "Resizing"
    assert run(seen(asked, LARGE)) == resizes.Resized()
    assert run.server.asked == []


CANNOT = {
    "ResizeDeferred": {"type": "PodResizePending", "reason": "Deferred"},
    "ResizeInfeasible": {"type": "PodResizePending", "reason": "Infeasible"},
    "ResizeFailed": {"type": "PodResizeInProgress", "reason": "Error"},
}


@pytest.mark.parametrize("reason", CANNOT)
def test_words_of_kubelet_are_passed_on(reason):
    asked = pod()
    asked["spec"]["initContainers"][0]["resources"] = LARGE
    found = Run()(seen(asked, SMALL, **CANNOT[reason], message="no room"))
    assert found.problem.reason == reason
    assert f"a ({reason}: no room)" in found.problem.message


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("128Mi", {"requests": SMALL["requests"], "limits": {"memory": "128Mi"}}),
        ("120Mi", {"requests": {"cpu": "25m"}}),  # lower than what the sidecar started with
    ],
)
def test_change_that_kubelet_put_off_is_taken_back_with_policy(limit, expected):
    """Else the scheduler keeps room for it, and new pods find none."""
    run = Run()
    asked = pod()
    asked["spec"]["initContainers"][0]["resources"] = LARGE
    asked["metadata"]["generation"] = 2
    run(
        seen(asked, SMALL, **CANNOT["ResizeDeferred"]),
        resources={**SMALL, "limits": {"memory": limit}},
    )
    assert run.server.asked == [("a", "uid-a", expected)]


def test_guaranteed_pod_keeps_its_class():
    run = Run()
    fixed = pod(app={"requests": FIXED, "limits": FIXED})
    run(fixed, resources={"requests": {"cpu": "50m"}, "limits": {"cpu": "100m", "memory": "256Mi"}})
    (_, _, asked) = run.server.asked[0]
    assert asked["limits"] == asked["requests"]


def test_pod_with_budget_of_its_own_is_left_alone():
    run = Run()
    shared = pod(spec={"resources": {"limits": {"memory": "1Gi"}}})
    assert run(shared) == resizes.Resized()


def test_refusal_is_said_and_tried_again_later_only():
    run = Run()
    run.server.refuses = "Pod QOS Class may not change"
    found = run(pod())
    assert found.problem.reason == "ResizeRefused"
    assert "may not change" in found.problem.message
    assert run(pod()).problem == found.problem
    assert len(run.server.asked) == 1
    run(pod(), resources={**LARGE, "requests": {"cpu": "60m"}})
    assert len(run.server.asked) == 2  # other resources are another question
    run.seconds += resizes.PATIENCE_SECONDS
    run(pod(), resources={**LARGE, "requests": {"cpu": "60m"}})
    assert len(run.server.asked) == 3


def test_amounts_that_admission_changes_are_not_asked_for_again():
    run = Run()
    run.server.keeps = True
    assert run(pod()).problem.reason == "ResizeRefused"
    run(pod())
    assert len(run.server.asked) == 1


def test_few_pods_are_resized_at_once():
    run = Run()
    pods = [pod(f"p{number}") for number in range(resizes.AT_ONCE + 5)]
    assert run(*pods).again_seconds == resizes.PACE_SECONDS
    assert len(run.server.asked) == resizes.AT_ONCE


@pytest.mark.parametrize(("enabled", "version"), [(False, (1, 37)), (True, (1, 34))])
def test_new_pods_only_without_right_or_older_server(enabled, version):
    run = Run(enabled=enabled)
    assert run(pod(), version=version).problem.reason == "NewPodsOnly"
    assert run.server.asked == []


def test_resized_pod_is_no_longer_outdated():
    late = pod()
    new = candidate(LARGE)
    assert is_outdated(late, sidecar=SIDECAR, candidate=new)
    asked = seen(late, SMALL)
    asked["spec"]["initContainers"][0]["resources"] = LARGE
    assert is_outdated(asked, sidecar=SIDECAR, candidate=new)
    assert not is_outdated(seen(asked, LARGE), sidecar=SIDECAR, candidate=new)
    newer = injector.Sidecar(image="s:2", pull_policy="Never", resources=SMALL)
    assert is_outdated(seen(asked, LARGE), sidecar=newer, candidate=new)


def test_limit_that_policy_dropped_leaves_pod_outdated():
    """No server takes a limit away."""
    assert is_outdated(pod(), sidecar=SIDECAR, candidate=candidate({"requests": SMALL["requests"]}))
