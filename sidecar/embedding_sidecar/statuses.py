"""What a provider's status means where its body does not matter.

Sources: OpenAI's and Voyage's pages on error codes; RFC 9110 for the rest; 424 as a failure of the
model behind the server: Hugging Face's text-embeddings-inference, router/src/http/server.rs.
"""

from types import MappingProxyType
from typing import Final

from embedding_sidecar import errors, provider, waits

CALLERS_FAULT: Final = frozenset({400, 413, 422})
"""Another provider would refuse this request too; each translation relays its own typed fields."""
RATE_LIMITED: Final = 429

_LOWEST_SERVER_ERROR: Final = 500
_LOWEST_REDIRECT: Final = 300
_MISCONFIGURED: Final = MappingProxyType(
    {401: errors.KEY_REFUSED, 403: errors.KEY_REFUSED, 404: "not_found"}
)
_NO_CREDIT: Final = 402
_BUSY: Final = frozenset({408, 409, 424, 425})
_PERHAPS_BILLED: Final = frozenset({408, 502, 504})
"""Whoever answered may have heard nothing from the model behind it, which may have worked."""


def failure(answer: provider.HttpAnswer) -> errors.ProviderFailed:
    """What a status that is neither 200 nor the caller's fault means.

    Other 4xx and redirects say that address, model or key are wrong: asking again helps nobody.
    """
    status = answer.status
    if status == RATE_LIMITED:
        wait = waits.retry_after(answer.headers)
        if wait is None:
            wait = waits.reset(answer.headers)
        return errors.Exhausted("rate_limited", retry_after_seconds=wait)
    if status == _NO_CREDIT:
        return errors.Spent("no_credit")
    if status >= _LOWEST_SERVER_ERROR or status in _BUSY:
        return errors.Unreachable(
            "server_error",
            billed=status in _PERHAPS_BILLED,
            retry_after_seconds=waits.retry_after(answer.headers),
        )
    if status >= _LOWEST_REDIRECT:
        return errors.Misconfigured(_MISCONFIGURED.get(status, "refused"))
    return errors.Unreachable("bad_answer", billed=True)
