"""Answers of a search: results, the kind of their scores, and the mode of the search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from embedding_contract.index_document import MAX_ANSWER_BYTES, IndexDocument
from embedding_vectors.serving.refusals import Refusal

COSINE: Final = "cosine_similarity"
RANK: Final = "ts_rank_cd"
FUSION: Final = "reciprocal_rank_fusion"
RRF_K: Final = 60
"""Cormack, Clarke and Büttcher, Reciprocal Rank Fusion (SIGIR 2009), section 2."""

Row = tuple[Any, ...]
"""Shown columns as JSON text, None for NULL, and then distance or rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The rows found. `reason` says why vectors were not used, None where they were.

    `scored` are rows with their scores, the best first.
    """

    mode: str
    score_kind: str
    scored: Sequence[tuple[Row, float]] = field(repr=False)
    space: str | None = None
    reason: str | None = None


def by_distance(rows: Sequence[Row]) -> list[tuple[Row, float]]:
    """Rows of a search by vectors with the cosine of the angle, 1 for the same direction."""
    return [(row, 1.0 - row[-1]) for row in rows]


def by_rank(rows: Sequence[Row]) -> list[tuple[Row, float]]:
    """Rows of a search by words with PostgreSQL's rank."""
    return [(row, row[-1]) for row in rows]


def filled_up(first: Sequence[Row], second: Sequence[Row], *, keys: int, most: int) -> list[Row]:
    """All rows of the first ranking, followed by those of the second, up to `most`.

    The first `keys` columns identify a row.
    """
    there = {row[:keys] for row in first}
    return [*first, *(row for row in second if row[:keys] not in there)][:most]


def fused(
    first: Sequence[Row], second: Sequence[Row], *, keys: int, most: int
) -> list[tuple[Row, float]]:
    """The best rows of two rankings: each gives a row 1 / (60 + place), places from 1.

    The first `keys` columns identify a row. Rows of equal score stay in the order of `first`.
    """
    scores: dict[Row, float] = {}
    rows: dict[Row, Row] = {}
    for ranking in (first, second):
        for place, row in enumerate(ranking, 1):
            key = row[:keys]
            rows.setdefault(key, row)
            scores[key] = scores.get(key, 0.0) + 1.0 / (RRF_K + place)
    best = sorted(scores, key=scores.__getitem__, reverse=True)[:most]
    return [(rows[key], scores[key]) for key in best]


def render(found: Found, *, document: IndexDocument, shown: Sequence[str]) -> bytes:
    """The body of an answer; `shown` names the columns of its rows.

    Raises:
        Refusal: it would be longer than MAX_ANSWER_BYTES.
    """
    keys = len(document.key_columns)
    body = orjson.dumps(
        {
            "object": "list",
            "index": document.name,
            "mode": found.mode,
            "space": found.space,
            "reason": found.reason,
            "results": [
                {
                    "key": _columns(shown[:keys], row),
                    "columns": _columns(shown[keys:], row[keys:]),
                    "score": score,
                    "score_kind": found.score_kind,
                }
                for row, score in found.scored
            ],
        }
    )
    if len(body) > MAX_ANSWER_BYTES:
        raise Refusal(
            f"The answer has {len(body)} bytes, and at most {MAX_ANSWER_BYTES} are given; "
            "ask for a smaller k.",
            param="k",
            code="answer_too_large",
        )
    return body


def _columns(names: Sequence[str], values: Row) -> Mapping[str, object]:
    # A value is JSON already, as PostgreSQL wrote it.
    return {
        name: None if value is None else orjson.Fragment(value)
        for name, value in zip(names, values, strict=False)
    }
