"""The output of `kubectl embedding status`."""

from typing import Any

from embedding_operator.cli import summary
from tests.parts import policies


def seen(**status: Any) -> str:
    return summary.text({**policies.everything(), "status": status})


def test_policy_without_status_says_that_nobody_looked_at_it():
    raw = policies.everything()
    assert summary.text(raw).startswith("shop/search\n  no status yet")
    assert summary.text({**raw, "status": None}) == summary.text(raw)


CONDITION = {"type": "Ready", "status": "True", "reason": "Ready", "message": "All is well."}


def test_status_of_older_generation_says_so():
    old = seen(observedGeneration=2, conditions=[CONDITION])
    assert "older than the policy" in old
    assert "older than the policy" not in seen(observedGeneration=3, conditions=[CONDITION])


def test_everything_is_told_in_columns():
    said = seen(
        observedGeneration=3,
        conditions=[CONDITION, {**CONDITION, "type": "Accepted", "status": "Unknown"}],
        pods={"matching": 2, "covered": 1, "summary": "1/2", "missing": ["search-1 (hostNetwork)"]},
        quota={"summary": "7/1000", "used": 7, "resetAt": "2026-01-02T00:00:00Z"},
        secrets={"paths": [{"secret": "embedding-search", "path": "secret/shop/x", "version": 3}]},
    ).splitlines()
    for line in (
        "    Ready     True     Ready  All is well.",
        "    Accepted  Unknown  Ready  All is well.",
        "    matching  2",
        "    missing   search-1 (hostNetwork)",
        "    summary  7/1000",
    ):
        assert line in said
    assert [line.split() for line in said if "secret/shop/x" in line] == [
        ["embedding-search", "secret/shop/x", "version", "3"]
    ]


def test_each_limit_and_its_end_is_told():
    limit = {"period": "month", "unit": "cost", "limit": "25.00", "used": "24.1"}
    quota = {"summary": "7/1000", "mode": "Observe", "limits": [limit, {**limit, "resetAt": "x"}]}
    lines = [line.split() for line in seen(quota=quota).splitlines()]
    assert ["mode", "Observe"] in lines
    assert ["month.cost", "24.1/25.00"] in lines
    assert ["month.cost", "24.1/25.00", "until", "x"] in lines


def test_provider_of_class_is_told_by_its_class():
    raw = policies.everything()
    raw["spec"]["providers"] = [{"ref": "openai"}, {"ref": "azure", "name": "a", "model": "m"}]
    lines = [line.split() for line in summary.text(raw).splitlines()]
    assert ["openai", "class", "openai"] in lines
    assert ["a", "class", "azure", "m"] in lines


def test_synced_secret_is_named_before_anything_was_seen_of_it():
    raw = policies.everything()
    lines = [line.split() for line in summary.text(raw).splitlines()]
    assert ["app", "secret/shop/app"] in lines
    assert ["whole", "secret/shop/whole"] in lines


def test_only_what_is_in_object_is_told():
    said = seen(observedGeneration=3, conditions=[CONDITION])
    assert "quota" not in said
    assert "pods" not in said


def test_message_of_pod_cannot_steer_terminal():
    said = seen(conditions=[{**CONDITION, "message": "obeys \x1b[2J\x1b]0;x\x07"}])
    assert "obeys" in said
    assert all(line.isprintable() for line in said.splitlines())
