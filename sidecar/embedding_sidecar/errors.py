"""What can go wrong, by what the caller should do next.

    SidecarError
    ├── Refused               the answer to the application is decided; has an HTTP status
    │   ├── Rejected            the caller's fault: no provider would answer this
    │   ├── QuotaExhausted      the policy's day is used up: wait for the reset
    │   │   └── QuotaReserved     what is left of it is for applications: likewise
    │   └── Unavailable         nobody can answer now: a store, a document or a key is missing
    ├── ProviderFailed        one provider did not answer; may another one succeed? yes
    │   ├── Exhausted           429: its rate is used up; wait
    │   ├── Unreachable         no answer: connection, time-out, 5xx; try again
    │   │   └── Unusable          nonsense, which the same question gets again, and perhaps pays for
    │   │       └── WrongSize       vectors of another size than was asked for
    │   ├── Spent               402, or 429 that says so: its credit is used up; waiting is no use
    │   ├── Misconfigured       401, or 403 in its own form, or no key: a person must act
    │   ├── Declined            other 4xx, redirects: this text's, until other texts fail too
    │   └── Unsuited            it takes no such request, and was not asked
    └── StoreAway             Redis did not answer in time: go on without it, or refuse
        ├── StoreRefuses        it answered, and does not let us
        └── StoreCorrupt        it answered what cannot be: somebody else writes there

Messages of Refused reach the caller; a provider's own words are a part of them, bounded and cleaned
(`words`).
"""

from typing import Final, Self

from embedding_sidecar.allowance import Allowance

KEY_MISSING: Final = "key_missing"
KEY_REFUSED: Final = "key_refused"
"""Reasons of Misconfigured: we have no key to send, and the provider would not take it."""


class SidecarError(Exception):
    """The root of all errors of this program."""

    def as_value(self) -> Self:
        """Itself, to be kept: without the frames it came through.

        They hold the request, up to 16 MB of it, and the key, for as long as somebody holds this;
        and where one of them holds this in its turn, until the next collection of garbage.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class Refused(SidecarError):  # noqa: N818 - the tree reads as sentences
    """An answer in OpenAI's error form: `status`, `message`, `type`, `param`, `code`.

    `attempts` requests were sent to providers before it was decided.
    """

    status = 500
    kind = "server_error"
    attempts = 0
    should_retry: bool | None = None
    """What an SDK is told; None leaves it to the status."""

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param


class Rejected(Refused):
    """The request itself is wrong."""

    kind = "invalid_request_error"

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.status = status


class QuotaExhausted(Refused):
    """The policy has no call, or not enough tokens, left until its day ends."""

    status = 429
    kind = "insufficient_quota"

    def __init__(self, message: str, *, left: Allowance, code: str = "insufficient_quota") -> None:
        super().__init__(message, code=code)
        self.left = left


class QuotaReserved(QuotaExhausted):
    """What the policy's day has left is reserved for applications, and this is background work."""

    def __init__(self, message: str, *, left: Allowance) -> None:
        super().__init__(message, left=left, code="quota_reserved_for_applications")


class Unavailable(Refused):
    """Nobody can answer now. `status` is 503, 502 or, where all are exhausted, 429.

    `kind` is OpenAI's type, `should_retry` False where asking again would pay again, or be vain.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int = 503,
        retry_after_seconds: float | None = None,
        kind: str = "server_error",
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.kind = kind
        self.should_retry = should_retry
        self.retry_after_seconds = retry_after_seconds


class ProviderFailed(SidecarError):  # noqa: N818 - as above
    """One provider gave no answer. `reason` is one of a closed list of words for metrics and logs.

    `billed` says whether the call may have been charged; it is False only where that is certain.
    `retry_after_seconds` is how long the provider asks to be left alone, None where it did not say.
    `words` are the provider's own, bounded and cleaned; empty where it said none.
    """

    words = ""

    def __init__(
        self, reason: str, *, billed: bool, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.billed = billed
        self.retry_after_seconds = retry_after_seconds


class Exhausted(ProviderFailed):
    """The provider's rate is used up for a while."""

    def __init__(self, reason: str, *, retry_after_seconds: float | None) -> None:
        super().__init__(reason, billed=False, retry_after_seconds=retry_after_seconds)


class Unreachable(ProviderFailed):
    """No usable answer."""


class Unusable(Unreachable):
    """A 2xx that does not hold one finite vector of one size for each item."""


class WrongSize(Unusable):
    """Vectors of another size than was asked for: `numbers`, 0 where that is not known."""

    def __init__(self, numbers: int) -> None:
        super().__init__("wrong_size", billed=True)
        self.numbers = numbers


class Spent(ProviderFailed):
    """The provider's credit is used up."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, billed=False)


class Misconfigured(ProviderFailed):
    """The provider refuses our key, or we have none."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, billed=False)


class Declined(ProviderFailed):
    """It would not answer this request, and did not say that key or model are why.

    A firewall before it may dislike one text; where other texts fail too, it is the provider.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason, billed=False)


class Unsuited(ProviderFailed):
    """The provider takes no such request and was not sent one; `obstacle` tells callers why."""

    def __init__(self, reason: str, *, obstacle: str) -> None:
        super().__init__(reason, billed=False)
        self.obstacle = obstacle


class StoreAway(SidecarError):  # noqa: N818 - as above
    """Redis did not do what was asked, or not in time; whether it did it later is unknown."""


class StoreRefuses(StoreAway):
    """It answered, and refuses; the text names the right that is missing."""


class StoreCorrupt(StoreAway):
    """Redis holds, or says, what no sidecar can have written; the text names it."""
