"""A table kept embedded by real worker processes: PostgreSQL, a sidecar, a provider that bills."""

import array
import collections
import contextlib
import dataclasses
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embedding_contract import document, index_document, index_report, names
from embedding_contract.index_document import IndexDocument, Limits, Target
from embedding_vectors.schema.statements import VECTOR_MOST
from tests.fakes import provider
from tests.parts import postgres, sidecar

PROGRAM = Path(sys.executable).parent / "embedding-vectors"
KEY_FILE = names.secret_provider_key("main")
ENDED_SECONDS = 100
SMALL = Target(model="small", dimensions=8, space="small@8", column="small")
LARGE = Target(model="large", dimensions=16, space="large@16", column="large")
SIDE = Target(model="large", dimensions=16, space="large@16", table="docs_large")


class Texts:
    """A table `docs (id, title, body)`, the workers that keep it embedded, and what they cost."""

    def __init__(
        self, folder: Path, server: postgres.Postgres, stand_in: provider.StandIn, url: str
    ) -> None:
        self.folder = folder
        self.server = server
        self.stand_in = stand_in
        self.url = url
        self.workers: list[subprocess.Popen[str]] = []
        self.sidecar: sidecar.Sidecar | None = None
        self.dsn = server.dsn
        self.index = IndexDocument(
            namespace="shop",
            name="docs",
            uid="uid-1",
            policy="main",
            schema="public",
            table="docs",
            key_columns=("id",),
            text_columns=("title", "body"),
            target=SMALL,
            applies_plan=True,
            limits=Limits(batch_rows=8),
        )
        self.small, self.large = SMALL, LARGE
        self._write_policy()
        self.write()
        server.execute("DROP SCHEMA public CASCADE")
        server.execute("CREATE SCHEMA public")
        server.execute("CREATE EXTENSION IF NOT EXISTS vector")
        server.execute("CREATE TABLE docs (id bigint PRIMARY KEY, title text, body text)")

    @property
    def document_file(self) -> Path:
        return self.folder / names.INDEX_KEY

    @property
    def sidecar_files(self) -> tuple[str | Path, ...]:
        """A sidecar's arguments: the policy that it obeys, and its secrets."""
        return (
            *("--document", self.folder / names.DOCUMENT_KEY),
            *("--secrets", self.folder / "secrets"),
        )

    def share_cache(self, redis_url: str) -> None:
        """Have the sidecars of the policy keep vectors in one Redis."""
        secret = names.SECRET_CACHE_REDIS_URL
        (self.folder / "secrets" / secret).write_text(redis_url, encoding="utf-8")
        self.write_policy(
            dataclasses.replace(self.policy, cache=document.Cache(redis_url_file=secret))
        )

    def write(self, **changes: Any) -> None:
        """Edit the index: its document is swapped, as kubelet does."""
        self.index = dataclasses.replace(self.index, **changes)
        new = self.document_file.with_name("..new")
        new.write_text(index_document.dump(self.index), encoding="utf-8")
        new.replace(self.document_file)

    def use_dimensions(self, small: int, large: int) -> None:
        """Other sizes of the two models, in columns of the same names."""
        self.small, self.large = (
            dataclasses.replace(it, dimensions=size, space=f"{it.model}@{size}")
            for it, size in ((SMALL, small), (LARGE, large))
        )
        self._write_policy()
        self.start_sidecar()
        self.write(target=self.small)

    def _write_policy(self) -> None:
        policy = document.PolicyDocument(
            namespace="shop",
            name="main",
            providers=tuple(
                document.Provider(
                    name=it.model,
                    kind="OpenAI",
                    model=it.model,
                    base_url=f"{self.url}/v1",
                    dimensions=it.dimensions,
                    declared_space=it.space,
                    api_key_file=KEY_FILE,
                )
                for it in (self.small, self.large)
            ),
            quota=document.Quota(daily_requests=None),
        )
        self.write_policy(policy)

    def write_policy(self, policy: document.PolicyDocument) -> None:
        """What the sidecar obeys."""
        self.policy = policy
        secrets = self.folder / "secrets"
        secrets.mkdir(exist_ok=True)
        (secrets / names.SECRET_API_TOKEN).write_text(sidecar.TOKEN)
        (secrets / KEY_FILE).write_text(provider.KEY)
        new = self.folder / "..policy"
        new.write_text(document.dump(policy), encoding="utf-8")
        new.replace(self.folder / names.DOCUMENT_KEY)

    def start_sidecar(self) -> None:
        """Start one on the same port as the last."""
        old = self.sidecar
        if old is not None:
            old.process.kill()
            old.process.wait()
            old.http.close()
            old.admin.close()
        environment = {}
        if old is not None:
            environment = {
                "EMBEDDING_PORT": str(old.port),
                "EMBEDDING_ADMIN_PORT": str(old.admin_port),
            }
        self.sidecar = sidecar.Sidecar(
            *self.sidecar_files, environment=environment, log=self.folder / "sidecar.log"
        )
        if old is not None:
            # Its own choice was overridden; whoever asks it must know.
            self.sidecar.port, self.sidecar.admin_port = old.port, old.admin_port
            self.sidecar.admin.base_url = old.admin.base_url
            self.sidecar.http.base_url = old.http.base_url
        self.sidecar.wait()

    def insert(self, texts: dict[int, str | None]) -> None:
        """Put rows in; the text is the body, without a title."""
        with self.server.connect() as connection, connection.cursor() as cursor:
            cursor.executemany("INSERT INTO docs (id, body) VALUES (%s, %s)", list(texts.items()))

    def command(self, *arguments: str, asks: sidecar.Sidecar | None = None) -> list[str]:
        """A command line with this index's files; it asks the sidecar of all but for `asks`."""
        asked = asks or self.sidecar
        assert asked is not None
        name, *more = arguments
        return [
            *(str(PROGRAM), name, "--document", str(self.document_file)),
            *("--sidecar", f"http://127.0.0.1:{asked.port}"),
            *more,
        ]

    def start(
        self, *arguments: str, asks: sidecar.Sidecar | None = None
    ) -> "subprocess.Popen[str]":
        """Start a command, by default a worker whose leases are short."""
        command = arguments or ("backfill", "--lease-seconds", "5")
        report = self.folder / f"report-{len(self.workers)}"
        report.touch()
        if command[0] == "backfill":
            command = (*command, "--termination-log", str(report))
        with (self.folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                self.command(*command, asks=asks),
                env={"PATH": os.environ["PATH"], "EMBEDDING_DATABASE_DSN": self.dsn},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                text=True,
            )
        self.workers.append(worker)
        return worker

    def run(self, *arguments: str) -> int:
        """Run a command to its end; its exit code."""
        return self.start(*arguments).wait(ENDED_SECONDS)

    def report(self) -> index_report.IndexReport:
        """What the last worker left."""
        text = (self.folder / f"report-{len(self.workers) - 1}").read_text(encoding="utf-8")
        return index_report.parse(text)

    def said(self) -> str:
        """What the commands wrote."""
        return (self.folder / "worker.log").read_text(encoding="utf-8")

    def phases(self) -> dict[str, str]:
        """The phase of each target, none before the plan."""
        if not self.has_states():
            return {}
        return dict(self.server.execute("SELECT target, phase FROM embedding_target"))

    def counts(self, target: str) -> tuple[int, int, int]:
        """Rows, done and parked, as the bookkeeping counts them."""
        (row,) = self.server.execute(
            "SELECT rows, done, parked FROM embedding_target WHERE target = %s", (target,)
        )
        return row

    def true_counts(self, target: str) -> tuple[int, int, int]:
        """The same, counted."""
        (row,) = self.server.execute(
            "SELECT count(*), count(*) FILTER (WHERE state = 'done'),"
            " count(*) FILTER (WHERE state = 'parked') FROM embedding_state WHERE target = %s",
            (target,),
        )
        return row

    def has_states(self) -> bool:
        """Whether the plan has made the table of states."""
        return self.server.execute("SELECT to_regclass('embedding_state')") != [(None,)]

    def leases(self) -> list[Any]:
        """The rows that a worker holds."""
        return self.server.execute("SELECT key FROM embedding_state WHERE lease_owner IS NOT NULL")

    def wrong(self, target: Target = SMALL) -> list[Any]:
        """Rows whose vector is not that of their text in the space of the target."""
        place = (
            f"SELECT id, body, {target.column}::text FROM docs"
            if target.column
            else f"SELECT id, body, {target.table}.embedding::text FROM docs "
            f"LEFT JOIN {target.table} USING (id)"
        )
        return [
            key
            for key, body, found in self.server.execute(place)
            if _numbers(found) != (_expected(target, body) if body and body.strip() else None)
        ]

    def billed(self) -> collections.Counter[str]:
        """How often each text was sent to the provider."""
        return collections.Counter(
            text for call in self.stand_in.calls for text in call.body["input"]
        )

    def end(self) -> None:
        """End all that was started."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
                worker.wait()
        if self.sidecar is not None:
            self.sidecar.stop(signal.SIGKILL)


def _expected(target: Target, body: str) -> list[float]:
    made = provider.numbers(target.model, body, target.dimensions)
    # More than an index of float32 takes is kept as float16.
    is_half = target.dimensions > VECTOR_MOST
    return [_as_half(it) for it in made] if is_half else made


def _as_half(number: float) -> float:
    (made,) = struct.unpack("e", struct.pack("e", number))
    return float(made)


def _numbers(text: str | None) -> list[float] | None:
    """As float32, whose shortest text PostgreSQL writes."""
    if text is None:
        return None
    return array.array("f", map(float, text.strip("[]").split(","))).tolist()


@contextlib.contextmanager
def texts(folder: Path, server: postgres.Postgres, *, delay_seconds: float = 0) -> Iterator[Texts]:
    """A fresh table and its sidecar on a server."""
    stand_in = provider.StandIn(delay_seconds=delay_seconds)
    with sidecar.served(stand_in.app()) as url:
        made = Texts(folder, server, stand_in, url)
        try:
            made.start_sidecar()
            yield made
        finally:
            made.end()
