from tests.golden import chart, held


def test_chart_values_alerts_and_recording_rules_are_as_held():
    held.check(chart.texts())
