"""The circuit breaker: a provider that failed lately is not called for a while.

One failure is enough where its cause lasts: a refused key, a spent credit, or a 429 with
Retry-After. Else it takes several in a row. A provider whose cool-down is over gets one call, the
probe, before all requests may call it again.

A failure that one text may cause (a firewall's 403, a 5xx, a time-out) is the provider's once other
texts have failed too, with no answer between; until then a 5xx's Retry-After is that request's.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from embedding_sidecar import errors
from embedding_sidecar.translation import http_status

FAILURES_TO_OPEN: Final = 3
OPEN_SECONDS: Final = 10.0
MOST_SECONDS: Final = 60.0
"""Bound of a Retry-After: after this time the provider is asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoolDown:
    """No call to a provider before `until`, because of `failure`; None: until its probe ends."""

    failure: errors.ProviderFailed
    until: float | None

    @property
    def certain(self) -> bool:
        """True if a call would fail: the key is refused, or the credit is spent."""
        return self.until is not None and isinstance(
            self.failure, errors.ConfigurationError | errors.OutOfCredit
        )

    @property
    def asked_for(self) -> bool:
        """True if the provider itself stated the time."""
        return self.until is not None and self.failure.retry_after_seconds is not None

    def as_error(self, now: float) -> errors.ProviderFailed:
        """The failure as of now: its Retry-After is the time that is left."""
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
"""Reasons of an Unreachable whose request was sent."""
_SEVERAL: Final = 2
_MOST_KEYS: Final = 8192
"""Bound of the failed texts that are remembered: four batches."""


@dataclass(slots=True)
class _Record:
    failures: int = 0
    causes: int = 0
    """The number of texts that have failed, or of batches with no text in common."""
    texts: set[int] = field(default_factory=set)
    cool_down: CoolDown | None = None
    probing: bool = False
    word: str = ""


_NOTHING: Final = _Record()
"""The record of a provider that has answered since it failed; never changed."""


class Breaker:
    """The recent failures of each provider, by name."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    @property
    def anything(self) -> bool:
        """True if a provider has failed since it last answered."""
        return bool(self._records)

    def cool_down(self, name: str, *, now: float) -> CoolDown | None:
        """The cool-down of this provider; None where it may be called."""
        record = self._records.get(name, _NOTHING)
        if record.cool_down is None:
            return None
        if record.cool_down.until is not None and now < record.cool_down.until:
            return record.cool_down
        return CoolDown(failure=record.cool_down.failure, until=None) if record.probing else None

    def word(self, name: str) -> str:
        """The reason of this provider's last failure; empty if it has answered since."""
        return self._records.get(name, _NOTHING).word

    def words(self) -> dict[str, str]:
        """The last failure's reason of each provider that has not answered since, by name."""
        return {name: record.word for name, record in self._records.items() if record.word}

    def suspects(self, name: str) -> bool:
        """True if the provider is in cool-down, or was and has not answered since."""
        return self._records.get(name, _NOTHING).cool_down is not None

    def probed(self, name: str) -> bool:
        """True if a request is probing the provider."""
        return self._records.get(name, _NOTHING).probing

    def probe(self, name: str) -> bool:
        """Begin a probe, which lasts until `left`; False if another request is probing."""
        record = self._records.setdefault(name, _Record())
        if record.probing:
            return False
        record.probing = True
        return True

    def left(self, name: str) -> None:
        """A probe ended, with whatever result."""
        if name in self._records:
            self._records[name].probing = False

    def succeeded(self, name: str) -> None:
        """Forget failures: the provider answered, or another one has its name now."""
        self._records.pop(name, None)

    def key_changed(self, name: str) -> None:
        """Forget refusals and spent credit of the previous key: another key is in use."""
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
        """Record a failure for these texts, by hash; the reason of the cool-down, if one begins.

        Otherwise that is the failure itself.
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
    """The error of a provider that declines all texts: no call succeeds with the key, or at all."""
    is_key = declined.reason == http_status.FORBIDDEN
    found = errors.ConfigurationError(errors.KEY_REFUSED if is_key else declined.reason)
    found.words = declined.words
    return found
