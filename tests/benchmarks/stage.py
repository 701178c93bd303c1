"""What a measurement runs on: servers under test on one core, load and all else on another."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dev import cluster
from embedding_contract import document, names, provider_terms
from embedding_sidecar import memory_limit
from tests.benchmarks import load, vendor
from tests.parts import ports
from tests.parts import sidecar as parts

ROOT = Path(__file__).parents[2]
MODEL = "text-embedding-3-small"
MEGABYTE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server under test."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Seconds its threads have been on a core so far."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(it.read_text(encoding="ascii").split()[0]) for it in threads) / 1e9

    def memory(self, field: str) -> float:
        """VmRSS, RssAnon or VmHWM of the process, in MB (2^20 bytes)."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        raise ValueError(f"there is no {field} of process {self.pid}")


class Stage:
    """Two cores, a folder, and what was started; all of it ends with the stage."""

    def __init__(self, folder: Path, ends: contextlib.ExitStack) -> None:
        self.folder = folder
        self._ends = ends
        cores = sorted(os.sched_getaffinity(0))
        self.tested, self.others = {cores[0]}, {cores[-1]}
        os.sched_setaffinity(0, self.others)
        self.vendor = self._python("tests.benchmarks.vendor", cores=self.others)

    @property
    def vendor_url(self) -> str:
        """The provider's base URL."""
        return f"http://127.0.0.1:{self.vendor.port}/v1"

    def bare(self, *, answer_bytes: int) -> Server:
        """The ceiling, for answers of so many bytes."""
        return self._python(
            "tests.benchmarks.bare", "--bytes", str(answer_bytes), cores=self.tested
        )

    def sidecar(
        self,
        *,
        memory_max_bytes: int = 64 * MEGABYTE,
        cache_url: str | None = None,
        quota_url: str | None = None,
        rate: provider_terms.Rate = provider_terms.NO_RATE,
        checkout: Path = ROOT,
    ) -> Server:
        """A sidecar under a policy whose day is not limited, or is counted in that Redis.

        A `rate` is counted there, too.

        `checkout` is a folder of this project, at another commit, with its own environment.
        """
        number = len(list(self.folder.glob("policy-*")))
        folder = self.folder / f"policy-{number}"
        folder.mkdir()
        policy = document.PolicyDocument(
            namespace="bench",
            name=f"policy-{number}",
            providers=(
                document.Provider(
                    name="vendor",
                    kind="OpenAI",
                    model=MODEL,
                    base_url=self.vendor_url,
                    api_key_file="key",
                    rate=rate,
                ),
            ),
            quota=document.Quota(
                daily_requests=10**9 if quota_url else None,
                redis_url_file="quota-url" if quota_url else None,
            ),
            cache=document.Cache(
                memory_max_bytes=memory_max_bytes, redis_url_file="cache-url" if cache_url else None
            ),
        )
        values = {
            "key": "sk-bench",
            names.SECRET_CACHE_KEY: secrets.token_hex(32),
            "cache-url": cache_url,
            "quota-url": quota_url,
        }
        for name, value in values.items():
            if value:
                (folder / name).write_text(value, encoding="ascii")
        path = self.folder / f"document-{number}.json"
        path.write_text(document.dump(policy), encoding="utf-8")
        running = parts.Sidecar(
            *("--document", path, "--secrets", folder),
            # As in a pod, whatever this runs in.
            environment={"EMBEDDING_MEMORY_BYTES": str(memory_limit.DEFAULT_BYTES)},
            log=self.folder / f"sidecar-{number}.log",
            program=(checkout / ".venv/bin/embedding-sidecar",),
        )
        self._ends.callback(running.stop)
        os.sched_setaffinity(running.process.pid, self.tested)
        running.wait()
        return Server(port=running.port, pid=running.process.pid)

    def redis(self, *, keeps: bool) -> "Redis":
        """A Redis; one that keeps what it acknowledged, as a quota's, or only remembers."""
        port = ports.free()
        folder = self.folder / f"redis-{port}"
        folder.mkdir()
        kept = ("--appendonly", "yes", "--appendfsync", "always") if keeps else ()
        command = (
            *(str(cluster.artifact("redis-server")), "--bind", "127.0.0.1", "--port", str(port)),
            *("--dir", str(folder), "--save", "", *kept),
        )
        self.start(command, port=port, cores=self.others)
        return Redis(port)

    def start(
        self,
        command: Sequence[str],
        *,
        port: int,
        cores: set[int],
        environment: dict[str, str] | None = None,
        seconds: float = parts.READY_SECONDS,
    ) -> Server:
        """Start a program that listens on this port."""
        log = self.folder / f"program-{port}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )
        self._ends.callback(_end, process)
        os.sched_setaffinity(process.pid, cores)

        def is_up() -> bool:
            if process.poll() is not None:
                said = log.read_text(encoding="utf-8", errors="replace")[-600:]
                raise AssertionError(f"{command[0]} has ended: {said}")
            return parts.listens(port)

        parts.wait_until(is_up, seconds=seconds)
        return Server(port=port, pid=process.pid)

    def vendor_counts(self) -> tuple[int, int]:
        """Requests and items the provider has answered."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.vendor.port}/calls") as answer:
            counted = json.load(answer)
        return counted["calls"], counted["items"]

    def _python(self, module: str, *arguments: str, cores: set[int]) -> Server:
        port = ports.free()
        command = (sys.executable, "-m", module, "--port", str(port), *arguments)
        return self.start(command, port=port, cores=cores)


class Redis:
    """A Redis that can say how often it was asked."""

    def __init__(self, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self._port = port

    def calls(self, *commands: str) -> int:
        """How often these commands were called."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=5) as asked:
            asked.sendall(b"INFO commandstats\r\n")
            answer = asked.makefile("rb")
            text = answer.read(int(answer.readline()[1:])).decode()
        found = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        counted = (found.get(f"cmdstat_{name}", "calls=0,") for name in commands)
        return sum(int(line.split(",")[0].removeprefix("calls=")) for line in counted)


@contextlib.contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """A stage in this folder."""
    with contextlib.ExitStack() as ends:
        before = os.sched_getaffinity(0)
        ends.callback(os.sched_setaffinity, 0, before)
        yield Stage(folder, ends)


def request(*texts: str, dimensions: int = vendor.DIMENSIONS, user: str | None = None) -> bytes:
    """A request for the vectors of these texts, in base64, as the SDK sends it."""
    body = {
        "input": texts[0] if len(texts) == 1 else texts,
        "model": MODEL,
        "encoding_format": "base64",
        "dimensions": dimensions,
        **({} if user is None else {"user": user}),
    }
    return load.post(json.dumps(body).encode(), path=names.PATH_EMBEDDINGS)


def text(number: int | str) -> str:
    """One of many texts."""
    return f"What does the customer of order {number} ask about the delivery of her parcel?"


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
