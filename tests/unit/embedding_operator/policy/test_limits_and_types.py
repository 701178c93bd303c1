"""Limits in money, months and minutes, and types of providers, as the operator reads them."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import document, money, provider_terms
from embedding_operator import errors
from embedding_operator.policy import policy, provider
from tests.parts import policies

KEY = {"secretKeyRef": {"name": "keys", "key": "K"}}
CACHE = {"ttlSeconds": 5, "memory": {"maxBytes": 7}}
QUOTA = {"daily": {"requests": 10}, "unlimited": False, "onStoreLoss": "Deny"}
TENANT, CLIENT = "11111111-2222-3333-4444-555555555555", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
ALONE = {"enabled": False, "acrossSpaces": False}


def entry(kind="OpenAI", model="text-embedding-3-small", **more):
    return {"name": "main", "type": kind, "model": model, "apiKey": KEY, **more}


def azure(**more):
    made = {
        **entry("AzureOpenAI", baseURL="https://shop.openai.azure.com/"),
        "azure": {"deployment": "embeddings"},
        **more,
    }
    return {key: value for key, value in made.items() if value is not None}


def made(*entries, quota=QUOTA):
    wanted = policies.parsed(
        providers=list(entries) or [entry()], quota=quota, cache=CACHE, failover=ALONE
    )
    return policy.to_document(wanted)


def limited(**limits):
    return made(quota={**QUOTA, **limits})


def test_policy_without_new_limits_has_document_as_before():
    text = json.loads(document.dump(made()))
    assert text["requires"] == []
    assert "cost" not in text["quota"]["daily"]
    assert "monthly" not in text["quota"]
    assert not {"weight", "rate", "class", "azure", "region"} & text["providers"][0].keys()


def test_costs_are_nano_dollars_and_name_what_they_require():
    found = limited(daily={"requests": 10, "cost": "12.50"}, monthly={"cost": "1000000"})
    assert found.quota.daily_cost == 12_500_000_000
    assert found.quota.monthly_cost == money.MAX_NANOS
    assert found.requires == ("quota.cost", "quota.monthly")


def test_month_has_limits_of_its_own():
    found = limited(monthly={"requests": 7, "tokens": 0})
    assert (found.quota.monthly_requests, found.quota.monthly_tokens) == (7, 0)
    assert found.quota.monthly_cost is None
    assert found.requires == ("quota.monthly",)


def test_observe_is_mode_that_older_sidecars_may_ignore():
    found = limited(mode="Observe")
    assert found.quota.observes
    assert found.requires == ()  # they would enforce, which spends no more


@pytest.mark.parametrize(("written", "percent"), [("35%", 35), ("0%", 0), (5, 20), (None, 20)])
def test_share_of_reserve_applies_to_month_and_minute(written, percent):
    given = {} if written is None else {"reserveForApplications": written}
    assert limited(**given).quota.reserved_percent == percent


@pytest.mark.parametrize("amount", ["-1", "1000000.01", "1e3", "", "ten", "1,5", "$5", "1.1234567"])
@pytest.mark.parametrize("period", ["daily", "monthly"])
def test_amount_that_is_none_is_refused_with_its_field(amount, period):
    limits = {"requests": 10, "cost": amount}
    with pytest.raises(errors.InvalidPolicy) as refusal:
        limited(**{period: limits})
    assert refusal.value.path == f"spec.quota.{period}.cost"


@given(st.integers(0, money.MAX_NANOS // 1000))
def test_any_amount_comes_back_from_document_as_it_was(micros):
    amount = f"{Decimal(micros) / 10**6:f}"
    found = limited(daily={"requests": 10, "cost": amount})
    assert found.quota.daily_cost == micros * 1000
    text = document.dump(found).replace('"quota.cost"', "")
    assert document.parse(text).quota == found.quota


# --- prices


def cost_limited(*entries):
    return made(*entries, quota={**QUOTA, "monthly": {"cost": "25"}})


def test_document_has_price_that_counts_where_cost_is_limited():
    own = {**policies.compatible("e5"), "pricePerMillionTokens": "0"}
    found = cost_limited(entry(pricePerMillionTokens="0.5"), own, azure(name="azure"))
    assert [it.price_per_million_tokens for it in found.providers] == ["0.5", "0", "0.022"]


def test_listed_price_is_not_written_where_cost_has_no_limit():
    assert made(entry()).providers[0].price_per_million_tokens is None


def test_price_that_sidecars_refuse_to_count_is_refused():
    """Else the policy would be accepted, and no sidecar would obey it."""
    with pytest.raises(errors.InvalidPolicy, match="too high") as refusal:
        cost_limited(entry(pricePerMillionTokens="10000000"))
    assert refusal.value.reason == "PriceTooHigh"
    found = cost_limited(entry(pricePerMillionTokens="9999999.000001"))
    assert found.providers[0].price_per_million_tokens == "9999999.000001"


@pytest.mark.parametrize(
    "unpriced",
    [
        policies.compatible("e5"),
        entry(model="new"),
        entry(baseURL="https://proxy.example/v1"),
        entry("Jina", "jina-embeddings-v3"),
    ],
)
def test_cost_limit_without_price_names_provider_model_and_field(unpriced):
    with pytest.raises(errors.InvalidPolicy) as refusal:
        cost_limited(entry(name="first"), unpriced)
    assert refusal.value.reason == "PriceUnknown"
    assert refusal.value.path == "spec.providers[1].pricePerMillionTokens"
    told = str(refusal.value)
    assert f"{unpriced['type']}/{unpriced['model']} of provider {unpriced['name']}" in told


# --- rates and weights


def test_rate_is_required_of_sidecar():
    found = made(entry(rate={"requestsPerMinute": 3000}))
    assert found.providers[0].rate == provider_terms.Rate(requests_per_minute=3000)
    assert found.requires == ("rate",)


def test_weight_of_nobody_is_refused_and_of_one_is_taken():
    other = entry(name="other", weight=0)
    with pytest.raises(errors.InvalidPolicy, match="weight above 0"):
        made(entry(weight=0), other)
    assert [it.weight for it in made(entry(weight=3), other).providers] == [3, 0]


# --- types


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("Gemini", "https://generativelanguage.googleapis.com/v1beta"),
        ("Cohere", "https://api.cohere.com/v2"),
        ("Mistral", "https://api.mistral.ai/v1"),
        ("Jina", "https://api.jina.ai/v1"),
    ],
)
def test_vendor_has_its_own_address_and_is_required(kind, url):
    found = made(entry(kind, "m"))
    assert found.providers[0].base_url == url
    assert found.requires == (f"type.{kind}",)


def test_bedrock_is_called_in_its_region():
    found = made(entry("Bedrock", "amazon.titan-embed-text-v2:0", region="eu-central-1"))
    assert found.providers[0].base_url == "https://bedrock-runtime.eu-central-1.amazonaws.com"
    assert found.providers[0].region == "eu-central-1"


def test_azure_is_in_openais_space_at_its_deployment():
    found = made(entry(), azure(name="azure"))
    assert found.providers[0].space() == found.providers[1].space()
    assert found.providers[1].azure == provider_terms.Azure(deployment="embeddings")
    assert found.providers[1].base_url == "https://shop.openai.azure.com"


def test_failover_between_openai_and_azure_needs_no_consent():
    wanted = policies.parsed(
        providers=[entry(), azure(name="azure")],
        quota=QUOTA,
        cache=CACHE,
        failover={"enabled": True, "acrossSpaces": False},
    )
    assert len(policy.to_document(wanted).providers) == 2


def test_azure_by_identity_needs_no_key():
    terms = {"deployment": "d", "tenantID": TENANT, "clientID": CLIENT}
    (found,) = made(azure(apiKey=None, azure=terms)).providers
    assert found.api_key_file is None
    assert found.azure is not None
    assert (found.azure.tenant_id, found.azure.client_id) == (TENANT, CLIENT)


REFUSED = {
    "azure without terms": (azure(azure=None), "azure"),
    "azure without address": (azure(baseURL=None), "baseURL"),
    "azure without credential": (azure(apiKey=None), ""),
    "azure with two": (
        azure(azure={"deployment": "d", "tenantID": TENANT, "clientID": CLIENT}),
        "",
    ),
    "tenant alone": (azure(apiKey=None, azure={"deployment": "d", "tenantID": TENANT}), "azure"),
    "authority by http": (
        azure(
            apiKey=None,
            azure={
                "deployment": "d",
                "tenantID": TENANT,
                "clientID": CLIENT,
                "authority": "http://login.example",
            },
        ),
        "azure.authority",
    ),
    "azure's terms at OpenAI": (entry(azure={"deployment": "d"}), "azure"),
    "region at OpenAI": (entry(region="eu-central-1"), "region"),
    "bedrock without region": (entry("Bedrock", "m"), "region"),
    "mistral without key": ({**entry("Mistral", "m"), "apiKey": None}, "apiKey"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_field_that_type_lacks_or_does_not_have_is_named(case):
    given, field = REFUSED[case]
    with pytest.raises(errors.InvalidPolicy) as refusal:
        made({key: value for key, value in given.items() if value is not None})
    assert refusal.value.path == f"spec.providers[0].{field}".rstrip(".")


def test_name_of_two_providers_is_refused():
    with pytest.raises(errors.InvalidPolicy, match="names must be unique"):
        made(entry(), entry())


# --- providers of a class


def test_provider_of_class_waits_for_its_class():
    (found,) = policies.parsed(providers=[{"ref": "openai"}]).providers
    assert (found.name, found.ref, found.kind, found.model) == ("openai", "openai", "", "")
    assert not found.is_complete
    assert provider.price(found) is None


@pytest.mark.parametrize("field", provider.OF_THE_CLASS)
def test_field_of_class_is_refused_beside_ref(field):
    given = {**azure(region="eu-central-1", dimensions=5, space="s"), "rate": {}}
    given["pricePerMillionTokens"] = "1"
    with pytest.raises(errors.InvalidPolicy) as refusal:
        policies.parsed(providers=[{"ref": "openai", field: given[field]}])
    assert refusal.value.path == f"spec.providers[0].{field}"


@pytest.mark.parametrize("missing", ["name", "type", "model"])
def test_provider_without_class_needs_name_type_and_model(missing):
    given = {key: value for key, value in entry().items() if key != missing}
    with pytest.raises(errors.InvalidPolicy) as refusal:
        policies.parsed(providers=[given])
    assert refusal.value.path == f"spec.providers[0].{missing}"
