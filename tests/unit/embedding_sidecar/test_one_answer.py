"""One request, one answer, wherever segments end (RFC 9110 and 9112; field cases A1, D2, D8)."""

import asyncio
import dataclasses

import pytest

from embedding_http import bounds
from embedding_http.flow import Reply, pairs
from embedding_http.protocol import HttpProtocol, Listener
from embedding_sidecar.api.fast_path import FastPath
from embedding_sidecar.openai_format import request_headers
from tests.parts import conversations
from tests.parts.conversations import INNER, Target
from tests.unit.embedding_sidecar.test_fast_path import HEAD, Echo
from tests.unit.embedding_sidecar.test_request_reader import Transport

MOST_TURNS = 2000
POST = conversations.Form(
    target=Target(method=b"POST", path=b"/a", kind="passed"),
    body=INNER,
    text="",
    chunks=None,
    extension=b"",
    trailers=b"",
    offer=b"",
    lines=(),
    expects=False,
    is_absolute=False,
    version=b"1.1",
    before=b"",
)
GET = dataclasses.replace(POST, target=Target(method=b"GET", path=b"/b", kind="passed"), body=b"")
H2C, _, TLS, _ = conversations.OFFERS
CHUNKED = dataclasses.replace(
    POST, chunks=(3, 1), extension=b';a="b c"', trailers=b"x-request-id: trailer\r\nexpect: x\r\n"
)


def so(form, **changed):
    return dataclasses.replace(form, **changed)


FORMS = {
    "plain": [POST, GET],
    "chunks and trailers": [CHUNKED, GET],
    "offers": [so(POST, offer=H2C), so(GET, offer=TLS)],
    "an offer in chunks": [so(CHUNKED, offer=H2C), POST],
    "an offer in trailers": [so(CHUNKED, trailers=b"upgrade: x\r\nconnection: upgrade\r\n"), POST],
    "an offer that is the last": [POST, so(POST, offer=H2C)],
    "an offer that expects": [GET, so(POST, offer=H2C, expects=True)],
    "what expects, in chunks": [GET, so(CHUNKED, expects=True)],
    "empty lines": [so(GET, before=b"\r\n"), so(POST, before=b"\r\n\r\n")],
    "the old version": [GET, so(POST, version=b"1.0", expects=True)],
    "a whole URL": [so(POST, is_absolute=True), so(GET, is_absolute=True)],
    "a body of a GET": [so(GET, body=INNER), so(CHUNKED, target=GET.target)],
    "no body": [so(POST, body=b""), so(CHUNKED, body=b"")],
}


class Named(Echo):
    """Answers with the body, and says whose answer it is."""

    def at_once(self, head, body):
        return self._reply(head, body)

    async def respond(self, scope, receive, send, asked=None):
        await self(scope, receive, send)

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        reply = self._reply(request_headers.read(scope["headers"]), body)
        # Without its length.
        lines = pairs(reply.head)[1:]
        await send({"type": "http.response.start", "status": 200, "headers": lines})
        await send({"type": "http.response.body", "body": body[:3], "more_body": True})
        await send({"type": "http.response.body", "body": body[3:]})

    def _reply(self, head, body):
        name = b"x-request-id: %b\r\n" % (head.request_id or "").encode()
        line, rest = (HEAD % len(body)).split(b"\r\n", 1)
        return Reply(200, rest + line + b"\r\n" + name, body)


async def exchange(protocol, pieces, application, *, turns_between=4):
    """All that is written for these pieces, until the connection is ended or nothing happens."""
    listener = Listener(application=application)
    connection = protocol(listener)
    transport = Transport()
    connection.connection_made(transport)
    for piece in pieces:
        if not transport.closed:
            connection.data_received(piece)
        for _ in range(turns_between):
            await asyncio.sleep(0)
    for _ in range(MOST_TURNS):
        if transport.closed:
            break
        await asyncio.sleep(0)
    closed = transport.closed
    transport.closed = True
    connection.connection_lost(None)
    await asyncio.gather(*listener.tasks, return_exceptions=True)
    return transport.written, closed


def right(asked, written, closed):
    """Each of these was answered once, with its own body, and then the connection was ended."""
    answers = conversations.Answers(asked)
    answers.feed(written)
    if not answers.is_over:
        answers.feed(b"")
    assert closed
    assert answers.is_over
    is_head = [it.form.target.method == b"HEAD" for it in asked]
    bodies = [b"" if head else it.body for head, it in zip(is_head, asked, strict=True)]
    assert [it.body for it in answers.read] == bodies


@pytest.mark.parametrize("protocol", [HttpProtocol, FastPath])
@pytest.mark.parametrize("forms", FORMS.values(), ids=FORMS)
def test_connection_may_be_cut_at_every_byte(protocol, forms):
    last = len(forms) - 1
    asked = [it.spoken(f"c-{at}", is_last=at == last) for at, it in enumerate(forms)]
    raw = b"".join(it.raw for it in asked)
    cuts = [[raw[:at], raw[at:]] for at in range(len(raw))]
    each = [raw[at : at + 1] for at in range(len(raw))]

    async def all_of_them():
        return [await exchange(protocol, pieces, Named()) for pieces in (*cuts, each)]

    for written, closed in asyncio.run(all_of_them()):
        right(asked, written, closed)


