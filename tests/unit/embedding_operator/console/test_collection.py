"""Reading pods and sidecars: workloads, series, and pods that cannot be asked."""

import json
from typing import Any, cast

import pytest

from embedding_operator import errors
from embedding_operator.console import collection, plots, prometheus, usage, views
from embedding_operator.kube import kinds
from tests.parts import paged, promql

EXPOSITION = b"""# HELP aos_embedding_tokens_total Tokens.
# TYPE aos_embedding_tokens_total counter
aos_embedding_tokens_total{provider="openai",model="m"} 12
python_info{version="3"} 1
"""


def pod(name, **metadata):
    return {
        "metadata": {"namespace": "shop", "name": name, **metadata},
        "status": {"phase": "Running"},
    }


def owned(kind, name):
    return [{"kind": kind, "name": name, "controller": True}]


class Api:
    """An API server with these pods; the sidecar of each answers what `bodies` holds."""

    def __init__(self, *pods, bodies=()):
        self.pods, self.bodies, self.asked = list(pods), dict(bodies), []
        self.policies = [paged.policy("search")]

    def find(self, kind, namespace=None, *, selector=""):
        found = self.policies if kind == kinds.POLICY else self.pods
        if isinstance(found, Exception):
            raise found
        return found

    def proxied(self, kind, namespace, name, path, *, query):
        self.asked.append((kind, namespace, name, path))
        body = self.bodies[name.partition(":")[0]]
        if isinstance(body, Exception):
            raise body
        return body


@pytest.mark.parametrize(
    ("metadata", "workload"),
    [
        ({}, "web-1"),
        ({"ownerReferences": owned("StatefulSet", "web")}, "web"),
        ({"ownerReferences": owned("ReplicaSet", "web-7c9d5")}, "web"),
        ({"ownerReferences": owned("Job", "nightly-29384756")}, "nightly"),
        ({"ownerReferences": owned("Job", "load-once")}, "load-once"),
    ],
)
def test_workload_is_what_people_know(metadata, workload):
    assert usage.pod(pod("web-1", **metadata)).workload == workload


def test_port_is_sidecars_own():
    port = {"name": "embed-admin", "containerPort": 18485}
    raw = pod("web-1") | {"spec": {"initContainers": [{"ports": [port]}]}}
    assert usage.pod(raw).port == 18485
    assert usage.pod(pod("web-1")).port == 8485


def test_catalogued_series_are_read_and_others_left_out():
    (sample,) = collection.samples(EXPOSITION)
    assert (sample.name, sample.value) == ("aos_embedding_tokens_total", 12)


@pytest.mark.parametrize("body", [b"<html>", b"\xff\xfe", b"a b c d"])
def test_sidecar_that_answers_something_else_is_told_apart(body):
    api: Any = Api(pod("web-1"), pod("web-2"), bodies={"web-1": EXPOSITION, "web-2": body})
    scraped = collection.scrape(api, collection.pods(api, "shop"))
    assert [it.name for it, _ in scraped.series] == ["web-1"]
    assert [(it.name, why) for it, why in scraped.failed] == [
        ("web-2", "the answer is not an exposition of metrics")
    ]


def test_page_says_who_cannot_be_asked_and_why():
    refused = errors.Denied("pods/proxy is forbidden")
    api: Any = Api(pod("web-1"), bodies={"web-1": refused})
    state = views.ClusterViews(api, namespace="shop", asked=None).state()
    assert state["source"] == "status"
    assert "shop/web-1: pods/proxy is forbidden" in state["notes"][0]


def test_page_without_right_to_list_pods_shows_status():
    api: Any = Api()
    api.pods = errors.Denied("pods is forbidden")
    state = views.ClusterViews(api, namespace="shop", asked=None).state()
    assert len(state["policies"]) == 1
    assert "pods is forbidden" in state["notes"][0]


def test_page_falls_back_to_sidecars_where_prometheus_is_away():
    class Away:
        def get(self, path, query):
            raise errors.Unavailable("Prometheus: ConnectError")

    api: Any = Api(pod("web-1"), bodies={"web-1": EXPOSITION})
    asked = prometheus.Prometheus(Away().get)
    state = views.ClusterViews(api, namespace="shop", asked=asked).state()
    assert state["source"] == "sidecars"
    assert state["notes"] == ["Prometheus: ConnectError. The figures come from the sidecars."]


def test_many_browsers_cause_one_look():
    api: Any = Api(pod("web-1"), bodies={"web-1": EXPOSITION})
    shown = views.ClusterViews(api, namespace="shop", asked=None)
    for _ in range(5):
        shown.state()
    assert len(api.asked) == 1


def test_plots_are_of_shown_policies_only():
    class Asked:
        def __init__(self):
            self.paths = []

        def get(self, path, query):
            self.paths.append(query.get("query"))
            return json.dumps({"status": "success", "data": {"result": []}}).encode()

    source = Asked()
    shown = views.ClusterViews(
        cast("Any", Api()), namespace="shop", asked=prometheus.Prometheus(source.get)
    )
    source.paths.clear()
    assert shown.plots("other", 'x"} or up{a="') is None
    assert not any("or up" in path for path in source.paths)
    assert [it["title"] for it in (shown.plots("shop", "search") or {})["plots"]] == [
        it.title for it in plots.PLOTS
    ]


@pytest.mark.parametrize("expr", [*plots._FIGURES.values(), *(it.expr for it in plots.PLOTS)])
def test_pages_questions_name_what_is_catalogued(expr):
    filled = expr.replace("@", 'namespace="shop", policy="search"')
    assert promql.asked(filled)
    assert promql.unknown(filled) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "not JSON"),
        (b"[]", "not JSON"),
        (b'{"status": "error", "error": "parse error: unexpected end"}', "unexpected end"),
    ],
)
def test_prometheus_that_answers_something_else_is_said(body, said):
    class Source:
        def get(self, path, query):
            return body

    with pytest.raises(errors.OperatorError, match=said):
        prometheus.Prometheus(Source().get).instant("up")


@pytest.mark.parametrize("address", ["", "prometheus", "a/b", "a/b:1/c", "/b:1", "ftp://x"])
def test_address_of_no_known_form_is_refused_with_forms(address):
    with pytest.raises(errors.Denied, match="NAMESPACE/SERVICE:PORT"):
        prometheus.connect(cast("Any", Api()), address)


def test_prometheus_behind_service_is_asked_by_api_servers_proxy():
    api: Any = Api(bodies={"prometheus": b'{"status": "success", "data": {"result": []}}'})
    assert prometheus.connect(api, "monitoring/prometheus:9090").instant("up") == []
    assert api.asked == [(kinds.SERVICE, "monitoring", "prometheus:9090", "/api/v1/query")]


def test_pace_of_each_limit_is_asked_of_one_namespace():
    asked = []

    def get(path, query):
        asked.append(query["query"])
        labels = {"namespace": "shop", "policy": "search", "period": "month", "unit": "cost"}
        result = [{"metric": labels, "value": [0, "0.5"]}]
        return json.dumps({"status": "success", "data": {"result": result}}).encode()

    found = collection.paces(prometheus.Prometheus(get), namespace="shop")
    assert found == {("shop", "search", "month", "cost"): 0.5}
    assert promql.unknown(asked[0]) == []
    assert 'namespace="shop"' in asked[0]
