"""A quota, as those use it who make calls."""

import asyncio

from embedding_sidecar.quota.claims import Amounts
from embedding_sidecar.quota.leases import Reservation
from embedding_sidecar.quota.quota import Quota


def held(quota: Quota, *, tokens: int = 1) -> Reservation | None:
    """A call that nobody needs to be asked for; None where somebody must be."""
    outcome = quota._applications.at_once(Amounts(1, tokens))
    return outcome if isinstance(outcome, Reservation) else None


async def settled(quota: Quota, reservation: Reservation, *, billed: bool, tokens: int) -> None:
    """A call is over, and what it leaves has been given back where that is due."""
    quota.settle(reservation, billed=billed, tokens=tokens)
    await asyncio.gather(*quota._applications.giving_back)
