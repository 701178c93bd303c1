"""Tenants' expressions see one namespace's series and no other, whatever they try."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.render import promql

OWN = 'x{namespace="shop"}'

ALLOWED = (
    OWN,
    f"sum by (policy) (rate({OWN}[5m])) > 0.5",
    f"{OWN} offset 1h > 3 and on (policy) {OWN} @ start()",
    f"max_over_time(rate({OWN}[5m])[1h:1m]) > 1",
    f"absent({OWN})",
    f'label_replace({OWN}, "a", "$1", "b", "(.*)") == 1',
    "x{namespace='shop'} == 1",
    "x{namespace=`shop`} == 1",
    '{__name__=~"aos_.+", namespace="shop"} > 0',
    'x{namespace="shop", namespace=~".*"} > 0',
    "vector(1)",
    f"quantile(scalar({OWN}), {OWN})",
    f"{OWN}\n  > 1",
)

TRICKS = {
    "no matcher": "x",
    "another namespace": 'x{namespace="kube-system"}',
    "a regular expression": 'x{namespace=~"shop"}',
    "a regular expression that is more": 'x{namespace=~"shop|.*"}',
    "not equal": 'x{namespace!="shop"}',
    "not matching": 'x{namespace!~"other"}',
    "another label's value": 'x{job="namespace=\\"shop\\""}',
    "another label's name": 'x{exported_namespace="shop"}',
    "an empty value": 'x{namespace=""}',
    "by name alone": '{__name__="x"}',
    "matchers joined by or": 'x{namespace="shop" or job="y"}',
    "matchers joined by or, both ours": 'x{namespace="shop" or namespace="shop"}',
    "the right of a binary operator": f"{OWN} or x",
    "the left of a binary operator": f"x unless {OWN}",
    "a group_left join": f"{OWN} * on (pod) group_left (secret) x",
    "inside parentheses": f"{OWN} + (((x)))",
    "a unary operand": f"{OWN} + -x",
    "a range": f"{OWN} and rate(x[5m]) > 0",
    "a subquery": f"{OWN} and max_over_time(x[1h:1m]) > 0",
    "a subquery of a rate": f"{OWN} and max_over_time(rate(x[5m])[1h:1m]) > 0",
    "an offset": f"{OWN} or x offset 5m",
    "a negative offset": f"{OWN} or x offset -5m",
    "a time": f"{OWN} or x @ 1700000000",
    "a function's second argument": f"clamp_max({OWN}, scalar(x))",
    "an aggregation's parameter": f"topk(scalar(x), {OWN})",
    "a quantile's parameter": f"histogram_quantile(scalar(x), {OWN})",
    "absent": "absent(x)",
    "info, which joins by itself": f"info({OWN})",
    "a comment that hides the matcher": 'x # {namespace="shop"}',
    "a comment in the middle": 'x{ # namespace="shop"\n job="y"}',
    "a string that hides the matcher": 'count_values("namespace=\\"shop\\"", x)',
    "a quoted metric name": '{"x"}',
    "a name of UTF-8": '{"x.y", namespace="shop"}',
    "a label of UTF-8": 'x{"a.b"="c", namespace="shop"}',
    "an escape that ends the string": 'x{job="shop\\"", a="namespace=\\"shop\\""}',
    "another alphabet": 'x{n\N{CYRILLIC SMALL LETTER A}mespace="shop"}',
    "a zero-width character": 'x{namespace="shop\u200b"}',
    "white space in the value": 'x{namespace="shop "}',
    "another case": 'x{namespace="Shop"}',
    "an ampersand of a lower case label": 'x{Namespace="shop"}',
}

COSTLY = {
    "a long range": f"max_over_time({OWN}[8d])",
    "a long offset": f"{OWN} offset 30d",
    "a long negative offset": f"{OWN} offset -30d",
    "a subquery of many steps": f"max_over_time({OWN}[7d:1s])",
    "a subquery without a step": f"max_over_time({OWN}[1h:])",
    "a subquery in another": f"max_over_time(max_over_time({OWN}[1h:1m])[1h:1m])",
    "many selectors": " or ".join([OWN] * 17),
    "many characters": f"{OWN} > 1{'0' * 1024}",
    "a range vector": f"{OWN}[5m]",
    "a string": '"text"',
    "an experimental function": f'sort_by_label({OWN}, "a")',
}

BROKEN = {
    "rate(x": ("unclosed left parenthesis", 5),
    f"{OWN} >": ("invalid promql query", 21),
    f"sum({OWN}) by (a) without (b)": ("invalid promql query", 33),
    f"rate({OWN})": ("expected type matrix", 5),
    "no_such_function(x)": ("unknown function", 17),
    "x smoothed": ("invalid promql query", 3),
    ")": ("unexpected right parenthesis", 1),
}


@pytest.mark.parametrize("expr", ALLOWED)
def test_expression_of_namespace_is_allowed(expr):
    assert promql.refusal(expr, namespace="shop") is None


@pytest.mark.parametrize("trick", TRICKS)
def test_selector_of_another_namespace_is_refused(trick):
    assert promql.refusal(TRICKS[trick], namespace="shop")


@pytest.mark.parametrize("what", COSTLY)
def test_function_that_no_alert_needs_is_refused(what):
    assert promql.refusal(COSTLY[what], namespace="shop")


@pytest.mark.parametrize("expr", BROKEN)
def test_refusal_quotes_parser_and_names_column(expr):
    words, column = BROKEN[expr]
    told = promql.refusal(expr, namespace="shop")
    assert told is not None
    assert words in told
    assert told.endswith(f"(column {column})")


def test_refusal_names_selector_and_what_it_must_carry():
    told = promql.refusal(f"{OWN} or secret_metric", namespace="shop")
    assert told == 'secret_metric: every selector must have namespace="shop"'


@pytest.mark.parametrize("nested", ["(" * 500 + OWN + ")" * 500, "-" * 1000 + "1"])
def test_deep_nesting_ends_neither_parser_nor_walk(nested):
    assert promql.refusal(nested, namespace="shop") is None


@given(st.text(max_size=200))
def test_any_text_is_judged(text):
    told = promql.refusal(text, namespace="shop")
    assert told is None or told


FRAGMENTS = st.sampled_from(
    [
        *(OWN, "x", "(", ")", "sum", "rate", "[5m]", "[1h:1m]", " or ", " and ", "{", "}", ","),
        *("=", "=~", '"shop"', "namespace", "offset 5m", "@ 5", "by (a)", "1", "-", "#"),
        *("\n", "\\", "'", "`"),
    ]
)


@given(st.lists(FRAGMENTS, max_size=12))
def test_allowed_text_has_its_namespace_in_every_selector(fragments):
    expr = "".join(fragments)
    if promql.refusal(expr, namespace="shop") is None:
        for _, matchers in promql.selectors(expr):
            assert matchers["namespace"].endswith("Equal shop")


@given(st.text(alphabet=string.ascii_lowercase, min_size=1, max_size=20))
def test_namespace_is_taken_literally(name):
    expr = f'x{{namespace="{name}"}}'
    assert promql.refusal(expr, namespace=name) is None
    assert promql.refusal(expr, namespace=f"{name}x") is not None
