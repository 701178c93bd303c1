"""The part of a policy's limits that is for applications and not for background work."""

import re
from dataclasses import dataclass
from typing import Final

DEFAULT: Final[int | str] = "20%"
DEFAULT_PERCENT: Final = 20
SHARE: Final = re.compile(r"(100|[0-9]{1,2})%")
"""A share of every daily limit; anything else is a number of calls."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """The calls and tokens of each day that background work leaves.

    `percent` is the part of each other limit that it leaves.
    """

    requests: int
    tokens: int
    percent: int


def of(written: int | str, *, daily_requests: int | None, daily_tokens: int | None) -> Reserve:
    """The reserve of a policy's limits: calls of a day, or as text a share of each limit.

    Shares are rounded up. Beside a number of calls, the default share is reserved of the limits
    that are not of a day. None is no limit, and nothing of it is reserved.

    Raises:
        ValueError: the text is no share, or the number below 0.
    """
    if isinstance(written, int):
        if written < 0:
            raise ValueError("a reserve is no number below 0")
        calls = min(written, daily_requests or 0)
        return Reserve(requests=calls, tokens=0, percent=DEFAULT_PERCENT)
    share = SHARE.fullmatch(written)
    if share is None:
        raise ValueError("a reserve is a number of calls, or a share from 0% to 100%")
    percent = int(share[1])
    return Reserve(
        requests=_part(daily_requests, percent),
        tokens=_part(daily_tokens, percent),
        percent=percent,
    )


def _part(limit: int | None, percent: int) -> int:
    return 0 if limit is None else -(-limit * percent // 100)
