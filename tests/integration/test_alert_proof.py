"""Rules loaded and a test alert delivered, as real Prometheus and Alertmanager report it."""

import asyncio
import copy
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.monitoring import alert_test, conditions, endpoints, poller, rules
from embedding_operator.monitoring.alert_tester import AlertTester
from embedding_operator.monitoring.connection import Connection
from embedding_operator.policy.policy import parse
from embedding_operator.render import monitoring as rendered
from tests.parts import monitoring, policies, ports, sidecar

pytestmark = pytest.mark.integration

GROUPS = 33
SLOT_SECONDS = 0.1


def policy(number: int):
    raw = copy.deepcopy(EVERYTHING)
    namespace = f"team-{number % 3}"
    raw["metadata"] |= {"name": f"search-{number}", "namespace": namespace}
    expr = f'up{{namespace="{namespace}"}} > 1'
    raw["spec"]["alerts"]["additional"] = [{"name": "Quiet", "expr": expr}]
    return raw


EVERYTHING = policies.everything()
POLICIES = 11
TOLD = [rendered.of(parse(policy(number)), additional_allowed=True) for number in range(POLICIES)]
RULES = [[it for it in made.objects if it["kind"] == "PrometheusRule"] for made in TOLD]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with monitoring.chain(tmp_path_factory.mktemp("chain")) as running:
        yield running


def groups(number: int = 0):
    """The rule groups of a policy: its alerts, its records, and the alerts that it adds."""
    return copy.deepcopy([group for rule in RULES[number] for group in rule["spec"]["groups"]])


def load(chain, number: int):
    """Have Prometheus load the rules of a policy."""
    chain.prometheus.rules(f"policy-{number}", groups(number))


@pytest.fixture
def loaded(chain):
    for number in range(POLICIES):
        load(chain, number)
    assert chain.prometheus.reload()
    yield chain
    for file in (chain.prometheus.folder / "rules").iterdir():
        file.unlink()
    assert chain.prometheus.reload()


# --- embedding-operator alerts verify


