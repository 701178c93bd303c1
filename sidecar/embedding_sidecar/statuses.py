"""What a provider's status means where its body does not matter.

Sources: OpenAI's and Voyage's pages on error codes; RFC 9110 for the rest; 424 as a failure of the
model behind the server: Hugging Face's text-embeddings-inference, router/src/http/server.rs.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from embedding_sidecar import errors, provider, waits, words

CALLERS_FAULT: Final = frozenset({400, 413, 422})
"""Another provider would refuse this request too; each translation relays its own typed fields."""
RATE_LIMITED: Final = 429

_LOWEST_SERVER_ERROR: Final = 500
_LOWEST_REDIRECT: Final = 300
_UNAUTHORIZED: Final = 401
FORBIDDEN: Final = "forbidden"
"""Reason of a 401 or 403 that does not say, in an API's own form, that the key is why."""
_DECLINED: Final = MappingProxyType(
    {401: FORBIDDEN, 403: FORBIDDEN, 404: "not_found", 410: "gone", 451: "blocked"}
)
"""What may be about one text: a firewall, a filter or a router before the model answers so."""
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
"""Codes and types of a 400 or 403 about the key. Source: OpenAI's page on error codes; the types of
Anthropic's and Google's forms, which servers that speak like OpenAI's send too; the reasons of
google.rpc.ErrorInfo (google/api/error_reason.proto), as Gemini says a wrong key with 400."""
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
"""Whoever answered may have heard nothing from the model behind it, which may have worked."""


def failure(answer: provider.HttpAnswer) -> errors.ProviderFailed:
    """What a status that is neither a 2xx nor the caller's fault means, with the provider's words.

    Other 4xx and redirects may be one text's too: Alibaba Cloud's firewall blocks with 405,
    and portals send to a page that asks for a person.
    """
    found = _failure(answer)
    found.words = words.said(answer.body)
    return found


def is_of_the_policy(error: Mapping[str, Any]) -> bool:
    """Whether an error says in its typed fields that key or model is why, whatever its status."""
    return bool(_typed(error) & (_OF_THE_KEY | _OF_THE_MODEL))


def _typed(error: Mapping[str, Any]) -> set[str]:
    """What an error says in words that are made for programs."""
    said = [error.get(name) for name in ("code", "type", "status")]
    details = error.get("details")
    if isinstance(details, list):
        said += [it.get("reason") for it in details if isinstance(it, dict)]
    return {str(it).lower() for it in said}


def _failure(answer: provider.HttpAnswer) -> errors.ProviderFailed:
    status = answer.status
    if status == RATE_LIMITED:
        wait = waits.retry_after(answer.headers)
        if wait is None:
            wait = waits.retry_info(words.error_of(answer.body))
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
        return _declined(answer)
    return errors.Unreachable("bad_answer", billed=True)


def _declined(answer: provider.HttpAnswer) -> errors.ProviderFailed:
    """Whether it is the key or the model, as far as the provider says so in its own form."""
    said = _typed(words.error_of(answer.body))
    is_unauthorized = answer.status == _UNAUTHORIZED and words.has_form(answer.body)
    if is_unauthorized or said & _OF_THE_KEY:
        return errors.Misconfigured(errors.KEY_REFUSED)
    if said & _OF_THE_MODEL:
        return errors.Misconfigured("not_found")
    if answer.status in _DECLINED:
        return errors.Declined(_DECLINED[answer.status])
    return errors.Declined("refused")
