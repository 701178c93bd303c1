"""The choice of the Job to start, and the reports that workers left when they ended."""

import pytest

from embedding_contract import index_report, names
from embedding_operator.indexes import documents, objects, runs
from tests.parts import indexes

NAME = "embedding-index-articles-0a1b2c3d"


def job(name=NAME, *, owner="uid-1", uid="job-1", **conditions):
    listed = [{"type": kind, "status": status} for kind, status in conditions.items()]
    return {
        "metadata": {
            "name": name,
            "uid": uid,
            "ownerReferences": [{"uid": owner, "controller": True}],
        },
        "status": {"conditions": listed},
    }


def plan(*jobs, recorded=None):
    return runs.plan(NAME, jobs, uid="uid-1", recorded=recorded or {})


def test_job_that_is_not_there_is_started():
    assert plan() == runs.Plan(starts=NAME, ends=(), result="Running")


@pytest.mark.parametrize(
    ("conditions", "result"),
    [
        ({}, "Running"),
        ({"Complete": "True"}, "Complete"),
        ({"Failed": "True"}, "Failed"),
        ({"Failed": "False", "Suspended": "True"}, "Running"),
    ],
)
def test_job_that_is_there_is_not_started_again(conditions, result):
    assert plan(job(**conditions)) == runs.Plan(starts=None, ends=(), result=result)


def test_job_of_older_change_is_ended():
    old = job("embedding-index-articles-old", uid="job-0")
    assert plan(old).ends == ("embedding-index-articles-old",)


def test_job_that_somebody_else_started_is_left():
    by_hand = job("by-hand", owner="uid-of-cron-job")
    assert plan(by_hand).ends == ()
    squatter = job(owner="uid-of-somebody")
    assert plan(squatter).starts == NAME


def test_job_that_was_recorded_as_running_and_has_gone_is_started_again():
    assert plan(recorded={"job": NAME, "result": "Running"}).starts == NAME
    assert plan(recorded={"job": "another", "result": "Complete"}).starts == NAME
    done = plan(recorded={"job": NAME, "result": "Complete"})
    assert (done.starts, done.result) == (None, "Complete")


def name_of(**spec):
    index = indexes.parsed(**spec)
    return objects.job_name(index, documents.of(index, indexes.SPENDING))


def test_name_of_job_changes_with_what_is_wanted_of_database_only():
    first = name_of()
    assert (
        len(
            objects.job_name(
                indexes.parsed(name="a" * 36),
                documents.of(indexes.parsed(name="a" * 36), indexes.SPENDING),
            )
        )
        <= 63
    )
    for more in (
        {"applyPlan": False},
        {"trigger": False},
        {"rows": None},
        {"failoverTarget": None},
        {"database": {"dsnSecretRef": {"name": "other", "key": "dsn"}}},
    ):
        assert name_of(**more) != first, more
    limits = {"batchRows": 1, "workers": 2, "maxTextBytes": 5}
    assert name_of(limits=limits, schedule=None) == first


def pod(message, *, owner="job-1", which="state", finished="2026-01-01T00:00:00Z"):
    ended = {"terminated": {"message": message, "finishedAt": finished, "exitCode": 1}}
    return {
        "metadata": {"name": "p", "ownerReferences": [{"uid": owner, "controller": True}]},
        "status": {"containerStatuses": [{"name": names.VECTORS_CONTAINER, which: ended}]},
    }


def words(document):
    return index_report.dump(index_report.IndexReport(document=document))


def test_last_words_are_those_of_indexs_jobs_newest_first():
    found = runs.last_words(
        [job()],
        [
            pod(words("older"), finished="2026-01-01T00:00:00Z"),
            pod(words("newer"), finished="2026-01-02T00:00:00Z", which="lastState"),
            pod(words("foreign"), owner="another"),
            pod("no report"),
            pod(None),
        ],
    )
    assert [it.document for it in found] == ["newer", "older"]
