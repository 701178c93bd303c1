"""The next action of a replica, from the record of the Lease that it saw and its own clock.

The rules are those of client-go's leaderelection (tools/leaderelection/leaderelection.go): clocks
of replicas are never compared. A record counts from the moment at which this replica first saw it
as it is, on this replica's clock, and not from the time that its holder wrote into it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

DURATION_SECONDS: Final = 15
"""A record that stays as it is for so long is free for others."""
RENEW_DEADLINE_SECONDS: Final = 10.0
"""The holder stops when its last renewal was sent so long ago: before others may take the Lease."""
RETRY_SECONDS: Final = 2.0
"""Between two attempts, to renew or to take it."""

Action = Literal["create", "take", "renew", "wait", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The spec of a Lease; an empty `holder` means that it is free."""

    holder: str = ""
    duration_seconds: float = DURATION_SECONDS
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The record of a Lease, None where there is no Lease, and since when it has been so."""

    record: Record | None
    since: float


def read(lease: Mapping[str, Any] | None) -> Record | None:
    """The record of a Lease. Fields that are missing, or of another type, are as in a free one."""
    if lease is None:
        return None
    spec = lease.get("spec") or {}

    def number(key: str, default: int) -> int:
        value = spec.get(key)
        return value if isinstance(value, int) and value >= 0 else default

    return Record(
        holder=str(spec.get("holderIdentity") or ""),
        duration_seconds=number("leaseDurationSeconds", DURATION_SECONDS),
        acquired=str(spec.get("acquireTime") or ""),
        renewed=str(spec.get("renewTime") or ""),
        transitions=number("leaseTransitions", 0),
    )


def see(before: Seen | None, record: Record | None, *, now: float) -> Seen:
    """The record as seen now: since before, if it has not changed."""
    if before is not None and before.record == record:
        return before
    return Seen(record=record, since=now)


def decide(seen: Seen, *, identity: str, holds: bool, now: float) -> Action:
    """The action for the record that was seen; `holds` is true while this replica reconciles."""
    record = seen.record
    if record is None:
        return "create"
    if record.holder == identity:
        return "renew"
    if holds:
        return "lost"
    if not record.holder or now >= seen.since + record.duration_seconds:
        return "take"
    return "wait"


def wait_seconds(seen: Seen | None, *, identity: str, now: float) -> float:
    """The time until the next attempt: a record that ends sooner is looked at when it ends."""
    if seen is None or seen.record is None or seen.record.holder in {"", identity}:
        return RETRY_SECONDS
    left_seconds = seen.since + seen.record.duration_seconds - now
    return max(0.0, min(RETRY_SECONDS, left_seconds)) if left_seconds > 0 else RETRY_SECONDS


def is_in_time(renewed_at: float | None, *, now: float) -> bool:
    """True if the holder may still write; `renewed_at` is when its last renewal was sent."""
    return renewed_at is not None and now - renewed_at < RENEW_DEADLINE_SECONDS
