"""Access tokens in force, in virtual time: renewed, kept, refused, away, and never shown."""

import asyncio

import pytest

from embedding_contract import document, provider_terms
from embedding_sidecar import errors
from embedding_sidecar.identity import access_tokens
from embedding_sidecar.identity import entra as entra_read
from tests.fakes import entra
from tests.fakes.entra import Entra
from tests.parts import virtual_time

ASSERTION = entra.assertion() + "\n"
IDENTITY = provider_terms.Identity("http://login", entra.TENANT, entra.CLIENT)


class Held:
    """A source in virtual time, its endpoint, and its file."""

    def __init__(self, folder, endpoint=None, identity=IDENTITY, written=ASSERTION) -> None:
        self.entra = endpoint or Entra()
        self.file = folder / "token"
        if written is not None:
            self.file.write_text(written, encoding="ascii")
        self.loop = virtual_time.Loop()
        self.identity = identity
        self.source = self.loop.run_until_complete(self._make())

    async def _make(self) -> access_tokens.TokenSource:
        return access_tokens.TokenSource(
            self.identity,
            file=self.file,
            upstream=self.entra,
            wall_clock=lambda: entra.NOW,
            share=lambda: 1.0,
        )

    def obstacle(self, seconds=50.0):
        return self.loop.run_until_complete(self.source.obstacle(within_seconds=seconds))

    def renew(self, refused) -> float:
        """Seconds until it is told that a refused token was replaced, or will not be."""

        async def come() -> None:
            told = asyncio.Event()
            self.source.renew(refused, done=told.set)
            await told.wait()

        before = self.loop.time()
        self.loop.run_until_complete(come())
        return self.loop.time() - before


@pytest.fixture
def held(tmp_path) -> Held:
    return Held(tmp_path)


def test_serviceaccount_token_is_exchanged_once_for_all_that_wait(held):
    async def together():
        waiting = (held.source.obstacle(within_seconds=50) for _ in range(10))
        return await asyncio.gather(*waiting)

    assert held.loop.run_until_complete(together()) == [None] * 10
    assert held.source.token == held.entra.issued[0]
    assert [it["client_assertion"] for it in held.entra.asked] == [entra.assertion()]
    assert held.source.word is None


def test_token_is_renewed_at_half_its_life(held):
    held.loop.pass_time(1799)
    assert len(held.entra.issued) == 1
    held.loop.pass_time(2)
    assert held.source.token == held.entra.issued[1]
    held.loop.pass_time(10 * 1800)
    assert len(held.entra.issued) == 12


def test_file_is_read_for_each_exchange(held):
    held.loop.pass_time(1)
    rotated = entra.assertion(ends_at=entra.NOW + 7200)
    held.file.write_text(rotated, encoding="ascii")
    held.loop.pass_time(1800)
    assert held.entra.asked[-1]["client_assertion"] == rotated


def test_failed_renewal_keeps_token_until_its_end(held):
    held.loop.pass_time(1)
    held.entra.fault = (503, {}, {})
    held.loop.pass_time(1800)
    assert held.source.word == "identity_unreachable"
    assert held.obstacle() is None
    held.loop.pass_time(1797)
    assert held.source.token == held.entra.issued[0]
    held.loop.pass_time(3)
    assert held.source.token is None
    assert isinstance(held.obstacle(), errors.Unreachable)


def test_endpoint_that_comes_back_gives_token_within_one_minute(held):
    held.loop.pass_time(1)
    held.entra.fault = errors.Unreachable("no_connection", billed=False)
    held.loop.pass_time(4000)
    assert held.source.token is None
    held.entra.fault = None
    held.loop.pass_time(access_tokens.MOST_BACKOFF_SECONDS)
    assert held.obstacle() is None
    assert held.source.word is None


def test_exchanges_that_fail_come_ever_more_rarely(tmp_path):
    held = Held(tmp_path, Entra(fault=(500, {}, {})))
    held.loop.pass_time(60)
    assert len(held.entra.asked) == 6  # at once, and after 1, 3, 7, 15 and 31 s
    held.loop.pass_time(600)
    assert len(held.entra.asked) == 6 + 10


def test_wait_that_endpoint_names_is_kept_up_to_one_minute(tmp_path):
    held = Held(tmp_path, Entra(fault=(429, {"retry-after": "25"}, {})))
    held.loop.pass_time(24)
    assert len(held.entra.asked) == 1
    held.loop.pass_time(2)
    assert len(held.entra.asked) == 2


@pytest.mark.parametrize(
    ("identity", "written", "word"),
    [
        (IDENTITY._replace(tenant_id="9" * 8), entra.assertion(), "identity_refused_aadsts90002"),
        (IDENTITY._replace(client_id="9" * 8), entra.assertion(), "identity_refused_aadsts700016"),
        (IDENTITY, entra.assertion(subject="other"), "identity_refused_aadsts700213"),
        (IDENTITY, entra.assertion(audience="other"), "identity_refused_aadsts700212"),
        (IDENTITY, entra.assertion(ends_at=1), "identity_refused_aadsts700024"),
        (IDENTITY, "", "identity_missing"),
        (IDENTITY, "a" * 70_000, "identity_missing"),
        (IDENTITY, None, "identity_missing"),
    ],
)
def test_problem_is_one_word_and_shows_no_token(tmp_path, caplog, identity, written, word):
    held = Held(tmp_path, identity=identity, written=written)
    found = held.obstacle()
    assert isinstance(found, errors.ConfigurationError)
    assert held.source.word == word
    assert word in caplog.text
    for shown in (caplog.text, repr(held.source), repr(vars(held.source)), str(found)):
        assert "eyJ" not in shown
        assert "c2lnbmF0dXJl" not in shown


