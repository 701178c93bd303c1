"""The HTTP client: requests certainly not sent, requests maybe sent, and bodies as they arrive."""

import asyncio
import contextlib
import os
import re
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator

import aiohttp
import pytest

from embedding_sidecar import errors
from embedding_sidecar.translation import provider_api
from embedding_sidecar.upstream import http_client
from tests.parts import raw_server
from tests.parts.callbacks import come

SECRET = "sk-secret"


@pytest.fixture(params=["direct", "by a proxy"])
def reach(request, monkeypatch):
    """Told of a server's URL, sees to it that calls get there: by our client, or by aiohttp."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def by_proxy(url: str) -> None:
        if request.param == "by a proxy":
            # The server is its own proxy.
            monkeypatch.setenv("http_proxy", url.removesuffix("/v1"))

    return by_proxy


@pytest.fixture
def sent(reach):
    """Sends a request to a server that handles it so; the answer."""

    def send(handler: raw_server.Handler, *, within_seconds: float = 10) -> provider_api.HttpAnswer:
        async def run() -> provider_api.HttpAnswer:
            async with raw_server.served(handler) as url:
                reach(url)
                async with client() as made:
                    answer: provider_api.HttpAnswer = await come(
                        made.start, post(url), within_seconds=within_seconds
                    )
                    return answer

        return asyncio.run(run())

    return send


@pytest.fixture
def failed(sent):
    """As `sent`; why there is no answer."""

    def fail(handler: raw_server.Handler, *, within_seconds: float = 10) -> tuple[str, bool]:
        with pytest.raises(errors.Unreachable) as caught:
            sent(handler, within_seconds=within_seconds)
        assert SECRET not in str(caught.value)
        return caught.value.reason, caught.value.billed

    return fail


@contextlib.asynccontextmanager
async def client(**limits) -> AsyncIterator[http_client.HttpClient]:
    made = http_client.HttpClient(**limits)
    try:
        yield made
    finally:
        await made.close()


def post(url: str) -> provider_api.HttpRequest:
    return provider_api.HttpRequest(
        url=f"{url}/embeddings", body=b"{}", headers=provider_api.headers(SECRET)
    )


def test_answer_of_any_status_comes_whole(sent):
    seen = []

    async def handler(reader, writer):
        seen.append(await raw_server.head(reader) + await reader.readexactly(2))
        writer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\ncontent-length: 3\r\n\r\nno!")

    answer = sent(handler)
    assert (answer.status, answer.headers["retry-after"], answer.body) == (503, "7", b"no!")
    line, *headers = seen[0].lower().split(b"\r\n")
    assert re.fullmatch(rb"post (http://[^/]*)?/v1/embeddings http/1.1", line)
    assert set(headers) >= {
        f"authorization: bearer {SECRET}".encode(),
        b"user-agent: embedding-sidecar",
        b"accept-encoding: identity",
        b"content-length: 2",
    }


def test_redirect_is_answer_and_takes_key_nowhere(sent):
    async def handler(reader, writer):
        await raw_server.head(reader)
        writer.write(b"HTTP/1.1 307 T\r\nlocation: http://x/\r\ncontent-length: 0\r\n\r\n")

    assert sent(handler).status == 307


def test_refused_connection_was_never_sent(reach, request):
    async def run():
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
            reach(url)
            async with client() as made:
                await come(made.start, post(url), within_seconds=10)

    with pytest.raises(errors.Unreachable) as caught:
        asyncio.run(run())
    word = "proxy_unreachable" if "proxy" in request.node.name else "connection_refused"
    assert (caught.value.reason, caught.value.billed) == (word, False)


def test_header_that_cannot_be_written_was_never_sent_and_is_not_shown(reach):
    async def run():
        reach("http://127.0.0.1:1/v1")
        async with client() as made:
            await come(
                made.start,
                provider_api.HttpRequest(
                    url="http://127.0.0.1:1/", body=b"", headers={"a": "sk\nx"}
                ),
                within_seconds=10,
            )

    with pytest.raises(errors.Unreachable) as caught:
        asyncio.run(run())
    assert not caught.value.billed
    assert "sk" not in str(caught.value)


async def reset(reader, writer):
    await raw_server.head(reader)
    writer.transport.abort()


async def closed(reader, writer):
    await raw_server.head(reader)


async def cut(reader, writer):
    await raw_server.head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")


async def nonsense(reader, writer):
    await raw_server.head(reader)
    writer.write(b"hello\r\n\r\n")


@pytest.mark.parametrize("handler", [reset, closed, cut, nonsense])
def test_connection_lost_after_sending_may_have_cost(failed, handler):
    assert failed(handler) == ("connection_lost", True)


async def silent(reader, writer):
    await raw_server.head(reader)
    await reader.read()


@pytest.mark.parametrize("handler", [silent, raw_server.half])
def test_time_out_after_sending_may_have_cost(failed, handler):
    assert failed(handler, within_seconds=0.2) == ("timeout", True)


def test_connection_that_is_not_accepted_was_never_sent(reach):
    async def run():
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            waiting = [socket.socket() for _ in range(4)]
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            reach(f"http://127.0.0.1:{port}/v1")
            try:
                async with client(connect_seconds=0.2) as made:
                    await come(made.start, post(f"http://127.0.0.1:{port}/v1"), within_seconds=10)
            finally:
                for one in waiting:
                    one.close()

    with pytest.raises(errors.Unreachable) as caught:
        asyncio.run(run())
    assert (caught.value.reason, caught.value.billed) == ("connect_timeout", False)


def every(kind: type[Exception]) -> list[type[Exception]]:
    found = [kind]
    for below in kind.__subclasses__():
        found += every(below)
    return found


NEVER_SENT = {
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ClientHttpProxyError",
    "ClientProxyConnectionError",
    "ClientConnectorCertificateError",
    "ClientConnectorSSLError",
    "ClientSSLError",
    "UnixClientConnectorError",
    "ConnectionTimeoutError",
    "InvalidURL",
    "InvalidUrlClientError",
    "InvalidUrlRedirectClientError",
    "NonHttpUrlClientError",
    "NonHttpUrlRedirectClientError",
}


def empty(kind):
    """One of a kind, as far as it is looked at."""
    made = kind.__new__(kind)
    if issubclass(kind, aiohttp.ClientConnectorError):
        made._os_error = OSError()
    if issubclass(kind, aiohttp.ClientResponseError):
        made.status = 0
    return made


@pytest.mark.parametrize("kind", every(aiohttp.ClientError), ids=lambda kind: kind.__name__)
def test_every_exception_of_client_has_meaning_and_doubt_counts(kind):
    made = http_client.failure(empty(kind))
    assert made.billed is (kind.__name__ not in NEVER_SENT)


def test_connection_is_kept_for_next_request(reach):
    connections = []

    async def handler(reader, writer):
        connections.append(writer)
        for _ in range(2):
            await raw_server.head(reader)
            await reader.readexactly(2)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async def run():
        async with raw_server.served(handler) as url:
            reach(url)
            async with client() as made:
                await come(made.start, post(url), within_seconds=10)
                await come(made.start, post(url), within_seconds=10)

    asyncio.run(run())
    assert len(connections) == 1


def test_cancelled_request_ends_its_connection(reach):
    async def run():
        reached, ended = asyncio.Event(), asyncio.Event()

        async def handler(reader, writer):
            await raw_server.head(reader)
            reached.set()
            await reader.read()
            ended.set()

        async with raw_server.served(handler) as url:
            reach(url)
            async with client() as made:
                task = asyncio.create_task(come(made.start, post(url), within_seconds=10))
                await reached.wait()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await ended.wait()

    asyncio.run(run())


# --- proxies, names and certificates


async def well(reader, writer):
    await raw_server.head(reader)
    await reader.readexactly(2)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("environment", "proxied"),
    [
        ({"http_proxy": "{}"}, True),
        ({"HTTP_PROXY": "{}"}, True),
        ({"all_proxy": "{}"}, True),
        ({"https_proxy": "{}"}, False),
        ({"http_proxy": "{}", "no_proxy": "127.0.0.1"}, False),
        ({"http_proxy": "{}", "NO_PROXY": "*"}, False),
        ({}, False),
    ],
)
def test_proxy_of_environment_is_used_as_it_says(monkeypatch, environment, proxied):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    seen = []

    async def proxy(reader, writer):
        seen.append((await raw_server.head(reader)).split(b"\r\n")[0])
        await reader.readexactly(2)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async def run():
        async with raw_server.served(proxy) as proxy_url, raw_server.served(well) as url:
            for name, value in environment.items():
                monkeypatch.setenv(name, value.format(proxy_url.removesuffix("/v1")))
            async with client() as made:
                assert (await come(made.start, post(url), within_seconds=10)).status == 200
            return url

    url = asyncio.run(run())
    assert seen == ([f"POST {url}/embeddings HTTP/1.1".encode()] if proxied else [])


def test_netrc_adds_no_password_to_what_passes_through(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login u password p\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    seen = []

    async def handler(reader, writer):
        seen.append(await raw_server.head(reader))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async def run():
        async with raw_server.served(handler) as url, client() as made:
            await made.stream(method="GET", url=url, headers=[], body=no_body())

    asyncio.run(run())
    assert b"authorization" not in seen[0].lower()


def test_name_that_moves_is_followed_once_its_connection_has_ended(monkeypatch):
    """The first answer ends its connection, and the second server alone is left."""
    homes: list[tuple[str, int]] = []
    real = socket.getaddrinfo

    def resolve(host, port, *rest, **more):
        if host == "provider.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", homes[0])]
        return real(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    def says(word: bytes) -> raw_server.Handler:
        async def handler(reader, writer):
            await raw_server.head(reader)
            await reader.readexactly(2)
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\n")
            writer.write(word)

        return handler

    async def run():
        async with (
            raw_server.served(says(b"old")) as old,
            raw_server.served(says(b"new")) as new,
            client(dns_seconds=0) as made,
        ):
            answers = []
            for home in (old, new):
                homes[:] = [("127.0.0.1", int(home.rsplit(":")[-1].removesuffix("/v1")))]
                request = post("http://provider.example/v1")
                answers.append((await come(made.start, request, within_seconds=10)).body)
            return answers

    assert asyncio.run(run()) == [b"old", b"new"]


PRIVATE_CA = """
import asyncio, sys
from embedding_sidecar.translation import provider_api
from embedding_sidecar.upstream import http_client

