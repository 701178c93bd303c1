"""A real sidecar before Azure OpenAI and OpenAI, each played after its reference, and Entra ID.

Nothing here was run against Microsoft or OpenAI.
"""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import openai
import pytest

from embedding_contract import document, fingerprint, names, provider_terms
from tests.fakes import entra as entra_fake
from tests.fakes import provider as stand_in
from tests.fakes.entra import Entra
from tests.fakes.provider import StandIn
from tests.parts import sidecar

pytestmark = [pytest.mark.integration]

MODEL = "text-embedding-3-small"
SPACE = f"openai/{MODEL}@1536"
DEPLOYMENT = "embeddings-eu"
KEY = "0123456789abcdef0123456789abcdef"
TEXTS = [f"text {number}" for number in range(300)]


@dataclass
class Deployed(StandIn):
    """Azure as its references say: a deployment that runs MODEL; another one is not found."""

    token: str | None = None
    versions: tuple[str, ...] = ("2024-10-21",)

    def answer(self, path, headers, body):
        asked = json.loads(body)
        name = asked.pop("model", None) or path.partition("/deployments/")[2].split("/")[0]
        made = super().answer(path, headers, json.dumps({"model": MODEL, **asked}).encode())
        if ("authorization" in headers) == ("api-key" in headers):
            return 401, {}, {"error": {"code": "401", "message": "Access denied due to no key"}}
        if self.token is not None and headers.get("authorization") != f"Bearer {self.token}":
            words = "Unauthorized. Access token is missing, invalid, or have expired."
            return 401, {}, {"statusCode": 401, "message": words}
        if name != DEPLOYMENT:
            words = "The API deployment for this resource does not exist."
            return 404, {}, {"error": {"code": "DeploymentNotFound", "message": words}}
        return made


class Around:
    """Azure, OpenAI and Entra at sockets, and a sidecar that obeys a policy with them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.azure = Deployed(key=None)
        self.openai = StandIn(key=KEY)
        self.entra = Entra(now=time.time())
        served = (self.azure.app(), self.openai.app(), self.entra.app())
        self.at_azure, self.at_openai, self.at_entra = (
            stack.enter_context(sidecar.served(it)) for it in served
        )
        self.folder, self.secrets = folder, folder / "secrets"
        self.secrets.mkdir(parents=True)
        self.token = folder / "token"
        self.federate()
        for name, value in (("api-token", sidecar.TOKEN), ("azure", KEY), ("openai", KEY)):
            (self.secrets / name).write_text(value)
        self.running = sidecar.Sidecar(
            *("--document", folder / "policy.json", "--secrets", self.secrets),
            *("--identity-token", self.token),
            environment={"EMBEDDING_REQUEST_SECONDS": "10"},
            log=folder / "sidecar.log",
        )
        self.running.wait()

    def federate(self, **claims) -> None:
        """Write the ServiceAccount token as kubelet does."""
        new = self.folder / "new"
        new.write_text(entra_fake.assertion(**{"ends_at": time.time() + 3600, **claims}))
        new.replace(self.token)

    def azure_provider(self, **more) -> document.Provider:
        terms = provider_terms.Azure(deployment=DEPLOYMENT, api_version="2024-10-21")
        return document.Provider(
            **{
                "name": "azure",
                "kind": "AzureOpenAI",
                "model": MODEL,
                "base_url": f"{self.at_azure}/azure",
                "api_key_file": "azure",
                "azure": terms,
                **more,
            }
        )

    def by_identity(self, **more) -> document.Provider:
        terms = provider_terms.Azure(
            deployment=DEPLOYMENT,
            tenant_id=entra_fake.TENANT,
            client_id=entra_fake.CLIENT,
            authority=self.at_entra,
        )
        return self.azure_provider(api_key_file=None, azure=replace(terms, **more))

    def openai_provider(self, **more) -> document.Provider:
        return document.Provider(
            name="openai",
            kind="OpenAI",
            model=MODEL,
            base_url=f"{self.at_openai}/v1",
            api_key_file="openai",
            **more,
        )

    def obey(self, *providers: document.Provider) -> None:
        """Put the policy in force."""
        policy = document.PolicyDocument(
            namespace="shop",
            name="search",
            requires=("type.AzureOpenAI",),
            providers=providers,
            quota=document.Quota(daily_requests=None),
        )
        text = document.dump(policy)
        new = self.folder / "policy.new"
        new.write_text(text)
        new.replace(self.folder / "policy.json")
        wanted = fingerprint.of_document(text.encode())
        sidecar.wait_until(lambda: self.running.page(names.PATH_HEALTH)["document"] == wanted)

    def ask(self, *texts: str, **more):
        """An answer's provider, space, vectors, and hits, which must be an answer."""
        found = self.running.embed(*texts, model=MODEL, **more)
        assert found.status_code == 200, found.text
        vectors = [it["embedding"] for it in found.json()["data"]]
        return found.headers, vectors

    def failure(self, name="azure") -> str | None:
        words: dict[str, str] = self.running.page(names.PATH_CONFIG)["failures"]
        return words.get(name)


