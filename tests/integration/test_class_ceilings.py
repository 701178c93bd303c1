"""The ceiling of a class, held by real sidecars' runtimes in a real Redis, as the policy's user."""

import asyncio
import dataclasses

import pytest

from embedding_contract import document, money, names
from embedding_operator.controller import redis_users
from embedding_operator.kube.kinds import ObjectKey
from embedding_sidecar import errors
from embedding_sidecar.policy import policy_file, runtime
from embedding_sidecar.telemetry.metrics import Metrics
from embedding_sidecar.translation import provider_api
from tests.parts import redis_forms, upstreams

pytestmark = pytest.mark.integration

PASSWORD = redis_forms.PASSWORD
URL_FILE = names.secret_class_redis_url("openai")
SENT_AT_ONCE = 12


@pytest.fixture
def server(tmp_path):
    made = redis_forms.Server(tmp_path / "redis", "--requirepass", PASSWORD)
    yield made.wait(password=PASSWORD)
    made.kill()


@pytest.fixture
def url(server):
    return f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0"


@pytest.fixture(autouse=True)
def called(monkeypatch):
    """The addresses that were called; each answers one vector of 1 token."""
    return upstreams.answering(monkeypatch, tokens=1)


OPENAI = document.Provider(
    name="openai",
    kind="OpenAI",
    model="m",
    base_url="https://openai",
    class_name="openai",
    price_per_million_tokens="1",
)
OWN = document.Provider(name="own", kind="OpenAICompatible", model="own", base_url="https://own")


def loaded(url, *, name="search", quota=None, **ceilings):
    limits = document.Quota(
        daily_requests=ceilings.pop("daily_requests", None), redis_url_file=URL_FILE, **ceilings
    )
    made = document.PolicyDocument(
        requires=("class",),
        namespace="shop",
        name=name,
        providers=(OPENAI, OWN),
        failover=document.Failover(enabled=False),
        cache=document.Cache(ttl_seconds=0),
        quota=quota or document.Quota(daily_requests=None),
        classes=(document.ProviderClass(name="openai", quota=limits),),
    )
    secrets = {} if url is None else {URL_FILE: url.encode()}
    return policy_file.load(document.parse(document.dump(made)), "f" * 16, secrets)


async def spend(service, calls, *, model="m"):
    """The number of calls that were answered, and the refusals of the others."""

    async def one(number):
        try:
            await service.embed(provider_api.Ask(model=model, items=(f"text {number}",)))
        except errors.Refused as refused:
            return refused
        return None

    outcomes = await asyncio.gather(*(one(it) for it in range(calls)))
    return outcomes.count(None), [it for it in outcomes if it is not None]


def run(scenario):
    """A scenario with a maker of sidecars, which all end."""

    async def whole():
        factories = []

        def start(policy):
            factories.append(runtime.RuntimeFactory(metrics=Metrics()))
            return factories[-1].make(policy)

        try:
            return await scenario(start)
        finally:
            await asyncio.gather(*(it.close() for it in factories))

    return asyncio.run(whole())


def test_ceiling_of_one_policy_is_held_by_its_pods_together(url, called):
    users = redis_users.RedisUsers()
    mine = users.grant(url, "openai", ObjectKey("shop", "search"), before="")
    theirs = users.grant(url, "openai", ObjectKey("shop", "other"), before="")

    async def scenario(start):
        pods = [start(loaded(mine, daily_requests=20)) for _ in range(3)]
        spent = await asyncio.gather(*(spend(it.service, SENT_AT_ONCE) for it in pods))
        other = await spend(start(loaded(theirs, name="other", daily_requests=20)).service, 5)
        own = await spend(pods[0].service, 5, model="own")
        return spent, other, own

    spent, other, own = run(scenario)
    assert 0 < sum(answered for answered, _ in spent) <= 20
    refused = [it for _, them in spent for it in them]
    assert {type(it) for it in refused} == {errors.QuotaExhausted}
    assert other[0] == 5, "each policy has a ceiling of its own"
    assert own[0] == 5, "other providers of the policy are unaffected"
    assert called.count("https://openai/embeddings") == 5 + sum(it for it, _ in spent)


def test_last_call_of_ceiling_can_be_made(url):
    async def scenario(start):
        pod = start(loaded(url, daily_requests=7))
        answered = 0
        for _ in range(10):
            answered += (await spend(pod.service, 1))[0]
        return answered

    assert run(scenario) == 7


@pytest.mark.parametrize(
    "ceilings",
    [
        {"daily_tokens": 30},
        {"monthly_requests": 4},
        {"daily_cost": money.nanos("0.00003")},
    ],
)
def test_ceiling_in_every_unit_holds(url, ceilings):
    async def scenario(start):
        return await spend(start(loaded(url, **ceilings)).service, SENT_AT_ONCE)

    answered, refused = run(scenario)
    assert 0 < answered < SENT_AT_ONCE
    assert {type(it) for it in refused} == {errors.QuotaExhausted}


def test_call_that_ceiling_refuses_is_given_back_to_policy(url):
    """A failed draw costs the policy's own day nothing."""

    async def scenario(start):
        day = document.Quota(daily_requests=10)
        pod = start(loaded(url, quota=day, daily_requests=2))
        for _ in range(6):
            await spend(pod.service, 1)
        return (await pod.quota.state()).used

    assert run(scenario) == 2


def test_call_that_policy_refuses_costs_ceiling_nothing(url):
    async def scenario(start):
        pod = start(loaded(url, quota=document.Quota(daily_requests=2), daily_requests=6))
        for _ in range(5):
            await spend(pod.service, 1)
        other = start(loaded(url, daily_requests=6))
        await asyncio.sleep(0)
        left = 0
        for _ in range(6):
            left += (await spend(other.service, 1))[0]
        return left

    # The first pod holds nothing that it does not use but its lease's rest.
    assert run(scenario) >= 3


def test_ceiling_without_its_redis_lets_nobody_in(url, called):
    async def scenario(start):
        return await spend(start(loaded(None, daily_requests=20)).service, 3)

    answered, refused = run(scenario)
    assert answered == 0
    assert {it.status for it in refused} == {503}
    assert called == []


def test_ceiling_holds_for_policy_that_observes(url):
    async def scenario(start):
        day = document.Quota(daily_requests=1, observes=True)
        return await spend(start(loaded(url, quota=day, daily_requests=3)).service, SENT_AT_ONCE)

    assert 0 < run(scenario)[0] <= 3


def test_lowered_ceiling_holds_from_now_on(url):
    async def scenario():
        factory = runtime.RuntimeFactory(metrics=Metrics())
        try:
            first = factory.make(loaded(url, daily_requests=20))
            before, _ = await spend(first.service, 4)
            after, _ = await spend(factory.make(loaded(url, daily_requests=5)).service, 12)
            return before, after
        finally:
            await factory.close()

    before, after = asyncio.run(scenario())
    assert before == 4
    assert after <= 1


def test_policy_of_before_classes_is_read_as_before():
    plain = dataclasses.replace(loaded("redis://r").document, classes=(), requires=())
    assert "classes" not in document.dump(plain)
