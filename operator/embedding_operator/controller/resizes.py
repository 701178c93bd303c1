"""Give running sidecars the resources of their policy, and say what was seen of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from embedding_operator import errors
from embedding_operator.errors import Problem
from embedding_operator.injection import injector, resizing, selection
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.conditions import few
from embedding_operator.kube.kinds import ObjectKey

AT_ONCE: Final = 10
"""The most pods of a policy that are resized by one reconcile."""
PACE_SECONDS: Final = 1.0
"""The time until the next ones."""
PATIENCE_SECONDS: Final = 300.0
"""The time until a refused change is tried again."""
_MESSAGE_CHARACTERS: Final = 256

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Refused:
    wanted: Object
    message: str
    until: float


@dataclass(frozen=True, slots=True)
class Resized:
    """The sidecars that lack their resources, and the seconds until the next look for more."""

    problem: Problem | None = None
    again_seconds: float | None = None


class Resizes:
    """Resizes sidecars of running pods, unless not `enabled`."""

    def __init__(
        self,
        *,
        objects: KubeClient,
        sidecar: injector.Sidecar,
        enabled: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._sidecar = sidecar
        self._enabled = enabled
        self._clock = clock
        self._refused: dict[ObjectKey, dict[str, _Refused]] = {}

    def forget(self, key: ObjectKey) -> None:
        """A policy has gone."""
        self._refused.pop(key, None)

    def look(
        self,
        key: ObjectKey,
        *,
        candidate: selection.Candidate,
        running: Sequence[Object],
        server_version: tuple[int, int],
    ) -> Resized:
        """Resize the sidecars of a policy's `running` pods that need it.

        Raises:
            errors.Unavailable: the API server does not answer.
        """
        expected = injector.sidecar_hash(self._sidecar, candidate)
        late = [it for it in running if self._is_late(it, candidate, expected=expected)]
        if not late:
            self._refused.pop(key, None)
            return Resized()
        if not self._enabled or server_version < resizing.SINCE:
            since = ".".join(map(str, resizing.SINCE))
            why = "sidecar.resize is off" if not self._enabled else f"it takes Kubernetes {since}"
            told = [(it, Problem(resizing.NEW_PODS_ONLY, why)) for it in late]
            return Resized(_problem(told, running))
        before = self._refused.get(key, {})
        kept = {uid: it for pod in late if (it := before.get(uid := _uid(pod))) is not None}
        self._refused[key] = kept
        told, left = [], AT_ONCE
        for pod in late:
            wanted = self._wanted(pod, candidate)
            change = resizing.change(pod, wanted)
            problem = resizing.obstacle(pod)
            if not change and resizing.differs(resizing.in_spec(pod), wanted):
                problem = Problem(resizing.NEW_PODS_ONLY, "its memory limit is not lowered")
            if change:
                problem = Problem(resizing.RESIZING, "")
                known = kept.get(_uid(pod))
                if known is not None and known.wanted == wanted and self._clock() < known.until:
                    problem = Problem(resizing.REFUSED, known.message)
                elif left > 0:
                    left -= 1
                    problem = self._resize(pod, change, wanted=wanted, refused=kept)
                else:
                    return Resized(_problem([*told, (pod, problem)], running), PACE_SECONDS)
            told.append((pod, problem))
        return Resized(_problem(told, running))

    def _resize(
        self, pod: Object, change: dict[str, Any], *, wanted: Object, refused: dict[str, _Refused]
    ) -> Problem:
        metadata = pod["metadata"]
        refused.pop(_uid(pod), None)
        message = ""
        try:
            answer = self._objects.resize(
                metadata["namespace"], metadata["name"], change, uid=_uid(pod)
            )
            if answer is not None and resizing.change(answer, wanted):
                message = "the API server keeps other amounts"
        except errors.Denied as error:
            message = str(error)[:_MESSAGE_CHARACTERS]
        if not message:
            return Problem(resizing.RESIZING, "")
        until = self._clock() + PATIENCE_SECONDS
        refused[_uid(pod)] = _Refused(wanted, message, until)
        return Problem(resizing.REFUSED, message)

    def _is_late(self, pod: Object, candidate: selection.Candidate, *, expected: str) -> bool:
        if injector.is_of_resources(pod, expected):
            return False  # as it was made, whatever an admission plugin has made of it since
        wanted = self._wanted(pod, candidate)
        # A change that kubelet has put off holds room on the node although nothing is to change.
        return resizing.differs(resizing.seen(pod), wanted) or bool(resizing.change(pod, wanted))

    def _wanted(self, pod: Object, candidate: selection.Candidate) -> Object:
        return injector.wanted_resources(pod, sidecar=self._sidecar, candidate=candidate)


def _uid(pod: Object) -> str:
    found: str = pod["metadata"]["uid"]
    return found


def _problem(told: Sequence[tuple[Object, Problem]], running: Sequence[Object]) -> Problem:
    reasons = {problem.reason for _, problem in told}
    reason = next(it for it in resizing.WORST_FIRST if it in reasons)
    lines = [
        f"{pod['metadata']['name']} ({problem.reason}{f': {message}' if message else ''})"
        for pod, problem in told
        for message in [problem.message[:_MESSAGE_CHARACTERS]]
    ]
    return Problem(
        reason,
        f"{len(told)} of {len(running)} running sidecars do not have the resources that new ones"
        f" get: {few(lines)}.",
    )
