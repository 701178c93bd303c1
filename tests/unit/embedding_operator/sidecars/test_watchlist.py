"""The time to ask each pod, the memory of its answers, and the notification of policies."""

import itertools
from datetime import UTC, datetime

import pytest

from embedding_contract.index_report import IndexReport
from embedding_operator import errors
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.sidecars import nudges, pace, schedule, targets, watchlist
from embedding_operator.sidecars.pages import InForce
from embedding_operator.sidecars.targets import Pod, Target, Wanted
from embedding_operator.status import config_in_force, quota_status

POLICY = ObjectKey("shop", "search")
WANTED = Wanted(document="d2", secrets="s2", token="t")
NEXT = Wanted(document="d3", secrets="s2", token="t")
NEWEST = InForce(document="d2", secrets="s2", rejected=None)
OLDER = InForce(document="d1", secrets="s2", rejected=None)
SILENT = errors.Problem(config_in_force.NO_ANSWER, "reset the connection")
DAY = quota_status.LiveQuota(
    used=1, limit=10, reset_at=datetime(2026, 1, 2, tzinfo=UTC), exact=True, exact_reason=""
)
PERIOD_SECONDS = 30.0


def pod(number, namespace="shop", **more):
    name = f"pod-{number}"
    return Pod(
        namespace=namespace,
        name=name,
        uid=f"{namespace}-{name}",
        address=f"10.0.0.{number}",
        **more,
    )


class World(nudges.Nudger):
    """Pods that answer at once, a clock, and what was told."""

    def __init__(self):
        self.seconds = 0.0
        self.answers = {}
        self.days = {}
        self.asked = []
        self.quota_asked = []
        self.told: list[tuple[ObjectKey, float]] = []
        self.behind_calls = []
        self.nudges_wait = False
        self.settled = []
        self.forgotten = []
        self.list = watchlist.Watchlist(
            nudges=self,
            changed=lambda policy, seconds: self.told.append((policy, self.seconds + seconds)),
            period_seconds=PERIOD_SECONDS,
            clock=lambda: self.seconds,
        )

    def behind(self, item, pod, content):
        self.behind_calls.append((pod.name, content))
        return self.nudges_wait

    def in_force(self, item, pod):
        self.settled.append(pod.name)

    def forget(self, item, pod):
        self.forgotten.append(pod.name)

    def nudge(self, pod):
        """A nudge of this pod was sent."""
        self.nudges_wait = False
        self.list.nudged(schedule.Item(*POLICY, pod.uid))

    def watch(self, *pods, wanted=WANTED, policy=POLICY, uid="u"):
        self.list.watch(policy, Target(policy_uid=uid, pods=pods, wanted=wanted))

    def take(self):
        question = self.list.take()
        assert question is not None
        return question

    def turn(self):
        """Ask all that is due now."""
        while (question := self.list.take()) is not None:
            if question.is_of_quota:
                self.quota_asked.append((self.seconds, question.pod.name))
                self.list.told_quota(question, self.days.get(question.pod.name))
            else:
                self.asked.append((self.seconds, question.pod.name))
                self.list.answered(question, self.answers.get(question.pod.name, SILENT))

    def run(self, seconds):
        """Let time pass, asking whenever something is due."""
        end = self.seconds + seconds
        self.turn()
        while (wait := self.list.next_seconds()) is not None and self.seconds + wait <= end:
            self.seconds += max(wait, 0.001)
            self.turn()
        self.seconds = end

    def seen(self, policy=POLICY):
        return self.list.seen(policy)

    def times(self, name="pod-1"):
        return [at for at, asked in self.asked if asked == name]


def test_pod_that_was_not_asked_yet_is_pending():
    world = World()
    world.watch(pod(1), pod(2))
    assert world.seen().force == config_in_force.Force(pending=2)


def test_those_that_obey_are_left_alone():
    world = World()
    world.answers = {"pod-1": NEWEST, "pod-2": NEWEST}
    world.watch(pod(1), pod(2))
    world.run(1)
    assert world.seen().force == config_in_force.Force(in_force=2)
    assert world.behind_calls == []


def test_obeying_sidecar_is_asked_once_per_period():
    world = World()
    world.answers = {"pod-1": NEWEST}
    world.watch(pod(1))
    world.run(300)
    waits = [b - a for a, b in itertools.pairwise(world.times())]
    assert all(0.8 * PERIOD_SECONDS <= wait <= PERIOD_SECONDS for wait in waits)


