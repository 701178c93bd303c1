"""The parts of monitoring tests: real, and connected to each other."""

from pathlib import Path

import pytest

from embedding_operator.cli import preview
from tests.parts import monitoring

EVERYTHING = Path(__file__).parents[1] / "contract" / "cases" / "good" / "everything.yaml"

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


def test_single_alertmanager_is_disabled_as_cluster(tmp_path):
    alertmanager = monitoring.Alertmanager(tmp_path)
    try:
        assert alertmanager.json("/api/v2/status")["cluster"]["status"] == "disabled"
    finally:
        alertmanager.close()


def reloaded(chain) -> float:
    """prometheus_config_last_reload_successful, as Prometheus says of itself."""
    (sample,) = chain.prometheus.query("prometheus_config_last_reload_successful")
    return float(sample["value"][1])


def test_rendered_rule_file_is_loaded_and_broken_one_is_told_by_metric(tmp_path):
    policies = preview.read(EVERYTHING, namespace="shop")
    with monitoring.chain(tmp_path) as chain:
        own = monitoring.Target(address=f"127.0.0.1:{chain.prometheus.port}")
        chain.prometheus.targets([own])
        file = chain.prometheus.rule_file("policies")
        file.write_text(preview.rule_file(policies), encoding="utf-8")
        assert chain.prometheus.reload()
        name = policies[0].name
        loaded = [group["name"] for group in chain.prometheus.groups()]
        assert sorted(loaded) == [
            f"shop.additional-embedding-{name}",
            f"shop.embedding-{name}",
            f"shop.embedding-{name}:records",
        ]
        chain.until(lambda: chain.prometheus.query("prometheus_config_last_reload_successful"))
        assert reloaded(chain) == 1
        file.write_text("groups: [{name: a, rules: [{alert: A, expr: 'sum('}]}]", encoding="utf-8")
        assert not chain.prometheus.reload()
        chain.until(lambda: reloaded(chain) == 0, seconds=30)
        assert len(chain.prometheus.groups()) == 3
