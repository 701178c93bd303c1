"""Errors by a provider's HTTP status.

Sources: OpenAI's and Voyage's pages on error codes; RFC 9110 for the rest; 424 as a failure of the
model behind the server: Hugging Face's text-embeddings-inference, router/src/http/server.rs.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from embedding_sidecar import errors
from embedding_sidecar.translation import error_words, provider_api, retry_after

CALLERS_FAULT: Final = frozenset({400, 413, 422})
"""The request is wrong, and another provider would refuse it too."""
RATE_LIMITED: Final = 429

_LOWEST_SERVER_ERROR: Final = 500
LOWEST_REDIRECT: Final = 300
_UNAUTHORIZED: Final = 401
FORBIDDEN: Final = "forbidden"
"""Reason of a 401 or 403 that does not blame the key in an API's own form."""
_DECLINED: Final = MappingProxyType(
    {401: FORBIDDEN, 403: FORBIDDEN, 404: "not_found", 410: "gone", 451: "blocked"}
)
"""Statuses that may concern one text: a firewall, filter or router before the model sends them."""
_OF_THE_KEY: Final = frozenset(
    {
        "invalid_api_key",
        "invalid_authentication",
        "authentication_error",
        "account_deactivated",
        "insufficient_permissions",
        "permission_denied",
        "permission_error",
        "unauthorized",
        "unsupported_country_region_territory",
        "api_key_invalid",
        "api_key_service_blocked",
    }
)
"""Codes and types of a 400 or 403 about the key. Sources: OpenAI's page on error codes; Anthropic's
and Google's forms, whose types compatible servers send too; the reasons of
google.rpc.ErrorInfo (google/api/error_reason.proto): Gemini answers a wrong key with 400."""
_OF_THE_MODEL: Final = frozenset(
    {
        "model_not_found",
        "deploymentnotfound",
        "not_found_error",
        "notfounderror",
        "not_found",
        "invalid_model",
    }
)
"""Likewise about the model: OpenAI's, Azure's, Ollama's, vLLM's, Google's, Mistral's (with 400)."""
_NO_CREDIT: Final = 402
_BUSY: Final = frozenset({408, 409, 424, 425})
_PERHAPS_BILLED: Final = frozenset({408, 502, 504})
"""A proxy may answer so while the model behind it still works."""


def failure(answer: provider_api.HttpAnswer) -> errors.ProviderFailed:
    """The error, with the provider's words, of a status other than 2xx and CALLERS_FAULT.

    Other 4xx and redirects may concern one text, too: Alibaba Cloud's firewall blocks with 405, and
    portals redirect to a page for people.
    """
    found = _failure(answer)
    found.words = error_words.said(answer.body)
    return found


def rejected(answer: provider_api.HttpAnswer, *, code: str | None = None) -> errors.Rejected:
    """The refusal of a request with the provider's words and the `param` that it names."""
    return errors.Rejected(
        error_words.said(answer.body) or "The provider rejected the request.",
        status=answer.status,
        code=code,
        param=text(error_words.error_of(answer.body).get("param")),
    )


def text(value: object) -> str | None:
    """A field of a provider's error, cleaned; None where it is not text."""
    return error_words.cleaned(value) or None if isinstance(value, str) else None


def is_of_the_policy(error: Mapping[str, Any]) -> bool:
    """True if an error's typed fields blame key or model."""
    return bool(_typed(error) & (_OF_THE_KEY | _OF_THE_MODEL))


def _typed(error: Mapping[str, Any]) -> set[str]:
    """The words of an error that are made for programs."""
    said = [error.get(name) for name in ("code", "type", "status")]
    details = error.get("details")
    if isinstance(details, list):
        said += [it.get("reason") for it in details if isinstance(it, dict)]
    return {str(it).lower() for it in said}


def _failure(answer: provider_api.HttpAnswer) -> errors.ProviderFailed:
    status = answer.status
    if status == RATE_LIMITED:
        wait = retry_after.retry_after(answer.headers)
        if wait is None:
            wait = retry_after.retry_info(error_words.error_of(answer.body))
        if wait is None:
            wait = retry_after.reset(answer.headers)
        return errors.RateLimited("rate_limited", retry_after_seconds=wait)
    if status == _NO_CREDIT:
        return errors.OutOfCredit("no_credit")
    if status >= _LOWEST_SERVER_ERROR or status in _BUSY:
        return errors.Unreachable(
            "server_error",
            billed=status in _PERHAPS_BILLED,
            retry_after_seconds=retry_after.retry_after(answer.headers),
        )
    if status >= LOWEST_REDIRECT:
        return _declined(answer)
    return errors.Unreachable("bad_answer", billed=True)


def _declined(answer: provider_api.HttpAnswer) -> errors.ProviderFailed:
    """The error of a 4xx or redirect, which may blame key or model in the provider's own form."""
    said = _typed(error_words.error_of(answer.body))
    is_unauthorized = answer.status == _UNAUTHORIZED and error_words.has_form(answer.body)
    if is_unauthorized or said & _OF_THE_KEY:
        return errors.ConfigurationError(errors.KEY_REFUSED)
    if said & _OF_THE_MODEL:
        return errors.ConfigurationError("not_found")
    if answer.status in _DECLINED:
        return errors.Declined(_DECLINED[answer.status])
    return errors.Declined("refused")
