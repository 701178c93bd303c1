"""A test's name begins with its subject: no article, no relative clause, at most 70 characters."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MAX_CHARACTERS = 70
ARTICLES = frozenset({"a", "an", "the"})
NO_SUBJECT = re.compile(
    "a|an|the|what|who|whose|whom|whatever|whoever|whichever|which|where|wherever|when|whenever|while"
    "|why|how|however|of|as|that|if|nobody|nothing|it|there|without|with|within|in|before|after|at|by"
    "|for|on|from|to|under|below|across|behind|beside|once|until|unless|because|than|so|and|or|not"
    "|never|but"
)
# A case of a fault list, such as b7 or d10, may stand first.
CASE = re.compile(r"[a-z]\d+")


def fault(name):
    """What is wrong with a test's name; None for a good one."""
    words = name.removeprefix("test_").split("_")
    while words and CASE.fullmatch(words[0]):
        words.pop(0)
    if not words or NO_SUBJECT.fullmatch(words[0]):
        return "begin with the subject, without article or relative word"
    if ARTICLES & set(words):
        return "leave articles out"
    if len(name) > MAX_CHARACTERS:
        return f"{len(name)} characters, {MAX_CHARACTERS} at most"
    return None


def test_names_of_tests_say_subject_and_expectation():
    found = [
        (str(path.relative_to(TESTS)), node.name, wrong)
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and (wrong := fault(node.name))
    ]
    assert found == []


@pytest.mark.parametrize(
    "name",
    [
        "test_a_dead_redis_counts_as_a_miss",
        "test_dead_redis_counts_as_a_miss",
        "test_what_redis_lost_counts_as_miss",
        "test_b7_who_waits_is_answered",
        "test_without_redis_limit_is_per_pod",
        "test_" + "x" * MAX_CHARACTERS,
    ],
)
def test_name_without_subject_is_refused(name):
    assert fault(name)


@pytest.mark.parametrize("name", ["test_dead_redis_counts_as_miss", "test_b7_no_key_is_shown"])
def test_name_with_subject_is_taken(name):
    assert fault(name) is None
