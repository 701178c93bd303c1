"""One request to a Prometheus serves all policies, at most four times a minute."""

import asyncio
import itertools
import json

import pytest

from embedding_operator.errors import Problem
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.monitoring import conditions, poller, rules
from embedding_operator.monitoring.answers import NoAnswer
from embedding_operator.monitoring.connection import Connection
from embedding_operator.render import monitoring
from tests.parts import policies, virtual_time

RULE = monitoring.prometheus_rule(policies.parsed())
GROUP, *_ = rules.expected(RULE)
KEY = ObjectKey("shop", "search")


def listed(rule=RULE, *, name=None, health="ok", **more):
    """The rules of a PrometheusRule as Prometheus lists them."""
    group, *_ = rule["spec"]["groups"]
    seen = [
        {
            "name": it.get("alert") or it.get("record"),
            "type": "alerting",
            "query": it["expr"],
            "duration": rules.seconds(it.get("for", "0s")),
            "labels": it["labels"],
            "annotations": it["annotations"],
            "health": health,
        }
        for it in group["rules"]
    ]
    return {"name": name or group["name"], "file": "rules.yaml", "rules": seen, **more}


def answer(groups):
    return json.dumps({"status": "success", "data": {"groups": groups}}).encode()


class Server(Connection):
    """A Prometheus or an Alertmanager that notes when it is asked for what."""

    host = "prometheus:9090"

    def __init__(self) -> None:
        self.groups: list | bytes = []
        self.asked: list[tuple[float, str]] = []
        self.failure: NoAnswer | None = None
        self.reloaded = True

    async def get(self, path, parameters=()):
        self.asked.append((asyncio.get_running_loop().time(), path))
        if self.failure is not None:
            raise self.failure
        if path == poller.RULES:
            return self.groups if isinstance(self.groups, bytes) else answer(self.groups)
        if path == poller.RUNTIME:
            return json.dumps({"data": {"reloadConfigSuccess": self.reloaded}}).encode()
        if path == poller.QUERY:
            return b'{"data":{"result":[]}}'
        return b'{"cluster":{"status":"ready"}}'

    async def post(self, path, body):
        raise AssertionError("a poller only reads")

    def most_in_a_minute(self) -> int:
        times = [at for at, _ in self.asked]
        return max(sum(start <= at < start + 60 for at in times) for start in times)

    def gaps(self, path) -> list[float]:
        times = [at for at, asked in self.asked if asked == path]
        return [after - before for before, after in itertools.pairwise(times)]


class Polling:
    def __init__(self, *servers: Server, alertmanagers=()) -> None:
        self.changed: list[ObjectKey] = []
        self.loop = virtual_time.Loop()
        self.poller = poller.Poller(
            prometheus=servers, alertmanagers=alertmanagers, changed=self.changed.append
        )
        self.task = self.loop.create_task(self.poller.run())

    def rules(self, key=KEY, groups=(GROUP,)):
        seen = self.poller.watch(key, groups).prometheus
        return conditions.rules_loaded(conditions.Rules(groups=groups), seen)

    def reasons(self, seconds: int) -> list[str]:
        """The reason of RulesLoaded in each second."""
        found = []
        for _ in range(seconds):
            self.loop.pass_time(1)
            found.append(self.rules().reason)
        return found


@pytest.fixture
def polling():
    made = []

    def start(*servers, **more):
        made.append(Polling(*servers, **more))
        return made[-1]

    yield start
    for one in made:
        one.task.cancel()
        one.loop.run_until_complete(asyncio.gather(one.task, return_exceptions=True))


def many(count):
    return {
        ObjectKey(f"team-{number % 20}", f"policy-{number}"): (
            rules.Group(
                name=f"group-{number}",
                uid=None,
                label_names=GROUP.label_names,
                fingerprint=GROUP.fingerprint,
            ),
        )
        for number in range(count)
    }


@pytest.mark.parametrize("count", [1, 2000])
@pytest.mark.parametrize("are_loaded", [True, False])
def test_server_is_asked_four_times_per_minute_whatever_number_of_policies(
    polling, count, are_loaded
):
    server, other = Server(), Server()
    running = polling(server, alertmanagers=(other,))
    for key, groups in many(count).items():
        running.poller.watch(key, groups)
    if are_loaded:
        group = listed()
        server.groups = answer([{**group, "name": f"group-{number}"} for number in range(count)])
    running.loop.pass_time(180)
    assert server.most_in_a_minute() == 4
    assert other.most_in_a_minute() == 4
    assert {path for _, path in other.asked} == {"/api/v2/status"}


def test_editing_policy_constantly_is_asked_no_more_and_starves_nothing(polling):
    server = Server()
    running = polling(server)
    for number in range(300):
        edited = rules.Group(
            name=GROUP.name, uid=None, label_names=GROUP.label_names, fingerprint=str(number)
        )
        running.poller.watch(KEY, (edited,))
        running.loop.pass_time(3)
    assert server.most_in_a_minute() == 4
    assert max(server.gaps(poller.QUERY)) <= 120


