"""The built-in price list."""

from datetime import date
from decimal import Decimal

from embedding_contract import prices, spaces


def test_every_price_is_decimal_above_nothing_with_source_and_day():
    for price in prices.PRICES.values():
        assert Decimal(price.usd_per_million_tokens) > 0
        assert price.source.startswith("https://")
        assert date.fromisoformat(price.date)


def test_every_priced_model_is_known_one():
    for key in prices.PRICES:
        provider, _, model = key.partition("/")
        space = spaces.space_of(kind=provider, model=model, base_url="https://x")
        assert space.startswith(f"{provider}/")


def test_unknown_model_has_no_price():
    assert prices.find("OpenAI", "no-such-model") is None
    assert prices.find("OpenAICompatible", "text-embedding-3-small") is None


def test_type_is_found_in_any_case():
    assert prices.find("Voyage", "voyage-3.5") == prices.PRICES["voyage/voyage-3.5"]
