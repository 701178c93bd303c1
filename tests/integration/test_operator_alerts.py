"""The alerts about the operator, by faults on a real API server: they fire, and they resolve.

As the chart ships them, but for their patience.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_contract import built_in_alerts, names
from tests.parts import admitting, monitoring, operating, reconciling, relay, shipped_roles
from tests.parts import vault as real
from tests.parts.kubectl import Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

ROOT = Path(__file__).parents[2]
FILE = ROOT / "charts/embedding-operator/files/operator-alerts.yaml"
WATCH_ENDED, PODS_MISSED = "EmbeddingOperatorWatchEnded", "EmbeddingOperatorPodsMissed"
STUCK, STUCK_SECONDS = "EmbeddingOperatorReconcilesStuck", 120
OUTDATED, INDEXES = "EmbeddingOperatorDefinitionOutdated", f"{names.INDEX_PLURAL}.{names.GROUP}"
DEAF, DEAF_SECONDS = "EmbeddingOperatorDeaf", 180
SEEN = 'embedding_operator_watch_silent_seconds{kind="namespaces"}'
"""A kind in which a test can make news."""
PATIENCE_SECONDS = 180


class Watched:
    """An operator whose way to the API server can be cut, and what watches its series."""

    def __init__(
        self, way: relay.Relay, operator: operating.Operator, chain: monitoring.Chain
    ) -> None:
        self.way = way
        self.operator = operator
        self.chain = chain
        groups: list[dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"]
        for rule in (rule for group in groups for rule in group["rules"]):
            rule["for"] = "1s"
            rule["expr"] = rule["expr"].replace(f"> {STUCK_SECONDS}", "> 5")
            if rule["alert"] == DEAF:
                rule["expr"] = f"{SEEN} > 5"
        chain.prometheus.rules("operator", groups)
        chain.prometheus.targets([monitoring.Target(address=operator.metrics_address)])
        assert chain.prometheus.reload()
        chain.until(lambda: chain.prometheus.query("embedding_operator_watch_up == 1"))

    def firing(self, name: str) -> list[dict[str, str]]:
        """The labels of what fires by this name."""
        return [it["labels"] for it in self.chain.prometheus.alerts(name)]

    def until_held(self, name: str) -> None:
        """Wait until Alertmanager has it."""
        self.chain.until(lambda: self.chain.alertmanager.alerts(name), seconds=PATIENCE_SECONDS)

    def until_resolved(self, name: str) -> None:
        """Wait until the receiver was told of its end, and nobody has it any more."""
        self.chain.until(
            lambda: (
                self.chain.receiver.alerts(name, status="resolved")
                and not self.firing(name)
                and not self.chain.alertmanager.alerts(name)
            ),
            seconds=PATIENCE_SECONDS,
        )


@pytest.fixture
def hangs(tmp_path: Path) -> Path:
    """While this file is there, no reconcile ends."""
    return tmp_path / "hangs"


@pytest.fixture
def watched(tmp_path: Path, api_server: Kubectl, hangs: Path) -> Iterator[Watched]:
    folder = tmp_path / "operator"
    folder.mkdir()
    kubeconfig = folder / "kubeconfig"
    config = yaml.safe_load(api_server.kubeconfig.read_text(encoding="utf-8"))
    place = config["clusters"][0]["cluster"]
    host, _, port = place["server"].rpartition(":")
    with (
        relay.relayed(int(port)) as way,
        real.running(tmp_path / "vault") as server,
        monitoring.chain(tmp_path / "monitoring") as chain,
    ):
        place["server"] = f"{host}:{way.port}"
        kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
        operator = operating.Operator(folder, kubeconfig, server)
        operator.environment["RESYNC_SECONDS"] = "1"
        operator.program = [sys.executable, "-m", "tests.parts.hanging_operator", str(hangs)]
        operator.start()
        try:
            yield Watched(way, operator, chain)
        finally:
            operator.stop()


def test_every_alert_about_operator_is_caused_here():
    caused = {WATCH_ENDED, PODS_MISSED, STUCK, DEAF, OUTDATED}
    assert {it.name for it in built_in_alerts.OPERATOR} == caused


@pytest.mark.refused
@pytest.mark.timeout(600)
def test_right_to_watch_that_is_taken_away_is_alert_until_it_is_given_back(watched, api_server):
    assert not watched.firing(WATCH_ENDED)
    api_server("delete", "clusterrolebinding", shipped_roles.NAME)
    watched.way.cut()  # a stream that is open goes on, for five minutes at most
    watched.chain.until(lambda: watched.firing(WATCH_ENDED), seconds=PATIENCE_SECONDS)
    kinds = {"pods", "namespaces", "configmaps", "secrets", names.PLURAL}
    watched.chain.until(lambda: {it["kind"] for it in watched.firing(WATCH_ENDED)} >= kinds)
    watched.until_held(WATCH_ENDED)
    assert watched.operator.healthy()  # a restart would not help
    shipped_roles.grant(api_server)
    watched.until_resolved(WATCH_ENDED)


@pytest.mark.timeout(600)
def test_watch_that_brings_nothing_is_alert_until_it_brings_something(
    watched, api_server, namespace
):
    (rule,) = (it for it in built_in_alerts.OPERATOR if it.name == DEAF)
    assert rule.expr == f"max by (kind) ({SEEN.partition('{')[0]}) > {DEAF_SECONDS}"
    watched.way.freeze()
    watched.chain.until(lambda: watched.firing(DEAF), seconds=PATIENCE_SECONDS)
    watched.until_held(DEAF)
    watched.way.thaw()

    def news():
        api_server("label", "namespace", namespace, f"news=at-{time.monotonic_ns()}", "--overwrite")
        return not watched.firing(DEAF)

    watched.chain.until(news, seconds=PATIENCE_SECONDS)
    # No news in between, or it would fire again.
    watched.chain.until(
        lambda: news() and watched.chain.receiver.alerts(DEAF, status="resolved"),
        seconds=PATIENCE_SECONDS,
    )


@pytest.mark.timeout(600)
def test_pods_that_webhook_missed_are_alert_until_they_are_gone(watched, api_server, namespace):
    reconciling.wait_for_default_account(api_server, namespace)
    admitting.open_shop(api_server, namespace)
    pod = admitting.create(api_server, namespace)["metadata"]["name"]  # no webhook is configured
    watched.chain.until(lambda: watched.firing(PODS_MISSED), seconds=PATIENCE_SECONDS)
    assert [it["namespace"] for it in watched.firing(PODS_MISSED)] == [namespace]
    watched.until_held(PODS_MISSED)
    api_server("delete", "pod", pod, "-n", namespace, "--force", "--grace-period=0")
    watched.until_resolved(PODS_MISSED)


@pytest.mark.timeout(600)
def test_reconcile_that_hangs_is_alert_until_it_ends(watched, api_server, namespace, hangs):
    assert all(
        f"> {STUCK_SECONDS} " in it.expr for it in built_in_alerts.OPERATOR if it.name == STUCK
    )
    hangs.touch()
    admitting.open_shop(api_server, namespace)
    watched.chain.until(lambda: watched.firing(STUCK), seconds=PATIENCE_SECONDS)
    watched.until_held(STUCK)
    hangs.unlink()
    watched.until_resolved(STUCK)


@pytest.mark.timeout(600)
def test_definition_that_lacks_field_is_alert_until_it_has_it(watched, api_server):
    schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/search"
    removal = json.dumps([{"op": "remove", "path": schema}])
    api_server("patch", "customresourcedefinition", INDEXES, "--type=json", "-p", removal)
    try:
        watched.chain.until(lambda: watched.firing(OUTDATED), seconds=PATIENCE_SECONDS)
        assert [it["definition"] for it in watched.firing(OUTDATED)] == [INDEXES]
        watched.until_held(OUTDATED)
    finally:
        api_server("replace", "-f", str(ROOT / "crds" / f"{names.INDEX_PLURAL}.yaml"))
    watched.until_resolved(OUTDATED)
