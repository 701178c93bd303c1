"""The expressions of the built-in alerts about the quota: every limit of a day and of a month.

Placeholders are those of `built_in_alerts`. Older sidecars tell of the day's calls only; newer ones
tell of them among all limits, so that the older series count where there are no others.
"""

from typing import Final

_BY: Final = "by (namespace, policy)"
_EACH: Final = "by (namespace, policy, period, unit)"
_ELSE: Final = "or on (namespace, policy)"
_CALLS: Final = f"max {_BY} (aos_embedding_daily_calls{{@selector@}})"
_QUOTA: Final = f"max {_BY} (aos_embedding_daily_quota{{@selector@}})"
_SECONDS_OF_DAY: Final = "(86400 - time() % 86400)"
_SECONDS_OF_MONTH: Final = (
    "((scalar(days_in_month() - day_of_month()) + 1) * 86400 - time() % 86400)"
)


def _of_each(series: str, *matchers: str) -> str:
    return f"max {_EACH} ({series}{{{', '.join(('@selector@', *matchers))}}})"


_USED: Final = _of_each("aos_embedding_quota_used")
_LIMIT: Final = _of_each("aos_embedding_quota_limit")


def _will_not_last(period: str, *, pace: str, left: str) -> str:
    """At the pace of the last time `pace`, more is used after `left` seconds than allowed."""
    only = f'period="{period}"'
    used = _of_each("aos_embedding_quota_used", only)
    slope = f"max {_EACH} (deriv(aos_embedding_quota_used{{@selector@, {only}}}[{pace}]))"
    limit = _of_each("aos_embedding_quota_limit", only)
    return f"{used} + {slope} * {left} > @threshold@ / 100 * ({limit} > 0) unless {used} >= {limit}"


WHICH: Final = "{{ with $labels.unit }} of {{ . }} for the {{ $labels.period }}{{ end }}"
"""The limit that an alert is about, in its summary; nothing for older sidecars."""

# From the limit on EXHAUSTED is true.
NEARLY_EXHAUSTED: Final = (
    f"({_USED} >= @threshold@ / 100 * ({_LIMIT} > 0) unless {_USED} >= {_LIMIT})"
    f" {_ELSE} ({_CALLS} >= @threshold@ / 100 * ({_QUOTA} > 0) unless {_CALLS} >= {_QUOTA})"
)

# The gauges have the whole policy's use, the same in every pod. But a dead pod's lease is used
# without calls: refusals show it. A quota of 0 is intended.
EXHAUSTED: Final = (
    f"{_USED} >= ({_LIMIT} > 0)"
    f" {_ELSE} ({_CALLS} >= ({_QUOTA} > 0)"
    f" or max {_BY} (increase(aos_embedding_quota_exhausted_total{{@selector@}}[@window@]))"
    f" > 0 unless {_QUOTA} == 0)"
)

# A month's pace is a day's: nights and days differ.
WILL_NOT_LAST: Final = (
    f"(({_will_not_last('day', pace='30m', left=_SECONDS_OF_DAY)})"
    f" or ({_will_not_last('month', pace='1d', left=_SECONDS_OF_MONTH)}))"
    f" {_ELSE} ({_CALLS} + max {_BY} (deriv(aos_embedding_daily_calls{{@selector@}}[30m]))"
    f" * {_SECONDS_OF_DAY} > @threshold@ / 100 * ({_QUOTA} > 0)"
    f" unless {_CALLS} >= {_QUOTA})"
)
