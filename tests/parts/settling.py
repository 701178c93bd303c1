"""A quota, used as by its callers."""

import asyncio

from embedding_sidecar.quota.leases import Reservation
from embedding_sidecar.quota.quota import Quota


def held(quota: Quota, *, tokens: int = 1) -> Reservation | None:
    """A call that nobody needs to be asked for; None where somebody must be."""
    told: list[object] = []
    leave = quota.draw(tokens=tokens, done=told.append)
    if leave is not None:
        leave()
    return told[0] if told and isinstance(told[0], Reservation) else None


async def give_back(quota: Quota) -> None:
    """Nobody has called for a while: what is held and not spent has been given back."""
    for period in (quota.day, quota.month):
        for share in period.reported_shares() if period else []:
            await share.give_back()


async def settled(
    quota: Quota, reservation: Reservation, *, billed: bool, tokens: int, price: int = 0
) -> None:
    """A call is over, and what it leaves has been given back where that is due."""
    quota.settle(reservation, billed=billed, tokens=tokens, price=price)
    await asyncio.gather(*quota.day.shares[False].giving_back)
