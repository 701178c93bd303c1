"""`make bench-clients`: HTTP clients side by side, in front of the same provider, in one run.

Each stands in a bare proxy that has the core under test to itself in its turn; the ceiling is that
proxy without a call. See decision 015.

python -m tests.benchmarks.clients
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.benchmarks import load, page, peers, proxy, vendor
from tests.benchmarks.stage import Server, Stage, request, stage, text
from tests.parts import ports

PYREQWEST = "0.15.1"
ROUNDS = 3
CONNECTIONS = 32
COUNT = 6000
ALONE = 1000
CEILING, PROVIDER = "ceiling: no call", "the provider itself"


@dataclass(slots=True, kw_only=True)
class Row:
    """Who is asked, and what was found in each round, at once and one after the other."""

    name: str
    server: Server
    rounds: list[load.Measured] = field(default_factory=list)
    cpu_microseconds: list[float] = field(default_factory=list)
    alone: list[load.Measured] = field(default_factory=list)


def main() -> None:
    """Install, measure, print."""
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as on:
        rows = contestants(on)
        for _ in range(ROUNDS):
            for row in rows:
                measure(row)
    sys.stdout.write(f"{table(rows)}\n")


def contestants(on: Stage) -> list[Row]:
    """The ceiling, each client, and the provider last."""
    size = len(vendor.answer(1, vendor.DIMENSIONS, "base64"))
    # A lighter one than `vendor`, so that it and the load are not what is measured.
    answering = on.bare(answer_bytes=size)
    os.sched_setaffinity(answering.pid, on.others)
    url = f"http://127.0.0.1:{answering.port}/v1/embeddings"
    environment = {**os.environ, "PYTHONPATH": str(_pyreqwest())}
    rows = [Row(name=CEILING, server=on.bare(answer_bytes=size))]
    for name in proxy.CLIENTS:
        port = ports.free()
        command = (
            *(sys.executable, "-m", "tests.benchmarks.proxy", "--port", str(port)),
            *("--url", url, "--client", name),
        )
        started = on.start(command, port=port, cores=on.tested, environment=environment)
        rows.append(Row(name=name, server=started))
    return [*rows, Row(name=PROVIDER, server=answering)]


def measure(row: Row) -> None:
    """One round."""
    requests = [request(text(number)) for number in range(200)]
    before = row.server.cpu_seconds()
    row.rounds.append(load.run(row.server.port, requests, connections=CONNECTIONS, count=COUNT))
    row.cpu_microseconds.append((row.server.cpu_seconds() - before) / COUNT * 1e6)
    row.alone.append(load.run(row.server.port, requests, connections=1, count=ALONE))


def table(rows: Sequence[Row]) -> str:
    """Each client as a ratio to the ceiling; what a call costs beside it, and alone."""
    ceiling, provider = rows[0], rows[-1]
    shown = []
    for row in rows:
        pairs = zip(row.rounds, ceiling.rounds, strict=True)
        ratios = sorted(it.requests_per_second / top.requests_per_second for it, top in pairs)
        cpu = median(row.cpu_microseconds)
        is_client = row not in (ceiling, provider)
        added = median(it.median_seconds for it in row.alone) - median(
            it.median_seconds for it in provider.alone
        )
        shown.append(
            (
                row.name,
                f"{median(it.requests_per_second for it in row.rounds):.0f}",
                f"{median(ratios):.3f}",
                f"{ratios[0]:.3f} to {ratios[-1]:.3f}",
                f"{cpu:.0f}",
                f"{cpu - median(ceiling.cpu_microseconds):.0f}" if is_client else "",
                f"{added * 1000:.2f}" if is_client else "",
            )
        )
    head = (
        *("client in a bare proxy", "requests/s", "of ceiling", "spread"),
        *("CPU us", "of them the call", "alone, added ms"),
    )
    return page.table(head, shown)


def _pyreqwest() -> Path:
    """Where it is installed, apart from all that is ours."""
    home = peers.HOME / f"pyreqwest-{PYREQWEST}"
    if not home.exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True, timeout=60)
        pip = home / "bin" / "pip"
        wanted = f"pyreqwest=={PYREQWEST}"
        subprocess.run([pip, "install", "--quiet", wanted], check=True, timeout=600)
    (packages,) = home.glob("lib/python*/site-packages")
    return packages


if __name__ == "__main__":
    main()
