"""What is left of a policy's day, as one sidecar last heard of it."""

from typing import Final, NamedTuple


class Allowance(NamedTuple):
    """Limits, and what this sidecar may still draw on until the day ends by the store's clock.

    Of background work both are without what is reserved for applications.

    Units that other pods hold, or that are lost with pods that died, are not left: so a sidecar
    whose `requests_left` or `tokens_left` is 0 makes no call. A limit of None is no limit, and
    nothing is said of what is left of it.
    """

    daily_requests: int | None
    requests_left: int | None
    daily_tokens: int | None
    tokens_left: int | None
    resets_in_seconds: float

    @property
    def used_up(self) -> bool:
        """Whether no call can be made, however small."""
        return 0 in (self.requests_left, self.tokens_left)


NO_LIMIT: Final = Allowance(None, None, None, None, 0.0)
"""Of a day without limits, of which nothing need be told."""
