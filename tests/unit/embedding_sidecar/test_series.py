"""Plain numbers look to a scrape like the client library's own counters and histograms."""

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract.metrics import Metric
from embedding_sidecar.telemetry import series

COUNTED = Metric(name="a_total", kind="counter", help="A.", labels=("x", "y"))
BARE = Metric(name="b_total", kind="counter", help="B.")
TIMED = Metric(name="c_seconds", kind="histogram", help="C.", labels=("x",), buckets=(0.1, 1, 60))
WORDS = st.sampled_from(["p", "q", 'quoted "r"\n'])
SECONDS = st.sampled_from([0.0, 0.1, 0.1000001, 1.0, 59.5, 60.0, 61.0])


@given(
    st.lists(st.tuples(WORDS, WORDS, st.integers(0, 10**9))),
    st.lists(st.integers(0, 10)),
    st.lists(st.tuples(WORDS, SECONDS)),
)
def test_scrape_shows_what_librarys_own_would_show(counted, bare, timed):
    prometheus_client.disable_created_metrics()
    ours, theirs = prometheus_client.CollectorRegistry(), prometheus_client.CollectorRegistry()
    counter, plain = series.Counter(COUNTED), series.Counter(BARE)
    histogram = series.Histogram(TIMED)
    for collector in (counter, plain, histogram):
        ours.register(collector)
    other = prometheus_client.Counter("a_total", "A.", ("x", "y"), registry=theirs)
    other_plain = prometheus_client.Counter("b_total", "B.", registry=theirs)
    other_histogram = prometheus_client.Histogram(
        "c_seconds", "C.", ("x",), buckets=TIMED.buckets, registry=theirs
    )
    for x, y, amount in counted:
        counter.of(x, y).value += amount
        other.labels(x, y).inc(amount)
    for amount in bare:
        plain.of().value += amount
        other_plain.inc(amount)
    for x, seconds in timed:
        histogram.of(x).add(seconds)
        other_histogram.labels(x).observe(seconds)
    assert prometheus_client.generate_latest(ours) == prometheus_client.generate_latest(theirs)
