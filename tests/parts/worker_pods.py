"""Workers with a sidecar each, as pods have them: both begin together, and are killed together."""

import contextlib
import signal
from collections.abc import Iterator

from tests.parts import filling, sidecar

LEASE_SECONDS = 8


class WorkerPod:
    """One worker and the sidecar that it alone asks."""

    def __init__(self, texts: filling.Texts) -> None:
        self._texts = texts
        self._sidecar = sidecar.Sidecar(
            *texts.sidecar_files, environment={}, log=texts.folder / "sidecars-of-workers.log"
        )
        try:
            self._sidecar.wait()
        except AssertionError:
            self._sidecar.stop(signal.SIGKILL)
            raise
        lease = ("--lease-seconds", str(LEASE_SECONDS))
        self._worker = texts.start("backfill", *lease, asks=self._sidecar)

    def kill(self) -> None:
        """Kill both while the worker has work to do."""
        assert self._worker.poll() is None, self._texts.said()
        self.stop()

    def ended(self) -> int:
        """Wait for the worker's end; its exit code."""
        return self._worker.wait(filling.ENDED_SECONDS)

    def stop(self) -> None:
        """End what is left of both."""
        # Both signals before either is awaited: one must not outlive the other by a write.
        self._worker.kill()
        self._sidecar.process.kill()
        self._worker.wait()
        self._sidecar.stop()


class WorkerPods:
    """Pods of one index; one that is killed can be replaced."""

    def __init__(self, texts: filling.Texts) -> None:
        self._texts = texts
        self._pods: list[WorkerPod] = []

    def start(self) -> None:
        """Start one more."""
        self._pods.append(WorkerPod(self._texts))

    def kill(self, victim: int) -> None:
        """Kill one, worker and sidecar."""
        self._pods[victim].kill()

    def replace(self, victim: int) -> None:
        """Start one in the place of the killed."""
        self._pods[victim] = WorkerPod(self._texts)

    def ended(self) -> list[int]:
        """Wait for the workers' ends; their exit codes."""
        return [it.ended() for it in self._pods]

    def stop(self) -> None:
        """End them all."""
        for pod in self._pods:
            pod.stop()


@contextlib.contextmanager
def running(texts: filling.Texts, *, count: int) -> Iterator[WorkerPods]:
    """So many pods, ended afterwards."""
    pods = WorkerPods(texts)
    try:
        for _ in range(count):
            pods.start()
        yield pods
    finally:
        pods.stop()
