"""Requests to one server, bounded in time and memory; failures have texts for conditions."""

import asyncio
import base64
import re
import ssl
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeVar

import httpx2
import msgspec

from embedding_operator.monitoring.answers import (
    NO_SUCH_API,
    NoAnswer,
    NotUnderstood,
    Parameters,
    bounded,
)
from embedding_operator.monitoring.endpoints import MEBIBYTE, Endpoint

CONNECT_SECONDS: Final = 3.0
WHOLE_SECONDS: Final = 10.0
"""The time for a whole exchange: connection, request, head and body."""
CREDENTIAL_BYTES: Final = 65_536
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2: token
_HEADER_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_RESERVED: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "upgrade"}
)
T = TypeVar("T")


class Connection:
    """Requests to one server; `observe` gets `ok` or the reason after each.

    It follows no redirect, uses neither a proxy nor `.netrc` of the environment, and accepts no
    content coding, as a compressed answer could have any size.
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
            NoAnswer: there is no body.
        """
        return await self._exchange("GET", path, parameters)

    async def read(
        self, path: str, understand: Callable[[bytes], T], *, parameters: Parameters = ()
    ) -> T:
        """The answer to a GET, parsed by `understand`, which raises NotUnderstood.

        Raises:
            NoAnswer: there is no answer, or it has not the form of this API.
        """
        body = await self.get(path, parameters)
        try:
            return understand(body)
        except NotUnderstood:
            message = f"{self.host} does not answer {path} in the form of this API; check the URL"
            raise NoAnswer("NotUnderstood", message) from None

    async def post(self, path: str, body: object) -> None:
        """POST a value as JSON.

        Raises:
            NoAnswer: it was not accepted.
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
        except NoAnswer as failure:
            self._observe(failure.reason)
            raise
        except (TimeoutError, httpx2.TimeoutException):
            self._observe("Slow")
            raise self._failed(
                "Slow", f"did not answer {path} within {self._whole_seconds:g} s"
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
            raise self._failed(
                "NotUnderstood", f"compresses its answer to {path} without a request to"
            )
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
                f"answers {path} with {status}, a redirect, which is not followed: set its target"
                " as the URL",
            )
        raise self._failed("ServerFailing", f"answers {path} with {status}")

    def _broken(self, error: httpx2.HTTPError, path: str) -> NoAnswer:
        # Not str(error), which may quote the request.
        tls = _tls_error(error)
        if tls is not None:
            told = getattr(tls, "verify_message", "") or tls.reason or "the handshake fails"
            return self._failed("TLSFailed", f"fails TLS verification: {bounded(str(told))}")
        if isinstance(error, httpx2.ConnectError):
            return self._failed("Unreachable", "cannot be reached")
        if isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError):
            return self._failed("AnswerCut", f"sends an incomplete answer to {path}")
        return self._failed("Unreachable", f"cannot be reached ({type(error).__name__})")

    def _failed(self, reason: str, told: str) -> NoAnswer:
        return NoAnswer(reason, f"{self.endpoint.host} {told}")

    # --- files, read at each request

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
                "CredentialsUnusable", f"is not asked: a header cannot carry the content of {file}"
            )
        return value

    def _missing(self, file: Path) -> NoAnswer:
        return self._failed("CredentialsMissing", f"is not asked: {file} cannot be read")


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
