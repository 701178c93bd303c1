"""Servers' answers as a condition: its reason and its message."""

import pytest

from embedding_operator.errors import Problem
from embedding_operator.monitoring import conditions, rules
from embedding_operator.monitoring.conditions import Alertmanager, Prometheus, Rules

NAMES = ("shop.embedding-a", "shop.embedding-b")
GROUPS = tuple(
    rules.Group(name=name, uid=None, label_names=frozenset(), fingerprint="f") for name in NAMES
)
WANTED = Rules(groups=GROUPS)
GOOD = rules.Loaded(is_current=True)
OLD = rules.Loaded(is_current=False)
ALL = dict.fromkeys(NAMES, GOOD)
AWAY = Problem("Unreachable", "b:9090 cannot be reached")
RULER = Problem("NoSuchAPI", "b:9090 answers /api/v1/query with 404")
NOT_SELECTED = Problem("NotSelected", "No Prometheus takes it: set the label release.")


def server(host="a:9090", **more):
    return Prometheus(host=host, **more)


@pytest.mark.parametrize(
    ("wanted", "servers", "expected"),
    [
        (Rules(), (), ("True", "NoRules")),
        (WANTED, (), ("Unknown", "NotConfigured")),
        (Rules(groups=GROUPS, not_selected=NOT_SELECTED), (), ("False", "NotSelected")),
        (WANTED, (server(),), ("Unknown", "NotAskedYet")),
        (WANTED, (server(groups=ALL),), ("True", "Loaded")),
        (WANTED, (server(groups={}),), ("False", "NotLoaded")),
        (WANTED, (server(groups={NAMES[0]: GOOD}),), ("False", "NotLoaded")),
        (WANTED, (server(groups={**ALL, NAMES[0]: OLD}),), ("False", "Outdated")),
        (WANTED, (server(groups={}, reloaded=False),), ("False", "ReloadFailed")),
        (WANTED, (server(groups_problem=AWAY),), ("Unknown", "Unreachable")),
        # One of several is enough; what one cannot say another may.
        (WANTED, (server(groups=ALL), server(groups_problem=AWAY)), ("True", "Loaded")),
        (WANTED, (server(groups=ALL), server(groups={})), ("True", "Loaded")),
        (
            WANTED,
            (server(groups={NAMES[0]: GOOD}), server(groups={NAMES[1]: GOOD})),
            ("True", "Loaded"),
        ),
        (WANTED, (server(groups={}), server(groups_problem=AWAY)), ("Unknown", "Unreachable")),
        (WANTED, (server(groups={}), server(groups_problem=RULER)), ("False", "NotLoaded")),
        (WANTED, (server(groups_problem=RULER),), ("Unknown", "NoSuchAPI")),
        (
            Rules(groups=GROUPS, not_selected=NOT_SELECTED),
            (server(groups={}),),
            ("False", "NotSelected"),
        ),
        (
            Rules(groups=GROUPS, not_selected=NOT_SELECTED),
            (server(groups=ALL),),
            ("True", "Loaded"),
        ),
        (Rules(groups=GROUPS, refused="bad expr"), (server(groups={}),), ("False", "RuleRefused")),
    ],
)
def test_rules_loaded(wanted, servers, expected):
    assert conditions.rules_loaded(wanted, servers)[:2] == expected


def test_rule_groups_not_loaded_are_counted_named_and_bounded():
    found = conditions.rules_loaded(WANTED, (server(groups={NAMES[0]: OLD}),))
    assert found.message == (
        "0 of 2 rule groups are loaded; not loaded: shop.embedding-b; shop.embedding-a (an older"
        " version). Asked: a:9090."
    )
    many = tuple(
        rules.Group(name=f"g{n}", uid=None, label_names=frozenset(), fingerprint="")
        for n in range(99)
    )
    message = conditions.rules_loaded(Rules(groups=many), (server(groups={}),)).message
    assert "and 94 more" in message


def test_failing_rule_is_told_in_prometheus_words():
    failing = rules.Loaded(is_current=True, errors=("Rule: many-to-many matching",))
    found = conditions.rules_loaded(WANTED, (server(groups={**ALL, NAMES[1]: failing}),))
    assert (found.status, found.reason) == ("False", "EvaluationFailing")
    assert "shop.embedding-b/Rule: many-to-many matching" in found.message


def test_refusal_is_told_in_prometheus_operators_words():
    wanted = Rules(groups=GROUPS, refused="bad expr")
    assert "bad expr" in conditions.rules_loaded(wanted, (server(groups={}),)).message


UP = {"x": True, "y": True}


@pytest.mark.parametrize(
    ("running", "servers", "starting", "expected"),
    [
        (("x",), (), (), ("Unknown", "NotConfigured")),
        ((), (server(pods={}),), (), ("True", "NoPods")),
        (("x",), (server(),), (), ("Unknown", "NotAskedYet")),
        (("x", "y"), (server(pods=UP),), (), ("True", "Up")),
        (("x", "z"), (server(pods=UP),), (), ("False", "NotScraped")),
        (("x", "z"), (server(pods=UP),), ("z",), ("Unknown", "NotScrapedYet")),
        (("x", "z"), (server(pods={**UP, "z": False}),), ("z",), ("False", "NotScraped")),
        (("x", "z"), (server(pods=UP), server(pods={"z": True})), (), ("True", "Up")),
        (("x", "z"), (server(pods=UP), server(pods_problem=AWAY)), (), ("Unknown", "Unreachable")),
        (("x", "y"), (server(pods=UP), server(pods_problem=RULER)), (), ("True", "Up")),
        (("x", "z"), (server(pods=UP), server(pods_problem=RULER)), (), ("False", "NotScraped")),
        (("x",), (server(pods_problem=RULER),), (), ("Unknown", "NoSuchAPI")),
    ],
)
def test_scraped(running, servers, starting, expected):
    assert conditions.scraped(running, servers, starting=starting)[:2] == expected


def test_pods_that_are_not_scraped_are_counted_and_named():
    seen = (server(pods={"a": True, "b": False}),)
    assert conditions.scraped(("a", "b", "c"), seen).message == (
        "Prometheus scrapes 1 of 3 sidecars; not scraped: b (down); c (no target)."
    )


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ((), ("Unknown", "NotConfigured")),
        ((Alertmanager(host="a"),), ("Unknown", "NotAskedYet")),
        ((Alertmanager(host="a", cluster="ready"),), ("True", "Ready")),
        ((Alertmanager(host="a", cluster="disabled"),), ("True", "Ready")),
        ((Alertmanager(host="a", cluster="settling"),), ("False", "NotSettled")),
        (
            (Alertmanager(host="a", cluster="ready"), Alertmanager(host="b", problem=AWAY)),
            ("Unknown", "Unreachable"),
        ),
    ],
)
def test_alertmanager_ready(servers, expected):
    assert conditions.alertmanager_ready(servers)[:2] == expected


def test_single_alertmanager_is_well():
    found = conditions.alertmanager_ready((Alertmanager(host="am:9093", cluster="disabled"),))
    assert found == ("True", "Ready", "am:9093 is a single instance.")


def test_podmonitor_that_nobody_selects_is_told_with_or_without_servers():
    for servers in ((), (server(pods={}),)):
        found = conditions.scraped(("a",), servers, not_selected=NOT_SELECTED)
        assert found == ("False", "NotSelected", NOT_SELECTED.message)
    seen = (server(pods={"a": True}),)
    assert conditions.scraped(("a",), seen, not_selected=NOT_SELECTED).reason == "Up"
