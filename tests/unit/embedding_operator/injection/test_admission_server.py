"""The webhook's listener answers valid callers, and no other caller keeps it from that."""

import asyncio
import contextlib
import json
import socket
import ssl

import pytest

from dev.cluster.certificates import Authority
from embedding_operator.injection import admission_server
from tests.parts import daemons, ports

REQUEST = b"POST /inject HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def files(tmp_path, authority):
    authority.issue("webhook", hosts=["localhost"]).write(tmp_path, "tls")
    return admission_server.Files(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key")


def trusting(authority, tmp_path, *, client=None):
    context = ssl.create_default_context(cadata=authority.pair.certificate.decode())
    if client is not None:
        client.write(tmp_path, "client")
        context.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
    return context


class Running:
    """A server whose answers are what it was asked; `answering` holds them up."""

    def __init__(self, files, context):
        self.port = ports.free()
        self.context = context
        self.bodies = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.is_ending = False
        self.task = None
        self.server = admission_server.Server(
            port=self.port,
            files=files,
            answer=self.answer,
            about=lambda it: it[:1].decode(),
            is_ending=lambda: self.is_ending,
        )

    async def answer(self, path, body):
        self.bodies.append(body)
        await self.answering.wait()
        return 200, json.dumps({"path": path, "length": len(body)}).encode()

    async def connect(self, source="127.0.0.1"):
        return await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            ssl=self.context,
            server_hostname="localhost",
            local_addr=(source, 0),
        )

    async def ask(self, request=REQUEST, *, connection=None):
        """Status and body of one answer."""
        reader, writer = connection or await self.connect()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r")[0])
        body = await reader.readexactly(length)
        if connection is None:
            writer.transport.abort()
        return int(head.split()[1]), body


def run(files, context, do):
    """The result of `do` with a server that runs, as the task of `running`."""

    async def both():
        running = Running(files, context)
        task = running.task = asyncio.create_task(running.server.run())
        try:
            for _ in range(200):
                if daemons.answers("127.0.0.1", running.port)():
                    break
                await asyncio.sleep(0.01)
            return await do(running)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)

    return asyncio.run(both())


@pytest.fixture
def serving(files, authority, tmp_path):
    context = trusting(authority, tmp_path)
    return lambda do: run(files, context, do)


def test_connection_is_kept_for_next_request(serving):
    async def asked(running):
        connection = await running.connect()
        answers = [await running.ask(connection=connection) for _ in range(3)]
        connection[1].transport.abort()
        return answers

    assert serving(asked) == [(200, b'{"path": "/inject", "length": 2}')] * 3


def test_replica_that_ends_answers_and_closes_each_connection(serving):
    async def asked(running):
        kept = await running.connect()
        answers = [await running.ask(connection=kept)]
        running.is_ending = True
        for connection in (kept, await running.connect()):
            reader, writer = connection
            writer.write(REQUEST)
            answers.append((await reader.read()).lower())  # to the end, which the server makes
            writer.transport.abort()
        return answers

    before, *after = serving(asked)
    assert before[0] == 200
    for answer in after:
        assert answer.startswith(b"http/1.1 200 ")
        assert b"connection: close" in answer


def test_cancelled_server_answers_what_has_arrived(serving):
    async def asked(running):
        quiet, busy, late = [await running.connect() for _ in range(3)]
        for connection in (quiet, busy, late):
            await running.ask(connection=connection)
        running.answering.clear()
        busy[1].write(REQUEST)
        await asyncio.sleep(0.1)
        assert len(running.bodies) == 4
        # Written to the socket, and read by no iteration of the loop before the server's end.
        late[1].write(REQUEST)
        running.task.cancel()
        closed = await quiet[0].read()
        running.answering.set()
        return closed, [(await reader.read()).lower() for reader, _ in (busy, late)]

    closed, answers = serving(asked)
    assert closed == b""
    for answer in answers:
        assert answer.startswith(b"http/1.1 200 ")
        assert b"connection: close" in answer


def test_connection_that_was_reset_ends_no_other_one():
    """asyncio has closed its socket, and its task has not run yet."""
    ours, theirs = socket.socketpair()
    with theirs:
        assert not admission_server._has_arrived(ours)
        ours.close()
        assert admission_server._has_arrived(ours)


