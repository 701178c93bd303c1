"""A Kubernetes node in namespaces of its own, on this machine.

kubelet, containerd and kube-proxy run in their own mount, network and pid namespaces. They
see their own /run, /var/lib and /var/log, their own firewall and their own processes, so
several nodes live side by side with every path and port at its default; and when the first
process of the pid namespace is killed, the kernel removes all of it: daemons, containers,
mounts, links, rules. The control plane and DNS stay outside, as plain processes.
"""

import contextlib
import ipaddress
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dev.cluster import (
    archives,
    certificates,
    cgroups,
    control_plane,
    debian,
    dns,
    processes,
    progress,
)
from dev.cluster import cache as store
from dev.cluster.api import Api
from dev.cluster.errors import Failure
from dev.cluster.networks import IPV6, Network
from dev.cluster.records import Record

HOLDER = "node"
"""The process that holds the namespaces, in the cluster's record."""
FIRST = "node-first"
"""The first process in them, whose end is the end of all."""
DAEMONS = ("containerd", "kubelet", "kube-proxy")
# The node has its own of these; what it reads from the cache must not lie there.
_OWN_FOLDERS = (Path("/run"), Path("/var/lib"), Path("/var/log"))


class NodeError(Failure):
    """This machine or user cannot have a node; the text says why."""


def require() -> None:
    """Make sure that this machine can have a node; installs missing Debian packages.

    Raises:
        NodeError: not root, or the cache is where the node has its own folders.
        debian.PackageError: a program is missing and could not be installed.
    """
    if os.geteuid() != 0:
        raise NodeError("a node needs root (namespaces, cgroups, mounts)")
    for own in _OWN_FOLDERS:
        if store.folder().is_relative_to(own):
            raise NodeError(f"set EMBEDDING_OPERATOR_CACHE to a folder outside {own}")
    if packages := debian.missing(debian.NODE_PACKAGES):
        with progress.step(f"installing {' '.join(packages)}"):
            debian.install(packages)


def routes(version: int) -> list[str]:
    """The networks that this machine has a route to by this version of IP, without the default."""
    listed = json.loads(_output(["ip", "-json", f"-{version}", "route", "show", "table", "all"]))
    found = [route["dst"] for route in listed if route["dst"] != "default"]
    return [dst for dst in found if not ipaddress.ip_network(dst).is_loopback]


def prepare(record: Record, authority: certificates.Authority) -> None:
    """Make what comes before the control plane: namespaces, cable, cgroups, credentials.

    The API server listens at the host's end of the cable, so the cable is first.
    """
    network = _network(record)
    state = _state(record)
    state.mkdir(parents=True)
    cgroups.create(record.name)
    script = Path(__file__).with_name("node_namespace.sh")
    unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=SIGKILL"]
    control_plane.launch(
        record, HOLDER, [*unshare, "--propagation=private", "sh", str(script), str(state)]
    )
    said = record.log / f"{HOLDER}.log"
    control_plane.wait(record, "namespaces", lambda: said.read_text().endswith("ready\n"))
    _record_first_process(record)
    _connect(record, network)
    name = record.name
    serving = authority.issue(f"system:node:{name}", hosts=[name, network.node])
    serving.write(record.pki, "kubelet")
    nodes = ["system:nodes"]
    control_plane.write_kubeconfig(record, authority, "kubelet", f"system:node:{name}", nodes)
    control_plane.write_kubeconfig(record, authority, "kube-proxy", "system:kube-proxy")
    control_plane.write_kubeconfig(record, authority, "coredns", dns.USER)


def start(record: Record, programs: dict[str, Path]) -> None:
    """Start the node's daemons and DNS; the node is Ready after it.

    Raises:
        Failure: a daemon ended or took too long.
    """
    _launch_inside(record, "containerd", _containerd(record, programs))
    control_plane.wait(record, "containerd", lambda: _containerd_answers(record, programs["ctr"]))
    load(record, archives.pause(programs["pause"]), ctr=programs["ctr"])
    _launch_inside(record, "kubelet", _kubelet(record, programs["kubelet"]))
    _launch_inside(record, "kube-proxy", _proxy(record, programs["kube-proxy"]))
    dns.start(record, programs["coredns"])
    api = Api(record.kubeconfig)
    control_plane.wait(record, "Ready node", lambda: _is_ready(api, record.name))


