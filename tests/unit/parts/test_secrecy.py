"""A search for secrets that finds nothing is of value only if it would find one that is there."""

import base64
import json
import urllib.parse

import pytest

from tests.parts import secrecy

VALUE = 'a value of "two"\nlines & more'
SECRETS = secrecy.Secrets([VALUE])


@pytest.mark.parametrize(
    "written",
    [
        VALUE,
        json.dumps({"key": VALUE}),
        repr({"key": VALUE}),
        base64.b64encode(VALUE.encode()).decode(),
        f"https://host/?key={urllib.parse.quote(VALUE, safe='')}",
    ],
)
def test_value_is_found_however_it_is_written(written):
    assert SECRETS.find([("here", f"before {written} after"), ("there", "nothing")]) == ["here"]


def test_search_itself_shows_none():
    assert VALUE not in repr(SECRETS)


def test_search_for_nothing_and_search_nowhere_are_defects():
    with pytest.raises(AssertionError, match="nothing to look for"):
        secrecy.Secrets(["short"]).find([("here", "short")])
    with pytest.raises(AssertionError, match="no place"):
        SECRETS.find([])


def test_logs_are_searched_but_those_of_vault(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "operator.log").write_text(VALUE, encoding="utf-8")
    (tmp_path / "vault.log").write_text(VALUE, encoding="utf-8")
    assert SECRETS.find(secrecy.in_files(tmp_path)) == [str(tmp_path / "deep" / "operator.log")]
