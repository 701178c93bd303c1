"""The most that a policy may spend at a provider of the platform, beside the policy's own quota."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.quota.chain import Chain, Done, Link
from embedding_sidecar.quota.leases import Reservation
from embedding_sidecar.quota.quota import Quota


class _Both(NamedTuple):
    """One call that may be made, as each quota counts it."""

    own: Reservation
    ceiling: Reservation

    @property
    def beyond(self) -> tuple[str, ...]:
        """Limits of the policy that the call exceeds, while they are only observed."""
        return self.own.beyond


class WithCeiling:
    """The quota of a policy's calls to one class, with the methods of Quota that a call uses.

    The policy's own quota comes first, and gets back what the ceiling refuses. Another provider
    may answer then: it has another ceiling, or none.
    """

    def __init__(self, own: Quota, ceiling: Quota, *, class_name: str) -> None:
        self._own = own
        self._ceiling = ceiling
        self._class_name = class_name

    def draw(
        self, *, tokens: int, done: Done, background: bool = False, price: int = 0
    ) -> Callable[[], None] | None:
        """Draw from both, as Quota.draw; errors.NotGranted where the ceiling refuses."""
        ask = partial(_draw, tokens=tokens, background=background, price=price)

        def of_ceiling(told: Done) -> Callable[[], None] | None:
            return ask(self._ceiling, lambda outcome: told(self._not_granted(outcome)))

        links = [
            Link(partial(ask, self._own), partial(self._own.settle, billed=False, tokens=0)),
            Link(of_ceiling, partial(self._ceiling.settle, billed=False, tokens=0)),
        ]

        def drawn(outcome: Any) -> None:
            done(_Both(*outcome) if isinstance(outcome, list) else outcome)

        return Chain(links, drawn).start()

    def _not_granted(self, outcome: Any) -> Any:
        if not isinstance(outcome, errors.Refused):
            return outcome
        outcome.message = f"Ceiling of provider class {self._class_name!r}: {outcome.message}"
        return errors.NotGranted(outcome)

    def settle(self, reservation: _Both, *, billed: bool, tokens: int, price: int = 0) -> None:
        """Settle both, as Quota.settle."""
        self._own.settle(reservation.own, billed=billed, tokens=tokens, price=price)
        self._ceiling.settle(reservation.ceiling, billed=billed, tokens=tokens, price=price)


def _draw(
    counted: Quota, done: Done, *, tokens: int, background: bool, price: int
) -> Callable[[], None] | None:
    return counted.draw(tokens=tokens, done=done, background=background, price=price)


def is_limited(limits: document.Quota) -> bool:
    """True if a class has a ceiling."""
    return any(
        it is not None
        for it in (
            limits.daily_requests,
            limits.daily_tokens,
            limits.daily_cost,
            limits.monthly_requests,
            limits.monthly_tokens,
            limits.monthly_cost,
        )
    )


def by_provider(
    policy: document.PolicyDocument, own: Quota, ceilings: Mapping[str, Quota]
) -> Mapping[str, WithCeiling]:
    """The quotas of providers whose class has a ceiling, by the provider's name."""
    return {
        it.name: WithCeiling(own, ceilings[it.class_name], class_name=it.class_name)
        for it in policy.providers
        if it.class_name is not None and it.class_name in ceilings
    }
