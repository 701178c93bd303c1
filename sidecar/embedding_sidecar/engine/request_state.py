"""A request under way: the entries of its items so far, and their cost."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Final, NamedTuple

from embedding_sidecar import errors
from embedding_sidecar.cache import cache_entry
from embedding_sidecar.engine import failover, inflight, portions
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.openai_format import cache_control
from embedding_sidecar.telemetry import tracing
from embedding_sidecar.translation import provider_api, vector_decoder

_UNKNOWN: Final = inflight.CallResult(failure=errors.Unreachable("timeout", billed=True))
"""The result of a call that is still in flight when the request's time is up."""


class Found(NamedTuple):
    """A request's cache look-up: the keys of its items for a candidate, and the entries.

    Both are in the order of the items. `looked_at` is its time, by the service's clock.
    """

    keys: list[str]
    entries: list[cache_entry.Entry | None]
    looked_at: float


@dataclass(slots=True, eq=False)
class _Part:
    """The entries in one space, by index of the item.

    `cached` are from the cache; another provider of the same space goes on with them. `made` are
    new, and may come from several providers of the space; `coalesced` are those of them that a
    call of another request fetched. If `is_distrusted`, cached entries and calls of other requests
    are not used any more.
    """

    cached: dict[int, cache_entry.Entry] = field(default_factory=dict)
    made: dict[int, cache_entry.Entry] = field(default_factory=dict)
    coalesced: set[int] = field(default_factory=set)
    is_distrusted: bool = False

    def is_mixed(self) -> bool:
        """True if the vectors are of several sizes: the model behind a name has changed."""
        if len(self.cached) + len(self.made) <= 1:
            return False
        entries = (*self.cached.values(), *self.made.values())
        return len({len(entry.vector) for entry in entries}) > 1


