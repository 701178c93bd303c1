"""The alerts of a policy, judged by Prometheus' own promtool."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from dev import cluster
from embedding_contract import built_in_alerts, metrics, names, prices
from embedding_operator.policy import crd_schema, policy
from embedding_operator.render import costs, monitoring

ROOT = Path(__file__).parents[4]
LABELS = 'namespace="shop", policy="search", pod="a"'
OTHER_PODS = 'namespace="shop", policy="search", pod="b"'
OTHER_POLICY = 'namespace="shop", policy="other", pod="c"'


OPERATOR_FILE = ROOT / "charts/embedding-operator/files/operator-alerts.yaml"
PRICED = {"costHigh": {"threshold": "25.00"}}


def parsed(providers=None, **alerts):
    spec = yaml.safe_load((ROOT / "tests/contract/cases/good/everything.yaml").read_text())["spec"]
    spec["alerts"] = {"enabled": True, "rules": PRICED, **alerts}
    spec["providers"] = providers or spec["providers"]
    metadata = {"namespace": "shop", "name": "search", "uid": "1"}
    return policy.parse({"metadata": metadata, "spec": spec})


def rule(**alerts):
    return monitoring.prometheus_rule(parsed(**alerts))


def rules(**alerts):
    group, _ = rule(**alerts)["spec"]["groups"]
    return {entry["alert"]: entry for entry in group["rules"]}


def all_groups():
    """Those of a policy, and those about the operator."""
    return {
        "groups": rule()["spec"]["groups"] + yaml.safe_load(OPERATOR_FILE.read_text())["groups"]
    }


@pytest.fixture(scope="module")
def promtool():
    return str(cluster.artifact("promtool"))


def fires(promtool, folder, series, *, alert, minutes):
    """The labels with which an alert fires after some minutes of these series."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(all_groups()))
    expected = [{"exp_labels": {"severity": "never"}}]
    question = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series],
                # What cannot be makes promtool tell what is.
                "alert_rule_test": [
                    {"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": expected}
                ],
            }
        ],
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(question))
    done = subprocess.run(
        [promtool, "test", "rules", str(folder / "test.yaml")],
        check=False,
        capture_output=True,
        text=True,
    )
    told = done.stdout + done.stderr
    assert "exp:" in told, told  # and nothing else that it failed by, as a series it cannot read
    got = told.partition("got:")[2]
    return [
        dict(re.findall(r'(\w+)="([^"]*)"', line)) for line in re.findall(r"Labels:\{.*\}", got)
    ]


def calls(outcome, values, labels=LABELS, provider="openai"):
    name = "aos_embedding_api_calls_total"
    return (f'{name}{{{labels}, provider="{provider}", outcome="{outcome}"}}', values)


def key_refused(values, labels=LABELS):
    return (f'aos_embedding_key_refused{{{labels}, provider="openai"}}', values)


QUOTA = f"aos_embedding_daily_quota{{{LABELS}}}"
UNLIMITED = "Inf " * 10
DAY = f"aos_embedding_daily_calls{{{LABELS}}}"
REFUSED = f"aos_embedding_quota_exhausted_total{{{LABELS}}}"
INFO = f'aos_embedding_policy_info{{{LABELS}, document="'
REJECTED = f"aos_embedding_policy_rejected{{{LABELS}}}"

REDIS = "aos_embedding_redis_up"
CODES = "aos_embedding_requests_total"


def nulls(values, index="docs"):
    """Of a search pod, which tells it when no worker runs, too."""
    return (f'aos_vector_index_null_count{{{LABELS}, index="{index}"}}', values)


def progress(values, index="docs"):
    return (f'aos_memory_backfill_progress_total{{{LABELS}, index="{index}"}}', values)


HITS = f'aos_embedding_cache_hits_total{{{LABELS}, layer="memory"}}'
MISSES = f"aos_embedding_cache_misses_total{{{LABELS}}}"
UNCOVERED = "embedding_operator_pods_uncovered"
QUEUE = "embedding_operator_queue_depth"
RECONCILES = 'embedding_operator_reconciles_total{result="ok"}'


