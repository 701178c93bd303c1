"""2,000 policies: the queries to a Prometheus, the time of a proof, and the cost of its answer."""

import asyncio
import copy
import json
import random
import statistics
import time
import tracemalloc

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.monitoring import conditions, endpoints, poller, rules
from embedding_operator.monitoring.connection import Connection
from embedding_operator.policy.policy import parse
from embedding_operator.render import monitoring
from tests.parts import policies, sidecar, virtual_time

pytestmark = pytest.mark.integration

POLICIES = 2000
APPLIED = 200
MOST_A_MINUTE = 4


def told(number: int, *, minutes: int = 5):
    """The PrometheusRule of one of many policies."""
    raw = copy.deepcopy(EVERYTHING)
    raw["metadata"] |= {"name": f"policy-{number}", "namespace": f"team-{number % 50}"}
    rule = monitoring.prometheus_rule(parse(raw))
    rule["spec"]["groups"][0]["rules"][0]["for"] = f"{minutes}m"
    return rule


EVERYTHING = policies.everything()


def key(number: int) -> ObjectKey:
    return ObjectKey(f"team-{number % 50}", f"policy-{number}")


def listed(rule):
    """Its groups as Prometheus lists them."""
    return [
        {
            "name": group["name"],
            "file": "/etc/prometheus/rules/all.yaml",
            "interval": 30,
            "limit": 0,
            "rules": [
                {
                    "state": "inactive",
                    "name": it.get("alert") or it["record"],
                    "query": str(it["expr"]),
                    "duration": rules.seconds(it.get("for", "0s")),
                    "keepFiringFor": 0,
                    "labels": it.get("labels", {}),
                    "annotations": it.get("annotations", {}),
                    "alerts": [],
                    "health": "ok",
                    "evaluationTime": 0.000123456,
                    "lastEvaluation": "2026-11-29T20:00:00.123456789Z",
                    "type": "alerting" if "alert" in it else "recording",
                }
                for it in group["rules"]
            ],
            "evaluationTime": 0.001234567,
            "lastEvaluation": "2026-11-29T20:00:00.123456789Z",
        }
        for group in rule["spec"]["groups"]
    ]


def answer(groups) -> bytes:
    return json.dumps({"status": "success", "data": {"groups": groups}}).encode()


class Prometheus(Connection):
    """It lists the rules of policies as short groups; what was edited, 5 s later."""

    host = "prometheus:9090"

    def __init__(self) -> None:
        self.groups: dict[str, dict] = {}
        self.asked: list[float] = []

    async def get(self, path, parameters=()):
        self.asked.append(asyncio.get_running_loop().time())
        if path == poller.RULES:
            return answer(list(self.groups.values()))
        if path == poller.RUNTIME:
            return b'{"data":{"reloadConfigSuccess":true}}'
        return b'{"data":{"result":[]}}'

    async def post(self, path, body):
        raise AssertionError("a poller only reads")


def short(number: int, *, minutes: int):
    """A policy's PrometheusRule with one rule, so that a test of times need not read 40 MB."""
    rule = {"alert": "A", "expr": "up", "for": f"{minutes}m", "labels": {}, "annotations": {}}
    group = {"name": f"group-{number}", "rules": [rule]}
    return {"metadata": {}, "spec": {"groups": [group]}}


def test_requests_per_minute_and_apply_to_proof_with_2000_policies(say):
    """In the loop's own time: one apply every second or two, Prometheus loads it 5 s later."""
    server, loop = Prometheus(), virtual_time.Loop()
    changed: list[ObjectKey] = []
    polling = poller.Poller(prometheus=(server,), alertmanagers=(), changed=changed.append)
    wanted = {}

    def apply(number: int, minutes: int) -> None:
        rule = short(number, minutes=minutes)
        wanted[number] = rules.expected(rule)
        polling.watch(key(number), wanted[number])
        (group,) = listed(rule)
        loop.call_later(5, server.groups.__setitem__, group["name"], group)

    for number in range(POLICIES):
        apply(number, 1)
    task = loop.create_task(polling.run())
    loop.pass_time(120)
    chosen = random.Random(1)
    waiting: dict[int, float] = {}
    took: list[float] = []
    for step in range(APPLIED * 2):
        if step < APPLIED:
            number = chosen.randrange(POLICIES)
            apply(number, 2 + step)
            waiting[number] = loop.time()
        loop.pass_time(chosen.uniform(1, 2))
        for number, since in list(waiting.items()):
            seen = polling.watch(key(number), wanted[number]).prometheus
            if (
                conditions.rules_loaded(conditions.Rules(groups=wanted[number]), seen).status
                == "True"
            ):
                took.append(loop.time() - since)
                del waiting[number]
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    assert waiting == {}
    minutes = [sum(start <= at < start + 60 for at in server.asked) for start in server.asked]
    assert max(minutes) == MOST_A_MINUTE
    took.sort()
    say(
        f"{POLICIES} policies: {max(minutes)} requests a minute at most; apply to proof, of which"
        f" 5 s are Prometheus's: p50 {statistics.median(took):.1f} s,"
        f" p99 {took[int(len(took) * 0.99)]:.1f} s, max {took[-1]:.1f} s of {len(took)}"
    )


def test_one_answer_about_2000_policies_is_read_in_bounded_memory(say):
    made = [told(number) for number in range(POLICIES)]
    body = answer([group for rule in made for group in listed(rule)])
    groups = {group.name: group for rule in made for group in rules.expected(rule)}

    async def rules_page(request):
        return Response(body, media_type="application/json")

    app = Starlette(routes=[Route(poller.RULES, rules_page)])
    with sidecar.served(app) as url:
        server = Connection(endpoints.Endpoint(url=url), body_bytes=256 * endpoints.MEBIBYTE)
        fetched = asyncio.run(server.get(poller.RULES))
    since = time.process_time()
    rules.loaded(fetched, groups)
    seconds = time.process_time() - since
    tracemalloc.start()
    found = rules.loaded(fetched, groups)
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == len(groups)
    assert all(it.is_current for it in found.values())
    mebibytes = len(body) / endpoints.MEBIBYTE
    say(
        f"rules of {POLICIES} policies: {len(groups)} groups, {mebibytes:.1f} MiB in one answer,"
        f" read in {seconds:.2f} s of CPU and {highest / endpoints.MEBIBYTE:.1f} MiB beside it"
    )
    # A group at a time, and never the whole answer as objects of Python.
    assert highest < len(body) / 2
