"""Every metric of the catalogue is counted, and no other."""

import prometheus_client
import pytest

from embedding_contract import metrics as catalogue
from embedding_operator import metrics
from embedding_operator.kube.kinds import ObjectKey


def counted() -> str:
    measured = metrics.Metrics()
    measured.reconciled(result="ok", seconds=0.1)
    measured.injected(result="skipped", reason="HostNetwork")
    measured.drifted("Secret")
    measured.vault_asked("VaultSealed")
    measured.monitoring_asked("prometheus", "Slow")
    measured.restarted("Deployment")
    measured.skipped("secrets", 2)
    measured.queued(3)
    measured.watch_up("pods", lambda: True)
    measured.watch_up("secrets", lambda: False)
    measured.uncovered(ObjectKey("shop", "search"), 2)
    measured.retires(ObjectKey("shop", "search"), {("voyage", "voyage-3.5"): 1_827_619_200.0})
    measured.sidecar_asked("SidecarsSilent")
    measured.watch_oldest(lambda: 7.0)
    measured.watch_lease(lambda: True)
    measured.watch_silence("pods", lambda: 61.0)
    return prometheus_client.generate_latest(measured.registry).decode()


def series() -> set[str]:
    lines = (line for line in counted().splitlines() if not line.startswith("#"))
    return {line.partition("{")[0].partition(" ")[0] for line in lines}


def test_counted_series_are_those_of_catalogue():
    assert series() == {name for metric in catalogue.OPERATOR for name in metric.series}


def test_each_count_has_its_labels():
    said = counted()
    assert 'embedding_operator_reconciles_total{result="ok"} 1.0' in said
    assert 'embedding_operator_drift_repaired_total{kind="Secret"} 1.0' in said
    assert 'embedding_operator_vault_requests_total{outcome="VaultSealed"} 1.0' in said
    assert 'result="skipped"' in said
    assert "embedding_operator_queue_depth 3.0" in said
    assert "embedding_operator_oldest_reconcile_seconds 7.0" in said
    assert "embedding_operator_lease_held 1.0" in said
    assert 'embedding_operator_watch_silent_seconds{kind="pods"} 61.0' in said
    assert 'embedding_operator_sidecar_requests_total{result="SidecarsSilent"} 1.0' in said


@pytest.mark.parametrize(
    ("accept", "begins"),
    [("", "text/plain"), ("application/openmetrics-text", "application/openmetrics-text")],
)
def test_scrape_is_answered_in_format_that_it_asks_for(accept, begins):
    measured = metrics.Metrics()
    measured.queued(3)
    reply = measured.page(accept)
    assert reply.status == 200
    assert reply.content_type.startswith(begins)
    assert b"embedding_operator_queue_depth 3.0" in reply.body


def test_two_operators_in_one_process_do_not_share_counts():
    first, second = metrics.Metrics(), metrics.Metrics()
    first.queued(1)
    assert "queue_depth 0.0" in prometheus_client.generate_latest(second.registry).decode()


def shown(measured: metrics.Metrics) -> list[str]:
    said = prometheus_client.generate_latest(measured.registry).decode()
    return [line for line in said.splitlines() if line.startswith("embedding_operator_pods_unc")]


def test_policy_whose_pods_are_covered_again_is_shown_no_more():
    measured = metrics.Metrics()
    measured.uncovered(ObjectKey("shop", "search"), 2)
    assert shown(measured) == [
        'embedding_operator_pods_uncovered{namespace="shop",policy="search"} 2.0'
    ]
    measured.uncovered(ObjectKey("shop", "search"), 0)
    assert shown(measured) == []


def test_policies_with_most_uncovered_pods_are_shown():
    measured = metrics.Metrics()
    for number in range(metrics.POLICIES_SHOWN + 10):
        measured.uncovered(ObjectKey("shop", f"policy-{number}"), number + 1)
    lines = shown(measured)
    assert len(lines) == metrics.POLICIES_SHOWN
    assert not any('policy="policy-9"' in line for line in lines)


def test_watch_that_ended_is_zero():
    assert 'embedding_operator_watch_up{kind="secrets"} 0.0' in counted()
