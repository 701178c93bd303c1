"""An edit of an expression alone counts once Prometheus lists another than before."""

from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.monitoring.forms import Forms
from embedding_operator.monitoring.rules import Group, Loaded

NAME = "shop.embedding-search"


def judged(forms, wanted, listed, **more):
    group = Group(name=NAME, uid=None, label_names=frozenset(), fingerprint="f", expressions=wanted)
    loaded = Loaded(is_current=True, queries=listed, **more)
    return forms.judged({NAME: loaded}, {NAME: group})[NAME].is_current


def test_form_listed_first_is_taken_as_wanted():
    assert judged(Forms(), "a > 1", "a > 1 formatted")


def test_edit_is_not_loaded_while_form_before_is_listed():
    forms = Forms()
    assert judged(forms, "a > 1", "A>1")
    assert not judged(forms, "a > 2", "A>1")
    assert judged(forms, "a > 2", "A>2")
    assert not judged(forms, "a > 1", "A>2")


def test_edit_that_is_taken_back_is_loaded():
    forms = Forms()
    assert judged(forms, "a > 1", "A>1")
    assert not judged(forms, "a > 2", "A>1")
    assert judged(forms, "a > 1", "A>1")


def test_prometheus_that_formats_otherwise_after_upgrade_is_believed():
    forms = Forms()
    assert judged(forms, "a > 1", "A>1")
    assert judged(forms, "a > 1", "A > 1")
    assert not judged(forms, "a > 2", "A > 1")


def test_edit_that_prometheus_formats_alike_becomes_loaded():
    """As one of blanks alone; nothing of ours is rendered so."""
    forms = Forms()
    assert judged(forms, "a > 1", "A>1")
    assert not judged(forms, "a  >  1", "A>1")
    assert judged(forms, "a > 1", "A>1")


def test_group_that_went_is_forgotten():
    forms = Forms()
    assert judged(forms, "a", "A")
    assert forms.judged({}, {}) == {}
    assert judged(forms, "b", "A")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_wanted_form_is_current_once_listed_after_any_edits(edits):
    forms = Forms()
    for wanted in edits:
        assert judged(forms, f"expr {wanted}", f"listed {wanted}")
