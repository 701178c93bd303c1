"""Every query of the dashboards, asked of a real Prometheus after real sidecars did their work."""

import functools
import math
import time
from decimal import Decimal

import pytest

from dashboards import cost
from embedding_contract import metrics, prices
from tests.parts import dashboards, monitored, sidecar

pytestmark = pytest.mark.integration

NOT_CAUSED = {"Refused by a Rate"}
"""A refusal takes the whole time of a request; test_rate_under_fire.py causes some."""
ALL = [
    pytest.param(expr, id=f"{title}-{number}")
    for file in dashboards.FILES
    for number, (title, expr) in enumerate(dashboards.queries(dashboards.load(file)))
    if title not in NOT_CAUSED
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with monitored.running(tmp_path_factory.mktemp("monitored")) as started:
        started.every_path()
        seen = 'sum(rate(aos_embedding_quota_exhausted_total{policy="catalog"}[5m])) >= 0'
        sidecar.wait_until(lambda: started.prometheus.query(seen))
        yield started


@pytest.mark.parametrize("expr", ALL)
def test_query_finds_series(run, expr):
    sidecar.wait_until(lambda: run.prometheus.query(expr))


@pytest.mark.parametrize("title", [panel.title for panel in cost.SEARCH_AND_BACKFILL])
def test_panel_of_search_and_backfill_shows_what_was_done(run, title):
    loaded = dashboards.load(dashboards.FILES[0])
    for name, expr in dashboards.queries(loaded, policy="search"):
        if name == title:
            # Not only series that begin at 0, and no quantile of nothing.
            sidecar.wait_until(functools.partial(is_above_0, run, expr))


def is_above_0(run, expr):
    found = (float(it["value"][1]) for it in run.prometheus.query(expr))
    return any(math.isfinite(it) and it > 0 for it in found)


def test_exposed_by_pods_of_index_is_catalogued_and_reverse(run):
    exposed = run.prometheus.query('{__name__=~"(aos|embedding)_.+", index="docs"}')
    declared = {series: metric for metric in metrics.VECTORS for series in metric.series}
    assert {it["metric"]["__name__"] for it in exposed} == set(declared)
    target = {"__name__", "namespace", "policy", "index", "pod", "instance", "job", "le"}
    for it in exposed:
        metric = declared[it["metric"]["__name__"]]
        assert it["metric"].keys() - target == set(metric.labels)


def one(run, title, *, at=None, **chosen):
    """The only value of a panel's first query."""
    loaded = dashboards.load(dashboards.FILES[0])
    expr = next(it for name, it in dashboards.queries(loaded, **chosen) if name == title)
    (found,) = run.prometheus.query(expr, at=at)
    return Decimal(found["value"][1])


def test_remaining_quota_is_policys_own_limit_less_its_calls(run):
    # The backfill goes on calling, so both are asked of one moment.
    now = time.time()
    calls = one(run, "Daily Embedding Calls", at=now, policy="search")
    assert 0 < calls < monitored.SEARCH_CALLS
    left = one(run, "Quota Remaining", at=now, policy="search")
    assert left == monitored.SEARCH_CALLS - calls
    assert one(run, "Quota Remaining", policy="catalog") == 0


def test_cost_is_tokens_at_list_price_or_at_one_given(run):
    sidecar.wait_until(lambda: one(run, "Est. Embedding Cost", policy="catalog") > 0)
    at_list_price = one(run, "Est. Embedding Cost", policy="catalog")
    price = Decimal(prices.PRICES["voyage/voyage-3.5"].usd_per_million_tokens)
    doubled = one(run, "Est. Embedding Cost", policy="catalog", price=str(2 * price))
    # Prometheus extrapolates an increase to the window's ends, a little more at each second.
    assert float(doubled / at_list_price) == pytest.approx(2, rel=0.05)
