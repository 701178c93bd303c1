"""A small table that is searched by an application's sidecar."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import provider
from tests.parts import postgres, searching, sidecar

TARGET = "public.docs.embedding"
TEXTS = tuple(
    f"Sentence {number} tells of {subject} in {'spring' if number % 2 else 'autumn'}."
    for number, subject in enumerate(["cats", "dogs", "birds", "fish", "whales"] * 8)
)


def write(server: postgres.Postgres) -> None:
    """Drop what a test before left, and write the table."""
    names = ["embedding_target", "embedding_state", "embedding_minute", "docs", "docs_vectors"]
    server.execute(f"DROP TABLE IF EXISTS {', '.join(names)} CASCADE")
    server.execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, body text NOT NULL, bucket int, lang text)"
    )
    with server.connect() as connection, connection.cursor().copy("COPY docs FROM STDIN") as copy:
        for number, text in enumerate(TEXTS):
            copy.write_row((number, text, number % 10, "en" if number % 3 else None))


def fill(server: postgres.Postgres, *, column: str = "embedding", model: str = "small") -> None:
    """Write all vectors of a column, as the stand-in makes them."""
    with server.connect() as connection:
        for number, text in enumerate(TEXTS):
            made = searching.as_text(provider.numbers(model, text, searching.DIMENSIONS))
            connection.execute(
                f"UPDATE docs SET {column} = %s::vector WHERE id = %s".encode(), (made, number)
            )


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.running() as started:
        started.execute("CREATE EXTENSION vector")
        started.execute("CREATE EXTENSION pg_stat_statements")
        yield started


@pytest.fixture
def make_world(
    server: postgres.Postgres, provider_url: str, tmp_path: Path
) -> Iterator[Callable[..., searching.World]]:
    """Starts a world over the table; `filled=False` leaves it without a plan."""
    started: list[searching.World] = []

    def make(*, filled: bool = True, **options: Any) -> searching.World:
        write(server)
        options.setdefault("document", searching.index())
        world = searching.World(
            tmp_path / f"world-{len(started)}",
            server=server,
            provider_url=f"{provider_url}/v1",
            **options,
        )
        started.append(world)
        if filled:
            world.pod.apply()
            fill(server)
            searching.switch(server, TARGET)
            sidecar.wait_until(lambda: world.search("x", k=1)["mode"] == "vector")
        return world

    yield make
    for one in started:
        one.stop()


@pytest.fixture
def world(make_world: Callable[..., searching.World]) -> searching.World:
    return make_world()
