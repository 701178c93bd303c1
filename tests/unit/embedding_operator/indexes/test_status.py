"""The status of an index, from the facts observed."""

from datetime import UTC, datetime

import pytest

from embedding_contract.index_report import IndexReport, Problem
from embedding_operator import errors
from embedding_operator.indexes import status
from embedding_operator.indexes.reports import Words
from embedding_operator.indexes.status import Facts
from tests.parts.indexing import TARGET, condition, report, target

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def facts(**more):
    values = {"target": TARGET, "document": "d", "replicas": 2, "run": ("job-1", "Running")}
    return Facts(**{**values, "is_known_policy": True, **more})


def build(seen, previous=None, generation=1):
    return status.build(seen, generation=generation, previous=previous or {}, now=NOW)


def said(*problems, **more):
    return IndexReport(document="d", problems=problems, **more)


def of(kind, *problems, **more):
    return condition(build(facts(words=Words(searchers=(said(*problems, **more),)))), kind)


@pytest.mark.parametrize(
    ("problem", "kind", "expected"),
    [
        (Problem(reason="DSNInvalid", message="m"), "DatabaseReachable", "False"),
        (Problem(reason="Odd", message="m", sqlstate="XX000"), "DatabaseReachable", "False"),
        (Problem(reason="NoPrimaryKey", message="m"), "SchemaReady", "False"),
        (
            Problem(reason="PermissionDenied", message="m", sqlstate="42501"),
            "SchemaReady",
            "False",
        ),
        (Problem(reason="ModelMissing", message="m"), "ModelMissing", "True"),
        (Problem(reason="Odd", message="m"), "Filled", "False"),
        (Problem(reason="Old", message="m", is_warning=True), "Warned", "True"),
    ],
)
def test_problem_is_told_by_condition_that_it_is_of(problem, kind, expected):
    assert of(kind, problem) == (expected, problem.reason)


def test_warning_alone_leaves_index_ready():
    warning = Problem(reason="ExtensionHasKnownFaults", message="m", is_warning=True)
    made = build(facts(words=Words(searchers=(report(problems=(warning,)),))))
    assert condition(made, "Ready") == ("True", "Ready")
    assert condition(made, "Warned") == ("True", "ExtensionHasKnownFaults")


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("Planned", ("SchemaReady", "False", "PlanPending")),
        ("Filling", ("Filled", "False", "Filling")),
        ("Ready", ("Filled", "False", "Switching")),
        ("Switched", ("Filled", "True", "Complete")),
    ],
)
def test_phase_of_wanted_target_decides(phase, expected):
    made = build(facts(words=Words(searchers=(report(phase),))))
    assert made["phase"] == phase
    kind, is_so, reason = expected
    assert condition(made, kind) == (is_so, reason)


def test_new_target_beside_old_one_is_what_phase_speaks_of():
    targets = (target("Switched"), target("Filling", name="public.articles.second", done=3))
    seen = said(targets=targets, serving=TARGET)
    made = build(facts(target="public.articles.second", words=Words(searchers=(seen,))))
    assert (made["phase"], made["done"], made["serving"]) == ("Filling", 3, TARGET)
    assert [it["phase"] for it in made["targets"]] == ["Switched", "Filling"]
    assert condition(made, "Searchable") == ("True", "Searchable")
    assert condition(made, "Ready") == ("False", "Filling")


def test_running_worker_is_believed_before_pod_that_searches():
    words = Words(workers=(report(done=7),), searchers=(report(done=5),), ended=(report(done=1),))
    assert build(facts(words=words))["done"] == 7


def test_worker_that_ended_complains_of_what_is_wanted_now_only():
    old = IndexReport(document="old", problems=(Problem(reason="TableMissing", message="m"),))
    made = build(facts(words=Words(ended=(old,))))
    assert condition(made, "SchemaReady")[1] != "TableMissing"
    now = IndexReport(document="d", problems=old.problems)
    assert condition(build(facts(words=Words(ended=(now,)))), "SchemaReady")[1] == "TableMissing"
    running = Words(workers=(said(),), ended=(now,))
    assert condition(build(facts(words=running)), "SchemaReady")[1] != "TableMissing"


def test_quota_that_is_waited_for_is_told():
    waiting = report("Filling", done=5, waits_until="2026-01-02T00:00:00Z")
    made = build(facts(words=Words(workers=(waiting,))))
    assert made["waitsUntil"] == "2026-01-02T00:00:00Z"
    assert condition(made, "Filled") == ("False", "QuotaExhausted")


def test_reported_state_stays_while_no_pod_reports():
    before = build(facts(words=Words(searchers=(report("Filling", done=5),))))
    after = build(facts(pending=1), before)
    assert {key: after[key] for key in ("phase", "rows", "done", "parked", "serving")} == {
        key: before[key] for key in ("phase", "rows", "done", "parked", "serving")
    }
    kinds = ("DatabaseReachable", "SchemaReady", "Filled", "Searchable")
    for kind in kinds:
        assert condition(after, kind) == condition(before, kind)
    # Of a changed index that is not said any more.
    changed = build(facts(pending=1), before, generation=2)
    assert {condition(changed, kind)[0] for kind in kinds} == {"Unknown"}


def test_failed_job_without_word_is_told():
    made = build(facts(run=("embedding-index-articles-1", "Failed")))
    assert condition(made, "Filled") == ("False", "RunFailed")
    told = next(it["message"] for it in made["conditions"] if it["type"] == "Filled")
    assert "--from=cronjob/embedding-index-articles " in told


def test_pods_that_search_and_are_silent_are_named():
    silent = errors.Problem("SidecarsSilent", "search-1 refused the connection")
    made = build(facts(silent=(silent,)))
    assert condition(made, "Searchable") == ("False", "SidecarsSilent")


def test_start_of_index_is_no_news():
    assert status.changes({}, build(facts())) == []
    refused = build(facts(refused=errors.Problem("PolicyNotFound", "m")))
    assert {it.reason for it in status.changes({}, refused)} == {"PolicyNotFound"}


def test_same_facts_make_same_status():
    words = Words(searchers=(report(),))
    first = build(facts(words=words))
    assert build(facts(words=words), first) == first


def test_index_not_looked_at_says_only_what_was_seen():
    made = build(Facts(refused=errors.Problem("NamespaceNotAllowed", "m")))
    assert condition(made, "Accepted") == ("False", "NamespaceNotAllowed")
    others = [it for it in made["conditions"] if it["type"] not in ("Ready", "Accepted")]
    assert {it["status"] for it in others} == {"Unknown"}
    # What was seen before it was refused stays.
    before = build(facts(words=Words(searchers=(report(),))))
    after = build(Facts(refused=errors.Problem("NamespaceNotAllowed", "m")), before)
    assert condition(after, "WorkloadsApplied") == ("True", "Applied")
    assert after["targets"] == before["targets"]
