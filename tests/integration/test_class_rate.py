"""The rate of a class, shared by the policies of all namespaces in the class's real Redis."""

import asyncio

import pytest

from embedding_contract import class_keys, document, provider_terms
from embedding_sidecar import errors
from embedding_sidecar.engine import service
from embedding_sidecar.policy import policy_file, runtime
from embedding_sidecar.rate import places
from embedding_sidecar.telemetry.metrics import Metrics
from embedding_sidecar.translation import provider_api
from tests.parts import redis_forms, upstreams

pytestmark = pytest.mark.integration

URL_FILE = "class-redis-url-openai"
LIMIT = 10
SHORT = service.Timing(attempt_seconds=1.0, request_seconds=1.5)


@pytest.fixture
def server(tmp_path):
    made = redis_forms.Server(tmp_path / "redis")
    yield made.wait()
    made.kill()


@pytest.fixture(autouse=True)
def called(monkeypatch):
    """The addresses that were called; each answers one vector, and bills 6 tokens."""
    return upstreams.answering(monkeypatch, tokens=6)


def loaded(url, *, namespace="shop", own=provider_terms.NO_RATE, **limits):
    rate = provider_terms.Rate(**(limits or {"requests_per_minute": LIMIT}))
    provider = document.Provider(
        name="openai",
        kind="OpenAI",
        model="m",
        base_url="https://openai",
        class_name="openai",
        rate=own,
    )
    made = document.PolicyDocument(
        namespace=namespace,
        name="search",
        providers=(provider,),
        cache=document.Cache(ttl_seconds=0),
        quota=document.Quota(daily_requests=None),
        classes=(
            document.ProviderClass(
                name="openai",
                quota=document.Quota(daily_requests=None, redis_url_file=URL_FILE),
                rate=rate,
            ),
        ),
    )
    secrets = {} if url is None else {URL_FILE: url.encode()}
    return policy_file.load(made, "f" * 16, secrets)


def spend(calls, *policies):
    """The outcomes of so many calls at once by a sidecar of each policy."""

    async def one(made, number):
        try:
            await made.service.embed(provider_api.Ask(model="m", items=(f"text {number}",)))
        except errors.Refused as refused:
            return refused
        return None

    async def scenario():
        factories = [runtime.RuntimeFactory(metrics=Metrics(), timing=SHORT) for _ in policies]
        made = [it.make(policy) for it, policy in zip(factories, policies, strict=True)]
        try:
            return await asyncio.gather(
                *(asyncio.gather(*(one(it, number) for number in range(calls))) for it in made)
            )
        finally:
            await asyncio.gather(*(it.close() for it in factories))

    return asyncio.run(scenario())


def url_of(server):
    return f"redis://127.0.0.1:{server.port}/0"


def test_rate_of_class_is_shared_by_policies_of_two_namespaces(server, called):
    url = url_of(server)
    outcomes = spend(8, loaded(url), loaded(url, namespace="books"))
    answered = [it for them in outcomes for it in them].count(None)
    assert answered == len(called) == LIMIT
    refused = [it for them in outcomes for it in them if it is not None]
    assert {it.status for it in refused} == {429}
    with server.client() as asked:
        assert asked.keys("*") == [class_keys.window("openai").encode()]


def test_own_rate_of_policy_counts_beside_that_of_class(server, called):
    """What the class refuses goes back to the policy's own window, and the other way round."""
    own = provider_terms.Rate(requests_per_minute=3)
    spend(8, loaded(url_of(server), own=own))
    assert len(called) == 3
    spend(8, loaded(url_of(server), namespace="books"))
    assert len(called) == LIMIT


def test_tokens_of_class_are_counted(server, called):
    outcomes = spend(8, loaded(url_of(server), tokens_per_minute=20))
    assert len(called) == 2
    assert outcomes[0].count(None) == len(called)


def test_class_without_its_redis_lets_nobody_in(called):
    (outcomes,) = spend(2, loaded(None))
    assert [it.status for it in outcomes] == [503, 503]
    assert called == []


def test_windows_of_policy_without_rates_are_none():
    assert not places.has_any(loaded(None, requests_per_minute=None).document)
