"""Azure OpenAI's wire: URL, header and body by the form that a policy names, and its errors."""

import json

import pytest

from embedding_contract import document, json_fields, provider_terms
from embedding_sidecar import errors
from embedding_sidecar.policy import runtime
from embedding_sidecar.providers.azure_openai import AzureOpenAI
from embedding_sidecar.translation import provider_api
from tests.fakes import provider as stand_in
from tests.parts.world import World, one, vectors

AZURE = AzureOpenAI()
RESOURCE = "https://shop.openai.azure.com"
V1 = provider_terms.Azure(deployment="embeddings")
DATED = provider_terms.Azure(deployment="embeddings", api_version="2024-10-21")
OF_A_TENANT = provider_terms.Azure(deployment="embeddings", tenant_id="t", client_id="c")
DATED_PATH = "openai/deployments/embeddings/embeddings?api-version=2024-10-21"


def provider(terms, *, base_url=RESOURCE) -> document.Provider:
    return document.Provider(
        name="azure",
        kind="AzureOpenAI",
        model="text-embedding-3-small",
        base_url=base_url,
        azure=terms,
    )


def request(terms, *, base_url=RESOURCE, credential="secret", **ask) -> provider_api.HttpRequest:
    asked = provider_api.Ask(model="text-embedding-3-small", items=("a", (1, 2)), **ask)
    to = provider(terms, base_url=base_url)
    return AZURE.request(asked, to=to, credential=credential, now=0.0)


@pytest.mark.parametrize("base", [RESOURCE, f"{RESOURCE}/openai", f"{RESOURCE}/openai/v1"])
@pytest.mark.parametrize(
    ("terms", "path"),
    [(V1, "openai/v1/embeddings"), (DATED, DATED_PATH), (OF_A_TENANT, DATED_PATH)],
)
def test_url_is_deployments_or_that_of_v1_form(terms, path, base):
    assert request(terms, base_url=base).url == f"{RESOURCE}/{path}"


def test_path_of_gateway_before_resource_stays():
    url = request(V1, base_url="https://gateway.example/azure").url
    assert url == "https://gateway.example/azure/openai/v1/embeddings"


@pytest.mark.parametrize(
    ("terms", "headers"),
    [
        (V1, {"api-key": "secret"}),
        (DATED, {"api-key": "secret"}),
        (OF_A_TENANT, {"authorization": "Bearer secret"}),
    ],
)
def test_credential_is_sent_in_one_header(terms, headers):
    made = request(terms)
    assert made.headers == {**provider_api.headers(None), **headers}
    assert "secret" not in repr(made)


def test_v1_form_names_deployment_and_dated_form_has_it_in_url_only():
    common = {
        "input": ["a", [1, 2]],
        "encoding_format": "base64",
        "dimensions": 8,
        "user": "u",
    }
    given = {"dimensions": 8, "user": "u", "input_type": "query", "truncation": True}
    assert json.loads(request(V1, **given).body) == {"model": "embeddings", **common}
    assert json.loads(request(DATED, **given).body) == common


def test_space_is_openais_whatever_deployment_is_called():
    openai = document.Provider(
        name="o",
        kind="OpenAI",
        model="text-embedding-3-small",
        base_url="https://api.openai.com/v1",
    )
    assert provider(V1).space() == openai.space() == "openai/text-embedding-3-small@1536"
    assert provider(DATED).space(8) == openai.space(8)


def test_document_without_terms_is_refused():
    policy = document.PolicyDocument(namespace="n", name="p", providers=(provider(None),))
    with pytest.raises(json_fields.InvalidDocument, match="azure"):
        runtime.check(policy)


def failure(status, body, headers=()) -> errors.ProviderFailed | errors.Rejected:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = stand_in.lines(dict(headers))
    return AZURE.failure(provider_api.HttpAnswer(status=status, lines=lines, body=raw))


@pytest.mark.parametrize(
    ("status", "body", "kind", "reason"),
    [
        # A wrong key. Source: github.com/SciSharp/BotSharp/issues/386.
        (
            401,
            {"error": {"code": "401", "message": "Access denied due to invalid subscription key"}},
            errors.ConfigurationError,
            errors.KEY_REFUSED,
        ),
        # Of a wrong or old access token. Source: azure-search-openai-demo, issues 458 and 2219.
        (
            401,
            {"statusCode": 401, "message": "Unauthorized. Access token is missing, invalid"},
            errors.ConfigurationError,
            errors.KEY_REFUSED,
        ),
        # The role is missing. Source: github.com/microsoft/semantic-kernel/issues/10020.
        *(
            (
                status,
                {"error": {"code": "PermissionDenied", "message": "lacks the required action"}},
                errors.ConfigurationError,
                errors.KEY_REFUSED,
            )
            for status in (401, 403)
        ),
        (
            403,
            {"error": {"code": "403", "message": "Access denied due to Virtual Network rules."}},
            errors.Declined,
            "forbidden",
        ),
        (
            404,
            {"error": {"code": "DeploymentNotFound", "message": "does not exist"}},
            errors.ConfigurationError,
            "not_found",
        ),
        (
            404,
            {"error": {"code": "404", "message": "Resource not found"}},
            errors.Declined,
            "not_found",
        ),
        (500, b"<html>front</html>", errors.Unreachable, "server_error"),
        (408, {"error": {"code": "Timeout"}}, errors.Unreachable, "server_error"),
    ],
)
def test_error_is_told_by_kind(status, body, kind, reason):
    found = failure(status, body)
    assert type(found) is kind
    assert isinstance(found, errors.ProviderFailed)
    assert found.reason == reason


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "54"}, 54.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"x-ratelimit-reset-tokens": "-1", "x-ratelimit-remaining-tokens": "-1"}, None),
        ({"x-ratelimit-reset-requests": "7", "x-ratelimit-remaining-requests": "0"}, 7.0),
    ],
)
def test_rate_limit_names_wait(headers, seconds):
    found = failure(429, {"error": {"code": "RateLimitReached", "message": "S0"}}, headers)
    assert isinstance(found, errors.RateLimited)
    assert found.retry_after_seconds == seconds


def test_text_that_filter_refuses_is_callers():
    """Source: how-to/content-filters; documented for completions, and of the same form here."""
    error = {
        "code": "content_filter",
        "message": "The response was filtered",
        "param": "prompt",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation"},
    }
    found = failure(400, {"error": error})
    assert isinstance(found, errors.Rejected)
    assert (found.status, found.code, found.param) == (400, "content_filter", "prompt")


def test_cached_vectors_of_openai_answer_for_azure_and_back():
    name = "text-embedding-3-small"
    azure, openai = one("azure", name, kind="AzureOpenAI"), one("openai", name)
    world = World(azure, openai)
    answer = world.embed("a", model=name)
    assert (answer.provider, answer.vectors) == ("azure", vectors(name, "a"))
    world.net["azure"].fault = stand_in.status(500)
    over = world.embed("a", "b", model=name)
    assert (over.provider, over.hits, over.vectors) == ("openai", 1, vectors(name, "a", "b"))
    assert over.space == answer.space == "openai/text-embedding-3-small@1536"
    assert world.asked("openai") == [["b"]]
