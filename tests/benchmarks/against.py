"""Two commits side by side: every path of the sidecar, in turns on one core.

    python -m tests.benchmarks.against COMMIT [--rounds N]

The other commit is checked out beside this one, with the packages it locks. A round measures both,
and the next one in the other order; what is printed is the middle of the rounds' ratios, of CPU
time and of requests a second, so that what else the machine does falls on both. What a miss adds
alone is the time of one request, with no other beside it, less the provider's own in that round.
RssAnon is read after all rounds; both sidecars have answered the same requests by then.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.benchmarks import load, page, paths
from tests.benchmarks.stage import MEGABYTE, ROOT, Server, Stage, request, stage, text

ROUNDS = 20
HITS, MISSES = 6000, 2000
SECTION = "against"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One path of both commits, and what each round found: CPU in microseconds, requests/s.

    With a `provider` also the microseconds that one request alone takes more than the provider.
    """

    name: str
    servers: tuple[Server, Server]
    requests: paths.Requests
    count: int
    provider: Server | None = None
    cpu: list[tuple[float, float]] = field(default_factory=list)
    speed: list[tuple[float, float]] = field(default_factory=list)
    added: list[tuple[float, float]] = field(default_factory=list)

    def measure(self, number: int) -> None:
        """One round of both; the order changes from round to round."""
        found = [(0.0, 0.0), (0.0, 0.0)]
        order = (0, 1) if number % 2 else (1, 0)
        for at in order:
            # Both are asked for the same texts: their caches are their own.
            asked, server = self.requests(number), self.servers[at]
            before = server.cpu_seconds()
            run = load.run(server.port, asked, connections=paths.CONNECTIONS, count=self.count)
            used = (server.cpu_seconds() - before) / self.count * 1e6
            found[at] = (used, run.requests_per_second)
        (old, fast), (new, faster) = found
        self.cpu.append((old, new))
        self.speed.append((fast, faster))
        if self.provider is None:
            return
        # Rounds of misses have negative numbers for nobody else.
        asked = self.requests(-1 - number)[: paths.ALONE]
        itself = _alone(self.provider, asked)
        added = [0.0, 0.0]
        for at in order:
            added[at] = _alone(self.servers[at], asked) - itself
        self.added.append((added[0], added[1]))

    def row(self) -> tuple[str, ...]:
        """Name, CPU before and now, ratio with its quartiles, that of speeds; memory; alone."""
        before, now = (f"{it.memory('RssAnon'):.1f}" for it in self.servers)
        return (
            self.name,
            *_compared(self.cpu),
            f"{median(new / old for old, new in self.speed):.3f}",
            *(before, now),
            *(_compared(self.added) if self.added else ("",) * 4),
        )


def _compared(pairs: list[tuple[float, float]]) -> tuple[str, ...]:
    """Before and now, and their ratio with its quartiles."""
    ratios = sorted(new / old for old, new in pairs)
    quarter = len(ratios) // 4
    return (
        f"{median(old for old, _ in pairs):.1f}",
        f"{median(new for _, new in pairs):.1f}",
        f"{median(ratios):.3f}",
        f"{ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f}",
    )


def _alone(server: Server, requests: Sequence[bytes]) -> float:
    """Microseconds of one request with no other beside it, the median."""
    run = load.run(server.port, requests, connections=1, count=len(requests))
    return run.median_seconds * 1e6


def main() -> None:
    """Measure both, and write the table into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.against")
    parser.add_argument("commit", help="the commit that this one is measured against")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--no-page", action="store_true", help="print only")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        _checkout(given.commit, Path(folder) / "old") as old,
        stage(Path(folder)) as on,
    ):
        ways = _paths(on, old)
        for number in range(given.rounds):
            for way in ways:
                way.measure(number)
        rows = [way.row() for way in ways]
    ratio = ("ratio", "quartiles")
    head = (
        *("path", f"CPU us, {given.commit}", "CPU us, now", *ratio, "requests/s"),
        *("RssAnon MB before", "now"),
        *("alone, added us before", "now", *ratio),
    )
    table = page.table(head, rows)
    sys.stdout.write(f"{table}\n")
    if not given.no_page:
        page.write(SECTION, table, command=f"python -m {__spec__.name} {given.commit}")


def _paths(on: Stage, old: Path) -> list[Comparison]:
    known = [request(text(number)) for number in range(paths.TEXTS)]
    checkouts = (old, ROOT)

    def both(
        *,
        warm: bool = False,
        cached: bool = False,
        counted: bool = False,
        memory_max_bytes: int = 64 * MEGABYTE,
    ) -> tuple[Server, Server]:
        made = []
        for checkout in checkouts:
            server = on.sidecar(
                checkout=checkout,
                cache_url=on.redis(keeps=False).url if cached else None,
                quota_url=on.redis(keeps=True).url if counted else None,
                memory_max_bytes=memory_max_bytes,
            )
            if warm:
                paths.warm(server, known)
            made.append(server)
        return made[0], made[1]

    in_memory = both(warm=True)
    return [
        Comparison(name="hit from memory", servers=in_memory, requests=lambda _: known, count=HITS),
        Comparison(
            name="hit from memory, no body twice",
            servers=in_memory,
            requests=lambda number: paths.unlike(number, HITS),
            count=HITS,
        ),
        Comparison(
            name="hit from memory, no head twice",
            servers=in_memory,
            requests=lambda number: paths.traced(known, number, HITS),
            count=HITS,
        ),
        Comparison(
            name="hit from Redis",
            servers=both(warm=True, cached=True, memory_max_bytes=0),
            requests=lambda _: known,
            count=HITS,
        ),
        Comparison(
            name="miss, memory only",
            servers=both(),
            requests=paths.fresh("alone", MISSES),
            count=MISSES,
            provider=on.vendor,
        ),
        Comparison(
            name="miss, Redis and quota",
            servers=both(cached=True, counted=True),
            requests=paths.fresh("full", MISSES),
            count=MISSES,
            provider=on.vendor,
        ),
    ]


@contextlib.contextmanager
def _checkout(commit: str, folder: Path) -> Iterator[Path]:
    _run("git", "worktree", "add", "--quiet", "--detach", str(folder), commit)
    try:
        _run("make", "--silent", "-C", str(folder), "tools")
        yield folder
    finally:
        _run("git", "worktree", "remove", "--force", str(folder))


def _run(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
