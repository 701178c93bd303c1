"""PromQL that several panels share: matchers, rates, quantiles and prices."""

from typing import Final

from embedding_contract import prices

OF_POLICY: Final = 'namespace=~"$namespace", policy=~"$policy"'
"""Matchers that pick the chosen policies' series."""
BY_POLICY: Final = "by (namespace, policy)"
POLICY_LEGEND: Final = "{{namespace}}/{{policy}}"


def selected(metric: str, *matchers: str) -> str:
    """The chosen policies' series of a metric."""
    return f"{metric}{{{', '.join((OF_POLICY, *matchers))}}}"


def of_indexes(metric: str) -> str:
    """A gauge of indexes, summed by policy. Each pod of an index tells the same of it.

    It is NaN until a pod has counted: such an index is left out, or the sum would be NaN.
    """
    return f"sum {BY_POLICY} (max by (namespace, policy, index) ({selected(metric)}) >= 0)"


def rate(metric: str, *matchers: str) -> str:
    """Its increase a second, over 5 minutes."""
    return f"rate({selected(metric, *matchers)}[5m])"


EACH_LIMIT: Final = "by (namespace, policy, period, unit)"
LIMIT_LEGEND: Final = "{{policy}} {{period}} {{unit}}"


def used(*matchers: str) -> str:
    """The used part of each limit; every pod of a policy tells the same."""
    return f"max {EACH_LIMIT} ({selected('aos_embedding_quota_used', *matchers)})"


def limit(*matchers: str) -> str:
    """Each limit of the chosen policies."""
    return f"max {EACH_LIMIT} ({selected('aos_embedding_quota_limit', *matchers)})"


def quantile(share: float, histogram: str, *labels: str) -> str:
    """Seconds within which this share of what a histogram counted was done, by labels."""
    by = ", ".join((*labels, "le"))
    return f"histogram_quantile({share}, sum by ({by}) ({rate(f'{histogram}_bucket')}))"


def cost(window: str) -> str:
    """USD that the billed tokens of a window cost, by policy, provider and model.

    The dashboard's variable `price` wins where it is above 0; else the built-in list counts. A
    model of unknown price is in the answer only with such a price: it is never 0.
    """
    tokens = selected("aos_embedding_tokens_total")
    millions = (
        f"sum by (namespace, policy, provider, model) (increase({tokens}[{window}])) / 1000000"
    )
    return (
        f"({millions} * $price > 0) or"
        f" ({millions} * on (provider, model) group_left () ({_list_prices()}))"
    )


def _list_prices() -> str:
    """A series for each model of the built-in list, whose value is its price."""
    return " or ".join(
        f'label_replace(label_replace(vector({price.usd_per_million_tokens}), "provider",'
        f' "{key.partition("/")[0]}", "", ""), "model", "{key.partition("/")[2]}", "", "")'
        for key, price in prices.PRICES.items()
    )
