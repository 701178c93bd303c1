"""Retry-After of a provider, read from its headers or from its error.

Sources: `retry-after-ms` as OpenAI's SDKs obey it; `retry-after` in seconds or as a date, RFC 9110,
section 10.2.3; `x-ratelimit-reset-requests` and `-tokens` with durations as Go writes them (`6m0s`,
`12ms`), OpenAI's page on rate limits; the same in whole seconds and without a unit, Azure's;
google.rpc.RetryInfo (google/rpc/error_details.proto), which Gemini sends in place of a header.
"""

import math
import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any, Final

_UNIT_SECONDS: Final = MappingProxyType(
    {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
)
_TERM: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s|us|µs|ns)")
_DURATION: Final = re.compile(rf"(?:{_TERM.pattern})+")
_LIMITS: Final = ("requests", "tokens")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after`, or None; header names are in lower case."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    said = headers.get("retry-after", "")
    seconds = _number(said)
    return seconds if seconds is not None else _until(said, headers.get("date", ""))


def retry_info(error: Mapping[str, Any]) -> float | None:
    """Seconds to wait by an error in Google's form, or None."""
    details = error.get("details")
    for it in details if isinstance(details, list) else ():
        if isinstance(it, dict) and isinstance(it.get("retryDelay"), str):
            return duration(it["retryDelay"])
    return None


def reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until the used-up limit is reset, or until the sooner of both where none is named.

    Only for a 429: OpenAI sends these headers with every answer.
    """
    waits = {}
    for limit in _LIMITS:
        seconds = duration(headers.get(f"x-ratelimit-reset-{limit}", ""))
        if seconds:  # Azure says 0 or -1 where it does not know
            waits[limit] = seconds
    until = used_up(headers)
    return min(waits.values(), default=None) if until is None else until


def used_up(headers: Mapping[str, str]) -> float | None:
    """Seconds until the limit of which nothing remains is reset; None where none is used up.

    Azure says 0 or -1 where it knows no limit.
    """
    waits = [
        duration(headers.get(f"x-ratelimit-reset-{limit}", "")) or 0.0
        for limit in _LIMITS
        if _number(headers.get(f"x-ratelimit-remaining-{limit}")) == 0
        and _number(headers.get(f"x-ratelimit-limit-{limit}", "1"))
    ]
    return max(waits, default=0.0) or None


def duration(text: str) -> float | None:
    """Seconds of a duration in Go's form, or of a bare number; None for another text."""
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _TERM.findall(text))
    return _number(text)


def _until(date: str, now: str) -> float | None:
    """Seconds to a date, by the sender's clock if it sent a Date."""
    until, told = _timestamp(date), _timestamp(now)
    if until is None:
        return None
    return max(0.0, until - (time.time() if told is None else told))


def _timestamp(date: str) -> float | None:
    try:
        read = parsedate_to_datetime(date)
        # "-0000" is read as no zone; an HTTP date is in GMT.
        return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
