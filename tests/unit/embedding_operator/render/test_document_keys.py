"""The key of a document: kept while the platform's terms are the same, another one with others."""

import itertools
from dataclasses import replace

import pytest

from embedding_contract import document, names, proof, provider_terms
from embedding_operator.render import configmaps, document_keys
from tests.parts import policies

OPENAI = document.Provider(
    name="openai",
    kind="OpenAI",
    model="m",
    base_url="https://openai",
    api_key_file=names.secret_class_key("openai"),
    class_name="openai",
)
OWN = document.Provider(name="own", kind="OpenAICompatible", model="m", base_url="http://own")
LIMITS = document.ProviderClass(name="openai", quota=document.Quota(daily_requests=10))
MADE = document.PolicyDocument(
    namespace="shop", name="search", providers=(OPENAI, OWN), classes=(LIMITS,)
)
NUMBERS = itertools.count()


def renewed(before, made):
    return document_keys.renewed(before, made, lambda size: next(NUMBERS).to_bytes(size))


FIRST = renewed(b"", MADE)


def test_key_has_as_many_random_bytes_as_its_mac():
    assert len(FIRST.split(b".")[0]) == 2 * document_keys.KEY_BYTES
    assert renewed(b"", MADE) != FIRST


@pytest.mark.parametrize(
    "made",
    [
        MADE,
        replace(MADE, providers=(OPENAI, replace(OWN, base_url="http://other"))),
        replace(MADE, quota=document.Quota(daily_requests=7)),
        replace(MADE, cache=document.Cache(ttl_seconds=1)),
        replace(MADE, log_level="debug"),
    ],
)
def test_key_is_kept_where_tenant_changes_fields_of_tenants(made):
    assert renewed(FIRST, made) == FIRST


@pytest.mark.parametrize(
    "made",
    [
        replace(MADE, providers=(replace(OPENAI, base_url="https://other"), OWN)),
        replace(MADE, classes=(replace(LIMITS, quota=document.Quota(daily_requests=9)),)),
        replace(MADE, classes=(replace(LIMITS, rate=provider_terms.Rate(tokens_per_minute=9)),)),
        replace(MADE, network=document.Network(https_proxy="http://proxy")),
    ],
)
def test_other_terms_of_platform_bring_another_key(made):
    assert renewed(FIRST, made) != FIRST


@pytest.mark.parametrize("before", [b"", b"x", FIRST.upper(), FIRST + b"0", b"\xff" * 129])
def test_entry_that_is_no_key_is_replaced(before):
    assert renewed(before, MADE) != before


def test_configmap_holds_signature_of_exactly_its_document():
    data = configmaps.policy_document(policies.parsed(), MADE, key="k")["data"]
    text, signature = data[names.DOCUMENT_KEY].encode(), data[names.DOCUMENT_SIGNATURE]
    assert proof.is_document_signed("k", signature, text)
    assert not proof.is_document_signed("k", signature, text + b" ")
    assert not proof.is_document_signed("", signature, text)


def test_document_without_key_has_no_signature():
    data = configmaps.policy_document(policies.parsed(), MADE)["data"]
    assert set(data) == {names.DOCUMENT_KEY}
