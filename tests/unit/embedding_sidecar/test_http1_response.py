"""Responses from bytes: whole ones in any pieces, and nothing else, ever."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_http import bounds
from embedding_sidecar.translation import provider_api
from embedding_sidecar.upstream import answer_body, http1_response
from tests.parts import whole_body

OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"content-length: 2\r\n\r\nok"


def read(*pieces, ends=False):
    """The answer, None where it is not whole, and whether another one may follow."""
    reader = http1_response.Reader()
    for number, piece in enumerate(pieces, 1):
        answer = reader.feed(piece)
        if answer is not None:
            assert number == len(pieces), "the answer was whole before its last piece"
            return answer, reader.is_reusable
    return (reader.end(), reader.is_reusable) if ends else (None, False)


def pieces_of(data, cuts):
    marks = sorted({0, len(data), *(it % len(data) for it in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


def fed_until_given_up(start, piece):
    """How many bytes a reader takes of what never ends."""
    reader = http1_response.Reader()
    fed = []

    def feed():
        for data in itertools.chain((start,), itertools.repeat(piece)):
            fed.append(len(data))
            assert reader.feed(data) is None

    with pytest.raises(ValueError, match="too long"):
        feed()
    return sum(fed)


def chunked(body, size):
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x;note=1\r\n%s\r\n" % (len(it), it) for it in chunks)
    return framed + b"0\r\nx-trailer: 1\r\n\r\n"


@st.composite
def framed(draw):
    """An answer as values and as bytes."""
    status = draw(st.sampled_from([200, 201, 307, 400, 429, 500, 599]))
    body = draw(st.binary(max_size=300))
    early = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    early += draw(st.sampled_from([b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"]))
    head = b"HTTP/1.1 %d Some Words\r\nX-One: 1\r\n" % status
    if draw(st.booleans()):
        size = draw(st.integers(1, 100))
        data = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, size)
        more = b"Transfer-Encoding", b"chunked"
    else:
        data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        more = b"Content-Length", b"%d" % len(body)
    lines = [(b"X-One", b"1"), more]
    return provider_api.HttpAnswer(status=status, lines=lines, body=body), early + data


@given(framed(), st.lists(st.integers(0, 2000)))
def test_answer_is_same_in_any_pieces(made, cuts):
    answer, data = made
    assert read(*pieces_of(data, cuts)) == (answer, True)


@given(framed(), st.integers(1, 2000))
def test_part_of_answer_is_no_answer_even_when_connection_ends(made, cut):
    _, data = made
    answer, _ = read(data[: cut % len(data)] or data[:1], ends=True)
    assert answer is None


@given(st.binary(max_size=300), st.lists(st.integers(0, 2000)))
def test_end_of_connection_ends_answer_without_length(body, cuts):
    answer = provider_api.HttpAnswer(status=200, lines=[(b"X-One", b"1")], body=body)
    data = OK + b"X-One: 1\r\n\r\n" + body
    assert read(*pieces_of(data, cuts), ends=True) == (answer, False)


@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 200)))
def test_garbage_is_never_answer(data, cuts):
    with contextlib.suppress(ValueError):
        answer, _ = read(*pieces_of(data, cuts), ends=True)
        assert answer is None


@pytest.mark.parametrize(
    ("data", "is_reusable"),
    [
        (WHOLE, True),
        (OK + b"connection: keep-alive\r\ncontent-length: 0\r\n\r\n", True),
        (OK + b"connection: close\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        # As Apache offers HTTP/2 in any answer.
        (OK + b"upgrade: h2\r\nconnection: upgrade\r\ncontent-length: 0\r\n\r\n", True),
        (WHOLE + b"HTTP/1.1 200", False),
        (WHOLE + b"H", False),
        (WHOLE + WHOLE, False),
        (WHOLE + b"more", False),
        (b"HTTP/1.1 204 No Content\r\n\r\nbody", False),
    ],
)
def test_another_answer_follows_only_where_its_first_byte_is_known(data, is_reusable):
    answer, found = read(data)
    assert answer is not None
    assert found is is_reusable


def test_bytes_behind_answer_are_no_part_of_it():
    assert read(WHOLE + b"HTTP/1.1 500 X\r\nx: y\r\n\r\n")[0] == read(WHOLE)[0]


def test_answers_follow_one_another():
    reader = http1_response.Reader()
    assert [reader.feed(WHOLE), reader.feed(WHOLE)] == [read(WHOLE)[0]] * 2


@pytest.mark.parametrize(
    "data",
    [
        WHOLE.replace(b"\r\n", b"\n"),
        OK + b"transfer-encoding: chunked\r\n\r\n2  \r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",
    ],
)
def test_servers_that_are_not_exact_are_understood_where_it_is_clear(data):
    answer, is_reusable = read(data)
    assert answer is not None
    assert (answer.body, is_reusable) == (b"ok", True)


def test_bounds_are_of_one_answer(monkeypatch):
    monkeypatch.setattr(http1_response, "MAX_HEAD_BYTES", len(WHOLE))
    reader = http1_response.Reader()
    for _ in range(3):
        assert [reader.feed(it) is None for it in (WHOLE[:5], WHOLE[5:-1], WHOLE[-1:])][-1] is False


def test_trailer_is_no_header():
    data = OK + b"transfer-encoding: chunked\r\n\r\n0\r\nretry-after: 9\r\n\r\n"
    answer, _ = read(data)
    assert answer is not None
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/3.7 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nx",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
        OK + b"content-length: 99999999999999999999999\r\n\r\n",
        OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"x: a\x00b\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http_are_no_answer(data):
    with pytest.raises(ValueError, match="no answer"):
        read(data)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (OK, b"x-a: b\r\n"),
        (OK + b"x-a: ", b"b" * 100),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 ", b"x" * 100),
    ],
)
def test_head_without_end_is_given_up(start, piece):
    assert fed_until_given_up(start, piece) <= http1_response.MAX_HEAD_BYTES + len(piece)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"0\r\n", b"x-a: b\r\n"),
        (b"0\r\nx-a", b"a" * 100),
        (b"0\r\nx-a:", b"b" * 100),
        (b"2;", b"a=b;"),
    ],
    ids=["trailers", "name of a trailer", "value of a trailer", "chunk extension"],
)
def test_d4_endless_framing_of_body_is_given_up(start, piece):
    start = OK + b"transfer-encoding: chunked\r\n\r\n" + start
    bound = len(start) + bounds.MAX_FRAMING_BYTES + len(piece)
    assert fed_until_given_up(start, piece) <= bound


def test_chunks_of_one_byte_are_no_flood():
    reader = http1_response.Reader()
    reader.body = body = whole_body.WholeBody()
    assert reader.feed(OK + b"transfer-encoding: chunked\r\n\r\n") is None
    for _ in range(10_000):
        assert reader.feed(b"1\r\na\r\n") is None
    assert reader.feed(b"0\r\n\r\n") is not None
    assert body.joined() == b"a" * 10_000


@pytest.mark.parametrize(
    "head",
    [b"\r\n", b"content-length: 99999999\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n"],
    ids=["until it closes", "length", "chunked"],
)
@pytest.mark.parametrize("status", [200, 400, 502])
def test_d4_body_that_nobody_reads_is_kept_to_its_bound_and_rest_is_left(head, status):
    reader = http1_response.Reader()
    answer = reader.feed(b"HTTP/1.1 %d X\r\n" % status + head)
    fed = 0
    piece = b"3e8\r\n" + b"x" * 1000 + b"\r\n" if b"chunked" in head else b"x" * 1000
    while answer is None:
        answer = reader.feed(piece)
        fed += 1000
    assert answer.status == status
    assert answer.body == b"x" * answer_body.MAX_KEPT_BYTES
    assert fed <= answer_body.MAX_KEPT_BYTES + 1000
    assert not reader.is_reusable


def test_answer_ends_early_where_reader_has_seen_enough():
    reader = http1_response.Reader()
    reader.body = body = whole_body.WholeBody()
    assert reader.feed(OK + b"x-a: b\r\ncontent-length: 9999\r\n\r\nabc") is None
    body.drop()
    answer = reader.feed(b"more")
    assert answer is not None
    assert (answer.status, answer.reader) == (200, body)
    assert not reader.is_reusable


@given(number=st.integers(1, 3 * http1_response.MAX_INTERIM))
def test_d4_interim_answers_are_bounded(number):
    data = b"HTTP/1.1 102 Processing\r\n\r\n" * number + WHOLE
    if number <= http1_response.MAX_INTERIM:
        assert read(data)[0] == read(WHOLE)[0]
    else:
        with pytest.raises(ValueError, match="too many heads"):
            read(data)