def answered(code, values, labels=LABELS):
    return (f'{CODES}{{{labels}, code="{code}"}}', values)


def tokens(values, labels=LABELS, model="text-embedding-3-large"):
    name = "aos_embedding_tokens_total"
    return (f'{name}{{{labels}, provider="openai", model="{model}"}}', values)


def took(bound, values, labels=LABELS):
    name = "aos_embedding_api_latency_seconds_bucket"
    return (f'{name}{{{labels}, provider="openai", le="{bound}"}}', values)


def failovers(values, labels=LABELS):
    return (f'aos_embedding_failovers_total{{{labels}, provider="voyage"}}', values)


def redis_up(values, labels=LABELS, store="cache"):
    return (f'{REDIS}{{{labels}, store="{store}"}}', values)


def fallbacks(values, labels=LABELS):
    return (f'aos_vector_fallback_total{{{labels}, reason="provider"}}', values)


def of_limit(what, period, unit, values, labels=LABELS):
    return (f'aos_embedding_quota_{what}{{{labels}, period="{period}", unit="{unit}"}}', values)


def retires(values, labels=LABELS):
    name = "embedding_operator_model_retires_timestamp_seconds"
    return (f'{name}{{{labels}, provider="voyage", model="voyage-3.5"}}', values)


DAYS_50, DAYS_90 = 50 * 86_400, 90 * 86_400

