"""The head of a request: its caller, and the bodies that can be refused unread."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar import errors
from embedding_sidecar.openai_format import openai_json, request_headers


def head(**sent):
    return request_headers.read(
        [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()]
    )


def test_request_is_application_s_unless_it_says_background():
    plain, background = head(), head(x_embedding_class="background")
    for it in (plain, background):
        request_headers.check(it)
    assert (plain.is_background, background.is_background) == (False, True)


@pytest.mark.parametrize(
    "value", ["", "application", "Background", "background, background", "x" * 5000]
)
def test_unknown_class_is_refused_by_its_header(value):
    with pytest.raises(errors.Rejected) as refused:
        request_headers.check(head(x_embedding_class=value))
    assert (refused.value.status, refused.value.param) == (400, "x-embedding-class")
    assert len(refused.value.message) < 1000


@pytest.mark.parametrize("given_id", ["r", "req_1/2:~!", "x" * 256])
def test_request_keeps_id_it_came_with(given_id):
    assert request_headers.request_id(head(x_request_id=given_id)) == given_id


@pytest.mark.parametrize(
    "given_id", ["", " ", "a b", "a\r\nset-cookie: x", "a\x00", "\x7f", "ä", "x" * 257]
)
def test_id_that_no_header_or_log_should_hold_is_replaced(given_id):
    made = request_headers.request_id(head(x_request_id=given_id))
    assert made.startswith("req_")
    assert made != request_headers.request_id(head(x_request_id=given_id))


HEADERS = [b"x-request-id", b"cache-control", b"content-type", b"content-encoding"]


@given(st.lists(st.tuples(st.sampled_from([*HEADERS, b"content-length"]), st.binary(max_size=30))))
def test_any_head_is_read_and_checked(headers):
    found = request_headers.read(headers)
    assert request_headers._REQUEST_ID.fullmatch(request_headers.request_id(found))
    with contextlib.suppress(errors.Rejected):
        request_headers.check(found)


def test_both_lines_of_repeated_header_count():
    lines = [(b"cache-control", b"no-cache"), (b"cache-control", b"max-age=1")]
    assert request_headers.read(lines).cache_control == "no-cache, max-age=1"
    twice = [(b"content-type", b"application/json"), (b"content-type", b"text/plain")]
    with pytest.raises(errors.Rejected):
        request_headers.check(request_headers.read(twice))


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json;",
    ],
)
def test_json_is_read_however_it_is_called(kind):
    request_headers.check(head(content_type=kind))
    request_headers.check(head())


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/json; charset=latin-1",
        "multipart/form-data; boundary=application/json",
    ],
)
def test_body_not_declared_json_is_refused(kind):
    with pytest.raises(errors.Rejected) as refused:
        request_headers.check(head(content_type=kind))
    assert (refused.value.status, refused.value.param) == (415, "Content-Type")


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br, identity", "deflate", "x" * 10_000])
def test_compressed_body_is_refused_by_its_header(coding):
    request_headers.check(head(content_encoding="identity"))
    with pytest.raises(errors.Rejected) as refused:
        request_headers.check(head(content_encoding=coding))
    assert (refused.value.status, refused.value.param) == (415, "Content-Encoding")
    assert len(refused.value.message) < 1000


@pytest.mark.parametrize("length", [str(openai_json.MAX_BODY_BYTES + 1), "9" * 20, "9" * 5000])
def test_body_that_says_it_is_too_large_is_not_read(length):
    request_headers.check(head(content_length=str(openai_json.MAX_BODY_BYTES)))
    with pytest.raises(errors.Rejected) as refused:
        request_headers.check(head(content_length=length))
    assert refused.value.status == 413