def test_cancelled_server_ends_though_client_never_ends_its_request(serving, monkeypatch):
    monkeypatch.setattr(admission_server, "_LAST_SECONDS", 0.05)

    async def asked(running):
        reader, writer = await running.connect()
        writer.write(REQUEST[:-1])
        await asyncio.sleep(0.05)
        running.task.cancel()
        return await reader.read()

    assert serving(asked) == b""


def test_query_belongs_not_to_path_and_chunks_are_body(serving):
    request = (
        b"POST /inject?timeout=3s HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\na: b\r\n\r\n"
    )
    status, body = serving(lambda running: running.ask(request))
    assert (status, json.loads(body)) == (200, {"path": "/inject", "length": 5})


def head(length):
    return f"POST /inject HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode()


CHUNKED = b"POST /inject HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
MOST = admission_server.BODY_BYTES
HUGE = f"{MOST:x}\r\n".encode() + b"x" * MOST + b"\r\n1\r\nx\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (head(MOST + 1), 413),
        (CHUNKED + HUGE, 413),
        (CHUNKED + b"0\r\n" + b"a: b\r\n" * 10_000, 400),
        (CHUNKED + b"1;" + b"x" * 100_000, 400),
        (b"POST /inject HTTP/1.1\r\n" + b"a: b\r\n" * 10_000, 400),
        (b"GET /inject HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n", 417),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2, 3\r\n\r\n", 400),
    ],
)
def test_request_beyond_bound_is_refused_and_reaches_nobody(serving, request_, status):
    async def refused(running):
        found = await running.ask(request_)
        return found[0], running.bodies

    assert serving(refused) == (status, [])


def test_largest_body_is_taken(serving):
    answer = serving(lambda running: running.ask(head(MOST) + b"x" * MOST))
    assert json.loads(answer[1])["length"] == MOST


def test_client_that_sends_half_request_is_left(serving, monkeypatch):
    monkeypatch.setattr(admission_server, "REQUEST_SECONDS", 0.1)

    async def left(running):
        for request in (b"", b"POST /inj", head(2), CHUNKED + b"1\r\n"):
            reader, writer = await running.connect()
            writer.write(request)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.transport.abort()
        return await running.ask()

    assert serving(left)[0] == 200


def test_client_that_speaks_no_tls_is_left(serving, monkeypatch):
    monkeypatch.setattr(admission_server, "HANDSHAKE_SECONDS", 0.1)

    async def left(running):
        for request in (b"", b"GET / HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(request)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.transport.abort()
        return await running.ask()

    assert serving(left)[0] == 200


def test_useless_connections_make_room_and_useful_ones_stay(serving, monkeypatch):
    monkeypatch.setattr(admission_server, "MOST_CONNECTIONS", 8)

    async def crowded(running):
        kept = await running.connect()
        await running.ask(connection=kept)
        useless = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(50)]
        answers = [await running.ask(), await running.ask(connection=kept)]
        most = len(running.server._connections)
        for _, writer in (kept, *useless):
            writer.transport.abort()
        return [status for status, _ in answers], most

    statuses, most = serving(crowded)
    assert statuses == [200, 200]
    assert most <= 8


def test_one_address_that_has_most_connections_makes_room_itself(serving, monkeypatch):
    """Though all of its connections were of use, and another one's is new."""
    monkeypatch.setattr(admission_server, "MOST_CONNECTIONS", 8)

    async def crowded(running):
        held = [await running.connect("127.0.9.1") for _ in range(8)]
        for connection in held:
            await running.ask(connection=connection)
        slow = await asyncio.open_connection("127.0.0.1", running.port)  # has not begun its TLS
        held += [
            await asyncio.open_connection("127.0.0.1", running.port, local_addr=("127.0.9.1", 0))
            for _ in range(20)
        ]
        await asyncio.sleep(0)
        kept = {it.address for it in running.server._connections}
        most = len(running.server._connections)
        for _, writer in (slow, *held):
            writer.transport.abort()
        return kept, most

    kept, most = serving(crowded)
    assert {it.removeprefix("::ffff:") for it in kept} == {"127.0.0.1", "127.0.9.1"}
    assert most <= 8


