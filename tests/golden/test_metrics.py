from tests.golden import held, metrics


def test_metrics_are_as_held():
    held.check(metrics.texts())