@pytest.fixture
def around(tmp_path) -> Iterator[Around]:
    with ExitStack() as stack:
        made = Around(tmp_path / "files", stack)
        try:
            yield made
        finally:
            code = made.running.stop()
        assert code == 0
        said = made.running.said()
        assert "Traceback" not in said
        for secret in (KEY, "eyJ", made.token.read_text()):
            assert secret not in said


def bits(*texts: str) -> list[str]:
    return [base64.b64encode(stand_in.vector(MODEL, it, 1536)).decode() for it in texts]


def test_azure_to_openai_and_back_with_filled_cache(around):
    """Must show 3: hits stay hits, bits are equal, and each answer has one space."""
    azure, other = around.azure_provider(), around.openai_provider()
    around.obey(azure, other)
    headers, first = around.ask(*TEXTS, dimensions=1536)
    assert first == bits(*TEXTS)
    assert headers["x-embedding-provider"] == "azure"
    spaces = [headers["x-embedding-space"]]
    # Azure fails: what is cached stays, OpenAI makes the rest of the same answer.
    around.azure.fault = stand_in.status(503)
    headers, second = around.ask(*TEXTS, "new", dimensions=1536)
    assert second == bits(*TEXTS, "new")
    assert headers["x-embedding-provider"] == "openai"
    assert [it.body["input"] for it in around.openai.calls] == [["new"]]
    spaces.append(headers["x-embedding-space"])
    # The policy moves to OpenAI, and then back to Azure.
    around.obey(other)
    calls = len(around.azure.calls)
    headers, third = around.ask(*TEXTS, "new", "newer", dimensions=1536)
    assert third == bits(*TEXTS, "new", "newer")
    spaces.append(headers["x-embedding-space"])
    around.azure.fault = None
    around.obey(azure)
    headers, last = around.ask(*TEXTS, "new", "newer", dimensions=1536)
    assert (last, len(around.azure.calls)) == (third, calls)
    assert headers["x-embedding-cache"] == "hit"
    spaces.append(headers["x-embedding-space"])
    assert set(spaces) == {SPACE}


@pytest.mark.parametrize("api_version", [None, "2024-10-21"])
def test_unmodified_client_is_answered_by_deployment(around, api_version):
    terms = provider_terms.Azure(deployment=DEPLOYMENT, api_version=api_version)
    around.obey(around.azure_provider(azure=terms))
    with around.running.openai() as client:
        answer = client.embeddings.create(
            model=MODEL, input=["a b", "c"], dimensions=16, user="somebody"
        )
    assert [it.embedding for it in answer.data] == [
        stand_in.numbers(MODEL, it, 16) for it in ("a b", "c")
    ]
    assert (answer.model, answer.usage.total_tokens) == (MODEL, 3)
    call = around.azure.calls[-1]
    in_url = "/azure/openai/v1" if api_version is None else f"/openai/deployments/{DEPLOYMENT}"
    assert in_url in call.path
    assert call.key == KEY
    assert call.body["encoding_format"] == "base64"


def test_request_beyond_limits_is_split(around):
    around.obey(around.azure_provider())
    texts = [f"{number} " + "a" * 300 for number in range(2048)]
    with around.running.openai() as client:
        answer = client.embeddings.create(model=MODEL, input=texts, dimensions=8)
    assert [it.embedding for it in answer.data] == [stand_in.numbers(MODEL, it, 8) for it in texts]
    sent = [it.body["input"] for it in around.azure.calls]
    assert sorted(it for part in sent for it in part) == sorted(texts)
    # A text may have as many tokens as bytes, and Azure takes 300,000 of a call.
    assert all(sum(map(len, it)) <= 300_000 for it in sent)
    assert len(sent) == 3
    assert answer.usage.total_tokens == 2 * 2048