def test_problem_that_lasts_is_logged_once(tmp_path, caplog):
    held = Held(tmp_path, Entra(fault=(500, {}, {})))
    held.loop.pass_time(600)
    assert caplog.text.count("no access token") == 1


def test_token_in_force_is_not_shown(held):
    held.loop.pass_time(1)
    assert held.entra.issued[0] not in repr(vars(held.source))


def test_slow_endpoint_is_waited_for_as_long_as_caller_has(tmp_path):
    held = Held(tmp_path, Entra(delay_seconds=5.0))
    found = held.obstacle(2.0)
    assert (type(found), found.reason) == (errors.Unreachable, "identity_unreachable")
    assert held.loop.time() == pytest.approx(2.0)
    assert held.obstacle(10.0) is None
    assert held.loop.time() == pytest.approx(5.0)


def test_error_in_another_form_is_refusal_and_ends_no_renewals(tmp_path):
    # Azure's gateways and proxies answer with an object.
    said = {"error": {"code": "BadRequest", "message": "no such path"}}
    held = Held(tmp_path, endpoint=Entra(fault=(400, {}, said)))
    assert held.obstacle().reason == "identity_refused"
    held.entra.fault = None
    held.loop.pass_time(access_tokens.MOST_BACKOFF_SECONDS)
    assert held.source.token == held.entra.issued[0]


def test_fault_of_program_is_told_and_ends_no_renewals(tmp_path, monkeypatch):
    held, seen = Held(tmp_path), []
    held.loop.set_exception_handler(lambda _, told: seen.append(told["exception"]))

    def read(*_, **__):
        raise KeyError

    with monkeypatch.context() as patched:
        patched.setattr(entra_read, "read", read)
        assert held.obstacle().reason == "identity_unreachable"
    held.loop.pass_time(access_tokens.MOST_BACKOFF_SECONDS)
    assert held.source.token is not None
    assert len(seen) == 1


def test_known_problem_is_told_at_once(tmp_path):
    held = Held(tmp_path, Entra(fault=(500, {}, {})))
    assert held.obstacle() is not None
    held.entra.delay_seconds = 8.0
    held.loop.pass_time(2)
    before = held.loop.time()
    assert held.obstacle() is not None
    assert held.loop.time() == before


def test_endpoint_that_never_answers_ends_after_its_time(tmp_path):
    held = Held(tmp_path, Entra(delay_seconds=1e6))
    assert held.obstacle() is not None
    assert held.loop.time() == pytest.approx(access_tokens.EXCHANGE_SECONDS)


def test_refused_token_is_replaced_at_once(held):
    held.loop.pass_time(40)
    refused = held.source.token
    assert held.renew(refused) == pytest.approx(0.0)
    assert held.source.token == held.entra.issued[1] != refused
    held.loop.pass_time(1801)
    assert len(held.entra.issued) == 3


def test_refused_token_is_not_replaced_twice_within_30_seconds(held):
    held.loop.pass_time(29)
    held.renew(held.source.token)
    assert len(held.entra.issued) == 1


@pytest.mark.parametrize("closes_first", [True, False])
def test_source_that_is_closed_lets_no_call_wait(held, closes_first):
    assert held.obstacle() is None
    held.loop.pass_time(access_tokens.AGAIN_SECONDS)
    held.entra.delay_seconds = 1e6

    async def come() -> None:
        told = asyncio.Event()
        if closes_first:
            await held.source.close()
        held.source.renew(held.source.token, done=told.set)
        await asyncio.sleep(0.1)
        if not closes_first:
            await held.source.close()
        await told.wait()

    before = held.loop.time()
    held.loop.run_until_complete(come())
    assert held.loop.time() - before < 1


def test_older_token_that_is_refused_replaces_nothing(held):
    held.loop.pass_time(40)
    held.renew("an older one")
    assert len(held.entra.issued) == 1


# --- across edits of the policy


def provider(name, tenant=entra.TENANT) -> document.Provider:
    azure = provider_terms.Azure(
        deployment="d", tenant_id=tenant, client_id=entra.CLIENT, authority="http://login"
    )
    return document.Provider(
        name=name, kind="AzureOpenAI", model="m", base_url="http://azure", azure=azure
    )


def policy(*providers) -> document.PolicyDocument:
    return document.PolicyDocument(namespace="n", name="p", providers=providers)


def test_equal_identities_share_token_and_keep_it_across_edits(tmp_path):
    file, loop, endpoint = tmp_path / "token", virtual_time.Loop(), Entra()
    file.write_text(entra.assertion(), encoding="ascii")

    async def run() -> None:
        tokens = access_tokens.AccessTokens(file=file)
        first = tokens.follow(policy(provider("a"), provider("b")), upstream=endpoint)
        assert first["a"] is first["b"]
        assert await first["a"].obstacle(within_seconds=5) is None
        second = tokens.follow(policy(provider("a"), provider("c", "other")), upstream=endpoint)
        assert second["a"] is first["a"]
        assert second["c"] is not first["a"]
        third = tokens.follow(policy(provider("c", "other")), upstream=endpoint)
        assert third.keys() == {"c"}
        await asyncio.sleep(4000)
        assert len(endpoint.issued) == 1
        assert first["a"].token is None
        await tokens.close()

    loop.run_until_complete(run())


def test_policy_without_identity_starts_nothing(tmp_path):
    keyed = document.Provider(name="o", kind="OpenAI", model="m", base_url="http://o")

    async def run() -> None:
        tokens = access_tokens.AccessTokens(file=tmp_path / "none")
        assert tokens.follow(policy(keyed), upstream=Entra()) == {}
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_time.Loop().run_until_complete(run())