def test_thousands_of_pods_are_asked_100_per_second():
    world = World()
    pods = [pod(number) for number in range(6_000)]
    world.answers = {it.name: NEWEST for it in pods}
    world.watch(*pods)
    world.run(1)
    world.asked.clear()
    world.run(60)
    assert len(world.asked) < 1.3 * 60 * pace.MOST_A_SECOND


def test_those_that_are_behind_are_named_with_what_they_obey():
    world = World()
    world.answers = {
        "pod-1": OLDER,
        "pod-2": InForce(document="d2", secrets="s1", rejected=None),
        "pod-3": InForce(document="", secrets="", rejected=None),
        "pod-4": InForce(document="d1", secrets="s1", rejected="version: is 2"),
    }
    world.watch(*map(pod, range(1, 5)))
    world.turn()
    assert world.seen().force.behind == (
        "pod-1 obeys document d1",
        "pod-2 has older keys",
        "pod-3 has no document yet",
        "pod-4 version: is 2",
    )
    assert {name for name, _ in world.behind_calls} == set(world.answers)


def test_sidecar_that_cannot_be_asked_is_named_with_reason():
    world = World()
    world.answers = {"pod-1": NEWEST}
    world.watch(pod(1), pod(2))
    world.turn()
    assert world.seen().force == config_in_force.Force(
        in_force=1,
        unknown=(errors.Problem(config_in_force.NO_ANSWER, "pod-2 reset the connection"),),
    )


def test_refused_keys_are_counted_by_provider_among_those_that_tell():
    world = World()
    refusing = [frozenset(), frozenset({"a"}), frozenset({"a", "b"}), None]
    for number, refused in enumerate(refusing, 1):
        world.answers[f"pod-{number}"] = InForce(
            document="d2", secrets="s2", rejected=None, keys_refused=refused
        )
    world.watch(*map(pod, range(1, 6)))
    world.turn()
    found = world.seen().force
    assert found.keys_told == 3
    assert found.keys_refused == {"a": 2, "b": 1}


def test_one_that_is_silent_is_asked_less_and_less():
    world = World()
    world.watch(pod(1))
    world.run(3600)
    waits = [b - a for a, b in itertools.pairwise(world.times())]
    for number, wait in enumerate(waits):
        most = min(2.0**number, pace.LAST_BACKOFF_SECONDS)
        assert 0.8 * most <= wait <= most + 0.01
    assert len(waits) < 25


def test_silent_pod_is_asked_at_once_after_change_of_policy():
    world = World()
    world.watch(pod(1))
    world.run(3600)
    world.watch(pod(1))
    world.turn()
    before = len(world.asked)
    world.watch(pod(1), wanted=NEXT)
    world.turn()
    assert len(world.asked) == before + 1


@pytest.mark.parametrize("changed", [{"restarts": 1}, {"address": "10.0.0.99"}])
def test_silent_pod_is_asked_at_once_after_restart_of_sidecar(changed):
    world = World()
    world.watch(pod(1))
    world.run(3600)
    before = len(world.asked)
    values = {name: getattr(pod(1), name) for name in Pod.__slots__}
    world.watch(Pod(**{**values, **changed}))
    world.turn()
    assert len(world.asked) == before + 1


def test_one_that_is_behind_is_asked_soon_at_first_and_then_less_and_less():
    world = World()
    world.answers = {"pod-1": OLDER}
    world.watch(pod(1))
    world.run(3600)
    waits = [round(b - a, 3) for a, b in itertools.pairwise(world.times())]
    assert waits[0] == pace.LATE_SECONDS
    assert waits == sorted(waits)
    assert waits[-1] == pace.LAST_LATE_SECONDS


def test_sidecar_that_changes_its_words_is_not_asked_more_often():
    world = World()
    world.watch(pod(1))
    answers = itertools.cycle([NEWEST, OLDER])
    for _ in range(10_000):
        world.answers["pod-1"] = next(answers)
        world.run(0.1)
    assert len([at for at in world.times() if at > 500]) <= 500 / 20


def test_change_marks_answered_pods_as_behind_before_next_request():
    world = World()
    world.answers = {"pod-1": NEWEST}
    world.watch(pod(1))
    world.turn()
    world.watch(pod(1), wanted=NEXT)
    assert world.seen().force.behind == ("pod-1 obeys document d2",)
    assert world.behind_calls == [("pod-1", NEXT.content)]  # without being asked first


