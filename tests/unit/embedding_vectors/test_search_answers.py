"""Answers, the fusion of two rankings, and the choice of a target."""

import json

import pytest

from embedding_contract import index_document
from embedding_vectors.database.facts import TargetRow
from embedding_vectors.metrics import FALLBACK_REASONS, Metrics
from embedding_vectors.search import answers, targets
from embedding_vectors.search.answers import Found
from embedding_vectors.serving.refusals import Refusal
from tests.parts import searching

DOCUMENT = searching.index()
SHOWN = ("id", "body")


def render(scored, **more):
    found = Found(mode="vector", score_kind=answers.COSINE, scored=scored, **more)
    return json.loads(answers.render(found, document=DOCUMENT, shown=SHOWN))


def test_values_come_as_postgresql_wrote_them():
    body = answers.render(
        Found(
            mode="text",
            score_kind=answers.RANK,
            scored=[(("12345678901234567890123", None, 0.5), 0.5)],
            reason="quota",
        ),
        document=DOCUMENT,
        shown=SHOWN,
    )
    assert b'"id":12345678901234567890123' in body
    assert json.loads(body) == {
        "object": "list",
        "index": "docs",
        "mode": "text",
        "space": None,
        "reason": "quota",
        "results": [
            {
                "key": {"id": 12345678901234567890123},
                "columns": {"body": None},
                "score": 0.5,
                "score_kind": "ts_rank_cd",
            }
        ],
    }


def test_second_ranking_fills_up_first_without_repeating_it():
    first, second = [("1", "a", 0.1)], [("2", "b", 0.9), ("1", "a", 0.8), ("3", "c", 0.7)]
    assert answers.filled_up(first, second, keys=1, most=2) == [first[0], second[0]]
    assert answers.filled_up(first, second, keys=1, most=9) == [first[0], second[0], second[2]]


def test_similarity_is_one_without_distance():
    rows = [("1", '"a"', 0.0), ("2", '"b"', 2.0)]
    results = render(answers.by_distance(rows), space="s")["results"]
    assert [it["score"] for it in results] == [1.0, -1.0]


def test_answer_that_is_too_long_is_refused_by_k():
    with pytest.raises(Refusal) as refused:
        render([(("1", json.dumps("x" * index_document.MAX_ANSWER_BYTES), 0.0), 1.0)])
    assert (refused.value.status, refused.value.param) == (400, "k")


def test_fusion_is_that_of_paper():
    near = [("1", "a", 0.1), ("2", "b", 0.2)]
    worded = [("2", "b", 0.9), ("3", "c", 0.8)]
    fused = answers.fused(near, worded, keys=1, most=10)
    assert [row[0] for row, _ in fused] == ["2", "1", "3"]
    assert [score for _, score in fused] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])
    assert len(answers.fused(near, worded, keys=1, most=2)) == 2
    assert answers.fused([], [], keys=1, most=2) == []


def target(name: str, phase: str, space: str = "a") -> TargetRow:
    return TargetRow(
        id=f"public.docs.{name}",
        index_uid=DOCUMENT.uid,
        index_name="shop/docs",
        model="m",
        dimensions=8,
        space=space,
        phase=phase,
        column=name,
        table=None,
    )


def test_queries_are_embedded_for_target_that_was_switched_to():
    old, new = target("old", "Switched"), target("embedding", "Ready")
    assert targets.serving((new, old), document=DOCUMENT) is old
    other = target("backup", "Ready")
    # Where nothing was switched yet, the document's own goes first.
    assert targets.serving((other, new), document=DOCUMENT) is new
    assert targets.serving((other,), document=DOCUMENT) is other
    for phase in ("Filling", "Retired", "Planned"):
        assert targets.serving((target("embedding", phase),), document=DOCUMENT) is None
    assert targets.serving((), document=DOCUMENT) is None


def test_space_is_searched_where_it_is_filled_and_nowhere_else():
    switched, ready = target("x", "Switched", "a"), target("y", "Ready", "b")
    filling, retired = target("z", "Filling", "c"), target("w", "Retired", "d")
    known = (retired, filling, ready, switched)
    assert targets.of_space(known, "a") is switched
    assert targets.of_space(known, "b") is ready
    assert targets.of_space(known, "c") is None
    assert targets.of_space(known, "d") is None
    again = target("v", "Ready", "a")
    assert targets.of_space((again, switched), "a") is switched


def test_metrics_have_names_of_catalogue_and_closed_set_of_reasons():
    counted = Metrics()
    counted.rows_embedded(5)
    counted.batch_took(0.5)
    counted.index_counted(size=7, missing=3)
    counted.searched(0.1)
    counted.fell_back("quota")
    text = counted.exposition().decode()
    for line in (
        "aos_memory_backfill_progress_total 5.0",
        "aos_memory_backfill_batch_duration_seconds_count 1.0",
        "aos_vector_index_size 7.0",
        "aos_vector_index_null_count 3.0",
        "aos_vector_query_latency_seconds_count 1.0",
        'aos_vector_fallback_total{reason="quota"} 1.0',
    ):
        assert line in text
    assert [f'reason="{it}"' in text for it in FALLBACK_REASONS] == [True] * 6
    assert "_created" not in text