FIRING = {
    "most of a month's money is spent": (
        "EmbeddingQuotaNearlyExhausted",
        [of_limit("limit", "month", "cost", "25x9"), of_limit("used", "month", "cost", "24.1x9")],
        7,
    ),
    "newer sidecars tell of the day's calls twice": (
        "EmbeddingQuotaNearlyExhausted",
        [
            (QUOTA, "10x9"),
            (DAY, "9x9"),
            of_limit("limit", "day", "requests", "10x9"),
            of_limit("used", "day", "requests", "9x9"),
        ],
        7,
    ),
    "a month's tokens are used up": (
        "EmbeddingQuotaExhausted",
        [
            (QUOTA, "10x9"),
            (DAY, "1x9"),
            of_limit("limit", "month", "tokens", "500x9"),
            of_limit("used", "month", "tokens", "500x9", OTHER_PODS),
            of_limit("used", "month", "tokens", "490x9"),
            of_limit("limit", "day", "requests", "10x9"),
            of_limit("used", "day", "requests", "1x9"),
        ],
        3,
    ),
    "a day's money will not last": (
        "EmbeddingQuotaWillNotLast",
        [of_limit("limit", "day", "cost", "10x60"), of_limit("used", "day", "cost", "0+0.01x60")],
        45,
    ),
    "a month's money will not last": (
        "EmbeddingQuotaWillNotLast",
        [
            of_limit("limit", "month", "cost", "400x60"),
            of_limit("used", "month", "cost", "0+0.01x60"),
        ],
        45,
    ),
    "a model retires in 50 days": ("EmbeddingModelRetires", [retires(f"{DAYS_50}x20")], 15),
    "a model has retired": ("EmbeddingModelRetires", [retires("60x20")], 15),
    "nine of ten calls are made": (
        "EmbeddingQuotaNearlyExhausted",
        [(QUOTA, "10x9"), (DAY, "9x9")],
        7,
    ),
    "calls come faster than the day lasts": (
        "EmbeddingQuotaWillNotLast",
        [(QUOTA, "10000x60"), (DAY, "0+10x60")],
        30,
    ),
    "a day costs more than its threshold": (
        "EmbeddingCostHigh",
        [tokens("0+50000000x60"), tokens("0+50000000x60", OTHER_PODS)],
        40,
    ),
    "a backup answers for half an hour": ("EmbeddingFailedOver", [failovers("0+5x60")], 45),
    "a tenth of the requests is answered 503": (
        "EmbeddingErrorRateHigh",
        [answered(200, "0+90x20"), answered(503, "0+10x20")],
        15,
    ),
    "1 call in 10 takes 8 s": (
        "EmbeddingLatencyHigh",
        [took("5.12", "0+90x30"), took("10.24", "0+100x30"), took("+Inf", "0+100x30")],
        20,
    ),
    "the hits of an hour stop": (
        "EmbeddingHitRateCollapsed",
        [(HITS, "0+90x60 5400x60"), (MISSES, "0+10x60 600+100x60")],
        85,
    ),
    "one pod cannot use the quota's Redis": (
        "EmbeddingRedisAway",
        [redis_up("1x9"), redis_up("0x9", OTHER_PODS, "quota")],
        4,
    ),
    "a pod has no sidecar": (
        "EmbeddingPodsUncovered",
        [(f'{UNCOVERED}{{namespace="shop", policy="search"}}', "1x20")],
        15,
    ),
    "searches fall back": ("EmbeddingSearchFallingBack", [fallbacks("0+3x20")], 15),
    "rows wait and nothing moves": (
        "EmbeddingBackfillStalled",
        [nulls("40x60"), progress("7x60")],
        50,
    ),
    "rows wait and no worker runs": ("EmbeddingBackfillStalled", [nulls("40x60")], 40),
    "rows wait since their worker ended": (
        "EmbeddingBackfillStalled",
        [nulls("40x60"), progress("0+7x10 stale")],
        55,
    ),
    "rows of one index wait while another's are worked on": (
        "EmbeddingBackfillStalled",
        [nulls("40x60"), nulls("40x60", "news"), progress("0+7x60", "news")],
        40,
    ),
    "policies are not heard of": (
        "EmbeddingOperatorWatchEnded",
        [
            ('embedding_operator_watch_up{kind="pods"}', "1x9"),
            ('embedding_operator_watch_up{kind="embeddingpolicies"}', "0x9"),
        ],
        4,
    ),
    "a watch is silent": (
        "EmbeddingOperatorDeaf",
        [
            ('embedding_operator_watch_silent_seconds{kind="pods"}', "0+60x9"),
            ('embedding_operator_watch_silent_seconds{kind="namespaces"}', "30x9"),
        ],
        6,
    ),
    "two policies miss pods": (
        "EmbeddingOperatorPodsMissed",
        [
            (f'{UNCOVERED}{{namespace="shop", policy="search"}}', "1x30"),
            (f'{UNCOVERED}{{namespace="shop", policy="other"}}', "2x30"),
        ],
        20,
    ),
    "a definition lacks fields": (
        "EmbeddingOperatorDefinitionOutdated",
        [
            ('embedding_operator_definition_missing_fields{definition="d",pod="a"}', "3x30"),
            ('embedding_operator_definition_missing_fields{definition="d",pod="b"}', "3x30"),
        ],
        20,
    ),
    "a reconcile hangs": (
        "EmbeddingOperatorReconcilesStuck",
        [("embedding_operator_oldest_reconcile_seconds", "0+60x20")],
        15,
    ),
    "policies wait and no reconcile ends": (
        "EmbeddingOperatorReconcilesStuck",
        [(QUEUE, "5x40"), (RECONCILES, "7x40")],
        30,
    ),
    "the quota is used up": ("EmbeddingQuotaExhausted", [(QUOTA, "10x9"), (DAY, "10x9")], 3),
    "dead pods hold the rest, and callers are refused": (
        "EmbeddingQuotaExhausted",
        [(QUOTA, "10x9"), (DAY, "7x9"), (REFUSED, "0 0+1x8")],
        4,
    ),
    "the day's tokens are used up in one of the pods": (
        "EmbeddingQuotaExhausted",
        [
            (QUOTA, UNLIMITED),
            (REFUSED, "0x9"),
            (f"aos_embedding_quota_exhausted_total{{{OTHER_PODS}}}", "0 0+1x8"),
        ],
        4,
    ),
    "every call fails": (
        "EmbeddingProviderFailing",
        [calls("ok", "5x19"), calls("server_error", "0+10x19")],
        15,
    ),
    "most calls of all pods fail": (
        "EmbeddingProviderFailing",
        [calls("ok", "0+10x19"), calls("timeout", "0+20x19", OTHER_PODS)],
        15,
    ),
    "the key is refused": (
        "EmbeddingProviderFailing",
        [calls("key_refused", "0+1x19")],
        15,
    ),
    "a new key is refused in one pod, and the previous one goes on": (
        "EmbeddingKeyRefused",
        [calls("ok", "0+10x9"), key_refused("1x9"), key_refused("0x9", OTHER_PODS)],
        3,
    ),
    "a pod has no document": ("EmbeddingConfigNotInForce", [(f'{INFO}"}}', "1x9")], 7),
    "a pod refuses the newest document": (
        "EmbeddingConfigNotInForce",
        [(f'{INFO}abc"}}', "1x9"), (REJECTED, "1x9")],
        7,
    ),
}

