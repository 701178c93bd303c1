"""The proof of the API token between operator and sidecar."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import proof

_SIGNED = proof.sign_request(
    "token", method="GET", path="/p", nonce="0" * 32, time=1_700_000_000, pod="uid-1"
)


def test_signed_request_survives_its_header():
    assert proof.parse(_SIGNED.render()) == _SIGNED
    assert _SIGNED.is_signed("token", method="GET", path="/p")


def test_header_does_not_contain_token():
    signed = proof.sign_request(
        "s3cr3t", method="GET", path="/p", nonce="0" * 32, time=1, pod="uid-1"
    )
    assert "s3cr3t" not in signed.render()


@pytest.mark.parametrize(
    "changed",
    [{"nonce": "1" * 32}, {"time": 1_700_000_001}, {"pod": "uid-2"}, {"mac": "0" * 64}],
    ids=lambda it: next(iter(it)),
)
def test_changed_field_breaks_signature(changed):
    assert not dataclasses.replace(_SIGNED, **changed).is_signed("token", method="GET", path="/p")


@pytest.mark.parametrize(
    ("token", "method", "path"),
    [("other", "GET", "/p"), ("token", "PUT", "/p"), ("token", "GET", "/q")],
)
def test_other_token_method_or_path_breaks_signature(token, method, path):
    assert not _SIGNED.is_signed(token, method=method, path=path)


@given(st.text())
def test_arbitrary_text_is_no_credentials(header):
    assert proof.parse(header) is None


@pytest.mark.parametrize("suffix", [" ", "\n", ",x=1"])
def test_header_with_anything_behind_it_is_refused(suffix):
    assert proof.parse(_SIGNED.render() + suffix) is None


def test_answer_is_bound_to_nonce_status_and_body():
    mac = proof.sign_answer("token", nonce="0" * 32, status=200, body=b"{}")
    assert proof.is_answer_signed("token", mac, nonce="0" * 32, status=200, body=b"{}")
    assert not proof.is_answer_signed("token", mac, nonce="1" * 32, status=200, body=b"{}")
    assert not proof.is_answer_signed("token", mac, nonce="0" * 32, status=503, body=b"{}")
    assert not proof.is_answer_signed("token", mac, nonce="0" * 32, status=200, body=b"[]")


def test_answer_signature_that_is_not_ascii_is_refused():
    assert not proof.is_answer_signed("token", "é" * 64, nonce="0" * 32, status=200, body=b"")


def test_proof_of_body_is_of_that_body_only():
    given = proof.sign_request(
        "token", method="POST", path="/p", nonce="0" * 32, time=1, pod="uid", body=b"one"
    )
    assert given.is_signed("token", method="POST", path="/p", body=b"one")
    assert not given.is_signed("token", method="POST", path="/p", body=b"two")
    assert not given.is_signed("token", method="POST", path="/p")
