"""The part of its limits that a policy reserves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import reserve

LIMIT = st.none() | st.integers(0, 10**12)


@given(percent=st.integers(0, 100), requests=LIMIT, tokens=LIMIT)
def test_share_is_no_less_than_it_says_and_less_than_one_more(percent, requests, tokens):
    made = reserve.of(f"{percent}%", daily_requests=requests, daily_tokens=tokens)
    assert made.percent == percent
    for limit, kept in ((requests, made.requests), (tokens, made.tokens)):
        if limit is None:
            assert kept == 0
        else:
            assert 0 <= 100 * kept - percent * limit < 100
            assert kept <= limit


@given(number=st.integers(0, 10**12), requests=LIMIT, tokens=LIMIT)
def test_number_is_calls_and_no_more_than_there_are(number, requests, tokens):
    made = reserve.of(number, daily_requests=requests, daily_tokens=tokens)
    assert made == reserve.Reserve(requests=min(number, requests or 0), tokens=0, percent=20)


@pytest.mark.parametrize("written", ["", "%", "20", "101%", "-1%", "020%", " 20%", "20 %", -1])
def test_anything_else_is_no_reserve(written):
    with pytest.raises(ValueError, match="reserve"):
        reserve.of(written, daily_requests=1, daily_tokens=1)
