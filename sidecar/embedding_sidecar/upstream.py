"""The HTTP client towards providers and the pass-through's URL.

aiohttp, because its exceptions tell what the quota must know: whether a request without an answer
was certainly never sent. pyreqwest 0.15, which is faster, says ConnectError of a connection closed
after the request and ConnectTimeoutError of a total time-out, and does not end cancelled requests.
"""

from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from embedding_sidecar import errors, passthrough, provider

CONNECT_SECONDS: Final = 2.0
ATTEMPT_SECONDS: Final = 30.0
IDLE_STREAM_SECONDS: Final = 900.0

_OF_ITS_OWN: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers aiohttp would add: a passed-through request is to stay as it is."""
_ALWAYS: Final = {"user-agent": "embedding-sidecar", "accept-encoding": "identity"}
_NEVER_SENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.NonHttpUrlClientError,
    ValueError,  # a URL or header that cannot be written; aiohttp.InvalidURL is one
)


class Upstream:
    """One pool of kept connections; to be closed."""

    def __init__(
        self,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        attempt_seconds: float = ATTEMPT_SECONDS,
        idle_stream_seconds: float = IDLE_STREAM_SECONDS,
    ) -> None:
        self._attempt = aiohttp.ClientTimeout(total=attempt_seconds, connect=connect_seconds)
        self._stream = aiohttp.ClientTimeout(
            total=None, connect=connect_seconds, sock_read=idle_stream_seconds
        )
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: provider.HttpRequest) -> provider.HttpAnswer:
        """POST a request; the whole answer, of any status.

        Raises:
            errors.Unreachable: there is none.
        """
        try:
            async with self._open().post(
                URL(request.url, encoded=True),
                data=request.body,
                headers={**_ALWAYS, **request.headers},
                allow_redirects=False,
                timeout=self._attempt,
            ) as response:
                return provider.HttpAnswer(
                    status=response.status,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=await response.read(),
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise failure(error) from error

    async def stream(
        self,
        *,
        method: str,
        url: str,
        headers: passthrough.Headers,
        body: AsyncIterator[bytes],
    ) -> passthrough.StreamedAnswer:
        """Send any request, and hand over the answer as it comes.

        Raises:
            errors.Unreachable: there is none; also while its chunks are read.
        """
        first = await anext(body, None)
        try:
            response = await self._open().request(
                method,
                URL(url, encoded=True),
                data=None if first is None else _chain(first, body),
                headers=CIMultiDict(headers),
                allow_redirects=False,
                timeout=self._stream,
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise failure(error) from error
        return passthrough.StreamedAnswer(
            status=response.status,
            headers=[
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in response.raw_headers
            ],
            chunks=_chunks(response),
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        # Made when first used, because it belongs to the running loop.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=_OF_ITS_OWN,
            )
        return self._session


def failure(error: Exception) -> errors.Unreachable:
    """What an exception of the client means; TimeoutError is an OSError.

    Billed is what was perhaps sent: all but what failed before there was a connection.
    """
    if isinstance(error, _NEVER_SENT):
        word = "connect_timeout" if isinstance(error, TimeoutError) else "no_connection"
        return errors.Unreachable(word, billed=False)
    if isinstance(error, TimeoutError):
        return errors.Unreachable("timeout", billed=True)
    return errors.Unreachable("connection_lost", billed=True)


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
        # After the last chunk the connection has been given back already; before it, it ends here.
        response.close()
