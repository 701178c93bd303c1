"""A request under way: what is known of its items, and what that took."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from embedding_sidecar import errors, provider, tracing, vectors
from embedding_sidecar.caching import cache
from embedding_sidecar.engine import failover, flights, orders, portions
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.wire import cache_control

_UNKNOWN: Final = flights.Landing(failure=errors.Unreachable("timeout", billed=True))
"""What is known of a flight that is still under way when its time is up."""


class Found(NamedTuple):
    """What the cache said of a request: the keys of its items in a choice's terms, and the entries.

    Both are in the order of the items. `looked_at` is when it was asked, by the service's clock.
    """

    keys: list[str]
    entries: Sequence[cache.Entry | None]
    looked_at: float


class _Part:
    """What there is in one space, by index of the item.

    `cached` came out of the cache; another provider of the same space goes on with it. `made` is
    new, and may come from several providers of the space; `coalesced` are those of it that another
    request had asked for.
    """

    __slots__ = ("cached", "coalesced", "made")

    def __init__(self) -> None:
        self.cached: dict[int, cache.Entry] = {}
        self.made: dict[int, cache.Entry] = {}
        self.coalesced: set[int] = set()

    def is_mixed(self) -> bool:
        """Whether the vectors are of several sizes: the model behind a name has changed."""
        if len(self.cached) + len(self.made) <= 1:
            return False
        entries = (*self.cached.values(), *self.made.values())
        return len({len(entry.vector) for entry in entries}) > 1


class Work:
    """Entries by space and by index of the item, so that no answer is put together of two spaces.

    `attempts` requests were sent to providers for this one so far.
    """

    def __init__(
        self,
        ask: provider.Ask,
        *,
        control: cache_control.CacheControl,
        started_at: float,
        span: tracing.RequestSpan | None = None,
        background: bool = False,
    ) -> None:
        self.ask = ask
        self.span = span
        self.background = background
        self.started_at = started_at
        self.keys: dict[str, list[str]] = {}
        """By provider's name, in the order of the items."""
        self.control = control
        self._tokens = 0
        self._is_estimated = False
        self.attempts = 0
        self.looked_at = started_at
        """When the cache was asked last: what has landed since may not have been seen there."""
        self._parts: dict[str, _Part] = {}
        self._distrusted: set[str] = set()
        """Spaces of which nothing that others have asked for is taken any more."""
        self._spans: list[tuple[float, float]] = []

    def _of(self, space: str) -> _Part:
        """What there is in this space."""
        part = self._parts.get(space)
        if part is None:
            part = self._parts[space] = _Part()
        return part

    @property
    def held(self) -> str | None:
        """The space in which part of the answer has been made; None while nothing has."""
        return next((space for space, part in self._parts.items() if part.made), None)

    def is_alone(self, space: str) -> bool:
        """Whether nothing will do that is there, or that others have asked for."""
        return self.control.no_cache or space in self._distrusted

    def looked(self, choice: failover.Choice, found: Found) -> None:
        """The cache was asked."""
        self.keys[choice.provider.name] = found.keys
        self.looked_at = found.looked_at
        if self.is_alone(choice.space):
            return
        part = self._of(choice.space)
        for index, entry in enumerate(found.entries):
            if entry is not None and choice.made(entry):
                part.cached[index] = entry
        if part.is_mixed():
            part.cached.clear()

    def missing(self, choice: failover.Choice) -> dict[str, list[int]]:
        """The keys still to be had, each once, with the items that wait for it."""
        return self.missing_of(self.keys[choice.provider.name], choice.space)

    def missing_of(self, keys: Sequence[str], space: str) -> dict[str, list[int]]:
        """The same of these keys, one for each item."""
        found: dict[str, list[int]] = {}
        part = self._of(space)
        for index, key in enumerate(keys):
            if index not in part.cached and index not in part.made:
                found.setdefault(key, []).append(index)
        return found

    def landed(
        self, placed: orders.Placed, *, now: float
    ) -> errors.ProviderFailed | errors.Refused | None:
        """Take what came; what went wrong, if anything did that is about this provider or us."""
        choice, missing = placed.order.choice, placed.order.missing
        failures: list[errors.ProviderFailed | errors.Refused] = []
        for flight in placed.ours:
            landing = flight.landing() or _UNKNOWN
            self._took(flight.sent, now=now)
            self._take(choice.space, landing.entries, missing, ours=True)
            self.attempts += len(flight.sent)
            self._tokens += landing.tokens
            self._is_estimated = self._is_estimated or landing.is_estimated
            if isinstance(landing.failure, errors.Rejected):
                failures.append(self._told(landing.failure, flight.keys, missing))
            elif landing.failure is not None:
                failures.append(landing.failure)
        for flight in placed.others:
            landing = flight.landing() or _UNKNOWN
            self._took(flight.sent, now=now)
            self._take(choice.space, landing.entries, missing, ours=False)
            of_this = flight.provider == choice.provider.name or landing is _UNKNOWN
            # What another text of that call may be the cause of is not this request's.
            is_theirs = isinstance(landing.failure, errors.Declined) and len(flight.keys) > len(
                missing.keys() & set(flight.keys)
            )
            if of_this and not is_theirs and isinstance(landing.failure, errors.ProviderFailed):
                failures.append(landing.failure)
        if self._of(choice.space).is_mixed() and not self._distrust(choice.space):
            return vectors.bad_answer()
        return _worst(failures)

    def answer(self, choice: failover.Choice) -> Answer:
        """What was asked for, once nothing of it is missing in the space of this choice."""
        part = self._of(choice.space)
        cached, made = part.cached, part.made
        return Answer(
            vectors=tuple(
                [(made.get(at) or cached[at]).vector for at in range(len(self.ask.items))]
            ),
            provider=choice.provider.name,
            kind=choice.provider.kind,
            model=choice.provider.model,
            space=choice.space,
            hits=len(self.ask.items) - len(made),
            coalesced=len(part.coalesced),
            items=len(self.ask.items),
            tokens=self._tokens,
            is_estimated=self._is_estimated,
            tokens_saved=sum([entry.tokens for at, entry in cached.items() if at not in made]),
            attempts=self.attempts,
            upstream_seconds=self._upstream_seconds(),
        )

    def _take(
        self,
        space: str,
        entries: Mapping[str, cache.Entry],
        missing: Mapping[str, Sequence[int]],
        *,
        ours: bool,
    ) -> None:
        """Keep what came back; `ours` says whether this request had asked for it."""
        part = self._of(space)
        for key, indexes in missing.items():
            entry = entries.get(key)
            if entry is None:
                continue
            for index in indexes:
                part.made[index] = entry
            if not ours:
                part.coalesced.update(indexes)

    def _told(
        self,
        rejected: errors.Rejected,
        keys: Sequence[str],
        missing: Mapping[str, Sequence[int]],
    ) -> errors.Rejected:
        """What a provider said of a part, in terms of the whole request."""
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

    def _took(self, sent: Iterable[flights.Span], *, now: float) -> None:
        """Calls this request waited for were under way then."""
        for began, ended in sent:
            end = now if ended is None else ended
            if end > self.started_at:
                self._spans.append((max(began, self.started_at), end))

    def _distrust(self, space: str) -> bool:
        """Go on without what was cached, and without what was made if that is mixed itself.

        False if that was done before: then it is the provider.
        """
        part = self._of(space)
        part.cached.clear()
        if part.is_mixed():
            part.made.clear()
            part.coalesced.clear()
        before = space in self._distrusted
        self._distrusted.add(space)
        return not before

    def _upstream_seconds(self) -> float:
        """How long at least one call that this request waited for was under way."""
        seconds, until = 0.0, self.started_at
        for began, ended in sorted(self._spans):
            if ended > until:
                seconds += ended - max(began, until)
                until = ended
        return seconds


def _worst(
    failures: Sequence[errors.ProviderFailed | errors.Refused],
) -> errors.ProviderFailed | errors.Refused | None:
    """Of what went wrong with the parts of a request, what it is about; None where nothing did.

    A refusal first: it is decided. Then what says more than that a call failed.
    """
    return min(failures, key=_rank) if failures else None


def _rank(failure: errors.ProviderFailed | errors.Refused) -> int:
    if isinstance(failure, errors.Refused):
        return 0
    return 2 if isinstance(failure, errors.Unreachable) else 1
