"""Costs: tokens at the policy's price, else at the list price, else unknown."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.console import collection, costs, usage
from tests.parts import paged, provider_classes


def tokens(count, *, policy="search", provider="openai", model="text-embedding-3-small", **more):
    given = {"namespace": "shop", "workload": "search", **more}
    return usage.Tokens(policy=policy, provider=provider, model=model, tokens=count, **given)


def priced(price, *, policy="search"):
    raw = paged.policy(policy)
    raw["spec"]["providers"][0]["pricePerMillionTokens"] = price
    return costs.of_policies([raw])


def test_list_price_is_taken_where_policy_names_none():
    (cost,) = costs.total([tokens(1_500_000)], own={}, by="policy")
    assert (cost.key, cost.tokens, cost.known) == ("shop/search", 1_500_000, Decimal("0.03"))
    assert cost.shown == "0.0300"
    assert cost.sources == {"list"}


def test_policys_own_price_comes_first():
    (cost,) = costs.total([tokens(1_000_000)], own=priced("0.5"), by="policy")
    assert (cost.shown, set(cost.sources)) == ("0.5000", {"policy"})


def test_price_of_class_is_that_of_its_policies():
    raw = paged.policy("search")
    raw["spec"]["providers"] = [{"ref": "openai"}]
    spec = provider_classes.raw()["spec"]
    spec["models"][0]["pricePerMillionTokens"] = "0.7"
    own = costs.of_policies([collection.completed(raw, {"openai": spec})])
    (cost,) = costs.total([tokens(1_000_000)], own=own, by="policy")
    assert (cost.shown, set(cost.sources)) == ("0.7000", {"policy"})
    assert collection.completed(raw, {}) == raw


def test_price_of_another_policy_does_not_count():
    (cost,) = costs.total([tokens(1_000_000)], own=priced("0.5", policy="other"), by="policy")
    assert cost.sources == {"list"}


def test_list_price_does_not_count_behind_another_address():
    raw = paged.policy("search")
    raw["spec"]["providers"][0]["baseURL"] = "https://gateway.example/v1"
    (cost,) = costs.total([tokens(1)], own=costs.of_policies([raw]), by="policy")
    assert cost.shown == "?"
    raw["spec"]["providers"][0]["baseURL"] = "https://api.openai.com/v1/"
    (cost,) = costs.total([tokens(1)], own=costs.of_policies([raw]), by="policy")
    assert cost.sources == {"list"}


def test_higher_of_two_prices_of_one_model_stands():
    raw = paged.policy("search")
    first = raw["spec"]["providers"][0]
    raw["spec"]["providers"] = [
        {**first, "pricePerMillionTokens": "0.1"},
        {**first, "name": "other", "pricePerMillionTokens": "0.3"},
    ]
    (cost,) = costs.total([tokens(1_000_000)], own=costs.of_policies([raw]), by="policy")
    assert cost.shown == "0.3000"


def test_unknown_price_is_never_nothing():
    (cost,) = costs.total([tokens(10, model="mystery")], own={}, by="policy")
    assert cost.shown == "?"
    assert "openai/mystery" in " ".join(costs.notes([cost]))
    assert "pricePerMillionTokens" in " ".join(costs.notes([cost]))


def test_known_part_is_shown_beside_what_is_unknown():
    billed = [tokens(1_000_000), tokens(1, model="mystery")]
    (cost,) = costs.total(billed, own={}, by="policy")
    assert cost.shown == "0.0200 + ?"


def test_little_is_not_shown_as_nothing():
    (cost,) = costs.total([tokens(1)], own={}, by="policy")
    assert cost.shown == "<0.0001"
    (cost,) = costs.total([tokens(0)], own={}, by="policy")
    assert cost.shown == "0.0000"


def test_price_of_nothing_is_price():
    (cost,) = costs.total(
        [tokens(5, provider="openaicompatible", model="m")],
        own={("shop", "search", "openaicompatible", "m"): Decimal(0)},
        by="policy",
    )
    assert cost.shown == "0.0000"


def test_costs_are_grouped_by_workload_and_by_provider():
    billed = [
        tokens(1),
        tokens(2, workload="load"),
        tokens(4, provider="voyage", model="voyage-3"),
    ]
    workloads = costs.total(billed, own={}, by="workload")
    assert {it.key: it.tokens for it in workloads} == {
        "shop/search": 5,
        "shop/load": 2,
    }
    providers = costs.total(billed, own={}, by="provider")
    assert {it.key: it.tokens for it in providers} == {
        "openai/text-embedding-3-small": 3,
        "voyage/voyage-3": 4,
    }


def test_table_sums_and_unknown_part_makes_sum_unknown():
    billed = [tokens(1_000_000), tokens(7, policy="other", model="mystery")]
    lines = costs.table(costs.total(billed, own={}, by="policy"), by="policy").splitlines()
    assert [line.split() for line in lines] == [
        ["POLICY", "TOKENS", "COST", "PRICE"],
        ["shop/other", "7", "?", "?"],
        ["shop/search", "1,000,000", "0.0200", "list"],
        ["total", "1,000,007", "0.0200", "+", "?", "list"],
    ]


def test_name_of_tenant_cannot_steer_terminal():
    shown = costs.table(
        costs.total([tokens(1, model="\x1b[2Jm")], own={}, by="provider"), by="provider"
    )
    assert "\x1b" not in shown


@given(st.lists(st.integers(0, 10**12), max_size=8))
def test_groups_lose_no_token_and_no_money(counts):
    billed = [tokens(count, workload=f"job-{at}") for at, count in enumerate(counts)]
    apart = costs.total(billed, own={}, by="workload")
    together = costs.total(billed, own={}, by="policy")
    assert sum(it.tokens for it in apart) == sum(counts) == sum(it.tokens for it in together)
    assert sum(it.known for it in apart) == sum(it.known for it in together)
