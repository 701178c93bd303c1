"""Quantities of Kubernetes resources as numbers: pure."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

_FACTORS: Final = {
    suffix: factor
    for power, letter in enumerate("kMGTPE", start=1)
    for suffix, factor in (
        (letter, Decimal(1000) ** power),
        (f"{letter.upper()}i", Decimal(1024) ** power),
    )
} | {"m": Decimal("1e-3"), "u": Decimal("1e-6"), "n": Decimal("1e-9")}


def amount(quantity: str | int) -> Decimal:
    """A Quantity of k8s.io/apimachinery as a number: "100m" is 0.1, "1Ki" is 1024."""
    text = str(quantity)
    for suffix in _suffixes(text):
        return Decimal(text.removesuffix(suffix)) * _FACTORS[suffix]
    return Decimal(text)


def _suffixes(text: str) -> Iterable[str]:
    return (text[-length:] for length in (2, 1) if text[-length:] in _FACTORS)
