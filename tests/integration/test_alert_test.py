"""The annotation that asks for a test alert, and its result in a policy's status."""

import json
import os
import subprocess
import sys
import time

import pytest
import yaml

from embedding_contract import names
from embedding_operator.monitoring import endpoints, monitor
from embedding_operator.policy import policy
from embedding_operator.render import monitoring as rendered
from tests.parts import monitoring, operating, ports, reconciling, sidecar, vault

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

NAME = "search"


def apply(api_server, namespace):
    """A policy that needs nothing."""
    api_server.apply(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": NAME, "namespace": namespace},
            "spec": {
                "podSelector": {},
                "providers": [
                    {
                        "name": "e5",
                        "type": "OpenAICompatible",
                        "model": "e5",
                        "baseURL": "http://e5.models.svc/v1",
                    }
                ],
            },
        }
    )


class Testing:
    """Reconciles of one policy with a monitor that asks these Alertmanagers."""

    __test__ = False

    def __init__(self, api_server, namespace, *urls: str) -> None:
        self.api_server = api_server
        self.namespace = namespace
        self.urls = urls
        objects = reconciling.connect(api_server.kubeconfig)
        self.reconciling = reconciling.Reconciling(objects, namespace)
        apply(api_server, namespace)
        self.restart()

    def restart(self) -> None:
        """A new process."""
        servers = tuple(endpoints.Endpoint(url=url) for url in self.urls)
        self.changed: list[object] = []
        self.reconciling.monitoring = monitor.Monitor(
            endpoints.Endpoints(alertmanager=servers), changed=self.changed.append
        )
        self.reconciling.monitoring.start()
        self.reconciling.restart()

    def ask(self, value: str) -> None:
        annotation = f"{names.ANNOTATION_TEST_ALERT}={value}"
        self.api_server("annotate", "embpol", NAME, annotation, "-n", self.namespace, "--overwrite")

    def look(self) -> dict:
        """Reconcile once; the test as the status tells it."""
        self.reconciling(NAME)
        found: dict = self.reconciling.status(NAME).get("alertTest", {})
        return found

    def ended(self) -> dict:
        """The test once it is over."""
        deadline = time.monotonic() + 60
        while (found := self.look())["result"] == "Running":
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found

    def condition(self, kind: str) -> dict:
        (found,) = [it for it in self.reconciling.status(NAME)["conditions"] if it["type"] == kind]
        return dict(found)


@pytest.fixture
def alertmanager(tmp_path):
    receiver = monitoring.Receiver()
    with sidecar.served(receiver.app()) as url:
        server = monitoring.Alertmanager(tmp_path / "alertmanager", receiver_url=url)
        try:
            yield server, receiver
        finally:
            server.close()


def test_new_value_is_one_test_and_its_end_is_in_status(alertmanager, api_server, namespace):
    server, receiver = alertmanager
    testing = Testing(api_server, namespace, server.url)
    assert testing.look() == {}
    testing.ask("first")
    assert testing.look()["result"] == "Running"
    found = testing.ended()
    assert (found["value"], found["result"]) == ("first", "Delivered")
    assert found["receivers"] == ["default"]
    assert len(receiver.alerts("EmbeddingTestAlert")) == 1
    testing.ask("second")
    assert testing.look() == found
    assert testing.reconciling(NAME) == pytest.approx(600, abs=120)
    assert len(receiver.alerts("EmbeddingTestAlert")) == 1
    deadline = time.monotonic() + 60
    while testing.condition("AlertmanagerReady")["status"] != "True":
        assert time.monotonic() < deadline
        testing.look()
    assert "is a single instance" in testing.condition("AlertmanagerReady")["message"]


def test_absent_alertmanager_is_told_once_and_not_asked_again(api_server, namespace):
    testing = Testing(api_server, namespace, f"http://127.0.0.1:{ports.free()}")
    testing.ask("first")
    found = testing.ended()
    assert found["result"] == "CannotAsk"
    assert "cannot be reached" in found["message"]
    for _ in range(3):
        assert testing.look() == found
    testing.restart()
    assert testing.look() == found


