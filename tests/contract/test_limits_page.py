"""The policies of docs/limits.md: the API server takes them, and they say what the page says."""

import re
from pathlib import Path

import pytest
import yaml

from embedding_contract import document
from embedding_operator.policy import crd_schema, policy

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
SHOWN = {
    it["metadata"]["name"]: it
    for it in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
}


def of(name: str) -> document.PolicyDocument:
    return policy.to_document(policy.parse(crd_schema.admit(SHOWN[name])))


def test_page_shows_money_own_prices_and_observing():
    assert list(SHOWN) == ["search", "own-first", "watched"]


def test_money_and_minutes_of_page_reach_sidecar():
    made = of("search")
    assert made.requires == ("quota.cost", "quota.monthly", "rate")
    assert (made.quota.daily_cost, made.quota.monthly_cost) == (2_500_000_000, 40_000_000_000)
    assert made.providers[0].price_per_million_tokens == "0.02"


def test_own_prices_of_page_are_those_that_count():
    made = of("own-first")
    assert [it.price_per_million_tokens for it in made.providers] == ["0", "0.01"]


def test_watched_policy_of_page_refuses_nothing():
    assert of("watched").quota.observes


@pytest.mark.cluster
@pytest.mark.parametrize("name", SHOWN)
def test_api_server_takes_policy_of_page(api_server, namespace, name):
    shown = SHOWN[name]
    api_server.apply({**shown, "metadata": {**shown["metadata"], "namespace": namespace}})
    stored = api_server.get("embeddingpolicy", name, "-n", namespace)
    assert policy.to_document(policy.parse(stored)).quota == of(name).quota
