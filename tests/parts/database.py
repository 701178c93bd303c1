"""PostgreSQL beside a node, which pods reach by a Service and with a password.

It lives as the other parts do, until the folder's programs are ended.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from dev.cluster.networks import in_url
from tests.parts import daemons, postgres

PORT = 5432
WORKER = "embedding"
_LINK = "postgres"
_AS_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


class Database:
    """The server of one folder. `host` is the address at which pods reach this machine."""

    def __init__(self, started: daemons.Daemons, *, host: str) -> None:
        self._daemons = started
        self._host = host
        self._link = started.folder / _LINK

    def start(self) -> None:
        """Start it; its files are made where there are none."""
        if not self._link.exists():
            self._make()
        self._daemons.start(
            "postgres",
            [
                *_AS_NOBODY,
                postgres.PROGRAMS / "postgres",
                *("-D", self._link.resolve() / "data", "-h", self._host, "-p", str(PORT)),
                *("-k", "", "-c", "fsync=off"),
            ],
            ready=self._answers,
        )

    def stop(self) -> None:
        """End it; connections to it are refused."""
        self._daemons.stop("postgres")

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A connection of the superuser that commits each statement."""
        return psycopg.connect(
            f"postgresql://postgres@{in_url(self._host)}:{PORT}/{database}",
            autocommit=True,
            connect_timeout=5,
        )

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run what a test says; the rows of the last statement, none where it returns none."""
        with self.connect(database) as connection:
            ran = connection.execute(statement.encode())
            return ran.fetchall() if ran.description else []

    def _make(self) -> None:
        # Not below a folder of tests, which nobody else may enter.
        folder = Path(tempfile.mkdtemp(prefix="embedding-postgres-"))
        postgres.initialize(folder, folder / "data")
        rules = "host all postgres samehost trust\nhost all all all scram-sha-256\n"
        (folder / "data" / "pg_hba.conf").write_text(rules, encoding="utf-8")
        self._link.symlink_to(folder)

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


def remove(folder: Path) -> None:
    """Delete the server's files, which lie elsewhere."""
    link = folder / _LINK
    if link.is_symlink():
        shutil.rmtree(link.resolve(), ignore_errors=True)
        link.unlink()