async def run():
    client = http_client.HttpClient()
    request = provider_api.HttpRequest(url=sys.argv[1], body=b"{}", headers={})
    try:
        told = asyncio.get_running_loop().create_future()
        client.start(request, within_seconds=10, done=told.set_result)
        said = await told
        if isinstance(said, Exception):
            raise said
        print(said.status)
    finally:
        await client.close()

asyncio.run(run())
"""


def test_private_authority_is_believed_where_environment_names_it(tmp_path):
    authority = raw_server.certificate(tmp_path, "127.0.0.1")
    context = raw_server.with_certificate(authority)

    async def asked(**environment):
        async with raw_server.served(well, tls=context) as url:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-c", PRIVATE_CA, f"{url}/embeddings"),
                env={"PATH": os.environ["PATH"], **environment},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            said, complained = await process.communicate()
        return said.strip(), complained

    assert asyncio.run(asked(SSL_CERT_FILE=str(authority)))[0] == b"200"
    assert b"certificate_untrusted" in asyncio.run(asked())[1]


# --- streams


async def no_body() -> AsyncIterator[bytes]:
    nothing: list[bytes] = []
    for chunk in nothing:
        yield chunk


async def two_parts() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


def test_passed_through_exchange_is_not_touched():
    seen = []

    async def handler(reader, writer):
        seen.append(await raw_server.head(reader))
        writer.write(
            b"HTTP/1.1 201 Made\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
            b"content-encoding: gzip\r\ncontent-length: 3\r\n\r\nraw"
        )

    async def run():
        async with raw_server.served(handler) as url, client() as made:
            answer = await made.stream(
                method="DELETE",
                url=f"{url}/files/a%2Fb?x=%20+&x=2",
                headers=[("x-one", "1"), ("x-one", "2")],
                body=no_body(),
            )
            return answer, b"".join([chunk async for chunk in answer.chunks])

    answer, body = asyncio.run(run())
    assert seen[0].startswith(b"DELETE /v1/files/a%2Fb?x=%20+&x=2 HTTP/1.1\r\n")
    headers = seen[0].decode().split("\r\n")[1:-2]
    added = ("Host: ", "Content-Length: 0")
    assert [it for it in headers if not it.startswith(added)] == ["x-one: 1", "x-one: 2"]
    assert (answer.status, body) == (201, b"raw")
    assert [value for name, value in answer.headers if name == "Set-Cookie"] == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("headers", "framed"),
    [([("content-length", "6")], b"onetwo"), ([], b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")],
)
def test_body_goes_up_as_it_was_announced(headers, framed):
    seen = []

    async def handler(reader, writer):
        await raw_server.head(reader)
        seen.append(await reader.readexactly(len(framed)))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async def run():
        async with raw_server.served(handler) as url, client() as made:
            answer = await made.stream(method="POST", url=url, headers=headers, body=two_parts())
            assert [chunk async for chunk in answer.chunks] == []

    asyncio.run(run())
    assert seen == [framed]


def test_chunks_come_as_they_come_and_leaving_early_ends_connection():
    async def run():
        read, ended = asyncio.Event(), asyncio.Event()

        async def handler(reader, writer):
            await raw_server.head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            await read.wait()
            writer.write(b"6\r\nsecond\r\n")
            await reader.read()
            ended.set()

        async with raw_server.served(handler) as url, client() as made:
            answer = await made.stream(method="POST", url=url, headers=[], body=no_body())
            assert await anext(answer.chunks) == b"first"
            read.set()
            assert await anext(answer.chunks) == b"second"
            assert isinstance(answer.chunks, AsyncGenerator)
            await answer.chunks.aclose()
            await ended.wait()

    asyncio.run(run())


def test_stream_that_breaks_is_not_taken_for_its_end():
    async def run():
        async with raw_server.served(cut) as url, client() as made:
            answer = await made.stream(method="GET", url=url, headers=[], body=no_body())
            return [chunk async for chunk in answer.chunks]

    with pytest.raises(errors.Unreachable):
        asyncio.run(run())


def test_caller_who_goes_away_while_sending_ends_request():
    async def leaving() -> AsyncIterator[bytes]:
        yield b"one"
        raise errors.Unreachable("the caller went away", billed=False)

    async def run():
        async with raw_server.served(silent) as url, client() as made:
            await made.stream(method="POST", url=url, headers=[], body=leaving())

    with pytest.raises(errors.Unreachable):
        asyncio.run(run())


@pytest.mark.parametrize("url", ["https://[::1/v1", "http://a]b/v1"])
def test_invalid_url_is_not_sent_to_proxy(url, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    async def go():
        async with client() as made:
            await come(made.start, post(url), within_seconds=1)

    with pytest.raises(errors.Unreachable) as caught:
        asyncio.run(go())
    assert (caught.value.reason, caught.value.billed) == ("no_connection", False)


@pytest.mark.parametrize("proxy", ["", "http://proxy.invalid:3128"])
def test_call_that_looks_name_up_ends_with_its_client(proxy, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy)

    async def go():
        looked_up = asyncio.Event()

        async def hang(*_, **__):
            looked_up.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hang)
        async with client() as made:
            call = asyncio.create_task(
                come(made.start, post("http://provider.invalid/v1"), within_seconds=9)
            )
            await looked_up.wait()
        with pytest.raises(errors.Unreachable):
            await asyncio.wait_for(call, 5)

    asyncio.run(go())


def test_time_of_call_by_proxy_is_not_rounded_up(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    given = []

    def post_with(self, url, *, timeout, **rest):
        given.append(timeout)
        raise OSError

    monkeypatch.setattr(aiohttp.ClientSession, "post", post_with)

    async def go():
        async with client() as made:
            with pytest.raises(errors.Unreachable):
                await come(made.start, post("http://provider.invalid/v1"), within_seconds=7.25)

    asyncio.run(go())
    (timeout,) = given
    assert timeout.total == 7.25
    assert timeout.ceil_threshold >= timeout.total
