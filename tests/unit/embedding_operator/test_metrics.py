"""Every metric of the catalogue is counted, and nothing that it does not name."""

import prometheus_client

from embedding_contract import metrics as catalogue
from embedding_operator import metrics


def counted() -> str:
    measured = metrics.Metrics()
    measured.reconciled(result="ok", seconds=0.1)
    measured.injected(result="skipped", reason="HostNetwork")
    measured.drifted("Secret")
    measured.vault_asked("VaultSealed")
    measured.monitoring_asked("prometheus", "Slow")
    measured.restarted("Deployment")
    measured.queued(3)
    return prometheus_client.generate_latest(measured.registry).decode()


def series() -> set[str]:
    lines = (line for line in counted().splitlines() if not line.startswith("#"))
    return {line.partition("{")[0].partition(" ")[0] for line in lines}


def test_what_is_counted_is_what_the_catalogue_names():
    assert series() == {name for metric in catalogue.OPERATOR for name in metric.series}


def test_each_count_has_its_labels():
    said = counted()
    assert 'embedding_operator_reconciles_total{result="ok"} 1.0' in said
    assert 'embedding_operator_drift_repaired_total{kind="Secret"} 1.0' in said
    assert 'embedding_operator_vault_requests_total{outcome="VaultSealed"} 1.0' in said
    assert 'result="skipped"' in said
    assert "embedding_operator_queue_depth 3.0" in said


def test_two_operators_in_one_process_do_not_share_counts():
    first, second = metrics.Metrics(), metrics.Metrics()
    first.queued(1)
    assert "queue_depth 0.0" in prometheus_client.generate_latest(second.registry).decode()