QUIET = {
    "half of a month's money is spent": (
        "EmbeddingQuotaNearlyExhausted",
        [of_limit("limit", "month", "cost", "25x9"), of_limit("used", "month", "cost", "12.5x9")],
        7,
    ),
    "all of a month's money is spent, which another alert says": (
        "EmbeddingQuotaNearlyExhausted",
        [of_limit("limit", "month", "cost", "25x9"), of_limit("used", "month", "cost", "25x9")],
        7,
    ),
    "a limit of money is 0 on purpose": (
        "EmbeddingQuotaExhausted",
        [of_limit("limit", "day", "cost", "0x9"), of_limit("used", "day", "cost", "0x9")],
        9,
    ),
    "another policy's month is used up": (
        "EmbeddingQuotaExhausted",
        [
            of_limit("limit", "month", "cost", "5x9", OTHER_POLICY),
            of_limit("used", "month", "cost", "5x9", OTHER_POLICY),
        ],
        9,
    ),
    "a month's money lasts": (
        "EmbeddingQuotaWillNotLast",
        [
            of_limit("limit", "month", "cost", "500x60"),
            of_limit("used", "month", "cost", "0+0.01x60"),
        ],
        45,
    ),
    "a model retires in 90 days": ("EmbeddingModelRetires", [retires(f"{DAYS_90}x20")], 15),
    "another policy's model retires": (
        "EmbeddingModelRetires",
        [retires(f"{DAYS_50}x20", OTHER_POLICY)],
        15,
    ),
    "half of the calls are made": (
        "EmbeddingQuotaNearlyExhausted",
        [(QUOTA, "10x20"), (DAY, "5x20")],
        15,
    ),
    "all calls are made, which another alert says": (
        "EmbeddingQuotaNearlyExhausted",
        [(QUOTA, "10x20"), (DAY, "10x20")],
        15,
    ),
    "the pace lasts the day": (
        "EmbeddingQuotaWillNotLast",
        [(QUOTA, "10000x60"), (DAY, "0+1x60")],
        30,
    ),
    "the pace is high and there is no limit": (
        "EmbeddingQuotaWillNotLast",
        [(QUOTA, "Inf " * 40), (DAY, "0+10x40")],
        30,
    ),
    "midnight sets the count back": (
        "EmbeddingQuotaWillNotLast",
        [(QUOTA, "10000x60"), (DAY, "9000x20 0x40")],
        50,
    ),
    "a day costs less than its threshold": ("EmbeddingCostHigh", [tokens("0+1000000x60")], 40),
    "tokens of an unpriced model are bought": (
        "EmbeddingCostHigh",
        [tokens("0+900000000x60", model="unknown")],
        40,
    ),
    "a backup answered for some minutes": (
        "EmbeddingFailedOver",
        [failovers("0+5x10 50x50")],
        45,
    ),
    "a request in a hundred is answered 503": (
        "EmbeddingErrorRateHigh",
        [answered(200, "0+99x20"), answered(503, "0+1x20")],
        15,
    ),
    "callers are refused with 429": (
        "EmbeddingErrorRateHigh",
        [answered(200, "0+1x20"), answered(429, "0+99x20")],
        15,
    ),
    "calls take 4 s": (
        "EmbeddingLatencyHigh",
        [took("2.56", "0+1x30"), took("4", "0+100x30"), took("+Inf", "0+100x30")],
        20,
    ),
    "the hit rate is as it was": (
        "EmbeddingHitRateCollapsed",
        [(HITS, "0+90x90"), (MISSES, "0+10x90")],
        85,
    ),
    "there never were hits": (
        "EmbeddingHitRateCollapsed",
        [(HITS, "0x90"), (MISSES, "0+10x90")],
        85,
    ),
    "nobody asks any more": (
        "EmbeddingHitRateCollapsed",
        [(HITS, "0+90x60 5400x60"), (MISSES, "0+10x60 600x60")],
        85,
    ),
    "Redis answers": ("EmbeddingRedisAway", [redis_up("1x9"), redis_up("1x9", store="quota")], 5),
    "another policy's Redis is away": ("EmbeddingRedisAway", [redis_up("0x9", OTHER_POLICY)], 5),
    "another policy's pod has no sidecar": (
        "EmbeddingPodsUncovered",
        [(f'{UNCOVERED}{{namespace="shop", policy="other"}}', "1x20")],
        15,
    ),
    "a pod was uncovered for a minute": (
        "EmbeddingPodsUncovered",
        [(f'{UNCOVERED}{{namespace="shop", policy="search"}}', "1 1 stale")],
        15,
    ),
    "searches fell back long ago": ("EmbeddingSearchFallingBack", [fallbacks("50x20")], 15),
    "rows wait and are worked on": (
        "EmbeddingBackfillStalled",
        [nulls("40x60"), progress("0+7x60")],
        50,
    ),
    "no row waits": ("EmbeddingBackfillStalled", [nulls("0x60"), progress("7x60")], 50),
    "no pod of the index has counted": ("EmbeddingBackfillStalled", [nulls("NaN " * 60)], 50),
    "no row waits and no worker runs": ("EmbeddingBackfillStalled", [nulls("0x60")], 50),
    "every kind is heard of": (
        "EmbeddingOperatorWatchEnded",
        [('embedding_operator_watch_up{kind="pods"}', "1x9")],
        5,
    ),
    "every watch brings bookmarks": (
        "EmbeddingOperatorDeaf",
        [('embedding_operator_watch_silent_seconds{kind="pods"}', "0 60 120 179 0 60 120 179 0")],
        8,
    ),
    "every pod has its sidecar": (
        "EmbeddingOperatorPodsMissed",
        [(f'{UNCOVERED}{{namespace="shop", policy="search"}}', "1 1 stale")],
        20,
    ),
    "a definition was older until the chart brought its own": (
        "EmbeddingOperatorDefinitionOutdated",
        [('embedding_operator_definition_missing_fields{definition="d"}', "3x10 0x20")],
        20,
    ),
    "policies wait and reconciles end": (
        "EmbeddingOperatorReconcilesStuck",
        [
            (QUEUE, "5x40"),
            (RECONCILES, "0+7x40"),
            ("embedding_operator_oldest_reconcile_seconds", "3x40"),
        ],
        30,
    ),
    "the quota is nearly used up": ("EmbeddingQuotaExhausted", [(QUOTA, "10x9"), (DAY, "9x9")], 9),
    "there is no limit": ("EmbeddingQuotaExhausted", [(QUOTA, UNLIMITED), (DAY, "1000x9")], 9),
    "the policy is closed on purpose": (
        "EmbeddingQuotaExhausted",
        [(QUOTA, "0x9"), (DAY, "0x9"), (REFUSED, "0+5x9")],
        9,
    ),
    "callers were refused yesterday": (
        "EmbeddingQuotaExhausted",
        [(QUOTA, "10x9"), (DAY, "3x9"), (REFUSED, "50x9")],
        9,
    ),
    "another policy's quota is used up": (
        "EmbeddingQuotaExhausted",
        [
            (f"aos_embedding_daily_quota{{{OTHER_POLICY}}}", "10x9"),
            (f"aos_embedding_daily_calls{{{OTHER_POLICY}}}", "10x9"),
            (f"aos_embedding_quota_exhausted_total{{{OTHER_POLICY}}}", "0+5x9"),
        ],
        9,
    ),
    "a call fails now and then": (
        "EmbeddingProviderFailing",
        [calls("ok", "0+10x19"), calls("server_error", "0+5x19")],
        19,
    ),
    "callers send what providers refuse, or leave": (
        "EmbeddingProviderFailing",
        [calls("rejected", "0+10x19"), calls("cancelled", "0+10x19")],
        19,
    ),
    "another policy's provider fails": (
        "EmbeddingProviderFailing",
        [calls("server_error", "0+10x19", OTHER_POLICY)],
        19,
    ),
    "a provider failed for a minute": (
        "EmbeddingProviderFailing",
        [calls("ok", "0+10x19"), calls("server_error", "0 0 30x17")],
        19,
    ),
    "a good key took the place of the refused one": (
        "EmbeddingKeyRefused",
        [key_refused("1 1 0x9")],
        5,
    ),
    "another policy's key is refused": (
        "EmbeddingKeyRefused",
        [key_refused("0x9"), key_refused("1x9", OTHER_POLICY)],
        5,
    ),
    "a pod starts": (
        "EmbeddingConfigNotInForce",
        [(f'{INFO}"}}', "1 1 stale"), (f'{INFO}abc"}}', "_ _ 1x9")],
        9,
    ),
    "all is well": (
        "EmbeddingConfigNotInForce",
        [(f'{INFO}abc"}}', "1x9"), (REJECTED, "0x9")],
        9,
    ),
}


