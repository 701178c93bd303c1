"""Conversations: requests in every form that RFC 9110 and 9112 allow, on one connection.

What has to come back is counted by those rules: one answer for each request, in their order, until
one says that the connection ends. Each answer names its request by x-request-id, and what was
asked for is recognised in it, so an answer to a body, a trailer or another request is noticed.
h11 reads both directions: what is asked, to be sure that it is what was meant, and the answers.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import h11
from hypothesis import strategies as st

from embedding_contract import names
from tests.fakes import provider

MODEL = "small"
INNER = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-request-id: inner\r\n\r\n"
"""A body, or a part of one, that would be a request of its own."""
WAIT_SECONDS = 30.0
"""For an answer that has to come; a loaded machine takes long."""
MEDIA_TYPE = b"application/json"
H2C = b"Upgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
OFFERS = [
    H2C + b"Connection: Upgrade, HTTP2-Settings\r\n",
    b"connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
    b"upgrade: TLS/1.0, HTTP/2.0\r\nconnection: upgrade\r\nconnection: keep-alive\r\n",
    # Not offered to the next hop, as Connection does not name it.
    b"Upgrade: h2c\r\n",
]
LINES = [
    b"Accept: */*\r\n",
    b"accept-encoding:gzip, deflate\r\n",
    b"X-Empty:\r\n",
    b"x-space: \t about \t \r\n",
    b"Keep-Alive: timeout=5\r\n",
    b"te: trailers\r\nconnection: te\r\n",
    b"trailer: x-trailer\r\n",
    b"x-high: \xc3\xa4\r\n",
    b"expect: something-else\r\n",
    b"x-strength: 40\r\n",
]
EXTENSIONS = [b"", b"", b";a=b", b";a", b';a="b c"', b";a=b;c=d"]
TRAILERS = [
    b"",
    b"x-trailer: 1\r\n",
    b"X-Request-Id: trailer\r\n",
    b"authorization: Bearer x\r\nhost: other\r\n",
    b"connection: upgrade\r\nupgrade: h2c\r\n",
    b"expect: 100-continue\r\n",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request goes, and how an answer to it is known to be right."""

    method: bytes
    path: bytes
    kind: str


