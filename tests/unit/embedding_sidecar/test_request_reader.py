"""One request, one answer, whatever is around its body (field cases A1, D2, D8)."""

import asyncio
import itertools

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_http import bounds
from embedding_http.protocol import HttpProtocol, Listener
from embedding_sidecar.api.server import ADMIN

BODY = b"GET /v1/models HTTP/1.1\r\nhost: inner\r\n\r\n"
"""A body that would be a request of its own."""
H2C = (
    b"Connection: Upgrade, HTTP2-Settings\r\n"
    b"Host: 127.0.0.1:8484\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
    b"Upgrade: h2c\r\n"
    b"User-Agent: Java-http-client/21.0.2\r\n"
)
"""What Java's HttpClient sends with each request of an http:// URL."""
CHUNKED = b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


class Seen:
    """An application that notes what it was asked, and answers with the body."""

    def __init__(self):
        self.requests = []

    async def __call__(self, scope, receive, send):
        body, more = b"", scope["path"] != "/unread"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.requests.append((scope["method"], scope["path"], dict(scope["headers"]), body))
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Transport(asyncio.Transport):
    """Takes what is written, and is closed once it is told so."""

    def __init__(self):
        super().__init__()
        self.written = b""
        self.closed = False

    def get_extra_info(self, name, default=None):
        return ("10.0.0.1", 1) if name == "peername" else default

    def write(self, data):
        self.written += bytes(data)

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        """Of no matter here: the test is what sends."""

    def resume_reading(self):
        """As above."""


def exchange(*pieces, bounded=bounds.ORDINARY):
    """The application's requests, what was written, and whether the connection was ended."""
    seen = Seen()

    async def whole():
        listener = Listener(application=seen, bounds=bounded)
        connection = HttpProtocol(listener)
        transport = Transport()
        connection.connection_made(transport)
        for piece in pieces:
            if not transport.closed:
                connection.data_received(piece)
            for _ in range(8):
                await asyncio.sleep(0)
        for _ in range(8 * bounds.ORDINARY.pipelined):
            await asyncio.sleep(0)
        closed = transport.closed
        connection.connection_lost(None)
        for task in list(listener.tasks):
            task.cancel()
        await asyncio.gather(*listener.tasks, return_exceptions=True)
        return seen.requests, transport.written, closed

    return asyncio.run(whole())


def statuses(written):
    return [int(it.split()[1]) for it in written.split(b"\r\n") if it.startswith(b"HTTP/1.1 ")]


def post(*lines, path=b"/a", body=BODY):
    head = b"POST %b HTTP/1.1\r\n" % path + b"".join(lines)
    return head + b"content-length: %d\r\n\r\n" % len(body), body


# --- A1: an upgrade that is not wanted is ignored


@pytest.mark.parametrize(
    "offer",
    [
        H2C,
        b"upgrade: websocket\r\nconnection: keep-alive, Upgrade\r\n",
        b"connection: upgrade\r\nupgrade: TLS/1.0, HTTP/1.1\r\nconnection: keep-alive\r\n",
    ],
    ids=["Java", "websocket", "several lines"],
)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_a1_request_that_offers_upgrade_has_one_answer_and_its_own_body(offer, in_pieces):
    head, body = post(offer)
    pieces = [head, body, LAST] if in_pieces else [head + body + LAST]
    requests, written, _ = exchange(*pieces)
    assert [(method, path, came) for method, path, _, came in requests] == [
        ("POST", "/a", BODY),
        ("GET", "/last", b""),
    ]
    assert statuses(written.replace(BODY, b"")) == [200, 200]
    assert not {b"upgrade", b"http2-settings"} & requests[0][2].keys()


def test_a1_offered_upgrade_with_chunked_body_has_its_own_body():
    head = b"POST /a HTTP/1.1\r\n" + H2C + b"transfer-encoding: chunked\r\n\r\n"
    requests, _, _ = exchange(head, b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), LAST)
    assert [came for *_, came in requests] == [BODY, b""]


def test_a1_many_offers_in_one_read_are_many_requests():
    requests, _, _ = exchange(b"GET /a HTTP/1.1\r\n%b\r\n" % H2C * 50 + LAST)
    assert len(requests) == 51


