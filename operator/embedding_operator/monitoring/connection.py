"""Requests to one server, in bounded time and bounded memory; failures as words for a condition."""

import asyncio
import base64
import re
import ssl
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final

import httpx2
import msgspec

from embedding_operator.monitoring.answers import NO_SUCH_API, Parameters, Unreadable, bounded
from embedding_operator.monitoring.endpoints import MEBIBYTE, Endpoint

CONNECT_SECONDS: Final = 3.0
WHOLE_SECONDS: Final = 10.0
"""For a whole exchange: connection, request, head and body."""
CREDENTIAL_BYTES: Final = 65_536
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2: token
_HEADER_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_RESERVED: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "upgrade"}
)


class Connection:
    """Requests to one server. `observe` is told `ok` or the reason after each of them.

    Redirects are not followed, no proxy and no `.netrc` of the environment is used, and no content
    coding is accepted: a compressed answer could be any size.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        body_bytes: int,
        observe: Callable[[str], None] = lambda _: None,
        whole_seconds: float = WHOLE_SECONDS,
    ) -> None:
        self.endpoint = endpoint
        self._body_bytes = body_bytes
        self._observe = observe
        self._whole_seconds = whole_seconds

    async def get(self, path: str, parameters: Parameters = ()) -> bytes:
        """The body of a GET.

        Raises:
            Unreadable: there is no such body.
        """
        return await self._exchange("GET", path, parameters)

    async def post(self, path: str, body: object) -> None:
        """POST a value as JSON.

        Raises:
            Unreadable: it was not taken.
        """
        await self._exchange("POST", path, (), msgspec.json.encode(body))

    @property
    def host(self) -> str:
        """The server, as messages name it."""
        return self.endpoint.host

    async def _exchange(
        self, method: str, path: str, parameters: Parameters, content: bytes | None = None
    ) -> bytes:
        try:
            async with asyncio.timeout(self._whole_seconds):
                body = await self._send(method, path, parameters, content)
        except Unreadable as failure:
            self._observe(failure.reason)
            raise
        except (TimeoutError, httpx2.TimeoutException):
            self._observe("Slow")
            raise self._failed(
                "Slow", f"has not answered {path} within {self._whole_seconds:g} s"
            ) from None
        except httpx2.HTTPError as error:
            broken = self._broken(error, path)
            self._observe(broken.reason)
            raise broken from None
        self._observe("ok")
        return body

    async def _send(
        self, method: str, path: str, parameters: Parameters, content: bytes | None
    ) -> bytes:
        headers = {"Accept": "application/json, text/plain", "Accept-Encoding": "identity"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        headers |= self._credentials()
        async with (
            httpx2.AsyncClient(
                verify=self._context(),
                timeout=httpx2.Timeout(self._whole_seconds, connect=CONNECT_SECONDS),
                trust_env=False,
                follow_redirects=False,
            ) as client,
            client.stream(
                method,
                f"{self.endpoint.url}{path}",
                params=list(parameters) or None,
                headers=headers,
                content=content,
            ) as answer,
        ):
            self._check(answer, path)
            body = bytearray()
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > self._body_bytes:
                    raise self._failed(
                        "AnswerTooLarge",
                        f"answers {path} with more than {self._body_bytes / MEBIBYTE:g} MiB; raise"
                        " the chart value monitoring.maxBodyMiB",
                    )
        return bytes(body)

    def _check(self, answer: httpx2.Response, path: str) -> None:
        status = answer.status_code
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise self._failed("NotUnderstood", f"answers {path} compressed, which nobody asked")
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise self._failed(
                "Unauthorized",
                f"answers {path} with {status}: check the Secret with its credentials",
            )
        if status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
            raise self._failed(NO_SUCH_API, f"answers {path} with {status}: check the URL's path")
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            raise self._failed(
                "Redirected",
                f"answers {path} with {status}, a redirect, which is not followed: set the URL that"
                " it leads to",
            )
        raise self._failed("ServerFailing", f"answers {path} with {status}")

    def _broken(self, error: httpx2.HTTPError, path: str) -> Unreadable:
        # Not str(error), which may quote the request.
        tls = _tls_error(error)
        if tls is not None:
            told = getattr(tls, "verify_message", "") or tls.reason or "the handshake fails"
            return self._failed("TLSFailed", f"cannot be trusted: {bounded(str(told))}")
        if isinstance(error, httpx2.ConnectError):
            return self._failed("Unreachable", "cannot be connected to")
        if isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError):
            return self._failed("AnswerCut", f"ends its answer to {path} before it is whole")
        return self._failed("Unreachable", f"cannot be asked ({type(error).__name__})")

    def _failed(self, reason: str, told: str) -> Unreadable:
        return Unreadable(reason, f"{self.endpoint.host} {told}")

    # --- what is read from files, at each request

    def _context(self) -> ssl.SSLContext | bool:
        if self.endpoint.url.startswith("http://"):
            return True
        file = self.endpoint.ca_file
        try:
            return ssl.create_default_context(cafile=None if file is None else str(file))
        except (OSError, ssl.SSLError):
            raise self._failed("CAUnusable", f"is not asked: {file} holds no certificate") from None

    def _credentials(self) -> dict[str, str]:
        endpoint = self.endpoint
        made: dict[str, str] = {}
        if endpoint.headers_directory is not None:
            made = self._headers(endpoint.headers_directory)
        if endpoint.bearer_file is not None:
            made["Authorization"] = f"Bearer {self._read(endpoint.bearer_file)}"
        if endpoint.basic_directory is not None:
            user, password = (
                self._read(endpoint.basic_directory / name) for name in ("username", "password")
            )
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            made["Authorization"] = f"Basic {pair}"
        return made

    def _headers(self, directory: Path) -> dict[str, str]:
        try:
            # A mounted Secret has links whose names begin with dots.
            files = sorted(it for it in directory.iterdir() if not it.name.startswith("."))
        except OSError:
            raise self._missing(directory) from None
        for file in files:
            if not _HEADER_NAME.fullmatch(file.name) or file.name.lower() in _RESERVED:
                raise self._failed(
                    "CredentialsUnusable", f"is not asked: {file.name} cannot be set as a header"
                )
        return {file.name: self._read(file) for file in files}

    def _read(self, file: Path) -> str:
        try:
            with file.open("rb") as opened:
                raw = opened.read(CREDENTIAL_BYTES + 1)
        except OSError:
            raise self._missing(file) from None
        value = raw.strip().decode("ascii", errors="replace")
        if len(raw) > CREDENTIAL_BYTES or not _HEADER_VALUE.fullmatch(value):
            raise self._failed(
                "CredentialsUnusable", f"is not asked: {file} holds nothing that a header can carry"
            )
        return value

    def _missing(self, file: Path) -> Unreadable:
        return self._failed("CredentialsMissing", f"is not asked: {file} cannot be read")


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
