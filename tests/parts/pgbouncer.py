"""A real pgbouncer in transaction mode before a PostgreSQL."""

import os
import subprocess
from pathlib import Path

from dev import cluster
from tests.parts import daemons, ports
from tests.parts.postgres import Postgres
from tests.parts.sidecar import wait_until

ENDED_SECONDS = 10


class PgBouncer:
    """Gives a server connection to each transaction, `pool_size` of them at most."""

    def __init__(self, folder: Path, server: Postgres, *, pool_size: int = 2) -> None:
        self._folder = folder
        self.port = ports.free()
        self._settings = "\n".join(
            (
                "[databases]",
                f"* = host=127.0.0.1 port={server.port} user=postgres",
                "[pgbouncer]",
                "listen_addr = 127.0.0.1",
                f"listen_port = {self.port}",
                "unix_socket_dir =",
                "auth_type = any",
                "pool_mode = transaction",
                f"default_pool_size = {pool_size}",
                "max_client_conn = 100",
                "",
            )
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def dsn(self) -> str:
        """A connection string; each user is the superuser."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(self._settings, encoding="utf-8")
        # It does not run as root.
        user = ("-u", "nobody") if os.geteuid() == 0 else ()
        with (self._folder / "pgbouncer.log").open("ab") as log:
            self._process = subprocess.Popen(
                [cluster.artifact("pgbouncer"), *user, settings],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        wait_until(daemons.answers("127.0.0.1", self.port))

    def stop(self) -> None:
        """End it at once, connections and all."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(ENDED_SECONDS)