def test_pod_that_waits_for_its_nudge_is_asked_rarely_until_it_came():
    world = World()
    world.answers = {"pod-1": NEWEST}
    world.watch(pod(1))
    world.turn()
    world.nudges_wait = True
    world.watch(pod(1), wanted=NEXT)
    world.run(100)
    assert [round(at) for at in world.times()[1:]] == [30, 60, 90]
    world.nudge(pod(1))
    world.run(1)
    soon = [round(at - 100, 3) for at in world.times()[4:]]
    assert soon == [pace.FIRST_LOOK_SECONDS, pace.FIRST_LOOK_SECONDS + pace.LATE_SECONDS]


def test_time_of_waiting_for_nudge_slows_no_request_after_it():
    world = World()
    world.answers = {"pod-1": OLDER}
    world.nudges_wait = True
    world.watch(pod(1))
    world.run(600)
    world.nudge(pod(1))
    world.run(1)
    assert len([at for at in world.times() if at > 600]) == 2


def test_sidecar_that_restarts_is_asked_at_once_though_nudge_waits():
    world = World()
    world.answers = {"pod-1": NEWEST}
    world.watch(pod(1))
    world.turn()
    world.nudges_wait = True
    world.watch(pod(1, restarts=1), wanted=NEXT)
    world.turn()
    assert world.times() == [0, 0]


def test_nudge_makes_silent_pod_asked_no_sooner():
    world = World()
    world.nudges_wait = True
    world.watch(pod(1))
    world.run(100)
    before = len(world.asked)
    world.nudge(pod(1))
    world.run(5)
    assert len(world.asked) == before


def test_nudge_of_pod_that_has_gone_is_ignored():
    world = World()
    world.watch()
    world.nudge(pod(1))
    world.list.forget(POLICY)
    world.nudge(pod(1))
    world.run(100)
    assert world.asked == []


def test_pod_that_has_not_answered_yet_is_not_nudged_before_it_was_asked():
    world = World()
    world.watch(pod(1))
    assert world.behind_calls == []
    world.turn()
    assert world.behind_calls == [("pod-1", WANTED.content)]


def test_answer_to_what_is_no_longer_asked_is_not_taken():
    world = World()
    world.watch(pod(1))
    question = world.take()
    world.watch(pod(1), wanted=NEXT)
    world.list.answered(question, NEWEST)
    assert world.seen().force == config_in_force.Force(pending=1)
    world.answers["pod-1"] = InForce(document="d3", secrets="s2", rejected=None)
    world.run(1)
    assert world.seen().force == config_in_force.Force(in_force=1)


def test_policy_is_told_when_something_new_was_seen_and_only_then():
    world = World()
    world.answers = {"pod-1": OLDER}
    world.watch(pod(1))
    world.run(1)
    assert [policy for policy, _ in world.told] == [POLICY]
    world.run(60)
    assert len(world.told) == 1
    world.answers = {"pod-1": NEWEST}
    world.run(60)
    assert len(world.told) == 2


def test_news_of_many_pods_are_told_once():
    world = World()
    pods = [pod(number) for number in range(200)]
    world.answers = {it.name: NEWEST for it in pods}
    world.watch(*pods)
    world.turn()
    first, all_of_them = (seconds for _, seconds in world.told)
    assert (first, all_of_them) == (watchlist.PROGRESS_SECONDS, watchlist.GATHER_SECONDS)


def test_progress_is_gathered_until_last_pod_has_followed():
    world = World()
    world.answers = {"pod-1": NEWEST, "pod-2": OLDER}
    world.watch(pod(1), pod(2))
    world.turn()
    assert [seconds for _, seconds in world.told] == [watchlist.PROGRESS_SECONDS]
    world.seconds = 1.0
    world.answers = {"pod-2": NEWEST}
    world.turn()
    assert world.told[1:] == [(POLICY, 1.0 + watchlist.GATHER_SECONDS)]


def test_pod_without_answer_does_not_delay_what_others_say():
    world = World()
    world.answers = {"pod-1": NEWEST}
    world.watch(pod(1), pod(2))
    world.turn()
    assert world.told[-1] == (POLICY, watchlist.GATHER_SECONDS)


