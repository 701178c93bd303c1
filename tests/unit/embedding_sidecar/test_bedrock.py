"""Bedrock's wire: Titan's and Cohere's bodies, signatures, usage in a header, errors by type."""

import datetime as dt
import json
import struct

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import document, json_fields
from embedding_sidecar import errors
from embedding_sidecar.policy import runtime
from embedding_sidecar.providers import bedrock
from embedding_sidecar.translation import error_words, provider_api
from tests.fakes import provider as stand_in
from tests.parts import wire
from tests.parts.world import World, one

TITAN = "amazon.titan-embed-text-v2:0"
TITAN_1 = "amazon.titan-embed-text-v1"
COHERE_3 = "cohere.embed-english-v3"
COHERE_4 = "eu.cohere.embed-v4:0"
HOST = "https://bedrock-runtime.eu-central-1.amazonaws.com"
KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = f"{KEY_ID}:{SECRET}"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//////wEaDGV1LWNlbnRyYWwtMSJHMEUCIQD+token=="


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (TITAN, "amazon.titan-embed-text-v2%3A0"),
        (
            "arn:aws:bedrock:eu-central-1:1:inference-profile/eu.cohere.embed-v4:0",
            "arn%3Aaws%3Abedrock%3Aeu-central-1%3A1%3Ainference-profile%2Feu.cohere.embed-v4%3A0",
        ),
    ],
)
def test_url_has_name_of_model_encoded(model, path):
    assert wire.request("Bedrock", model, "a").url == f"{HOST}/model/{path}/invoke"


def test_titan_is_sent_one_text():
    assert wire.body("Bedrock", TITAN, "a") == {"inputText": "a"}
    asked = {"input_type": "query", "dimensions": 256, "truncation": True, "user": "u"}
    assert wire.body("Bedrock", TITAN, "a", **asked) == {"inputText": "a", "dimensions": 256}


@pytest.mark.parametrize(("model", "cut"), [(COHERE_3, "END"), (COHERE_4, "RIGHT")])
def test_cohere_is_sent_list_and_words_of_its_version(model, cut):
    plain = {"texts": ["a", "b"], "input_type": "search_document", "embedding_types": ["float"]}
    assert wire.body("Bedrock", model, "a", "b") == {**plain, "truncate": "NONE"}
    asked = wire.body("Bedrock", model, "a", "b", dimensions=256, truncation=True)
    assert asked == {**plain, "truncate": cut, "output_dimension": 256}
    query = wire.body("Bedrock", model, "a", "b", input_type="query")
    assert query["input_type"] == "search_query"


@pytest.mark.parametrize(
    ("kind", "model", "size", "field"),
    [
        ("Bedrock", TITAN_1, 1536, "dimensions"),
        ("Bedrock", COHERE_3, 1024, "output_dimension"),
        ("Cohere", "embed-english-v3.0", 1024, "output_dimension"),
        ("Mistral", "mistral-embed", 1024, "output_dimension"),
    ],
)
def test_models_own_size_is_not_asked_for_as_some_take_no_field(kind, model, size, field):
    assert field not in wire.body(kind, model, "a", dimensions=size)
    assert wire.body(kind, model, "a", dimensions=256)[field] == 256


def test_titan_texts_are_calls_of_their_own_in_order():
    world = World(one("p", TITAN, kind="Bedrock"))
    answer = world.embed("a", "b c", "d", model=TITAN)
    assert world.asked("p") == [["a"], ["b c"], ["d"]]
    assert answer.vectors == tuple(stand_in.vector(TITAN, it) for it in ("a", "b c", "d"))
    assert answer.tokens == 4


@pytest.mark.parametrize(
    ("model", "said", "count"),
    [
        (TITAN, {"embedding": [0.1, 3], "inputTextTokenCount": 5}, 1),
        (COHERE_3, {"embeddings": [[0.1, 3]], "texts": ["a"], "response_type": "x"}, 1),
        (COHERE_4, {"embeddings": {"float": [[0.1, 3], [0.1, 3]]}}, 2),
    ],
)
def test_vectors_are_read_of_each_form(model, said, count):
    found = wire.vectors("Bedrock", model, said, count=count, headers={bedrock.USAGE: "5"})
    assert (found.vectors, found.tokens) == ((struct.pack("<2f", 0.1, 3),) * count, 5)


@pytest.mark.parametrize("said", ["", "-5", "5.0", "٣", "9" * 5000, "1e3"])
def test_usage_that_header_does_not_state_is_left_to_bound(said):
    answer = {"embeddings": {"float": [[1.0]]}}
    headers = {} if not said.isascii() else {bedrock.USAGE: said}
    assert wire.vectors("Bedrock", COHERE_4, answer, headers=headers).tokens is None


# --- Signatures


def signed(credential, *texts, **more) -> provider_api.HttpRequest:
    return wire.request("Bedrock", COHERE_4, *texts, credential=credential, **more)