@dataclass(slots=True, eq=False, repr=False)
class RequestState:
    """Entries by space and by index of the item, so that no answer mixes two spaces.

    `attempts` requests were sent to providers for this one so far. `keys` are by provider's name,
    in the order of the items. `looked_at` is the time of the last cache look-up, which may
    not have seen calls completed since.
    """

    ask: provider_api.Ask
    control: cache_control.CacheControl
    _: KW_ONLY
    started_at: float
    span: tracing.RequestSpan | None = None
    background: bool = False
    attempts: int = 0
    looked_at: float = float("-inf")
    keys: dict[str, list[str]] = field(default_factory=dict)
    _tokens: int = 0
    _is_estimated: bool = False
    _beyond: frozenset[str] = frozenset()
    _parts: defaultdict[str, _Part] = field(default_factory=partial(defaultdict, _Part))
    _spans: list[tuple[float, float]] = field(default_factory=list)

    @property
    def held(self) -> str | None:
        """The space in which part of the answer has been made; None while nothing has."""
        return next((space for space, part in self._parts.items() if part.made), None)

    def is_alone(self, space: str) -> bool:
        """True if neither cached entries nor calls of other requests may be used."""
        return self.control.no_cache or self._parts[space].is_distrusted

    def looked(self, candidate: failover.Candidate, found: Found) -> None:
        """The cache was asked."""
        self.keys[candidate.provider.name] = found.keys
        self.looked_at = found.looked_at
        if self.is_alone(candidate.space):
            return
        part = self._parts[candidate.space]
        for index, entry in enumerate(found.entries):
            if entry is not None and candidate.made(entry):
                part.cached[index] = entry
        if part.is_mixed():
            part.cached.clear()

    def is_complete(self, candidate: failover.Candidate) -> bool:
        """True if no item is missing in the space of this candidate."""
        part, count = self._parts[candidate.space], len(self.ask.items)
        if not part.cached:
            return len(part.made) == count
        return len(part.cached.keys() | part.made.keys()) == count

    def missing(self, candidate: failover.Candidate) -> dict[str, list[int]]:
        """The missing keys, each once, with the indexes of its items."""
        found: dict[str, list[int]] = {}
        part = self._parts[candidate.space]
        for index, key in enumerate(self.keys[candidate.provider.name]):
            if index not in part.cached and index not in part.made:
                found.setdefault(key, []).append(index)
        return found

    def completed(
        self,
        request: portions.BatchRequest,
        waiter: inflight.Waiter,
        *,
        clock: Callable[[], float],
    ) -> errors.ProviderFailed | errors.Refused | None:
        """Take the results; the failure, if there is one of this provider or of this request."""
        candidate, missing = request.candidate, request.missing
        failures: list[errors.ProviderFailed | errors.Refused] = []
        for inflight_call in waiter.ours:
            result = self._take(inflight_call, request, ours=True, clock=clock)
            self.attempts += len(inflight_call.sent)
            if inflight_call.beyond:
                self._beyond |= inflight_call.beyond
            self._tokens += result.tokens
            if result.is_estimated:
                self._is_estimated = True
            if isinstance(result.failure, errors.Rejected):
                failures.append(self._told(result.failure, inflight_call.keys, missing))
            elif result.failure is not None:
                failures.append(result.failure)
        for inflight_call in waiter.others:
            result = self._take(inflight_call, request, ours=False, clock=clock)
            of_this = inflight_call.provider == candidate.provider.name or result is _UNKNOWN
            # A failure that another text of that call may have caused is not this request's.
            is_theirs = isinstance(result.failure, errors.Declined) and len(
                inflight_call.keys
            ) > len(missing.keys() & set(inflight_call.keys))
            # Nor is one of the other request's class, which may have been background.
            is_theirs = is_theirs or isinstance(result.failure, errors.NotGranted)
            if of_this and not is_theirs and isinstance(result.failure, errors.ProviderFailed):
                failures.append(result.failure)
        if self._parts[candidate.space].is_mixed() and not self._distrust(candidate.space):
            return vector_decoder.bad_answer()
        return min(failures, key=_rank) if failures else None

    def answer(self, candidate: failover.Candidate) -> Answer:
        """The answer, once no item is missing in the space of this candidate."""
        part, chosen, count = self._parts[candidate.space], candidate.provider, len(self.ask.items)
        cached, made = part.cached, part.made
        saved = 0
        for at, entry in cached.items():
            if at not in made:
                saved += entry.tokens
        vectors = []
        for at in range(count):
            vectors.append((made.get(at) or cached[at]).vector)  # noqa: PERF401 - no function for one
        return Answer(
            vectors=tuple(vectors),
            provider=chosen.name,
            kind=chosen.kind,
            model=chosen.model,
            space=candidate.space,
            hits=count - len(made),
            coalesced=len(part.coalesced),
            items=count,
            tokens=self._tokens,
            is_estimated=self._is_estimated,
            tokens_saved=saved,
            attempts=self.attempts,
            upstream_seconds=self._upstream_seconds(),
            beyond=self._beyond,
        )

    def _take(
        self,
        inflight_call: inflight.InflightCall,
        request: portions.BatchRequest,
        *,
        ours: bool,
        clock: Callable[[], float],
    ) -> inflight.CallResult:
        """Keep the entries of a call; `ours`: this request started it."""
        result = inflight_call.result() or _UNKNOWN
        for began, ended in (*inflight_call.waits, *inflight_call.sent):
            self._spans.append((began, clock() if ended is None else ended))
        part = self._parts[request.candidate.space]
        for key, indexes in request.missing.items():
            entry = result.entries.get(key)
            if entry is None:
                continue
            for index in indexes:
                part.made[index] = entry
            if not ours:
                part.coalesced.update(indexes)
        return result

    def _told(
        self,
        rejected: errors.Rejected,
        keys: Sequence[str],
        missing: Mapping[str, Sequence[int]],
    ) -> errors.Rejected:
        """A provider's refusal of a part, in terms of the whole request."""
        sent = [missing[key][0] for key in keys]

        def place(index: int) -> int | None:
            return sent[index] if index < len(sent) else None

        told = portions.renumbered(rejected, place)
        if sent != list(range(len(self.ask.items))):
            told.message += (
                f" (This was said of {len(sent)} of the {len(self.ask.items)} items, "
                f"which begin with input[{sent[0]}].)"
            )
        return told

    def _distrust(self, space: str) -> bool:
        """Drop the cached entries, and the made ones if these are mixed themselves.

        False if that was done before: then the provider is at fault.
        """
        part = self._parts[space]
        part.cached.clear()
        if part.is_mixed():
            part.made.clear()
            part.coalesced.clear()
        before, part.is_distrusted = part.is_distrusted, True
        return not before

    def _upstream_seconds(self) -> float:
        """Seconds during which a call of this request was in flight, or waited for its rate."""
        seconds, until = 0.0, self.started_at
        for began, ended in sorted(self._spans):
            if ended > until:
                seconds += ended - max(began, until)
                until = ended
        return seconds


def _rank(failure: errors.ProviderFailed | errors.Refused) -> int:
    """The place of a failure among those of a request's parts; the first one decides.

    A refusal comes first: it is final. Then comes one that says more than that a call failed.
    """
    if isinstance(failure, errors.Refused):
        return 0
    return 2 if isinstance(failure, errors.Unreachable) else 1