def test_restart_during_test_repeats_nothing(api_server, namespace, alertmanager):
    server, receiver = alertmanager
    testing = Testing(api_server, namespace, server.url)
    running = {
        "value": "first",
        "time": "2026-01-01T00:00:00Z",
        "result": "Running",
        "message": "",
    }
    testing.look()
    patch = json.dumps({"status": {"alertTest": running}})
    api_server(
        *("patch", "embpol", NAME, "-n", namespace, "--subresource=status"),
        *("--type=merge", "-p", patch),
    )
    testing.ask("first")
    assert testing.look()["result"] == "Interrupted"
    assert receiver.notified == []


# --- as its user has it: an operator of its own, kubectl and the command


@pytest.fixture
def operator(api_server, tmp_path, alertmanager):
    """A running operator that asks one Alertmanager."""
    file = tmp_path / "monitoring.yaml"
    file.write_text(yaml.safe_dump({"alertmanager": [{"url": alertmanager[0].url}]}))
    with vault.running(tmp_path / "vault") as server:
        made = operating.Operator(tmp_path / "operator", api_server.kubeconfig, server)
        made.environment["MONITORING_FILE"] = str(file)
        made.start()
        yield made
        made.stop()


def plugin(api_server, *arguments, code):
    done = subprocess.run(
        [sys.executable, "-m", "embedding_operator.cli.kubectl_plugin", *arguments],
        env={"PATH": os.environ["PATH"], "KUBECONFIG": str(api_server.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_kubectl_embedding_alerts_test(api_server, namespace, alertmanager, operator):
    apply(api_server, namespace)
    where = ("alerts", "test", NAME, "-n", namespace)
    said = plugin(api_server, *where, code=0)
    assert f"{namespace}/{NAME}: Delivered: Routed to default and delivered by webhook." in said
    (alert,) = alertmanager[1].alerts("EmbeddingTestAlert")
    assert (alert["labels"]["namespace"], alert["labels"]["policy"]) == (namespace, NAME)
    assert "is too recent; try again in" in plugin(api_server, *where, code=2)
    assert "there is no EmbeddingPolicy" in plugin(
        api_server, "alerts", "test", "nothing", "-n", namespace, code=2
    )
    asked = 'embedding_operator_monitoring_requests_total{outcome="ok",server="alertmanager"}'
    assert asked in operator.metrics()


def test_alerts_test_command_ends_with_1_without_delivery(
    api_server, namespace, alertmanager, operator
):
    alertmanager[1].status = 500
    apply(api_server, namespace)
    said = plugin(api_server, "alerts", "test", NAME, "-n", namespace, code=1)
    assert "NotDelivered: Routed to default but not delivered: webhook" in said


def test_alerts_verify_compares_policies_of_cluster(api_server, namespace, tmp_path):
    """As an administrator runs it; the operator need not."""
    apply(api_server, namespace)
    raw = api_server.get("embpol", NAME, "-n", namespace)
    groups = rendered.prometheus_rule(policy.parse(raw))["spec"]["groups"]
    with monitoring.chain(tmp_path) as chain:
        command = [sys.executable, "-m", "embedding_operator", "alerts", "verify"]
        command += ["-n", namespace, "--kubeconfig", str(api_server.kubeconfig)]
        command += ["--prometheus", chain.prometheus.url]

        def verify(code):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == code, done.stdout + done.stderr
            return done.stdout

        assert f"{groups[0]['name']}: not loaded" in verify(1)
        chain.prometheus.rules("ours", groups)
        assert chain.prometheus.reload()
        assert "2 expected, 2 loaded, 2 healthy" in verify(0)


def test_conditions_without_servers_are_unknown_and_cause_no_event(api_server, namespace):
    testing = Testing(api_server, namespace)
    testing.look()
    for kind in ("RulesLoaded", "Scraped", "AlertmanagerReady"):
        found = testing.condition(kind)
        assert (found["status"], found["reason"]) == ("Unknown", "NotConfigured")
    assert [told for told in testing.reconciling.events.told if "NotConfigured" in told] == []
    testing.ask("first")
    assert testing.ended()["result"] == "NotConfigured"
