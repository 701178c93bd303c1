"""Ask Prometheus and Alertmanager for all policies at once, and report policies with news.

Each server gets one request in a slot of at least 15 s, so at most 4 a minute for any number of
policies. Every second slot asks for rules, and two of three for some time after an apply.
"""

import asyncio
import logging
import random
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, TypeVar

from embedding_operator.errors import Problem
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.monitoring import alertmanager, conditions, rules
from embedding_operator.monitoring.answers import NO_SUCH_API, NoAnswer, Parameters
from embedding_operator.monitoring.connection import Connection
from embedding_operator.monitoring.forms import Forms

SLOT_SECONDS: Final = 15.0
"""The time between two requests to one server."""
JITTER: Final = 1.05
"""A slot is up to this factor longer, to spread requests to several servers."""
APPLIED_SLOTS: Final = 12
"""Rules are requested more often for so long after an apply: kubelet takes up to two minutes."""
FAILURES: Final = 2
"""So many failures in a row are reported; a server may just be being replaced."""
RULES: Final = "/api/v1/rules"
QUERY: Final = "/api/v1/query"
RUNTIME: Final = "/api/v1/status/runtimeinfo"
# Older versions ignore exclude_alerts; others answer shorter.
PARAMETERS: Final[Mapping[str, Parameters]] = {
    RULES: (("exclude_alerts", "true"),),
    QUERY: (("query", rules.UP),),
    RUNTIME: (),
}

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


class Seen(NamedTuple):
    """The answers of each server about one policy."""

    prometheus: tuple[conditions.Prometheus, ...]
    alertmanager: tuple[conditions.Alertmanager, ...]


@dataclass(slots=True)
class _Known(Generic[T]):
    """The last answer to one question."""

    answer: T | None = None
    problem: Problem | None = None
    failures: int = 0

    def learn(self, found: T) -> None:
        """Keep an answer."""
        self.answer, self.problem, self.failures = found, None, 0

    def lose(self, failure: NoAnswer) -> None:
        """Replace the answer by a failure."""
        self.answer, self.problem = None, Problem(failure.reason, failure.message)


@dataclass(slots=True)
class _Prometheus:
    """One Prometheus; `wanted` are the groups expected at the last request for rules.

    `changed_at`, in the loop's time, is the first request with other groups.
    """

    asks: Connection
    groups: _Known[dict[str, rules.Loaded]] = field(default_factory=_Known)
    wanted: Mapping[str, rules.Group] = field(default_factory=dict)
    pods: _Known[dict[tuple[str, str], dict[str, bool]]] = field(default_factory=_Known)
    reloaded: _Known[bool] = field(default_factory=_Known)
    forms: Forms = field(default_factory=Forms)
    failures: int = 0
    slot: int = 0
    changed_at: float = float("-inf")
    asked_reload: bool = False

    @property
    def questions(self) -> tuple[_Known[Any], ...]:
        """All its questions."""
        return (self.groups, self.pods, self.reloaded)


@dataclass(slots=True)
class _Alertmanager:
    """One Alertmanager."""

    asks: Connection
    cluster: _Known[str] = field(default_factory=_Known)
    failures: int = 0

    @property
    def questions(self) -> tuple[_Known[Any], ...]:
        """All its questions."""
        return (self.cluster,)


