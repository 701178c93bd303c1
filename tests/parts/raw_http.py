"""HTTP/1.1 as bytes: whole requests, and the changes that may be made to them."""

import asyncio
import contextlib
from dataclasses import dataclass

from hypothesis import strategies as st

IDLE_SECONDS = 0.2
"""After so long without an answer there is none: what was sent is no whole request."""

BODY = b'{"model": "small", "input": ["a", "b"]}'
PIECES = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\x00",
    b"\xff\xfe",
    b" ",
    b":",
    b"%00",
    b"%2e%2e/",
    b"/../",
    b"//",
    b"?",
    b"#",
    b"*",
    b"http://169.254.169.254/",
    b"POST ",
    b"GET ",
    b"CONNECT ",
    b"TRACE ",
    b" HTTP/1.0",
    b" HTTP/2.0",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Type: text/plain\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b"Authorization: Bearer \xe4\r\n",
    b"x-request-id: a\tb\r\n",
    b"Cache-Control: no-store, max-age\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"FFFFFFFFFFFFFFFFF\r\n",
    b"5;ext=1;more\r\nhello\r\n",
    b"5;" + b"e" * 3000 + b"\r\nhello\r\n",
    b"0\r\nauthorization: Bearer x\r\ncontent-length: 5\r\n\r\n",
    b"0\r\n" + b"a:1\r\n" * 4000,
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
    b"a:\r\n" * 200,
    b"{" * 64,
    b"\\ud800",
    b"1e999",
    b"\xf0\x9f\x98\x80",
]


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """A whole request."""
    return b"\r\n".join([line, b"host: localhost", *headers, b"", body])


WHOLE = [
    request(
        b"POST /v1/embeddings HTTP/1.1",
        b"content-type: application/json",
        b"content-length: %d" % len(BODY),
        body=BODY,
    ),
    request(
        b"POST /v1/embeddings HTTP/1.1",
        b"transfer-encoding: chunked",
        body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    ),
    request(
        b"POST /v1/embeddings HTTP/1.1",
        b"transfer-encoding: chunked",
        body=b"%x;a=b\r\n%b\r\n0\r\nx-trailer: 1\r\n\r\n" % (len(BODY), BODY),
    ),
    request(
        b"POST /v1/embeddings HTTP/1.1",
        b"connection: Upgrade, HTTP2-Settings",
        b"upgrade: h2c",
        b"http2-settings: AAMAAABk",
        b"content-length: %d" % len(BODY),
        body=BODY,
    ),
    request(b"GET /metrics HTTP/1.1"),
    request(b"POST /v1/embeddings HTTP/1.0", b"content-length: %d" % len(BODY), body=BODY),
    request(b"GET /v1/models HTTP/1.1"),
    request(b"GET /v1/models/small HTTP/1.1", b"cache-control: no-cache"),
    request(b"DELETE /v1/models/small HTTP/1.1", b"authorization: Bearer sk-own"),
    request(b"POST /v1/files/a%20b?x=%2F HTTP/1.1", b"content-length: 4", body=b"data"),
    request(b"GET /api/v1/embedding/quota HTTP/1.1", b"authorization: Bearer wrong"),
    request(b"DELETE /api/v1/embedding/cache?model=small HTTP/1.1"),
    request(b"GET /openapi.json HTTP/1.1", b"x-request-id: mine"),
]


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A whole request in which up to four things were changed, or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(min_size=1, max_size=200))
    raw = draw(st.sampled_from(WHOLE))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 40)))
        new = draw(
            st.sampled_from(PIECES) | st.binary(max_size=4) | st.sampled_from([raw[start:end] * 2])
        )
        raw = raw[:start] + new + raw[end:]
    return raw


@dataclass(frozen=True, slots=True)
class Answer:
    """The first answer to what was sent."""

    status: int
    head: bytes
    body: bytes


async def ask(port: int, raw: bytes) -> Answer | None:
    """Send these bytes over a connection of their own; the first answer, if any comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = None
    with contextlib.suppress(TimeoutError, ConnectionError):
        writer.write(raw)
        answer = await _first(reader)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answer


def answer(port: int, raw: bytes) -> Answer:
    """The answer that must come to these bytes."""
    found = asyncio.run(ask(port, raw))
    assert found is not None
    return found


async def _first(reader: asyncio.StreamReader) -> Answer | None:
    got, answer = b"", None
    while answer is None:
        async with asyncio.timeout(IDLE_SECONDS):
            more = await reader.read(2**20)
        if not more:
            break
        got += more
        answer = _parsed(got)
    return answer


def _parsed(got: bytes) -> Answer | None:
    head, end, body = got.partition(b"\r\n\r\n")
    if not end:
        return None
    status = int(head.split(b" ", 2)[1])
    if status == 100:
        return _parsed(body)
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    length = int(lines.get(b"content-length", 0))
    return Answer(status, head, body[:length]) if len(body) >= length else None