def test_bodies_of_one_address_keep_no_other_one_waiting(serving, monkeypatch):
    """What is only announced takes no room, and what has come is the first to go."""
    monkeypatch.setattr(admission_server, "BODIES_BYTES", 100_000)

    async def crowded(running):
        held = [await running.connect("127.0.9.1") for _ in range(4)]
        for _, writer in held[1:]:
            writer.write(head(MOST))
        held[0][1].write(head(MOST) + b"x" * 200_000)
        with contextlib.suppress(ConnectionError):
            await held[0][0].read()  # it is ended
        answers = await running.ask(head(50_000) + b"x" * 50_000)
        left = sum(it.body_bytes for it in running.server._connections)
        for _, writer in held:
            writer.transport.abort()
        return answers[0], left

    assert serving(crowded) == (200, 0)


def test_only_clients_of_client_authority_are_answered(files, authority, tmp_path):
    of_clients = Authority()
    (tmp_path / "ca.crt").write_bytes(of_clients.pair.certificate)
    strict = admission_server.Files(
        certificate=files.certificate, key=files.key, client_ca=tmp_path / "ca.crt"
    )

    async def asked(running):
        try:
            return (await running.ask())[0]
        except (OSError, asyncio.IncompleteReadError):
            return None

    known = trusting(authority, tmp_path, client=of_clients.issue("kube-apiserver"))
    assert run(strict, known, asked) == 200
    assert run(strict, trusting(authority, tmp_path), asked) is None
    other = trusting(authority, tmp_path, client=authority.issue("somebody"))
    assert run(strict, other, asked) is None


def asked_first(running):
    """The order in which these are answered: 40 about one party, and then one about another."""

    def waiting():
        return sum(map(len, running.server._lock._waiting.values()))

    async def order():
        running.answering.clear()
        asking = [asyncio.create_task(running.ask(head(2) + b"aa"))]
        while not running.bodies:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        for body in (*[b"aa"] * 40, b"bb"):
            asking.append(asyncio.create_task(running.ask(head(2) + body)))
            while waiting() < len(asking) - 1:  # noqa: ASYNC110 - as just said
                await asyncio.sleep(0.01)
        running.answering.set()
        await asyncio.gather(*asking)
        return running.bodies.index(b"bb")

    return order()


def test_proven_reviews_share_processor_by_what_they_are_about(
    files, authority, tmp_path, monkeypatch
):
    """One API server sends the reviews of all namespaces, so its address says nothing."""
    monkeypatch.setattr(admission_server, "REQUEST_SECONDS", 30.0)
    (tmp_path / "ca.crt").write_bytes(authority.pair.certificate)
    strict = admission_server.Files(
        certificate=files.certificate, key=files.key, client_ca=tmp_path / "ca.crt"
    )
    known = trusting(authority, tmp_path, client=authority.issue("kube-apiserver"))
    assert run(strict, known, asked_first) <= 2


def test_reviews_that_nobody_proves_share_it_by_address(serving, monkeypatch):
    """Else who sends them would take another namespace's turns."""
    monkeypatch.setattr(admission_server, "REQUEST_SECONDS", 30.0)
    assert serving(asked_first) == 41


def test_renewed_certificate_is_served_without_restart(
    serving, files, authority, tmp_path, monkeypatch
):
    monkeypatch.setattr(admission_server, "FILES_SECONDS", 0.0)

    async def renewed(running):
        before = await serial(running)
        authority.issue("webhook", hosts=["localhost"]).write(tmp_path, "tls")
        return before != await serial(running)

    async def serial(running):
        _, writer = await running.connect()
        found = writer.get_extra_info("peercert")["serialNumber"]
        writer.transport.abort()
        return found

    assert serving(renewed)


def test_spoiled_certificate_leaves_one_before(serving, files, monkeypatch):
    monkeypatch.setattr(admission_server, "FILES_SECONDS", 0.0)

    async def spoiled(running):
        files.certificate.write_text("spoiled", encoding="utf-8")
        return await running.ask()

    assert serving(spoiled)[0] == 200
