"""etcd, the API server and the controllers, as plain processes of the user who asks."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

from dev.cluster import certificates, networks, processes
from dev.cluster.api import Api
from dev.cluster.networks import Network
from dev.cluster.records import Record

PORTS = ("etcd", "etcd-peer", "api", "dns")
LOOPBACK = "127.0.0.1"
READY_SECONDS = 60

# Only what ServiceAccounts outside kube-system did: enough to find a 403, and small.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # Not ResponseStarted: a watch is in the log once it runs, not only after it has ended.
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}

# Clients and the groups that RBAC's built-in bindings know them by.
_CLIENTS: dict[str, tuple[str, Sequence[str]]] = {
    "admin": ("admin", ("system:masters",)),
    "controller-manager": ("system:kube-controller-manager", ()),
    "scheduler": ("system:kube-scheduler", ()),
}


def address(record: Record) -> str:
    """Where the API server listens: loopback, or the host's end of the cable to the node."""
    return record.network.host if record.network else LOOPBACK


def _network(record: Record) -> Network:
    """The addresses; without a node nothing routes to those of its Services."""
    return record.network or Network(slot=0)


def credentials(record: Record) -> certificates.Authority:
    """Make the authority, every certificate of the control plane and its kubeconfigs."""
    authority = certificates.Authority()
    record.pki.mkdir(parents=True, exist_ok=True)
    record.log.mkdir(exist_ok=True)
    authority.pair.write(record.pki, "ca")
    certificates.service_account_key().write(record.pki, "service-accounts")
    names = [f"kubernetes{end}" for end in ("", ".default", ".default.svc")]
    hosts = [*names, f"{names[-1]}.cluster.local", "localhost"]
    hosts += sorted({_network(record).api_service, LOOPBACK, address(record)})
    authority.issue("kube-apiserver", hosts=hosts).write(record.pki, "apiserver")
    authority.issue("kube-apiserver-kubelet-client", groups=["system:masters"]).write(
        record.pki, "apiserver-kubelet"
    )
    for name, (user, groups) in _CLIENTS.items():
        write_kubeconfig(record, authority, name, user, groups)
    admin = (record.folder / "admin.kubeconfig").read_bytes()
    certificates.write_private(record.kubeconfig, admin)
    return authority


def write_kubeconfig(
    record: Record,
    authority: certificates.Authority,
    name: str,
    user: str,
    groups: Sequence[str] = (),
) -> Path:
    """Write ``name.kubeconfig`` for a client ``user`` of ``groups``; gives its path."""
    text = certificates.kubeconfig(
        server=f"https://{networks.in_url(address(record))}:{record.ports['api']}",
        authority=authority.pair.certificate,
        user=authority.issue(user, groups=groups),
        name=record.name,
    )
    path = record.folder / f"{name}.kubeconfig"
    certificates.write_private(path, text.encode())
    return path


def start(record: Record, programs: dict[str, Path]) -> None:
    """Start etcd, the API server and the controllers; the API server is ready after it.

    Raises:
        processes.DiedError: one ended.
        processes.NeverReadyError: it took too long.
    """
    policy = record.folder / "audit-policy.json"
    policy.write_text(json.dumps(_AUDIT_POLICY))
    launch(record, "etcd", _etcd(record, programs["etcd"]))
    launch(record, "apiserver", _apiserver(record, programs["kube-apiserver"]))
    wait(record, "API server", Api(record.kubeconfig).ready)
    # Controllers that start earlier end after 10 s without rights, on a machine that is busy.
    launch(record, "controller-manager", _controllers(record, programs["kube-controller-manager"]))
    if record.network:
        launch(record, "scheduler", _scheduler(record, programs["kube-scheduler"]))


def wait_for_accounts(record: Record) -> None:
    """Wait until the controllers work: pods and tokens in `default` need what they make.

    Raises:
        processes.DiedError: a daemon ended.
        processes.NeverReadyError: it took too long.
    """
    api = Api(record.kubeconfig)
    default = "/api/v1/namespaces/default"
    for path in (f"{default}/serviceaccounts/default", f"{default}/configmaps/kube-root-ca.crt"):
        wait(record, path, functools.partial(api.exists, path))


def launch(record: Record, name: str, command: Sequence[str | Path]) -> None:
    """Start a daemon of the cluster, written down before it runs."""

    def remember(identity: processes.Identity) -> None:
        record.processes[name] = identity
        record.save()

    processes.spawn(command, log=record.log / f"{name}.log", record=remember)


def wait(record: Record, what: str, ready: processes.Check) -> None:
    """Wait for a part of the cluster while all its daemons live."""
    processes.wait_for(
        what,
        ready,
        timeout_seconds=READY_SECONDS,
        watch=record.processes,
        logs=record.log,
    )


def _etcd(record: Record, program: Path) -> list[str | Path]:
    client = f"http://{LOOPBACK}:{record.ports['etcd']}"
    peer = f"http://{LOOPBACK}:{record.ports['etcd-peer']}"
    return [
        program,
        f"--data-dir={record.folder}/etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        # Its default is 2 GiB; a bound and no reservation, and the most that it advises.
        f"--quota-backend-bytes={8 * 1024**3}",
    ]


def _apiserver(record: Record, program: Path) -> list[str | Path]:
    pki = record.pki
    # It refuses to advertise loopback. Without a node nobody goes there: TEST-NET-1, RFC 5737.
    advertised = record.network.host if record.network else "192.0.2.1"
    return [
        program,
        f"--etcd-servers=http://{LOOPBACK}:{record.ports['etcd']}",
        f"--bind-address={address(record)}",
        f"--advertise-address={advertised}",
        f"--secure-port={record.ports['api']}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/service-accounts.crt",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-cluster-ip-range={_network(record).services}",
        "--allow-privileged=true",
        f"--audit-policy-file={record.folder}/audit-policy.json",
        f"--audit-log-path={record.log}/audit.log",
    ]


def _controllers(record: Record, program: Path) -> list[str | Path]:
    pki = record.pki
    return [
        program,
        f"--kubeconfig={record.folder}/controller-manager.kubeconfig",
        f"--service-account-private-key-file={pki}/service-accounts.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        "--use-service-account-credentials=true",
        f"--service-cluster-ip-range={_network(record).services}",
        "--leader-elect=false",
        "--secure-port=0",
        # The defaults (20 and 30) make its start wait for itself.
        "--kube-api-qps=300",
        "--kube-api-burst=600",
    ]


def _scheduler(record: Record, program: Path) -> list[str | Path]:
    return [
        program,
        f"--kubeconfig={record.folder}/scheduler.kubeconfig",
        "--leader-elect=false",
        "--secure-port=0",
    ]
