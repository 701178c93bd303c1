"""The hit path: an answer from memory, as a ratio to the raw server that answers as many bytes."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from embedding_contract import names
from tests.benchmarks import load
from tests.fakes import provider
from tests.parts import sidecar

ROOT = Path(__file__).parents[2]
CONNECTIONS = 32
REQUESTS = 20_000
ROUNDS = 3
DIMENSIONS = 1536
BODY = {
    "model": "text-embedding-3-small",
    "input": "a question that is asked again and again",
    "encoding_format": "base64",
    "dimensions": DIMENSIONS,
}


def measure() -> list[tuple[str, load.Measured]]:
    """The raw server and the hit path in turn, the best of a few rounds of each."""
    with tempfile.TemporaryDirectory() as folder, _running(Path(folder)) as running:
        first = running.http.post(names.PATH_EMBEDDINGS, json=BODY).raise_for_status()
        with _bare(len(first.content)) as bare_port:
            rounds = [(_load(bare_port), _load(running.port)) for _ in range(ROUNDS)]
    fastest = [
        max(found, key=lambda it: it.requests_per_second) for found in zip(*rounds, strict=True)
    ]
    return list(zip(("raw server", "hit, memory"), fastest, strict=True))


def _load(port: int) -> load.Measured:
    body = json.dumps(BODY).encode()
    head = (
        f"POST {names.PATH_EMBEDDINGS} HTTP/1.1\r\nhost: x\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return load.run(port, head.encode() + body, connections=CONNECTIONS, requests=REQUESTS)


@contextlib.contextmanager
def _running(folder: Path) -> Iterator[sidecar.Sidecar]:
    with sidecar.served(provider.StandIn().app()) as url:
        environment = {"OPENAI_API_KEY": provider.KEY, "OPENAI_BASE_URL": f"{url}/v1"}
        running = sidecar.Sidecar(environment=environment, log=folder / "sidecar.log")
        try:
            yield running.wait()
        finally:
            running.stop()


@contextlib.contextmanager
def _bare(size: int) -> Iterator[int]:
    port = sidecar.free_port()
    command = [sys.executable, "-m", "tests.benchmarks.bare", "--port", str(port)]
    process = subprocess.Popen([*command, "--bytes", str(size)], cwd=ROOT)
    try:
        sidecar.wait_until(lambda: sidecar.listens(port))
        yield port
    finally:
        process.terminate()
        process.wait()