@pytest.mark.parametrize("protocol", [HttpProtocol, FastPath])
@pytest.mark.parametrize(
    "offer",
    [b"connection: close\r\n" + H2C, H2C + b"connection: close\r\n"],
    ids=["before", "after"],
)
def test_a1_offer_on_connection_that_ends_is_answered(protocol, offer):
    """A1, a sibling: the parser reads no more of a connection whose last request it has read."""
    asked = [
        POST.spoken("c-0", is_last=False),
        so(POST, lines=(offer,)).spoken("c-1", is_last=True),
    ]
    raw = b"".join(it.raw for it in asked)
    right(asked, *asyncio.run(exchange(protocol, [raw], Named())))


@pytest.mark.parametrize("protocol", [HttpProtocol, FastPath])
@pytest.mark.parametrize("at_once", [True, False])
def test_d2_trailer_that_ends_connection_leaves_no_request_without_word(protocol, at_once):
    """D2, a sibling: such a trailer is not allowed, and what came behind it was never answered."""
    first = so(CHUNKED, trailers=b"connection: close\r\n").spoken("c-0", is_last=False)
    pieces = [first.raw, GET.spoken("c-1", is_last=True).raw]
    pieces = [b"".join(pieces)] if at_once else pieces
    ended = dataclasses.replace(first, is_last=True)
    right([ended], *asyncio.run(exchange(protocol, pieces, Named())))


@pytest.mark.parametrize("protocol", [HttpProtocol, FastPath])
@pytest.mark.parametrize("trailers", [b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n"])
def test_d2_trailer_that_frames_is_refused_and_connection_ended(protocol, trailers):
    """D2, a sibling."""
    raw = so(CHUNKED, trailers=trailers).spoken("c-0", is_last=False).raw + INNER
    written, closed = asyncio.run(exchange(protocol, [raw], Named()))
    assert closed
    assert written.count(b"HTTP/1.1 ") == 1
    assert written.startswith(b"HTTP/1.1 400 ")


BROKEN = {
    "no HTTP": b"\x00 no HTTP\r\n\r\n",
    "two lengths": b"POST /a HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
    "a length and chunks": b"POST /a HTTP/1.1\r\ncontent-length: 3\r\n"
    b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk of no size": b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nx\r\n\r\n",
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a proxy's": b"CONNECT other:443 HTTP/1.1\r\nhost: other:443\r\n\r\n",
    "another version": b"GET /a HTTP/3.0\r\n\r\n",
}


@pytest.mark.parametrize("protocol", [HttpProtocol, FastPath])
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("forms", [[], [POST], [GET, POST, GET], [CHUNKED, so(GET, offer=H2C)]])
def test_invalid_request_is_refused_after_answers_of_earlier_ones(protocol, broken, forms):
    """It took the place of the first answer that had not begun."""
    asked = [it.spoken(f"c-{at}", is_last=False) for at, it in enumerate(forms)]
    # Its refusal names no request.
    last = dataclasses.replace(GET.spoken("", is_last=True), body=b"")
    raw = b"".join(it.raw for it in asked)
    for pieces in ([raw + broken + INNER], [raw, broken, INNER]):
        written, closed = asyncio.run(exchange(protocol, pieces, Named()))
        answers = conversations.Answers([*asked, last])
        answers.feed(written)
        assert closed
        assert answers.is_over
        assert [it.status for it in answers.read] == [200] * len(asked) + [400]
        assert [it.body for it in answers.read[:-1]] == [it.body for it in asked]


@pytest.mark.parametrize("protocol", [HttpProtocol, FastPath])
def test_bytes_behind_refused_request_are_not_read(protocol):
    """Its refusal waits for an answer, and what comes meanwhile is nobody's request."""
    asked = [GET.spoken("c-0", is_last=False)]
    last = dataclasses.replace(GET.spoken("", is_last=True), body=b"")
    chunked = b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
    flood = b"a:1\r\n" * (bounds.MAX_FRAMING_BYTES // 4)
    pieces = [asked[0].raw + chunked, flood, b"\r\n" + INNER]
    written, closed = asyncio.run(exchange(protocol, pieces, Named(), turns_between=0))
    answers = conversations.Answers([*asked, last])
    answers.feed(written)
    assert closed
    assert answers.is_over
    assert [it.status for it in answers.read] == [200, 400]


def test_http_1_0_is_answered_without_chunks_and_without_100():
    """RFC 9112, 6.1, and RFC 9110, 10.1.1."""
    form = so(GET, version=b"1.0", expects=True, body=b"abc")
    asked = [form.spoken("c-0", is_last=True)]
    written, closed = asyncio.run(exchange(HttpProtocol, [asked[0].raw], Named()))
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"chunked" not in written
    assert b"content-length" not in written
    assert written.endswith(b"connection: close\r\n\r\nabc")
    assert closed


def test_error_behind_upgrade_offer_is_told_as_usual():
    """A1, a sibling: a head with too many lines."""
    offer = so(GET, offer=H2C).spoken("c-0", is_last=False).raw
    long = b"GET /a HTTP/1.1\r\n" + b"a: b\r\n" * (bounds.MAX_HEADERS + 1) + b"\r\n"
    written, closed = asyncio.run(exchange(HttpProtocol, [offer + long], Named()))
    assert closed
    assert [it[9:12] for it in written.split(b"\r\n") if it.startswith(b"HTTP/1.1 ")] == [
        b"200",
        b"431",
    ]
