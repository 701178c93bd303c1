"""Sidecars as real processes, and the real services beside them."""

import itertools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.fakes import provider
from tests.parts import sidecar


@pytest.fixture
def stand_in() -> provider.StandIn:
    return provider.StandIn()


@pytest.fixture
def provider_url(stand_in: provider.StandIn) -> Iterator[str]:
    with sidecar.served(stand_in.app()) as url:
        yield url


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., sidecar.Sidecar]]:
    """Starts a sidecar; `start("--document", path)` or `start(OPENAI_API_KEY="...")`."""
    started: list[sidecar.Sidecar] = []
    numbers = itertools.count(1)

    def start_one(*arguments: str | Path, **environment: str) -> sidecar.Sidecar:
        log = tmp_path / f"sidecar-{next(numbers)}.log"
        one = sidecar.Sidecar(*arguments, environment=environment, log=log)
        started.append(one)
        return one

    yield start_one
    for one in started:
        one.stop(signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def from_environment(
    start: Callable[..., sidecar.Sidecar], provider_url: str
) -> Callable[..., sidecar.Sidecar]:
    """Starts a sidecar from the environment, with the stand-in as OpenAI and as Voyage."""

    def start_one(**environment: str) -> sidecar.Sidecar:
        given = {
            "OPENAI_API_KEY": provider.KEY,
            "OPENAI_BASE_URL": f"{provider_url}/v1",
            "VOYAGE_API_KEY": provider.KEY,
            "VOYAGE_BASE_URL": f"{provider_url}/voyage/v1",
            "EMBEDDING_API_TOKEN": sidecar.TOKEN,
        }
        return start(**{**given, **environment}).wait()

    return start_one


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[sidecar.Redis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    running = sidecar.Redis(folder)
    yield running
    running.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sidecar.Redis]:
    """A Redis for all tests of a file."""
    made = sidecar.Redis(tmp_path_factory.mktemp("redis"))
    yield made
    made.kill()


@pytest.fixture
def asked(server: sidecar.Redis) -> Iterator[Redis]:
    """A client of the file's Redis, which is empty."""
    with Redis(port=server.port) as client:
        client.flushall()
        yield client
