"""Without rules nothing is allowed, and no path is ambiguous."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.vault import access_rules

RULES = access_rules.parse(
    [
        {"namespace": "*", "mount": "secret", "path": "{{namespace}}/*"},
        {"namespace": "shop", "mount": "shared", "path": "embeddings/openai"},
    ]
)

TRICKS = [
    "shop/../bank/keys",
    "shop/./keys",
    "shop//keys",
    "/shop/keys",
    "shop/keys/",
    "shop/%2e%2e/bank",
    "shop/%2E%2E/bank",
    "shop\\..\\bank",
    "shop/keys\n",
    "shop/keys\x00",
    "shop/k eys",
    "shop/kеys",  # noqa: RUF001 - a Cyrillic letter is the trick
    "shop/keys?version=1",
    "shop/keys#x",
    "shop/..;/bank",
    "shop/.hidden",
    "..",
    ".",
    "",
    "shop/",
    "*",
    "shop/*",
    "{{namespace}}/keys",
]


def allowed(namespace: str, mount: str, path: str, rules: access_rules.AccessRules = RULES) -> bool:
    return rules.refusal(namespace=namespace, mount=mount, path=path) is None


def test_namespace_reads_its_own_paths_and_those_named_for_it():
    assert allowed("shop", "secret", "shop/keys")
    assert allowed("shop", "secret", "shop/a/b.c/d-e_f")
    assert allowed("shop", "shared", "embeddings/openai")


def test_namespace_reads_nothing_else():
    for path in ("bank/keys", "shop", "shopping/keys", "Shop/keys", "sho/p"):
        assert not allowed("shop", "secret", path), path
    assert not allowed("bank", "shared", "embeddings/openai")
    assert not allowed("shop", "shared", "embeddings/openai/more")
    assert not allowed("shop", "Secret", "shop/keys")
    assert not allowed("shop", "secret/shop", "keys")


def test_no_rules_allow_nothing():
    assert not allowed("shop", "secret", "shop/keys", access_rules.AccessRules())


@pytest.mark.parametrize("path", TRICKS)
def test_path_that_could_be_read_in_two_ways_is_refused(path):
    everything = access_rules.parse([{"namespace": "*", "mount": "secret", "path": "*"}])
    assert not allowed("shop", "secret", path)
    assert not allowed("shop", "secret", path, everything)


@pytest.mark.parametrize(
    "mount", ["secret/", "/secret", "secret/../other", "sec%72et", "secret//x"]
)
def test_mount_that_could_be_read_in_two_ways_is_refused(mount):
    assert not allowed("shop", mount, "shop/keys")


@given(st.text(max_size=40))
def test_allowed_path_lies_below_namespace(path):
    if allowed("shop", "secret", path):
        assert path.startswith("shop/")
        assert ".." not in path.split("/")


def test_refusal_names_rules_there_are():
    refusal = RULES.refusal(namespace="shop", mount="secret", path="bank/keys")
    assert refusal is not None
    assert "shop may not read secret/bank/keys" in refusal.message
    assert "{{namespace}}/*" in refusal.message


@pytest.mark.parametrize(
    "entry",
    [
        "secret",
        {"namespace": "shop", "mount": "secret"},
        {"namespace": "shop", "mount": "secret", "path": ""},
        {"namespace": "shop", "mount": "secret", "path": "a/../b"},
        {"namespace": "shop", "mount": "secret", "path": "a*"},
        {"namespace": "shop", "mount": "*", "path": "a"},
        {"namespace": "shop", "mount": "secret", "path": "a", "more": 1},
        {"namespace": 1, "mount": "secret", "path": "a"},
    ],
)
def test_rule_that_could_be_read_in_two_ways_stops_start(entry):
    with pytest.raises(access_rules.InvalidRules, match=r"vault\.allowed\[0\]"):
        access_rules.parse([entry])


def test_empty_file_is_no_rules(tmp_path: Path):
    file = tmp_path / "guard.yaml"
    file.write_text("")
    assert access_rules.load(file) == access_rules.AccessRules()
