"""The quantities of the model: the sizes at which each is measured, and its formula."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.scale.model.formulas import (
    CLAIM_FITS,
    HOUR_SECONDS,
    MESSAGE_FIT,
    POD_FITS,
    VECTOR_FITS,
    Values,
    claim_microseconds,
    claims_of_call,
    claims_of_pod,
    draws_of_call,
    edit_asks,
    idle_asks_a_second,
    idle_cores,
    item_bytes,
    resident_mib,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """Something that grows with a size; `model` gives it from the values at `fits`.

    `fits` is empty where all constants are stated in the code.
    """

    title: str
    size: str
    fits: tuple[int, ...]
    checks: tuple[int, ...]
    model: Callable[[Values, int], float]
    digits: int = 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """All that are measured."""
        return tuple(sorted({*self.fits, *self.checks}))


def _same(name: str, fit: int) -> Callable[[Values, int], float]:
    """The same at each size."""
    return lambda values, _: values[name][fit]


def _of_each(name: str, fit: int) -> Callable[[Values, int], float]:
    """The same for each one of the size."""
    return lambda values, size: values[name][fit] / fit * size


_SIZES: Final = (1_000, 10_000, 100_000)
_SIDECARS: Final = (2, 4, 8)
CALLED_A_SECOND: Final = 4.0
"""Calls of each real sidecar."""
SAME_FIT: Final = 3_000
"""Items and policies beyond what a processor's caches hold."""
_PODS: Final = (40, 500, 5_000)

QUANTITIES: Final[Mapping[str, Quantity]] = {
    "claimsOfCall": Quantity(
        title="claims for each call",
        size="calls of a pod an hour",
        fits=(),
        checks=(36, 360, 3_600),
        model=lambda _, size: claims_of_call(size / HOUR_SECONDS),
        digits=3,
    ),
    "claimMicroseconds": Quantity(
        title="a claim, us of Redis's main thread",
        size="pods of the policy",
        fits=CLAIM_FITS,
        checks=(16, 64, 1_000),
        model=claim_microseconds,
    ),
    "messageMicroseconds": Quantity(
        title="a draw of a rate, us of the same",
        size="pods of the policy",
        fits=(MESSAGE_FIT,),
        checks=(100, 1_000, 3_000),
        model=_same("messageMicroseconds", MESSAGE_FIT),
    ),
    "pollMicroseconds": Quantity(
        title="a look at the generations, us of the same",
        size="policies",
        fits=(SAME_FIT,),
        checks=_SIZES,
        model=_same("pollMicroseconds", SAME_FIT),
    ),
    "readMicroseconds": Quantity(
        title="a look-up of one item, us of the same",
        size="items",
        fits=(SAME_FIT,),
        checks=_SIZES,
        model=_same("readMicroseconds", SAME_FIT),
    ),
    "writeMicroseconds": Quantity(
        title="a write of one item, us of the same",
        size="items",
        fits=(SAME_FIT,),
        checks=_SIZES,
        model=_same("writeMicroseconds", SAME_FIT),
    ),
    "itemBytes": Quantity(
        title="all items of 1,536 numbers, bytes for each",
        size="items",
        fits=(),
        checks=_SIZES,
        model=lambda values, _: item_bytes(values, 1_536),
        digits=0,
    ),
    "vectorBytes": Quantity(
        title="10,000 items, bytes for each",
        size="numbers of a vector",
        fits=VECTOR_FITS,
        checks=(256, 1_024, 3_072),
        model=item_bytes,
        digits=0,
    ),
    "claims": Quantity(
        title=f"claims a second, each sidecar with {CALLED_A_SECOND:.0f} calls a second",
        size="sidecars",
        fits=(),
        checks=_SIDECARS,
        model=lambda _, size: size * claims_of_pod(CALLED_A_SECOND),
        digits=2,
    ),
    "draws": Quantity(
        title="draws a second of the same, with a rate of tokens",
        size="sidecars",
        fits=(),
        checks=_SIDECARS,
        model=lambda _, size: size * CALLED_A_SECOND * draws_of_call(CALLED_A_SECOND),
        digits=1,
    ),
    "connections": Quantity(
        title="connections to Redis of the same",
        size="sidecars",
        fits=(1,),
        checks=_SIDECARS,
        model=_of_each("connections", 1),
        digits=0,
    ),
    "idleAsks": Quantity(
        title="requests to sidecars a second, idle",
        size="pods",
        fits=(),
        checks=_PODS,
        model=lambda _, size: idle_asks_a_second(size),
        digits=2,
    ),
    "idleRequests": Quantity(
        title="requests to the API server an hour, idle, without the Lease's",
        size="pods",
        fits=POD_FITS,
        checks=_PODS,
        model=_same("idleRequests", POD_FITS[-1]),
        digits=0,
    ),
    "editAsks": Quantity(
        title="requests to sidecars for an edit of all policies",
        size="pods",
        fits=POD_FITS,
        checks=_PODS,
        model=edit_asks,
        digits=0,
    ),
    "editNudges": Quantity(
        title="nudges for an edit of all policies",
        size="pods",
        fits=(),
        checks=_PODS,
        model=lambda _, size: size,
        digits=0,
    ),
    "editRequests": Quantity(
        title="all requests to the API server for an edit of all policies",
        size="pods",
        fits=POD_FITS,
        checks=_PODS,
        model=_of_each("editRequests", POD_FITS[-1]),
        digits=0,
    ),
    "idleCores": Quantity(
        title="the operator, idle, cores",
        size="pods",
        fits=POD_FITS,
        checks=_PODS,
        model=idle_cores,
        digits=3,
    ),
    "residentMiB": Quantity(
        title="memory of the operator, MiB",
        size="pods",
        fits=POD_FITS,
        checks=_PODS,
        model=resident_mib,
        digits=0,
    ),
}