@pytest.fixture
def verify(tmp_path):
    def run(*arguments: str, code: int, count: int = 2, **environment: str) -> str:
        file = tmp_path / f"policies-{count}.yaml"
        if not file.exists():
            file.write_text(yaml.safe_dump_all(map(written, range(count))), encoding="utf-8")
        assert sum(len(groups(number)) for number in range(POLICIES)) == GROUPS
        command = [sys.executable, "-m", "embedding_operator", "alerts", "verify"]
        done = subprocess.run(
            [*command, "--additional", "--policies", str(file), *arguments],
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def written(number: int):
    """A policy as a file holds it."""
    raw = policy(number)
    metadata = {key: raw["metadata"][key] for key in ("name", "namespace")}
    return {**raw, "metadata": metadata}


def test_33_groups_of_several_policies_are_verified(loaded, verify):
    servers = ("--prometheus", loaded.prometheus.url, "--alertmanager", loaded.alertmanager.url)
    said = verify("--expect", str(GROUPS), *servers, code=0, count=POLICIES)
    assert f"rule groups: {GROUPS} expected, {GROUPS} loaded, {GROUPS} healthy" in said
    assert "disabled (a single instance, ready)" in said


def test_verify_names_group_that_was_deleted_by_hand(loaded, verify):
    gone, *kept = groups(7)
    loaded.prometheus.rules("policy-7", kept)
    assert loaded.prometheus.reload()
    said = verify(
        *("--expect", str(GROUPS), "--prometheus", loaded.prometheus.url), code=1, count=POLICIES
    )
    assert f"{gone['name']}: not loaded" in said
    assert f"{GROUPS} expected, {GROUPS - 1} loaded, {GROUPS - 1} healthy" in said


def test_verify_compares_number_of_groups_too(loaded, verify):
    said = verify("--expect", "40", "--prometheus", loaded.prometheus.url, code=1)
    assert "--expect says 40 groups, but the policies have 6" in said


def test_verify_ends_with_2_where_it_cannot_ask(loaded, verify):
    nobody = f"http://127.0.0.1:{ports.free()}"
    assert "cannot ask: " in verify("--prometheus", nobody, code=2)
    servers = ("--prometheus", loaded.prometheus.url, "--alertmanager", nobody)
    assert "cannot ask: " in verify(*servers, code=2)
    # An Alertmanager answers, and has no rules.
    said = verify("--prometheus", loaded.alertmanager.url, code=2)
    assert "/api/v1/rules with 404: check the URL's path" in said
    assert "no Prometheus to ask" in verify(code=2)


def test_verify_takes_servers_from_charts_file_or_environment(loaded, verify, tmp_path):
    file = tmp_path / "monitoring.yaml"
    servers = {"prometheus": [{"url": loaded.prometheus.url}]}
    file.write_text(yaml.safe_dump(servers), encoding="utf-8")
    verify("--settings", str(file), code=0)
    verify(code=0, MONITORING_FILE=str(file))
    verify(code=0, PROMETHEUS_URL=loaded.prometheus.url, ALERTMANAGER_URL=loaded.alertmanager.url)


# --- conditions


class Watched:
    """A poller of a chain, in slots of a tenth of a second, that watches one policy."""

    def __init__(self, url: str, number: int = 0, **more) -> None:
        self.key = ObjectKey("team-0", f"search-{number}")
        self.groups = tuple(group for it in RULES[number] for group in rules.expected(it))
        self.changed: list[ObjectKey] = []
        server = Connection(endpoints.Endpoint(url=url, **more), body_bytes=2**20)
        self.poller = poller.Poller(
            prometheus=(server,),
            alertmanagers=(),
            changed=self.changed.append,
            slot_seconds=SLOT_SECONDS,
        )

    def verdict(self, running: tuple[str, ...] | None = None):
        seen = self.poller.watch(self.key, self.groups).prometheus
        if running is not None:
            return conditions.scraped(running, seen)
        return conditions.rules_loaded(conditions.Rules(groups=self.groups), seen)

    def until(self, reason: str, **more):
        """Ask until the condition has this reason; it."""

        async def ask():
            asking = asyncio.create_task(self.poller.run())
            deadline = time.monotonic() + 60
            while self.verdict(**more).reason != reason:
                assert time.monotonic() < deadline, self.verdict(**more)
                await asyncio.sleep(SLOT_SECONDS / 2)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

        asyncio.run(ask())
        return self.verdict(**more)


def test_rules_are_loaded_once_prometheus_lists_them(chain):
    watched = Watched(chain.prometheus.url)
    assert watched.verdict().reason == conditions.NOT_ASKED
    assert watched.until("NotLoaded").status == "False"
    load(chain, 0)
    assert chain.prometheus.reload()
    found = watched.until("Loaded")
    host = chain.prometheus.url.removeprefix("http://")
    assert found == ("True", "Loaded", f"3 of 3 rule groups are loaded by {host}.")
    assert watched.changed
    chain.prometheus.rule_file("policy-0").unlink()
    assert chain.prometheus.reload()
    assert f"not loaded: {watched.groups[0].name}; " in watched.until("NotLoaded").message


def test_older_form_of_rules_is_not_what_policy_wants(chain):
    older = groups()
    older[0]["rules"][0]["for"] = "7m"
    chain.prometheus.rules("policy-0", older)
    assert chain.prometheus.reload()
    watched = Watched(chain.prometheus.url)
    assert "an older version" in watched.until("Outdated").message
    load(chain, 0)
    assert chain.prometheus.reload()
    assert watched.until("Loaded").status == "True"


def test_refused_reload_is_told_while_rules_are_missing(chain):
    chain.prometheus.rule_file("policy-0").unlink(missing_ok=True)
    assert chain.prometheus.reload()
    watched = Watched(chain.prometheus.url)
    refused = groups()
    refused[0]["rules"][0]["expr"] = "sum by ("
    chain.prometheus.rules("policy-0", refused)
    assert not chain.prometheus.reload()
    assert "The last reload of" in watched.until("ReloadFailed").message
    load(chain, 0)
    assert chain.prometheus.reload()
    assert watched.until("Loaded").status == "True"


def test_failing_evaluation_is_told_in_prometheus_own_words(chain):
    failing = groups()
    failing[0]["rules"][0]["expr"] = "up * on() up"
    chain.prometheus.rules("policy-0", failing)
    labels = [{"namespace": "a", "pod": name, "policy": "x"} for name in ("a", "b")]
    url = chain.prometheus.url.removeprefix("http://")
    chain.prometheus.targets([monitoring.Target(address=url, labels=it) for it in labels])
    assert chain.prometheus.reload()
    watched = Watched(chain.prometheus.url)
    found = watched.until("EvaluationFailing")
    assert "found duplicate series for the match group" in found.message
    chain.prometheus.targets([])
    load(chain, 0)
    assert chain.prometheus.reload()


def test_sidecars_are_scraped_once_they_are_targets_that_are_up(chain):
    up = chain.prometheus.url.removeprefix("http://")
    named = {"namespace": "team-0", "policy": "search-0"}
    targets = [
        monitoring.Target(address=up, labels={**named, "pod": "a"}),
        monitoring.Target(address=f"127.0.0.1:{ports.free()}", labels={**named, "pod": "b"}),
        monitoring.Target(address=up, labels={**named, "policy": "other", "pod": "c"}),
    ]
    chain.prometheus.targets(targets[:1])
    watched = Watched(chain.prometheus.url)
    assert watched.until("Up", running=("a",)).message == ("Prometheus scrapes 1 of 1 sidecars.")
    chain.prometheus.targets(targets)
    chain.until(lambda: chain.prometheus.query('up{policy="search-0", pod="b"}'))
    found = Watched(chain.prometheus.url).until("NotScraped", running=("a", "b", "c"))
    assert found.message == (
        "Prometheus scrapes 1 of 3 sidecars; not scraped: b (down); c (no target)."
    )
    chain.prometheus.targets([])


def test_stopped_prometheus_is_unknown_and_heals(chain):
    load(chain, 0)
    assert chain.prometheus.reload()
    watched = Watched(chain.prometheus.url)
    watched.until("Loaded")
    chain.prometheus.stop()
    try:
        found = watched.until("Unreachable")
    finally:
        chain.prometheus.start()
    host = chain.prometheus.url.removeprefix("http://")
    assert found == ("Unknown", "Unreachable", f"{host} cannot be reached.")
    assert watched.until("Loaded").status == "True"


# --- test alerts

LABELS = {**alert_test.labels(policies.parsed()), "namespace": "shop"}


def make(*urls: str, sent_seconds: float = 30.0):
    asks = [Connection(endpoints.Endpoint(url=url), body_bytes=2**20) for url in urls]
    tester = AlertTester(
        alertmanagers=asks,
        changed=lambda _: None,
        sent_seconds=sent_seconds,
        look_seconds=0.2,
    )
    return asyncio.run(tester.test(LABELS))


@pytest.fixture
def receiving():
    receiver = monitoring.Receiver()
    with sidecar.served(receiver.app()) as url:
        yield receiver, url


@pytest.fixture
def alertmanager(tmp_path: Path):
    started: list[monitoring.Alertmanager] = []

    def start(**more) -> monitoring.Alertmanager:
        started.append(monitoring.Alertmanager(tmp_path / f"am-{len(started)}", **more))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_test_alert_is_routed_delivered_and_resolved(receiving, alertmanager):
    receiver, url = receiving
    server = alertmanager(receiver_url=url)
    found = make(server.url)
    assert (found.result, found.receivers) == ("Delivered", ("default",))
    assert found.message == "Routed to default and delivered by webhook."
    (alert,) = receiver.alerts(alert_test.ALERT)
    assert alert["labels"] == LABELS
    assert alert["labels"]["test"] == "true"
    sidecar.wait_until(lambda: receiver.alerts(alert_test.ALERT, status="resolved"))
    assert server.alerts(alert_test.ALERT) == []


def test_receiver_that_answers_500_is_routed_and_not_delivered(receiving, alertmanager):
    receiver, url = receiving
    receiver.status = 500
    found = make(alertmanager(receiver_url=url).url)
    assert (found.result, found.receivers) == ("NotDelivered", ("default",))
    assert "Routed to default but not delivered: webhook" in found.message
    assert receiver.alerts(alert_test.ALERT)


def test_absent_receiver_is_not_delivered(alertmanager):
    found = make(alertmanager(receiver_url=f"http://127.0.0.1:{ports.free()}").url)
    assert found.result == "NotDelivered"


def test_alert_without_route_is_said_to_have_none(receiving, alertmanager):
    _, url = receiving
    server = alertmanager(
        route={
            "receiver": "null",
            "routes": [{"receiver": "hook", "matchers": ['team="x"']}],
            **monitoring.AT_ONCE,
        },
        receivers=[
            {"name": "null"},
            {"name": "hook", "webhook_configs": [monitoring.webhook(url)]},
        ],
    )
    found = make(server.url)
    assert (found.result, found.receivers) == ("NoReceiver", ("null",))
    assert "routed to receiver null, which notifies nobody; add a route" in found.message


def test_silenced_test_alert_is_said_to_be_held_back(receiving, alertmanager):
    server = alertmanager(receiver_url=receiving[1])
    silence = {
        "matchers": [{"name": "test", "value": "true", "isRegex": False}],
        "startsAt": "2020-01-01T00:00:00Z",
        "endsAt": "2100-01-01T00:00:00Z",
        "createdBy": "a test",
        "comment": "quiet",
    }
    server.http.post("/api/v2/silences", json=silence).raise_for_status()
    assert make(server.url).result == "Suppressed"


def test_route_that_waits_too_long_is_named(receiving, alertmanager):
    route = {"receiver": "default", "group_wait": "1h"}
    found = make(
        alertmanager(receiver_url=receiving[1], route=route, receivers=None).url, sent_seconds=2.0
    )
    assert found.result == "NotDelivered"
    assert "check the route's group_wait" in found.message


def test_absent_alertmanager_is_told_at_once():
    port = ports.free()
    found = make(f"http://127.0.0.1:{port}")
    assert (found.result, found.message) == (
        "CannotAsk",
        f"127.0.0.1:{port} cannot be reached.",
    )


def test_one_alertmanager_of_two_is_enough(receiving, alertmanager):
    server = alertmanager(receiver_url=receiving[1])
    assert make(f"http://127.0.0.1:{ports.free()}", server.url).result == "Delivered"
