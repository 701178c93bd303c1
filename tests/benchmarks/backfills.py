"""Rows a second of a backfill, against a plain loop of psycopg and the OpenAI SDK.

Both fill the same table with its index in place, 64 rows at a time, from the same provider, in
turns. The worker asks its sidecar, whose cache is empty; the loop asks the provider.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import openai

from embedding_contract.index_document import IndexDocument, Target
from tests.fakes import provider
from tests.parts import daemons, ports, postgres, searching

ROWS: Final = 6_000
NUMBERS: Final = 384
BATCH: Final = 64
TABLE: Final = "filled"
ENDED_SECONDS: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """One way of filling the table, and the rows a second that each round gave."""

    name: str
    fill: Callable[[], float]
    """Fills it, and says how many seconds that took."""
    rates: list[float] = field(default_factory=list)

    @property
    def middle(self) -> float:
        """Rows a second."""
        return statistics.median(self.rates)


def measure(server: postgres.Postgres, folder: Path, *, rounds: int) -> tuple[Filled, Filled]:
    """The plain loop and the worker, in turns."""
    port = ports.free()
    started = daemons.Daemons(folder)
    log = folder / "calls.jsonl"
    command: list[str | Path] = [sys.executable, "-m", "tests.fakes.provider"]
    command += ["--port", str(port), "--log", log]
    started.start("provider", command, ready=daemons.answers("127.0.0.1", port))
    target = Target(
        model=searching.MODEL,
        dimensions=NUMBERS,
        space=f"tests/small@{NUMBERS}",
        column="embedding",
        request_dimensions=True,
    )
    document = searching.index(table=TABLE, target=target, search=None, applies_plan=True)
    try:
        lanes = (
            Filled(name="a loop of psycopg and the SDK", fill=lambda: _loop(server, port)),
            Filled(
                name="embedding-vectors backfill",
                fill=lambda: _worker(server, folder, port, document),
            ),
        )
        for _ in range(rounds):
            for lane in lanes:
                _empty(server)
                lane.rates.append(ROWS / lane.fill())
                ((left,),) = server.execute(f"SELECT count(*) FROM {TABLE} WHERE embedding IS NULL")
                assert left == 0
    finally:
        started.stop()
    return lanes


def _empty(server: postgres.Postgres) -> None:
    """The table as it is before anything has a vector, index and all."""
    names = "embedding_target, embedding_state, embedding_minute"
    server.execute(f"DROP TABLE IF EXISTS {TABLE}, {names}")
    server.execute(
        f"CREATE TABLE {TABLE} AS SELECT id, 'A sentence of some length with the number ' || id"
        f" || ' in it, as long as those that people write.' AS body"
        f" FROM generate_series(1, {ROWS}) AS id"
    )
    server.execute(f"ALTER TABLE {TABLE} ADD PRIMARY KEY (id), ADD embedding vector({NUMBERS})")
    server.execute(f"CREATE INDEX ON {TABLE} USING hnsw (embedding vector_cosine_ops)")
    server.execute(f"VACUUM ANALYZE {TABLE}")


def _loop(server: postgres.Postgres, port: int) -> float:
    begun = time.perf_counter()
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=provider.KEY)
    with server.connect() as connection, client:
        while rows := connection.execute(
            f"SELECT id, body FROM {TABLE} WHERE embedding IS NULL ORDER BY id LIMIT %s".encode(),
            (BATCH,),
        ).fetchall():
            made = client.embeddings.create(
                model=searching.MODEL, input=[text for _, text in rows], dimensions=NUMBERS
            )
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(
                    f"UPDATE {TABLE} SET embedding = %s::vector WHERE id = %s".encode(),
                    [
                        (searching.as_text(it.embedding), key)
                        for it, (key, _) in zip(made.data, rows, strict=True)
                    ],
                )
    return time.perf_counter() - begun


def _worker(server: postgres.Postgres, folder: Path, port: int, document: IndexDocument) -> float:
    """A whole run: the worker's start and its plan, too."""
    name = f"run-{time.monotonic_ns()}"
    with searching.running(
        folder / name,
        server=server,
        provider_url=f"http://127.0.0.1:{port}/v1",
        document=document,
    ) as world:
        begun = time.perf_counter()
        worker = world.pod.backfill()
        assert worker.wait(ENDED_SECONDS) == 0, world.pod.said()
        return time.perf_counter() - begun
