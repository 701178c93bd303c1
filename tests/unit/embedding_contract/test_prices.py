"""The built-in price list."""

from datetime import date
from decimal import Decimal

import pytest

from embedding_contract import prices


def test_every_price_is_decimal_above_nothing_with_source_and_day():
    for price in prices.PRICES.values():
        assert Decimal(price.usd_per_million_tokens) > 0
        assert price.source.startswith("https://")
        assert date.fromisoformat(price.date)


def test_unknown_model_has_no_price():
    assert prices.find("OpenAI", "no-such-model") is None
    assert prices.find("OpenAICompatible", "text-embedding-3-small") is None


def test_type_is_found_in_any_case():
    assert prices.find("Voyage", "voyage-3.5") == prices.PRICES["voyage/voyage-3.5"]


def counting(**given):
    asked = {
        "kind": "OpenAI",
        "model": "text-embedding-3-small",
        "base_url": None,
        "region": None,
        "named": None,
    }
    return prices.counting(**asked | given)


SMALL = prices.PRICES["openai/text-embedding-3-small"].usd_per_million_tokens
TITAN = {"kind": "Bedrock", "model": "amazon.titan-embed-text-v2:0"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, SMALL),
        ({"base_url": "https://api.openai.com/v1/"}, SMALL),
        ({"named": "0.5"}, "0.5"),
        ({"named": "0"}, "0"),
        ({"base_url": "https://proxy.example/v1"}, None),
        ({"base_url": "https://proxy.example/v1", "named": "0.5"}, "0.5"),
        ({"model": "new"}, None),
        ({"kind": "OpenAICompatible", "base_url": "http://e5/v1"}, None),
        ({"kind": "AzureOpenAI", "base_url": "https://a.openai.azure.com"}, "0.022"),
        ({"kind": "AzureOpenAI", "base_url": "https://a.openai.azure.us"}, None),
        ({"kind": "AzureOpenAI", "base_url": "https://openai.azure.com.example"}, None),
        ({**TITAN, "region": "eu-central-1"}, "0.02"),
        ({**TITAN, "region": "us-gov-west-1"}, None),
        ({**TITAN, "region": "eu-central-1", "base_url": "https://vpce.example"}, None),
    ],
)
def test_price_that_counts_is_policy_s_or_that_of_vendor_s_own_address(given, expected):
    assert counting(**given) == expected
