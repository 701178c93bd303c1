"""Amounts of money: decimal strings of US dollars outside, whole nano-dollars inside.

A nano-dollar is a billionth of a dollar: the price of a token, at $0.02 for a million, is 20 of
them. Whole numbers add up exactly, and 10**15 of them, a million dollars, are exact in a double,
as which Redis's scripts compute.
"""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

from embedding_contract import json_fields

NANOS_PER_DOLLAR: Final = 10**9
MAX_NANOS: Final = 10**15
"""No limit in money is larger; the same bound as in the resource."""
PRICED_TOKENS: Final = 1_000_000
"""The number of tokens that a price is for."""
PRICE: Final = re.compile(r"[0-9]{1,7}(\.[0-9]{1,8})?")
"""US dollars for a million tokens that can be counted; a price in thousandths of a cent has eight
decimals."""
_AMOUNT: Final = re.compile(r"[0-9]{1,7}(\.[0-9]{1,6})?")


def nanos(amount: str) -> int:
    """The nano-dollars of an amount such as "12.50".

    Raises:
        ValueError: the text is no such amount, or above a million dollars.
    """
    if not _AMOUNT.fullmatch(amount):
        raise ValueError('must be an amount in US dollars such as "12.50"')
    found = int(Decimal(amount) * NANOS_PER_DOLLAR)
    if found > MAX_NANOS:
        raise ValueError(f"must be at most {MAX_NANOS // NANOS_PER_DOLLAR} US dollars")
    return found


def dollars(amount: int) -> str:
    """Nano-dollars as a decimal string of dollars, without trailing zeros."""
    return f"{(Decimal(amount) / NANOS_PER_DOLLAR).normalize():f}"


def price(per_million_tokens: str) -> int:
    """The nano-dollars of a million tokens, by a decimal string of dollars, rounded up."""
    exact = Decimal(per_million_tokens) * NANOS_PER_DOLLAR
    return int(exact.to_integral_value(ROUND_CEILING))


def cost(tokens: int, *, price: int) -> int:
    """The nano-dollars of some tokens, at the nano-dollars of a million, rounded up."""
    return -(-tokens * price // PRICED_TOKENS)


def read(value: object, path: str) -> int | None:
    """The nano-dollars of a JSON string at `path`; None stays None.

    Raises:
        InvalidDocument: it is no amount.
    """
    if value is None:
        return None
    try:
        return nanos(json_fields.string(value, path))
    except json_fields.InvalidDocument:
        raise
    except ValueError as error:
        raise json_fields.InvalidDocument(path, str(error)) from None


def write(amount: int | None) -> str | None:
    """The JSON of nano-dollars, which `read` takes."""
    return None if amount is None else dollars(amount)
