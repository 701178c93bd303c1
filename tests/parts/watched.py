"""`embedding-sidecar` as it is, which on SIGUSR1 also writes its asyncio tasks to its log."""

import asyncio
import signal
import sys
from unittest import mock

import uvloop

from embedding_sidecar import __main__ as program

MARK = "tasks: "


def _say() -> None:
    coroutines = (task.get_coro() for task in asyncio.all_tasks())
    names = sorted(getattr(it, "__qualname__", "?") for it in coroutines)
    sys.stderr.write(f"{MARK}{' '.join(names)}\n")
    sys.stderr.flush()


def main() -> int:
    """Run it."""
    made = uvloop.new_event_loop

    def watched() -> uvloop.Loop:
        loop = made()
        loop.add_signal_handler(signal.SIGUSR1, _say)
        return loop

    with mock.patch.object(uvloop, "new_event_loop", watched):
        return program.main()


if __name__ == "__main__":
    sys.exit(main())