def test_rules_are_asked_for_every_half_minute(polling):
    server = Server()
    server.groups = [listed()]
    running = polling(server)
    running.rules()
    running.loop.pass_time(600)
    assert max(server.gaps(poller.RULES)) <= 2 * poller.SLOT_SECONDS * poller.JITTER


def test_slots_are_jittered(polling):
    server = Server()
    polling(server).loop.pass_time(300)
    times = [at for at, _ in server.asked]
    assert len({round(b - a, 3) for a, b in itertools.pairwise(times)}) > 3


def test_apply_brings_next_question_for_rules_forward(polling):
    server = Server()
    server.groups = [listed()]
    running = polling(server)
    running.rules()
    running.loop.pass_time(200)
    while server.asked[-1][1] != poller.RULES:  # the next would be for targets
        running.loop.pass_time(1)
    asked = len(server.asked)
    edited = rules.Group(
        name=GROUP.name, uid=None, label_names=GROUP.label_names, fingerprint="edited"
    )
    running.poller.watch(KEY, (edited,))
    running.loop.pass_time(poller.SLOT_SECONDS * poller.JITTER)
    slot = server.asked[asked][1]
    if slot != poller.RULES:  # every third is for something else
        running.loop.pass_time(poller.SLOT_SECONDS * poller.JITTER)
        slot = server.asked[asked + 1][1]
    assert slot == poller.RULES


def test_edited_group_is_unknown_until_next_request(polling):
    server = Server()
    server.groups = [listed()]
    running = polling(server)
    running.rules()
    running.loop.pass_time(40)
    assert running.rules().reason == "Loaded"
    edited = rules.Group(
        name=GROUP.name, uid=None, label_names=GROUP.label_names, fingerprint="edited"
    )
    assert running.rules(groups=(edited,)).reason == conditions.NOT_ASKED
    running.loop.pass_time(40)
    assert running.rules(groups=(edited,)).reason == "Outdated"


def test_policies_with_news_are_told_and_no_others(polling):
    server = Server()
    running = polling(server)
    other = ObjectKey("shop", "other")
    running.rules()
    running.poller.watch(other, ())
    running.loop.pass_time(200)
    for key, groups in ((KEY, (GROUP,)), (other, ())):
        running.poller.watch(key, groups)
    running.changed.clear()
    running.loop.pass_time(200)
    assert running.changed == []
    server.groups = [listed()]
    running.loop.pass_time(40)
    assert set(running.changed) == {KEY}
    assert running.rules().reason == "Loaded"


def test_policy_that_went_is_told_nothing(polling):
    server = Server()
    running = polling(server)
    running.rules()
    running.poller.forget(KEY)
    running.loop.pass_time(100)
    assert running.changed == []


AWAY = NoAnswer("Unreachable", "prometheus:9090 cannot be reached")


def test_one_failure_alone_is_no_news(polling):
    server = Server()
    server.groups = [listed()]
    running = polling(server)
    running.rules()
    running.loop.pass_time(100)
    server.failure = AWAY
    asked = len(server.asked)
    while len(server.asked) == asked:
        running.loop.pass_time(1)
    server.failure = None
    assert set(running.reasons(100)) == {"Loaded"}


def test_stopped_server_is_unknown_within_35_seconds(polling):
    for second in range(0, 60, 4):
        server = Server()
        server.groups = [listed()]
        running = polling(server)
        running.rules()
        running.loop.pass_time(100 + second)
        assert running.rules().reason == "Loaded"
        server.failure = AWAY
        assert running.reasons(35)[-1] == "Unreachable"


def test_group_that_is_unloaded_is_false_within_35_seconds(polling):
    for second in range(0, 60, 4):
        server = Server()
        server.groups = [listed()]
        running = polling(server)
        running.rules()
        running.loop.pass_time(100 + second)
        server.groups = []
        assert running.reasons(35)[-1] == "NotLoaded"


def test_bug_of_one_answer_ends_nothing(polling, caplog):
    server = Server()
    running = polling(server)
    running.rules()
    server.groups = None  # type: ignore[assignment] # json null
    server.failure = RuntimeError("a bug")  # type: ignore[assignment] # not one of ours
    running.loop.pass_time(60)
    server.failure, server.groups = None, [listed()]
    running.loop.pass_time(60)
    assert running.rules().reason == "Loaded"
    assert "a request to a monitoring server failed" in caplog.text


def test_problem_of_first_question_is_told_at_once(polling):
    server = Server()
    server.failure = AWAY
    running = polling(server)
    running.rules()
    running.loop.pass_time(1)
    assert running.rules() == ("Unknown", "Unreachable", f"{AWAY.message}.")
    assert running.poller.watch(KEY, (GROUP,)).prometheus[0].groups_problem == Problem(
        AWAY.reason, AWAY.message
    )
