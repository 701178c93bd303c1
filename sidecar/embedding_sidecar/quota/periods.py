"""The periods that a quota is counted in: UTC days and UTC months since 1970."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

NO_NUMBER: Final = -1
"""Before the first period that is known."""
DAY_SECONDS: Final = 86_400
_YEAR: Final = 1970
_MONTHS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Days, or months. Each has a `number`, by which the store's clock and ours name it.

    `this` is the present one in a sentence. `grant_calls` is the number of calls that a lease holds
    unspent at most, and that are lost when its holder is killed: a month has more of them, so that
    it costs few claims beside the day's. `most_seconds` is the length of the longest, `most_number`
    a bound of the numbers, in the year 9909: Python's dates end in 9999.
    """

    word: str
    this: str
    grant_calls: int
    most_seconds: int
    most_number: int
    number: Callable[[float], int]
    """The number of the period of a time in seconds since 1970."""
    begin: Callable[[int], datetime]
    """The beginning of the period of a number."""
    end_seconds: Callable[[int], float]
    """Its end in seconds since 1970; every answer without a store asks for that of the day."""

    def end(self, number: int) -> datetime:
        """The end of the period of a number."""
        return self.begin(number + 1)


def _day_begins(number: int) -> datetime:
    return datetime.fromtimestamp(number * DAY_SECONDS, tz=UTC)


def _month(seconds: float) -> int:
    at = datetime.fromtimestamp(seconds, tz=UTC)
    return (at.year - _YEAR) * _MONTHS + at.month - 1


def _month_begins(number: int) -> datetime:
    years, months = divmod(number, _MONTHS)
    return datetime(_YEAR + years, months + 1, 1, tzinfo=UTC)


DAY: Final = Period(
    word="day",
    this="today",
    grant_calls=16,
    most_seconds=DAY_SECONDS,
    most_number=2_900_000,
    number=lambda seconds: int(seconds // DAY_SECONDS),
    begin=_day_begins,
    end_seconds=lambda number: (number + 1) * DAY_SECONDS,
)
MONTH: Final = Period(
    word="month",
    this="this month",
    grant_calls=64,
    most_seconds=31 * DAY_SECONDS,
    most_number=95_268,
    number=_month,
    begin=_month_begins,
    end_seconds=lambda number: _month_begins(number + 1).timestamp(),
)
