"""Pods of one tenant answer the operator with whatever they like, and harm only their own policy.

field.md, D1: four pods that dripped held every worker, so that no policy of any namespace was
reconciled, with green probes, and SIGTERM did not end the process.
"""

import base64
import itertools
import os
import signal
import socket
import statistics
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import yaml

from dev import cluster as throwaway
from embedding_contract import names
from embedding_operator.kube import client, kinds
from tests.parts import answering, operating, reconciling, relay
from tests.parts import vault as real

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

NAMESPACES = 10
PODS = 5
EDITS = 60
PATIENCE_SECONDS = 90
END_SECONDS = 30
"""Three times what is promised."""
NUDGES_OF_A_CONTENT = 6

DATES = ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "tomorrow")


def policy(namespace: str, name: str = "search", **spec: Any) -> dict[str, Any]:
    key = {"secretKeyRef": {"name": "keys", "key": "openai"}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "podSelector": {},
            "providers": [
                {
                    "name": "openai",
                    "type": "OpenAI",
                    "model": "text-embedding-3-small",
                    "apiKey": key,
                }
            ],
            **spec,
        },
    }


def namespace(name: str) -> list[dict[str, Any]]:
    """A namespace that opts in, with a provider's key."""
    labels = {names.LABEL_INJECTION: "enabled"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "keys", "namespace": name},
            "stringData": {"openai": "sk-hostile"},
        },
    ]


class Tenants:
    """Ten namespaces with five pods each, of which each answers in its own way."""

    def __init__(self, user, objects: client.KubeClient, there: answering.Answering) -> None:
        self._user = user
        self._objects = objects
        self._there = there
        self.namespaces = [f"hostile-{number}" for number in range(NAMESPACES)]
        kinds: list[tuple[str, Any]] = list(answering.HOSTILE.items())
        kinds += [(f"signs {name}", body) for name, body in sorted(answering.STRANGE_PAGES.items())]
        # What drips is what held the workers: what is left is filled up with it.
        self._kinds = itertools.chain(kinds, itertools.cycle(kinds[:4]))

    def apply(self) -> None:
        """Namespaces, policies and pods."""
        self._user.apply(*(it for name in self.namespaces for it in namespace(name)))
        self._user.apply(*(policy(name, "hostile") for name in self.namespaces))
        for name in self.namespaces:
            reconciling.wait_for_default_account(self._user, name)
        pods = [
            reconciling.injected(self._pod(name, number), policy="hostile")
            for name in self.namespaces
            for number in range(PODS)
        ]
        self._user.apply(*pods)
        for number, pod in enumerate(pods):
            self._answer(pod, address=f"127.9.{os.getpid() % 250}.{number + 1}")

    @staticmethod
    def _pod(name: str, number: int) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"pod-{number}", "namespace": name},
            "spec": {"containers": [{"name": "app", "image": "app:1"}]},
        }

    def _answer(self, pod: dict[str, Any], *, address: str) -> None:
        """Have something answer for a pod, which gets this address."""
        place, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        _, behaviour = next(self._kinds)
        if isinstance(behaviour, bytes):
            live = self._objects.get(kinds.POD, place, name)
            assert live is not None
            held = answering.Sidecar(token=self._token(place), uid=live["metadata"]["uid"])
            behaviour = answering.saying(held, behaviour)
        self._there.at(address, behaviour)
        status = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
        path = kinds.POD.path(place, name, "status")
        self._objects._call("PATCH", path, status, content="application/merge-patch+json")

    def _token(self, place: str) -> str:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = self._objects.get(kinds.SECRET, place, names.owned_secret("hostile"))
            if found is not None:
                return base64.b64decode(found["data"][names.SECRET_API_TOKEN]).decode()
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def said(self) -> dict[str, str]:
        """What the status of each policy says of its pods."""
        found = {}
        for name in self.namespaces:
            live = self._objects.get(kinds.POLICY, name, "hostile")
            assert live is not None
            conditions = live.get("status", {}).get("conditions", [])
            found[name] = next(
                (it["message"] for it in conditions if it["type"] == "ConfigInForce"), ""
            )
        return found

    def patches(self) -> float:
        """How often the status of any pod was patched, as the API server counts."""
        lines = self._user("get", "--raw", "/metrics").splitlines()
        asked = ('verb="PATCH"', 'resource="pods"', 'subresource="status"')
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("apiserver_request_total{") and all(it in line for it in asked)
        )


class Shop:
    """A policy in a namespace of its own, whose edits are timed."""

    def __init__(self, user, objects: client.KubeClient, name: str) -> None:
        self._objects = objects
        self._name = name
        self._edits = itertools.count(1)
        user.apply(*namespace(name))
        user.apply(policy(name))

    def edit(self) -> float:
        """Seconds from an edit to the document that says so."""
        number = next(self._edits)
        path = kinds.POLICY.path(self._name, "search")
        patch = {"spec": {"quota": {"daily": {"requests": number}}}}
        started = time.monotonic()
        self._objects._call("PATCH", path, patch, content="application/merge-patch+json")
        wanted = f'"requests": {number}'.replace(" ", "")
        while wanted not in self._document().replace(" ", ""):
            assert time.monotonic() < started + PATIENCE_SECONDS, "the edit is not carried out"
            time.sleep(0.01)
        return time.monotonic() - started

    def _document(self) -> str:
        name = names.document_configmap("search")
        found = self._objects.get(kinds.CONFIG_MAP, self._name, name)
        return str(found["data"][names.DOCUMENT_KEY]) if found else ""


