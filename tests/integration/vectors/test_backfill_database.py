"""A worker's database goes away, hangs, has no connection left, or is behind a pool."""

import contextlib
import os
import signal
import tempfile
from pathlib import Path

import psycopg
import pytest

from embedding_contract.index_document import Limits
from tests.parts import filling, postgres
from tests.parts.pgbouncer import PgBouncer
from tests.parts.sidecar import wait_until

pytestmark = pytest.mark.integration

SMALL = "public.docs.small"
RECOVERY_SECONDS = 30
"""Three times what is promised."""


def under_way(texts: filling.Texts, *, delay_seconds: float = 0.1, lease_seconds: int = 500):
    """A worker that has done some of its rows; its leases outlast the test by default."""
    texts.write(limits=Limits(batch_rows=8))
    texts.insert({number: f"text {number}" for number in range(400)})
    texts.stand_in.delay_seconds = delay_seconds
    worker = texts.start("backfill", "--lease-seconds", str(lease_seconds))
    wait_until(lambda: texts.has_states() and texts.true_counts(SMALL)[1] > 0)
    return worker


def goes_on(texts: filling.Texts) -> None:
    done = texts.true_counts(SMALL)[1]
    wait_until(lambda: texts.true_counts(SMALL)[1] > done, seconds=RECOVERY_SECONDS)


def completes(texts: filling.Texts, worker) -> None:
    texts.stand_in.delay_seconds = 0
    assert worker.wait(filling.ENDED_SECONDS) == 0, texts.said()
    rows = texts.server.execute("SELECT count(*) FROM docs")[0][0]
    assert texts.wrong() == []
    assert texts.counts(SMALL) == texts.true_counts(SMALL) == (rows, rows, 0)


@pytest.mark.parametrize("ends", [postgres.Postgres.stop, postgres.Postgres.kill])
def test_restarted_database_is_used_again_and_nothing_is_bought_twice(texts, ends):
    worker = under_way(texts)
    for _ in range(2):
        ends(texts.server)
        assert worker.poll() is None
        texts.server.start()
        goes_on(texts)
    completes(texts, worker)
    assert set(texts.billed().values()) == {1}


def processes(server: postgres.Postgres) -> list[int]:
    """The postmaster and all that it has started."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text(encoding="ascii")
    return [server.pid, *map(int, children.split())]


@contextlib.contextmanager
def paused(server: postgres.Postgres):
    stopped = processes(server)
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_database_that_stood_still_is_used_again(texts):
    worker = under_way(texts)
    with paused(texts.server):
        calls = len(texts.stand_in.calls)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: len(texts.stand_in.calls) > calls + 8, seconds=3)
        assert len(texts.stand_in.calls) <= calls + 8
    goes_on(texts)
    completes(texts, worker)
    assert set(texts.billed().values()) == {1}


def test_worker_ends_in_time_while_its_database_stands_still(texts):
    # It cannot give them back.
    worker = under_way(texts, lease_seconds=5)
    with paused(texts.server):
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(15) == 1, texts.said()
    completes(texts, texts.start())


@pytest.fixture
def role(texts):
    """A role that may do what the worker does, and is no superuser."""
    texts.server.execute("DROP ROLE IF EXISTS worker")
    texts.server.execute("CREATE ROLE worker LOGIN")
    texts.server.execute("GRANT ALL ON SCHEMA public TO worker")
    texts.server.execute("ALTER TABLE docs OWNER TO worker")
    texts.dsn = texts.server.dsn_of(user="worker")
    yield "worker"
    texts.server.execute("DROP OWNED BY worker")
    texts.server.execute("DROP ROLE worker")


def test_worker_without_free_connection_says_so_and_goes_on_later(texts, role):
    worker = under_way(texts, delay_seconds=0.5)
    with contextlib.ExitStack() as held:

        def has_none() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    held.enter_context(psycopg.connect(texts.dsn))
            return not texts.server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'embedding-vectors/%'"
            )

        wait_until(has_none)
        wait_until(lambda: "TooManyConnections" in texts.said(), seconds=RECOVERY_SECONDS)
        assert worker.poll() is None
    goes_on(texts)
    completes(texts, worker)
    assert set(texts.billed().values()) == {1}


def test_refused_run_reports_sqlstate_of_full_database(texts, role):
    with contextlib.ExitStack() as held:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                held.enter_context(psycopg.connect(texts.dsn))
        assert texts.run("backfill", "--patience-seconds", "1") == 1
    (problem,) = {it.reason: it for it in texts.report().problems}.values()
    assert (problem.reason, problem.sqlstate) == ("TooManyConnections", "53300")


def test_role_without_rights_is_told_grant_before_anything_is_changed(texts):
    texts.server.execute("DROP ROLE IF EXISTS reader")
    texts.server.execute("CREATE ROLE reader LOGIN")
    texts.dsn = texts.server.dsn_of(user="reader")
    try:
        assert texts.run("apply") == 1
        assert 'GRANT SELECT ON "public"."docs" TO "reader"' in texts.said()
        assert 'GRANT CREATE ON SCHEMA "public" TO "reader"' in texts.said()
        assert texts.run() == 1
        assert {(it.reason, it.sqlstate) for it in texts.report().problems} == {
            ("PermissionDenied", "42501")
        }
        assert not texts.has_states()
    finally:
        texts.server.execute("DROP OWNED BY reader")
        texts.server.execute("DROP ROLE reader")


def test_backfill_works_behind_pgbouncer_in_transaction_mode(texts):
    with tempfile.TemporaryDirectory(prefix="embedding-pgbouncer-") as folder:
        Path(folder).chmod(0o777)
        pool = PgBouncer(Path(folder), texts.server, pool_size=2)
        try:
            texts.dsn = pool.dsn
            texts.write(trigger=True)
            worker, other = under_way(texts), texts.start()
            pool.stop()
            pool.start()
            goes_on(texts)
            completes(texts, worker)
            assert other.wait(filling.ENDED_SECONDS) == 0, texts.said()
            assert set(texts.billed().values()) == {1}
        finally:
            pool.stop()
