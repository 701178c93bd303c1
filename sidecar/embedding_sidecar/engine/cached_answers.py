"""Answers from the cache alone: without a task, and from memory without any wait.

Values derived from a request are kept: the first candidate for each model and size, and the keys of
recent bodies. A body is known only while its keys are the current ones; the vectors themselves are
in the cache's memory and nowhere else.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from embedding_contract import document as contract
from embedding_sidecar.cache import cache_entry, tiered_cache
from embedding_sidecar.engine import failover
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.engine.request_state import Found
from embedding_sidecar.translation import provider_api

MAX_BODY_BYTES: Final = 8192
"""A longer body is parsed each time, which costs less than its own vectors."""
_OVERHEAD_BYTES: Final = 800
"""Memory of a known body beside its bytes: a key of at most 400 characters, three small objects and
a slot of an ordered dictionary."""


Entries = list[cache_entry.Entry | None]


class Wanted(NamedTuple):
    """The vectors that a request asks for: the candidate that makes them, and their keys.

    `base64`: the caller wants them in base64.
    """

    candidate: failover.Candidate
    keys: list[str]
    base64: bool


class CachedAnswers:
    """The memory of one policy document, which makes no calls.

    `max_bytes` bounds the memory of the known bodies; `clock` is the service's.
    """

    def __init__(
        self,
        *,
        document: contract.PolicyDocument,
        memory: tiered_cache.TieredCache,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._candidates = failover.chooser(document)
        self._clock = clock
        self._memory = memory
        self._max_bytes = max_bytes
        self._bodies: OrderedDict[bytes, Wanted] = OrderedDict()
        self.bytes_held = 0
        """Upper bound of the memory that the known bodies take."""
        self._in_force: object = None

    def known(self, body: bytes) -> Wanted | None:
        """The vectors that this body asks for, if it is known."""
        if self._memory.generations.in_force is not self._in_force:
            self._bodies.clear()
            self.bytes_held = 0
            self._in_force = self._memory.generations.in_force
        return self._bodies.get(body)

    def learn(self, body: bytes, wanted: Wanted) -> None:
        """Remember this body, if it is a short one for one item."""
        size = len(body) + _OVERHEAD_BYTES
        if (
            len(wanted.keys) != 1
            or len(body) > MAX_BODY_BYTES
            or size > self._max_bytes
            or body in self._bodies
        ):
            return
        self._bodies[body] = wanted
        self.bytes_held += size
        while self.bytes_held > self._max_bytes:
            oldest, _ = self._bodies.popitem(last=False)
            self.bytes_held -= len(oldest) + _OVERHEAD_BYTES

    def wanted(self, ask: provider_api.Ask, *, base64: bool) -> Wanted:
        """The vectors that a request asks for.

        Raises:
            errors.Rejected: the request is at fault.
        """
        candidate = self._candidates(ask.model, ask.dimensions, ask.extra)[0]
        return Wanted(
            candidate,
            self._memory.keys(failover.terms(candidate, ask), space=candidate.space),
            base64,
        )

    def answer(self, wanted: Wanted) -> Answer | Found:
        """The answer of Service.embed, if memory has all entries; else those that memory has.

        The latter have each key once.
        """
        looked_at = self._clock()
        # A look-up counts each key once, here as elsewhere.
        keys = wanted.keys if len(wanted.keys) == 1 else list(dict.fromkeys(wanted.keys))
        entries = self._memory.cached_answers(keys)
        answer = None if None in entries else self._answer(wanted, entries, keys)
        return answer or Found(keys, entries, looked_at)

    def look_up(
        self, wanted: Wanted, from_memory: Found, done: Callable[[Answer | Found], None]
    ) -> None:
        """Call `done`, now or soon, with the answer of Service.embed, or with its `found`."""
        keys, entries, looked_at = from_memory

        def looked(found: Entries) -> None:
            answer = None if None in found else self._answer(wanted, found, keys)
            done(answer or Found(wanted.keys, _in_order(wanted.keys, keys, found), looked_at))

        self._memory.look_up(keys, entries, looked)

    def _answer(self, wanted: Wanted, found: Entries, keys: list[str]) -> Answer | None:
        """The answer, if these are the entries of all keys, the candidate's and of one size."""
        candidate, size = wanted.candidate, None
        vectors, saved = [], 0
        for entry in found if keys is wanted.keys else _in_order(wanted.keys, keys, found):
            if entry is None or not candidate.made(entry):
                return None
            size = size or len(entry.vector)
            if len(entry.vector) != size:
                return None
            vectors.append(entry.vector)
            saved += entry.tokens
        if saved:
            self._memory.saved(saved, model=candidate.provider.model)
        return Answer(
            vectors=tuple(vectors),
            provider=candidate.provider.name,
            kind=candidate.provider.kind,
            model=candidate.provider.model,
            space=candidate.space,
            hits=len(vectors),
            items=len(vectors),
            tokens_saved=saved,
        )


def _in_order(keys: Sequence[str], unique: Sequence[str], found: Entries) -> Entries:
    """The entries found by `unique` keys, for each of `keys`, in order."""
    if len(unique) == len(keys):
        return found
    by_key = dict(zip(unique, found, strict=True))
    return [by_key[key] for key in keys]
