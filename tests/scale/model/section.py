"""The section of docs/scale.md about the model."""

from collections.abc import Sequence
from typing import Final

from embedding_operator.sidecars import pace
from embedding_sidecar.quota import quota_store
from embedding_sidecar.rate import window_store
from tests.benchmarks.page import table
from tests.scale.model import cluster, formulas, parts
from tests.scale.model.cluster import DIMENSIONS, Cluster
from tests.scale.model.formulas import Values
from tests.scale.model.quantities import QUANTITIES, Quantity

SIZES: Final = (1_000, 10_000, 100_000)
CALLS_A_SECOND: Final = (0.01, 0.1, 1.0, 10.0)
NOT_RUN: Final = "not run"


def text(found: Sequence[parts.Part]) -> str:
    """All of it."""
    values = parts.values(found)
    return _SECTION.format(
        runs="\n".join(map(_run, found)) or f"Nothing was measured: {NOT_RUN}.",
        claim=_claim(values),
        draw=_draw(values),
        beside=_beside(values),
        checks=checks(found),
        sizes=_sizes(values),
        limits=_limits(values),
        cores=_cores(values),
    )


def checks(found: Sequence[parts.Part]) -> str:
    """Model beside measured, at each size that no constant was fitted at."""
    values = parts.values(found)
    rows = [
        _check(quantity, values, name, size)
        for name, quantity in QUANTITIES.items()
        for size in quantity.checks
    ]
    return table(("", "size", "measured", "model", "deviation"), rows)


def _check(quantity: Quantity, values: Values, name: str, size: int) -> tuple[str, ...]:
    place = (quantity.title, f"{size:,} {quantity.size}")
    measured = values.get(name, {}).get(size)
    model = _model(quantity, values, size)
    return (
        *place,
        NOT_RUN if measured is None else _shown(quantity, measured),
        NOT_RUN if model is None else _shown(quantity, model),
        "" if model is None or not measured else f"{(model / measured - 1) * 100:+.0f} %",
    )


def _shown(quantity: Quantity, value: float) -> str:
    return f"{value:,.{quantity.digits}f}"


def _model(quantity: Quantity, values: Values, size: int) -> float | None:
    """The formula's value; None while its constants were not measured."""
    try:
        return quantity.model(values, size)
    except KeyError:
        return None


def _run(part: parts.Part) -> str:
    return (
        f"- `python -m tests.scale.model {part.name}`: {part.date}, commit"
        f" {part.commit or 'unknown'}, {part.machine}, load {part.load:.1f} as it began"
    )


def _has_redis(values: Values) -> bool:
    return {"claimMicroseconds", "connections"} <= values.keys()


def _claim(values: Values) -> str:
    """The constants of a claim."""
    if not _has_redis(values):
        return f"{NOT_RUN}."
    most = quota_store.MAX_SUMMED
    base, of_each, beyond = (
        formulas.claim_microseconds(values, 0),
        formulas.claim_microseconds(values, 1) - formulas.claim_microseconds(values, 0),
        formulas.claim_microseconds(values, most + 1),
    )
    return (
        f"{base:.0f} us, and {of_each:.1f} us for each pod of the policy, as the script adds up"
        f" their leases; beyond {most} pods it adds up none, and takes {beyond:.0f} us."
    )


def _draw(values: Values) -> str:
    """The constants of a draw."""
    if not _has_redis(values):
        return f"{NOT_RUN}."
    cost = QUANTITIES["messageMicroseconds"].model(values, 1)
    return (
        f"{cost:.0f} us, however many pods draw from the window."
        f" Each {window_store._SWEEP_MS // 1000} s one draw reads all fields, one for each of these"
        " pods, and takes some 3 us more for each."
    )


def _beside(values: Values) -> str:
    """The constant of an item."""
    if not _has_redis(values):
        return NOT_RUN
    return f"{formulas.item_bytes(values, DIMENSIONS) - formulas.value_bytes(DIMENSIONS):.0f}"


def _sizes(values: Values) -> str:
    """The load of each size."""
    rows: list[tuple[str, ...]] = []
    if _has_redis(values):
        of = [Cluster(values=values, pods=it) for it in SIZES]
        rows += [
            ("claims a second", *(f"{it.claims_a_second:,.0f}" for it in of)),
            ("cores of Redis: claims", *(f"{it.claim_cores:.3f}" for it in of)),
            ("cores of Redis: looks at generations", *(f"{it.poll_cores:.3f}" for it in of)),
            ("cores of Redis: look-ups and writes", *(f"{it.item_cores:.3f}" for it in of)),
            ("cores of Redis: a rate in each policy", *(f"{it.draw_cores:.3f}" for it in of)),
            ("connections to Redis", *(f"{it.connections:,.0f}" for it in of)),
            ("cached items", *(f"{it.items:,.0f}" for it in of)),
            ("GiB of cached items", *(f"{it.item_gib:,.1f}" for it in of)),
        ]
    asks = [formulas.idle_asks_a_second(it) for it in SIZES]
    periods = [max(formulas.RESYNC_SECONDS, it / pace.MOST_A_SECOND) for it in SIZES]
    rows += [
        ("requests to sidecars a second, idle", *(f"{it:,.0f}" for it in asks)),
        ("a sidecar is asked every so many s, at most", *(f"{it:,.0f}" for it in periods)),
        ("nudges for an edit of all policies", *(f"{it:,}" for it in SIZES)),
    ]
    for name in ("editAsks", "editRequests", "idleRequests", "idleCores", "residentMiB"):
        quantity = QUANTITIES[name]
        of_sizes = [_model(quantity, values, it) for it in SIZES]
        shown = (NOT_RUN if it is None else _shown(quantity, it) for it in of_sizes)
        rows.append((quantity.title, *shown))
    return table(("model, not measured", *(f"{it:,} pods" for it in SIZES)), rows)


