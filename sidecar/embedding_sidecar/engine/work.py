"""A request under way: what is known of its items, and what that took."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from embedding_sidecar import errors, provider
from embedding_sidecar.caching import cache
from embedding_sidecar.engine import calls, failover
from embedding_sidecar.wire import cache_control

_ITEM: Final = re.compile(r"input\[([0-9]{1,6})\]")
"""How OpenAI names an item in `param`."""


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

    `attempts` requests were sent to providers for this one, and `tokens` were billed for it.
    """

    def __init__(
        self, ask: provider.Ask, *, control: cache_control.CacheControl, started_at: float
    ) -> None:
        self.ask = ask
        self.keys: dict[str, list[str]] = {}
        """By provider's name, in the order of the items."""
        self.control = control
        self.tokens = 0
        self.attempts = 0
        self.looked_at = started_at
        """When the cache was asked last: what has landed since may not have been seen there."""
        self._parts: dict[str, _Part] = {}
        self._distrusted: set[str] = set()
        """Spaces of which nothing that others have asked for is taken any more."""
        self._started_at = started_at
        self._spans: list[tuple[float, float]] = []

    def of(self, space: str) -> _Part:
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
        model, space = choice.provider.model, choice.space
        if self.is_alone(space):
            return
        part = self.of(space)
        for index, entry in enumerate(found.entries):
            # The key says both already; an entry that does not agree is nobody's.
            if entry is not None and entry.model == model and entry.space == space:
                part.cached[index] = entry
        if part.is_mixed():
            part.cached.clear()

    def missing(self, choice: failover.Choice) -> dict[str, list[int]]:
        """The keys still to be had, each once, with the items that wait for it."""
        return self.missing_of(self.keys[choice.provider.name], choice.space)

    def missing_of(self, keys: Sequence[str], space: str) -> dict[str, list[int]]:
        """The same of these keys, one for each item."""
        found: dict[str, list[int]] = {}
        part = self.of(space)
        for index, key in enumerate(keys):
            if index not in part.cached and index not in part.made:
                found.setdefault(key, []).append(index)
        return found

    def take(
        self,
        space: str,
        entries: Mapping[str, cache.Entry],
        missing: Mapping[str, Sequence[int]],
        *,
        ours: bool,
    ) -> None:
        """Keep what came back; `ours` says whether this request had asked for it."""
        part = self.of(space)
        for key, indexes in missing.items():
            entry = entries.get(key)
            if entry is None:
                continue
            for index in indexes:
                part.made[index] = entry
            if not ours:
                part.coalesced.update(indexes)

    def told(
        self,
        rejected: errors.Rejected,
        keys: Sequence[str],
        missing: Mapping[str, Sequence[int]],
    ) -> errors.Rejected:
        """What a provider said of a part, in terms of the whole request."""
        sent = [missing[key][0] for key in keys]

        def renumber(match: re.Match[str]) -> str:
            index = int(match[1])
            return f"input[{sent[index]}]" if index < len(sent) else match[0]

        message = _ITEM.sub(renumber, rejected.message)
        if sent != list(range(len(self.ask.items))):
            message += (
                f" (This was said of {len(sent)} of the {len(self.ask.items)} items, "
                f"which begin with input[{sent[0]}].)"
            )
        return errors.Rejected(
            message,
            status=rejected.status,
            code=rejected.code,
            param=rejected.param and _ITEM.sub(renumber, rejected.param),
        )

    def took(self, sent: Iterable[calls.Span], *, now: float) -> None:
        """Calls this request waited for were under way then."""
        for began, ended in sent:
            end = now if ended is None else ended
            if end > self._started_at:
                self._spans.append((max(began, self._started_at), end))

    def distrust(self, space: str) -> bool:
        """Go on without what was cached, and without what was made if that is mixed itself.

        False if that was done before: then it is the provider.
        """
        part = self.of(space)
        part.cached.clear()
        if part.is_mixed():
            part.made.clear()
            part.coalesced.clear()
        before = space in self._distrusted
        self._distrusted.add(space)
        return not before

    def entries(self, space: str) -> list[cache.Entry]:
        """One for each item, in order, once nothing is missing."""
        part = self.of(space)
        return [part.made.get(index) or part.cached[index] for index in range(len(self.ask.items))]

    def upstream_seconds(self) -> float:
        """How long at least one call that this request waited for was under way."""
        seconds, until = 0.0, self._started_at
        for began, ended in sorted(self._spans):
            seconds += max(0.0, ended - max(began, until))
            until = max(until, ended)
        return seconds


def worst(
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
