"""The watched pods, the time of each one's next request, and their last answers.

Under the caller's clock and without IO, but for nudges and `changed`.
"""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from embedding_operator import errors
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.sidecars import pace, report
from embedding_operator.sidecars.nudges import Nudger
from embedding_operator.sidecars.pages import InForce
from embedding_operator.sidecars.schedule import Item, Rank, Schedule
from embedding_operator.sidecars.targets import Pod, Seen, Target, Wanted
from embedding_operator.status import config_in_force, quota_status

QUOTA_SECONDS: Final = 15.0
"""The least interval for the live quota: half of the chart's resync, which writes it."""
QUOTA_TRIES: Final = 3
"""The sidecars asked for it, one after the other, while none answers."""
QUOTA_TRY_SECONDS: Final = 1.0
GATHER_SECONDS: Final = 0.1
"""The time to gather news of a policy's pods, which mostly come together."""
PROGRESS_SECONDS: Final = 2.0
"""The same while pods of the policy have yet to follow, as each report is a write of its status."""
TOLD_APART_SECONDS: Final = 1.0
"""The least time between two reports of news about a policy."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request to a pod; an answer counts only while `revision` is current."""

    item: Item
    pod: Pod
    token: str = field(repr=False)
    revision: int = 0
    policy_uid: str = ""

    @property
    def is_of_quota(self) -> bool:
        """True for the live quota, False for the report."""
        return not self.item.pod


@dataclass(slots=True)
class _Watched:
    """A pod."""

    pod: Pod
    since: float
    """The last change of what it should have in force, or its nudge."""
    outcome: report.Outcome = None
    failures: int = 0
    revision: int = 0

    @property
    def rank(self) -> Rank:
        if self.outcome is None:
            return Rank.NEW
        return Rank.ANSWERED if isinstance(self.outcome, InForce) else Rank.FAILED


@dataclass(slots=True)
class _Policy:
    uid: str = ""
    wanted: Wanted | None = None
    pods: dict[str, _Watched] = field(default_factory=dict)
    """By UID, in the given order."""
    quota: quota_status.LiveQuota | None = None
    quota_tries: int = 0
    told_at: float = float("-inf")
    """The last report of news."""
    tells_at: float = float("inf")
    """The next one, which is pending."""