PASSED = [
    Target(method=b"POST", path=b"/v1/chat/completions", kind="passed"),
    Target(method=b"PUT", path=b"/v1/files/a%20b?x=%2F", kind="passed"),
    Target(method=b"GET", path=b"/v1/files", kind="passed"),
    Target(method=b"HEAD", path=b"/v1/files", kind="passed"),
    Target(method=b"DELETE", path=b"/v1/files/one", kind="passed"),
    Target(method=b"OPTIONS", path=b"/v1/files", kind="passed"),
    Target(method=b"POST", path=b"/v1/streamed", kind="passed"),
    Target(method=b"POST", path=b"/v1/unread", kind="passed"),
    Target(method=b"POST", path=b"/v1/empty", kind="passed"),
]
OTHERS = [
    Target(method=b"POST", path=names.PATH_EMBEDDINGS.encode(), kind="vectors"),
    Target(method=b"POST", path=names.PATH_EMBEDDINGS.encode(), kind="vectors"),
    Target(method=b"POST", path=names.PATH_EMBEDDINGS.encode() + b"?a=b", kind="vectors"),
    Target(method=b"POST", path=names.PATH_EMBEDDINGS.encode(), kind="refused"),
    Target(method=b"GET", path=names.PATH_MODELS.encode(), kind="models"),
    Target(method=b"HEAD", path=names.PATH_MODELS.encode(), kind="models"),
    Target(method=b"GET", path=b"/v1/models/small", kind="models"),
    Target(method=b"POST", path=b"/nowhere", kind="nowhere"),
    Target(method=b"GET", path=b"/nowhere", kind="nowhere"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A request as it is drawn; `spoken` says it."""

    target: Target
    body: bytes
    text: str
    """What is embedded, where vectors are asked for."""
    chunks: tuple[int, ...] | None
    """Sizes of the first chunks; None for a Content-Length, or no body."""
    extension: bytes
    trailers: bytes
    offer: bytes
    lines: tuple[bytes, ...]
    expects: bool
    is_absolute: bool
    version: bytes
    before: bytes
    """Empty lines that a server is to pass over (RFC 9112, 2.2)."""

    def spoken(self, name: str, *, is_last: bool) -> "Asked":
        """The request by this name; the last one asks for the end of the connection."""
        target = self.target
        path = b"http://localhost" * self.is_absolute + target.path
        head = b"%b%b %b HTTP/%b\r\n" % (self.before, target.method, path, self.version)
        head += b"Host: localhost\r\nx-request-id: %b\r\n" % name.encode()
        head += b"".join(self.lines) + self.offer
        if self.expects:
            head += b"Expect: 100-continue\r\n"
        if is_last:
            head += b"Connection: close\r\n"
        body, framed = self.body, self.body
        if target.kind in {"vectors", "near", "refused"}:
            head += b"content-type: %b\r\n" % (
                MEDIA_TYPE if target.kind != "refused" else b"text/plain"
            )
            body = framed = json.dumps({"model": MODEL, "input": [self.text]}).encode()
        if self.chunks is not None and self.version == b"1.1":
            head += b"Transfer-Encoding: chunked\r\n"
            framed = b"".join(self._chunks(body)) + self.trailers + b"\r\n"
        elif body or target.method not in {b"GET", b"HEAD"}:
            head += b"Content-Length: %d\r\n" % len(body)
        return Asked(
            form=self,
            name=name,
            head=head + b"\r\n",
            framed=framed,
            body=body,
            # Who expects to be asked for a body may not send it: where the next request begins is
            # open then, and so the answer ends the connection (decision 022).
            is_last=is_last or self.expects_100 or self.version == b"1.0",
        )

    @property
    def expects_100(self) -> bool:
        """Whether it waits for 100: not in HTTP/1.0 (RFC 9110, 10.1.1)."""
        return self.expects and self.version != b"1.0"

    def _chunks(self, body: bytes) -> Iterator[bytes]:
        start = 0
        for size in (*(self.chunks or ()), len(body)):
            if piece := body[start : start + size]:
                yield b"%02X%b\r\n%b\r\n" % (len(piece), self.extension, piece)
            start += size
        yield b"0%b\r\n" % self.extension


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as bytes."""

    form: Form
    name: str
    head: bytes
    framed: bytes
    body: bytes
    is_last: bool

    @property
    def raw(self) -> bytes:
        """All of it."""
        return self.head + self.framed


@dataclass(slots=True, kw_only=True)
class Answer:
    """An answer as h11 has read it."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes = b""

    @property
    def name(self) -> str:
        """Of the request that it answers."""
        return self.headers.get(b"x-request-id", b"").decode()


class Answers:
    """What comes back on one connection, read as the client does that asked for this."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self.read: list[Answer] = []
        self.whole = 0
        """How many have come to their end."""
        self.is_asked_for_a_body = False
        """Whether the last that came is 100."""
        self._waiting = list(asked)
        self._connection = h11.Connection(h11.CLIENT)
        self._begin()

    @property
    def is_over(self) -> bool:
        """Whether an answer said that the connection ends, or there is no more to wait for."""
        return not self._waiting

    def feed(self, data: bytes) -> None:
        """Read what has come; b"" for its end. Fails at what is no answer to what was asked."""
        assert self._waiting or not data, f"nobody asked for {data!r}"
        if self._waiting:
            self._connection.receive_data(data)
            self._read()

    def _begin(self) -> None:
        method = self._waiting[0].form.target.method
        line = h11.Request(method=method, target=b"/", headers=[(b"host", b"localhost")])
        self._connection.send(line)
        self._connection.send(h11.EndOfMessage())

    def _read(self) -> None:
        while self._waiting:
            event = self._connection.next_event()
            asked = self._waiting[0]
            if event is h11.NEED_DATA:
                return
            if isinstance(event, h11.InformationalResponse):
                assert event.status_code == 100, event
                assert asked.form.expects_100, "nobody waits for 100"
                assert not self.is_asked_for_a_body, "100 twice"
                self.is_asked_for_a_body = True
            elif isinstance(event, h11.Response):
                headers = dict(event.headers)
                if asked.form.version == b"1.0":
                    assert b"transfer-encoding" not in headers, "RFC 9112, 6.1"
                self.read.append(Answer(status=event.status_code, headers=headers))
            elif isinstance(event, h11.Data):
                self.read[-1].body += bytes(event.data)
            else:
                assert isinstance(event, h11.EndOfMessage), event
                self._end(asked)

    def _end(self, asked: Asked) -> None:
        answer = self.read[-1]
        assert answer.name == asked.name, (answer, asked.raw)
        is_closing = answer.headers.get(b"connection") == b"close"
        assert is_closing is asked.is_last, (answer, asked.raw)
        self.is_asked_for_a_body = False
        self.whole += 1
        del self._waiting[0]
        if is_closing:
            rest, _ = self._connection.trailing_data
            assert not rest, f"more than was asked for: {rest!r}"
            self._waiting.clear()
        elif self._waiting:
            self._connection.start_next_cycle()
            self._begin()


class Echo:
    """What is passed on ends here: answered with method, path and body as they came."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        headers, path = dict(scope["headers"]), scope["raw_path"]
        name = headers.get(b"x-request-id", b"")
        self.seen[name.decode()] += 1
        body, more = b"", not path.endswith(b"/unread")
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        said = echoed(scope["method"].encode(), path + query, body)
        status, lines = 200, [(b"x-request-id", name)]
        if path.endswith(b"/empty"):
            status, said = 204, b""
        elif not path.endswith(b"/streamed"):
            lines.append((b"content-length", b"%d" % len(said)))
        await send({"type": "http.response.start", "status": status, "headers": lines})
        for piece in (said[:5], said[5:]):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def echoed(method: bytes, path: bytes, body: bytes) -> bytes:
    """What an Echo answers."""
    return b"%b %b\n%b" % (method, path, body)


def check(asked: Asked, answer: Answer) -> None:
    """An answer of a sidecar is what this request asks for."""
    target, wrong = asked.form.target, (asked.raw, answer)
    if target.kind == "vectors" or (target.kind == "near" and answer.status == 200):
        assert answer.status == 200, wrong
        rows = json.loads(answer.body)["data"]
        numbers = provider.numbers(MODEL, asked.form.text, provider.DIMENSIONS)
        assert [row["embedding"] for row in rows] == [numbers], wrong
    elif target.kind == "passed":
        is_empty, is_unread = target.path.endswith(b"/empty"), target.path.endswith(b"/unread")
        said = echoed(target.method, target.path, b"" if is_unread else asked.body)
        assert answer.status == (204 if is_empty else 200), wrong
        assert answer.body == (b"" if is_empty or target.method == b"HEAD" else said), wrong
    else:
        statuses = {"near": 404, "nowhere": 404, "models": 200, "refused": 415}
        assert answer.status == statuses[target.kind], wrong
        if target.kind == "near":
            assert names.PATH_EMBEDDINGS in json.loads(answer.body)["error"]["message"], wrong


def asked_by(raw: bytes, *, count: int) -> list[tuple[bytes, bytes, bytes]]:
    """Method, target and body of each request in these bytes, as h11 reads them."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    found: list[tuple[bytes, bytes, bytes]] = []
    while len(found) < count:
        request, body = connection.next_event(), b""
        assert isinstance(request, h11.Request), request
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), event
            body += bytes(event.data)
        found.append((bytes(request.method), bytes(request.target), body))
        connection.send(h11.Response(status_code=204, headers=[]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is h11.MUST_CLOSE:
            break
        connection.start_next_cycle()
    return found


# --- what is drawn


def forms(targets: st.SearchStrategy[Target]) -> st.SearchStrategy[Form]:
    """Requests to these targets, in any form."""
    return st.builds(
        Form,
        target=targets,
        body=st.sampled_from([b"", b"{}", INNER, INNER * 2, b"0\r\n\r\n" + INNER]),
        text=st.sampled_from(["a text", "another", INNER.decode()])
        | st.integers(0, 10**6).map(lambda number: f"text {number}"),
        chunks=st.none() | st.lists(st.integers(1, 40), max_size=3).map(tuple),
        extension=st.sampled_from(EXTENSIONS),
        trailers=st.sampled_from(TRAILERS),
        offer=st.just(b"") | st.sampled_from(OFFERS),
        lines=st.lists(st.sampled_from(LINES), max_size=2, unique=True).map(tuple),
        # One in eight: it ends the connection.
        expects=st.sampled_from([False] * 7 + [True]),
        is_absolute=st.sampled_from([False] * 7 + [True]),
        version=st.sampled_from([b"1.1"] * 15 + [b"1.0"]),
        before=st.sampled_from([b""] * 7 + [b"\r\n"]),
    )


_NEAR_PARTS = (
    st.sampled_from([b"/", b"//", b"/./", b"/%20/"]),
    st.sampled_from(
        [b"v1", b"V1", b"v1/v1", b"api/v1", b"openai/v1", b"v1/engines/small", b"v1//v1", b"%76%31"]
    ),
    st.sampled_from([b"/", b"//", b"/./", b"\\", b"%2f", b"%2F%2F", b"/%2e/"]),
    st.sampled_from(
        [b"embeddings", b"Embeddings", b"EMBEDDINGS", b"embedding", b"%65mbeddings", b"embeddingS"]
    ),
    st.sampled_from([b"", b"/", b"//", b".", b"%20", b";v=1", b"/.", b"?a=b", b"%2F", b"/%2e"]),
)
NEAR = st.tuples(*_NEAR_PARTS).map(
    lambda parts: Target(method=b"POST", path=b"".join(parts), kind="near")
)
"""Paths that are nearly the endpoint's, or are it in other words (field case A2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Requests on one connection, and how their bytes come."""

    forms: tuple[Form, ...]
    waits: bool
    """For each answer before it asks again; otherwise all is sent as fast as can be."""
    way: tuple[tuple[int, ...], float]
    """Where segments end, and how many seconds later the next one comes."""

    def spoken(self, name: str) -> list[Asked]:
        """The requests; the last one asks for the end."""
        last = len(self.forms) - 1
        return [
            form.spoken(f"{name}-{at}", is_last=at == last) for at, form in enumerate(self.forms)
        ]

    def segments(self, raw: bytes) -> list[bytes]:
        """The pieces that these bytes come in."""
        marks = sorted({0, len(raw), *(it % (len(raw) + 1) for it in self.way[0])})
        return [raw[start:end] for start, end in itertools.pairwise(marks)]


HELD_SECONDS = 0.06
"""Longer than a request is held for its body (`fast_path.HOLD_SECONDS`)."""
FEW = [((), 0.0)] * 12 + [((300,), HELD_SECONDS)]


def conversations(
    *targets: st.SearchStrategy[Target],
) -> st.SearchStrategy[Conversation]:
    """Conversations about such targets."""
    return st.builds(
        Conversation,
        forms=st.lists(forms(st.one_of(*targets)), min_size=1, max_size=4).map(tuple),
        waits=st.booleans(),
        way=st.sampled_from(FEW)
        | st.lists(st.integers(0, 3000), max_size=6).map(lambda cuts: (tuple(cuts), 0.0))
        | st.integers(0, 400).map(lambda start: (tuple(range(start, start + 60)), 0.0))
        | st.integers(0, 3000).map(lambda cut: ((cut,), 0.003)),
    )


async def converse(port: int, conversation: Conversation, name: str) -> int:
    """Speak to a sidecar until it ends the connection; how many answers there were, all right."""
    asked = conversation.spoken(name)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = _Client(conversation, asked, reader, writer)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await client.speak()
            while await client.hear():
                pass
    except ConnectionError:
        # What is sent to a connection that has been ended may take the answer with it; not every
        # request is answered after its body.
        assert any(it.is_last for it in asked[:-1]) or asked[-1].framed, asked[-1].raw
    else:
        assert client.answers.is_over, f"no answer to {asked[client.answers.whole].raw!r}"
    finally:
        writer.close()
    whole = client.answers.whole
    for it, answer in zip(asked[:whole], client.answers.read[:whole], strict=True):
        check(it, answer)
    return whole


class _Client:
    """The client's side of one connection."""

    def __init__(
        self,
        conversation: Conversation,
        asked: Sequence[Asked],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.answers = Answers(asked)
        self._conversation = conversation
        self._asked = asked
        self._reader = reader
        self._writer = writer

    async def hear(self) -> bool:
        """Take what comes next; whether anything did."""
        data = await self._reader.read(2**16)
        self.answers.feed(data)
        return bool(data)

    async def speak(self) -> None:
        """Send the requests, in the conversation's way."""
        if not self._conversation.waits:
            await self._send(b"".join(it.raw for it in self._asked))
            return
        for number, it in enumerate(self._asked):
            await self._send(it.head)
            if it.form.expects_100:
                await self._be_asked_for_a_body(number)
            await self._send(it.framed)
            while self.answers.whole == number and await self.hear():
                pass
            if self.answers.is_over:
                return

    async def _be_asked_for_a_body(self, number: int) -> None:
        while not self.answers.is_asked_for_a_body and self.answers.whole == number:
            if not await self.hear():
                return

    async def _send(self, raw: bytes) -> None:
        for segment in self._conversation.segments(raw):
            self._writer.write(segment)
            await asyncio.sleep(self._conversation.way[1])
