"""A node runs pods as any node does, and leaves this machine as it found it."""

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dev import cluster
from dev.cluster import cgroups, images, processes, records
from tests.parts import kubectl

pytestmark = pytest.mark.node

IMAGE = "localhost/node-test:1"
START_SECONDS = 60
# What a node sets or makes on a machine that it does not keep to itself.
SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")
FOLDERS = ("/run/containerd", "/run/netns", "/var/lib/cni", "/var/lib/kubelet", "/var/log/pods")

INSIDE = """
import json, os, socket, ssl, sys, urllib.request
account = "/var/run/secrets/kubernetes.io/serviceaccount/"
trusted = ssl.create_default_context(cafile=account + "ca.crt")
token = open(account + "token").read()
request = urllib.request.Request(
    "https://kubernetes.default.svc/api", headers={"Authorization": "Bearer " + token}
)
print(json.dumps({
    "names": [socket.gethostbyname(n) for n in ("kubernetes.default", sys.argv[1])],
    "api": urllib.request.urlopen(request, context=trusted, timeout=10).status,
    "sidecar": urllib.request.urlopen("http://127.0.0.1:8485", timeout=10).status,
    "host": urllib.request.urlopen(sys.argv[2], timeout=10).read().decode(),
    "user": os.getuid(),
}))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A restricted image with Python, as an archive."""
    context = tmp_path_factory.mktemp("image")
    file = context / "Dockerfile"
    file.write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nUSER 65532:65532\n")
    return images.build(IMAGE, file=file, context=context)


@pytest.fixture(scope="module")
def node(image):
    cluster.down_stale()
    name = f"test-{os.getpid()}"
    try:
        up = cluster.up(form="node", name=name, owner_pid=os.getpid())
        images.load(image, name=name)
        yield up
    finally:
        cluster.down(name)


def _container(name, command, **more):
    return {"name": name, "image": IMAGE, "imagePullPolicy": "Never", "command": command, **more}


def _pod(name, command, **more):
    sidecar = _container(
        "sidecar",
        ["python3", "-m", "http.server", "8485", "--directory", "/etc/ssl"],
        restartPolicy="Always",
        startupProbe={"tcpSocket": {"port": 8485}, "periodSeconds": 1},
    )
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "initContainers": [sidecar],
            "containers": [_container("app", command)],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            **more,
        },
    }


def _service(name):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8485}]},
    }


