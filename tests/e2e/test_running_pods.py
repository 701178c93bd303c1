"""Pods that run already: sidecars get other resources, and workloads are restarted on demand.

Times are printed, and none is asserted.
"""

import copy
import re
import time

import pytest
import yaml

from embedding_contract import names
from tests.e2e.test_rotation import application
from tests.integration.test_kubectl_plugin import Plugin
from tests.parts import both_ways, installation

pytestmark = pytest.mark.node

NAME = "running"
PATIENCE_SECONDS = 90
FIRST = {
    "requests": {"cpu": "20m", "memory": "96Mi"},
    "limits": {"cpu": "300m", "memory": "256Mi"},
}
SECOND = {
    "requests": {"cpu": "30m", "memory": "112Mi"},
    "limits": {"cpu": "400m", "memory": "320Mi"},
}
NO_ROOM = {**SECOND, "requests": {"cpu": "1900m", "memory": "112Mi"}}
NO_ROOM["limits"] = {"cpu": "1900m", "memory": "320Mi"}
NO_NODE = {**SECOND, "limits": {"cpu": "500", "memory": "320Mi"}}
NO_NODE["requests"] = {"cpu": "500", "memory": "112Mi"}
FIXED = {"cpu": "20m", "memory": "64Mi"}


def policy(resources):
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": NAME, "namespace": "shop"},
        "spec": {
            "podSelector": {"matchLabels": {"embeddings": NAME}},
            "sidecar": {"resources": resources},
            "alerts": {"enabled": False},
            "providers": [
                {
                    "name": "primary",
                    "type": "OpenAICompatible",
                    "baseURL": "http://primary.models.svc.cluster.local/v1",
                    "model": "multilingual-e5-small",
                }
            ],
        },
    }


class Running:
    """Two Deployments of one policy: `burstable`, and `guaranteed`, whose amounts are fixed."""

    def __init__(self, shop, folder):
        self.shop = shop
        self.plugin = Plugin(shop.kubectl.kubeconfig, folder)

    def start(self):
        burstable = application("burstable", {"embeddings": NAME})
        guaranteed = copy.deepcopy(application("guaranteed", {"embeddings": NAME}))
        (container,) = guaranteed["spec"]["template"]["spec"]["containers"]
        container["resources"] = {"requests": FIXED, "limits": FIXED}
        self.shop.kubectl.apply(policy(FIRST))
        # Pods that are created right with their policy may be before what injects them.
        admission = both_ways.Admission(self.shop.kubectl.kubeconfig)
        pod = installation.application_pod("first", labels={"embeddings": NAME})
        both_ways.wait_until_injected(admission, "shop", pod)
        admission.close()
        self.shop.kubectl.apply(burstable, guaranteed)
        for name in ("burstable", "guaranteed"):
            self.shop.kubectl(
                "rollout", "status", f"deployment/{name}", "-n", "shop", "--timeout=120s"
            )

    def apply(self, resources):
        self.shop.kubectl.apply(policy(resources))

    def pods(self):
        """The pods by the name of their workload; not those that are being deleted."""
        found = self.shop.kubectl.get("pods", "-n", "shop", "-l", f"embeddings={NAME}")["items"]
        return {
            it["metadata"]["labels"]["app"]: it
            for it in found
            if "deletionTimestamp" not in it["metadata"]
        }

    def asked(self):
        """What kubelet is asked for, by the sidecars' specs: the scheduler keeps room for it."""
        return {
            name: next(
                (
                    it["resources"]
                    for it in pod["spec"].get("initContainers", ())
                    if it["name"] == names.CONTAINER
                ),
                None,
            )
            for name, pod in self.pods().items()
        }

    def seen(self):
        """What kubelet reports of the sidecars' resources."""
        return {
            name: next(
                (
                    it.get("resources")
                    for it in pod["status"].get("initContainerStatuses", ())
                    if it["name"] == names.CONTAINER
                ),
                None,
            )
            for name, pod in self.pods().items()
        }

    def wait(self, check, what):
        installation.wait(
            check,
            what,
            timeout_seconds=PATIENCE_SECONDS,
            last=lambda: yaml.safe_dump([self.shop.status(NAME), self.seen()]),
        )

    def said(self):
        return self.shop.condition(self.shop.status(NAME), "SidecarsResized")

    def identities(self):
        return {
            name: (
                pod["metadata"]["uid"],
                pod["status"]["qosClass"],
                [
                    (it["containerID"], it["restartCount"])
                    for kind in ("initContainerStatuses", "containerStatuses")
                    for it in pod["status"].get(kind, ())
                ],
            )
            for name, pod in self.pods().items()
        }