@pytest.mark.integration
@pytest.mark.parametrize("when", FIRING)
def test_alert_fires_when(promtool, tmp_path, when):
    alert, series, minutes = FIRING[when]
    (labels,) = fires(promtool, tmp_path, series, alert=alert, minutes=minutes)
    (row,) = [
        it for it in (*built_in_alerts.BUILT_IN, *built_in_alerts.OPERATOR) if it.name == alert
    ]
    assert labels["severity"] == row.severity
    if row in built_in_alerts.BUILT_IN:
        assert labels["namespace"] == "shop"
        assert labels["policy"] == "search"


@pytest.mark.integration
@pytest.mark.parametrize("when", QUIET)
def test_alert_is_quiet_when(promtool, tmp_path, when):
    alert, series, minutes = QUIET[when]
    assert fires(promtool, tmp_path, series, alert=alert, minutes=minutes) == []


@pytest.mark.integration
def test_promtool_finds_nothing_wrong(promtool, tmp_path):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(all_groups()))
    done = subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", str(tmp_path / "rules.yaml")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_every_alert_fires_and_is_quiet_in_some_test():
    named = {alert.name for alert in (*built_in_alerts.BUILT_IN, *built_in_alerts.OPERATOR)}
    assert {alert for alert, _, _ in FIRING.values()} == named
    assert {alert for alert, _, _ in QUIET.values()} == named
    assert rules().keys() == {alert.name for alert in built_in_alerts.BUILT_IN}


