"""Toxiproxy before a real Redis or Vault, and its toxics as data, of which `TABLE` has all."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

from dev import cluster
from tests.parts import daemons, ports, sidecar

DOWN: Final = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic:
    """A harm to the bytes of all connections; `kind` and `attributes` are toxiproxy's.

    Under one that `is_passable` all requests still get their answers, only later.
    """

    name: str
    kind: str
    attributes: Mapping[str, int] = field(default_factory=dict)
    is_passable: bool = False


TABLE: Final = (
    Toxic(
        name="slow",
        kind="latency",
        attributes={"latency": 100, "jitter": 50},
        is_passable=True,
    ),
    Toxic(name="narrow", kind="bandwidth", attributes={"rate": 16}, is_passable=True),
    Toxic(
        name="in small pieces",
        kind="slicer",
        attributes={"average_size": 32, "size_variation": 16, "delay": 1_000},
        is_passable=True,
    ),
    Toxic(name="closed late", kind="slow_close", attributes={"delay": 500}, is_passable=True),
    Toxic(name="half a body", kind="limit_data", attributes={"bytes": 150}),
    Toxic(name="reset", kind="reset_peer", attributes={"timeout": 0}),
    Toxic(name="silent", kind="timeout", attributes={"timeout": 0}),
    Toxic(name="refused", kind=DOWN),
)


class Way:
    """A proxy of toxiproxy before a port of this machine."""

    def __init__(self, api: httpx2.Client, name: str, upstream: int) -> None:
        self._api = api
        self._path = f"/proxies/{name}"
        self.port = ports.free()
        self._ask(
            "POST",
            "/proxies",
            name=name,
            listen=f"127.0.0.1:{self.port}",
            upstream=f"127.0.0.1:{upstream}",
            enabled=True,
        )

    def harm(self, toxic: Toxic) -> None:
        """Harm what comes back, until healed."""
        if toxic.kind == DOWN:
            self._ask("POST", self._path, enabled=False)
            return
        self._ask(
            "POST",
            f"{self._path}/toxics",
            name="harm",
            type=toxic.kind,
            stream="downstream",
            attributes=dict(toxic.attributes),
        )

    def heal(self) -> None:
        """Pass everything on again; connections that were harmed may be ended."""
        self._ask("POST", "/reset")

    def _ask(self, method: str, path: str, **body: Any) -> None:
        self._api.request(method, path, json=body).raise_for_status()


@contextmanager
def toxiproxy() -> Iterator[httpx2.Client]:
    """A server for a while: the client of its API, which `Way` takes."""
    port = ports.free()
    command = [str(cluster.artifact("toxiproxy")), "-host", "127.0.0.1", "-port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        sidecar.wait_until(daemons.answers("127.0.0.1", port))
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as api:
            yield api
    finally:
        process.kill()
        process.wait()
