"""`embedding-operator run` that takes a watch for silent after fewer seconds than the product.

    python -m tests.parts.impatient_operator SECONDS

A bookmark comes once a minute, so kinds that do not change are listed again and again.
"""

import sys

from embedding_operator import __main__
from embedding_operator.informers import reflector


def main() -> int:
    reflector.SILENT_SECONDS = float(sys.argv.pop(1))  # type: ignore[misc]
    sys.argv.append("run")
    return __main__.main()


if __name__ == "__main__":
    sys.exit(main())
