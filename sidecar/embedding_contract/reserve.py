"""The part of a policy's daily quota that is for applications and not for background work."""

import re
from dataclasses import dataclass
from typing import Final

DEFAULT: Final[int | str] = "20%"
DEFAULT_PERCENT: Final = 20
SHARE: Final = re.compile(r"(100|[0-9]{1,2})%")
"""A share of every daily limit; anything else is a number of calls."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Calls and tokens of each day that background work leaves."""

    requests: int
    tokens: int


def of(written: int | str, *, daily_requests: int | None, daily_tokens: int | None) -> Reserve:
    """The reserve of a policy's limits: calls, or as text a share of both, rounded up.

    None is no limit, and nothing of it is reserved.

    Raises:
        ValueError: the text is no share, or the number below 0.
    """
    if isinstance(written, int):
        if written < 0:
            raise ValueError("a reserve is no number below 0")
        return Reserve(requests=min(written, daily_requests or 0), tokens=0)
    share = SHARE.fullmatch(written)
    if share is None:
        raise ValueError("a reserve is a number of calls, or a share from 0% to 100%")
    parts = [-(-(limit or 0) * int(share[1]) // 100) for limit in (daily_requests, daily_tokens)]
    return Reserve(*parts)
