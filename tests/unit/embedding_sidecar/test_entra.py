"""The exchange at Microsoft Entra ID as values: request, token, and what is told of a refusal."""

import json
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import provider_terms
from embedding_sidecar import errors
from embedding_sidecar.identity import entra
from embedding_sidecar.translation import provider_api
from tests.fakes import entra as stand_in
from tests.fakes import provider

IDENTITY = provider_terms.Identity("https://login.example", stand_in.TENANT, stand_in.CLIENT)
SECRET = "eyJsecret.eyJsecret.c2VjcmV0"


def answered(status, body, headers=()) -> provider_api.HttpAnswer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = provider.lines(dict(headers))
    return provider_api.HttpAnswer(status=status, lines=lines, body=raw)


def failure(status, body, headers=()) -> errors.ProviderFailed:
    with pytest.raises(errors.ProviderFailed) as caught:
        entra.read(answered(status, body, headers), now=stand_in.NOW)
    return caught.value


def test_request_has_fields_of_reference_and_shows_no_assertion():
    made = entra.request(IDENTITY, SECRET)
    assert made.url == f"https://login.example/{stand_in.TENANT}/oauth2/v2.0/token"
    assert made.headers["content-type"] == "application/x-www-form-urlencoded"
    assert dict(parse_qsl(made.body.decode())) == {
        "client_id": stand_in.CLIENT,
        "grant_type": "client_credentials",
        "scope": "https://cognitiveservices.azure.com/.default",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": SECRET,
    }
    assert SECRET not in repr(made)


def test_government_cloud_has_scope_of_its_own():
    identity = IDENTITY._replace(authority="https://login.microsoftonline.us")
    form = dict(parse_qsl(entra.request(identity, SECRET).body.decode()))
    assert form["scope"] == "https://cognitiveservices.azure.us/.default"


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"access_token": SECRET, "expires_in": 3599}, 3599.0),
        ({"access_token": SECRET, "expires_in": "3599"}, 3599.0),
        ({"access_token": SECRET, "expires_on": str(int(stand_in.NOW) + 60)}, 60.0),
        # Relative time needs no right clock here.
        ({"access_token": SECRET, "expires_in": 100, "expires_on": 5}, 100.0),
        ({"access_token": SECRET, "expires_in": 10**9}, 86_400.0),
    ],
)
def test_token_has_life_that_is_named(body, seconds):
    token = entra.read(answered(200, body), now=stand_in.NOW)
    assert token == (SECRET, seconds)
    assert SECRET not in repr(token)


@pytest.mark.parametrize(
    "body",
    [
        {"access_token": SECRET},
        {"access_token": SECRET, "expires_in": 0},
        {"access_token": SECRET, "expires_in": True},
        {"access_token": SECRET, "expires_in": "soon"},
        {"access_token": SECRET, "expires_in": "nan"},
        {"access_token": "", "expires_in": 5},
        {"access_token": "two\nlines", "expires_in": 5},
        {"access_token": 7, "expires_in": 5},
        {"expires_in": 5},
        b"<html>a portal</html>",
        [1],
    ],
)
def test_answer_without_usable_token_is_none(body):
    found = failure(200, body)
    assert (type(found), found.reason) == (errors.Unreachable, "identity_unreachable")
    assert not found.billed


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        (90002, 400, "invalid_request"),
        (700016, 400, "unauthorized_client"),
        (700213, 400, "invalid_request"),
        (70025, 401, "invalid_client"),
        (700024, 401, "invalid_client"),
    ],
)
def test_refusal_is_told_by_code_alone(code, status, error):
    _, _, body = stand_in.refusal(code, error, f"Assertion {SECRET} failed.", status=status)
    found = failure(status, body)
    assert (type(found), found.reason) == (errors.ConfigurationError, "identity_refused")
    assert found.words == f"AADSTS{code}"
    del body["error_codes"]
    assert failure(status, body).words == f"AADSTS{code}"


def test_refusal_without_code_has_no_words():
    assert failure(400, {"error": "invalid_request"}).words == ""
    assert failure(404, b"<html>no such page</html>").words == ""


@pytest.mark.parametrize("status", [302, 408, 429, 500, 503])
def test_server_at_fault_is_unreachable(status):
    found = failure(status, {"error": "invalid_request"}, {"retry-after": "7"})
    assert (type(found), found.reason) == (errors.Unreachable, "identity_unreachable")
    assert found.retry_after_seconds == 7.0


def test_word_of_server_decides_over_status():
    found = failure(400, {"error": "temporarily_unavailable", "error_codes": [90033]})
    assert found.reason == "identity_unreachable"


@given(st.integers(100, 599), st.binary())
def test_answer_of_any_bytes_is_failure_of_identity(status, body):
    found = failure(status, body)
    assert found.reason in {entra.REFUSED, entra.UNREACHABLE}
    assert not found.billed


@given(st.dictionaries(st.sampled_from(["error", "error_codes", "error_description"]), st.text()))
def test_words_are_code_or_nothing_whatever_is_said(body):
    said = failure(400, {**body, "error_description": SECRET}).words
    assert said == ""
