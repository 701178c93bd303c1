"""`make bench`: the data plane as ratios to the raw server, on whatever machine this is.

python -m tests.benchmarks [--long] [--no-page]
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from embedding_sidecar import memory_limit
from tests.benchmarks import batches, chart, footprint, page, paths
from tests.benchmarks.stage import stage


def main() -> None:
    """Measure, print tables, and write them to docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--long", action="store_true", help="a million requests, for memory")
    parser.add_argument("--no-page", action="store_true", help="print only")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as on:
        ways = paths.measure(on)
        _show(of_paths(ways))
        mixed, costs = batches.mixed(on), batches.costs(on)
        _show(of_batches(mixed, costs))
        found = footprint.measure(on, long=given.long)
        _show(of_footprint(found))
    if given.no_page:
        return
    pictures = ("![paths](benchmarks-paths.svg)", "![batches](benchmarks-batches.svg)")
    text = "\n\n".join((of_paths(ways), of_batches(mixed, costs), of_footprint(found), *pictures))
    page.write("bench", text, command="make bench")
    ceiling = ways[0]
    page.draw(
        "paths",
        chart.bars(
            "Requests a second, as a part of the ceiling's; the mark is the aim",
            [(way.name, median(way.ratios(ceiling)), way.aim) for way in ways],
        ),
    )
    by_batch = [(it.batch, it.microseconds) for it in costs[: len(batches.SIZES)]]
    page.draw(
        "batches",
        chart.line(
            "What a hit costs: microseconds for each item, by batch size",
            by_batch,
            across="items in a batch",
            up="us for each item",
        ),
    )


def of_paths(ways: Sequence[paths.Path]) -> str:
    """The table of hit and miss paths."""
    ceiling, provider = ways[0], ways[-1]
    rows = []
    for way in ways:
        ratios = way.ratios(ceiling)
        added = way.added_ms(provider) if way.aim_added_ms else []
        rows.append(
            (
                way.name,
                f"{way.per_second():.0f}",
                f"{median(ratios):.2f}",
                f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
                "" if way.aim is None else f"{way.aim:.2f}",
                f"{median(way.cpu_microseconds):.0f}",
                f"{median(it.p99_seconds for it in way.rounds) * 1000:.1f}",
                f"{median(added):.2f}" if added else "",
                f"{added[0]:.2f} to {added[-1]:.2f}" if added else "",
                "" if way.aim_added_ms is None else f"{way.aim_added_ms:.1f}",
                f"{median(it.load_share for it in way.rounds):.0%}",
            )
        )
    head = (
        *("path", "requests/s", "of ceiling", "spread", "aim", "CPU us", "p99 ms"),
        *("alone, added ms", "spread", "aim", "load's core"),
    )
    return page.table(head, rows)


def of_batches(mixed: batches.Mixed, costs: Sequence[batches.Cost]) -> str:
    """What batches cost."""
    rows = [
        (f"batch of {it.batch}, {it.dimensions} numbers", f"{it.microseconds:.1f}") for it in costs
    ]
    return (
        f"A batch of {batches.ITEMS} with {batches.CACHED} in Redis and none in memory: "
        f"{mixed.redis_reads:.2f} reads of Redis, {mixed.calls:.2f} calls to the provider for "
        f"{mixed.bought:.2f} items; {mixed.items_per_second:.0f} items a second, one batch at a "
        f"time.\n\n" + page.table(("hit from memory", "us for each item"), rows)
    )


def of_footprint(found: footprint.Footprint) -> str:
    """What a sidecar takes of its pod."""
    grown = "not measured (--long)" if found.grown_mb is None else f"{found.grown_mb:+.1f}"
    rows = (
        ("RssAnon at rest, Redis in use, MB", f"{found.idle_anon_mb:.1f}", "64"),
        (f"RSS after {footprint.SHORT:,} hits, MB", f"{found.rss_after_short_mb:.1f}", ""),
        (f"RSS after {footprint.LONG:,} hits, MB more", grown, "2"),
        (
            f"RSS at most, {paths.CONNECTIONS} callers with batches of {footprint.BATCH} new, MB",
            f"{found.most_mb:.1f}",
            f"{memory_limit.DEFAULT_BYTES // 2**20}",
        ),
        (
            f"the same with batches of {footprint.LARGEST} new, kept in Redis too, MB",
            f"{found.largest_mb:.1f}",
            f"{memory_limit.DEFAULT_BYTES // 2**20}",
        ),
        ("start to ready, s", f"{found.ready_seconds:.2f}", "1"),
    )
    return page.table(("footprint", "found", "aim, at most"), rows)


def _show(text: str) -> None:
    sys.stdout.write(f"{text}\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