@pytest.fixture(scope="module")
def running(shop, tmp_path_factory):
    made = Running(shop, tmp_path_factory.mktemp("home"))
    made.start()
    # Deleted, as its sidecars may ask for the whole node.
    yield made
    shop.kubectl("delete", "deployment", "burstable", "guaranteed", "-n", "shop")
    shop.kubectl("delete", "embpol", NAME, "-n", "shop")


def equal(amounts):
    return {"requests": amounts["limits"], "limits": amounts["limits"]}


def test_running_sidecars_get_resources_of_changed_policy(running):
    assert running.seen() == {"burstable": FIRST, "guaranteed": equal(FIRST)}
    before = running.identities()
    running.apply(SECOND)
    started = time.monotonic()
    expected = {"burstable": SECOND, "guaranteed": equal(SECOND)}
    running.wait(lambda: running.seen() == expected, "other resources of both sidecars")
    print(f"kubelet reported them {time.monotonic() - started:.1f} s after the policy changed")
    running.wait(lambda: running.shop.status(NAME)["pods"]["outdated"] == 0, "no outdated pod")
    assert running.said() == {}
    assert running.identities() == before  # no container restarted, no QoS class changed
    assert {it[1] for it in before.values()} == {"Burstable", "Guaranteed"}


def test_node_without_room_is_said_and_sidecar_keeps_what_it_has(running):
    before = running.seen()
    running.apply(NO_ROOM)
    running.wait(lambda: running.said().get("reason") == "ResizeDeferred", "a deferred resize")
    assert "ResizeDeferred: Node didn't have enough resource: cpu" in running.said()["message"]
    assert running.seen()["burstable"]["requests"] == before["burstable"]["requests"]
    running.apply(NO_NODE)
    running.wait(lambda: running.said().get("reason") == "ResizeRefused", "a refused resize")
    running.apply(SECOND)
    running.wait(lambda: running.asked() == before, "the resources of before")
    running.wait(lambda: running.said() == {}, "no condition")
    assert running.seen() == before


@pytest.mark.timeout(300)
def test_rollout_restarts_workloads_of_pods_without_sidecar(running):
    """Pods that were created while the namespace was not enabled."""
    kubectl = running.shop.kubectl
    label = ("label", "namespace", "shop", "--overwrite")
    kubectl(*label, f"{names.LABEL_INJECTION}-")
    try:
        (pod,) = (running.pods()["burstable"],)
        kubectl("delete", "pod", pod["metadata"]["name"], "-n", "shop", "--wait")
        kubectl("rollout", "status", "deployment/burstable", "-n", "shop", "--timeout=120s")
    finally:
        kubectl(*label, f"{names.LABEL_INJECTION}=enabled")
    assert names.LABEL_INJECTED not in running.pods()["burstable"]["metadata"]["labels"]
    kept = running.identities()["guaranteed"]
    rollout = ("embedding", "rollout", NAME, "-n", "shop")

    def is_seen():
        said = running.plugin(*rollout, "--dry-run")
        return re.search(r"Deployment/burstable +1/1 +1 no sidecar", said)

    # The webhook learns of the label by a watch.
    running.wait(is_seen, "the look at what it would do")
    running.wait(
        lambda: "restart: rolling" in running.plugin(*rollout, "--dry-run"), "a new pod's sidecar"
    )
    assert "deployment/burstable restarted" in running.plugin(*rollout, "--yes")
    kubectl("rollout", "status", "deployment/burstable", "-n", "shop", "--timeout=120s")
    running.wait(
        lambda: "All selected pods have today's sidecar" in running.plugin(*rollout),
        "nothing left to restart",
    )
    assert running.identities()["guaranteed"] == kept
    assert running.pods()["burstable"]["metadata"]["labels"][names.LABEL_INJECTED] == NAME
