"""The alerts of a policy, judged by Prometheus' own promtool."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

import cluster
from embedding_contract import metrics, names
from embedding_operator import policy
from embedding_operator.render import monitoring

ROOT = Path(__file__).parents[3]
LABELS = 'namespace="shop", policy="search", pod="a"'
OTHER_PODS = 'namespace="shop", policy="search", pod="b"'
OTHER_POLICY = 'namespace="shop", policy="other", pod="c"'


def rule(**alerts):
    spec = yaml.safe_load((ROOT / "tests/contract/cases/good/everything.yaml").read_text())["spec"]
    spec["alerts"] = {"enabled": True, **alerts}
    metadata = {"namespace": "shop", "name": "search", "uid": "1"}
    return monitoring.prometheus_rule(policy.parse({"metadata": metadata, "spec": spec}))


def rules(**alerts):
    (group,) = rule(**alerts)["spec"]["groups"]
    return {entry["alert"]: entry for entry in group["rules"]}


@pytest.fixture(scope="module")
def promtool():
    return str(cluster.artifact("promtool"))


def fires(promtool, folder, series, *, alert, minutes):
    """The labels with which an alert fires after some minutes of these series."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(rule()["spec"]))
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

FIRING = {
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
def test_an_alert_fires_when(promtool, tmp_path, when):
    alert, series, minutes = FIRING[when]
    (labels,) = fires(promtool, tmp_path, series, alert=alert, minutes=minutes)
    assert labels["namespace"] == "shop"
    assert labels["policy"] == "search"
    assert labels["severity"] == "warning"


@pytest.mark.integration
@pytest.mark.parametrize("when", QUIET)
def test_an_alert_is_quiet_when(promtool, tmp_path, when):
    alert, series, minutes = QUIET[when]
    assert fires(promtool, tmp_path, series, alert=alert, minutes=minutes) == []


@pytest.mark.integration
def test_promtool_finds_nothing_wrong(promtool, tmp_path):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule()["spec"]))
    done = subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", str(tmp_path / "rules.yaml")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_every_alert_fires_and_is_quiet_in_some_test():
    made = rules().keys()
    assert {alert for alert, _, _ in FIRING.values()} == made
    assert {alert for alert, _, _ in QUIET.values()} == made


@pytest.mark.parametrize("alert", rules())
def test_an_alert_asks_only_for_series_that_there_are(alert):
    known = {series for metric in metrics.SIDECAR for series in metric.series}
    used = set(re.findall(r"\b(?:aos|embedding)_\w+", rules()[alert]["expr"]))
    assert used
    assert used <= known


@pytest.mark.parametrize("alert", rules())
def test_every_series_of_an_alert_is_of_this_policy(alert):
    expr = rules()[alert]["expr"]
    selectors = re.findall(r"(?:aos|embedding)_\w+(\{[^}]*\})?", expr)
    assert selectors
    for selector in selectors:
        assert 'namespace="shop"' in selector
        assert 'policy="search"' in selector


@pytest.mark.parametrize("alert", rules())
def test_an_alert_says_what_is_wrong_and_where_to_read_on(alert):
    entry = rules()[alert]
    assert entry["labels"]["severity"]
    assert entry["annotations"]["summary"]
    assert entry["annotations"]["description"]
    page = entry["annotations"]["runbook_url"].rpartition("/docs/runbooks/")[2]
    text = (ROOT / "docs" / "runbooks" / page).read_text(encoding="utf-8")
    assert text.startswith(f"# {alert}\n")


def test_a_severity_of_the_policy_takes_the_place_of_ours():
    made = rules(labels={"severity": "page", "team": "search"})
    assert {entry["labels"]["severity"] for entry in made.values()} == {"page"}
    assert {entry["labels"]["team"] for entry in made.values()} == {"search"}


def test_prometheus_may_select_by_the_labels_of_the_policy():
    labels = rule(labels={"release": "monitoring"})["metadata"]["labels"]
    assert labels["release"] == "monitoring"
    assert labels[names.LABEL_POLICY] == "search"
