"""Behind a proxy and a private authority (field.md, C2 and C3), on the node.

The proxy is outside of the cluster, on the machine of the node, and it alone knows where the
provider is.
"""

import json
import uuid

import pytest

from tests.parts import connect_proxy, neighbours
from tests.parts.installation import SYSTEM_NAMESPACE, wait
from tests.parts.kubectl import KubectlError

pytestmark = pytest.mark.node

PROVIDER = "models.corp.example"
AUTHORITY = "corporate-authority"


@pytest.fixture
def corporate(shop, tmp_path):
    host, port = shop.parts.host, neighbours.PORTS["primary"]
    with (
        connect_proxy.with_tls(tmp_path, port=port, names=(PROVIDER,), host=host) as (by_tls, pem),
        connect_proxy.running(host=host) as proxy,
    ):
        proxy.places[f"{PROVIDER}:443"] = (host, by_tls)
        yield proxy, pem
    shop.install_chart()
    shop.apply_example("policy")
    shop.apply_example("application")
    shop.kubectl("delete", "configmap", AUTHORITY, "-n", SYSTEM_NAMESPACE)
    shop.kubectl("rollout", "status", "deployment/search", "-n", "shop", "--timeout=120s")
    shop.wait_for_policy("Ready")


def test_application_behind_proxy_reaches_provider_and_sidecar(shop, corporate):
    """C3: proxy and authority reach the running pod. C2: no loopback traffic at the proxy."""
    proxy, pem = corporate
    shop.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": AUTHORITY, "namespace": SYSTEM_NAMESPACE},
            "data": {"ca.crt": pem},
        }
    )
    before = shop.kubectl.get("pod", "-n", "shop", "-l", "app=search")["items"][0]["metadata"][
        "uid"
    ]
    network = {"proxy": {"http": proxy.url, "https": proxy.url}, "caConfigMap": AUTHORITY}
    shop.install_chart(sidecar=network)
    providers = shop.kubectl.get("embpol", "search", "-n", "shop")["spec"]["providers"]
    providers = [{**providers[0], "baseURL": f"https://{PROVIDER}/v1"}]
    patch = json.dumps({"spec": {"providers": providers}})
    shop.kubectl("patch", "embpol", "search", "-n", "shop", "--type=merge", "-p", patch)

    def reached() -> bool:
        try:
            shop.ask("vector", f"behind a proxy {uuid.uuid4()}")
        except KubectlError:  # until the document is in force
            return False
        return bool(proxy.asked)

    wait(reached, "the provider by the proxy", last=lambda: proxy.asked)
    after = shop.kubectl.get("pod", "-n", "shop", "-l", "app=search")["items"][0]["metadata"]["uid"]
    assert after == before
    # The application itself has a proxy, as its image's people set it.
    variables = [{"name": "HTTP_PROXY", "value": proxy.url}]
    container = {"name": "search", "env": variables}
    patch = json.dumps({"spec": {"template": {"spec": {"containers": [container]}}}})
    shop.kubectl("patch", "deployment", "search", "-n", "shop", "-p", patch)
    shop.kubectl("rollout", "status", "deployment/search", "-n", "shop", "--timeout=120s")
    proxy.asked.clear()
    wait(reached, "the provider by the proxy", last=lambda: proxy.asked)
    assert set(proxy.asked) == {f"CONNECT {PROVIDER}:443 HTTP/1.1"}
