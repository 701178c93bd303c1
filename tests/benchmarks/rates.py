"""Limits per minute beside the same sidecar without them: the cost of a miss, in turns on one core.

    python -m tests.benchmarks.rates [--rounds N]

Both count the day in Redis. The limits are never reached, so nothing waits.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from embedding_contract import provider_terms
from tests.benchmarks import page, paths
from tests.benchmarks.against import MISSES, ROUNDS, Comparison
from tests.benchmarks.stage import Stage, stage

HEAD = ("miss with", "CPU us without", "CPU us with", "ratio", "quartiles", "requests/s")
FAR = 10**9
RATES = {
    "requests per minute": provider_terms.Rate(requests_per_minute=FAR),
    "requests and tokens per minute": provider_terms.Rate(
        requests_per_minute=FAR, tokens_per_minute=FAR
    ),
}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rates")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as on:
        ways = [_compared(on, name, rate) for name, rate in RATES.items()]
        for number in range(given.rounds):
            for way in ways:
                way.measure(number)
        # Of servers that still run: a row has their memory, too.
        rows = [way.row()[: len(HEAD)] for way in ways]
    sys.stdout.write(f"{page.table(HEAD, rows)}\n")


def _compared(on: Stage, name: str, rate: provider_terms.Rate) -> Comparison:
    without, limited = (
        on.sidecar(
            cache_url=on.redis(keeps=False).url, quota_url=on.redis(keeps=True).url, rate=found
        )
        for found in (provider_terms.NO_RATE, rate)
    )
    return Comparison(
        name=name,
        servers=(without, limited),
        requests=paths.fresh(name.replace(" ", "-"), MISSES),
        count=MISSES,
    )


if __name__ == "__main__":
    main()