@pytest.mark.parametrize("alert", rules())
def test_alert_asks_only_for_series_that_there_are(alert):
    known = {series for metric in metrics.CATALOGUE for series in metric.series}
    used = set(re.findall(r"\b(?:aos|embedding)_\w+", rules()[alert]["expr"]))
    assert used
    assert used <= known


@pytest.mark.parametrize("alert", rules())
def test_every_series_of_alert_is_of_this_policy(alert):
    expr = rules()[alert]["expr"]
    selectors = re.findall(r"(?:aos|embedding)_\w+(\{[^}]*\})?", expr)
    assert selectors
    for selector in selectors:
        assert 'namespace="shop"' in selector
        assert 'policy="search"' in selector


@pytest.mark.parametrize("alert", rules())
def test_alert_says_what_is_wrong_and_where_to_read_on(alert):
    entry = rules()[alert]
    assert entry["labels"]["severity"]
    assert entry["annotations"]["summary"]
    assert entry["annotations"]["description"]
    page = entry["annotations"]["runbook_url"].rpartition("/docs/runbooks/")[2]
    text = (ROOT / "docs" / "runbooks" / page).read_text(encoding="utf-8")
    assert text.startswith(f"# {alert}\n")


def test_severity_of_policy_takes_place_of_ours():
    made = rules(labels={"severity": "critical", "team": "search"})
    assert {entry["labels"]["severity"] for entry in made.values()} == {"critical"}
    assert {entry["labels"]["team"] for entry in made.values()} == {"search"}


