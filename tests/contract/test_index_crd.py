"""EmbeddingIndex, as a real API server takes it, and as the operator and the workers read it."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from embedding_contract import index_document
from embedding_operator import errors
from embedding_operator.indexes import documents, resource
from tests.conftest import INDEX_CRD
from tests.parts import crd, crd_cases, indexes

BAD, GOOD = crd_cases.of("index-bad"), crd_cases.of("index-good")
REFUSED, ADMITTED = crd_cases.refused(BAD), crd_cases.admitted(BAD)
UNTYPED = "spec.rows[].value"


def admitted(api_server, namespace, case: Path):
    """The index as it stands in the API server, defaults filled in."""
    return crd_cases.admit(api_server, namespace, case, kind="embeddingindex")


def test_every_bad_index_says_who_refuses_it():
    assert sorted(REFUSED + ADMITTED) == BAD
    assert len(REFUSED) >= 25
    assert len(ADMITTED) >= 8


@pytest.mark.cluster
@pytest.mark.parametrize("case", REFUSED, ids=crd_cases.stem)
def test_api_server_refuses_bad_index_and_says_why(api_server, case):
    crd_cases.check_refused_by_api_server(api_server, case)


@pytest.mark.cluster
@pytest.mark.parametrize("case", ADMITTED, ids=crd_cases.stem)
def test_operator_refuses_what_only_it_can_know(api_server, namespace, case):
    found = admitted(api_server, namespace, case)
    with pytest.raises(errors.InvalidPolicy) as refusal:
        documents.of(resource.parse(found), indexes.SPENDING)
    crd_cases.check_reason(refusal.value, case)


@pytest.mark.cluster
@pytest.mark.parametrize("case", GOOD, ids=crd_cases.stem)
def test_workers_read_document_of_good_index(api_server, namespace, case):
    found = admitted(api_server, namespace, case)
    made = documents.of(resource.parse(found), indexes.SPENDING)
    assert index_document.parse(index_document.dump(made)) == made


@pytest.mark.cluster
def test_unset_field_of_index_has_its_default(api_server, namespace):
    read = resource.parse(
        admitted(api_server, namespace, crd_cases.CASES / "index-good" / "smallest.yaml")
    )
    assert read.schema == "public"
    assert read.limits == index_document.Limits()
    assert read.search is not None
    assert read.search.document == index_document.Search()
    assert read.search.replicas == 2
    assert not read.applies_plan
    assert not read.trigger
    assert read.schedule is None


@pytest.mark.cluster
def test_kubectl_shows_how_far_index_is(api_server, namespace):
    admitted(api_server, namespace, crd_cases.CASES / "index-good" / "smallest.yaml")
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "Filling",
        "message": "60 of 200 rows",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {
        "conditions": [ready],
        "phase": "Filling",
        "rows": 200,
        "done": 60,
        "parked": 1,
        "rate": "12.5/s",
        "expectedEnd": "2026-01-01T00:00:12Z",
        "serving": "public.articles.old",
    }
    command = ("patch", "embidx", "good", "-n", namespace, "--subresource=status", "--type=merge")
    api_server(*command, "-p", yaml.safe_dump({"status": status}))
    header, row = api_server("get", "embidx", "good", "-n", namespace).splitlines()
    wanted = "NAME PHASE ROWS DONE PARKED RATE ETA READY REASON AGE"
    assert header.split() == wanted.split()
    shown = "good Filling 200 60 1 12.5/s 2026-01-01T00:00:12Z False Filling"
    assert row.split()[:-1] == shown.split()
    wide = api_server("get", "embidx", "good", "-n", namespace, "-o", "wide")
    assert "public.articles.old" in wide
    both = api_server("get", "embedding", "-n", namespace, "-o", "name")
    assert "embeddingindex.embedding.agenticverz.io/good" in both


def schema_of(section):
    definition = yaml.safe_load(INDEX_CRD.read_text(encoding="utf-8"))
    version = definition["spec"]["versions"][0]
    return version["schema"]["openAPIV3Schema"]["properties"][section]


SPEC = dict(crd.fields(schema_of("spec"), "spec"))
STATUS = dict(crd.fields(schema_of("status"), "status"))


@pytest.mark.parametrize("path", [path for path in (*SPEC, *STATUS) if path != UNTYPED])
def test_every_field_of_index_is_bounded_and_explained(path):
    crd.check_field(path, {**SPEC, **STATUS}[path], is_seen=path in STATUS)


def test_good_indexes_use_every_field_there_is():
    specs = [yaml.safe_load(case.read_text(encoding="utf-8"))["spec"] for case in GOOD]
    used = {f"spec.{crd.in_words(path)}" for spec in specs for path in crd.leaves(spec)}
    parents = {path[: mark.start()] for path in SPEC for mark in re.finditer(r"\.|\[", path)}
    assert SPEC.keys() - parents - used - {UNTYPED} == set()


def another(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return {"=": "!=", "in": "in", "between": "in"}.get(value, f"{value}x")


EVERY_LEAF = list(crd.leaves(indexes.everything()["spec"]))
UNTOUCHED = [("rows", 1, "operator")]


@pytest.mark.parametrize("path", [it for it in EVERY_LEAF if it not in UNTOUCHED], ids=crd.in_words)
def test_no_field_of_index_is_ignored_by_operator(path):
    """Another value makes another index, so each field of the resource is read."""
    changed = copy.deepcopy(indexes.everything())
    parent = changed["spec"]
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = another(parent[path[-1]])
    assert resource.parse(changed) != indexes.parsed()
