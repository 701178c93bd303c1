"""Calls by an identity: with its access token, a new one where that is refused, and without any."""

import asyncio
from dataclasses import replace

import pytest

from embedding_contract import provider_terms
from embedding_sidecar.engine.service import Timing
from embedding_sidecar.identity import access_tokens
from tests.fakes import entra
from tests.fakes import provider as stand_in
from tests.fakes.entra import Entra
from tests.parts.world import World, ask, one, vectors

MODEL = "text-embedding-3-small"
AZURE = provider_terms.Azure(
    deployment=MODEL,
    tenant_id=entra.TENANT,
    client_id=entra.CLIENT,
    authority="http://login",
)


class Called(World):
    """Azure by an identity, then the other providers."""

    def __init__(self, folder, *others, azure=AZURE, endpoint=None, written=None, **more) -> None:
        file = folder / "token"
        file.write_text(written or entra.assertion(), encoding="ascii")
        by_identity = one("azure", MODEL, kind="AzureOpenAI", azure=azure, api_key_file=None)
        self.entra = endpoint or Entra()
        super().__init__(
            by_identity,
            *others,
            keys={it.name: stand_in.KEY for it in others},
            login=self.entra,
            identity_token=file,
            **more,
        )
        self.net["azure"].key = "eyJaccess-token-0001"


@pytest.fixture
def called(tmp_path) -> Called:
    return Called(tmp_path)


def test_access_token_is_sent(called):
    answer = called.embed("a", model=MODEL)
    assert answer.vectors == vectors(MODEL, "a")
    assert [it.key for it in called.net["azure"].calls] == ["eyJaccess-token-0001"]
    assert called.net["azure"].calls[0].path.startswith("/azure/openai/deployments/")
    assert called.service.health() == {"azure": "ok"}
    assert called.service.failures() == {}


def test_first_calls_wait_for_first_token(tmp_path):
    called = Called(tmp_path, endpoint=Entra(delay_seconds=3.0))
    assert called.embed("a", model=MODEL).provider == "azure"
    assert called.loop.time() == pytest.approx(3.0)


def test_refused_token_is_replaced_within_call(called):
    called.embed("a", model=MODEL)
    called.loop.pass_time(access_tokens.AGAIN_SECONDS)
    called.net["azure"].key = "eyJaccess-token-0002"
    answer = called.embed("b", model=MODEL)
    assert (answer.provider, answer.attempts) == ("azure", 2)
    assert [it.key[-1] for it in called.net["azure"].calls] == ["1", "1", "2"]
    assert called.quota.settled == [(True, 1), (False, 0), (True, 1)]
    assert called.service.failures() == {}


def test_token_that_is_refused_again_is_denied_and_no_key_is_blamed(called):
    called.loop.pass_time(access_tokens.AGAIN_SECONDS)
    called.net["azure"].key = "another"
    refused = called.refusal("a", model=MODEL)
    assert (refused.code, refused.attempts) == ("all_providers_failed", 2)
    assert "azure: identity_denied: Incorrect API key provided" in refused.message
    assert called.service.failures() == {"azure": "identity_denied"}
    assert called.service.refused_keys() == frozenset()
    assert called.service.health() == {"azure": "failing"}


def test_request_ends_in_time_while_refused_token_is_replaced(tmp_path):
    timing = Timing(attempt_seconds=10.0, request_seconds=10.0)
    called = Called(tmp_path, timing=timing)
    called.embed("a", model=MODEL)
    called.loop.pass_time(access_tokens.AGAIN_SECONDS)
    called.net["azure"].key = "another"
    called.net["azure"].delay_seconds = 8.0
    called.entra.delay_seconds = 9.0
    began = called.loop.time()
    called.refusal("b", model=MODEL)
    assert called.loop.time() - began == pytest.approx(10.0)


def test_call_that_nobody_waits_for_is_not_made_again(called):
    called.embed("a", model=MODEL)
    called.loop.pass_time(access_tokens.AGAIN_SECONDS)
    called.net["azure"].key = "another"
    called.entra.delay_seconds = 9.0

    async def hang_up():
        asked = asyncio.ensure_future(called.service.embed(ask("b", model=MODEL)))
        await asyncio.sleep(1)
        asked.cancel()
        await asyncio.sleep(20)

    called.run(hang_up())
    assert len(called.net["azure"].calls) == 2


@pytest.mark.parametrize(
    ("change", "word", "words"),
    [
        ({"tenant_id": "9" * 8}, "identity_refused", "AADSTS90002"),
        ({"client_id": "9" * 8}, "identity_refused", "AADSTS700016"),
    ],
)
def test_other_provider_of_space_answers_where_identity_is_refused(tmp_path, change, word, words):
    called = Called(tmp_path, one("openai", MODEL), azure=replace(AZURE, **change))
    answer = called.embed("a", model=MODEL)
    assert (answer.provider, answer.space) == ("openai", "openai/text-embedding-3-small@1536")
    assert called.net["azure"].calls == []
    assert called.seen.errors == [("misconfigured", "azureopenai")]
    assert called.service.health() == {"azure": word, "openai": "ok"}
    assert called.service.failures() == {"azure": f"{word}_{words.lower()}"}
    called.net["openai"].fault = stand_in.status(401)
    assert f"azure: {word}: {words};" in called.refusal("b", model=MODEL).message


def test_endpoint_that_is_away_is_unreachable(tmp_path):
    called = Called(tmp_path, one("openai", MODEL), endpoint=Entra(fault=(503, {}, {})))
    assert called.embed("a", model=MODEL).provider == "openai"
    assert called.seen.errors == [("unreachable", "azureopenai")]
    assert called.service.health()["azure"] == "identity_unreachable"


def test_slow_endpoint_leaves_other_provider_its_time(tmp_path):
    called = Called(tmp_path, one("openai", MODEL), endpoint=Entra(delay_seconds=1e6))
    assert called.embed("a", model=MODEL).provider == "openai"
    assert called.loop.time() <= 25.0


def test_pod_without_its_token_names_that(tmp_path):
    called = Called(tmp_path, written=" ")
    refused = called.refusal("a", model=MODEL)
    assert "azure: identity_missing" in refused.message
    assert refused.status == 502


def test_cached_vectors_need_no_token(called):
    called.embed("a", model=MODEL)
    called.entra.fault = (400, {}, {"error": "invalid_request", "error_codes": [90002]})
    called.loop.pass_time(4000)
    assert called.embed("a", model=MODEL).hits == 1
    assert called.service.health() == {"azure": "identity_refused"}