def test_prometheus_may_select_by_labels_of_policy():
    labels = rule(labels={"release": "monitoring"})["metadata"]["labels"]
    assert labels["release"] == "monitoring"
    assert labels[names.LABEL_POLICY] == "search"


def test_severity_outside_list_is_left_out_and_said():
    made = monitoring.of(parsed(labels={"severity": "page"}))
    severities = {it["labels"]["severity"] for it in made.rule["spec"]["groups"][0]["rules"]}
    assert severities <= set(built_in_alerts.SEVERITIES)
    (problem,) = made.problems
    assert problem.reason == "SeverityUnknown"
    assert "page" in problem.message


def test_rule_of_policy_takes_place_of_table():
    chosen = {"latencyHigh": {"threshold": 2, "for": "90s", "severity": "critical"}}
    entry = rules(rules=chosen)["EmbeddingLatencyHigh"]
    assert entry["expr"].endswith("> 2")
    assert "[90s]" in entry["expr"]
    assert entry["for"] == "90s"
    assert entry["labels"]["severity"] == "critical"


@pytest.mark.parametrize(("for_", "window"), [("0s", "1m"), ("2m", "2m"), ("3h", "5m")])
def test_rates_are_taken_over_for_within_bounds(for_, window):
    entry = rules(rules={"errorRateHigh": {"for": for_}})["EmbeddingErrorRateHigh"]
    assert f"[{window}]" in entry["expr"]


@pytest.mark.parametrize("alert", built_in_alerts.BUILT_IN, ids=lambda it: it.key)
def test_alert_that_is_switched_off_is_not_rendered(alert):
    chosen = PRICED | {alert.key: {**PRICED.get(alert.key, {}), "enabled": False}}
    assert rules().keys() - rules(rules=chosen).keys() == {alert.name}


def test_cost_is_not_watched_without_threshold():
    assert "EmbeddingCostHigh" not in rules(rules={})


def test_cost_threshold_without_any_price_is_said():
    local = {"name": "e5", "type": "OpenAICompatible", "model": "e5", "baseURL": "http://e5:1/v1"}
    made = monitoring.of(parsed(providers=[local]))
    assert [problem.reason for problem in made.problems] == ["PriceUnknown"]
    names_ = {it.get("alert") for it in made.rule["spec"]["groups"][0]["rules"]}
    assert "EmbeddingCostHigh" not in names_
    records = [it["record"] for it in made.rule["spec"]["groups"][1]["rules"]]
    assert not [name for name in records if "cost" in name]
    assert len(records) == 6


def provider(**changed):
    key = {"secretKeyRef": {"name": "s", "key": "k"}}
    made = {"name": "p", "type": "OpenAI", "model": "text-embedding-3-small", "apiKey": key}
    return made | changed


def test_price_of_policy_comes_before_list():
    made = parsed(providers=[provider(pricePerMillionTokens="0.5")])
    assert costs.of(made) == {("openai", "text-embedding-3-small"): "0.5"}


def test_listed_price_is_of_vendors_own_address():
    listed = prices.PRICES["openai/text-embedding-3-small"].usd_per_million_tokens
    assert costs.of(parsed(providers=[provider()])) == {
        ("openai", "text-embedding-3-small"): listed
    }
    assert costs.of(parsed(providers=[provider(baseURL="https://proxy.example/v1")])) == {}


def test_higher_price_counts_where_two_providers_share_series():
    two = [provider(pricePerMillionTokens="3"), provider(name="q", pricePerMillionTokens="1")]
    assert list(costs.of(parsed(providers=two)).values()) == ["3"]


