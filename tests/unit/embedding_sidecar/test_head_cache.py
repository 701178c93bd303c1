"""A cached head is used only where the parser would give the same result again."""

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_sidecar.api import head_cache
from embedding_sidecar.openai_format import request_headers
from tests.parts import raw_http

LINE = b"POST /v1/embeddings HTTP/1.1"
LENGTHS = [
    b"Content-Length: %d",
    b"content-length: %d",
    b"content-length:%d",
    b"CONTENT-LENGTH:  %d",
]
OTHERS = [
    b"X-Strength: 3",
    b"length: 3",
    b"content-length: 3",
    b"transfer-encoding: chunked",
    b"authorization: Bearer a",
    b"x-request-id: mine",
    b"cache-control: no-store",
    b"folded: a\r\n length: 3",
]


class Parsed:
    """What the parser finds in bytes that begin with a request."""

    def __init__(self, data):
        self.headers, self.body, self.messages = [], b"", 0
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.messages = 0

    def on_message_begin(self):
        self.messages = -1

    def on_header(self, name, value):
        self.headers.append((name.lower(), value))

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        self.messages = 1


def request(body, *headers, length=b"Content-Length: %d", line=LINE):
    return b"\r\n".join([line, b"Host: x", *headers, length % len(body), b"A: b", b"", body])


def taught(*requests):
    known = head_cache.HeadCache()
    for data in requests:
        parsed = Parsed(data)
        if parsed.messages == 1:
            scope = {"path": "/v1/embeddings", "headers": parsed.headers}
            known.learn(
                data,
                head_cache.Known(request_headers.read(parsed.headers), scope),
                body=parsed.body,
            )
    return known


@pytest.mark.parametrize("body", [b"", b"x", b"longer than before" * 99, b"\r\n\r\n"])
def test_same_head_is_known_whatever_its_body(body):
    known = taught(request(b"first", b"X-Request-Id: mine"))
    repeated = known.find(request(body, b"X-Request-Id: mine"))
    assert repeated is not None
    assert repeated[0].head == request_headers.Head(request_id="mine", host="x")
    assert repeated[0].scope["path"] == "/v1/embeddings"
    assert repeated[1] == body


@pytest.mark.parametrize(
    "data",
    [
        request(b"first", b"B: c"),
        request(b"first", line=b"POST /v1/embedding HTTP/1.1"),
        request(b"first", length=b"content-length: %d"),
        request(b"first", length=b"Content-Length: 0000000000%d"),
        request(b"first", length=b"Content-Length: +%d"),
        request(b"first", length=b"Content-Length: 9%d"),
        request(b"first") + b"x",
        request(b"first")[:-1],
        request(b"first")[:20],
        request(b"first") + request(b"first"),
        b"",
    ],
)
def test_head_that_differs_is_not_known(data):
    assert taught(request(b"first")).find(data) is None


@pytest.mark.parametrize(
    "data",
    [
        request(b"3\r\nabc\r\n0\r\n\r\n", b"transfer-encoding: chunked", length=b"Other: %d"),
        request(b"abc", b"X-Strength: 3"),
        request(b"abc", length=b"content-length:%d"),
        request(b"abc", b"X: " + b"x" * head_cache.MAX_HEAD_BYTES),
        request(b"abc", *[b"X: y"] * head_cache.MAX_HEADERS),
    ],
    ids=["chunks", "another header first", "no space", "long", "many headers"],
)
def test_head_with_other_framing_is_not_learned(data):
    assert len(taught(data)) == 0


def test_known_heads_are_bounded():
    known = taught(*(request(b"", b"N: %d" % at) for at in range(head_cache.MAX_HEADS + 1)))
    assert len(known) == 1


def test_head_that_is_not_learned_drives_none_out():
    full = [request(b"", b"N: %d" % at) for at in range(head_cache.MAX_HEADS)]
    known = taught(*full, request(b"", *[b"X: y"] * head_cache.MAX_HEADERS))
    assert len(known) == head_cache.MAX_HEADS


def test_repr_shows_no_key():
    known = taught(request(b"first", b"Authorization: Bearer sk-secret"))
    repeated = known.find(request(b"a text", b"Authorization: Bearer sk-secret"))
    assert repeated is not None
    assert repr(repeated[0]) == "<a known head>"
    assert "secret" not in repr(known)


PARTS = st.sampled_from([*OTHERS, *raw_http.PIECES])


@st.composite
def near(draw, whole):
    """Nearly these bytes."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 3))):
        at, to = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        to = draw(st.sampled_from([at, min(at + 1, len(data)), to]))
        data = data[:at] + draw(st.one_of(st.binary(max_size=3), PARTS)) + data[to:]
    return data


WHOLE = st.builds(
    lambda body, headers, length: request(body, *headers, length=length),
    st.binary(max_size=30),
    st.lists(st.sampled_from(OTHERS), max_size=3),
    st.sampled_from(LENGTHS),
)


@settings(max_examples=2000, deadline=None)
@given(teachers=st.lists(st.one_of(WHOLE, near(WHOLE)), min_size=1, max_size=4), data=st.data())
def test_known_head_equals_what_parser_says(teachers, data):
    known = taught(*teachers)
    asked = data.draw(near(st.sampled_from(teachers)))
    repeated = known.find(asked)
    if repeated is None:
        return
    parsed = Parsed(asked)
    assert parsed.messages == 1
    head, body = repeated
    assert body == parsed.body
    assert head.head == request_headers.read(parsed.headers)._replace(content_length=None)
    others = [pair for pair in parsed.headers if pair[0] != b"content-length"]
    assert head.scope["headers"] == others
