"""The parts that monitoring tests stand on: real, and connected to each other."""

import pytest

from tests.parts import monitoring

pytestmark = pytest.mark.integration

ALWAYS = {
    "name": "always",
    "rules": [{"alert": "Always", "expr": "vector(1) == 1", "labels": {"severity": "info"}}],
}


def test_rule_file_fires_is_delivered_and_resolves(tmp_path):
    with monitoring.chain(tmp_path) as chain:
        chain.prometheus.rules("always", [ALWAYS])
        assert chain.prometheus.reload()
        chain.until(lambda: chain.prometheus.alerts("Always"))
        chain.until(lambda: chain.alertmanager.alerts("Always"))
        chain.until(lambda: chain.receiver.alerts("Always"))
        chain.prometheus.rule_file("always").write_text("groups: []")
        assert chain.prometheus.reload()
        chain.until(lambda: chain.receiver.alerts("Always", status="resolved"), seconds=30)


def test_targets_are_scraped_with_their_labels(tmp_path):
    with monitoring.chain(tmp_path) as chain:
        own = monitoring.Target(
            address=f"127.0.0.1:{chain.prometheus.port}", labels={"policy": "search"}
        )
        chain.prometheus.targets([own])
        chain.until(lambda: chain.prometheus.query('up{policy="search"} == 1'))


def test_single_alertmanager_is_disabled_as_a_cluster(tmp_path):
    alertmanager = monitoring.Alertmanager(tmp_path)
    try:
        assert alertmanager.json("/api/v2/status")["cluster"]["status"] == "disabled"
    finally:
        alertmanager.close()