class Watchlist:
    """All policies; safe to use from any thread.

    `changed` gets a policy with news, and the seconds after which to reconcile it.
    """

    def __init__(
        self,
        *,
        nudges: Nudger,
        changed: Callable[[ObjectKey, float], None],
        period_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._nudges = nudges
        self._changed = changed
        self._period_seconds = period_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._schedule = Schedule()
        self._revisions = itertools.count(1)
        self._policies: dict[ObjectKey, _Policy] = {}
        self._of_quota: set[ObjectKey] = set()
        """The policies whose live quota is asked for."""
        self._pods = 0

    # --- for reconciles

    def watch(self, policy: ObjectKey, target: Target) -> bool:
        """Set all pods of a policy with a running sidecar, and what they should have in force.

        True if some of them are to be asked sooner than before.
        """
        with self._lock:
            known = self._policies.get(policy)
            if known is None or known.uid != target.policy_uid:
                self._forget(policy)
                known = self._policies[policy] = _Policy(uid=target.policy_uid)
            is_other = known.wanted != target.wanted
            known.wanted = target.wanted
            pods = {pod.uid: pod for pod in target.pods}
            for uid in known.pods.keys() - pods.keys():
                self._drop(policy, known.pods.pop(uid))
            asked = [
                self._watch_pod(policy, known, known.pods.get(uid), pod=pod, is_other=is_other)
                for uid, pod in pods.items()
            ]
            return any(asked)

    def seen(self, policy: ObjectKey) -> Seen:
        """The last answers of a policy's sidecars."""
        with self._lock:
            known = self._policies.get(policy, _Policy())
            if known.tells_at < float("inf"):
                # Later answers are news again, even if a reconcile is pending.
                known.told_at = min(known.tells_at, self._clock())
                known.tells_at = float("inf")
            if known.wanted is None:
                force = config_in_force.Force(pending=len(known.pods))
            else:
                outcomes = [(it.pod, it.outcome) for it in known.pods.values()]
                force = report.force(outcomes, known.wanted)
            reports = tuple(
                (it.pod, it.outcome.report)
                for it in known.pods.values()
                if isinstance(it.outcome, InForce) and it.outcome.report is not None
            )
            return Seen(force=force, quota=known.quota, reports=reports)

    def forget(self, policy: ObjectKey) -> None:
        """A policy has gone."""
        with self._lock:
            self._forget(policy)

    # --- for the prober

    def take(self) -> Question | None:
        """The next due question for which there is a place; None if there is none."""
        with self._lock:
            while (item := self._schedule.take(self._clock())) is not None:
                question = self._question(item)
                if question is not None:
                    return question
                self._schedule.done(item)
            return None

    def next_seconds(self) -> float | None:
        """Seconds until the next question is due; None if there is none."""
        with self._lock:
            due = self._schedule.next_due()
            return None if due is None else max(0.0, due - self._clock())

    def answered(self, question: Question, outcome: InForce | errors.Problem) -> None:
        """Store the answer of a sidecar, or the problem of asking it."""
        with self._lock:
            self._schedule.done(question.item)
            policy, uid = question.item.key, question.item.pod
            known = self._policies.get(policy)
            watched = known.pods.get(uid) if known is not None else None
            if known is None or watched is None or known.wanted is None:
                return  # deleted meanwhile
            if watched.revision != question.revision:  # outdated question
                due = self._clock() + pace.FIRST_LOOK_SECONDS
                self._schedule.put(question.item, due=due, rank=watched.rank)
                return
            is_news = watched.outcome != outcome
            watched.outcome = outcome
            watched.failures = 0 if isinstance(outcome, InForce) else watched.failures + 1
            self._ask_again(question, watched, wanted=known.wanted)
            tells_quota = (
                known.wanted.has_quota and isinstance(outcome, InForce) and outcome.document
            )
            if tells_quota and policy not in self._of_quota:
                self._of_quota.add(policy)
                self._ask_for_quota(policy, after_seconds=0)
            if is_news:
                self._tell(policy, known)

    def nudged(self, item: Item) -> None:
        """A pod got its first nudge for what it should have in force, or could not get it."""
        with self._lock:
            known = self._policies.get(item.key)
            watched = known.pods.get(item.pod) if known is not None else None
            if watched is None or not isinstance(watched.outcome, InForce):
                return  # gone, or asked for other reasons
            watched.since = self._clock()
            due = watched.since + pace.FIRST_LOOK_SECONDS
            self._schedule.put(item, due=due, rank=watched.rank)

    def told_quota(self, question: Question, quota: quota_status.LiveQuota | None) -> None:
        """Store the live quota; None if the sidecar did not report it."""
        with self._lock:
            self._schedule.done(question.item)
            policy = question.item.key
            known = self._policies.get(policy)
            if known is None or known.uid != question.policy_uid:
                return  # deleted meanwhile
            if quota is None:
                known.quota_tries += 1
                is_last = known.quota_tries % QUOTA_TRIES == 0
                wait_seconds = self._quota_seconds() if is_last else QUOTA_TRY_SECONDS
                self._ask_for_quota(policy, after_seconds=wait_seconds)
                return
            before, known.quota = known.quota, quota
            self._ask_for_quota(policy, after_seconds=self._quota_seconds())
            # A new count alone is no news: the next resync writes it.
            if before is None or (before.exact, before.exact_reason) != (
                quota.exact,
                quota.exact_reason,
            ):
                self._tell(policy, known)

    # --- all below is called with the lock held

    def _forget(self, policy: ObjectKey) -> None:
        known = self._policies.pop(policy, _Policy())
        self._of_quota.discard(policy)
        self._schedule.drop(Item(*policy, ""))
        for watched in known.pods.values():
            self._drop(policy, watched)

    def _watch_pod(
        self,
        policy: ObjectKey,
        known: _Policy,
        watched: _Watched | None,
        *,
        pod: Pod,
        is_other: bool,
    ) -> bool:
        """Watch a pod; True if it is to be asked anew."""
        now = self._clock()
        if watched is None:
            watched = known.pods[pod.uid] = _Watched(pod, since=now)
            self._pods += 1
        elif not is_other and watched.pod == pod:
            return False
        is_restarted = watched.pod != pod
        watched.pod = pod
        watched.revision = next(self._revisions)
        watched.failures = 0
        item = Item(*policy, pod.uid)
        if known.wanted is None:
            watched.outcome = None
            self._schedule.drop(item)
            return False
        wait_seconds = 0.0
        if isinstance(watched.outcome, InForce) and not is_restarted:
            wait_seconds = pace.FIRST_LOOK_SECONDS
        if is_other:
            watched.since = now
            is_late = watched.outcome is not None and report.is_late(watched.outcome, known.wanted)
            if is_late and self._nudges.behind(item, pod, known.wanted.content) and wait_seconds:
                wait_seconds = pace.while_late(0.0, is_nudged=False)
        self._schedule.put(item, due=now + wait_seconds, rank=watched.rank)
        return True

    def _drop(self, policy: ObjectKey, watched: _Watched) -> None:
        self._pods -= 1
        item = Item(*policy, watched.pod.uid)
        self._schedule.drop(item)
        self._nudges.forget(item, watched.pod)

    def _question(self, item: Item) -> Question | None:
        known = self._policies.get(item.key)
        if known is None:
            return None
        if known.wanted is None:
            self._of_quota.discard(item.key)
            return None
        if item.pod:
            watched = known.pods.get(item.pod)
        else:
            answering = [it for it in known.pods.values() if it.rank is Rank.ANSWERED]
            watched = answering[known.quota_tries % len(answering)] if answering else None
            if watched is None:  # wait until a pod answers
                self._schedule.put(item, due=self._clock() + QUOTA_SECONDS, rank=Rank.ANSWERED)
        if watched is None:
            return None
        return Question(item, watched.pod, known.wanted.token, watched.revision, known.uid)

    def _ask_again(self, question: Question, watched: _Watched, *, wanted: Wanted) -> None:
        now, is_late, is_nudged = self._clock(), report.is_late(watched.outcome, wanted), True
        if is_late:
            is_nudged = not self._nudges.behind(question.item, watched.pod, wanted.content)
        else:
            self._nudges.in_force(question.item, watched.pod)
        if watched.failures:
            wait_seconds = pace.after_failures(watched.failures)
        elif is_late:
            wait_seconds = pace.while_late(now - watched.since, is_nudged=is_nudged)
        else:
            wait_seconds = pace.in_force(self._pods, period_seconds=self._period_seconds)
        self._schedule.put(question.item, due=now + wait_seconds, rank=watched.rank)

    def _ask_for_quota(self, policy: ObjectKey, *, after_seconds: float) -> None:
        item = Item(*policy, "")
        self._schedule.put(item, due=self._clock() + after_seconds, rank=Rank.ANSWERED)

    def _quota_seconds(self) -> float:
        return pace.quota(len(self._of_quota), period_seconds=QUOTA_SECONDS)

    def _tell(self, policy: ObjectKey, known: _Policy) -> None:
        now = self._clock()
        if known.tells_at <= now:
            known.told_at, known.tells_at = known.tells_at, float("inf")
        is_under_way = known.wanted is not None and any(
            it.outcome is None or (it.rank is Rank.ANSWERED and report.is_late(it.outcome, wanted))
            for wanted in [known.wanted]
            for it in known.pods.values()
        )
        gather_seconds = PROGRESS_SECONDS if is_under_way else GATHER_SECONDS
        due = max(now + gather_seconds, known.told_at + TOLD_APART_SECONDS)
        if due < known.tells_at:
            known.tells_at = due
            self._changed(policy, due - now)