@pytest.fixture
def objects(api_server):
    # The kinds of the Prometheus operator are watched, and so must be there.
    folder = throwaway.artifact("prometheus-operator-crds")
    for plural in ("prometheusrules", "podmonitors"):
        api_server.define(folder / f"monitoring.coreos.com_{plural}.yaml")
    return reconciling.connect(api_server.kubeconfig)


@pytest.fixture
def operator(tmp_path, api_server, objects):
    with real.running(tmp_path / "vault") as server:
        made = operating.Operator(tmp_path / "operator", api_server.kubeconfig, server)
        try:
            made.start()
            yield made
        finally:
            made.stop()


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


def count(metrics: str, sample: str) -> float:
    """The value of a sample; 0 where it has not been counted yet."""
    lines = [line.rpartition(" ") for line in metrics.splitlines() if not line.startswith("#")]
    return sum(float(value) for name, _, value in lines if name == sample)


@pytest.mark.timeout(600)
def test_fifty_hostile_pods_delay_no_other_policy(api_server, objects, operator, say):
    """field.md, D1 and C8, and their siblings: every way of answering, in ten namespaces."""
    shop = Shop(api_server, objects, "victim")
    shop.edit()
    alone = [shop.edit() for _ in range(EDITS)]
    with answering.answering(names.ADMIN_PORT) as there:
        tenants = Tenants(api_server, objects, there)
        before = tenants.patches()
        tenants.apply()
        beside = [shop.edit() for _ in range(EDITS)]
        assert operator.healthy()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(
            f"pod-{number} " not in message
            for message in tenants.said().values()
            for number in range(PODS)
        ):
            assert operator.healthy()
            assert time.monotonic() < deadline, tenants.said()
            time.sleep(0.5)
        beside += [shop.edit() for _ in range(EDITS)]
        said = operator.metrics()
        assert operator.healthy()
        pods = NAMESPACES * PODS
        assert pods <= tenants.patches() - before - pods <= pods * NUDGES_OF_A_CONTENT
        # None has failed, and none has met its deadline.
        assert count(said, 'embedding_operator_reconciles_total{result="failed"}') == 0
        assert count(said, 'embedding_operator_sidecar_requests_total{result="ok"}') == 0
        asked = [
            count(said, f'embedding_operator_sidecar_requests_total{{result="{reason}"}}')
            for reason in ("SidecarsSilent", "SidecarsUnproven", "SidecarsOutdated")
        ]
        assert all(asked)
        assert sum(there.accepted.values()) >= sum(asked)
        with flooded(operator):
            assert operator.healthy()
            shop.edit()
        # Some that have accepted and say nothing are being asked right now.
        ended = end(operator)
    say(
        f"an edit is in its document within {1000 * p99(alone):.0f} ms (p99; median"
        f" {1000 * statistics.median(alone):.0f}) alone, and {1000 * p99(beside):.0f} ms (p99;"
        f" median {1000 * statistics.median(beside):.0f}) beside 50 hostile pods in 10 namespaces;"
        f" SIGTERM ends it in {ended:.1f} s"
    )


@contextmanager
def flooded(operator) -> Iterator[None]:
    """More connections to the ports for kubelet and Prometheus than they take."""
    with ExitStack() as opened:
        for port in operator.open_ports():
            for number in range(200):
                source = (f"127.10.0.{number % 50 + 1}", 0)
                opened.enter_context(
                    socket.create_connection(("127.0.0.1", port), source_address=source)
                )
        yield


def end(operator) -> float:
    """Seconds from SIGTERM to the end of the process."""
    started = time.monotonic()
    operator.signal(signal.SIGTERM)
    while operator.is_running():
        assert time.monotonic() < started + END_SECONDS, "SIGTERM did not end it"
        time.sleep(0.05)
    return time.monotonic() - started


def test_silent_api_server_does_not_keep_operator_from_ending(tmp_path, api_server, objects, say):
    """field.md, D1, of another server: SIGTERM ends it whatever hangs."""
    kubeconfig = yaml.safe_load(api_server.kubeconfig.read_text(encoding="utf-8"))
    where = kubeconfig["clusters"][0]["cluster"]
    upstream = urllib.parse.urlsplit(where["server"]).port
    with relay.relayed(upstream) as between, real.running(tmp_path / "vault") as server:
        where["server"] = f"https://127.0.0.1:{between.port}"
        through = tmp_path / "kubeconfig"
        through.write_text(yaml.safe_dump(kubeconfig), encoding="utf-8")
        operator = operating.Operator(tmp_path / "operator", through, server)
        try:
            operator.start()
            shop = Shop(api_server, objects, "frozen")
            shop.edit()
            between.freeze()
            api_server.apply(policy("frozen", "another"))
            say(f"SIGTERM ends it in {end(operator):.1f} s while the API server hangs")
        finally:
            operator.stop()


def test_readiness_and_liveness_are_told(api_server, operator):
    # Where the operator keeps its certificate: it is ready once its webhook listens.
    # Other files of the same server keep it, too.
    metadata = {"name": "embedding-system"}
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    for path in ("/healthz", "/readyz"):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with urllib.request.urlopen(operator.health_url(path), timeout=5) as answer:
                    assert answer.read() == b"ok\n"
                    break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