def test_policy_is_told_once_per_second_of_changing_pods():
    world = World()
    pods = [pod(number) for number in range(100)]
    world.watch(*pods)
    for turn in range(1000):
        for it in pods:
            world.answers[it.name] = InForce(document=f"d{turn}", secrets="", rejected=None)
        world.run(0.1)
        world.seen()
    assert len(world.told) <= 101


def test_answer_after_look_is_told_though_look_was_requested_before():
    """A queue may look earlier than it was told to, and then what came in between is new."""
    world = World()
    world.answers = {"pod-1": NEWEST}
    world.watch(pod(1), pod(2))
    first, second = world.take(), world.take()
    world.list.answered(first, NEWEST)
    assert len(world.told) == 1
    world.seen()
    world.list.answered(second, NEWEST)
    assert len(world.told) == 2


def test_pod_that_has_gone_is_forgotten():
    world = World()
    world.watch(pod(1), pod(2))
    question = world.take()
    world.watch(pod(2))
    assert world.forgotten == ["pod-1"]
    world.list.answered(question, NEWEST)
    world.run(3600)
    assert {name for _, name in world.asked} == {"pod-2"}
    assert world.seen().force.asked == 1


def test_policy_that_has_gone_is_forgotten():
    world = World()
    world.answers, world.days = {"pod-1": NEWEST}, {"pod-1": DAY}
    world.watch(pod(1))
    world.turn()
    world.list.forget(POLICY)
    world.list.forget(POLICY)
    before = len(world.asked)
    world.run(3600)
    assert len(world.asked) == before
    assert world.seen().quota is None
    assert world.list._policies == {}
    assert world.list._pods == 0
    assert world.list._schedule._due == {}


def test_policy_that_was_made_again_has_nothing_of_one_of_its_name():
    """Its end was not seen: both came before the next reconcile."""
    world = World()
    world.answers, world.days = {"pod-1": NEWEST}, {"pod-1": DAY}
    world.watch(pod(1))
    world.run(1)
    assert world.seen().quota == DAY
    world.days = {}
    world.watch(pod(1), uid="another")
    assert world.seen().quota is None
    assert world.seen().force == config_in_force.Force(pending=1)
    world.run(60)
    assert world.seen().quota is None
    assert world.seen().force == config_in_force.Force(in_force=1)
    assert world.list._pods == 1


def test_answer_for_deleted_policy_is_not_told_of_its_successor():
    world = World()
    world.answers, world.days = {"pod-1": NEWEST}, {"pod-1": DAY}
    world.watch(pod(1))
    world.list.answered(world.take(), NEWEST)
    question = world.take()
    assert question.is_of_quota
    world.watch(pod(1), uid="another")
    world.list.told_quota(question, DAY)
    assert world.seen().quota is None
    world.run(60)
    assert world.seen().quota == DAY


def test_no_pod_is_asked_without_document_in_cluster():
    world = World()
    world.answers = {"pod-1": NEWEST}
    world.watch(pod(1), wanted=None)
    world.run(100)
    assert world.asked == []
    world.watch(pod(1))
    world.turn()
    world.watch(pod(1), wanted=None)
    world.run(100)
    assert len(world.asked) == 1
    assert world.seen().force == config_in_force.Force(pending=1)


# --- the live quota


def test_day_is_asked_of_one_that_answers_twice_per_period():
    world = World()
    world.answers = {"pod-2": NEWEST, "pod-3": NEWEST}
    world.days = {"pod-2": DAY, "pod-3": DAY}
    world.watch(pod(1), pod(2), pod(3))
    world.run(300)
    times = [at for at, _ in world.quota_asked]
    assert {name for _, name in world.quota_asked} == {"pod-2"}
    waits = [b - a for a, b in itertools.pairwise(times)]
    assert waits == pytest.approx([watchlist.QUOTA_SECONDS] * len(waits), abs=0.01)
    assert world.seen().quota == DAY


def test_live_quotas_of_thousands_of_policies_are_asked_50_per_second():
    world = World()
    world.answers, world.days = {"pod-1": NEWEST}, {"pod-1": DAY}
    for number in range(3_000):
        namespace = f"shop-{number}"
        world.watch(pod(1, namespace), policy=ObjectKey(namespace, "search"))
    world.run(1)
    world.quota_asked.clear()
    world.run(300)
    assert len(world.quota_asked) == pytest.approx(300 * pace.MOST_QUOTAS_A_SECOND, rel=0.05)


