"""`make bench-vectors`: what a search adds to its own SQL, and how fast a backfill is.

python -m tests.benchmarks.vectors [--rounds N] [--no-page]

Each query is asked in turns by the application's sidecar, of the search pod itself, and as the same
SQL over one open connection; the query's vector is in the sidecar's cache. The middle counts.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import psycopg

from embedding_contract import names, proof
from embedding_contract.index_document import Search, Target
from embedding_vectors.database.facts import TargetRow
from embedding_vectors.search import requests, statements
from tests.benchmarks import backfills, chart, page
from tests.fakes import provider
from tests.parts import postgres, searching, sidecar

COMMAND: Final = "make bench-vectors"
SIZES: Final = (1_000, 100_000)
NUMBERS: Final = 384
K: Final = 10
QUERIES: Final = 50
WARM: Final = 20
FILLINGS: Final = 3
MILLISECONDS: Final = 1_000
SETTINGS: Final = {
    "shared_buffers": "512MB",
    "maintenance_work_mem": "512MB",
    "max_parallel_maintenance_workers": "1",
}
"""So that table and index are in memory: what is measured is not a disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One way of asking the same, and the seconds that each time took."""

    name: str
    ask: Callable[[str], None]
    seconds: list[float] = field(default_factory=list)

    @property
    def middle(self) -> float:
        """Milliseconds."""
        return statistics.median(self.seconds) * MILLISECONDS

    @property
    def late(self) -> float:
        """Milliseconds within which 95 of 100 came."""
        return statistics.quantiles(self.seconds, n=20)[-1] * MILLISECONDS


def main() -> int:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--no-page", action="store_true")
    options = parser.parse_args()
    measured: dict[int, Sequence[Lane]] = {}
    with (
        postgres.running(settings=SETTINGS) as server,
        sidecar.served(provider.StandIn().app()) as url,
        tempfile.TemporaryDirectory(prefix="bench-vectors-") as folder,
    ):
        server.execute("CREATE EXTENSION vector")
        for rows in SIZES:
            with searching.running(
                Path(folder) / str(rows),
                server=server,
                provider_url=f"{url}/v1",
                document=_document(rows),
            ) as world:
                _fill(world, rows)
                measured[rows] = _measure(world, options.rounds)
        filled = backfills.measure(server, Path(folder), rounds=FILLINGS)
    text = f"{_table(measured)}\n\n{_rates(filled)}"
    sys.stdout.write(f"{text}\n")
    if not options.no_page:
        page.draw("vectors", _plot(measured))
        page.write("vectors", f"{text}\n\n![vectors](benchmarks-vectors.svg)", command=COMMAND)
    return 0


def _document(rows: int) -> Any:
    target = Target(
        model=searching.MODEL,
        dimensions=NUMBERS,
        space=f"tests/small@{NUMBERS}",
        column="embedding",
        request_dimensions=True,
    )
    return searching.index(
        table=f"docs_{rows}",
        target=target,
        search=Search(filter_columns=("bucket",), return_columns=("body",)),
    )


def _fill(world: searching.World, rows: int) -> None:
    """Vectors of numbers that are the same in each run; the index is built over the whole table."""
    server, table = world.server, world.pod.document.table
    server.execute(
        f"CREATE TABLE {table} AS SELECT id, 'row ' || id AS body, (id % 100)::int AS bucket"
        f" FROM generate_series(1, {rows}) AS id"
    )
    server.execute(f"ALTER TABLE {table} ADD PRIMARY KEY (id), ADD embedding vector({NUMBERS})")
    with server.connect() as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(
            f"UPDATE {table} AS t SET embedding = (SELECT array_agg(random() - 0.5) FROM"
            f" generate_series(1, {NUMBERS} + 0 * t.id))::vector".encode()
        )
        connection.execute(f"VACUUM ANALYZE {table}".encode())
    world.pod.apply()
    searching.switch(server, f"public.{table}.embedding")
    sidecar.wait_until(lambda: world.search("x", k=1)["mode"] == "vector")


def _measure(world: searching.World, rounds: int) -> Sequence[Lane]:
    queries = [f"query {number}" for number in range(QUERIES)]
    for query in queries:
        assert world.search(query, k=K)["mode"] == "vector"
    with (
        world.server.connect() as connection,
        httpx2.Client(base_url=f"http://127.0.0.1:{world.pod.port}", trust_env=False) as pod,
    ):
        lanes = (
            Lane(name="its own SQL", ask=_sql(world, connection)),
            Lane(name="the search pod", ask=_of_pod(world, pod)),
            Lane(name="the application's sidecar", ask=lambda it: _of_sidecar(world, it)),
        )
        for lane in lanes:
            for query in queries[:WARM]:
                lane.ask(query)
        for _ in range(rounds):
            for query in queries:
                for lane in lanes:
                    started = time.perf_counter()
                    lane.ask(query)
                    lane.seconds.append(time.perf_counter() - started)
    return lanes


def _sql(world: searching.World, connection: psycopg.Connection[Any]) -> Callable[[str], None]:
    document = world.pod.document
    assert document.search is not None
    asked = requests.parse(
        searching.body(query="x", k=K), document=document, search=document.search, types={}
    )
    target = TargetRow(
        id="",
        index_uid=document.uid,
        index_name="",
        model=searching.MODEL,
        dimensions=NUMBERS,
        space=document.target.space,
        phase="Switched",
        column="embedding",
        table=None,
    )
    vectors: dict[str, str] = {}

    def ask(query: str) -> None:
        vector = vectors.setdefault(
            query, searching.as_text(provider.numbers(searching.MODEL, query, NUMBERS))
        )
        statement = statements.by_vectors(
            document,
            document.search or Search(),
            target,
            asked,
            extension_schema="public",
            vector=vector,
            most=K,
        )
        with connection.pipeline():
            connection.execute(statements.BEGIN)
            connection.execute(statements.SETTINGS, ("2000", str(statements.MIN_EF_SEARCH)))
            ran = connection.execute(statement.text, statement.values)
            connection.execute(statements.COMMIT)
        assert len(ran.fetchall()) == K

    return ask


def _of_pod(world: searching.World, client: httpx2.Client) -> Callable[[str], None]:
    def ask(query: str) -> None:
        body = searching.body(query=query, k=K)
        credentials = proof.sign_request(
            sidecar.TOKEN,
            method="POST",
            path=names.PATH_SEARCH,
            nonce=f"{time.monotonic_ns():032x}",
            time=int(time.time()),
            pod=world.pod.document.uid,
            body=body,
        )
        answer = client.post(
            names.PATH_SEARCH, content=body, headers={"Authorization": credentials.render()}
        )
        assert answer.status_code == httpx2.codes.OK

    return ask


def _of_sidecar(world: searching.World, query: str) -> None:
    answer = world.ask(searching.body(query=query, k=K))
    assert answer.status_code == httpx2.codes.OK


def _table(measured: dict[int, Sequence[Lane]]) -> str:
    rows = []
    for size, lanes in measured.items():
        sql = lanes[0].middle
        rows += [
            [
                f"{size:,} rows: {lane.name}",
                f"{lane.middle:.2f}",
                f"{lane.late:.2f}",
                f"{lane.middle - sql:+.2f}" if at else "",
                f"{lane.middle / sql:.2f}",
            ]
            for at, lane in enumerate(lanes)
        ]
    head = (f"k = {K} of {NUMBERS} numbers, asked by", "ms", "p95 ms", "added ms", "times its SQL")
    return page.table(head, rows)


def _rates(filled: Sequence[backfills.Filled]) -> str:
    loop = filled[0]
    rows = [
        [
            it.name,
            f"{it.middle:.0f}",
            f"{min(it.rates):.0f} to {max(it.rates):.0f}",
            f"{it.middle / loop.middle:.2f}",
        ]
        for it in filled
    ]
    head = (
        f"{backfills.ROWS:,} rows of {NUMBERS} numbers, filled by",
        "rows/s",
        "spread",
        "times the loop",
    )
    return page.table(head, rows)


def _plot(measured: dict[int, Sequence[Lane]]) -> str:
    bars: list[tuple[str, float, float | None]] = [
        (f"{size:,} rows: {lane.name}", lane.middle, None)
        for size, lanes in measured.items()
        for lane in lanes
    ]
    return chart.bars("A search, one at a time, in milliseconds", bars, unit=" ms")


if __name__ == "__main__":
    sys.exit(main())