def test_wrong_deployment_is_told_in_providers_words(around):
    terms = provider_terms.Azure(deployment="elsewhere")
    around.obey(around.azure_provider(azure=terms))
    with (
        around.running.openai() as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.with_options(max_retries=0).embeddings.create(model=MODEL, input="a")
    assert "not_found: The API deployment for this resource does not exist" in str(caught.value)


def test_identity_calls_by_access_token_that_is_renewed(around):
    around.entra.life_seconds = 4.0
    around.obey(around.by_identity())
    around.ask("a")
    sidecar.wait_until(lambda: len(around.entra.issued) > 2, seconds=15)
    around.azure.token = around.entra.issued[-1]
    around.ask("b")
    assert "api-key" not in str(around.azure.calls[-1])
    assert "/deployments/" in around.azure.calls[-1].path
    assert around.failure() is None


def test_young_access_token_that_is_refused_is_denied(around):
    around.obey(around.by_identity(), around.openai_provider())
    around.ask("a")
    around.azure.token = "eyJanother"
    # The token is young, so it is not replaced, and the other provider answers.
    headers, _ = around.ask("b")
    assert headers["x-embedding-provider"] == "openai"
    assert around.failure() == "identity_denied"
    assert around.running.page(names.PATH_CONFIG)["keys_refused"] == []


@pytest.mark.parametrize(
    ("change", "claims", "word"),
    [
        ({"tenant_id": "9" * 36}, {}, "identity_refused_aadsts90002"),
        ({"client_id": "9" * 36}, {}, "identity_refused_aadsts700016"),
        ({}, {"subject": "system:serviceaccount:shop:other"}, "identity_refused_aadsts700213"),
        ({}, {"ends_at": 1.0}, "identity_refused_aadsts700024"),
        ({"authority": "http://127.0.0.1:9"}, {}, "identity_unreachable"),
    ],
)
def test_failing_identity_is_named_and_other_provider_answers(around, change, claims, word):
    around.federate(**claims)
    around.obey(around.by_identity(**change), around.openai_provider())
    headers, vectors = around.ask("a", dimensions=1536)
    assert headers["x-embedding-provider"] == "openai"
    assert (headers["x-embedding-space"], vectors) == (SPACE, bits("a"))
    assert around.failure() == word
    health = around.running.page(names.PATH_HEALTH)
    assert health["status"] == "degraded"
    assert health["providers"] == {"azure": word.partition("_aadsts")[0], "openai": "ok"}
    assert around.azure.calls == []


def test_slow_endpoint_costs_half_of_request_at_most(around):
    around.entra.delay_seconds = 30.0
    around.obey(around.by_identity(), around.openai_provider())
    headers, _ = around.ask("a")
    assert headers["x-embedding-provider"] == "openai"


def test_endpoint_that_comes_back_and_file_that_is_renewed_are_used(around):
    around.federate(ends_at=1.0)
    around.obey(around.by_identity())
    sidecar.wait_until(lambda: around.failure() == "identity_refused_aadsts700024")
    around.federate()
    sidecar.wait_until(lambda: around.failure() is None)
    headers, _ = around.ask("a")
    assert headers["x-embedding-provider"] == "azure"


def test_weights_share_requests_and_cache(around):
    around.obey(around.azure_provider(weight=1), around.openai_provider(weight=1))
    for number in range(60):
        around.ask(f"{number}", dimensions=1536)
    calls = len(around.azure.calls), len(around.openai.calls)
    assert sum(calls) == 60
    # Of 60 fair draws fewer than 8 on one side come once in more than a hundred million.
    assert min(calls) >= 8
    headers, vectors = around.ask(*(f"{number}" for number in range(60)), dimensions=1536)
    assert (headers["x-embedding-cache"], len(set(vectors))) == ("hit", 60)
    assert sum((len(around.azure.calls), len(around.openai.calls))) == 60