@pytest.mark.parametrize(
    ("headers", "body", "names", "signature"),
    [
        (
            {},
            b"",
            "host;x-amz-date",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            {"Content-Type": "application/x-www-form-urlencoded"},
            b"Param1=value1",
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
    ids=["post-vanilla", "post-x-www-form-urlencoded"],
)
def test_signature_is_that_of_aws_test_suite(headers, body, names, signature):
    """Source: AWS's "Signature Version 4 test suite"."""
    request = provider_api.HttpRequest(
        url="https://example.amazonaws.com/", body=body, headers=headers
    )
    made = bedrock.signed(
        request, region="us-east-1", credential=KEYS, now=wire.NOW, service="service"
    )
    assert made.headers["x-amz-date"] == "20150830T123600Z"
    assert made.headers["authorization"] == (
        f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.sampled_from([None, TOKEN]),
    st.sampled_from([COHERE_4, TITAN, "arn:aws:bedrock:x:1:inference-profile/cohere.embed-v4:0"]),
)
def test_request_is_signed_as_botocore_itself_does(text, token, model):
    made = wire.request("Bedrock", model, text, credential=f"{KEYS}:{token}" if token else KEYS)
    plain = {"content-type": "application/json"}
    oracle = botocore.awsrequest.AWSRequest("POST", made.url, headers=plain, data=made.body)
    credentials = botocore.credentials.Credentials(KEY_ID, SECRET, token)
    now = dt.datetime.fromtimestamp(wire.NOW, dt.UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: now)
        botocore.auth.SigV4Auth(credentials, "bedrock", "eu-central-1").add_auth(oracle)
    expected = {name.lower(): value for name, value in oracle.headers.items()}
    assert {name: made.headers[name] for name in expected} == expected


def test_key_without_colon_is_bearer():
    made = signed("ABSKQmVkcm9ja0FQSUtleQ==", "a")
    assert made.headers["authorization"] == "Bearer ABSKQmVkcm9ja0FQSUtleQ=="
    assert "x-amz-date" not in made.headers


@pytest.mark.parametrize("credential", [KEYS, f"{KEYS}:{TOKEN}"])
def test_secret_is_in_no_header_and_no_repr(credential, caplog):
    caplog.set_level("DEBUG")
    made = signed(credential, "a")
    assert SECRET not in json.dumps(dict(made.headers))
    assert TOKEN not in repr(made)
    assert SECRET not in repr(made)
    assert TOKEN not in caplog.text


# --- Errors


def of_type(kind):
    return {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"}


@pytest.mark.parametrize(
    ("status", "kind", "meaning"),
    [
        (429, "ThrottlingException", (errors.RateLimited, "rate_limited")),
        (400, "ServiceQuotaExceededException", (errors.RateLimited, "rate_limited")),
        (429, "ModelNotReadyException", (errors.Unreachable, "server_error")),
        (400, "ValidationException", (errors.Rejected, "")),
        (403, "AccessDeniedException", (errors.ConfigurationError, errors.KEY_REFUSED)),
        (403, "UnrecognizedClientException", (errors.ConfigurationError, errors.KEY_REFUSED)),
        (403, "InvalidSignatureException", (errors.ConfigurationError, errors.KEY_REFUSED)),
        (403, "ExpiredTokenException", (errors.ConfigurationError, errors.KEY_REFUSED)),
        (404, "ResourceNotFoundException", (errors.ConfigurationError, "not_found")),
        (408, "ModelTimeoutException", (errors.Unreachable, "server_error")),
        (424, "ModelErrorException", (errors.Unreachable, "server_error")),
        (500, "InternalServerException", (errors.Unreachable, "server_error")),
        (503, "ServiceUnavailableException", (errors.Unreachable, "server_error")),
        (403, "SomethingOfTomorrow", (errors.Declined, "forbidden")),
    ],
)
def test_error_is_told_by_its_type(status, kind, meaning):
    said = {"message": "m"}
    assert wire.meaning("Bedrock", status, said, of_type(kind)) == meaning
    for body in ({**said, "__type": f"com.amazon#{kind}"}, {**said, "code": kind}):
        found = wire.meaning("Bedrock", status, body)
        assert found[0] is meaning[0]


@pytest.mark.parametrize(
    "words",
    [
        "Invocation of model ID x with on-demand throughput isn't supported. Retry with a profile",
        "The provided model identifier is invalid.",
    ],
)
def test_model_that_cannot_be_called_is_configuration(words):
    found = wire.failure("Bedrock", 400, {"message": words}, of_type("ValidationException"))
    assert isinstance(found, errors.ConfigurationError)
    assert (found.reason, found.words) == ("not_found", words)


def test_message_about_signature_repeats_no_signed_header():
    words = (
        "The request signature we calculated does not match the signature you provided. "
        f"The Canonical String for this request should have been 'x-amz-security-token:{TOKEN}'"
    )
    found = wire.failure("Bedrock", 403, {"message": words}, of_type("InvalidSignatureException"))
    assert isinstance(found, errors.ConfigurationError)
    assert found.words.endswith("the signature you provided.")


def test_parts_of_credential_are_hidden_in_words():
    said = f"bad token {TOKEN} of {SECRET}"
    hidden = error_words.without(said, key=f"{KEYS}:{TOKEN}")
    assert hidden == "bad token *** of ***"


# --- Documents


@pytest.mark.parametrize(
    ("model", "region", "field"),
    [
        ("amazon.nova-2-multimodal-embeddings-v1:0", "eu-central-1", "model"),
        (
            "arn:aws:bedrock:eu-central-1:1:application-inference-profile/a1",
            "eu-central-1",
            "model",
        ),
        (TITAN, None, "region"),
    ],
)
def test_document_that_cannot_be_called_is_refused(model, region, field):
    provider = document.Provider(
        name="b", kind="Bedrock", model=model, base_url=HOST, region=region, api_key_file="k"
    )
    policy = document.PolicyDocument(namespace="n", name="p", providers=(provider,))
    with pytest.raises(json_fields.InvalidDocument, match=field):
        runtime.check(policy)
