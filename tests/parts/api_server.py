"""Ending the API server of a throwaway cluster, and starting it again on the same port."""

import socket
import time
from pathlib import Path

from dev.cluster import control_plane, processes, records
from dev.cluster.api import Api


class ApiServer:
    """The kube-apiserver of the cluster of this name."""

    def __init__(self, name: str) -> None:
        record = records.load(name)
        if record is None:
            raise AssertionError(f"there is no cluster {name}")
        self._record = record
        pid = record.processes["apiserver"].pid
        command = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        self._command = [part.decode() for part in command]

    @property
    def pid(self) -> int:
        """The process that runs now."""
        return self._record.processes["apiserver"].pid

    def stop(self) -> None:
        """Kill it; every connection is cut, and its port is free."""
        processes.end([self._record.processes["apiserver"]])
        # The process counts as ended while its last threads still hold the port.
        while not self._is_port_free():
            time.sleep(0.05)

    def _is_port_free(self) -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self._record.ports["api"]))
            except OSError:
                return False
        return True

    def start(self, *options: str) -> None:
        """Start it again, with more options; wait until it is ready."""
        control_plane.launch(self._record, "apiserver", [*self._command, *options])
        control_plane.wait(self._record, "API server", Api(self._record.kubeconfig).ready)
