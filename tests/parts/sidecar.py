"""Real sidecars, stand-in providers behind real sockets, and a real Redis, for one test each."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import openai
import uvicorn

from embedding_contract import names
from tests.parts import ports, redis_programs

TOKEN = "api-token-of-the-tests"
READY_SECONDS = 30
ENDED_SECONDS = 20


def listens(port: int) -> bool:
    """Whether somebody accepts connections there, on loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_until(true: Callable[[], Any], *, seconds: float = READY_SECONDS) -> None:
    """Ask again and again until it is so, or fail."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {seconds} s")
        time.sleep(0.02)


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """An ASGI application on a real socket; its address without a slash at the end."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


class Sidecar:
    """A running `embedding-sidecar` process."""

    def __init__(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str],
        log: Path,
        program: Sequence[str | Path] = (Path(sys.executable).parent / "embedding-sidecar",),
    ) -> None:
        self.port, self.admin_port = ports.free(), ports.free()
        self.log = log
        clean = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        listening = {
            "EMBEDDING_PORT": str(self.port),
            "EMBEDDING_ADMIN_PORT": str(self.admin_port),
        }
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*program, *arguments],
                env={**clean, **listening, **environment},
                stderr=stderr,
                stdin=subprocess.DEVNULL,
            )
        self.http = httpx2.Client(
            base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False
        )
        self.admin = httpx2.Client(
            base_url=f"http://127.0.0.1:{self.admin_port}",
            timeout=30,
            trust_env=False,
            headers={"Authorization": f"Bearer {TOKEN}"},
        )

    def wait(self) -> "Sidecar":
        """Until its sockets answer."""

        def answers() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the sidecar has ended: {self.said()}")
            try:
                return self.admin.get(names.PATH_STARTED).is_success
            except httpx2.TransportError:
                return False

        wait_until(answers)
        return self

    def openai(self, *, api_key: str = names.PLACEHOLDER_KEY) -> openai.OpenAI:
        """The unmodified SDK, as an injected application has it."""
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=api_key)

    def embed(self, *items: Any, model: str = "text-embedding-3-small", **more: Any) -> Any:
        """POST /v1/embeddings; the HTTP response."""
        body = {"model": model, "input": list(items), "encoding_format": "base64", **more}
        return self.http.post(names.PATH_EMBEDDINGS, json=body)

    def page(self, path: str) -> Any:
        """A management page."""
        return self.admin.get(path).raise_for_status().json()

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(encoding="utf-8")

    def stop(self, *numbers: signal.Signals) -> int:
        """End it; its exit code. By SIGTERM alone it waits for clients that keep a connection."""
        self.http.close()
        if self.process.poll() is None:
            for number in numbers or (signal.SIGTERM,):
                self.process.send_signal(number)
        code = self.process.wait(ENDED_SECONDS)
        self.admin.close()
        return code


class Redis:
    """A real Redis that keeps what it acknowledged; it can be killed and started again."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.port = ports.free()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it on what it kept."""
        self._process = subprocess.Popen(
            [
                redis_programs.server(),
                *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", self._folder),
                *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            ],
            env=self._environment,
            stdout=subprocess.DEVNULL,
        )
        wait_until(self._answers)

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None
        return self._process.pid

    def restart(self) -> None:
        """End it in peace, and start it on what it kept."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(ENDED_SECONDS)
        self.start()

    def shut_down(self) -> None:
        """End it in peace by its own command.

        A handler of signals may wait for ever for a lock that libfaketime held when they came.
        """
        assert self._process is not None
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as asked:
            asked.sendall(b"SHUTDOWN NOSAVE\r\n")
            self._process.wait(ENDED_SECONDS)

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as asked:
                asked.sendall(b"PING\r\n")
                return asked.recv(7) == b"+PONG\r\n"
        except OSError:
            return False
