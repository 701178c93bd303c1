"""The overview of policies and series on the page, and the actions that it advises."""

import pytest

from embedding_operator.console import advice, overview, usage
from embedding_operator.kube import conditions
from embedding_operator.status import policy_status, secret_status
from tests.parts import paged

CONDITIONS = {*policy_status.TOLD, *policy_status.DECISIVE, "QuotaExact", "RulesLoaded", "Scraped"}


def series(name, value, *, policy="search", **labels):
    return usage.Sample(
        name=name, labels={"namespace": "shop", "policy": policy, **labels}, value=value
    )


def built(*policies, samples=()):
    seen = overview.Seen(samples=samples, source="sidecars", period="a while")
    return overview.build(policies, seen, at=paged.AT, scope="shop")


def only(*policies, samples=()):
    (shown,) = built(*policies, samples=samples)["policies"]
    return shown


def test_quota_is_sidecars_word_before_statuss():
    raw = paged.policy("search", quota={"used": 3, "limit": 10})
    assert only(raw)["quota"] | {"resetAt": ""} == {
        "used": 3,
        "limit": 10,
        "share": 0.3,
        "resetAt": "",
        "live": False,
        "mode": "Enforce",
        "limits": [],
    }
    samples = [
        series("aos_embedding_daily_calls", 7),
        series("aos_embedding_daily_calls", 8),
        series("aos_embedding_daily_quota", 16),
    ]
    assert only(raw, samples=samples)["quota"] | {"resetAt": ""} == {
        "used": 8,
        "limit": 16,
        "share": 0.5,
        "resetAt": "",
        "live": True,
        "mode": "Enforce",
        "limits": [],
    }


def limits(**more):
    entry = {"period": "month", "unit": "cost", "limit": "25.00", "used": "24.10"}
    other = {"period": "day", "unit": "requests", "limit": 10, "used": 3}
    return {"used": 3, "limit": 10, "limits": [other, {**entry, **more}]}


def test_limit_of_month_that_is_nearly_used_is_task():
    shown = only(paged.policy("search", quota=limits()))
    assert shown["quota"]["limits"] == [
        {"name": "monthly.cost", "shown": "24.10/25.00 USD", "share": 0.964}
    ]
    (task,) = [it for it in shown["tasks"] if it["type"] == "Quota"]
    assert task["state"] == "warn"
    assert "spec.quota.monthly.cost" in task["do"]


@pytest.mark.parametrize(("mode", "state"), [("Enforce", "bad"), ("Observe", "warn")])
def test_used_up_limit_is_bad_unless_it_is_observed(mode, state):
    quota = {**limits(used="25.00"), "mode": mode}
    (task,) = [
        it for it in only(paged.policy("search", quota=quota))["tasks"] if it["type"] == "Quota"
    ]
    assert task["state"] == state


def test_provider_of_class_is_shown_by_its_name():
    raw = paged.policy("search")
    raw["spec"]["providers"] = [{"ref": "openai"}, {"ref": "azure", "name": "a", "model": "m"}]
    assert only(raw)["providers"] == [
        {"name": "openai", "type": "ClusterEmbeddingProvider", "model": "openai"},
        {"name": "a", "type": "ClusterEmbeddingProvider", "model": "m"},
    ]


def test_unlimited_quota_has_no_share():
    samples = [
        series("aos_embedding_daily_calls", 7),
        series("aos_embedding_daily_quota", float("inf")),
    ]
    shown = only(paged.policy("search"), samples=samples)["quota"]
    assert (shown["limit"], shown["share"]) == (None, None)


@pytest.mark.parametrize(
    ("used", "limit", "state"),
    [(79, 100, None), (80, 100, "warn"), (100, 100, "bad"), (0, 0, "bad")],
)
def test_quota_near_its_end_is_task(used, limit, state):
    conditions = [paged.condition("Accepted", "True", "Accepted", "Fine.")]
    raw = paged.policy("search", conditions=conditions, quota={"used": used, "limit": limit})
    states = [it["state"] for it in only(raw)["tasks"]]
    assert states == ([] if state is None else [state])


