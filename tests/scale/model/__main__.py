"""`python -m tests.scale.model`: measure the sizes that the model is fitted to and checked at.

python -m tests.scale.model [NAME...] [--keep]

Names are `redis`, `sidecars` and `pods-N`; without one all run. `--keep` writes the values into
`tests/scale/results` and docs/scale.md.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from dev.cluster import cache
from tests.scale import __main__ as scale
from tests.scale import generator, leftovers, machine, page, ranges
from tests.scale.model import asking, caching, calling, counting, parts, section
from tests.scale.model.quantities import QUANTITIES

Measured = dict[str, dict[int, float]]


def _redis() -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        return counting.measure(Path(folder)) | caching.measure(Path(folder))


def _sidecars() -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        return calling.measure(Path(folder))


def _pods(wanted: generator.Generator) -> Measured:
    with leftovers.run_folder() as folder:
        return asking.measure(wanted, folder)


SIZES: Final = QUANTITIES["editAsks"].sizes
PARTS: Final[Mapping[str, Callable[[], Measured]]] = {
    "redis": _redis,
    "sidecars": _sidecars,
    **{it.name: partial(_pods, it) for it in map(asking.generator_of, SIZES)},
}


def main() -> int:
    """Measure, and print the section of the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.model")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--keep", action="store_true", help="write the values and docs/scale.md")
    given = parser.parse_args()
    for name in given.names:
        if name not in PARTS:
            parser.error(f"{name} is no part; there are {', '.join(PARTS)}")
    here = machine.seen(cache.folder())
    for wanted in map(asking.generator_of, SIZES):
        if not given.names or wanted.name in given.names:
            try:
                machine.check(wanted, here)
            except machine.TooLargeError as error:
                parser.error(str(error))
    # By default a SIGTERM ends Python where it stands, and what it has started goes on.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    for name in given.names or PARTS:
        load = os.getloadavg()[0]
        part = parts.Part(
            name=name,
            machine=str(here),
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            commit=scale.commit(),
            load=load,
            values=PARTS[name](),
        )
        print(section.checks([part]), flush=True)
        if given.keep:
            parts.write(part)
            page.write(ranges.read())
    return 0


if __name__ == "__main__":
    sys.exit(main())
