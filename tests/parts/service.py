"""A Service before replicas of the charted operator, and the kubelet that keeps them running."""

import threading
from collections.abc import Sequence
from typing import Final

from tests.parts.balancer import Balancer
from tests.parts.charted import Replica

PERIOD_SECONDS: Final = 0.5


class Service:
    """Leads reviews to the replicas that are ready, and keeps all running, until it is closed."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self._leads_to: tuple[Replica, ...] = ()
        self._balancer = Balancer()
        self.port = self._balancer.port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def is_sound(self) -> bool:
        """True if it leads to some replica, and each that it leads to is ready this moment."""
        return bool(self.sound())

    def sound(self) -> tuple[Replica, ...]:
        """The replicas that it leads to; none if one of them is not ready this moment."""
        leads_to = self._leads_to
        return leads_to if all(it.is_ready() for it in leads_to) else ()

    def close(self) -> None:
        """End it, and the replicas."""
        self._ended.set()
        self._thread.join()
        self._balancer.close()
        for it in self._replicas:
            it.stop()

    def _run(self) -> None:
        while not self._ended.wait(PERIOD_SECONDS):
            for it in self._replicas:
                it.keep()
            self._leads_to = tuple(it for it in self._replicas if it.is_ready())
            self._balancer.lead_to(*(it.webhook_port for it in self._leads_to))
