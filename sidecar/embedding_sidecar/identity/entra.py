"""An access token of Microsoft Entra ID for a ServiceAccount token: request and answer, without IO.

Sources: learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, third case
(a federated credential); azure-identity 1.27.0, WorkloadIdentityCredential, for fields and scope;
reference-error-codes of the same pages: codes and words change, so status and `error` decide, and a
code is only shown.
"""

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

import orjson

from embedding_contract import provider_terms
from embedding_sidecar import errors
from embedding_sidecar.translation import http_status, provider_api, retry_after

MISSING: Final = "identity_missing"
"""Reasons of a failure: the pod has no ServiceAccount token, ..."""
REFUSED: Final = "identity_refused"
"""... Entra refuses it for this tenant and client, ..."""
UNREACHABLE: Final = "identity_unreachable"
"""... or gives no answer that can be used."""
_SCOPE: Final = "https://cognitiveservices.azure.com/.default"
_SCOPES: Final[Mapping[str, str]] = MappingProxyType(
    {"login.microsoftonline.us": "https://cognitiveservices.azure.us/.default"}
)
"""Scopes of other clouds, by the host of their authority. Source: an error that Azure Government
sends, quoted in github.com/openai/openai-go, issue 534."""
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MOST_SECONDS: Final = 86_400.0
"""The longest life that is believed; Entra's longest for a workload."""
_CODE: Final = re.compile(r"AADSTS([0-9]{3,9})\b")
_MOST_CODE: Final = 10**9
_AWAY: Final = frozenset({"temporarily_unavailable", "server_error"})
"""Values of `error` that blame the server: RFC 6749, 4.1.2.1, and Entra's page."""
_BUSY: Final = frozenset({408, 429})
_LOWEST_REFUSAL: Final = 400
_LOWEST_SERVER_ERROR: Final = 500


class AccessToken(NamedTuple):
    """A token, and the seconds that it lives from now."""

    value: str
    seconds: float

    def __repr__(self) -> str:
        """Without the token."""
        return f"<an access token for {self.seconds} s>"


def request(identity: provider_terms.Identity, assertion: str) -> provider_api.HttpRequest:
    """The request that exchanges a ServiceAccount token."""
    host = urlsplit(identity.authority).hostname or ""
    fields = {
        "client_id": identity.client_id,
        "grant_type": "client_credentials",
        "scope": _SCOPES.get(host, _SCOPE),
        "client_assertion_type": _ASSERTION_TYPE,
        "client_assertion": assertion,
    }
    return provider_api.HttpRequest(
        url=f"{identity.authority}/{identity.tenant_id}/oauth2/v2.0/token",
        body=urlencode(fields).encode(),
        headers={
            **provider_api.headers(None),
            "content-type": "application/x-www-form-urlencoded",
        },
    )


def read(answer: provider_api.HttpAnswer, *, now: float) -> AccessToken:
    """The token of an answer; `now` is Unix time in seconds.

    Raises:
        errors.ConfigurationError: Entra refuses; its words are the AADSTS code alone, as the others
            quote what was sent.
        errors.Unreachable: it gives no answer that can be used.
    """
    said = _object(answer.body)
    if answer.status < http_status.LOWEST_REDIRECT:
        token = _token(said, now=now)
        if token is None:
            raise unreachable()
        return token
    if (
        answer.status >= _LOWEST_SERVER_ERROR
        or answer.status < _LOWEST_REFUSAL
        or answer.status in _BUSY
        or str(said.get("error")) in _AWAY
    ):
        raise unreachable(retry_after.retry_after(answer.headers))
    refused = errors.ConfigurationError(REFUSED)
    refused.words = _code(said)
    raise refused


def unreachable(retry_after_seconds: float | None = None) -> errors.Unreachable:
    """The failure of an exchange without an answer; nothing was billed."""
    return errors.Unreachable(UNREACHABLE, billed=False, retry_after_seconds=retry_after_seconds)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _token(said: Mapping[str, Any], *, now: float) -> AccessToken | None:
    value = said.get("access_token")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
        return None
    seconds = _number(said.get("expires_in"))
    if seconds is None:
        # By this machine's clock, so the other one is better.
        expires_at = _number(said.get("expires_on"))
        seconds = None if expires_at is None else expires_at - now
    if seconds is None or seconds <= 0:
        return None
    return AccessToken(value, min(seconds, _MOST_SECONDS))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _code(said: Mapping[str, Any]) -> str:
    """`AADSTS` and a number; empty where the answer has none."""
    codes = said.get("error_codes")
    first = codes[0] if isinstance(codes, list) and codes else None
    if type(first) is int and 0 < first < _MOST_CODE:
        return f"AADSTS{first}"
    words = said.get("error_description")
    found = _CODE.search(words) if isinstance(words, str) else None
    return found[0] if found else ""
