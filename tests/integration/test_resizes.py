"""Resources of running sidecars on a real API server; the test plays kubelet."""

import json

import pytest

from embedding_contract import names
from embedding_operator.kube import kinds
from tests.integration.test_synced_secrets import PROVIDER
from tests.parts import reconciling

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.needs_kubernetes("1.35", "pods/resize of sidecars"),
]

SMALL = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
LARGE = {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}}
FIXED = {"cpu": "100m", "memory": "64Mi"}


class Run(reconciling.Reconciling):
    def __init__(self, user, namespace):
        super().__init__(reconciling.connect(user.kubeconfig), namespace)
        self.user = user
        labels = {names.LABEL_INJECTION: "enabled"}
        self.user("label", "namespace", namespace, *(f"{key}={it}" for key, it in labels.items()))

    def apply(self, resources):
        self.user.apply(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": {"name": "search", "namespace": self.namespace},
                "spec": {
                    "podSelector": {},
                    "providers": [PROVIDER],
                    "sidecar": {"resources": resources},
                },
            }
        )

    def start(self, name, *, resources=SMALL, app=None):
        """A pod that runs with these resources."""
        bare = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "automountServiceAccountToken": False,
                "containers": [{"name": "app", "image": "app:1", "resources": app or {}}],
            },
        }
        self.user.apply(reconciling.injected(bare, policy="search", resources=resources))
        self.report(name)

    def report(self, name, **condition):
        """Kubelet reports the resources that the sidecar is to have, or why it cannot."""
        running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        seen = {
            "name": names.CONTAINER,
            "image": "s",
            "imageID": "s",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "state": running,
        }
        status = {"phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]}
        if condition:
            status["conditions"] = [{"status": "True", **condition}]
        else:
            status["initContainerStatuses"] = [{**seen, "resources": self.spec(name)}]
            status["conditions"] = []
        patch = json.dumps({"status": status})
        where = ("pod", name, "-n", self.namespace, "--subresource=status", "--type=merge")
        self.user("patch", *where, "-p", patch)

    def spec(self, name):
        return self.get(kinds.POD, name)["spec"]["initContainers"][0].get("resources", {})

    def said(self):
        found = [
            it for it in self.status("search")["conditions"] if it["type"] == "SidecarsResized"
        ]
        return found[0] if found else None

    def outdated(self):
        return self.status("search")["pods"]["outdated"]


@pytest.fixture
def run(api_server, namespace):
    made = Run(api_server, namespace)
    reconciling.wait_for_default_account(api_server, namespace)
    made.apply(SMALL)
    made("search")
    return made


def test_running_sidecar_gets_resources_of_changed_policy(run):
    run.start("a")
    run("search")
    assert (run.said(), run.outdated()) == (None, 0)
    before = run.get(kinds.POD, "a")
    run.apply(LARGE)
    run("search")
    after = run.get(kinds.POD, "a")
    assert run.spec("a") == LARGE
    assert after["spec"]["containers"] == before["spec"]["containers"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert run.said()["reason"] == "Resizing"
    assert run.outdated() == 1
    run.report("a", type="PodResizePending", reason="Deferred", message="no cpu")
    run("search")
    assert run.said()["reason"] == "ResizeDeferred"
    assert "a (ResizeDeferred: no cpu)" in run.said()["message"]
    run.report("a")
    run("search")
    assert (run.said(), run.outdated()) == (None, 0)
    run.apply(SMALL)
    run("search")
    assert run.spec("a")["requests"] == {"cpu": "20m", "memory": "96Mi"}
    assert run.spec("a")["limits"] == LARGE["limits"]
    run.report("a")
    run("search")
    assert run.said()["reason"] == "NewPodsOnly"
    assert "its memory limit is not lowered" in run.said()["message"]


def test_change_that_kubelet_put_off_is_taken_back_with_policy(run):
    run.start("a")
    run.apply(LARGE)
    run("search")
    run.report("a", type="PodResizePending", reason="Deferred", message="no cpu")
    assert run.spec("a") == LARGE
    run.apply(SMALL)
    run("search")
    assert run.spec("a") == SMALL
    run("search")
    assert (run.said(), run.outdated()) == (None, 0)


def test_qos_class_stays_and_is_reason_of_refusal(run):
    run.start("free", resources={})
    run.start("fixed", resources={"limits": FIXED}, app={"limits": FIXED, "requests": FIXED})
    run.apply({"limits": {"cpu": "200m", "memory": "96Mi"}})
    run("search")
    amounts = {"cpu": "200m", "memory": "96Mi"}
    assert run.spec("fixed") == {"requests": amounts, "limits": amounts}
    assert run.get(kinds.POD, "fixed")["status"]["qosClass"] == "Guaranteed"
    assert run.spec("free") == {}
    assert run.said()["reason"] == "ResizeRefused"
    assert "free (ResizeRefused: " in run.said()["message"]
    assert "QOS" in run.said()["message"]


def test_limit_that_policy_drops_stays_and_pod_is_outdated(run):
    run.start("a")
    run.apply({"requests": SMALL["requests"]})
    run("search")
    assert run.spec("a") == SMALL
    assert run.outdated() == 1


def test_resizing_that_chart_forbids_is_said(run):
    run.restart(resize=False)
    run.start("a")
    run.apply(LARGE)
    run("search")
    assert run.spec("a") == SMALL
    assert run.said()["reason"] == "NewPodsOnly"
    assert "sidecar.resize is off" in run.said()["message"]
