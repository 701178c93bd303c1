"""The faults of a plan, done to real processes and to the ways that lead to them."""

import os
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from tests.parts import fault_plan, toxics

_SLOW: Final = toxics.Toxic(name="slow", kind="latency", attributes={"latency": 300, "jitter": 200})
_DOWN: Final = toxics.Toxic(name="refused", kind=toxics.DOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What can be harmed: a process with its parts, and the ways that lead there."""

    pids: Callable[[], list[int]] = list
    kill: Callable[[], object] = lambda: None
    start: Callable[[], object] = lambda: None
    way: toxics.Way


@dataclass(slots=True)
class Harm:
    """A fault that was done to a target; `ended` is None until it is over."""

    fault: fault_plan.Fault
    target: Target
    pids: list[int]
    began: float
    ended: float | None = None

    def undo(self) -> None:
        """Let the target work again; returns when it does."""
        if self.fault.kind == fault_plan.KILLED:
            self.target.start()
        elif self.fault.kind == fault_plan.STOPPED:
            for pid in self.pids:
                os.kill(pid, signal.SIGCONT)
        else:
            self.target.way.heal()
        self.ended = time.monotonic()


class Harms:
    """The faults of a plan, done one after another to the targets of a world."""

    def __init__(self, target_of: Callable[[str], Target]) -> None:
        self._target_of = target_of
        self.done: list[Harm] = []

    def carry_out(self, plan: fault_plan.Plan) -> None:
        """All of a plan; nothing is harmed afterwards. Steps are late where one takes long."""
        began = time.monotonic()
        try:
            for step in plan.steps():
                time.sleep(max(0.0, began + step.at - time.monotonic()))
                if step.begins:
                    self._do(step.fault)
                else:
                    next(it for it in self._open() if it.fault is step.fault).undo()
        finally:
            for it in self._open():
                it.undo()

    def touch(self, targets: Collection[str], *, since: float, kind: str = "") -> bool:
        """Whether one of these targets was harmed at any moment since then, in this way or any."""
        return any(
            it.fault.target in targets
            and kind in ("", it.fault.kind)
            and (it.ended is None or it.ended >= since)
            for it in list(self.done)
        )

    def is_harmed(self, target: Target) -> bool:
        """Whether it is at this moment."""
        return any(it.target is target for it in self._open())

    def _open(self) -> list[Harm]:
        return [it for it in self.done if it.ended is None]

    def _do(self, fault: fault_plan.Fault) -> None:
        target = self._target_of(fault.target)
        harm = Harm(fault=fault, target=target, pids=target.pids(), began=time.monotonic())
        self.done.append(harm)
        if fault.kind == fault_plan.KILLED:
            target.kill()
        elif fault.kind == fault_plan.STOPPED:
            for pid in harm.pids:
                os.kill(pid, signal.SIGSTOP)
        else:
            target.way.harm(_DOWN if fault.kind == fault_plan.CUT else _SLOW)
