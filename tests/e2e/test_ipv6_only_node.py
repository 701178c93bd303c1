"""The product on a node whose only addresses, but for loopback, are of IPv6."""

import http.client
import ipaddress
import os

import pytest

from dev import cluster
from embedding_contract import names
from tests.parts import both_ways, installation

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The installation with Vault, Redis and providers on IPv6, and the example's application.

    The webhook injects, as the API server reaches it over the network, and needs none by policy.
    """
    cluster.down_stale()
    name = f"ipv6-{os.getpid()}"
    node = cluster.up(form="node-ipv6", name=name, owner_pid=os.getpid())
    product = installation.Installation(node, tmp_path_factory.mktemp("parts"))
    try:
        product.load_images()
        product.parts.start()
        product.parts.configure_vault()
        product.install_chart(injection={"by": "webhook"}, replicas=1)
        for example in ("namespace", "policy"):
            product.apply_example(example)
        admission = both_ways.Admission(node.kubeconfig)
        pod = installation.application_pod("first")
        both_ways.wait_until_injected(admission, "shop", pod)
        admission.close()
        product.apply_example("application")
        product.kubectl("rollout", "status", "deployment/search", "-n", "shop", "--timeout=120s")
        yield product
    finally:
        product.parts.daemons.stop()
        cluster.down(name)


def pods(shop, namespace, selector):
    found = shop.kubectl.get("pods", "-n", namespace, "-l", selector)["items"]
    assert found
    return found


def families(shop):
    """The versions of IP of all addresses that the cluster gave to nodes, pods and Services."""
    nodes = shop.kubectl.get("nodes")["items"]
    running = shop.kubectl.get("pods", "-A")["items"]
    services = shop.kubectl.get("services", "-A")["items"]
    given = [
        *(it["address"] for n in nodes for it in n["status"]["addresses"] if "IP" in it["type"]),
        *(it["ip"] for pod in running for it in pod["status"].get("podIPs", ())),
        *(it for service in services for it in service["spec"]["clusterIPs"]),
    ]
    return {ipaddress.ip_address(it).version for it in given}


def test_pod_starts_with_sidecar_and_is_answered_on_loopback(shop):
    (pod,) = pods(shop, "shop", "app=search")
    assert pod["spec"]["initContainers"][0]["name"] == names.CONTAINER
    first, second = shop.ask("ask", "a text for a node without IPv4").splitlines()
    assert "provider primary" in first
    assert "cache hit" in second
    assert len(shop.parts.calls("primary")) == 1  # the second was of this pod's cache
    assert families(shop) == {6}


def test_operator_asks_sidecar_at_its_address(shop):
    """Ready says so: the sidecar proved that it obeys today's document."""
    shop.wait_for_policy("ConfigInForce")
    status = shop.wait_for_policy("Ready")
    assert status["pods"]["summary"] == "1/1"
    changed = '{"spec": {"quota": {"daily": {"requests": 777}}}}'
    shop.kubectl("patch", "embpol", "search", "-n", "shop", "--type=merge", "-p", changed)
    shop.wait_for_status(
        lambda status: (
            status.get("quota", {}).get("limit") == 777
            and shop.condition(status, "ConfigInForce").get("status") == "True"
        )
    )


def test_metrics_are_scraped_at_pods_address(shop):
    (pod,) = pods(shop, "shop", "app=search")
    for address, port, metric in (
        (pod["status"]["podIP"], names.ADMIN_PORT, "aos_embedding_requests_total"),
        *(
            (it["status"]["podIP"], 9090, "embedding_operator_lease_held")
            for it in pods(shop, installation.SYSTEM_NAMESPACE, "app.kubernetes.io/name")
        ),
    ):
        client = http.client.HTTPConnection(address, port, timeout=30)
        client.request("GET", "/metrics")
        answer = client.getresponse()
        assert (answer.status, metric in answer.read().decode()) == (200, True)
        client.close()
