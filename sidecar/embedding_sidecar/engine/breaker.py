"""Who has failed of late, and is left alone for a while.

One failure is enough where it says more than that a call failed: a refused key or a spent credit
stays so, and Retry-After of a 429 says how long. Else it takes several in a row. A provider whose
time is up gets one call, the probe, before everybody asks it again.

What may be one text's fault (a firewall's 403, a 5xx, a time-out) counts as the provider's once
other texts have failed too, with no answer between; until then a 5xx's Retry-After is that text's.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from embedding_sidecar import errors
from embedding_sidecar.translation import http_status

FAILURES_TO_OPEN: Final = 3
OPEN_SECONDS: Final = 10.0
MOST_SECONDS: Final = 60.0
"""No Retry-After is believed for longer without asking again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoolDown:
    """A provider is left alone until `until`, because of `failure`; None: until its probe ends."""

    failure: errors.ProviderFailed
    until: float | None

    @property
    def certain(self) -> bool:
        """Whether a call would fail: the key is refused, or the credit is spent."""
        return self.until is not None and isinstance(
            self.failure, errors.ConfigurationError | errors.OutOfCredit
        )

    @property
    def asked_for(self) -> bool:
        """Whether the provider itself said how long."""
        return self.until is not None and self.failure.retry_after_seconds is not None

    def as_error(self, now: float) -> errors.ProviderFailed:
        """The failure as it is now: of what the provider asked for, the rest is left."""
        if not self.asked_for or self.until is None:
            return self.failure
        left = self.until - now
        as_error: errors.ProviderFailed
        if isinstance(self.failure, errors.RateLimited):
            as_error = errors.RateLimited(self.failure.reason, retry_after_seconds=left)
        else:
            as_error = errors.Unreachable(
                self.failure.reason, billed=False, retry_after_seconds=left
            )
        as_error.words = self.failure.words
        return as_error


_OF_A_TEXT: Final = frozenset({"server_error", "bad_answer", "wrong_size", "timeout"})
"""Reasons of an Unreachable that came of a request which was sent."""
_SEVERAL: Final = 2
_MOST_KEYS: Final = 8192
"""Of texts that failed, as far as they are remembered: four batches."""


@dataclass(slots=True)
class _Record:
    failures: int = 0
    causes: int = 0
    """How many texts, or batches with none in common, have failed."""
    texts: set[int] = field(default_factory=set)
    cool_down: CoolDown | None = None
    probing: bool = False
    word: str = ""


class Breaker:
    """What is known of each provider, by name."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    @property
    def anything(self) -> bool:
        """Whether anybody has failed since it last answered."""
        return bool(self._records)

    def cool_down(self, name: str, *, now: float) -> CoolDown | None:
        """Why and how long this provider is left alone; None where it may be asked."""
        record = self._records.get(name)
        if record is None or record.cool_down is None:
            return None
        if record.cool_down.until is not None and now < record.cool_down.until:
            return record.cool_down
        return CoolDown(failure=record.cool_down.failure, until=None) if record.probing else None

    def word(self, name: str) -> str:
        """Why this provider failed last; empty where it has answered since."""
        record = self._records.get(name)
        return "" if record is None else record.word

    def words(self) -> dict[str, str]:
        """Why each provider that has not answered since failed last, by name."""
        return {name: record.word for name, record in self._records.items() if record.word}

    def suspects(self, name: str) -> bool:
        """Whether the provider is left alone, or was and has not answered since."""
        record = self._records.get(name)
        return record is not None and record.cool_down is not None

    def probed(self, name: str) -> bool:
        """Whether somebody is finding out whether the provider is back."""
        record = self._records.get(name)
        return record is not None and record.probing

    def probe(self, name: str) -> bool:
        """Find out whether the provider is back, until `left`; False where somebody else does."""
        record = self._records.setdefault(name, _Record())
        if record.probing:
            return False
        record.probing = True
        return True

    def left(self, name: str) -> None:
        """A probe ended, whatever it showed."""
        if name in self._records:
            self._records[name].probing = False

    def succeeded(self, name: str) -> None:
        """The provider answered, or another one has its name now: nothing is known of it."""
        self._records.pop(name, None)

    def key_changed(self, name: str) -> None:
        """The provider is asked by another key: what the one before has spent is not its."""
        record = self._records.get(name)
        if record is not None and (
            record.cool_down is None
            or isinstance(record.cool_down.failure, errors.ConfigurationError | errors.OutOfCredit)
        ):
            del self._records[name]

    def failed(
        self,
        name: str,
        failure: errors.ProviderFailed,
        *,
        now: float,
        texts: Collection[int] = (),
    ) -> errors.ProviderFailed:
        """The provider did not answer for these texts, by hash; why it is left alone, if so.

        Where it is not, that is the failure itself.
        """
        record = self._records.setdefault(name, _Record())
        record.word = failure.reason
        record.failures += 1
        if not texts or not _may_be_the_texts(failure):
            record.causes = _SEVERAL
        elif record.texts.isdisjoint(texts):
            record.causes += 1
            if len(record.texts) < _MOST_KEYS:
                record.texts.update(texts)
        if isinstance(failure, errors.ConfigurationError | errors.OutOfCredit):
            seconds = OPEN_SECONDS
        elif failure.retry_after_seconds is not None and (
            record.causes >= _SEVERAL or not _may_be_the_texts(failure)
        ):
            seconds = min(failure.retry_after_seconds, MOST_SECONDS)
        elif record.failures >= FAILURES_TO_OPEN and record.causes >= _SEVERAL:
            seconds = OPEN_SECONDS
            if isinstance(failure, errors.Declined):
                failure = _of_all(failure)
        else:
            return failure
        record.cool_down = CoolDown(failure=failure, until=now + seconds)
        return failure


def _may_be_the_texts(failure: errors.ProviderFailed) -> bool:
    return isinstance(failure, errors.Declined) or (
        isinstance(failure, errors.Unreachable) and failure.reason in _OF_A_TEXT
    )


def _of_all(declined: errors.Declined) -> errors.ConfigurationError:
    """What a provider that declines all texts means: nothing succeeds with the key, or at all."""
    is_key = declined.reason == http_status.FORBIDDEN
    found = errors.ConfigurationError(errors.KEY_REFUSED if is_key else declined.reason)
    found.words = declined.words
    return found