def test_connect_is_refused():
    _, written, closed = exchange(b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n" + BODY)
    assert statuses(written) == [400]
    assert closed


def cuts(data, places):
    marks = sorted({0, len(data), *(it % len(data) for it in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


@settings(max_examples=50)
@given(
    st.lists(
        st.sampled_from(
            [
                b"".join(post(H2C)),
                b"".join(post()),
                CHUNKED + b"3;a=b\r\nabc\r\n0\r\nx-trailer: 1\r\n\r\n",
                b"GET /g HTTP/1.1\r\n" + H2C + b"\r\n",
            ]
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.integers(0, 5000), max_size=6),
)
def test_a1_requests_are_same_in_any_pieces(requests, places):
    data = b"".join(requests) + LAST
    whole, cut = exchange(data)[0], exchange(*cuts(data, places))[0]
    assert whole == cut
    assert len(whole) == len(requests) + 1


# --- D2: what frames a body is bounded and dropped


def test_d2_trailers_are_no_headers():
    requests, _, _ = exchange(CHUNKED, b"0\r\nauthorization: Bearer x\r\n\r\n", LAST)
    assert b"authorization" not in requests[0][2]
    assert len(requests) == 2


@pytest.mark.parametrize("path", [b"/a", b"/unread"])
@pytest.mark.parametrize(
    "piece",
    [(b"0\r\n", b"a:1\r\n"), (b"0\r\n", b"a"), (b"0\r\na:", b"1"), (b"1;", b"a=b;")],
    ids=["trailers", "name of a trailer", "value of a trailer", "chunk extension"],
)
def test_d2_framing_without_end_is_refused_within_its_bound(path, piece):
    start, more = piece
    pieces = [more * (1024 // len(more))] * 100
    head = CHUNKED.replace(b"/a", path)
    within = bounds.MAX_FRAMING_BYTES // 1024
    _, _, closed = exchange(head + start, *pieces[: within - 1])
    assert not closed
    _, written, closed = exchange(head + start, *pieces[: within + 1])
    assert closed
    # One request, one answer.
    assert statuses(written) == [400 if path == b"/a" else 200]


def test_body_in_chunks_of_one_byte_is_no_flood():
    count = bounds.MAX_FRAMING_BYTES
    pieces = [b"1\r\na\r\n" * 64] * (count // 64)
    requests, _, _ = exchange(CHUNKED, *pieces, b"0\r\n\r\n")
    assert [came for *_, came in requests] == [b"a" * count]


def test_head_of_too_many_lines_is_refused():
    lines = b"a: b\r\n" * bounds.MAX_HEADERS
    assert statuses(exchange(b"GET /a HTTP/1.1\r\n" + lines + b"\r\n")[1]) == [200]
    assert statuses(exchange(b"GET /a HTTP/1.1\r\n" + lines + b"a: b\r\n\r\n")[1]) == [431]


@pytest.mark.parametrize("bounded", [bounds.ORDINARY, ADMIN])
def test_head_of_too_many_lines_is_refused_before_its_end(bounded):
    start = b"GET /a HTTP/1.1\r\n" + b"a: b\r\n" * bounds.MAX_HEADERS
    assert statuses(exchange(start, bounded=bounded)[1]) == []
    # The parser tells of a line when it sees the next one begin.
    _, written, closed = exchange(start, b"a: b\r\na: b\r\na", bounded=bounded)
    assert (statuses(written), closed) == ([431], True)


def test_pipelined_requests_are_bounded():
    many = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
    most = bounds.ORDINARY.pipelined + 1
    assert len(exchange(many * most)[0]) == most
    _, written, closed = exchange(many * (most + 1))
    assert closed
    assert statuses(written) == [200] * most + [400]


# --- D8: what a client expects is answered once


def test_d8_client_that_expects_100_is_told_once_and_then_answered():
    head, body = post(b"expect: 100-continue\r\n")
    requests, written, _ = exchange(head, body)
    assert statuses(written.replace(BODY, b"")) == [100, 200]
    assert requests[0][3] == BODY


def test_d8_connection_ends_with_answer_for_which_no_body_was_asked():
    """Whether the client sends the body then is open, so what comes next has no beginning."""
    head, body = post(b"expect: 100-continue\r\n", path=b"/unread")
    requests, written, closed = exchange(head, body)
    assert (statuses(written), closed, len(requests)) == ([200], True, 1)


# --- administration


def admin(*pieces):
    return exchange(*pieces, bounded=ADMIN)


def test_d2_administration_ends_with_answer_whose_request_is_not_whole():
    head = b"GET /unread HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
    requests, written, closed = admin(head, b"a:1\r\n" * 1000)
    assert (statuses(written), closed, len(requests)) == ([200], True, 1)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PRI", b"TRACE"])
def test_administration_is_read_only_and_says_what_it_allows(method):
    requests, written, closed = admin(method + b" /metrics?a HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (requests, closed) == ([], True)
    if method != b"PRI":
        assert statuses(written) == [405]
        assert b"allow: GET, HEAD\r\n" in written
        assert b"is not allowed on /metrics." in written


def test_administration_allows_no_connect_and_says_what_it_allows():
    requests, written, closed = admin(b"CONNECT x:443 HTTP/1.1\r\nhost: x:443\r\n\r\n")
    assert (requests, statuses(written), closed) == ([], [405], True)
    assert b"allow: GET, HEAD\r\n" in written


def test_d2_administration_holds_no_body():
    head = b"GET /a HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n"

    async def whole():
        made = HttpProtocol(Listener(application=Seen(), bounds=ADMIN))
        made.connection_made(Transport())
        made.data_received(head)
        for _ in range(100):
            made.data_received(b"x" * 10_000)
        assert made.answering is not None
        held = len(made.answering.body)
        for task in list(made.listener.tasks):
            task.cancel()
        made.connection_lost(None)
        await asyncio.sleep(0)
        return held

    assert asyncio.run(whole()) == 0


def test_administration_answers_requests_one_by_one_and_keeps_connection():
    ask = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
    assert len(admin(ask, ask, ask)[0]) == 3
    _, written, closed = admin(ask * 1000)
    assert closed
    assert statuses(written) == [200, 400]


def test_parser_tells_upgrade_as_is_relied_on():
    """httptools says where the head of such a request ends, and begins anew behind it."""
    parser = httptools.HttpRequestParser(object())
    head = b"POST / HTTP/1.1\r\nupgrade: x\r\nconnection: upgrade\r\ncontent-length: 3\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as told:
        parser.feed_data(head + b"abc")
    assert told.value.args == (len(head),)
    parser.feed_data(b"GET / HTTP/1.1\r\n\r\n")
