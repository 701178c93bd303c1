"""The cost of billed tokens, at the policy's prices or at list prices: pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from embedding_contract import money, prices
from embedding_operator import terminal
from embedding_operator.console.usage import Tokens

By = Literal["policy", "workload", "provider"]
UNKNOWN: Final = "?"
SMALLEST: Final = Decimal("0.0001")
"""A smaller cost is shown as less than this, and not as 0."""
_KEYS: Final[Mapping[By, tuple[str, Callable[[Tokens], str]]]] = {
    "policy": ("POLICY", lambda it: f"{it.namespace}/{it.policy}"),
    "workload": ("WORKLOAD", lambda it: f"{it.namespace}/{it.workload}"),
    "provider": ("PROVIDER", lambda it: f"{it.provider}/{it.model}"),
}

_FIGURES: Final = frozenset({1, 2, 5})
"""Columns of figures, which end at the right: tokens, cost, and the use of a limit."""

PolicyPrices = Mapping[tuple[str, str, str, str], Decimal | None]
"""By namespace, policy, provider's type in lower case, and model; None is an unknown price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Tokens and their cost under one heading.

    `known` is the cost of tokens of known price; `unpriced` names the models of unknown price.
    `sources` are `policy` and `list`.
    """

    key: str
    tokens: int
    known: Decimal
    unpriced: frozenset[str]
    sources: frozenset[str]

    @property
    def shown(self) -> str:
        """The cost as text, with `?` for tokens of unknown price."""
        money = f"{self.known:,.4f}" if not 0 < self.known < SMALLEST else f"<{SMALLEST}"
        if not self.unpriced:
            return money
        return f"{money} + {UNKNOWN}" if self.known else UNKNOWN


def of_policies(policies: Iterable[Mapping[str, Any]]) -> PolicyPrices:
    """The prices in policies.

    Two providers of one type and model share a series: the higher price counts, so that a cost is
    never shown too low. Without a price in the policy, the price at an address other than the
    vendor's is unknown, as another contract may apply there.
    """
    found: dict[tuple[str, str, str, str], Decimal | None] = {}
    for policy in policies:
        metadata = policy["metadata"]
        for provider in policy["spec"]["providers"]:
            if "type" not in provider:
                continue  # the price is that of its ClusterEmbeddingProvider
            key = (
                metadata["namespace"],
                metadata["name"],
                provider["type"].lower(),
                provider["model"],
            )
            price = provider.get("pricePerMillionTokens")
            if price is not None:
                found[key] = max(Decimal(price), found.get(key) or Decimal(0))
            elif _counting(provider) is None:
                found.setdefault(key, None)
    return found


def total(billed: Iterable[Tokens], *, own: PolicyPrices, by: By) -> list[Cost]:
    """Costs by policy, workload or provider: unknown prices first, then the highest."""
    grouped: dict[str, list[Tokens]] = {}
    for entry in billed:
        grouped.setdefault(_KEYS[by][1](entry), []).append(entry)
    found = [_cost(key, entries, own=own) for key, entries in grouped.items()]
    return sorted(found, key=lambda it: (not it.unpriced, -it.known, it.key))


Cells = tuple[str, ...]


def table(
    costs: Sequence[Cost], *, by: By, limits: Mapping[str, Sequence[Cells]] | None = None
) -> str:
    """The output of `kubectl embedding cost`, with a sum for several rows.

    `limits` has, by the key of a policy's cost, a limit's name, its use and how long it lasts.
    """
    limits = limits or {}
    heads = ("LIMIT", "USED", "LASTS UNTIL") if limits else ()
    rows: list[Cells] = [(_KEYS[by][0], "TOKENS", "COST", "PRICE", *heads)]
    for row in [
        *map(_row, costs),
        *((it, "0", "-", "-") for it in limits if it not in _keys(costs)),
    ]:
        rows += _with_limits(row, limits.get(row[0], ()), width=len(heads))
    if len(costs) > 1:
        rows += _with_limits(_row(_sum(costs)), (), width=len(heads))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(_line(row, widths) for row in rows)


def notes(costs: Sequence[Cost]) -> list[str]:
    """Notes on the sources of prices, and on missing ones."""
    found = []
    sources = frozenset[str]().union(*(it.sources for it in costs))
    if "list" in sources:
        found.append(
            f"list: list prices in USD of {prices.AS_OF} or later; your account may pay less."
            " A policy's pricePerMillionTokens replaces them."
        )
    if "policy" in sources:
        found.append("policy: the policy's own pricePerMillionTokens, in its currency.")
    unpriced = frozenset[str]().union(*(it.unpriced for it in costs))
    if unpriced:
        names = ", ".join(map(terminal.shown, sorted(unpriced)))
        found.append(
            f"{UNKNOWN}: the price of {names} is unknown; set pricePerMillionTokens in the policy."
        )
    return found


def _counting(provider: Mapping[str, Any]) -> str | None:
    return prices.counting(
        kind=provider["type"],
        model=provider["model"],
        base_url=provider.get("baseURL"),
        region=provider.get("region"),
        named=None,
    )


def _keys(costs: Sequence[Cost]) -> frozenset[str]:
    return frozenset(it.key for it in costs)


def _with_limits(row: Cells, limits: Sequence[Cells], *, width: int) -> list[Cells]:
    """The row with its first limit, and a row for each further one."""
    if not width:
        return [row]
    first, *others = limits or [("",) * width]
    return [(*row, *first), *(("",) * len(row) + it for it in others)]


def _price(entry: Tokens, own: PolicyPrices) -> tuple[Decimal, str] | None:
    """The price of a million of these tokens, and its source."""
    key = (entry.namespace, entry.policy, entry.provider, entry.model)
    if key in own:
        named = own[key]
        return None if named is None else (named, "policy")
    listed = prices.find(entry.provider, entry.model)
    return None if listed is None else (Decimal(listed.usd_per_million_tokens), "list")


def _cost(key: str, entries: Sequence[Tokens], *, own: PolicyPrices) -> Cost:
    known = Decimal(0)
    unpriced, sources = set(), set()
    for entry in entries:
        found = _price(entry, own)
        if found is None:
            unpriced.add(f"{entry.provider}/{entry.model}")
            continue
        price, source = found
        known += price * Decimal(round(entry.tokens)) / money.PRICED_TOKENS
        sources.add(source)
    return Cost(
        key=key,
        tokens=round(sum(entry.tokens for entry in entries)),
        known=known,
        unpriced=frozenset(unpriced),
        sources=frozenset(sources),
    )


def _sum(costs: Sequence[Cost]) -> Cost:
    return Cost(
        key="total",
        tokens=sum(it.tokens for it in costs),
        known=sum((it.known for it in costs), Decimal(0)),
        unpriced=frozenset[str]().union(*(it.unpriced for it in costs)),
        sources=frozenset[str]().union(*(it.sources for it in costs)),
    )


def _row(cost: Cost) -> Cells:
    source = ", ".join(sorted(cost.sources)) or UNKNOWN
    return terminal.shown(cost.key), f"{cost.tokens:,}", cost.shown, source


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (
        cell.rjust(width) if number in _FIGURES else cell.ljust(width)
        for number, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "   ".join(cells).rstrip() + "\n"
