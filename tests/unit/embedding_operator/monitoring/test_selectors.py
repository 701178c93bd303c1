"""The Prometheus that selects a policy's objects, as the Prometheus operator decides it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_operator import errors
from embedding_operator.monitoring import prometheuses, selectors

ALL: dict = {}
RELEASE = {"matchLabels": {"release": "stack"}}


def prometheus(kind="Prometheus", namespace="monitoring", name="k8s", **spec):
    return {"kind": kind, "metadata": {"namespace": namespace, "name": name}, "spec": spec}


def rules_of(selector, namespaces=ALL, **more):
    return prometheus(ruleSelector=selector, ruleNamespaceSelector=namespaces, **more)


def ours(namespace="shop", namespace_labels=(), **labels):
    return selectors.Ours(
        namespace=namespace, namespace_labels=dict(namespace_labels), labels=labels
    )


def test_missing_prometheuses_leave_selection_unknown():
    assert selectors.not_selected([], ours(), kind="PrometheusRule") is None


TAKEN = {
    "every rule": (rules_of(ALL), ours()),
    "rules with its label": (rules_of(RELEASE), ours(release="stack")),
    "rules of labelled namespaces": (
        rules_of(ALL, {"matchLabels": {"monitored": "yes"}}),
        ours(namespace_labels={"monitored": "yes"}),
    ),
    "rules of its own namespace": (rules_of(ALL, None), ours(namespace="monitoring")),
    "rules by an expression": (
        rules_of({"matchExpressions": [{"key": "release", "operator": "Exists"}]}),
        ours(release="any"),
    ),
    "rules of a ThanosRuler": (rules_of(ALL, kind="ThanosRuler"), ours()),
}


@pytest.mark.parametrize("what", TAKEN)
def test_prometheus_takes(what):
    found, our = TAKEN[what]
    assert selectors.not_selected([found], our, kind="PrometheusRule") is None


LEFT = {
    "its selector is not set": (
        prometheus(ruleNamespaceSelector=ALL),
        ours(),
        "Prometheus monitoring/k8s selects none, as its spec.ruleSelector is not set",
    ),
    "the label is missing": (
        rules_of(RELEASE),
        ours(),
        "requires the label release=stack; set it in spec.alerts.labels",
    ),
    "the label has another value": (rules_of(RELEASE), ours(release="other"), "release=stack"),
    "it looks at its own namespace": (rules_of(ALL, None), ours(), "only its own namespace"),
    "the namespace is not labelled": (
        rules_of(ALL, {"matchLabels": {"monitored": "yes"}}),
        ours(),
        "requires the label monitored=yes on namespace shop",
    ),
    "an expression does not hold": (
        rules_of({"matchExpressions": [{"key": "role", "operator": "In", "values": ["a", "b"]}]}),
        ours(),
        "role In (a, b)",
    ),
    "an operator is unknown": (
        rules_of({"matchExpressions": [{"key": "role", "operator": "Near"}]}),
        ours(),
        "role Near",
    ),
}


@pytest.mark.parametrize("why", LEFT)
def test_rule_that_no_prometheus_selects_is_told(why):
    found, our, words = LEFT[why]
    problem = selectors.not_selected([found], our, kind="PrometheusRule")
    assert problem is not None
    assert problem.reason == "NotSelected"
    assert words in problem.message


def test_one_that_takes_it_is_enough():
    found = [rules_of(RELEASE), rules_of(ALL, name="other")]
    assert selectors.not_selected(found, ours(), kind="PrometheusRule") is None


def test_agent_reads_no_rules_and_scrapes():
    agent = prometheus("PrometheusAgent", podMonitorSelector=ALL, podMonitorNamespaceSelector=ALL)
    assert selectors.not_selected([agent], ours(), kind="PrometheusRule") is None
    assert selectors.not_selected([agent], ours(), kind="PodMonitor") is None


def test_pod_monitor_has_selectors_of_its_own():
    found = prometheus(
        ruleSelector=ALL, podMonitorSelector=RELEASE, podMonitorNamespaceSelector=ALL
    )
    problem = selectors.not_selected([found], ours(), kind="PodMonitor")
    assert problem is not None
    assert "PodMonitor" in problem.message
    assert "release=stack" in problem.message


def test_many_that_do_not_take_it_are_counted():
    found = [rules_of(RELEASE, name=f"p{number}") for number in range(9)]
    problem = selectors.not_selected(found, ours(), kind="PrometheusRule")
    assert problem is not None
    assert problem.message.endswith("; and 6 more.")


AGREED = {
    "one label": ([prometheus(ruleSelector=RELEASE, podMonitorSelector=RELEASE)], True),
    "one label and one that takes all": ([rules_of(RELEASE), rules_of(ALL, name="b")], True),
    "one label twice": ([rules_of(RELEASE), rules_of(RELEASE, kind="ThanosRuler")], True),
    "two labels": ([rules_of(RELEASE), rules_of({"matchLabels": {"role": "a"}})], False),
    "rules and pods by two labels": (
        [prometheus(ruleSelector=RELEASE, podMonitorSelector={"matchLabels": {"role": "a"}})],
        False,
    ),
    "an expression": (
        [
            rules_of(RELEASE),
            rules_of({"matchExpressions": [{"key": "release", "operator": "Exists"}]}),
        ],
        False,
    ),
    "nobody": ([], False),
    "all of them take everything": ([rules_of(ALL)], False),
}


@pytest.mark.parametrize("who", AGREED)
def test_labels_are_agreed_on_by(who):
    found, agreed = AGREED[who]
    assert selectors.agreed_labels(found) == ({"release": "stack"} if agreed else {})


WORDS = st.sampled_from(["a", "b", "release"])
SELECTORS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": st.dictionaries(WORDS, WORDS, max_size=2),
        "matchExpressions": st.lists(
            st.fixed_dictionaries(
                {
                    "key": WORDS,
                    "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "?"]),
                    "values": st.lists(WORDS, max_size=2),
                }
            ),
            max_size=2,
        ),
    },
)
TAKERS = st.builds(
    lambda kind, rule, pod: prometheus(
        kind,
        ruleSelector=rule,
        podMonitorSelector=pod,
        ruleNamespaceSelector=ALL,
        podMonitorNamespaceSelector=ALL,
    ),
    st.sampled_from(["Prometheus", "PrometheusAgent", "ThanosRuler", "Other"]),
    SELECTORS,
    SELECTORS,
)


@given(st.lists(TAKERS, max_size=3), st.dictionaries(WORDS, WORDS))
def test_any_selectors_are_judged(found, labels):
    for kind in ("PrometheusRule", "PodMonitor"):
        problem = selectors.not_selected(found, ours(**labels), kind=kind)
        assert problem is None or problem.message


@given(st.lists(TAKERS.filter(lambda it: it["spec"]["ruleSelector"] is not None), max_size=3))
def test_agreed_labels_are_taken(found):
    agreed = selectors.agreed_labels(found)
    if agreed:
        assert selectors.not_selected(found, ours(**agreed), kind="PrometheusRule") is None


RULE = {"kind": "PrometheusRule", "metadata": {"namespace": "shop", "labels": {}}}


def unasked(namespace):
    raise AssertionError(f"nobody selects namespaces by labels, and {namespace} was read")


def test_labels_of_namespace_are_read_once_per_minute_where_they_matter():
    by_labels = rules_of(ALL, {"matchLabels": {"monitored": "yes"}})
    asked, now = [], [0.0]

    def labels_of(namespace):
        asked.append((namespace, now[0]))
        return {"monitored": "yes"}

    known = prometheuses.Prometheuses(
        find=lambda: [by_labels], labels_of=labels_of, clock=lambda: now[0]
    )
    for now[0] in (0.0, 1.0, 59.0, 60.0):
        assert known.not_selected(RULE) is None
    assert asked == [("shop", 0.0), ("shop", 60.0)]


def test_namespace_that_cannot_be_read_has_no_labels():
    by_labels = rules_of(ALL, {"matchLabels": {"monitored": "yes"}})

    def labels_of(_):
        raise errors.Unavailable("away")

    known = prometheuses.Prometheuses(find=lambda: [by_labels], labels_of=labels_of)
    assert known.not_selected(RULE) is not None


def test_api_server_is_asked_once_per_minute_for_all_policies():
    asked, now = [], [0.0]

    def find():
        asked.append(now[0])
        return [rules_of(RELEASE)]

    known = prometheuses.Prometheuses(find=find, labels_of=unasked, clock=lambda: now[0])
    for now[0] in (0.0, 1.0, 59.0, 60.0, 119.0):
        assert known.agreed_labels() == {"release": "stack"}
    assert asked == [0.0, 60.0]


def test_known_prometheuses_stay_while_listing_fails():
    answers = [[rules_of(RELEASE)], errors.Denied("list prometheuses: 403")]
    now = [0.0]

    def find():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    known = prometheuses.Prometheuses(find=find, labels_of=unasked, clock=lambda: now[0])
    assert known.agreed_labels() == {"release": "stack"}
    now[0] = 100.0
    problem = known.not_selected(RULE)
    assert problem is not None
    assert "release=stack" in problem.message
