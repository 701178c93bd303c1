"""`make bench`: the data plane as a ratio to the raw server, on whatever machine this is."""

from tests.benchmarks import hit


def main() -> None:
    """Measure, and print a table."""
    found = hit.measure()
    raw = found[0][1].requests_per_second
    print(f"{hit.DIMENSIONS} dimensions in base64, {hit.CONNECTIONS} connections, one process")
    print(f"{'':14}{'requests/s':>12}{'of raw':>9}{'median ms':>11}{'p99 ms':>9}")
    for name, it in found:
        print(
            f"{name:14}{it.requests_per_second:12.0f}{it.requests_per_second / raw:9.0%}"
            f"{it.median_seconds * 1000:11.2f}{it.p99_seconds * 1000:9.2f}"
        )


if __name__ == "__main__":
    main()
