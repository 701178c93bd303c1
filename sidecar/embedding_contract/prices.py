"""The price of a model: the policy's own, else the list price of a known model.

A model without either has no known price, which is shown as "?" and never as 0.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from embedding_contract import document, models
from embedding_contract.models import Price

PRICES: Final[Mapping[str, Price]] = MappingProxyType(
    {key: it.price for key, it in models.MODELS.items() if it.price is not None}
)
"""The list prices by `provider/model`: the provider's type in lower case, as metrics name it."""

AS_OF: Final = min(price.date for price in PRICES.values())
"""The day of the oldest list price."""
_AZURE_HOSTS: Final = (
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
)
"""Hosts of Azure's public cloud; those of governments have other prices."""
_OTHER_LISTS: Final = ("us-gov-", "cn-")
"""Beginnings of AWS regions with a price list of their own."""


def find(provider: str, model: str) -> Price | None:
    """The list price of a model of a provider's type, in any case; None where none is known."""
    return PRICES.get(f"{provider.lower()}/{model}")


def counting(
    *, kind: str, model: str, base_url: str | None, region: str | None, named: str | None
) -> str | None:
    """The price that counts: US dollars of a million tokens, a decimal string; None if unknown.

    `named` is the policy's own. The list price counts at the vendor's own address only, as another
    contract may apply elsewhere.
    """
    if named is not None:
        return named
    listed = find(kind, model)
    if listed is None or not _is_vendors(kind=kind, base_url=base_url, region=region):
        return None
    return listed.usd_per_million_tokens


def _is_vendors(*, kind: str, base_url: str | None, region: str | None) -> bool:
    if kind == "AzureOpenAI":
        host = urlsplit(base_url or "").hostname or ""
        return host.endswith(_AZURE_HOSTS)
    if (region or "").startswith(_OTHER_LISTS):
        return False
    default = document.default_base_url(kind=kind, region=region)
    return default is not None and (base_url is None or base_url.rstrip("/") == default)
