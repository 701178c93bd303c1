"""The unmodified OpenAI SDK before a sidecar whose provider speaks a vendor's own wire."""

import array
import json
import subprocess
import sys
from collections.abc import Iterator

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.fakes import provider
from tests.parts import obeying, sidecar
from tests.parts.obeying import Obeying

pytestmark = pytest.mark.integration

KINDS = ["Gemini", "Cohere", "Mistral", "Jina", "Bedrock"]
MOST = {"Gemini": 100, "Cohere": 96, "Mistral": 256, "Jina": 2048, "Bedrock": 96}
"""Texts in one request to each; the sidecar takes 2048, too."""
TITAN = "amazon.titan-embed-text-v2:0"
KEY_ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//////wEaDGV1LWNlbnRyYWwtMSJHMEUCIQD+token=="


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> Iterator[Obeying]:
    with obeying.obeying(tmp_path_factory.mktemp("sidecar") / "files") as made:
        yield made


@pytest.fixture
def stand_in() -> provider.StandIn:
    return provider.StandIn()


@pytest.fixture
def address(stand_in) -> Iterator[str]:
    with sidecar.served(stand_in.app()) as made:
        yield made


def obey(followed: Obeying, address: str, kind: str, *, key: str = provider.KEY) -> openai.OpenAI:
    """A policy of one provider of this type in force, and the SDK before it."""
    model = provider.model(kind)
    followed.obey(
        base_url=f"{address}/{provider.PATHS[kind]}",
        model=model,
        key=key,
        kind=kind,
        **provider.terms(kind, model),
    )
    return followed.running.openai()


def in_bits(answer) -> list[bytes]:
    return [array.array("f", row.embedding).tobytes() for row in answer.data]


@pytest.mark.parametrize("kind", KINDS)
def test_sdk_gets_models_own_bits_in_order_and_requests_are_split(
    followed, stand_in, address, kind
):
    model = provider.model(kind)
    texts = [f"text {number}" for number in range(min(MOST[kind] + 1, 2048))]
    with obey(followed, address, kind) as client:
        answer = client.embeddings.create(model=model, input=texts)
        # The other side of a search is another vector, where the vendor tells them apart.
        query = client.embeddings.create(
            model=model, input="text 0", dimensions=8, extra_body={"input_type": "query"}
        )
    side = provider.side(kind, None)
    assert in_bits(answer) == [provider.vector(model, it, input_type=side) for it in texts]
    assert [row.index for row in answer.data] == list(range(len(texts)))
    assert answer.model == model
    assert answer.usage.total_tokens == 2 * len(texts)
    first = stand_in.calls[:-1]
    assert max(len(call.body["input"]) for call in first) == MOST[kind]
    assert sum(len(call.body["input"]) for call in first) == len(texts)
    told = provider.side(kind, "query")
    assert in_bits(query) == [provider.vector(model, "text 0", 8, told)]


@pytest.mark.parametrize("kind", KINDS)
def test_token_arrays_are_refused_in_words_and_no_call_is_made(followed, stand_in, address, kind):
    with (
        obey(followed, address, kind) as client,
        pytest.raises(openai.BadRequestError, match="send texts"),
    ):
        client.embeddings.create(model=provider.model(kind), input=[[1, 2]])
    assert stand_in.calls == []


class Aws:
    """Bedrock, which knows one secret: a request is answered if botocore signs it alike."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.sent: list[dict[str, str]] = []

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{rest:path}", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> JSONResponse:
        body, said = await request.body(), request.headers["authorization"]
        self.sent.append(dict(request.headers))
        names = said.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        path = request.scope["raw_path"].decode()
        again = botocore.awsrequest.AWSRequest(
            "POST",
            f"https://host{path}",
            headers={name: request.headers[name] for name in names},
            data=body,
        )
        again.context["timestamp"] = request.headers["x-amz-date"]
        credentials = botocore.credentials.Credentials(KEY_ID, SECRET, TOKEN)
        signer = botocore.auth.SigV4Auth(credentials, "bedrock", "eu-central-1")
        wanted = signer.signature(
            signer.string_to_sign(again, signer.canonical_request(again)), again
        )
        if said.rpartition("=")[2] != wanted:
            headers = {"x-amzn-errortype": "InvalidSignatureException"}
            return JSONResponse({"message": "no"}, 403, headers)
        self.texts.append(json.loads(body)["inputText"])
        return JSONResponse({"embedding": [1.0, 2.0], "inputTextTokenCount": 3})


def test_signature_is_of_what_arrives_at_aws_and_secrets_are_told_nowhere(followed):
    aws = Aws()
    with sidecar.served(aws.app()) as address:
        followed.obey(
            base_url=address,
            model=TITAN,
            key=f"{KEY_ID}:{SECRET}:{TOKEN}",
            kind="Bedrock",
            **provider.terms("Bedrock", TITAN),
        )
        with followed.running.openai() as client:
            answer = client.embeddings.create(model=TITAN, input=["a", "żółw 🐢"])
    assert sorted(aws.texts) == ["a", "żółw 🐢"]
    assert answer.usage.total_tokens == 6
    assert all(it["x-amz-security-token"] == TOKEN for it in aws.sent)
    assert not [it for it in (SECRET, TOKEN) if it in followed.running.said()]


def test_signature_by_another_secret_is_key_that_is_refused(followed):
    aws = Aws()
    with sidecar.served(aws.app()) as address:
        followed.obey(
            base_url=address,
            model=TITAN,
            key=f"{KEY_ID}:another-secret-of-some-length:{TOKEN}",
            kind="Bedrock",
            **provider.terms("Bedrock", TITAN),
        )
        with (
            followed.running.openai() as client,
            pytest.raises(openai.APIStatusError, match="key_refused") as refused,
        ):
            client.with_options(max_retries=0).embeddings.create(model=TITAN, input="a")
    assert refused.value.status_code == 502
    assert aws.texts == []


LOAD = """
import sys, time
import embedding_sidecar.__main__
from embedding_sidecar.providers import bedrock


def kib() -> int:
    with open("/proc/self/status") as lines:
        return next(int(it.split()[1]) for it in lines if it.startswith("VmRSS"))


assert not any(it.startswith("botocore") for it in sys.modules), "imported by all"
before, began = kib(), time.monotonic()
bedrock.load()
print(f"{(kib() - before) / 1024:.1f} MiB, {time.monotonic() - began:.2f} s")
"""


def test_signer_is_imported_where_policy_names_bedrock_only():
    """Its cost is printed; no bound of it is asserted."""
    said = subprocess.run(
        [sys.executable, "-c", LOAD], check=True, capture_output=True, text=True
    ).stdout
    print(f"botocore's signer: {said}", end="")
    assert said
