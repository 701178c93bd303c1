"""Parse tenants' PromQL, and limit it to one namespace.

A tenant's alert is evaluated by a Prometheus with all tenants' series. So every selector must name
the tenant's namespace, and the cost of an expression is bounded. The parser is GreptimeDB's
promql-parser, for the language of Prometheus 2.45 and newer functions.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

import promql_parser as promql

NAMESPACE_LABEL: Final = "namespace"
MAX_CHARACTERS: Final = 1024
MAX_SELECTORS: Final = 16
MAX_SUBQUERIES: Final = 1
"""Nested subqueries would multiply their steps."""
MAX_RANGE: Final = timedelta(days=7)
MAX_SUBQUERY_STEPS: Final = 1000

_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_JOINS_OTHERS: Final = "info"
"""A function that joins series without a selector."""
_NOTHING: Final = timedelta()


@lru_cache(maxsize=4096)
def refusal(expr: str, *, namespace: str) -> str | None:
    """The reason to refuse an expression for this namespace; None if it is accepted.

    For a syntax error, the parser's message and its column, counted from 1.
    """
    told = _text(expr)
    if told:
        return told
    parsed, told = _parse(expr)
    if parsed is None:
        return f"does not parse: {told} (column {_column(expr)})"
    nodes = list(_nodes(parsed))
    selectors = [node for node in nodes if isinstance(node, promql.VectorSelector)]
    told = _whole(parsed, nodes, selectors=len(selectors))
    if told:
        return told
    found = [
        *(_selector(selector, namespace) for selector in selectors),
        *(_bounds(node) for node in nodes),
    ]
    return next((it for it in found if it), None)


def selectors(expr: str) -> list[tuple[str, dict[str, str]]]:
    """The metric name and the label matchers by name (`op value`) of every selector.

    Raises:
        ValueError: it does not parse; the text is the parser's.
    """
    parsed, told = _parse(expr)
    if parsed is None:
        raise ValueError(told)
    return [
        (node.name or "", {it.name: f"{it.op} {it.value}" for it in node.matchers.matchers})
        for node in _nodes(parsed)
        if isinstance(node, promql.VectorSelector)
    ]


def _text(expr: str) -> str:
    """The fault of the text; empty without one."""
    if len(expr) > MAX_CHARACTERS:
        return f"has more than {MAX_CHARACTERS} characters"
    if not (expr.isascii() and all(it.isprintable() or it == "\n" for it in expr)):
        return "has characters other than printable ASCII"
    return ""


def _whole(parsed: promql.Expr, nodes: Sequence[promql.Expr], *, selectors: int) -> str:
    """The fault of the whole expression; empty without one."""
    if isinstance(parsed, promql.MatrixSelector | promql.SubqueryExpr | promql.StringLiteral):
        return "must be an instant vector or a number"
    if selectors > MAX_SELECTORS:
        return f"has more than {MAX_SELECTORS} selectors"
    if sum(isinstance(node, promql.SubqueryExpr) for node in nodes) > MAX_SUBQUERIES:
        return f"has more than {MAX_SUBQUERIES} subquery"
    return ""


def _parse(expr: str) -> tuple[promql.Expr | None, str]:
    """The parsed expression, or the parser's message."""
    try:
        return promql.parse(expr), ""
    except ValueError as error:
        return None, str(error)
    except BaseException as error:
        # A Rust panic is not an Exception in Python; others of that kind end the process.
        if type(error).__name__ != "PanicException":
            raise
        return None, "the parser failed"


def _column(expr: str) -> int:
    """The column after the longest beginning that parses, and blanks."""
    for end in range(len(expr) - 1, 0, -1):
        if _parse(expr[:end])[0] is not None:
            rest = expr[end:]
            return end + len(rest) - len(rest.lstrip()) + 1
    return 1


def _nodes(root: promql.Expr) -> Iterator[promql.Expr]:
    """Every part of an expression, without recursion, as nesting is unbounded."""
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, promql.MatrixSelector):
            waiting.append(node.vector_selector)
        elif isinstance(node, promql.Call):
            waiting += node.args
        else:
            parts = (getattr(node, name, None) for name in ("expr", "param", "lhs", "rhs"))
            waiting += [part for part in parts if isinstance(part, promql.Expr)]


def _selector(selector: promql.VectorSelector, namespace: str) -> str | None:
    name, matchers = selector.name or "", selector.matchers
    shown = name or "a selector without a name"
    if matchers.or_matchers:
        return f"{shown}: matchers joined by `or` are not allowed"
    for it in matchers.matchers:
        if not _LABEL.fullmatch(it.name):
            return f"{shown}: label names may have letters, digits and _ only"
        if it.name == "__name__" and it.op == promql.MatchOp.Equal:
            name = it.value
    if name and not _METRIC.fullmatch(name):
        return f"{shown}: metric names may have letters, digits, _ and : only"
    if not any(
        it.name == NAMESPACE_LABEL and it.op == promql.MatchOp.Equal and it.value == namespace
        for it in matchers.matchers
    ):
        return f'{shown}: every selector must have {NAMESPACE_LABEL}="{namespace}"'
    return None


def _bounds(node: promql.Expr) -> str | None:
    """The fault of a part that costs too much, or reads other namespaces; None without one."""
    if isinstance(node, promql.Call):
        if node.func.name == _JOINS_OTHERS:
            return f"{_JOINS_OTHERS}() is not allowed: it reads series of other namespaces"
        if node.func.experimental:
            return f"{node.func.name}() is experimental, so Prometheus may lack it"
    for what in ("range", "offset"):
        length = getattr(node, what, None)
        if length is not None and abs(length) > MAX_RANGE:
            return f"its {what} is longer than {MAX_RANGE.days} days"
    if isinstance(node, promql.SubqueryExpr):
        if not node.step:
            return "a subquery must name its step, as in [1h:1m]"
        if (node.range or _NOTHING) / node.step > MAX_SUBQUERY_STEPS:
            return f"a subquery has more than {MAX_SUBQUERY_STEPS} steps"
    return None
