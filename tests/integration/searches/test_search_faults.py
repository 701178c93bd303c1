"""A database that is away, hangs, has no connection left, or refuses."""

import concurrent.futures
import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from embedding_contract.index_document import Search, Target
from embedding_vectors.search import command
from tests.fakes import provider
from tests.integration.searches.conftest import TARGET, TEXTS, fill, write
from tests.parts import postgres, searching, sidecar
from tests.parts.pgbouncer import PgBouncer

pytestmark = pytest.mark.integration

PROMISED_SECONDS = 10
RECOVERED_SECONDS = 3 * PROMISED_SECONDS
LANES = 24


@pytest.fixture
def own_server() -> Iterator[postgres.Postgres]:
    """One that a test may break."""
    with postgres.running(settings={"max_connections": "20"}) as started:
        started.execute("CREATE EXTENSION vector")
        started.execute("CREATE ROLE searcher LOGIN")
        yield started


@pytest.fixture
def own_world(own_server, provider_url, tmp_path) -> Iterator[searching.World]:
    with searching.running(
        tmp_path / "world",
        server=own_server,
        provider_url=f"{provider_url}/v1",
        document=searching.index(),
    ) as made:
        ready(made)
        made.pod.set_dsn(own_server.dsn_of(user="searcher"))
        disconnect(own_server)
        recovers(made)
        yield made


def ready(world: searching.World) -> None:
    write(world.server)
    world.pod.apply()
    fill(world.server)
    searching.switch(world.server, TARGET)
    world.server.execute("GRANT SELECT ON docs, embedding_target TO public")
    sidecar.wait_until(lambda: world.search("x", k=1)["mode"] == "vector")


def disconnect(server: postgres.Postgres) -> None:
    """End the pod's connections: new ones are by the DSN of now."""
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE application_name = '{command.APPLICATION}'"
    )


def problem(world: searching.World) -> tuple[str, str | None]:
    (only,) = world.pod.report()["problems"]
    return only["reason"], only["sqlstate"]


def refused(world: searching.World) -> dict:
    """A search that the database cannot answer: 503 in OpenAI's form, soon to be tried again."""
    answer = world.ask({"query": "x"})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    error: dict = answer.json()["error"]
    assert (error["code"], error["param"]) == ("database_unavailable", None)
    return error


def recovers(world: searching.World) -> None:
    def searches() -> bool:
        answer = world.ask({"query": "x"})
        return bool(answer.status_code == 200 and answer.json()["mode"] == "vector")

    sidecar.wait_until(searches, seconds=RECOVERED_SECONDS)


def test_database_that_is_restarted_is_used_again(own_world):
    own_world.server.stop()
    for _ in range(3):
        refused(own_world)
    assert problem(own_world)[0] == "DatabaseUnavailable"
    # The pod itself is well: nobody takes it out of its Service.
    for path in ("/healthz/started", "/healthz/live", "/metrics"):
        assert own_world.pod.http.get(path).status_code == 200
    own_world.server.start()
    recovers(own_world)
    assert own_world.pod.report()["problems"] == []


def test_restart_between_two_searches_is_not_noticed(own_world):
    own_world.search("x")
    own_world.server.kill()
    own_world.server.start()
    # Its kept connections are lost; reading again harms nobody.
    assert own_world.search("x")["mode"] == "vector"


