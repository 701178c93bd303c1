"""Errors by a provider's HTTP status.

Sources: OpenAI's and Voyage's pages on error codes; RFC 9110 for the rest; 424 as a failure of the
model behind the server: Hugging Face's text-embeddings-inference, router/src/http/server.rs.
"""

from collections.abc import Collection, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from embedding_sidecar import errors
from embedding_sidecar.translation import error_words, provider_api, retry_after

_CALLERS_FAULT: Final = frozenset({400, 413, 422})
"""The request is wrong, and another provider would refuse it too."""
LOWEST_REDIRECT: Final = 300
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
        "permissiondenied",
        "permission_error",
        "unauthorized",
        "unsupported_country_region_territory",
        "api_key_invalid",
        "api_key_service_blocked",
        "failed_precondition",
        "accessdeniedexception",
        "unrecognizedclientexception",
        "invalidsignatureexception",
        "signaturedoesnotmatch",
        "incompletesignatureexception",
        "missingauthenticationtokenexception",
        "expiredtokenexception",
    }
)
"""Codes and types of a 400 or 403 about the key. Sources: OpenAI's page on error codes; Anthropic's
and Google's forms, whose types compatible servers send too; Azure's PermissionDenied; reasons of
google.rpc.ErrorInfo (google/api/error_reason.proto): Gemini answers a wrong key with 400, and one
whose project may not call it (billing, country) with FAILED_PRECONDITION; AWS's common errors."""
_OF_THE_MODEL: Final = frozenset(
    {
        "model_not_found",
        "deploymentnotfound",
        "not_found_error",
        "notfounderror",
        "not_found",
        "invalid_model",
        "input_model_not_found",
        "resourcenotfoundexception",
    }
)
"""Likewise about the model: OpenAI's, Azure's, Ollama's, vLLM's, Google's, Mistral's and Jina's
(with 400), AWS's."""
_OF_THE_CREDIT: Final = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "billing_not_active",
        "authz_insufficient_balance",
    }
)
"""Codes of a 403 or 429 that waiting does not cure. Sources: OpenAI's page on error codes; Jina's
api.jina.ai/openapi.json, whose 403 it is."""
_MAY_BE_OF_THE_CREDIT: Final = frozenset({403, 429})
_BUSY: Final = frozenset({408, 409, 424, 425})
_PERHAPS_BILLED: Final = frozenset({408, 502, 504})
"""A proxy may answer so while the model behind it still works."""


def failure(
    answer: provider_api.HttpAnswer, *, typed: Collection[str] = ()
) -> errors.ProviderFailed | errors.Rejected:
    """The error of a status other than 2xx, with the provider's words, by its typed fields, too.

    `typed` are words for programs, in lower case, that stand in no field that others have.

    A 400, 413 or 422 that blames neither key nor model is relayed. Other 4xx and redirects may
    concern one text, too: Alibaba Cloud's firewall blocks with 405, and portals redirect to a page
    for people.
    """
    error = error_words.error_of(answer.body)
    typed = _typed(error).union(typed)
    words = error_words.said(answer.body)
    if answer.status in _CALLERS_FAULT and not typed & (_OF_THE_KEY | _OF_THE_MODEL):
        return errors.Rejected(
            words or "The provider rejected the request.",
            status=answer.status,
            code=_text(error.get("code")),
            param=_text(error.get("param")),
        )
    found = _failure(answer, error, typed)
    found.words = words
    return found


def _text(value: object) -> str | None:
    """A field of a provider's error, cleaned; None where it is not text."""
    return error_words.cleaned(value) or None if isinstance(value, str) else None


def _typed(error: Mapping[str, Any]) -> set[str]:
    """The words of an error that are made for programs."""
    said = [error.get(name) for name in ("code", "type", "status")]
    details = error.get("details")
    if isinstance(details, list):
        said += [it.get("reason") for it in details if isinstance(it, dict)]
    return {str(it).lower() for it in said}


def _failure(
    answer: provider_api.HttpAnswer, error: Mapping[str, Any], typed: set[str]
) -> errors.ProviderFailed:
    status = answer.status
    is_limited = status == HTTPStatus.TOO_MANY_REQUESTS
    may_be_spent = status in _MAY_BE_OF_THE_CREDIT and typed & _OF_THE_CREDIT
    if status == HTTPStatus.PAYMENT_REQUIRED or may_be_spent:
        return errors.OutOfCredit("no_credit")
    if is_limited:
        wait = retry_after.retry_after(answer.headers)
        if wait is None:
            wait = retry_after.retry_info(error)
        if wait is None:
            wait = retry_after.reset(answer.headers)
        return errors.RateLimited("rate_limited", retry_after_seconds=wait)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _BUSY:
        return errors.Unreachable(
            "server_error",
            billed=status in _PERHAPS_BILLED,
            retry_after_seconds=retry_after.retry_after(answer.headers),
        )
    if status < LOWEST_REDIRECT:
        return errors.Unreachable("bad_answer", billed=True)
    return _declined(answer, typed)


def _declined(answer: provider_api.HttpAnswer, typed: set[str]) -> errors.ProviderFailed:
    """The error of a 4xx or redirect, which may blame key or model in the provider's own form."""
    is_unauthorized = answer.status == HTTPStatus.UNAUTHORIZED and error_words.has_form(answer.body)
    if is_unauthorized or typed & _OF_THE_KEY:
        return errors.ConfigurationError(errors.KEY_REFUSED)
    if typed & _OF_THE_MODEL:
        return errors.ConfigurationError("not_found")
    if answer.status in _DECLINED:
        return errors.Declined(_DECLINED[answer.status])
    return errors.Declined("refused")
