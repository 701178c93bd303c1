"""`kubectl embedding cost` and `dashboard`: a real API server, sidecars behind its pod proxy."""

import json
import signal
import socket
import subprocess

import httpx2
import pytest

from embedding_contract import names
from tests.integration.test_kubectl_plugin import Plugin
from tests.parts import monitoring, sidecar

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

TOKENS = 3


def own_address() -> str:
    """An address of this machine that the API server takes for a pod's: not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_route:
        any_route.connect(("192.0.2.1", 9))  # sends nothing (udp(7))
        address: str = any_route.getsockname()[0]
        return address


@pytest.fixture
def plugin(api_server, tmp_path) -> Plugin:
    return Plugin(api_server.kubeconfig, tmp_path)


@pytest.fixture
def running(from_environment):
    """A sidecar that has bought a text of three words."""
    started = from_environment()
    assert started.embed("one two three").is_success
    return started


@pytest.fixture
def pod(api_server, namespace, running) -> str:
    """A pod of policy `search` whose address and port lead to that sidecar."""
    port = {"name": names.ADMIN_PORT_NAME, "containerPort": running.admin_port}
    api_server.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
        },
        {
            "apiVersion": "embedding.agenticverz.io/v1alpha1",
            "kind": "EmbeddingPolicy",
            "metadata": {"name": "search", "namespace": namespace},
            "spec": {
                "podSelector": {},
                "providers": [
                    {
                        "name": "openai",
                        "type": "OpenAI",
                        "model": "text-embedding-3-small",
                        "apiKey": {"secretKeyRef": {"name": "keys", "key": "openai"}},
                    }
                ],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "search-1",
                "namespace": namespace,
                "labels": {names.LABEL_INJECTED: "search"},
            },
            "spec": {"containers": [{"name": "app", "image": "none", "ports": [port]}]},
        },
    )
    seen = {"status": {"phase": "Running", "podIP": own_address()}}
    api_server(
        *("patch", "pod", "search-1", "-n", namespace, "--subresource=status"),
        *("--type=merge", "-p", json.dumps(seen)),
    )
    return "search-1"


def test_cost_is_of_what_running_sidecars_have_counted(plugin, namespace, pod):
    said = plugin("embedding", "cost", "-n", namespace)
    assert [line.split() for line in said.splitlines()[:2]] == [
        ["POLICY", "TOKENS", "COST", "PRICE"],
        [f"{namespace}/search", str(TOKENS), "<0.0001", "list"],
    ]
    assert "Tokens of 1 running sidecars since their start." in said
    assert "list prices in USD of" in said


def test_cost_has_each_limit_of_status_beside_it(plugin, api_server, namespace, pod):
    ends = {"resetAt": "2199-12-01T00:00:00Z"}
    money = {"period": "month", "unit": "cost", "limit": "25.00", "used": "25.00", **ends}
    calls = {"period": "day", "unit": "requests", "limit": 10_000, "used": 0, **ends}
    quota = {"status": {"quota": {"mode": "Enforce", "limits": [calls, money]}}}
    api_server(
        *("patch", "embpol", "search", "-n", namespace, "--subresource=status"),
        *("--type=merge", "-p", json.dumps(quota)),
    )
    lines = plugin("embedding", "cost", "-n", namespace).splitlines()
    assert lines[0].split("   ")[-1].strip() == "LASTS UNTIL"
    assert lines[1].split()[-5:] == ["list", "daily.requests", "0/10,000", "its", "end"]
    assert lines[2].split() == ["monthly.cost", "25.00/25.00", "USD", "used", "up"]
    assert "LASTS UNTIL is at the pace of its period so far." in " ".join(lines)
    workloads = plugin("embedding", "cost", "-n", namespace, "--by", "workload")
    assert "LIMIT" not in workloads


def test_cost_takes_policys_price_and_tells_workloads_apart(plugin, api_server, namespace, pod):
    price = [{"op": "add", "path": "/spec/providers/0/pricePerMillionTokens", "value": "100000"}]
    api_server("patch", "embpol", "search", "-n", namespace, "--type=json", "-p", json.dumps(price))
    said = plugin("embedding", "cost", "-n", namespace, "--by", "workload")
    assert said.splitlines()[1].split() == [f"{namespace}/search-1", "3", "0.3000", "policy"]


def test_cost_without_sidecar_says_so(plugin, namespace):
    assert "No tokens have been billed." in plugin("embedding", "cost", "-n", namespace)


def test_cost_says_why_no_sidecar_can_be_asked(plugin, running, namespace, pod):
    running.stop()
    said = plugin("embedding", "cost", "-n", namespace, code=2)
    assert "no sidecar answered" in said
    assert "search-1" in said


def test_cost_by_prometheus_counts_over_time(plugin, running, namespace, pod, tmp_path):
    prometheus = monitoring.Prometheus(tmp_path / "prometheus")
    try:
        labels = {"namespace": namespace, "policy": "search", "pod": "ended"}
        address = f"127.0.0.1:{running.admin_port}"
        prometheus.targets([monitoring.Target(address=address, labels=labels)])
        series = f'aos_embedding_tokens_total{{namespace="{namespace}"}}'
        sidecar.wait_until(lambda: prometheus.query(series))
        running.embed("four words of more")
        sidecar.wait_until(lambda: prometheus.query(f"increase({series}[1h]) > 0"))
        said = plugin(
            *("embedding", "cost", "-n", namespace, "--by", "workload"),
            *("--prometheus", prometheus.url, "--window", "1h"),
        )
        assert said.splitlines()[1].startswith(f"{namespace}/(pods that have ended)")
        assert "Tokens that Prometheus counted in the last 1h." in said
        month = plugin(
            *("embedding", "cost", "-n", namespace),
            *("--prometheus", prometheus.url, "--window", "month"),
        )
        assert "Tokens that Prometheus counted in this month." in month
    finally:
        prometheus.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--prometheus", "http://127.0.0.1:1"), "Prometheus: ConnectError"),
        (("--prometheus", "prometheus"), "NAMESPACE/SERVICE:PORT"),
        (("--prometheus", "none/prometheus:9090"), "prometheus"),
        (("--window", "1 day"), "is not a duration"),
        (("--by", "day"), "invalid choice"),
    ],
)
def test_cost_that_cannot_be_asked_exits_with_2_and_says_why(plugin, namespace, arguments, said):
    assert said in plugin("embedding", "cost", "-n", namespace, *arguments, code=2)


def test_dashboard_serves_live_figures_until_it_is_told_to_stop(plugin, namespace, pod):
    with (
        subprocess.Popen(
            ["kubectl", "embedding", "dashboard", "-n", namespace, "--no-browser"],
            env=plugin.environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as serving,
        httpx2.Client(trust_env=False) as client,
    ):
        try:
            assert serving.stdout is not None
            url = serving.stdout.readline().removeprefix("Serving on ").strip()
            state = client.get(f"{url}state.json").raise_for_status().json()
            plots = client.get(f"{url}plots.json").raise_for_status().json()
        finally:
            serving.send_signal(signal.SIGTERM)
    assert serving.returncode == 0
    (shown,) = state["policies"]
    assert state["source"] == "sidecars"
    assert shown["quota"] | {"resetAt": ""} == {
        "used": 1,
        "limit": 10000,
        "share": 0.0001,
        "resetAt": "",
        "live": True,
        "mode": "Enforce",
        "limits": [],
    }
    assert shown["cost"]["tokens"] == TOKENS
    assert shown["cache"] == {"texts": 1, "memory": 0, "redis": 0}
    assert plots is None
