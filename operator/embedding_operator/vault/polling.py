"""Polls of Vault: one per identity, path and interval, however many policies use the path.

A reconcile reads the last known state and never waits. A bounded pool of threads polls the paths
and tells the policies that use a path when its state changes. A failed poll is repeated with a
backoff that is never longer than the interval; a failure of a whole server or identity is found by
one poll, not by each (docs/decisions/011-one-poll-per-path.md).
"""

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from embedding_operator import errors
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.queues import workqueue
from embedding_operator.vault import access_rules, reading
from embedding_operator.vault.addresses import Address, Identity, Values
from embedding_operator.vault.backoff import Backoff, Exponential
from embedding_operator.vault.connections import Settings
from embedding_operator.vault.failures import TIMED_OUT, Scope, VaultReadError
from embedding_operator.vault.sessions import Sessions, Tokens

JITTER: Final = 0.1
SPREAD: Final = 0.9
"""The first interval of a path is cut by up to this much, so that paths first polled together, as
when the operator starts, do not stay together."""
ROUNDS: Final = 60
"""Polls of an interval gather in so many rounds, as one alone costs twice as much as in a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The last known state of a path: its values, the last good ones where there is a problem.

    With neither values nor a problem the path has not been polled yet. `gone`: Vault certainly
    holds nothing there. `whole` says why the values are read at each poll, if they are.
    """

    values: Values | None = field(default=None, repr=False)
    problem: errors.Problem | None = None
    gone: bool = False
    version: int | None = None
    changed_at: datetime | None = None
    whole: str | None = None

    @property
    def pending(self) -> bool:
        """The path has not been polled yet."""
        return self.values is None and self.problem is None


@dataclass(slots=True)
class _Watched:
    users: set[ObjectKey] = field(default_factory=set)
    known: Reading = field(default_factory=Reading)
    content: reading.Content | None = None
    backoff: Backoff = field(default_factory=Backoff)
    held_by: Backoff | None = None
    """The backoff of the server or the identity that this path waits for."""
    at_once: bool = False


class _News(NamedTuple):
    """The result of a poll: the policies to tell, and when to poll again."""

    told: set[ObjectKey]
    again_seconds: float


