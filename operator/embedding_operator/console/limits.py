"""Limits of policies by their status: used, allowed, and when they will be used up; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

_DAY: Final = timedelta(days=1)
_LONGEST: Final = timedelta(days=366)
"""Longer than any period."""

Paces = Mapping[tuple[str, str, str, str], float]
"""Units a second, by namespace, policy, period and unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit of a policy: of `period` day or month, in `unit` requests, tokens or cost."""

    period: str
    unit: str
    limit: Decimal
    used: Decimal
    reset_at: datetime | None

    @property
    def name(self) -> str:
        """The limit's field below `spec.quota`."""
        return f"{'daily' if self.period == 'day' else 'monthly'}.{self.unit}"

    @property
    def shown(self) -> str:
        """Used and allowed, as text."""
        text = f"{self.used:,}/{self.limit:,}"
        return f"{text} USD" if self.unit == "cost" else text

    @property
    def share(self) -> float:
        """The used share, 1 where nothing is left."""
        return 1.0 if self.used >= self.limit else float(self.used / self.limit)

    def lasts(self, now: datetime, *, pace: float | None) -> str:
        """The time at which it is used up, as text; without `pace` at that of its period so far.

        `pace` is in units a second.
        """
        if self.used >= self.limit:
            return "used up"
        if self.reset_at is None or self.reset_at <= now:
            return "not known"
        if pace is None:
            so_far = (now - self._begun(self.reset_at)).total_seconds()
            pace = float(self.used) / so_far if so_far > 0 else 0.0
        if pace <= 0:
            return "its end"
        seconds = min(float(self.limit - self.used) / pace, _LONGEST.total_seconds())
        ends = now + timedelta(seconds=seconds)
        return "its end" if ends >= self.reset_at else ends.strftime("%Y-%m-%d %H:%MZ")

    def _begun(self, reset_at: datetime) -> datetime:
        last = reset_at - _DAY
        return last if self.period == "day" else last.replace(day=1)


def of_policies(
    policies: Iterable[Mapping[str, Any]],
) -> dict[tuple[str, str], tuple[Limit, ...]]:
    """The limits in the status of each policy that has any, by namespace and name."""
    found = {}
    for policy in policies:
        metadata = policy["metadata"]
        limits = of_status((policy.get("status") or {}).get("quota") or {})
        if limits:
            found[metadata["namespace"], metadata["name"]] = limits
    return found


def of_status(quota: Mapping[str, Any]) -> tuple[Limit, ...]:
    """The limits in the `quota` of a status; the day's calls alone where sidecars are older."""
    entries: Sequence[Mapping[str, Any]] = quota.get("limits") or []
    if not entries and "limit" in quota:
        entries = [{**quota, "period": "day", "unit": "requests"}]
    return tuple(
        Limit(
            period=it["period"],
            unit=it["unit"],
            limit=Decimal(it["limit"]),
            used=Decimal(it["used"]),
            reset_at=_moment(it.get("resetAt")),
        )
        for it in entries
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
