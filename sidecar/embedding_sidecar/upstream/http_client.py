"""HTTP towards providers and the pass-through's URL, by two clients (decision 015).

Calls use our own client, `http1`, which takes few steps. Streams, and calls by a proxy, use
aiohttp. Both report, for the quota, whether a request without an answer was certainly never sent.
"""

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from embedding_contract import document
from embedding_sidecar import errors, memory_limit
from embedding_sidecar.translation import provider_api, vector_decoder
from embedding_sidecar.upstream import tls_authorities
from embedding_sidecar.upstream.answer_body import AnswerBody, Intake
from embedding_sidecar.upstream.http1_pool import ConnectionPool, Done
from embedding_sidecar.upstream.tls_authorities import Authorities

CONNECT_SECONDS: Final = 2.0
DNS_SECONDS: Final = 10
"""Time that an address is cached; a kept connection keeps its own until it is idle or ends."""
IDLE_STREAM_SECONDS: Final = 900.0
PROXY_WANTS_LOGIN: Final = "proxy_authentication_required"

_OF_ITS_OWN: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers aiohttp would add: a passed-through request is to stay as it is."""
_NEVER_SENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.NonHttpUrlClientError,
    ValueError,  # a URL or header that cannot be written; aiohttp.InvalidURL is one
)


Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedAnswer:
    """An answer whose body is still to come; leaving `chunks` early ends the connection."""

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]


class HttpClient:
    """Kept connections; must be closed.

    Proxies are those of the environment (`https_proxy`, `no_proxy`) when it is made, authorities
    those that OpenSSL trusts (`SSL_CERT_FILE`, `SSL_CERT_DIR`); the proxies of `network` take
    precedence, and its authorities are trusted too.
    """

    def __init__(
        self,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        dns_seconds: int = DNS_SECONDS,
        memory_bytes: int = memory_limit.DEFAULT_BYTES,
        network: document.Network = document.Network(),  # noqa: B008 - frozen
    ) -> None:
        self._connect_seconds = connect_seconds
        self._intake = Intake(memory_bytes)
        self._dns_seconds = dns_seconds
        self._stream = aiohttp.ClientTimeout(
            total=None, connect=connect_seconds, sock_read=IDLE_STREAM_SECONDS
        )
        self._proxies = _proxies(network)
        self._authorities = Authorities(network.authorities)
        self._client = ConnectionPool(
            connect_seconds=connect_seconds,
            dns_seconds=dns_seconds,
            intake=self._intake,
            authorities=self._authorities,
        )
        self._session: aiohttp.ClientSession | None = None

    def start(
        self, request: provider_api.HttpRequest, *, within_seconds: float, done: Done
    ) -> Callable[[], object]:
        """See provider_api.Upstream."""
        proxy = _proxy(request.url, proxies=self._proxies) if self._proxies else None
        if proxy is None:
            return self._client.start(request, within_seconds=within_seconds, done=done)
        by_proxy = self._by_proxy(request, proxy, within_seconds=within_seconds, done=done)
        return asyncio.get_running_loop().create_task(by_proxy).cancel

    async def _by_proxy(
        self,
        request: provider_api.HttpRequest,
        proxy: str,
        *,
        within_seconds: float,
        done: Done,
    ) -> None:
        said: provider_api.HttpAnswer | Exception
        try:
            async with self._open().post(
                URL(request.url, encoded=True),
                data=request.body,
                headers=request.headers,
                allow_redirects=False,
                proxy=proxy,
                ssl=self._authorities.context(),
                # aiohttp would round it up to a full second, but a request has no other timer.
                timeout=aiohttp.ClientTimeout(
                    total=within_seconds,
                    connect=self._connect_seconds,
                    ceil_threshold=within_seconds,
                ),
            ) as response:
                if response.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
                    said = errors.Unreachable(PROXY_WANTS_LOGIN, billed=False)
                else:
                    said = await self._read(response, request.reader)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            said = failure(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # A session that closes cancels the look-up of a name, not the call that waits for it.
            said = errors.Unreachable("connection_lost", billed=True)
        except Exception as fault:  # noqa: BLE001 - whatever it is, a request waits for it
            said = fault
        done(said)

    async def stream(
        self,
        *,
        method: str,
        url: str,
        headers: Headers,
        body: AsyncIterator[bytes],
    ) -> StreamedAnswer:
        """Send any request, and return the answer, of any status, as it comes.

        Raises:
            errors.Unreachable: there is no answer; also raised while its chunks are read.
        """
        first = await anext(body, None)
        try:
            # In all, as heads of 1xx, or a head that comes byte by byte, restart a read's time-out.
            async with asyncio.timeout(IDLE_STREAM_SECONDS):
                response = await self._open().request(
                    method,
                    URL(url, encoded=True),
                    data=None if first is None else _chain(first, body),
                    headers=CIMultiDict(headers),
                    allow_redirects=False,
                    proxy=_proxy(url, proxies=self._proxies),
                    ssl=self._authorities.context(),
                    timeout=self._stream,
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise failure(error) from error
        return StreamedAnswer(
            status=response.status,
            headers=[
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in response.raw_headers
            ],
            chunks=_chunks(response),
        )

    async def _read(
        self, response: aiohttp.ClientResponse, reader: vector_decoder.Reader | None
    ) -> provider_api.HttpAnswer:
        body = AnswerBody(response.status, response.raw_headers, reader)
        try:
            async for chunk in response.content.iter_any():
                body.feed(chunk)
                if body.reader is not None:
                    self._intake.grew(body.reader)
                if body.is_lost:
                    break
        finally:
            self._intake.leave(body.reader)
        return body.answer()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        # Made when first used, because it belongs to the running loop.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=self._dns_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=_OF_ITS_OWN,
            )
        return self._session


def failure(error: Exception) -> errors.Unreachable:
    """The failure that an exception of the client means; TimeoutError is an OSError.

    A request that was perhaps sent counts as billed: all but those that never had a connection.
    """
    if isinstance(error, _NEVER_SENT):
        return errors.Unreachable(_word(error), billed=False)
    if isinstance(error, TimeoutError):
        return errors.Unreachable("timeout", billed=True)
    return errors.Unreachable("connection_lost", billed=True)


def _word(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "connect_timeout"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        wants_login = error.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
        return PROXY_WANTS_LOGIN if wants_login else "proxy_refused"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return "proxy_unreachable"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "certificate_untrusted"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return tls_authorities.word(cause) or "no_connection"


def _proxies(network: document.Network) -> dict[str, str]:
    """Proxies by scheme, in the form of `getproxies_environment`."""
    found: dict[str, str] = urllib.request.getproxies_environment()
    said = {"http": network.http_proxy, "https": network.https_proxy, "no": network.no_proxy}
    return found | {scheme: value for scheme, value in said.items() if value is not None}


def _proxy(url: str, *, proxies: Mapping[str, str]) -> str | None:
    """The proxy for this URL, out of `_proxies`; None for an invalid URL.

    Not aiohttp's trust_env: that would also add a password of ~/.netrc to requests that have none.
    """
    if not proxies:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass_environment(parts.netloc, proxies):  # type: ignore[attr-defined] # typeshed's
        return None
    return proxy


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise failure(error) from error
    finally:
        # After the last chunk the connection has been released already; before it, it ends here.
        response.close()
