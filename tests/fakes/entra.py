"""A token endpoint that stands in for Microsoft Entra ID: one tenant and one federated client.

Source of bodies and statuses: learn.microsoft.com/entra/identity-platform/reference-error-codes and
the issues that quote them, listed in docs/compatibility.md. Each request is kept in `asked`.
"""

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from embedding_contract import names
from embedding_sidecar import errors
from tests.fakes import provider

TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "66666666-7777-8888-9999-aaaaaaaaaaaa"
SUBJECT = "system:serviceaccount:shop:search"
ISSUER = "https://kubernetes.default.svc.cluster.local"
NOW = 1_700_000_000.0

Answer = tuple[int, dict[str, str], Any]


def assertion(
    *, subject: str = SUBJECT, audience: str = names.AZURE_AUDIENCE, ends_at: float = NOW + 3600
) -> str:
    """A ServiceAccount token as the API server writes one; nobody checks its signature."""
    parts = ({"alg": "RS256"}, {"iss": ISSUER, "sub": subject, "aud": [audience], "exp": ends_at})
    written = (base64.urlsafe_b64encode(json.dumps(it).encode()).decode() for it in parts)
    return ".".join((*(it.rstrip("=") for it in written), "c2lnbmF0dXJl"))


@dataclass
class Entra(provider.Played):
    """The endpoint. `fault` answers in its place; `issued` has all tokens."""

    life_seconds: float = 3600.0
    delay_seconds: float = 0.0
    now: float = NOW
    fault: Answer | errors.Unreachable | None = None
    asked: list[dict[str, str]] = field(default_factory=list, repr=False)
    issued: list[str] = field(default_factory=list, repr=False)

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Status, headers and JSON."""
        form = dict(parse_qsl(body.decode(), strict_parsing=True))
        self.asked.append(form)
        if isinstance(self.fault, tuple):
            return self.fault
        assert headers["content-type"] == "application/x-www-form-urlencoded"
        refused = self._refused(form, path)
        if refused is not None:
            code, error, words = refused
            return refusal(code, error, words, status=401 if error == "invalid_client" else 400)
        self.issued.append(f"eyJaccess-token-{len(self.issued) + 1:04}")
        return (
            200,
            {},
            {
                "token_type": "Bearer",
                "expires_in": self.life_seconds,
                "ext_expires_in": self.life_seconds,
                "access_token": self.issued[-1],
            },
        )

    def _refused(self, form: Mapping[str, str], path: str) -> tuple[int, str, str] | None:
        """Code, word and text of the first thing that is wrong."""
        tenant, client = path.split("/")[1], form["client_id"]
        claims = _claims(form["client_assertion"])
        is_grant = form["grant_type"] == "client_credentials"
        for is_right, code, error, words in (
            (is_grant and form["scope"].endswith("/.default"), 70011, "invalid_scope", "Scope."),
            (
                path == f"/{TENANT}/oauth2/v2.0/token",
                *(90002, "invalid_request", f"Tenant '{tenant}' not found."),
            ),
            (
                client == CLIENT,
                *(700016, "unauthorized_client", f"Application '{client}' was not found."),
            ),
            (claims["aud"] == [names.AZURE_AUDIENCE], 700212, "invalid_request", "Audience."),
            (claims["sub"] == SUBJECT, 700213, "invalid_request", f"Subject '{claims['sub']}'."),
            (claims["exp"] > self.now, 700024, "invalid_client", "Not within its time range."),
        ):
            if not is_right:
                return code, error, words
        return None

    async def serve(self, request: Request) -> Response:
        """As an HTTP server."""
        status, headers, body = self.answer(request.url.path, request.headers, await request.body())
        await asyncio.sleep(self.delay_seconds)
        if isinstance(body, bytes):
            return Response(body, status, headers)
        return JSONResponse(body, status, headers)

    def app(self) -> Starlette:
        """Every path is the endpoint's."""
        return Starlette(routes=[Route("/{path:path}", self.serve, methods=["POST"])])


def refusal(code: int, error: str, words: str, *, status: int = 400) -> Answer:
    """A refusal in Entra's form."""
    trace = "Trace ID: 0 Correlation ID: 0 Timestamp: 2026-11-30 10:00:00Z"
    return (
        status,
        {},
        {
            "error": error,
            "error_description": f"AADSTS{code}: {words} {trace}",
            "error_codes": [code],
            "timestamp": "2026-11-30 10:00:00Z",
            "trace_id": "0",
            "correlation_id": "0",
            "error_uri": f"https://login.microsoftonline.com/error?code={code}",
        },
    )


def _claims(written: str) -> dict[str, Any]:
    payload = written.split(".")[1]
    claims: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    return claims