def test_model_with_quotes_is_quoted():
    made = parsed(providers=[provider(model='a"}b\\', pricePerMillionTokens="1")])
    told = costs.expression(made, tokens="x{@matchers@}")
    assert told is not None
    assert r'model="a\"}b\\"' in told


def test_recorded_by_policy_and_by_workload():
    records = [it["record"] for it in rule()["spec"]["groups"][1]["rules"]]
    assert records == [
        f"{level}:aos_embedding_{what}:rate5m"
        for level in ("namespace_policy", "namespace_policy_workload")
        for what in ("api_calls", "tokens", "cost")
    ] + [
        "namespace_policy_period_unit:aos_embedding_quota_used:ratio",
        "namespace_policy_period_unit:aos_embedding_quota_left:seconds",
    ]


def test_policy_has_16_alerts_at_most():
    assert len(built_in_alerts.BUILT_IN) <= built_in_alerts.MAX_PER_POLICY


def test_prices_are_decimals_with_source():
    for price in prices.PRICES.values():
        assert re.fullmatch(r"\d+\.\d+", price.usd_per_million_tokens)
        assert price.source.startswith("https://")
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", price.date)


def crd_alerts():
    schema = crd_schema.load()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema["properties"]["spec"]["properties"]["alerts"]["properties"]


def test_resource_has_rule_for_every_built_in_alert():
    assert list(crd_alerts()["rules"]["properties"]) == [it.key for it in built_in_alerts.BUILT_IN]


@pytest.mark.parametrize("alert", built_in_alerts.BUILT_IN, ids=lambda it: it.key)
def test_resource_bounds_threshold_as_table_does(alert):
    fields = crd_alerts()["rules"]["properties"][alert.key]
    assert alert.name in fields["description"]
    assert fields["properties"]["severity"]["enum"] == list(built_in_alerts.SEVERITIES)
    field = fields["properties"].get("threshold")
    threshold = alert.threshold
    if threshold is None:
        assert field is None
    elif threshold.default is None:
        assert field["type"] == "string"
    else:
        assert (field["minimum"], field["maximum"]) == (threshold.low, threshold.high)
        assert (
            f"{threshold.meaning.removeprefix('that ')}; {threshold.default} if left out"
            in (field["description"])
        )


RUNBOOK_PARTS = ("**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Mitigation.**")


@pytest.mark.parametrize(
    "alert", [*built_in_alerts.BUILT_IN, *built_in_alerts.OPERATOR], ids=lambda it: it.key
)
def test_runbook_has_meaning_impact_diagnosis_and_mitigation(alert):
    text = (ROOT / "docs" / "runbooks" / f"{alert.name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert.name}\n")
    places = [text.index(part) for part in RUNBOOK_PARTS]
    assert places == sorted(places)
    commands = re.findall(r"^    \S", text, re.MULTILINE)
    assert len(commands) >= 3
    assert alert.runbook_url.endswith(f"/docs/runbooks/{alert.name}.md")


def test_no_runbook_is_of_no_alert():
    pages = {page.stem for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert pages == {alert.name for alert in (*built_in_alerts.BUILT_IN, *built_in_alerts.OPERATOR)}


@pytest.mark.integration
def test_share_of_limit_and_its_time_are_recorded(promtool, tmp_path):
    """At 0.01 dollars a minute, the 24.5 that are left of 25 last 2,450 minutes."""
    limit = '{namespace="shop", period="month", policy="search", unit="cost"}'
    level = "namespace_policy_period_unit:aos_embedding_quota"
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(all_groups()))
    question = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": values}
                    for name, values in (
                        of_limit("limit", "month", "cost", "25x60"),
                        of_limit("used", "month", "cost", "0+0.01x60"),
                    )
                ],
                "promql_expr_test": [
                    {
                        "expr": f"round({level}_used:ratio, 0.001)",
                        "eval_time": "50m",
                        "exp_samples": [{"labels": limit, "value": 0.02}],
                    },
                    {
                        "expr": f"round({level}_left:seconds / 60)",
                        "eval_time": "50m",
                        "exp_samples": [{"labels": limit, "value": 2450}],
                    },
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(question))
    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "test.yaml")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
