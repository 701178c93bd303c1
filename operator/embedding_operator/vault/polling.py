"""What is known of Vault: one look per identity and path and interval, whoever wants it.

A reconcile reads what is known and never waits. A bounded pool of threads looks at the paths, and
where a look brings news the policies that use the path are told. What fails is looked at again
with a backoff that is never longer than the interval; what fails for a whole server, or a whole
identity, is found out by one look and not by each (docs/decisions/011-one-poll-per-path.md).
"""

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from embedding_operator import errors
from embedding_operator.queues import workqueue
from embedding_operator.vault import access_rules, reading
from embedding_operator.vault.addresses import Address, Identity, Values
from embedding_operator.vault.connections import Settings
from embedding_operator.vault.failures import SILENT, Scope, Unreadable
from embedding_operator.vault.sessions import Sessions, Tokens
from embedding_operator.vault.troubles import Backoff, Trouble

JITTER: Final = 0.1
SPREAD: Final = 0.9
"""The first interval of a path is cut by up to this much, so that paths which were first looked at
together, as when the operator starts, part at once."""

Policy = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is known of a path: its values, the last good ones where there is a problem.

    With neither values nor a problem it has not been looked at yet. `gone` says that Vault holds
    nothing there, for sure; `whole` why the values are read at each look, if they are.
    """

    values: Values | None = field(default=None, repr=False)
    problem: errors.Problem | None = None
    gone: bool = False
    version: int | None = None
    changed_at: datetime | None = None
    whole: str | None = None

    @property
    def pending(self) -> bool:
        """Whether nobody has looked yet."""
        return self.values is None and self.problem is None


@dataclass(slots=True)
class _Watched:
    users: set[Policy] = field(default_factory=set)
    known: Reading = field(default_factory=Reading)
    content: reading.Content | None = None
    trouble: Trouble = field(default_factory=Trouble)
    held_by: Trouble | None = None
    """The trouble of the server or the identity for which it was not looked at, or in vain."""
    at_once: bool = False


class _News(NamedTuple):
    """What a look has brought: who has to hear of it, and when to look again."""

    told: set[Policy]
    again_seconds: float


class Reads(Protocol):
    """Looks at paths."""

    def read(
        self, address: Address, *, known: reading.Content | None, patience_seconds: float
    ) -> reading.Content:
        """What stands there now; raises Unreadable."""
        ...

    def forget(self, identity: Identity) -> None:
        """Nobody reads as this identity any more."""
        ...


class Poller:
    """What is known of one Vault; safe to use from any thread.

    `changed` is told the policies for which there is news.
    """

    def __init__(
        self,
        *,
        reads: Reads,
        settings: Settings,
        rules: access_rules.AccessRules,
        changed: Callable[[Policy], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reads = reads
        self._settings = settings
        self._rules = rules
        self._changed = changed
        self._clock = clock
        # Paths of one namespace that hang hold at most half of the workers.
        self._queue: workqueue.WorkQueue[Address] = workqueue.WorkQueue(
            most_of_one=max(1, settings.concurrency // 2), clock=clock
        )
        self._backoff = Backoff(
            first_seconds=settings.retry_seconds, last_seconds=settings.poll_seconds
        )
        self._lock = threading.Lock()
        self._watched: dict[Address, _Watched] = {}
        self._followed: dict[Policy, frozenset[Address]] = {}
        self._server = Trouble()
        self._identities: dict[Identity, Trouble] = {}
        self._silent: set[Address] = set()

    def start(self) -> list[threading.Thread]:
        """Begin to look; at most `concurrency` requests are made at the same time."""
        return workqueue.work(
            self._queue, self.look, workers=self._settings.concurrency, name="vault"
        )

    def close(self) -> None:
        """Look no more."""
        self._queue.close()

    def follow(self, policy: Policy, addresses: frozenset[Address]) -> None:
        """These are all the paths that a policy wants; what nobody wants is forgotten."""
        wanted = frozenset(it for it in addresses if self._refusal(it) is None)
        with self._lock:
            before = self._followed.get(policy, frozenset())
            if wanted == before:
                return
            for address in wanted - before:
                if address not in self._watched:
                    self._watched[address] = _Watched()
                    self._queue.add(address)
                self._watched[address].users.add(policy)
            for address in before - wanted:
                self._unfollow(policy, address)
            if wanted:
                self._followed[policy] = wanted
            else:
                self._followed.pop(policy, None)

    def read(self, address: Address) -> Reading:
        """What is known of a path that is followed; asks nobody but the guard."""
        refused = self._refusal(address)
        if refused is not None:
            return Reading(problem=refused)
        with self._lock:
            watched = self._watched.get(address)
            return watched.known if watched is not None else Reading()

    def refresh(self, addresses: Iterable[Address]) -> None:
        """Look at these at once, whatever backoff they are in."""
        with self._lock:
            for address in addresses:
                if address in self._watched:
                    self._watched[address].at_once = True
                    self._queue.add(address)

    def look(self, address: Address) -> float | None:
        """Look at one path; after how many seconds to look again, None where nobody wants it."""
        with self._lock:
            watched = self._watched.get(address)
            if watched is None:
                return None
            news = self._held(address, watched)
            started_at, known = self._clock(), watched.content
            patience_seconds = self._backoff.step_seconds(watched.trouble.failures)
        if news is None:
            found = self._found(address, known=known, patience_seconds=patience_seconds)
            with self._lock:
                if self._watched.get(address) is not watched:
                    # Whoever wanted it has gone meanwhile; whoever came since has put it in anew.
                    self._forget_unused(address.identity)
                    return None
                news = self._note(address, watched, found, started_at=started_at)
        for policy in news.told:
            self._changed(policy)
        return news.again_seconds

    def _found(
        self, address: Address, *, known: reading.Content | None, patience_seconds: float
    ) -> reading.Content | Unreadable:
        try:
            return self._reads.read(address, known=known, patience_seconds=patience_seconds)
        except Unreadable as failure:
            return failure

    # --- all below is called with the lock held

    def _held(self, address: Address, watched: _Watched) -> _News | None:
        """What a trouble of the server or the identity says of a path; None where it is to be read.

        Once the time of a trouble is over the first who comes finds out whether it lasts, and the
        others wait for what that brings.
        """
        now = self._clock()
        troubles = (self._server, self._identities.setdefault(address.identity, Trouble()))
        for trouble in troubles:
            failure = trouble.holds(now)
            if failure is not None and not watched.at_once:
                watched.held_by = trouble
                return _News(self._learn(address, watched, failure), trouble.until - now)
        for trouble in troubles:
            trouble.probe(now + self._settings.timeout_seconds)
        watched.at_once = False
        return None

    def _note(
        self,
        address: Address,
        watched: _Watched,
        found: reading.Content | Unreadable,
        *,
        started_at: float,
    ) -> _News:
        """Keep what a look has brought."""
        now = self._clock()
        reaches = self._reach(address, found)
        watched.held_by = None
        identity = self._identities.setdefault(address.identity, Trouble())
        if reaches is Scope.SERVER:
            identity.probe(now)  # whether it lasts is not known
        if not isinstance(found, Unreadable) or found.answered:
            self._silent.clear()
            self._end(self._server)
        if reaches is None or reaches is Scope.PATH:
            self._end(identity)
        if not isinstance(found, Unreadable):
            cut = random.uniform(0, JITTER if watched.content else SPREAD)  # noqa: S311 - no secret
            watched.content = found
            watched.trouble.end()
            wait_seconds = self._settings.poll_seconds * (1 - cut)
            return _News(self._learn(address, watched, found), wait_seconds)
        trouble = watched.trouble
        if reaches is not Scope.PATH:
            trouble = watched.held_by = self._server if reaches is Scope.SERVER else identity
        trouble.note(found, started_at=started_at, now=now, backoff=self._backoff)
        return _News(self._learn(address, watched, found), max(0.0, trouble.until - now))

    def _reach(self, address: Address, found: reading.Content | Unreadable) -> Scope | None:
        """Whose trouble a look is a sign of; None where it went well."""
        if not isinstance(found, Unreadable):
            return None
        if found.reason != SILENT:
            return found.scope
        # One path that hangs may be the path's fault. Two, with no answer in between, are Vault's:
        # two of one namespace only if no other has any, or that namespace could keep all waiting.
        self._silent.add(address)
        silent = {it.namespace for it in self._silent}
        is_everywhere = len(silent) > 1 or all(it.namespace in silent for it in self._watched)
        away = self._server.failure is not None or (len(self._silent) > 1 and is_everywhere)
        return Scope.SERVER if away else found.scope

    def _end(self, trouble: Trouble) -> None:
        """A trouble is over: look at once at all that was held by it."""
        if not trouble.end():
            return
        for address, watched in self._watched.items():
            if watched.held_by is trouble:
                watched.held_by = None
                self._queue.add(address)

    def _learn(
        self, address: Address, watched: _Watched, found: reading.Content | Unreadable
    ) -> set[Policy]:
        """Who has to hear of what was found, which is known from now on."""
        if isinstance(found, Unreadable):
            if found.final:
                watched.content = None
            content, problem, gone = watched.content, found.problem(address), found.gone
        else:
            content, problem, gone = found, None, False
        known = Reading(
            values=content.values if content else None,
            problem=problem,
            gone=gone,
            version=content.version if content else None,
            changed_at=content.changed_at if content else None,
            whole=content.whole if content else None,
        )
        if known == watched.known:
            return set()
        watched.known = known
        return set(watched.users)

    def _unfollow(self, policy: Policy, address: Address) -> None:
        watched = self._watched[address]
        watched.users.discard(policy)
        if watched.users:
            return
        del self._watched[address]
        self._silent.discard(address)
        self._forget_unused(address.identity)

    def _forget_unused(self, identity: Identity) -> None:
        if not any(it.identity == identity for it in self._watched):
            self._identities.pop(identity, None)
            self._reads.forget(identity)

    def _refusal(self, address: Address) -> errors.Problem | None:
        refusal = self._rules.refusal(
            namespace=address.identity.namespace, mount=address.mount, path=address.path
        )
        return errors.Problem("PathNotAllowed", refusal.message) if refusal else None


def connect(
    *,
    settings: Settings,
    rules: access_rules.AccessRules,
    tokens: Tokens,
    changed: Callable[[Policy], None],
    observe: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Poller:
    """All that stands between the operator and one Vault; it looks once it is started."""
    sessions = Sessions(settings=settings, tokens=tokens, observe=observe, clock=clock)
    return Poller(
        reads=reading.Reader(sessions=sessions),
        settings=settings,
        rules=rules,
        changed=changed,
        clock=clock,
    )
