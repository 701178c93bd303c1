"""A table that an index keeps embedded while Prometheus watches: a search pod, and a worker.

PostgreSQL and both processes are real. The worker is a Job's: it is there while it has work, and
its target is down before and after.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from embedding_contract import document
from embedding_contract.index_document import Limits, Search, Target
from tests.parts import monitoring, ports, searching
from tests.parts.postgres import Postgres

if TYPE_CHECKING:
    import subprocess

INDEX: Final = "docs"
BATCH_ROWS: Final = 4
FILL_SECONDS: Final = 90


class Table:
    """Table `docs` in a schema of the policy's name; its plan has been applied."""

    def __init__(
        self,
        folder: Path,
        *,
        server: Postgres,
        policy: tuple[str, str],
        sidecar_port: int,
        target: Target,
    ) -> None:
        self._server = server
        self._namespace, self._policy = policy
        self._rows = 0
        self._worker: subprocess.Popen[bytes] | None = None
        self._worker_port = ports.free()
        server.execute(f"CREATE SCHEMA {self._policy}")
        server.execute(f"CREATE TABLE {self._policy}.docs (id bigint PRIMARY KEY, body text)")
        index = searching.index(
            namespace=self._namespace,
            name=INDEX,
            policy=self._policy,
            schema=self._policy,
            target=target,
            limits=Limits(batch_rows=BATCH_ROWS),
            search=Search(return_columns=("body",)),
        )
        self.pod = searching.SearchPod(
            folder, document=index, dsn=server.dsn, sidecar_port=sidecar_port
        )
        self.pod.apply()

    @property
    def served(self) -> document.Index:
        """What the policy's document says of it."""
        index = self.pod.document
        return document.Index(
            name=index.name, uid=index.uid, url=f"http://127.0.0.1:{self.pod.port}"
        )

    @property
    def targets(self) -> Sequence[monitoring.Target]:
        """Both pods, with the labels that a PodMonitor would give them."""
        labels = {"namespace": self._namespace, "policy": self._policy, "index": INDEX}
        return [
            monitoring.Target(address=f"127.0.0.1:{port}", labels={**labels, "pod": pod})
            for pod, port in (("search", self.pod.port), ("backfill", self._worker_port))
        ]

    def insert(self, rows: int, *, words: str = "") -> None:
        """More rows of texts that nobody had before, each with these words."""
        first, self._rows = self._rows, self._rows + rows
        self._server.execute(
            f"INSERT INTO {self._policy}.docs SELECT id, 'row ' || id || ' ' || %s"
            " FROM generate_series(%s::int, %s::int - 1) AS id",
            (words, first, self._rows),
        )

    def start_worker(self) -> None:
        """A worker that goes on until all rows have a vector; a dead one's rows are free soon."""
        self._worker = self.pod.backfill("--lease-seconds", "5", port=self._worker_port)

    @property
    def is_filling(self) -> bool:
        """Whether a worker runs."""
        return self._worker is not None and self._worker.poll() is None

    def fill(self) -> None:
        """A whole run of a worker."""
        self.start_worker()
        assert self._worker is not None
        assert self._worker.wait(FILL_SECONDS) == 0, self.pod.said()

    def kill_worker(self) -> None:
        """End it without a word."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait()

    def stop(self) -> None:
        """End both processes."""
        self.kill_worker()
        self.pod.stop()