@contextlib.contextmanager
def paused(server: postgres.Postgres) -> Iterator[None]:
    """The server and all its sessions stand still; connections stay open."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    server.signal(signal.SIGSTOP)  # first: it makes no more of them
    processes = [int(it) for it in children.read_text(encoding="ascii").split()]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in (*processes, server.pid):
            os.kill(process, signal.SIGCONT)


def test_database_that_stands_still_is_given_up_and_used_again(own_world):
    with paused(own_world.server):
        for _ in range(2):
            refused(own_world)
        with concurrent.futures.ThreadPoolExecutor(LANES) as lanes:
            answers = list(lanes.map(lambda _: own_world.ask({"query": "x"}), range(LANES)))
        assert {it.status_code for it in answers} == {503}
        assert own_world.pod.http.get("/healthz/live").status_code == 200
    recovers(own_world)


def test_database_without_connection_left_is_said_and_used_again(own_world):
    server = own_world.server
    held = []
    dsn = server.dsn_of(user="searcher")
    disconnect(server)
    try:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                held.append(psycopg.connect(dsn))
        refused(own_world)
        assert problem(own_world) == ("TooManyConnections", "53300")
    finally:
        for connection in held:
            connection.close()
    recovers(own_world)


def test_pod_never_has_more_connections_than_its_document_says(own_world):
    server = own_world.server
    counted = (
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'searcher'"
        f" AND application_name = '{command.APPLICATION}'"
    )
    most = 0
    with (
        psycopg.connect(server.dsn) as locking,
        concurrent.futures.ThreadPoolExecutor(LANES) as lanes,
    ):
        locking.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")
        asked = [lanes.submit(own_world.ask, {"query": "x"}) for _ in range(LANES)]
        while not all(it.done() for it in asked):
            ((now,),) = server.execute(counted)
            most = max(most, now)
        answers = [it.result() for it in asked]
        locking.rollback()
    # Searches that wait for a lock, and those that wait for a connection of theirs.
    assert {it.status_code for it in answers} == {503}
    assert all(it.headers["retry-after"] for it in answers)
    assert most == command.MAX_CONNECTIONS
    recovers(own_world)


def test_vectors_that_take_too_long_give_text_with_reason(make_world):
    target = Target(
        model=searching.MODEL,
        dimensions=searching.DIMENSIONS,
        space="tests/small",
        table="docs_vectors",
    )
    search = Search(return_columns=("body",), statement_timeout_milliseconds=200)
    world = make_world(filled=False, document=searching.index(target=target, search=search))
    server = world.server
    world.pod.apply()
    for number, text in enumerate(TEXTS):
        made = searching.as_text(provider.numbers("small", text, searching.DIMENSIONS))
        server.execute("INSERT INTO docs_vectors VALUES (%s, %s::vector)", (number, made))
    searching.switch(server, "public.docs_vectors")
    sidecar.wait_until(lambda: world.search("x", k=1)["mode"] == "vector")
    with psycopg.connect(server.dsn) as locking:
        locking.execute("LOCK TABLE docs_vectors IN ACCESS EXCLUSIVE MODE")
        answer = world.search("whales")
        assert (answer["mode"], answer["reason"]) == ("text", "timeout")
        assert answer["results"]
        locking.rollback()
    assert world.search("whales")["mode"] == "vector"
    # What the bookkeeping still names is gone: that is an error of the vectors, and text is not.
    server.execute("DROP TABLE docs_vectors")
    answer = world.search("whales")
    assert (answer["mode"], answer["reason"]) == ("text", "error")

    def counted() -> bool:
        shown = world.pod.metrics()
        series = 'aos_vector_fallback_total{{reason="{}"}}'
        return [shown[series.format(it)] for it in ("timeout", "error")] == [1, 1]

    sidecar.wait_until(counted)


def test_words_that_take_too_long_leave_vectors(make_world):
    search = Search(return_columns=("bucket",), statement_timeout_milliseconds=300)
    world = make_world(document=searching.index(search=search))
    # To rank a text it is read again, word by word.
    world.server.execute("UPDATE docs SET body = repeat('whales in autumn ', 1000000) WHERE id = 9")
    answer = world.search("whales", mode="hybrid", k=3)
    assert (answer["mode"], answer["space"], answer["reason"]) == ("vector", "tests/small", None)
    assert len(answer["results"]) == 3
    refused = world.ask({"query": "whales", "mode": "text"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "database_unavailable")
    assert "57014" in refused.json()["error"]["message"]


WRONG = [
    ("postgresql://searcher:s3cret-word@127.0.0.1:{port}/nothing", "DSNInvalid"),
    ("s3cret-word = = no connection string", "DSNInvalid"),
    ("postgresql://searcher:s3cret-word@127.0.0.1:1/postgres", "DatabaseUnavailable"),
    (
        "postgresql://searcher:s3cret-word@127.0.0.1:{port}/postgres?sslmode=require",
        "TLSRefused",
    ),
    ("postgresql://nobody:s3cret-word@127.0.0.1:{port}/postgres", "AuthenticationFailed"),
]


@pytest.mark.parametrize(("dsn", "reason"), WRONG)
def test_database_that_refuses_is_reported_without_its_dsn(own_world, dsn, reason):
    server = own_world.server
    # Connections that are open by the DSN of before are given up.
    own_world.pod.set_dsn(dsn.format(port=server.port))
    sidecar.wait_until(lambda: own_world.ask({"query": "x"}).status_code == 503)
    error = refused(own_world)
    assert problem(own_world)[0] == reason
    said = (own_world.pod.said(), str(error), own_world.pod.http.get("/metrics").text)
    for text in (*said, own_world.sidecar.said(), str(own_world.pod.report())):
        assert "s3cret-word" not in text
    own_world.pod.set_dsn(server.dsn_of(user="searcher"))
    recovers(own_world)


def test_role_without_rights_is_reported_by_its_sqlstate(own_world):
    own_world.server.execute("REVOKE SELECT ON embedding_target FROM public")

    def by_text() -> bool:
        answer = own_world.search("x")
        return (answer["mode"], answer["reason"]) == ("text", "error")

    # Words need the table alone.
    sidecar.wait_until(by_text)
    own_world.server.execute("REVOKE SELECT ON docs FROM public")
    sidecar.wait_until(lambda: own_world.ask({"query": "x"}).status_code == 503)
    assert "42501" in refused(own_world)["message"]
    sidecar.wait_until(lambda: own_world.pod.report()["problems"])
    assert problem(own_world) == ("PermissionDenied", "42501")
    own_world.server.execute("GRANT SELECT ON docs, embedding_target TO public")
    recovers(own_world)


@pytest.fixture
def bouncer(own_server) -> Iterator[PgBouncer]:
    with tempfile.TemporaryDirectory(prefix="embedding-pgbouncer-") as folder:
        started = PgBouncer(Path(folder), own_server, pool_size=2)
        yield started
        started.stop()


def test_searches_behind_pgbouncer_in_transaction_mode(own_server, bouncer, provider_url, tmp_path):
    with searching.running(
        tmp_path / "world",
        server=own_server,
        provider_url=f"{provider_url}/v1",
        document=searching.index(),
    ) as world:
        ready(world)
        world.pod.set_dsn(bouncer.dsn)
        disconnect(own_server)
        with concurrent.futures.ThreadPoolExecutor(LANES) as lanes:
            modes = ("vector", "text", "hybrid") * LANES
            asked = [{"query": "whales", "mode": mode, "k": 3} for mode in modes]
            answers = [it.json() for it in lanes.map(world.ask, asked)]
        assert not [it for it in answers if "error" in it]
        assert [it["mode"] for it in answers] == list(modes)
        assert all(it["reason"] is None for it in answers)
        # What a search sets ends with its transaction, or the next client would have it.
        with psycopg.connect(bouncer.dsn, autocommit=True, prepare_threshold=None) as client:
            for name in ("statement_timeout", "hnsw.iterative_scan", "hnsw.ef_search"):
                asked_for = "SELECT current_setting(%s, true)"
                ((value,),) = client.execute(asked_for, (name,)).fetchall()
                assert value in ("0", "off", "40", "", None), name
        bouncer.stop()
        refused(world)
        bouncer.start()
        recovers(world)
        own_server.kill()
        own_server.start()
        recovers(world)
