"""All errors of the sidecar, by what the caller should do next.

    SidecarError
    ├── Refused               the application gets an error; has an HTTP status
    │   ├── Rejected            the request is wrong: no provider would answer it
    │   ├── QuotaExhausted      the policy's day or month is used up: wait for the reset
    │   │   └── QuotaReserved     the rest of it is for applications: likewise
    │   └── Unavailable         no answer now: a store, a document or a key is missing
    ├── ProviderFailed        one provider did not answer; another one may
    │   ├── RateLimited         429: rate limited; wait
    │   ├── Unreachable         no answer: connection, time-out, 5xx; try again
    │   │   └── Unusable          a 2xx without vectors, which a retry gets again, and may pay for
    │   │       └── WrongSize       vectors of another size than was asked for
    │   ├── OutOfCredit         402, or a 429 of that meaning: out of credit; waiting is no use
    │   ├── ConfigurationError  401, or 403 in its own form, or no key: a person must act
    │   ├── NotGranted          the platform's limits let no call to it go, and it was not asked
    │   ├── Declined            other 4xx, redirects: this text's, until other texts fail too
    │   └── UnsupportedInput    the provider takes no such request, and was not asked
    └── StoreAway             Redis did not answer in time: go on without it, or refuse
        ├── StoreRefuses        it answered with a refusal
        └── StoreCorrupt        its data is not from a sidecar: another program writes there

Messages of Refused reach the caller; a provider's own words are a part of them, bounded and cleaned
(`error_words`).
"""

from typing import ClassVar, Final, Self

from embedding_sidecar.allowance import Allowance

KEY_MISSING: Final = "key_missing"
KEY_REFUSED: Final = "key_refused"
"""Reasons of ConfigurationError: there is no key to send; the provider rejected it."""
OWN_RATE: Final = "own_rate"
"""Reason of RateLimited: a limit of a minute that the policy sets; the provider was not asked."""


class SidecarError(Exception):
    """The root of all errors of this program."""

    def as_value(self) -> Self:
        """Itself, to be kept, without frames: they hold the request, up to 16 MB, and the key."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class Refused(SidecarError):  # noqa: N818 - the tree reads as sentences
    """An answer in OpenAI's error form: `status`, `message`, `type`, `param`, `code`.

    `attempts` requests were sent to providers before it was decided.
    """

    status = 500
    kind = "server_error"
    attempts = 0
    retry_after_seconds: float | None = None
    should_retry: bool | None = None
    """Sent to SDKs; None leaves it to the status."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or self.status
        self.code = code
        self.param = param


class Rejected(Refused):
    """The request itself is wrong."""

    status = 400
    kind = "invalid_request_error"


class QuotaExhausted(Refused):
    """The policy has no call, or too little of another unit, left until its day or month ends.

    `left` is of the refusing period; for headers it becomes that of the whole policy.
    """

    status = 429
    kind = "insufficient_quota"

    def __init__(self, message: str, *, left: Allowance, code: str = "insufficient_quota") -> None:
        super().__init__(message, code=code)
        self.left = left
        self.retry_after_seconds = left.resets_in_seconds


class QuotaReserved(QuotaExhausted):
    """The rest of the day or month is reserved for applications, and this is background work."""

    def __init__(self, message: str, *, left: Allowance) -> None:
        super().__init__(message, left=left, code="quota_reserved_for_applications")


class Unavailable(Refused):
    """No answer is possible now. `status` is 503, 502 or, where all are exhausted, 429.

    `kind` is OpenAI's type, `should_retry` False where a retry would pay again or fail again.
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
        super().__init__(message, status=status, code=code)
        self.kind = kind
        self.should_retry = should_retry
        self.retry_after_seconds = retry_after_seconds


class ProviderFailed(SidecarError):  # noqa: N818 - as above
    """One provider gave no answer. `reason` is one of a closed list of words for metrics and logs.

    `billed` is False only where the call was certainly not charged. `retry_after_seconds` is the
    provider's own wish, None without one. `words` are the provider's, bounded and cleaned.
    """

    kind: ClassVar[str]
    """Its word as a label of `aos_embedding_errors_total`."""

    words = ""

    def __init__(
        self, reason: str, *, billed: bool, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.billed = billed
        self.retry_after_seconds = retry_after_seconds


class _NotBilled(ProviderFailed):
    """A failure that certainly cost nothing."""

    def __init__(self, reason: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason, billed=False, retry_after_seconds=retry_after_seconds)


class RateLimited(_NotBilled):
    """The provider limits our rate."""

    kind = "exhausted"


class Unreachable(ProviderFailed):
    """No usable answer."""

    kind = "unreachable"


class Unusable(Unreachable):
    """A 2xx without one finite vector of one size for each item."""

    kind = "unusable"


class WrongSize(Unusable):
    """Vectors of another size than was asked for: `numbers`, 0 where that is not known."""

    kind = "wrongsize"

    def __init__(self, numbers: int) -> None:
        super().__init__("wrong_size", billed=True)
        self.numbers = numbers


class OutOfCredit(_NotBilled):
    """Our credit at the provider is used up."""

    kind = "spent"


class ConfigurationError(_NotBilled):
    """The provider rejects our key, or we have none."""

    kind = "misconfigured"


class Declined(_NotBilled):
    """The provider refused this request, and did not blame the key or the model.

    A firewall before it may block one text; where other texts fail too, it is the provider.
    """

    kind = "declined"


class UnsupportedInput(_NotBilled):
    """The provider takes no such request and was not asked; `obstacle` is for the caller."""

    kind = "unsuited"

    def __init__(self, reason: str, *, obstacle: str) -> None:
        super().__init__(reason)
        self.obstacle = obstacle


class NotGranted(_NotBilled):
    """The platform lets this policy make no call to it now, and it was not asked.

    `refusal` is for the caller, where no other provider may answer.
    """

    kind = "exhausted"

    def __init__(self, refusal: Refused) -> None:
        super().__init__("not_granted", retry_after_seconds=refusal.retry_after_seconds)
        self.refusal = refusal
        self.words = refusal.message


class StoreAway(SidecarError):  # noqa: N818 - as above
    """Redis did not carry a command out, or not in time; it may still do so later."""

    _predicate: ClassVar = "does not answer"

    @property
    def predicate(self) -> str:
        """The rest of a sentence that begins with "Redis"."""
        return self._predicate.format(self)


class StoreRefuses(StoreAway):
    """It answered with a refusal; the text names the right that is missing."""

    _predicate = "refuses ({})"


class StoreCorrupt(StoreAway):
    """Redis holds, or answered with, data that no sidecar can have written; the text names it."""

    _predicate = "holds counters that no sidecar can have written ({})"
