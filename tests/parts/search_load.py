"""Callers that search without end, and the answers that each received."""

import contextlib
import functools
import math
import operator
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from embedding_contract import names
from embedding_contract.index_document import Target
from tests.fakes import provider
from tests.parts.sidecar import Sidecar, wait_until

CALLERS = 4
RESULTS = 5
CLOSE = 1e-4
"""To the exact cosine: float16 has 11 bits, and their errors even out over many numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One search: by `caller`, from `began` to `ended`, in seconds of the epoch."""

    caller: int
    query: str
    began: float
    ended: float
    status: int
    body: Mapping[str, Any]

    @property
    def space(self) -> str | None:
        """The space in which it was answered."""
        space: str | None = self.body.get("space")
        return space


class Load:
    """The answers so far."""

    def __init__(self) -> None:
        self._answers: list[Answered] = []

    def add(self, answer: Answered) -> None:
        """Keep one more."""
        self._answers.append(answer)

    def answers(self) -> list[Answered]:
        """All of them in the order of their ends."""
        return list(self._answers)

    def goes_on(self, *, more: int = 5) -> list[Answered]:
        """Wait until each caller has so many answers that began from now on; those."""
        now = time.time()

        def fresh() -> list[Answered]:
            return [it for it in self._answers if it.began >= now]

        def have_all() -> bool:
            callers = [it.caller for it in fresh()]
            return all(callers.count(number) >= more for number in range(CALLERS))

        wait_until(have_all)
        return fresh()


@contextlib.contextmanager
def running(asked: Sidecar, queries: Sequence[str]) -> Iterator[Load]:
    """Search by these queries in turn, through a sidecar, as applications do."""
    load, stop = Load(), threading.Event()

    def search(caller: int) -> None:
        turn = caller
        while not stop.is_set():
            turn += 1
            query = queries[turn % len(queries)]
            began = time.time()
            answer = asked.http.post(names.PATH_SEARCH, json={"query": query, "k": RESULTS})
            load.add(
                Answered(
                    caller=caller,
                    query=query,
                    began=began,
                    ended=time.time(),
                    status=answer.status_code,
                    body=answer.json(),
                )
            )

    callers = [threading.Thread(target=search, args=(number,)) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        yield load
    finally:
        stop.set()
        for caller in callers:
            caller.join()


def faults(
    answers: Sequence[Answered],
    *,
    targets: Sequence[Target],
    texts: Mapping[int, AbstractSet[str]],
) -> list[Answered]:
    """Answers that are not by vectors of one target alone.

    Each result's score is the cosine of the query and of one text that its row has had, both in
    the space that the answer names: a vector of the other target gives another.
    """
    of_space = {it.space: it for it in targets}
    return [it for it in answers if not _is_right(it, of_space=of_space, texts=texts)]


def _is_right(
    answer: Answered, *, of_space: Mapping[str, Target], texts: Mapping[int, AbstractSet[str]]
) -> bool:
    body = answer.body
    if answer.status != 200 or (body["mode"], body["reason"]) != ("vector", None):
        return False
    target = of_space.get(body["space"])
    if target is None or len(body["results"]) != RESULTS:
        return False
    of = functools.partial(cosine, target.model, target.dimensions, answer.query)
    return all(
        any(math.isclose(one["score"], of(text), abs_tol=CLOSE) for text in texts[one["key"]["id"]])
        for one in body["results"]
    )


@functools.cache
def cosine(model: str, dimensions: int, one: str, other: str) -> float:
    """The cosine of the vectors that the stand-in gives two texts."""
    a, b = (provider.numbers(model, text, dimensions) for text in (one, other))
    lengths = math.hypot(*a) * math.hypot(*b)
    return math.fsum(map(operator.mul, a, b)) / lengths