@contextlib.contextmanager
def _host_server(address):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"from the host")

        def log_message(self, *_):
            """Say nothing."""

    with http.server.ThreadingHTTPServer((address, 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://{address}:{server.server_port}/"
        server.shutdown()


def test_pod_has_all_that_pod_has(node):
    run = kubectl.Kubectl(node.kubeconfig)
    with _host_server(node.host_address) as url:
        command = ["python3", "-c", INSIDE, "whole.default.svc.cluster.local", url]
        run.apply(_service("whole"), _pod("whole", command))
        run("wait", "pod/whole", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    seen = json.loads(run("logs", "whole", "--container=app"))
    service = run("get", "service", "whole", "--output=jsonpath={.spec.clusterIP}")
    first = run("get", "service", "kubernetes", "--output=jsonpath={.spec.clusterIP}")
    assert seen == {
        "names": [first, service],
        "api": 200,
        "sidecar": 200,
        "host": "from the host",
        "user": 65532,
    }


def test_service_is_reached_from_this_machine_as_api_server_must(node):
    run = kubectl.Kubectl(node.kubeconfig)
    run.apply(_service("served"), _pod("served", ["sleep", "600"]))
    run("wait", "pod/served", "--for=condition=Ready", "--timeout=60s")
    address = run("get", "service", "served", "--output=jsonpath={.spec.clusterIP}")
    curl = ["curl", "--silent", "--noproxy", "*", "--max-time", "10", "--retry", "5"]
    got = subprocess.run(
        [*curl, "--retry-all-errors", "--write-out", "%{http_code}", f"http://{address}/"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert got.stdout.endswith("200")
    assert "uid=65532" in run("exec", "served", "--container=app", "--", "id")


def test_pod_security_is_enforced(node):
    run = kubectl.Kubectl(node.kubeconfig)
    run("create", "namespace", "strict")
    run("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    pod = _pod("loose", ["sleep", "600"])
    pod["metadata"]["namespace"] = "strict"
    with pytest.raises(kubectl.KubectlError, match='violates PodSecurity "restricted:latest"'):
        run.apply(pod)


def _machine():
    """What a node could leave on this machine, apart from what bears its name."""
    tables = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True)
    return {
        "settings": {s: Path("/proc/sys", s).read_text() for s in SETTINGS},
        "folders": [folder for folder in FOLDERS if Path(folder).exists()],
        "firewall": tables.stdout,
    }


def _in_namespace(name):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            identity = processes.identify(int(process.name))
            if (process / "ns" / "pid").readlink() == name and identity and identity.alive():
                found.append((process / "cmdline").read_bytes())
    return found


class _Traces:
    """Where to look for what a running node cluster left."""

    def __init__(self, name):
        record = records.load(name)
        assert record is not None
        assert record.network is not None
        self.name = name
        self.record = record
        self.network = record.network
        namespace = Path(f"/proc/{record.processes['node'].pid}/ns/pid_for_children")
        self.pids = namespace.readlink()
        # While it is held open, Linux gives its number to no other namespace.
        self.held = os.open(namespace, os.O_RDONLY)

    def left(self):
        folder = str(self.record.folder)
        group = cgroups.path_of(self.name).removeprefix("/")
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        every = ["ip", "-json", "route", "show", "table", "all"]
        routes = subprocess.run(every, check=True, capture_output=True, text=True).stdout
        return {
            "processes": _in_namespace(self.pids)
            + [i for i in self.record.processes.values() if i.alive()],
            "mounts": [line for line in mounts if folder in line],
            "link": Path("/sys/class/net", self.network.link).exists(),
            "routes": [r for r in json.loads(routes) if r.get("dev") == self.network.link],
            "cgroups": [
                str(h / group) for h in cgroups.hierarchies(cgroups.ROOT) if (h / group).exists()
            ],
            "folder": self.record.folder.exists(),
        }

    def assert_none(self):
        left = self.left()
        os.close(self.held)
        assert not any(left.values()), left


@pytest.fixture
def second(image):
    """A name for one more node cluster, which is gone after the test."""
    name = f"test-{os.getpid()}-second"
    yield name
    cluster.down(name)


def _busy(name, image):
    """A node with a running pod."""
    up = cluster.up(form="node", name=name)
    images.load(image, name=name)
    run = kubectl.Kubectl(up.kubeconfig)
    run.apply(_pod("busy", ["sleep", "600"]))
    run("wait", "pod/busy", "--for=condition=Ready", "--timeout=60s")
    return up


def test_two_nodes_stand_side_by_side_and_one_goes_without_trace(node, second, image):
    before = _machine()
    other = _busy(second, image)
    assert other.host_address != node.host_address
    run = kubectl.Kubectl(other.kubeconfig)
    assert run("get", "nodes", "--output=name") == f"node/{second}\n"
    traces = _Traces(second)
    found = traces.left()
    mounts = found.pop("mounts")
    assert all(found.values()), "the traces looked for are there while it runs"
    assert mounts == [], "what it mounts is seen by no one else"
    cluster.down(second)
    traces.assert_none()
    assert _machine() == before
    assert " Ready " in kubectl.Kubectl(node.kubeconfig)("get", "nodes")


@pytest.mark.parametrize("killed", [["containerd"], ["kubelet", "apiserver"], ["node"]])
def test_down_leaves_no_trace_after_crash(second, image, killed):
    before = _machine()
    _busy(second, image)
    traces = _Traces(second)
    for daemon in killed:
        os.kill(traces.record.processes[daemon].pid, signal.SIGKILL)
    cluster.down(second)
    traces.assert_none()
    assert _machine() == before


def test_node_whose_start_was_killed_is_removed_whole(second):
    command = [sys.executable, "-m", "dev.cluster", "up", "--form=node", f"--name={second}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as starting:
        deadline = time.monotonic() + START_SECONDS
        record = None
        while not (record and "containerd" in record.processes) and time.monotonic() < deadline:
            time.sleep(0.01)
            record = records.load(second)
        starting.kill()
    traces = _Traces(second)
    assert traces.left()["processes"] != []
    cluster.down(second)
    traces.assert_none()
