"""The rest of a policy's day and month, by the last answer that one sidecar has."""

from typing import Final, NamedTuple


class Allowance(NamedTuple):
    """Limits, and the amounts that this sidecar may still draw until the store's period ends.

    For background work both are without the reserve for applications. Units that other pods hold,
    or that are lost with pods that died, are not left: a sidecar whose `requests_left`,
    `tokens_left` or `cost_left` is 0 makes no call. None is no limit. A cost is in nano-dollars.
    `month` is the month's allowance beside the day's, None without limits of a month.
    """

    requests: int | None
    requests_left: int | None
    tokens: int | None
    tokens_left: int | None
    resets_in_seconds: float
    cost_left: int | None = None
    month: "Allowance | None" = None

    @property
    def used_up(self) -> bool:
        """True if not even the smallest call can be made."""
        of_month = self.month is not None and self.month.used_up
        return of_month or 0 in (self.requests_left, self.tokens_left, self.cost_left)


NO_LIMIT: Final = Allowance(None, None, None, None, 0.0)
"""The allowance of a period without limits."""
