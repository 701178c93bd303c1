"""SECURITY.md tells each right that the chart gives, and what follows from it."""

from tests.parts import rights


def test_page_tells_rights_of_chart_and_no_other():
    """`python -m tests.parts.roles` writes them; the last column is yours to write."""
    assert list(rights.told()) == rights.rendered()


def test_each_right_has_reason():
    assert [right for right, reason in rights.told().items() if not reason] == []


def test_rights_are_granted_by_no_wildcard():
    for right in rights.rendered():
        assert "*" not in right.verbs
        assert "*" not in right.what
