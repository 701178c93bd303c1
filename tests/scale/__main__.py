"""`make scale`: runs of many policies on a real control plane, beside a bare client.

python -m tests.scale [NAME...] [--rounds N] [--keep]
python -m tests.scale --page

Without NAME every generator of `tests/scale/*.yaml` runs. `--keep` writes the results into
`tests/scale/results` and docs/scale.md; `--page` writes the page from what was kept. The exit
status is 1 where a range was not kept.
"""

import argparse
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dev.cluster import cache
from tests.scale import generator, leftovers, machine, page, ranges, results, rounds
from tests.scale.figures import Result

INVALID: Final = 2


def main() -> int:
    """Check every file and the machine first, then run."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, help="in place of those of the files")
    parser.add_argument("--keep", action="store_true", help="write the results and docs/scale.md")
    parser.add_argument("--page", action="store_true", help="run nothing; write docs/scale.md")
    given = parser.parse_args()
    try:
        allowed = ranges.read()
        if given.page:
            page.write(allowed)
            return 0
        wanted = [generator.named(name) for name in given.names or generator.names()]
        if given.rounds is not None:
            wanted = [replace(it, rounds=given.rounds) for it in wanted]
        for it in wanted:
            machine.check(it, _machine())
    except (
        generator.InvalidGeneratorError,
        ranges.InvalidRangesError,
        machine.TooLargeError,
    ) as error:
        print(error, file=sys.stderr)
        return INVALID
    # By default a SIGTERM ends Python where it stands, and what it has started goes on.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    breaches = []
    for it in wanted:
        result = run(it)
        print(page.tables([result], allowed), flush=True)
        breaches += [
            found for one in allowed.get(it.name, ()) if (found := one.breach(result)) is not None
        ]
        if given.keep:
            results.write(result)
            page.write(allowed)
    for breach in breaches:
        print(breach, file=sys.stderr)
    return 1 if breaches else 0


def run(wanted: generator.Generator) -> Result:
    """All rounds of a generator."""
    here = _machine()
    done = []
    for number in range(wanted.rounds):
        print(f"{wanted.name}, round {number + 1} of {wanted.rounds}", file=sys.stderr, flush=True)
        with leftovers.run_folder() as folder:
            done.append(rounds.measure(wanted, folder))
    return Result(
        generator=wanted,
        machine=str(here),
        cores=here.cores,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        commit=commit(),
        rounds=tuple(done),
    )


def _machine() -> machine.Machine:
    return machine.seen(cache.folder())


def commit() -> str:
    """The commit that runs, as short as git gives it."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
