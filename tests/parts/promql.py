"""The series of a PromQL expression, and the labels that it matches and groups by."""

from dataclasses import dataclass

import promql_parser

from embedding_contract import metrics

TARGET_LABELS = frozenset({"namespace", "policy", "index", "pod", "workload", "job", "instance"})
"""The labels that every scraped series gets from its target."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A series name of an expression, and the labels of its matchers."""

    series: str
    labels: frozenset[str]


def asked(expr: str) -> list[Asked]:
    """Every selector of an expression.

    Raises:
        ValueError: it does not parse; the text is the parser's.
    """
    found: list[Asked] = []

    def note(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(_selector(node))
        return True

    promql_parser.walk(promql_parser.parse(expr), note)
    return found


def grouped(expr: str) -> frozenset[str]:
    """Every label that an expression aggregates by, or joins on."""
    found: set[str] = set()

    def note(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.update(node.modifier.labels)
        return True

    promql_parser.walk(promql_parser.parse(expr), note)
    return frozenset(found)


def unknown(expr: str) -> list[str]:
    """The series and labels of an expression that the catalogue does not have."""
    catalogue = {name: set(it.labels) for it in metrics.CATALOGUE for name in it.series}
    labels = {"le"} | TARGET_LABELS
    wrong = []
    for selector in asked(expr):
        own = catalogue.get(selector.series)
        if own is None:
            wrong.append(selector.series)
            continue
        labels |= own
        wrong += [
            f"{selector.series}{{{label}}}"
            for label in sorted(selector.labels - own - TARGET_LABELS - {"le"})
        ]
    return wrong + sorted(grouped(expr) - labels)


def _selector(node: promql_parser.VectorSelector) -> Asked:
    names = frozenset(matcher.name for matcher in node.matchers.matchers)
    return Asked(node.name or "", names - {"__name__"})
