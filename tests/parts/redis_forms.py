"""Redis in each form it is run in, as real processes on loopback."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis

from embedding_operator.injection import certificates
from tests.parts import ports, redis_programs, sidecar

PASSWORD = "a-password-of-the-tests"
SERVICE = "embeddings"
NODES = 6
"""Three with keys, and one more for each that takes its place."""
_FAILOVER_MILLISECONDS = "1000"


class Server:
    """One redis-server process, or a Sentinel; it can be killed, stopped, continued."""

    def __init__(
        self, folder: Path, *arguments: str, file: Sequence[str] = (), sentinel: bool = False
    ) -> None:
        self.port = ports.free()
        folder.mkdir(parents=True, exist_ok=True)
        # A Sentinel writes into its file what it learns.
        settings = folder / "redis.conf"
        settings.write_text("".join(f"{line}\n" for line in file), encoding="ascii")
        nothing_on_disk = ["--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [
                *(redis_programs.server(), settings),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder),
                *(["--sentinel"] if sentinel else nothing_on_disk),
                *arguments,
            ],
            stdout=subprocess.DEVNULL,
        )

    def client(self, **options: Any) -> redis.Redis:
        """A plain client of this very process."""
        return redis.Redis(port=self.port, **options)

    def wait(self, **options: Any) -> "Server":
        """Until it answers."""

        def answers() -> bool:
            try:
                with self.client(**options) as asked:
                    return bool(asked.ping())
            except redis.ConnectionError:
                return False

        sidecar.wait_until(answers)
        return self

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait()


class Cluster:
    """Three nodes with a third of the slots each, and a replica of each."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [
            Server(
                folder / str(number),
                *("--cluster-enabled", "yes", "--cluster-port", str(ports.free())),
                *("--cluster-node-timeout", _FAILOVER_MILLISECONDS),
                *("--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0"),
            )
            for number in range(NODES)
        ]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{hosts}"

    def join(self) -> "Cluster":
        """Until every node knows of every slot and has its replica."""
        for node in self.nodes:
            node.wait()
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        subprocess.run(
            [
                redis_programs.cli(),
                *("--cluster", "create", *addresses),
                *("--cluster-replicas", "1", "--cluster-yes"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        sidecar.wait_until(lambda: all(self._is_whole(node) for node in self.nodes))
        return self

    def primaries(self) -> list[Server]:
        """The nodes that have slots now."""
        return [node for node in self.nodes if _role(node) == "master"]

    def holder(self, key: str) -> Server:
        """The node that has this key."""
        for node in self.primaries():
            with node.client() as asked:
                try:
                    asked.exists(key)
                except redis.RedisError:
                    continue
                return node
        raise AssertionError(f"nobody has {key}")

    def kill(self) -> None:
        """End all of them."""
        for node in self.nodes:
            node.kill()

    def _is_whole(self, node: Server) -> bool:
        with node.client() as asked:
            info = asked.execute_command("CLUSTER INFO")
            replication = asked.info("replication")
        followed = replication.get("connected_slaves", 0) == 1
        follows = replication.get("master_link_status") == "up"
        return bool(info["cluster_state"] == "ok" and (followed or follows))


class Sentinels:
    """A server, its replica, and three Sentinels that watch them."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.first = Server(folder / "first", *arguments).wait()
        self.second = Server(
            folder / "second", "--replicaof", "127.0.0.1", str(self.first.port), *arguments
        ).wait()
        watch = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.first.port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {_FAILOVER_MILLISECONDS}",
            f"sentinel failover-timeout {SERVICE} 5000",
        ]
        self.sentinels = [
            Server(folder / f"sentinel-{number}", file=watch, sentinel=True).wait()
            for number in range(3)
        ]
        sidecar.wait_until(lambda: all(self._sees_all(it) for it in self.sentinels))

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{it.port}" for it in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def kill(self) -> None:
        """End all of them."""
        for server in (self.first, self.second, *self.sentinels):
            server.kill()

    def _sees_all(self, sentinel: Server) -> bool:
        with sentinel.client() as asked:
            state = asked.sentinel_master(SERVICE)
        return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)


class Encrypted:
    """A server that speaks TLS alone, under an authority that nobody else knows.

    As a Cluster it is the one node; as Sentinels one that watches it.
    """

    def __init__(self, folder: Path, *, form: str = "server") -> None:
        made = certificates.issue(None, hosts=("localhost",), now=datetime.now(UTC))
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = folder / "authority.pem"
        self.authority.write_bytes(made.authority)
        (folder / "certificate.pem").write_bytes(made.certificate)
        (folder / "key.pem").write_bytes(made.key)
        self._folder = folder
        self._servers: list[Server] = []
        port = self._start("cluster" if form == "cluster" else "server")
        self.url = f"rediss://localhost:{port}/0?ssl_ca_certs={self.authority}"
        if form == "cluster":
            self.url = self.url.replace("rediss", "rediss+cluster")
            with self._servers[0].client() as asked:
                asked.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
                sidecar.wait_until(
                    lambda: asked.execute_command("CLUSTER INFO")["cluster_state"] == "ok"
                )
        if form == "sentinel":
            watching = self._start("sentinel", f"sentinel monitor {SERVICE} 127.0.0.1 {port} 1")
            self.url = (
                f"rediss+sentinel://localhost:{watching}/{SERVICE}/0?ssl_ca_certs={self.authority}"
            )
        self.by_number = self.url.replace("localhost", "127.0.0.1")

    def _start(self, name: str, *file: str) -> int:
        port = ports.free()
        options = ["--tls-port", str(port), "--tls-auth-clients", "no", "--tls-replication", "yes"]
        options += ["--tls-ca-cert-file", str(self.authority)]
        for what, path in (("cert", "certificate"), ("key", "key")):
            options += [f"--tls-{what}-file", str(self._folder / f"{path}.pem")]
        if name == "cluster":
            options += ["--cluster-enabled", "yes", "--cluster-port", str(ports.free())]
            options += ["--tls-cluster", "yes"]
        server = Server(
            self._folder / name, *options, file=file, sentinel=name == "sentinel"
        ).wait()
        self._servers.append(server)
        return port

    def kill(self) -> None:
        """End what was started."""
        for server in self._servers:
            server.kill()


@contextmanager
def running(folder: Path, form: str) -> Iterator[str]:
    """A Redis of this form; its URL."""
    with ExitStack() as stack:
        if form == "cluster":
            made = Cluster(folder)
            stack.callback(made.kill)
            yield made.join().url
        elif form == "sentinel":
            watched = Sentinels(folder)
            stack.callback(watched.kill)
            yield watched.url
        elif form == "tls":
            encrypted = Encrypted(folder)
            stack.callback(encrypted.kill)
            yield encrypted.url
        elif form == "socket":
            socket = folder / "redis.sock"
            server = Server(folder, "--unixsocket", str(socket)).wait()
            stack.callback(server.kill)
            yield f"unix://{socket}?db=0"
        else:
            users = [f"user shop on >{PASSWORD} ~* &* +@all", f"requirepass {PASSWORD}"]
            server = Server(folder, file=users)
            stack.callback(server.kill)
            server.wait(password=PASSWORD)
            yield f"redis://shop:{PASSWORD}@127.0.0.1:{server.port}/3"


def _role(node: Server) -> str:
    try:
        with node.client() as asked:
            return str(asked.role()[0].decode())
    except redis.ConnectionError:
        return "gone"