def test_policies_without_answering_pods_make_no_live_quota_older():
    world = World()
    world.answers, world.days = {"pod-1": NEWEST}, {"pod-1": DAY}
    world.watch(pod(1))
    for number in range(3_000):
        world.watch(policy=ObjectKey("shop", f"other-{number}"))
    world.run(1)
    world.quota_asked.clear()
    world.run(300)
    assert len(world.quota_asked) == 300 / watchlist.QUOTA_SECONDS


def test_day_is_asked_of_next_where_one_cannot_tell():
    world = World()
    world.answers = {f"pod-{number}": NEWEST for number in (1, 2, 3)}
    world.days = {"pod-3": DAY}
    world.watch(pod(1), pod(2), pod(3))
    world.run(5)
    assert [name for _, name in world.quota_asked] == ["pod-1", "pod-2", "pod-3"]
    assert world.seen().quota == DAY


def test_pods_that_cannot_tell_day_are_not_asked_without_end():
    world = World()
    pods = [pod(number) for number in range(20)]
    world.answers = {it.name: NEWEST for it in pods}
    world.watch(*pods)
    world.run(300)
    rounds = 300 / watchlist.QUOTA_SECONDS + 1
    assert len(world.quota_asked) <= watchlist.QUOTA_TRIES * rounds


def test_day_that_was_seen_stays_while_nobody_tells():
    world = World()
    world.answers, world.days = {"pod-1": NEWEST}, {"pod-1": DAY}
    world.watch(pod(1))
    world.turn()
    world.answers, world.days = {}, {}
    world.run(600)
    assert world.seen().quota == DAY


def test_day_is_asked_again_once_somebody_answers_again():
    world = World()
    world.answers, world.days = {"pod-1": NEWEST}, {"pod-1": DAY}
    world.watch(pod(1))
    world.turn()
    world.answers = {}
    world.run(600)
    world.answers = {"pod-1": NEWEST}
    before = len(world.quota_asked)
    world.run(600)
    assert len(world.quota_asked) > before


def test_another_count_is_no_news_and_whether_it_is_exact_is():
    world = World()
    world.answers, world.days = {"pod-1": NEWEST}, {"pod-1": DAY}
    world.watch(pod(1))
    world.run(1)
    before = len(world.told)
    world.days["pod-1"] = quota_status.LiveQuota(
        used=2, limit=10, reset_at=DAY.reset_at, exact=True, exact_reason=""
    )
    world.run(60)
    assert len(world.told) == before
    assert world.seen().quota.used == 2
    world.days["pod-1"] = quota_status.LiveQuota(
        used=2, limit=10, reset_at=DAY.reset_at, exact=False, exact_reason="StoreAway: x"
    )
    world.run(60)
    assert len(world.told) == before + 1


# --- neighbours


def test_flood_of_silent_pods_leaves_others_their_places():
    """field.md, D1 and C8: 5 namespaces with 200 pods each that never answer, and one that does."""
    world = World()
    for number in range(5):
        namespace = f"flood-{number}"
        pods = [pod(it, namespace) for it in range(200)]
        world.watch(*pods, policy=(namespace, "flood"))
    held = []
    while (question := world.list.take()) is not None:
        held.append(question)  # and never answers
    assert len(held) == schedule.PLACES // 2
    world.answers = {"pod-1": NEWEST}
    world.watch(pod(1))
    for question in held:
        world.list.answered(question, SILENT)
    world.turn()
    assert world.seen().force == config_in_force.Force(in_force=1)


def test_reports_of_index_are_told_and_nobody_is_asked_for_quota():
    world = World()
    said = IndexReport(document="d2")
    world.answers = {"pod-1": InForce(document="d2", secrets="", rejected=None, report=said)}
    party = targets.of_index(ObjectKey("shop", "articles"))
    wanted = Wanted(document="d2", secrets="", token="t", has_quota=False)
    working = pod(1, is_of_index=True)
    world.watch(working, wanted=wanted, policy=party)
    world.run(60)
    assert world.seen(party).reports == ((working, said),)
    assert world.quota_asked == []
    assert {it for it, _ in world.told} == {party}


def test_index_and_policy_of_one_name_are_two():
    assert targets.of_index(POLICY) != POLICY
    assert targets.index_of(targets.of_index(POLICY)) == POLICY
    assert targets.index_of(POLICY) is None
