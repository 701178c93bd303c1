"""Requests as bytes: each parses as it was meant, and one that cannot be written is refused."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar.upstream import http1_request

TOKEN = st.text(
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1
).filter(lambda it: it.lower() not in {"content-length", "transfer-encoding", "upgrade"})


class Read:
    """What a server makes of a request."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = b""
        self.body = b""
        self.requests = 0
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(data)
        self.method = parser.get_method()

    def on_url(self, url):
        self.url += url

    def on_header(self, name, value):
        self.headers.append((name, value))

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        self.requests += 1


def written(url, headers=None, body=b"{}"):
    return Read(
        http1_request.head(http1_request.target(url), headers or {}, body_bytes=len(body)) + body
    )


@pytest.mark.parametrize(
    ("url", "origin", "host", "path"),
    [
        ("http://a/v1", (False, "a", 80), "a", "/v1"),
        ("https://a/v1", (True, "a", 443), "a", "/v1"),
        ("https://a:443", (True, "a", 443), "a", "/"),
        ("https://a:80/", (True, "a", 80), "a:80", "/"),
        ("http://a:8080/v1/x?y=%20&z", (False, "a", 8080), "a:8080", "/v1/x?y=%20&z"),
        ("http://A.Example./v1#part", (False, "a.example", 80), "a.example", "/v1"),
        ("http://10.0.0.1/v1", (False, "10.0.0.1", 80), "10.0.0.1", "/v1"),
        ("http://[::1]/v1", (False, "::1", 80), "[::1]", "/v1"),
        ("https://[2001:DB8::2]:8443/v1", (True, "2001:db8::2", 8443), "[2001:db8::2]:8443", "/v1"),
        ("HTTP://a/a%2Fb//c", (False, "a", 80), "a", "/a%2Fb//c"),
    ],
)
def test_url_says_whom_to_ask_and_for_what(url, origin, host, path):
    assert http1_request.target(url).origin == origin
    read = written(url)
    assert (read.method, read.url) == (b"POST", path.encode())
    assert (b"host", host.encode()) in read.headers


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a/v1",
        "ftp://a/v1",
        "http://",
        "http:///v1",
        "http://./v1",
        "http://u:p@a/v1",
        "http://@a/v1",
        "http://a:x/v1",
        "http://a:70000/v1",
        "http://[::1/v1",
        "http://a/v 1",
        "http://a/v1\r\nx: y",
        "http://a/\x00",
        "http://żółw/v1",
        "http://a/żółw",
    ],
)
def test_unusable_provider_url_is_refused(url):
    with pytest.raises(ValueError, match=r"URL|[Pp]ort|IPv6"):
        http1_request.target(url)


@given(st.dictionaries(TOKEN, st.text(st.characters(max_codepoint=0x17F))), st.binary())
def test_header_is_read_as_it_was_given_or_is_refused(headers, body):
    try:
        read = written("http://a/v1", headers, body)
    except ValueError:
        assert any(
            it > "\xff" or it == "\x7f" or (it < " " and it != "\t")
            for value in headers.values()
            for it in value
        )
        return
    assert (read.requests, read.body) == (1, body)
    # Blanks around a value are none of it (RFC 9110, section 5.5); llhttp leaves a tab behind it.
    assert [(name, value.strip(b" \t")) for name, value in read.headers] == [
        (b"host", b"a"),
        *((name.encode(), value.strip(" \t").encode("latin-1")) for name, value in headers.items()),
        (b"content-length", str(len(body)).encode()),
    ]


@pytest.mark.parametrize("value", ["sk\r\nx: y", "sk\nx", "sk\rx", "sk\x00", "sk\x7f", "sk-ż"])
def test_header_that_would_be_another_is_refused_and_not_shown(value):
    with pytest.raises(ValueError, match="header") as caught:
        written("http://a/v1", {"authorization": value})
    assert "sk" not in str(caught.value)


@pytest.mark.parametrize("name", ["a b", "a:", "a\r\nb", "ż", "a\t"])
def test_invalid_header_name_is_refused(name):
    with pytest.raises(ValueError, match="header"):
        written("http://a/v1", {name: "x"})


def test_no_more_urls_are_remembered_than_policy_may_have():
    for number in range(1000):
        http1_request.target(f"http://a/{number}")
    assert http1_request.target.cache_info().currsize <= 64
