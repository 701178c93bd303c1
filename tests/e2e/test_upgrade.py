"""After all the other node tests, by its name: from the release of before to this one, and back.

The pods and the application stay through both; a request goes out all the time.
"""

import json
import subprocess
from contextlib import suppress

import pytest
import yaml

from dev import cluster
from dev.cluster import images
from embedding_contract import names
from tests.parts import helm, installation, release_before
from tests.parts.installation import SYSTEM_NAMESPACE, wait

pytestmark = pytest.mark.node

RELEASE = "embedding-operator"
DEFINITIONS = tuple(
    f"{plural}.{names.GROUP}" for plural in (names.PLURAL, names.INDEX_PLURAL, names.CLASS_PLURAL)
)
TRAFFIC = """
import json, sys, threading, time, urllib.request
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
asked, failed = 0, []
while not ended.is_set():
    text = f"text {asked % 7}" if asked % 5 else f"new {time.time()}"
    body = json.dumps({"model": "multilingual-e5-small", "input": text}).encode()
    request = urllib.request.Request("http://127.0.0.1:8484/v1/embeddings", body,
                                     {"Content-Type": "application/json"})
    asked += 1
    try:
        urllib.request.urlopen(request, timeout=30).read()
    except Exception as error:
        failed.append(f"{asked}: {error!r}")
    time.sleep(0.05)
print(json.dumps({"asked": asked, "failed": failed}))
"""


class Traffic:
    """Requests of the application's own container, one after the other, until it is ended."""

    def __init__(self, product, pod):
        command = ["exec", "-i", pod, "-n", "shop", "-c", "search", "--"]
        self._process = subprocess.Popen(
            [
                str(cluster.artifact("kubectl")),
                f"--kubeconfig={product.node.kubeconfig}",
                *command,
                *("/opt/venv/bin/python", "-c", TRAFFIC),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self):
        said, error = self._process.communicate(input="", timeout=60)
        assert self._process.returncode == 0, error
        return json.loads(said)


@pytest.fixture
def before(installed):
    """The release of before with a policy and an application, as its README tells to install it."""
    with suppress(helm.HelmError):
        installed.helm("uninstall", RELEASE, "-n", SYSTEM_NAMESPACE, "--wait")
    for gone in (("namespace", "shop"), ("crd", *DEFINITIONS)):
        installed.kubectl("delete", *gone, "--ignore-not-found", "--wait", "--timeout=120s")
    old = release_before.of()
    for name in ("embedding-operator", "embedding-sidecar"):
        images.load(old.archive(name), name=installed.node.name)
    upgrade(installed, old)
    for name in ("namespace", "policy", "application"):
        text = (old.tree / "examples" / "self-hosted" / f"{name}.yaml").read_text(encoding="utf-8")
        objects = list(yaml.safe_load_all(text))
        for it in objects:
            if it["kind"] == names.KIND:
                it["spec"]["quota"] = {"daily": {"requests": 100_000}}
        installed.kubectl.apply(*objects)
    installed.wait_for_policy("Ready")
    installed.kubectl("rollout", "status", "deployment/search", "-n", "shop", "--timeout=120s")
    installed.wait_for_status(lambda status: status["pods"]["inForce"] == 1)
    return old


def upgrade(product, release=None):
    """helm upgrade to the chart and the images of a release; None stands for this tree."""
    values = product.values()
    chart = installation.ROOT / "charts" / "embedding-operator"
    if release is not None:
        chart, tag = release.chart, release.commit[:7]
        values |= {
            key: {"repository": f"localhost/{name}", "tag": tag}
            for key, name in (
                ("image", "embedding-operator"),
                ("sidecarImage", "embedding-sidecar"),
            )
        }
    command = ("upgrade", "--install", RELEASE, str(chart), "-n", SYSTEM_NAMESPACE)
    wanted = ("--create-namespace", "--wait", "--timeout", "120s", "--values", "-")
    product.helm(*command, *wanted, stdin=json.dumps(values))


def pods(product):
    """Each pod of the shop with the restarts of its containers."""
    found = product.kubectl.get("pods", "-n", "shop")["items"]
    return {
        it["metadata"]["uid"]: [
            status["restartCount"]
            for kind in ("initContainerStatuses", "containerStatuses")
            for status in it["status"].get(kind, ())
        ]
        for it in found
        if it["metadata"].get("labels", {}).get("app") == "search"
    }


def pod_of(product):
    (found,) = product.kubectl.get("pods", "-n", "shop", "-l", "app=search")["items"]
    return found["metadata"]["name"]


def is_ready(product, *, reason):
    status = product.status()
    force = product.condition(status, "ConfigInForce")
    ready = product.condition(status, "Ready")
    return (ready.get("status"), force.get("reason")) == ("True", reason)


def rotate(product, value):
    """A key of Vault changes, and the door before the model takes the new one alone."""
    product.parts.accept_keys("primary", *product.parts.keys("primary"), value)
    product.parts.write_keys(PRIMARY_KEY=value, BACKUP_KEY=product.parts.keys("backup")[-1])
    wait(lambda: product.parts.calls("primary", key=value), f"a call with {value}")
    product.parts.accept_keys("primary", value)


def test_upgrade_and_downgrade_under_traffic(installed, before, say):
    stood, first = pods(installed), pod_of(installed)
    traffic = Traffic(installed, first)
    upgrade(installed)
    # Sidecars of before cannot prove what they obey; that is said, and the policy is ready.
    wait(
        lambda: is_ready(installed, reason="InForceUnproven"),
        "Ready after the upgrade",
        last=lambda: json.dumps(installed.status(), indent=1),
    )
    lacking = [
        it["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        for it in installed.kubectl.get("crd", *DEFINITIONS)["items"]
    ]
    assert all(lacking)
    assert "weight" in lacking[0]["providers"]["items"]["properties"]
    rotate(installed, "primary-key-of-the-upgrade")
    newer = installation.application_pod("newer", labels={"embeddings": "search", "app": "newer"})
    installed.kubectl.apply(newer)
    installed.kubectl("wait", "--for=condition=Ready", "pod/newer", "-n", "shop", "--timeout=90s")
    installed.wait_for_status(lambda status: status["pods"]["inForce"] == 2)
    assert installed.ask("vector", "asked of the newer sidecar", pod="pod/newer")
    upgrade(installed, before)
    wait(
        lambda: is_ready(installed, reason="InForce"),
        "Ready after the downgrade",
        last=lambda: json.dumps(installed.status(), indent=1),
    )
    installed.wait_for_status(lambda status: status["pods"]["inForce"] == 2)
    rotate(installed, "primary-key-of-the-downgrade")
    assert installed.ask("vector", "asked under the operator of before", pod="pod/newer")
    told = traffic.end()
    assert told["failed"] == []
    assert told["asked"] > 100
    assert pods(installed) == stood
    say(f"upgrade and downgrade: {told['asked']} requests, 0 failed, 0 pods restarted")
