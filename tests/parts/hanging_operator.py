"""`embedding-operator run` with a bug: a reconcile hangs for as long as a file is there.

    python -m tests.parts.hanging_operator FILE

No fault of what a reconcile asks makes it hang: each of its calls has a deadline.
"""

import sys
import time
from pathlib import Path

from embedding_operator import __main__
from embedding_operator.controller.reconciler import Reconciler
from embedding_operator.kube.kinds import ObjectKey

LOOK_SECONDS = 0.2


def main() -> int:
    hangs = Path(sys.argv.pop(1))
    sys.argv.append("run")
    reconciled = Reconciler.__call__

    def hang(reconciler: Reconciler, key: ObjectKey) -> float | None:
        while hangs.exists():
            time.sleep(LOOK_SECONDS)
        return reconciled(reconciler, key)

    Reconciler.__call__ = hang  # type: ignore[method-assign, assignment]
    return __main__.main()


if __name__ == "__main__":
    sys.exit(main())