class Poller:
    """The last answers of all servers; `watch` and `forget` are safe in any thread.

    `run` is for one event loop. `changed` gets each policy with news.
    """

    def __init__(
        self,
        *,
        prometheus: tuple[Connection, ...],
        alertmanagers: tuple[Connection, ...],
        changed: Callable[[ObjectKey], None],
        slot_seconds: float = SLOT_SECONDS,
    ) -> None:
        self._prometheus = tuple(_Prometheus(asks) for asks in prometheus)
        self._alertmanagers = tuple(_Alertmanager(asks) for asks in alertmanagers)
        self._changed = changed
        self._slot_seconds = slot_seconds
        self._lock = threading.Lock()
        self._watched: dict[ObjectKey, tuple[rules.Group, ...]] = {}
        self._told: dict[ObjectKey, Seen] = {}

    def watch(self, key: ObjectKey, groups: tuple[rules.Group, ...]) -> Seen:
        """Set the groups that a policy expects; the last answers about them. Asks no server."""
        with self._lock:
            self._watched[key] = groups
            seen = self._told[key] = self._seen(key, groups)
            return seen

    def forget(self, key: ObjectKey) -> None:
        """A policy has gone."""
        with self._lock:
            self._watched.pop(key, None)
            self._told.pop(key, None)

    async def run(self) -> None:
        """Ask every server in its slots, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for server in self._prometheus:
                tasks.create_task(self._slots(self._ask_prometheus, server))
            for other in self._alertmanagers:
                tasks.create_task(self._slots(self._ask_alertmanager, other))

    async def _slots(self, ask: Callable[[T], Awaitable[None]], server: T) -> None:
        while True:
            try:
                await ask(server)
            except Exception:  # noqa: BLE001 - a bug of one answer must not end the requests
                _LOG.exception("a request to a monitoring server failed")
            jitter = random.uniform(1, JITTER)  # noqa: S311 - no secret
            await asyncio.sleep(self._slot_seconds * jitter)

    async def _ask_prometheus(self, server: _Prometheus) -> None:
        with self._lock:
            wanted = {it.name: it for groups in self._watched.values() for it in groups}
        question = self._question(server, wanted, asyncio.get_running_loop().time())
        if question == RULES:
            found = await _answer(server.asks, RULES, lambda body: rules.loaded(body, wanted))
            if not isinstance(found, NoAnswer):
                found = server.forms.judged(found, wanted)
            with self._lock:
                _learn(server, server.groups, found)
                server.wanted = wanted
        elif question == QUERY:
            pods = await _answer(server.asks, QUERY, rules.up)
            with self._lock:
                _learn(server, server.pods, pods)
        else:
            reloaded = await _answer(server.asks, RUNTIME, rules.reloaded)
            with self._lock:
                _learn(server, server.reloaded, reloaded)
        self._tell()

    async def _ask_alertmanager(self, server: _Alertmanager) -> None:
        found = await _answer(server.asks, alertmanager.STATUS, alertmanager.cluster)
        with self._lock:
            _learn(server, server.cluster, found)
        self._tell()

    def _question(self, server: _Prometheus, wanted: Mapping[str, rules.Group], now: float) -> str:
        """The question for this slot."""
        server.slot += 1
        is_new = server.wanted != wanted
        if is_new:
            server.changed_at = now
        is_lacking = is_new or any(
            found is None or not found.is_current
            for found in map((server.groups.answer or {}).get, wanted)
        )
        applied_seconds = APPLIED_SLOTS * self._slot_seconds
        is_applied = is_lacking and now - server.changed_at < applied_seconds
        if server.slot % (3 if is_applied else 2):
            return RULES
        server.asked_reload = is_lacking and not server.asked_reload
        return RUNTIME if server.asked_reload else QUERY

    def _tell(self) -> None:
        with self._lock:
            now = {key: self._seen(key, groups) for key, groups in self._watched.items()}
            changed = [key for key, seen in now.items() if self._told.get(key) != seen]
            self._told = now
        for key in changed:
            self._changed(key)

    def _seen(self, key: ObjectKey, groups: tuple[rules.Group, ...]) -> Seen:
        return Seen(
            tuple(_of_prometheus(server, key, groups) for server in self._prometheus),
            tuple(
                conditions.Alertmanager(
                    host=it.asks.host, cluster=it.cluster.answer, problem=it.cluster.problem
                )
                for it in self._alertmanagers
            ),
        )


def _learn(server: _Prometheus | _Alertmanager, known: _Known[T], found: T | NoAnswer) -> None:
    """Store an answer; a single failure of a question or a server is not reported."""
    if not isinstance(found, NoAnswer):
        server.failures = 0
        known.learn(found)
        return
    known.failures += 1
    if found.reason == NO_SUCH_API:  # the server runs without this API
        known.lose(found)
        return
    server.failures += 1
    if server.failures >= FAILURES:
        for question in server.questions:
            question.lose(found)
    elif known.answer is None or known.failures >= FAILURES:
        known.lose(found)


def _of_prometheus(
    server: _Prometheus, key: ObjectKey, groups: tuple[rules.Group, ...]
) -> conditions.Prometheus:
    listed = server.groups.answer
    if any(server.wanted.get(group.name) != group for group in groups):
        listed = None  # not asked yet for these groups
    known = [group.name for group in groups if listed and group.name in listed]
    pods = server.pods.answer
    return conditions.Prometheus(
        host=server.asks.host,
        groups=None if listed is None else {name: listed[name] for name in known},
        groups_problem=server.groups.problem,
        pods=None if pods is None else pods.get((key.namespace, key.name), {}),
        pods_problem=server.pods.problem,
        reloaded=server.reloaded.answer is not False,
    )


async def _answer(asks: Connection, path: str, understand: Callable[[bytes], T]) -> T | NoAnswer:
    try:
        return await asks.read(path, understand, parameters=PARAMETERS.get(path, ()))
    except NoAnswer as failure:
        return failure
