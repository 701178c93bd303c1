"""Names inside a node cluster: CoreDNS outside the node, its Service inside the cluster."""

import socket
from pathlib import Path
from typing import Any

from dev.cluster import control_plane
from dev.cluster.api import Api
from dev.cluster.networks import IPV4, IPV6, Network
from dev.cluster.records import Record

DOMAIN = "cluster.local"
USER = "system:coredns"
_REVERSE = {IPV4: "in-addr.arpa", IPV6: "ip6.arpa"}


def start(record: Record, program: Path) -> None:
    """Start CoreDNS and publish it as ``kube-system/kube-dns``; it answers after it.

    Raises:
        Failure: it ended or took too long.
    """
    network = record.network
    if network is None:
        return
    port = record.ports["dns"]
    corefile = record.folder / "Corefile"
    corefile.write_text(
        f"""{DOMAIN}:{port} {_REVERSE[network.version]}:{port} {{
  bind {network.host}
  errors
  kubernetes {{
    kubeconfig {record.folder}/coredns.kubeconfig {record.name}
  }}
}}
"""
    )
    api = Api(record.kubeconfig)
    for path, document in _objects(network, port):
        api.apply(path, document)
    control_plane.launch(record, "coredns", [program, "-conf", corefile])
    # It listens only once it knows the cluster's Services.
    control_plane.wait(record, "DNS", lambda: _listens(network.host, port))


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _objects(network: Network, port: int) -> list[tuple[str, dict[str, Any]]]:
    rbac = "rbac.authorization.k8s.io"
    roles = f"/apis/{rbac}/v1/clusterroles/{USER}"
    bindings = f"/apis/{rbac}/v1/clusterrolebindings/{USER}"
    services = "/api/v1/namespaces/kube-system/services/kube-dns"
    slices = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns"
    reads = {"verbs": ["list", "watch"]}
    kinds = ["endpoints", "services", "pods", "namespaces"]
    ports = [{"name": f"dns-{way.lower()}", "port": 53, "protocol": way} for way in ("UDP", "TCP")]
    return [
        (
            roles,
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRole",
                "metadata": {"name": USER},
                "rules": [
                    {"apiGroups": [""], "resources": kinds, **reads},
                    {
                        "apiGroups": ["discovery.k8s.io"],
                        "resources": ["endpointslices"],
                        **reads,
                    },
                ],
            },
        ),
        (
            bindings,
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": USER},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": USER},
                "subjects": [{"apiGroup": rbac, "kind": "User", "name": USER}],
            },
        ),
        (
            services,
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "kube-dns", "namespace": "kube-system"},
                # No selector: its one endpoint is not a pod.
                "spec": {"clusterIP": network.dns, "ports": ports},
            },
        ),
        (
            slices,
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": "kube-dns",
                    "namespace": "kube-system",
                    "labels": {"kubernetes.io/service-name": "kube-dns"},
                },
                "addressType": f"IPv{network.version}",
                "endpoints": [{"addresses": [network.host]}],
                "ports": [{**each, "port": port} for each in ports],
            },
        ),
    ]
