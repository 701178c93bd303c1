"""The committed dashboards: their queries, and that Grafana accepts them."""

import json
import re

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from dashboards import cost, mixin, panels, queries
from embedding_contract import built_in_alerts as table
from embedding_contract import metrics, prices
from tests.parts import dashboards, promql

BY_TITLE = {
    "Quota Remaining": ("aos_embedding_daily_quota", "aos_embedding_daily_calls"),
    "Daily Embedding Calls": ("aos_embedding_daily_calls",),
    "Quota Exceeded (24h)": ("aos_embedding_quota_exhausted_total",),
    "Est. Embedding Cost": ("aos_embedding_tokens_total",),
    "API Call Rate": ("aos_embedding_api_calls_total",),
    "API Latency": ("aos_embedding_api_latency_seconds_bucket",),
    "Embedding Errors": ("aos_embedding_errors_total",),
    "Vector Fallbacks": ("aos_vector_fallback_total",),
    "Vectors in Index": ("aos_vector_index_size",),
    "Rows Without Embeddings": ("aos_vector_index_null_count",),
    "Vector Query Latency": ("aos_vector_query_latency_seconds_bucket",),
    "Backfill Progress": ("aos_memory_backfill_progress_total",),
    "Backfill Batch Duration": ("aos_memory_backfill_batch_duration_seconds_bucket",),
}
"""The user's 13 panels, to the letter."""
ALL_QUERIES = [
    pytest.param(expr, id=f"{file.stem}-{title}-{number}")
    for file in dashboards.FILES
    for number, (title, expr) in enumerate(dashboards.queries(dashboards.load(file)))
]

plugins.register_default_plugins()


@pytest.fixture(params=dashboards.FILES, ids=lambda it: it.stem)
def dashboard(request):
    return dashboards.load(request.param)


def test_both_dashboards_are_there():
    assert [it.stem for it in dashboards.FILES] == ["embedding-cost", "embedding-operations"]


def test_cost_dashboard_has_users_panels_with_their_metrics():
    loaded = dashboards.load(mixin.CHART_FOLDER / cost.DASHBOARD.file)
    found: dict[str, set[str]] = {}
    for title, expr in dashboards.queries(loaded):
        found.setdefault(title, set()).update(it.series for it in promql.asked(expr))
    assert list(found) == list(BY_TITLE)
    assert found == {title: set(series) for title, series in BY_TITLE.items()}


@pytest.mark.parametrize("expr", ALL_QUERIES)
def test_query_parses_and_names_what_is_catalogued(expr):
    assert promql.asked(expr)
    assert promql.unknown(expr) == []


@pytest.mark.parametrize("expr", ALL_QUERIES)
def test_query_of_one_policy_asks_for_no_other(expr):
    for selector in promql.asked(expr):
        if selector.series.startswith("aos_"):
            assert {"namespace", "policy"} <= selector.labels


@pytest.mark.parametrize(
    ("expr", "wrong"),
    [
        ("aos_embedding_daily_call", ["aos_embedding_daily_call"]),
        ("aos_embedding_api_latency_seconds", ["aos_embedding_api_latency_seconds"]),
        (
            'rate(aos_embedding_tokens_total{kind="x"}[5m])',
            ["aos_embedding_tokens_total{kind}"],
        ),
        ("sum by (layer) (aos_embedding_daily_calls)", ["layer"]),
        ("sum by (le) (aos_embedding_daily_calls) or up", ["up"]),
    ],
)
def test_name_that_is_not_catalogued_is_found(expr, wrong):
    assert promql.unknown(expr) == wrong


def test_every_metric_is_on_dashboard():
    asked = {
        selector.series
        for file in dashboards.FILES
        for _, expr in dashboards.queries(dashboards.load(file))
        for selector in promql.asked(expr)
    }
    assert [it.name for it in metrics.CATALOGUE if not asked & it.series] == []


def test_grafanas_own_types_take_it_without_loss(dashboard):
    loaded = models.Dashboard.from_json(dashboard)
    assert json.loads(json.dumps(loaded, cls=JSONEncoder)) == dashboard


def test_dashboard_is_provisioned_as_committed(dashboard):
    assert "__inputs" not in dashboard
    assert "id" not in dashboard
    assert dashboard["uid"] in {"embedding-cost", "embedding-operations"}


def test_data_source_is_choice(dashboard):
    names = [it["name"] for it in dashboard["templating"]["list"]]
    assert names[:3] == ["datasource", "namespace", "policy"]
    for panel in dashboard["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_each_panel_has_unit_and_says_what_it_shows(dashboard):
    for panel in dashboard["panels"]:
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert len(panel["description"].split()) > 4


def test_no_two_panels_lie_on_each_other(dashboard):
    places = [it["gridPos"] for it in dashboard["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place.get("x", 0), place.get("x", 0) + place["w"])
        for y in range(place.get("y", 0), place.get("y", 0) + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < panels.COLUMNS


def test_mixin_has_charts_dashboards_and_rules_that_parse():
    for file in dashboards.FILES:
        assert (mixin.MIXIN / "dashboards" / file.name).read_text() == file.read_text()
    (alerts,) = yaml.safe_load((mixin.MIXIN / "alerts" / "alerts.yaml").read_text())["groups"]
    assert len(alerts["rules"]) == len(table.BUILT_IN) - 1  # the cost needs a policy's prices
    (recorded,) = yaml.safe_load((mixin.MIXIN / "rules" / "rules.yaml").read_text())["groups"]
    for rule in (*alerts["rules"], *recorded["rules"]):
        assert "@" not in rule["expr"]
        assert promql.unknown(rule["expr"]) == []


def test_costs_are_of_built_in_list():
    expr = dashboards.filled(queries.cost("24h"))
    for key, price in prices.PRICES.items():
        provider, _, model = key.partition("/")
        assert f'vector({price.usd_per_million_tokens}), "provider", "{provider}"' in expr
        assert f'"model", "{model}"' in expr


def test_mixin_imports_every_file_that_is_there():
    text = (mixin.MIXIN / "mixin.libsonnet").read_text()
    imported = set(re.findall(r"import(?:str)? '([^']+)'", text))
    there = {str(it.relative_to(mixin.MIXIN)) for it in mixin.MIXIN.glob("*/*")}
    assert imported == there


def test_docs_name_panels_and_alerts_that_are_there():
    page = (mixin.ROOT / "docs" / "dashboards.md").read_text()
    titles = {panel.title for it in mixin.DASHBOARDS for panel in it.panels}
    rows = [it.strip("| ").split(" | ") for it in page.splitlines() if it.startswith("| Embedding")]
    named = [(alert, panels_) for alert, panels_, *_ in rows if "Embedding " not in alert]
    assert {it for _, row in named for it in row.split(", ")} <= titles
    assert {it for row, _ in named for it in row.split(", ")} == {
        alert.name for alert in (*table.BUILT_IN, *table.OPERATOR)
    }
