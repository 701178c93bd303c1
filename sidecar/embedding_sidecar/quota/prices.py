"""Prices of a policy's providers, as its limits in money count them."""

from collections.abc import Mapping

from embedding_contract import document, json_fields, money


def of(policy: document.PolicyDocument) -> Mapping[str, int]:
    """Nano-dollars of a million tokens by the provider's name; empty without limits in money.

    Raises:
        InvalidDocument: money is limited, and a provider has no price, or none that can be counted.
    """
    own, classes = _is_limited(policy.quota), {it.name: it.quota for it in policy.classes}
    return {
        it.name: _price(it.price_per_million_tokens, f"providers[{index}].pricePerMillionTokens")
        for index, it in enumerate(policy.providers)
        if own or (it.class_name in classes and _is_limited(classes[it.class_name]))
    }


def _is_limited(quota: document.Quota) -> bool:
    return quota.daily_cost is not None or quota.monthly_cost is not None


def _price(written: str | None, path: str) -> int:
    if written is None:
        raise json_fields.InvalidDocument(path, "is missing: the policy has a limit in money")
    try:
        return money.price(checked(written))
    except ValueError as error:
        raise json_fields.InvalidDocument(path, str(error)) from None


def checked(written: str) -> str:
    """A price that can be counted.

    Raises:
        ValueError: the text is none.
    """
    if not money.PRICE.fullmatch(written):
        raise ValueError('must be an amount in US dollars such as "0.02"')
    return written