def _limits(values: Values) -> str:
    rows = [(name, f"{pods:,.0f}") for name, pods in cluster.limits(values)]
    first = rows[0]
    return f"First breaks *{first[0]}*, with {first[1]} pods.\n\n" + table(
        ("limit (model, not measured)", "reached with pods"), rows
    )


def _cores(values: Values) -> str:
    """Pods that fill one core of the Redis that counts."""
    if not _has_redis(values):
        return NOT_RUN
    rows = [
        (
            f"{calls:g}",
            f"{formulas.claims_of_call(calls):.3f}",
            f"{cluster.pods_of_core(values, calls_a_second=calls):,.0f}",
            f"{cluster.pods_of_core(values, calls_a_second=calls, has_rate=True):,.0f}",
            f"{cluster.pods_of_core(values, calls_a_second=calls, policy_pods=64):,.0f}",
            f"{cluster.pods_of_core(values, calls_a_second=calls, policy_pods=1_000):,.0f}",
        )
        for calls in CALLS_A_SECOND
    ]
    head = (
        *("calls of a pod a second", "claims a call", "policies of 10", "and a rate in each"),
        *("policies of 64", "policies of 1,000"),
    )
    return table(head, rows)


_SECTION: Final = """\
No run here has more than 5,000 pods. The tables that are headed *model, not measured* are computed
by `tests/scale/model/formulas.py`; the check points have the same formulas beside what was
measured, at sizes that no constant was fitted at. Where the load was above the cores, messages cost
Redis somewhat more, and an edit takes longer, so that sidecars are asked more often until it is in
force.

{runs}

### Formulas

- **Claims.** A pod draws 16 calls of the day at a time, returns the rest after 10 s without a call,
  and reports every 30 s; the operator has one pod of each policy report every 15 s. With *r* calls
  a second at random and *q* = e^(-10 *r*), a call takes *q* / (1 - (1 - *q*)^16) + *q* claims: 1/16
  of a busy pod, 2 of an idle one. It is checked with the sidecar's quota on a clock of its own and
  a store in memory that counts claims, and with real sidecars.
- **Draws.** A rate of requests takes one for each call, a rate of tokens 1 + e^(-*r* / 10): the
  unused tokens of a call go back with the next draw, or alone after 0.1 s. Tables below have a rate
  of tokens.
- **Cost of a claim.** {claim}
- **Cost of a draw.** {draw}
- All costs are time of Redis's main thread by its own INFO, the least of three rounds, with
  32 connections that have one message each under way. The Redis that counts has
  `appendfsync always`, as an exact quota needs; where fewer claims share one write to its file,
  each takes more.
- **Looks, look-ups, writes** cost the same at each size. Each sidecar looks at its policy's
  generations once a second.
- **An item** takes its value (65 bytes of header, the names of model and space, 4 bytes for each
  number) as the allocator rounds it, and {beside} bytes beside. Pods that share a policy or
  `cache.shared` share its items: pods that bring no texts of their own add none.
- **Requests to sidecars.** Each is asked every 27 s on average, from 3,000 pods on by 111 requests
  a second for all, and one of each policy every 15 s for its quota, from 750 policies on by 50 a
  second for all. After an edit each is asked 0.3 s after its nudge, then every 0.5 s or a fifth of
  the time since: a line through 200 and 1,000 pods.
- **Requests to the API server.** While idle there are none for a pod; after an edit there is one
  nudge for each pod, of which its watch tells the operator once, and those of each policy as at
  1,000 pods.
- **The operator** takes a core's part for itself and one for each request to a sidecar, and memory
  for itself and for each pod with its policies: lines through 200 and 1,000 pods. From some 8,000
  pods on it is less than the line says, as no more of them are held decoded.

### Check points

{checks}

### By size

Policies of 10 pods, one call a second of each pod, each of a new text of 1,536 numbers, 1,000 texts
of each pod kept; one Redis for all.

{sizes}

### What breaks first

The same pods, or all of them in one policy.

{limits}

A Redis each for cache and quota, and several of each (`quota.redis`, `cache.redis` of each policy),
divide those of Redis but that of one window.

### Pods that fill one core of the Redis that counts

{cores}
"""
