"""The report of an index, from the bookkeeping's rows."""

import dataclasses

from embedding_contract import index_report
from embedding_contract.index_document import Target
from embedding_contract.index_report import Problem
from embedding_vectors import report
from tests.unit.embedding_vectors.test_plan import DOCUMENT, ROW

OLD = dataclasses.replace(ROW, id="public.docs.old", phase="Switched", rows=5, done=4, parked=1)


def of(*rows, **more) -> index_report.IndexReport:
    made = report.of(DOCUMENT, fingerprint="f", targets=rows, **more)
    assert index_report.parse(index_report.dump(made)) == made
    return made


def test_target_that_database_does_not_know_is_planned():
    (target,) = of().targets
    assert (target.id, target.phase, target.rows) == ("public.docs.embedding", "Planned", 0)


def test_documents_targets_come_first_and_retired_ones_last():
    gone = dataclasses.replace(ROW, id="public.docs.gone", phase="Retired")
    others = dataclasses.replace(ROW, id="public.docs.others", index_uid="uid-2")
    made = of(gone, OLD, ROW, others)
    assert [it.id for it in made.targets] == [
        "public.docs.embedding",
        "public.docs.old",
        "public.docs.gone",
    ]
    assert made.targets[1].done == 4


def test_switched_target_serves_and_else_ready_one():
    ready = dataclasses.replace(ROW, phase="Ready")
    assert of(ready, OLD).serving == "public.docs.old"
    assert of(ready).serving == "public.docs.embedding"
    assert of(ROW).serving is None


def test_planned_failover_target_is_told_too():
    document = dataclasses.replace(
        DOCUMENT, failover_target=Target(model="m", dimensions=3, space="s", table="side")
    )
    made = report.of(document, fingerprint="f", targets=[ROW])
    assert [it.id for it in made.targets] == ["public.docs.embedding", "public.side"]


def test_problem_is_told_once():
    problem = Problem(reason="A", message="b")
    assert of(ROW, problems=[problem, problem]).problems == (problem,)
