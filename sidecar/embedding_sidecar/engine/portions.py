"""The items of one call of a batch, and the provider's refusals of them.

Published limits, those of the policy and those that were learned decide the items of a call.
A refusal numbers items by their place in the call, callers by that in their request.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Final

from embedding_contract import document
from embedding_sidecar import errors, providers
from embedding_sidecar.engine import batches, failover, provider_states
from embedding_sidecar.engine.learned_limits import TOO_LARGE, Size
from embedding_sidecar.engine.retry_schedule import Time
from embedding_sidecar.openai_format import cache_control
from embedding_sidecar.rate.rates import ProviderRate
from embedding_sidecar.telemetry import tracing
from embedding_sidecar.translation import provider_api

_ITEM: Final = re.compile(r"input\[([0-9]{1,6})\]")
"""OpenAI's name of an item in `param`."""
_PERHAPS_TOO_MANY: Final = frozenset({400, 422})
_OTHER_FIELDS: Final = frozenset({"model", "dimensions", "encoding_format", "user", "input_type"})
_ENVELOPE_BYTES: Final = 512
"""Bound of a body beside its items: model and the other fields."""


@dataclass(slots=True, eq=False, repr=False)
class BatchRequest:
    """The keys that a request wants of a provider, each with its items' places.

    `ask` is the whole request, in this provider's terms. `since`: time of the last cache look-up.
    `time`: the provider's part of the request's time. `alone`: calls of other requests are not
    joined. `span`: the request's, where traced. `background`: all its calls are counted against the
    background work's part of the quota. `rate`: limits per minute, where there are any.
    """

    candidate: failover.Candidate
    ask: provider_api.Ask
    _: KW_ONLY
    missing: Mapping[str, Sequence[int]]
    control: cache_control.CacheControl
    since: float
    time: Time
    alone: bool
    span: tracing.RequestSpan | None = None
    background: bool = False
    rate: ProviderRate | None = None

    @property
    def ends_at(self) -> float:
        """The time until which the request waits for its calls."""
        return self.time.ends_at if self.rate is None else self.time.ends_late


def of(request: BatchRequest, keys: Sequence[str]) -> provider_api.Ask:
    """The request for these keys."""
    ask = request.ask
    if len(keys) == len(ask.items):  # all of them, in order
        return ask
    return replace(ask, items=tuple(ask.items[request.missing[key][0]] for key in keys))


def size(part: provider_api.Ask) -> Size:
    """Upper bound of its size."""
    return Size(
        len(part.items),
        sum(map(batches.most_bytes, part.items)),
        max(batches.most_tokens(part), default=0),
    )


def limits(
    chosen: document.Provider, states: provider_states.ProviderStates, *, now: float
) -> provider_api.Limits:
    """Limits of one request to it: the policy's, else the published ones; and the learned ones."""
    found = providers.PROVIDERS[chosen.kind].limits(chosen.model)
    said = chosen.limits
    if said.items is not None or said.body_bytes is not None:
        body_bytes = said.body_bytes and max(said.body_bytes - _ENVELOPE_BYTES, 1)
        found = replace(
            found, items=said.items or found.items, body_bytes=body_bytes or found.body_bytes
        )
    return states.learned[chosen.name].within(found, now=now)


def may_be_too_much(chosen: document.Provider, rejected: errors.Rejected) -> bool:
    """True if fewer or smaller items might pass: all published limits are kept to already.

    A 400 or 422 whose `param` names an item, or another field, is about that alone.
    """
    if rejected.status == TOO_LARGE:
        return True
    published = providers.PROVIDERS[chosen.kind].limits(chosen.model)
    if rejected.status not in _PERHAPS_TOO_MANY or published.are_all:
        return False
    param = rejected.param
    return param is None or ("[" not in param and param not in _OTHER_FIELDS)


def renumbered(rejected: errors.Rejected, place: Callable[[int], int | None]) -> errors.Rejected:
    """The refusal with other numbers for its items; `place` is None where there is no such item."""

    def renumber(match: re.Match[str]) -> str:
        found = place(int(match[1]))
        return match[0] if found is None else f"input[{found}]"

    return errors.Rejected(
        _ITEM.sub(renumber, rejected.message),
        status=rejected.status,
        code=rejected.code,
        param=rejected.param and _ITEM.sub(renumber, rejected.param),
    )


def of_call(rejected: errors.Rejected, *, at: int, count: int) -> errors.Rejected:
    """A refusal of `count` items of a call, from item `at` on, in terms of the whole call."""
    found = renumbered(rejected, lambda index: index + at)
    if count == 1 and found.message == rejected.message:
        found.message = f"'input[{at}]': {found.message}"
    return found
