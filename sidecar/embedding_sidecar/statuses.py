"""What a provider's status means where its body does not matter.

Sources: OpenAI's and Voyage's pages on error codes; RFC 9110 for the rest.
"""

import math
from types import MappingProxyType
from typing import Final

from embedding_sidecar import errors, provider

CALLERS_FAULT: Final = frozenset({400, 413, 422})
"""Another provider would refuse this request too; each translation relays its own typed fields."""

_LOWEST_SERVER_ERROR: Final = 500
_LOWEST_REDIRECT: Final = 300
_MISCONFIGURED: Final = MappingProxyType({401: "key_refused", 403: "key_refused", 404: "not_found"})
_NO_CREDIT: Final = 402
_RATE_LIMITED: Final = 429
_BUSY: Final = frozenset({408, 409, 425})
_PERHAPS_BILLED: Final = frozenset({408, 502, 504})
"""Whoever answered may have heard nothing from the model behind it, which may have worked."""


def failure(answer: provider.HttpAnswer) -> errors.ProviderFailed:
    """What a status that is neither 200 nor the caller's fault means.

    Other 4xx and redirects say that address, model or key are wrong: asking again helps nobody.
    """
    status = answer.status
    if status == _RATE_LIMITED:
        return errors.Exhausted("rate_limited", retry_after_seconds=retry_after(answer))
    if status == _NO_CREDIT:
        return errors.Exhausted("no_credit", retry_after_seconds=None)
    if status >= _LOWEST_SERVER_ERROR or status in _BUSY:
        return errors.Unreachable("server_error", billed=status in _PERHAPS_BILLED)
    if status >= _LOWEST_REDIRECT:
        return errors.Misconfigured(_MISCONFIGURED.get(status, "refused"))
    return errors.Unreachable("bad_answer", billed=True)


def retry_after(answer: provider.HttpAnswer) -> float | None:
    """Seconds the provider asks us to wait; None where it says nothing, or a date."""
    for name, unit_seconds in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(answer.headers.get(name, "")) * unit_seconds
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None
