"""The cost of a policy's tokens as PromQL, by its own prices, else by the built-in list."""

import json
from decimal import Decimal

from embedding_contract import money
from embedding_operator.policy.policy import EmbeddingPolicy
from embedding_operator.policy.provider import price as price_of


def of(policy: EmbeddingPolicy) -> dict[tuple[str, str], str]:
    """The price of a million tokens, a decimal string, by the metrics' provider and model.

    Without providers of unknown price. Two providers of one type and model share a series: the
    higher price counts, so that a cost is never shown too low.
    """
    found: dict[tuple[str, str], str] = {}
    for provider in policy.providers:
        price = price_of(provider)
        if price is None:
            continue
        key = (provider.kind.lower(), provider.model)
        if Decimal(price) >= Decimal(found.get(key, "0")):
            found[key] = price
    return found


def expression(policy: EmbeddingPolicy, *, tokens: str) -> str | None:
    """The cost of tokens by provider and model, to be summed; None without a known price.

    `tokens` is an expression over aos_embedding_tokens_total, with `@matchers@` in its selector.
    """
    per = money.PRICED_TOKENS
    terms = [
        f"{tokens.replace('@matchers@', _matchers(provider, model))} * {price} / {per}"
        for (provider, model), price in sorted(of(policy).items())
    ]
    return " or ".join(terms) or None


def _matchers(provider: str, model: str) -> str:
    # A model's name is printable ASCII, in which JSON's escapes are PromQL's.
    return f"provider={json.dumps(provider)}, model={json.dumps(model)}"
