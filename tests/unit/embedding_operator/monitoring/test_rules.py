"""The rules that Prometheus lists, compared with the rendered ones."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.monitoring import rules
from embedding_operator.monitoring.answers import NotUnderstood
from embedding_operator.render import monitoring
from tests.parts import policies

UID = "0f2a7a5e-1111-4222-8333-444455556666"
OTHER_UID = "ffffffff-1111-4222-8333-444455556666"
RULE = monitoring.prometheus_rule(
    policies.parsed(alerts={"enabled": True, "labels": {"team": "a"}})
)
RULE["metadata"]["uid"] = UID
GROUP, *_ = rules.expected(RULE)
OURS = f"/etc/prometheus/rules/prometheus-main-rulefiles-0/shop-embedding-search-{UID}.yaml"


def listed(**more):
    """The group as Prometheus lists it."""
    group, *_ = copy.deepcopy(RULE["spec"]["groups"])
    seen = [
        {
            "state": "inactive",
            "name": it.get("alert") or it.get("record"),
            "query": it["expr"],
            "duration": rules.seconds(it.get("for", "0s")),
            "labels": it["labels"],
            "annotations": it["annotations"],
            "alerts": [],
            "health": "ok",
            "evaluationTime": 0.1,
            "type": "alerting",
        }
        for it in group["rules"]
    ]
    return {"name": group["name"], "file": OURS, "interval": 30, "rules": seen, **more}


def loaded(*groups, wanted=GROUP):
    body = json.dumps({"status": "success", "data": {"groups": list(groups)}}).encode()
    return rules.loaded(body, {wanted.name: wanted}).get(wanted.name)


def is_current(*groups):
    found = loaded(*groups)
    assert found is not None
    return found.is_current


def test_expression_is_listed_in_another_form():
    other = listed()
    other["rules"][0]["query"] = "up"
    before, after = loaded(listed()), loaded(other)
    assert before is not None
    assert after is not None
    assert before.queries != after.queries
    assert after.is_current


def test_group_as_it_was_rendered_is_current():
    assert is_current(listed()) is True


def test_group_that_is_not_listed_is_not_there():
    assert loaded() is None
    assert loaded(listed(name="another")) is None


@pytest.mark.parametrize("field", ["name", "duration", "labels", "annotations"])
def test_each_difference_is_older_form(field):
    older = listed()
    older["rules"][0][field] = {"name": "x", "duration": 1.0}.get(field, {"severity": "x"})
    assert is_current(older) is False


@pytest.mark.parametrize("change", [lambda it: it.pop(), lambda it: it.append(it[0])])
def test_group_with_missing_or_extra_rule_is_older_form(change):
    older = listed()
    change(older["rules"])
    assert is_current(older) is False


def test_labels_that_prometheus_adds_do_not_matter():
    added = listed()
    for rule in added["rules"]:
        rule["labels"] = {**rule["labels"], "namespace": "shop", "cluster": "eu"}
        rule["query"] = "up"  # formatted anew, with a matcher more
    assert is_current(added) is True


def test_group_made_from_another_object_is_not_ours():
    theirs = OURS.replace(UID, OTHER_UID).replace("shop-embedding", "shop-embedding-x")
    assert loaded(listed(file=theirs)) is None
    assert is_current(listed(file=theirs), listed()) is True


@pytest.mark.parametrize("file", ["/etc/prometheus/rules.yml", "embedding", ""])
def test_file_that_no_operator_wrote_may_hold_it(file):
    assert is_current(listed(file=file)) is True


def test_current_one_of_two_listed_groups_counts():
    older = listed(file="a.yaml", rules=[])
    assert is_current(older, listed()) is is_current(listed(), older) is True


def test_errors_are_in_prometheus_own_words_and_bounded():
    failing = listed()
    failing["rules"][0] |= {"health": "err", "lastError": "many-to-many\n\x1b[2J" + "x" * 9999}
    failing["rules"][1] |= {"health": "unknown"}
    found = loaded(failing)
    assert found is not None
    (error,) = found.errors
    assert error.startswith(f"{failing['rules'][0]['name']}: many-to-many ?[2Jxxx")
    assert len(error) < 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"data": {}}',
        b'{"data": {"groups": [1]}}',
        b'{"data": {"groups": [{"name": 1}]}}',
        b'{"data": {"groups": ' + b"[" * 100_000,
        b'{"data": {"groups": [{"name": "',
        b"\xff\xfe",
    ],
)
def test_body_that_is_no_answer_is_not_understood(body):
    with pytest.raises(NotUnderstood):
        rules.loaded(body, {GROUP.name: GROUP})


@given(st.binary())
def test_no_bytes_break_it(body):
    for read in (lambda it: rules.loaded(it, {GROUP.name: GROUP}), rules.up, rules.reloaded):
        with pytest.raises(NotUnderstood):
            read(body)


def test_no_groups_at_all_is_answer():
    assert rules.loaded(b'{"data":{"groups":null}}', {GROUP.name: GROUP}) == {}


def test_pods_are_up_by_policy():
    def sample(pod, value, **more):
        metric = {"namespace": "shop", "policy": "search", "pod": pod, **more}
        return {"metric": metric, "value": [1.5, value]}

    result = [sample("a", "1"), sample("b", "0"), sample("c", "1", policy="other")]
    body = json.dumps({"data": {"resultType": "vector", "result": result}}).encode()
    assert rules.up(body) == {
        ("shop", "search"): {"a": True, "b": False},
        ("shop", "other"): {"c": True},
    }


@pytest.mark.parametrize(
    ("text", "expected"), [("1m", 60), ("1h30m", 5400), ("0s", 0), ("1500ms", 1.5), ("2d", 172800)]
)
def test_durations_are_read_as_prometheus_writes_them(text, expected):
    assert rules.seconds(text) == expected


def test_refusal_is_in_prometheus_operators_words():
    """Written since 0.87 where the gate StatusForConfigurationResources is on."""
    accepted = {"type": "Accepted", "status": "True", "reason": ""}
    refused = {
        **accepted,
        "status": "False",
        "reason": "InvalidConfiguration",
        "message": "bad expr",
    }
    assert rules.refusal(RULE) is None
    assert rules.refusal({**RULE, "status": {"bindings": [{"conditions": [accepted]}]}}) is None
    both = [{"conditions": [accepted]}, {"conditions": [refused]}]
    assert rules.refusal({**RULE, "status": {"bindings": both}}) == "bad expr"
    assert rules.refusal({**RULE, "status": None}) is None