class Poller:
    """Polls one Vault and holds the last known states; safe to use from any thread.

    `changed` is told each policy whose paths have changed.
    """

    def __init__(
        self,
        *,
        reader: reading.Reader,
        settings: Settings,
        rules: access_rules.AccessRules,
        changed: Callable[[ObjectKey], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._settings = settings
        self._rules = rules
        self._changed = changed
        self._clock = clock
        # Paths of one namespace that hang hold at most half of the workers.
        self._queue: workqueue.WorkQueue[Address] = workqueue.WorkQueue(
            most_of_one=max(1, settings.concurrency // 2), clock=clock
        )
        self._delays = Exponential(
            first_seconds=settings.retry_seconds, last_seconds=settings.poll_seconds
        )
        self._lock = threading.Lock()
        self._watched: dict[Address, _Watched] = {}
        self._followed: dict[ObjectKey, frozenset[Address]] = {}
        self._server = Backoff()
        self._identities: dict[Identity, Backoff] = {}
        self._timed_out: set[Address] = set()

    def start(self) -> list[threading.Thread]:
        """Start polling, with at most `concurrency` requests at the same time."""
        return workqueue.work(
            self._queue, self.poll, workers=self._settings.concurrency, name="vault"
        )

    def close(self) -> None:
        """Stop polling."""
        self._queue.close()

    def follow(self, policy: ObjectKey, addresses: frozenset[Address]) -> None:
        """Replace the paths that a policy uses; a path that no policy uses is forgotten."""
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
        """The last known state of a followed path; makes no request."""
        refused = self._refusal(address)
        if refused is not None:
            return Reading(problem=refused)
        with self._lock:
            watched = self._watched.get(address)
            return watched.known if watched is not None else Reading()

    def refresh(self, addresses: Iterable[Address]) -> None:
        """Poll these at once, in spite of any backoff."""
        with self._lock:
            for address in addresses:
                if address in self._watched:
                    self._watched[address].at_once = True
                    self._queue.add(address)

    def poll(self, address: Address) -> float | None:
        """Poll one path; seconds until the next poll, None where no policy uses the path."""
        with self._lock:
            watched = self._watched.get(address)
            if watched is None:
                return None
            news = self._held(address, watched)
            started_at, known = self._clock(), watched.content
            patience_seconds = self._delays.delay_seconds(watched.backoff.failures)
        if news is None:
            found: reading.Content | VaultReadError
            try:
                found = self._reader.read(address, known=known, patience_seconds=patience_seconds)
            except VaultReadError as failure:
                found = failure
            with self._lock:
                if self._watched.get(address) is not watched:
                    # No policy uses the path any more, or a new one has put it in anew.
                    self._forget_unused(address.identity)
                    return None
                news = self._record(address, watched, found, started_at=started_at)
        for policy in news.told:
            self._changed(policy)
        return news.again_seconds

    # --- all below is called with the lock held

    def _held(self, address: Address, watched: _Watched) -> _News | None:
        """The result for a path whose server or identity is in backoff; None where a read is due.

        After a backoff the first poll finds out whether the failure lasts, and the others wait for
        its result.
        """
        now = self._clock()
        shared = (self._server, self._identities.setdefault(address.identity, Backoff()))
        for backoff in shared:
            failure = backoff.holds(now)
            if failure is not None and not watched.at_once:
                watched.held_by = backoff
                return _News(self._update(address, watched, failure), backoff.until - now)
        for backoff in shared:
            backoff.probe(now + self._settings.timeout_seconds)
        watched.at_once = False
        return None

    def _record(
        self,
        address: Address,
        watched: _Watched,
        found: reading.Content | VaultReadError,
        *,
        started_at: float,
    ) -> _News:
        """Keep the result of a read, and end or prolong the backoffs that it concerns."""
        now = self._clock()
        scope = self._scope(address, found)
        watched.held_by = None
        identity = self._identities.setdefault(address.identity, Backoff())
        if scope is Scope.SERVER:
            identity.probe(now)  # this read does not say whether the identity's failure lasts
        if not isinstance(found, VaultReadError) or found.answered:
            self._timed_out.clear()
            self._end(self._server)
        if scope is None or scope is Scope.PATH:
            self._end(identity)
        if not isinstance(found, VaultReadError):
            cut = random.uniform(0, JITTER if watched.content else SPREAD)  # noqa: S311 - no secret
            watched.content = found
            watched.backoff.end()
            round_seconds = self._settings.poll_seconds / ROUNDS
            due = now + self._settings.poll_seconds * (1 - cut)
            wait_seconds = due // round_seconds * round_seconds - now
            return _News(self._update(address, watched, found), wait_seconds)
        backoff = watched.backoff
        if scope is not Scope.PATH:
            backoff = watched.held_by = self._server if scope is Scope.SERVER else identity
        backoff.record(found, started_at=started_at, now=now, delays=self._delays)
        return _News(self._update(address, watched, found), max(0.0, backoff.until - now))

    def _scope(self, address: Address, found: reading.Content | VaultReadError) -> Scope | None:
        """The reach of a failed read; None after a successful one."""
        if not isinstance(found, VaultReadError):
            return None
        if found.reason != TIMED_OUT:
            return found.scope
        # One path that times out may be the path's fault. Two, with no answer in between, are
        # Vault's: two of one namespace only if no other has any, or that namespace could keep all
        # waiting.
        self._timed_out.add(address)
        namespaces = {it.namespace for it in self._timed_out}
        is_everywhere = len(namespaces) > 1 or all(
            it.namespace in namespaces for it in self._watched
        )
        away = self._server.failure is not None or (len(self._timed_out) > 1 and is_everywhere)
        return Scope.SERVER if away else found.scope

    def _end(self, backoff: Backoff) -> None:
        """End a backoff, and poll at once all paths that it held."""
        if not backoff.end():
            return
        for address, watched in self._watched.items():
            if watched.held_by is backoff:
                watched.held_by = None
                self._queue.add(address)

    def _update(
        self, address: Address, watched: _Watched, found: reading.Content | VaultReadError
    ) -> set[ObjectKey]:
        """Make the result the known state; the policies to tell, none where it is unchanged."""
        if isinstance(found, VaultReadError):
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

    def _unfollow(self, policy: ObjectKey, address: Address) -> None:
        watched = self._watched[address]
        watched.users.discard(policy)
        if watched.users:
            return
        del self._watched[address]
        self._timed_out.discard(address)
        self._forget_unused(address.identity)

    def _forget_unused(self, identity: Identity) -> None:
        if not any(it.identity == identity for it in self._watched):
            self._identities.pop(identity, None)
            self._reader.forget(identity)

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
    changed: Callable[[ObjectKey], None],
    observe: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Poller:
    """A poller of one Vault, which polls once it is started."""
    sessions = Sessions(settings=settings, tokens=tokens, observe=observe, clock=clock)
    return Poller(
        reader=reading.Reader(sessions=sessions),
        settings=settings,
        rules=rules,
        changed=changed,
        clock=clock,
    )
