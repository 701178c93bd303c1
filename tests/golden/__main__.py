"""`python -m tests.golden`: write the golden files anew, from the product as it is now."""

import sys

from tests.golden import (
    chart,
    conditions,
    documents,
    held,
    metrics,
    redis_keys,
    resource,
    shared_names,
    wire,
)

KINDS = (chart, conditions, documents, metrics, redis_keys, resource, shared_names, wire)


def main() -> int:
    """Write what changed and name it; the exit code."""
    for name in held.write(kind.texts for kind in KINDS):
        print(f"wrote tests/golden/files/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
