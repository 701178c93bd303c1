"""The least that a miss can be: a bare ASGI application that asks a provider by one HTTP client.

python -m tests.benchmarks.proxy --port P --url URL --client sidecar|aiohttp|pyreqwest|httpx2
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from importlib import import_module
from typing import Any, Final

import aiohttp
import httpx2
import uvloop

from embedding_http import server
from embedding_sidecar.translation import provider_api
from embedding_sidecar.upstream import http_client
from tests.parts import oracle

Send = Callable[[bytes], Awaitable[bytes]]

SECONDS: Final = 30.0
HEADERS: Final = {
    **provider_api.headers("sk-bench"),
    "user-agent": "embedding-sidecar",
    "accept-encoding": "identity",
}


async def by_sidecar(url: str) -> Send:
    """By the sidecar's own client."""
    client = http_client.HttpClient()

    async def send(body: bytes) -> bytes:
        request = provider_api.HttpRequest(
            url=url, body=body, headers=provider_api.headers("sk-bench")
        )
        come: asyncio.Future[provider_api.HttpAnswer | Exception]
        come = asyncio.get_running_loop().create_future()
        client.start(request, within_seconds=SECONDS, done=come.set_result)
        said = await come
        if isinstance(said, Exception):
            raise said
        return said.body

    return send


async def by_aiohttp(url: str) -> Send:
    """By aiohttp, nothing done that it need not do."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=SECONDS),
    )

    async def send(body: bytes) -> bytes:
        async with session.post(url, data=body, headers=HEADERS) as answer:
            return await answer.read()

    return send


async def by_pyreqwest(url: str) -> Send:
    """By pyreqwest, which is Rust's reqwest; not a dependency of ours."""
    builder = import_module("pyreqwest.client").ClientBuilder()
    client = builder.http1_only().no_proxy().timeout(timedelta(seconds=SECONDS)).build()

    async def send(body: bytes) -> bytes:
        answer = await client.post(url).headers(HEADERS).body_bytes(body).build().send()
        return bytes(await answer.bytes())

    return send


async def by_httpx2(url: str) -> Send:
    """By httpx2."""
    client = httpx2.AsyncClient(
        limits=httpx2.Limits(max_connections=None), timeout=SECONDS, trust_env=False
    )

    async def send(body: bytes) -> bytes:
        return (await client.post(url, content=body, headers=HEADERS)).content

    return send


CLIENTS: Final[Mapping[str, Callable[[str], Awaitable[Send]]]] = {
    "sidecar": by_sidecar,
    "aiohttp": by_aiohttp,
    "pyreqwest": by_pyreqwest,
    "httpx2": by_httpx2,
}


def application(send: Send) -> Callable[..., Awaitable[None]]:
    """An ASGI application whose answers are the provider's."""

    async def answer(scope: dict[str, Any], receive: Any, respond: Any) -> None:
        del scope
        chunks, more = [], True
        while more:
            message = await receive()
            chunks.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = await send(b"".join(chunks))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await respond({"type": "http.response.start", "status": 200, "headers": headers})
        await respond({"type": "http.response.body", "body": body})

    return answer


async def _serve(port: int, client: str, url: str) -> None:
    listening = server.listen(port, host=server.LOOPBACK)
    send = await CLIENTS[client](url)
    await oracle.serve(application(send), listening)


def main() -> None:
    """Serve until the process is told to end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--client", choices=CLIENTS, required=True)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(given.port, given.client, given.url))


if __name__ == "__main__":
    main()
