"""The operator as a process that is forked, in which its modules are imported already.

It starts in a fraction of the time, for tests that start it again and again.
"""

import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kubernetes.config import kube_config

from embedding_operator import __main__
from tests.parts import operating

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

READY_SECONDS = 60
_TELLING_SECONDS = 1
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


class ForkedOperator(operating.Operator):
    """As `operating.Operator`; the logs of all its processes are in one file."""

    _process: "ForkServerProcess | None" = None

    def start(self) -> None:
        """Start it and wait until it watches."""
        arguments = (self.environment, self._log)
        self._process = _CONTEXT.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        deadline = time.monotonic() + READY_SECONDS
        while not self.healthy():
            assert self.is_running(), self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def stop(self) -> None:
        """End it without a word, as a node that fails would."""
        if self._process is not None:
            self.kill()
            self.await_end()

    def kill(self) -> None:
        """Have it end, from any thread; the one that started it awaits the end."""
        assert self._process is not None
        self._process.kill()

    def await_end(self) -> None:
        """Wait until its process has ended, in the thread that started it."""
        assert self._process is not None
        self._process.join()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def state(self) -> str:
        """Its process, for a test that has failed."""
        return str(self._process)

    def tell_threads(self) -> None:
        """Have it say in its log where each of its threads is."""
        if self.is_running():
            self.signal(signal.SIGUSR1)
            time.sleep(_TELLING_SECONDS)  # it does not say when it has

    def is_running(self) -> bool:
        """Whether its process has not ended."""
        return self._process is not None and self._process.is_alive()

    def log(self) -> str:
        """All it has said."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return Path(self.environment["HOME"]) / "operator.log"


def _run(environment: Mapping[str, str], log: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    faulthandler.register(signal.SIGUSR1)
    # It reads the variable as it is imported.
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = environment["KUBECONFIG"]
    sys.argv = ["embedding-operator", "run"]
    os._exit(__main__.main())  # as its own interpreter would, whatever threads are left
