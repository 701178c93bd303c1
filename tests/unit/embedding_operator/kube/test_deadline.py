"""The time left of a deadline, for each call that shares it."""

import threading

import pytest

from embedding_operator import errors
from embedding_operator.kube import deadline


def test_call_without_deadline_has_its_own_time():
    assert deadline.bounded(10) == 10


def test_call_within_deadline_has_what_is_left():
    with deadline.within(1000):
        assert deadline.bounded(10) == 10
        assert 999 < deadline.bounded(2000) <= 1000
    assert deadline.bounded(2000) == 2000


def test_call_after_deadline_is_refused():
    with deadline.within(0), pytest.raises(errors.Unavailable) as refused:
        deadline.bounded(10)
    assert refused.value.reason == "DeadlineExceeded"


def test_deadline_is_of_one_thread():
    found = []
    with deadline.within(0):
        other = threading.Thread(target=lambda: found.append(deadline.bounded(10)))
        other.start()
        other.join()
    assert found == [10]