def restart(record: Record) -> None:
    """End all processes of the node at once, as a power cut does, and start its daemons again.

    Its disk stays, so that kubelet finds its pods and their images; the control plane does too.

    Raises:
        Failure: a daemon ended or took too long.
    """
    commands = {name: _command(record.processes[name].pid) for name in DAEMONS}
    processes.end([record.processes[name] for name in DAEMONS])
    for pid in (*cgroups.members(record.name), *_beside_first(record)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for name, command in commands.items():
        _launch_inside(record, name, command)
    api = Api(record.kubeconfig)
    control_plane.wait(record, "Ready node", lambda: _is_ready(api, record.name))


def _command(pid: int) -> list[str | Path]:
    """The command of a daemon, with the PATH that it has."""
    process = Path(f"/proc/{pid}")
    given = (process / "environ").read_bytes().decode().split("\0")
    arguments = (process / "cmdline").read_bytes().rstrip(b"\0").decode().split("\0")
    return ["env", *(it for it in given if it.startswith("PATH=")), *arguments]


def _beside_first(record: Record) -> list[int]:
    """The processes of the node's namespace but for those that hold it: containerd's shims."""
    first = record.processes[FIRST].pid
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return [pid for pid in map(int, children) if Path(f"/proc/{pid}/comm").read_text() != "sleep\n"]


def remove(record: Record) -> None:
    """Remove the node, in whatever state it is: one kill, and the kernel does the rest."""
    # The first process is gone only after every other of its namespace: pid_namespaces(7).
    held = [record.processes[name] for name in (HOLDER, FIRST) if name in record.processes]
    processes.end(held)
    cgroups.remove(record.name)
    network = _network(record)
    if Path(f"/sys/class/net/{network.link}").exists():
        subprocess.run(["ip", "link", "delete", network.link], check=False, capture_output=True)


def load(record: Record, archive: Path, *, ctr: Path) -> None:
    """Load the images of a docker-archive into the node.

    Raises:
        NodeError: containerd refused it.
    """
    command = _inside(record, [ctr, "--namespace=k8s.io", "images", "import", archive])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NodeError(f"{archive}: {done.stdout}{done.stderr}")


def allow_plain_http(record: Record, registry: str) -> None:
    """Let the node pull from ``registry``, HOST:PORT, without TLS.

    containerd reads it at each pull: https://github.com/containerd/containerd/blob/main/docs/hosts.md
    """
    folder = _registries(record) / registry
    folder.mkdir(parents=True, exist_ok=True)
    host = f'[host."http://{registry}"]\n  capabilities = ["pull", "resolve"]\n'
    (folder / "hosts.toml").write_text(f'server = "http://{registry}"\n{host}')


def _registries(record: Record) -> Path:
    return _state(record) / "registries"


def _network(record: Record) -> Network:
    if record.network is None:
        raise NodeError(f"cluster {record.name} has no node: its form is {record.form}")
    return record.network


def _state(record: Record) -> Path:
    return record.folder / "node"


def _inside(record: Record, command: Sequence[str | Path]) -> list[str]:
    if HOLDER not in record.processes or not record.processes[HOLDER].alive():
        raise NodeError(f"the node of cluster {record.name} is not running")
    namespaces = f"/proc/{record.processes[HOLDER].pid}/ns"
    return [
        "nsenter",
        f"--mount={namespaces}/mnt",
        f"--net={namespaces}/net",
        f"--pid={namespaces}/pid_for_children",
        "--",
        *map(str, command),
    ]


def _launch_inside(record: Record, name: str, command: Sequence[str | Path]) -> None:
    control_plane.launch(record, name, _inside(record, command))


def _record_first_process(record: Record) -> None:
    holder = record.processes[HOLDER].pid
    children = Path(f"/proc/{holder}/task/{holder}/children").read_text().split()
    for first in filter(None, map(processes.identify, map(int, children))):
        record.processes[FIRST] = first
        record.save()


def _connect(record: Record, network: Network) -> None:
    holder = str(record.processes[HOLDER].pid)
    peer = ["peer", "name", "eth0", "netns", holder]
    _output(["ip", "link", "add", network.link, "type", "veth", *peer])
    ip = ["ip", f"-{network.version}"]
    length = network.cable.partition("/")[2]
    # The link has two ends: who else has an address need not be asked, which takes a second.
    told = ["nodad"] if network.version == IPV6 else []
    _output([*ip, "address", "add", f"{network.host}/{length}", "dev", network.link, *told])
    _output(["ip", "link", "set", network.link, "up"])
    for inside in (
        [*ip, "address", "add", f"{network.node}/{length}", "dev", "eth0", *told],
        ["ip", "link", "set", "eth0", "up"],
        [*ip, "route", "add", "default", "via", network.host],
    ):
        _output(_inside(record, inside))
    # So that the API server reaches webhooks by their Service, and tests any pod.
    for beyond in (network.pods, network.services):
        _output([*ip, "route", "add", beyond, "via", network.node])


def _containerd(record: Record, programs: dict[str, Path]) -> list[str | Path]:
    state = _state(record)
    network = _network(record)
    networks = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                # Routed, not bridged: Services then need no bridge netfilter.
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": network.pods}]],
                    "routes": [{"dst": network.everywhere}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    (state / "cni").mkdir()
    (state / "cni" / "10-pods.conflist").write_text(json.dumps(networks))
    folders = [str(folder) for folder in debian.CNI_FOLDERS if folder.is_dir()]
    config = state / "containerd.toml"
    config.write_text(
        f"""version = 3
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = {json.dumps(archives.PAUSE)}
[plugins."io.containerd.cri.v1.images".registry]
  config_path = {json.dumps(str(_registries(record)))}
[plugins."io.containerd.cri.v1.runtime"]
  # Root without CAP_SYS_RESOURCE, as in a container, may not lower it.
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = {json.dumps(folders)}
  conf_dir = {json.dumps(str(state / "cni"))}
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
    SystemdCgroup = false
"""
    )
    # It looks for its shim, and the shim for runc, on PATH.
    path = f"{programs['containerd-shim-runc-v2'].parent}:{debian.SYSTEM_FOLDERS}"
    return ["env", f"PATH={path}", programs["containerd"], f"--config={config}"]


def _containerd_answers(record: Record, ctr: Path) -> bool:
    command = _inside(record, [ctr, "version"])
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _kubelet(record: Record, program: Path) -> list[str | Path]:
    network = _network(record)
    configuration: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node,
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups.path_of(record.name),
        "enforceNodeAllocatable": [],
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "tlsCertFile": f"{record.pki}/kubelet.crt",
        "tlsPrivateKeyFile": f"{record.pki}/kubelet.key",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{record.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [network.dns],
        "clusterDomain": dns.DOMAIN,
        # Pods resolve the cluster's names, not this machine's.
        "resolvConf": "",
        # Images cannot be pulled again: a full disk must not delete them.
        "imageGCHighThresholdPercent": 100,
        # Else an image that one test pulls with a Secret is pulled again for every other pod that
        # uses its layers by the name under which it was loaded, which no registry has.
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%"},
    }
    config = _state(record) / "kubelet.json"
    config.write_text(json.dumps(configuration))
    return [
        program,
        f"--config={config}",
        f"--kubeconfig={record.folder}/kubelet.kubeconfig",
        f"--hostname-override={record.name}",
        f"--node-ip={network.node}",
    ]


def _proxy(record: Record, program: Path) -> list[str | Path]:
    configuration = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": f"{record.folder}/kube-proxy.kubeconfig"},
        "clusterCIDR": _network(record).pods,
        "hostnameOverride": record.name,
        # The size of the table is the whole machine's: leave it.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }
    config = _state(record) / "kube-proxy.json"
    config.write_text(json.dumps(configuration))
    path = f"PATH={debian.SYSTEM_FOLDERS}"
    return ["env", path, program, f"--config={config}"]


def _is_ready(api: Api, name: str) -> bool:
    node = api.get(f"/api/v1/nodes/{name}") or {}
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NodeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
