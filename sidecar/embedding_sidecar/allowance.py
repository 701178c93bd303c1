"""The rest of a policy's day, by the last answer that one sidecar has."""

from typing import Final, NamedTuple


class Allowance(NamedTuple):
    """Limits, and the amounts that this sidecar may still draw until the store's day ends.

    For background work both are without the reserve for applications. Units that other pods hold,
    or that are lost with pods that died, are not left: a sidecar whose `requests_left` or
    `tokens_left` is 0 makes no call. None is no limit.
    """

    daily_requests: int | None
    requests_left: int | None
    daily_tokens: int | None
    tokens_left: int | None
    resets_in_seconds: float

    @property
    def used_up(self) -> bool:
        """True if not even the smallest call can be made."""
        return 0 in (self.requests_left, self.tokens_left)


NO_LIMIT: Final = Allowance(None, None, None, None, 0.0)
"""The allowance of a day without limits."""