def test_hit_rate_is_by_layer_of_all_texts():
    samples = [
        series("aos_embedding_cache_hits_total", 6, layer="memory"),
        series("aos_embedding_cache_hits_total", 2, layer="redis"),
        series("aos_embedding_cache_misses_total", 2),
        series("aos_embedding_cache_misses_total", 90, policy="other"),
    ]
    assert only(paged.policy("search"), samples=samples)["cache"] == {
        "texts": 10,
        "memory": 0.6,
        "redis": 0.2,
    }


def test_absent_count_is_told_apart_from_zero():
    shown = only(paged.policy("search"))
    assert (shown["cache"], shown["failovers"], shown["cost"]) == (None, None, None)
    shown = only(
        paged.policy("search"), samples=[series("aos_embedding_failovers_total", 0, provider="v")]
    )
    assert shown["failovers"] == 0


def test_open_breakers_are_named():
    samples = [
        series("aos_embedding_breaker_open", 1, provider="openai"),
        series("aos_embedding_breaker_open", 0, provider="voyage"),
    ]
    assert only(paged.policy("search"), samples=samples)["breakers"] == ["openai"]


@pytest.mark.parametrize(
    ("conditions", "word"),
    [
        ([], "not known"),
        ([("MonitoringApplied", "True")], "written"),
        ([("MonitoringApplied", "True"), ("RulesLoaded", "True")], "loaded"),
        ([("MonitoringApplied", "True"), ("RulesLoaded", "False")], "not loaded"),
        ([("MonitoringApplied", "True"), ("RulesLoaded", "Unknown")], "written"),
    ],
)
def test_rules_are_loaded_only_where_prometheus_says_so(conditions, word):
    made = [paged.condition(kind, told, "Reason", "Message.") for kind, told in conditions]
    assert only(paged.policy("search", conditions=made))["rules"]["word"] == word


def test_policy_without_status_says_that_no_operator_has_looked():
    shown = only(paged.policy("search"))
    assert shown["ready"]["state"] == "unknown"
    (task,) = shown["tasks"]
    assert "kubectl get pods" in task["do"]


def test_gravest_task_comes_first_and_sum_counts_pods():
    conditions = [
        paged.condition("ConfigInForce", "Unknown", "SidecarsSilent", "Silent."),
        paged.condition("PodsCovered", "False", "PodsMissing", "One is missing."),
        paged.condition("QuotaExact", "False", "NoSharedStore", "Each pod counts alone."),
    ]
    raw = paged.policy(
        "search", conditions=conditions, pods={"matching": 3, "covered": 2, "missing": ["p"]}
    )
    found = built(raw)
    assert [it["type"] for it in found["policies"][0]["tasks"]] == ["PodsCovered", "ConfigInForce"]
    assert found["summary"] | {"hitRate": None} == {
        "policies": 1,
        "ready": 0,
        "pods": 3,
        "uncovered": 1,
        "hitRate": None,
        "calls": 0,
    }


@pytest.mark.parametrize("kind", sorted(CONDITIONS - {"Ready"}))
def test_each_condition_has_sentence_that_says_what_to_do(kind):
    wrong = "True" if kind in conditions.AMISS else "False"
    found = paged.condition(kind, wrong, "SomeReason", "Something is wrong.")
    assert advice.state(found) == "bad"
    assert advice.sentence(found).endswith(".")
    assert "docs/install.md for this condition" not in advice.sentence(found)


def test_well_condition_asks_for_nothing():
    found = paged.condition(secret_status.CONDITION, "True", "Synced", "All are there.")
    assert advice.sentence(found) == ""
    assert advice.state(paged.condition("KeyRefused", "False", "NotRefused", "Fine.")) == "good"
