"""A scrape shows the metrics that the catalogue declares."""

from prometheus_client.parser import text_string_to_metric_families

from embedding_contract import metrics as catalogue
from embedding_sidecar.telemetry import metrics


def scraped(found):
    families = text_string_to_metric_families(found.exposition().decode())
    return [sample for family in families for sample in family.samples]


def used():
    found = metrics.Metrics()
    found.call(provider="openai", model="m", outcome="ok", seconds=0.1)
    found.tokens(provider="openai", model="m", tokens=3)
    found.error("cache")
    found.failover("voyage")
    found.saved(model="m", tokens=2)
    found.set("aos_embedding_daily_calls", 1)
    found.show("aos_embedding_key_refused", {"openai": False})
    found.show("aos_embedding_breaker_open", {"openai": False})
    found.show("aos_embedding_quota_limit", {("day", "cost"): 12.5})
    found.show("aos_embedding_quota_used", {("day", "cost"): 1.5})
    found.quota_observed("day", "cost")
    found.answered(200)
    found.answered(503)
    found.show("aos_embedding_redis_up", {"cache": True, "quota": None})
    return found


def test_exposed_is_declared_and_declared_is_exposed():
    declared = frozenset().union(*(metric.series for metric in catalogue.SIDECAR))
    assert {sample.name for sample in scraped(used())} == declared


def test_labels_are_declared_ones():
    labels = {
        series: set(metric.labels) for metric in catalogue.SIDECAR for series in metric.series
    }
    for sample in scraped(used()):
        assert set(sample.labels) - {"le"} == labels[sample.name]


def test_unlimited_quota_is_infinite():
    found = metrics.Metrics()
    found.set("aos_embedding_daily_quota", None)
    values = {sample.name: sample.value for sample in scraped(found)}
    assert values["aos_embedding_daily_quota"] == float("inf")


def test_only_document_in_force_is_named():
    found = metrics.Metrics()
    found.show("aos_embedding_policy_info", {"one": 1})
    found.show("aos_embedding_policy_info", {"two": 1})
    shown = [s.labels for s in scraped(found) if s.name == "aos_embedding_policy_info"]
    assert shown == [{"document": "two"}]


def test_keys_are_shown_for_providers_of_today():
    found = metrics.Metrics()
    found.show("aos_embedding_key_refused", {"openai": True, "voyage": False})
    found.show("aos_embedding_key_refused", {"voyage": True})
    shown = [(s.labels, s.value) for s in scraped(found) if s.name == "aos_embedding_key_refused"]
    assert shown == [({"provider": "voyage"}, 1)]


def test_two_sidecars_in_one_process_count_apart():
    one, other = metrics.Metrics(), metrics.Metrics()
    one.quota_exhausted()
    counted = {s.name: s.value for s in scraped(other)}
    assert counted["aos_embedding_quota_exhausted_total"] == 0


def test_requests_are_counted_by_status():
    found = metrics.Metrics()
    for status in (200, 200, 503):
        found.answered(status)
    shown = {s.labels["code"]: s.value for s in scraped(found) if "requests" in s.name}
    assert shown == {"200": 2, "503": 1}


def test_redis_that_was_never_used_is_not_shown():
    found = metrics.Metrics()
    found.show("aos_embedding_redis_up", {"cache": None, "quota": False})
    shown = [(s.labels, s.value) for s in scraped(found) if s.name == "aos_embedding_redis_up"]
    assert shown == [({"store": "quota"}, 0)]


OUTCOMES = (
    *("ok", "rejected", "cancelled", "abandoned", "timeout", "connect_timeout", "no_connection"),
    *("connection_lost", "server_error", "bad_answer", "rate_limited", "no_credit"),
    *("key_refused", "not_found", "refused"),
)
FAILURES = ("exhausted", "unreachable", "unusable", "spent", "misconfigured", "unsuited")
REFUSALS = (
    *("invalid_request_error", "insufficient_quota", "rate_limit_exceeded", "cache", "cache_entry"),
    *("provider_credit_exhausted", "quota_store_unavailable", "policy_not_loaded"),
    *("provider_key_missing", "all_providers_failed", "memory_exhausted", "internal_error"),
    "quota_reserved_for_applications",
)
STATUSES = (200, 400, 401, 403, 404, 405, 408, 413, 415, 429, 431, 500, 502, 503, 504)
MOST_SERIES = 400


def test_sidecar_with_eight_providers_has_at_most_400_series():
    found = used()
    for number in range(8):
        kind, model = ("openai", "voyage", "openaicompatible")[number % 3], f"model-{number}"
        for outcome in OUTCOMES:
            found.call(provider=kind, model=model, outcome=outcome, seconds=0.1)
        found.tokens(provider=kind, model=model, tokens=1)
        found.saved(model=model, tokens=1)
        found.failover(kind)
        for failure in FAILURES:
            found.error(failure, kind)
    for refusal in REFUSALS:
        found.error(refusal)
    for status in STATUSES:
        found.answered(status)
    for layer in ("memory", "redis"):
        found.looked_up(layer, hits=1, seconds=0.1)
    found.show("aos_embedding_key_refused", {f"provider-{number}": True for number in range(8)})
    found.show("aos_embedding_breaker_open", {f"provider-{number}": True for number in range(8)})
    assert len(scraped(found)) <= MOST_SERIES
