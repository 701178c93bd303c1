"""The time for which a provider asks to be left alone."""

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar.translation import retry_after

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": DATE}, 30.0),
        ({"retry-after": DATE, "date": "Wed, 21 Oct 2026 07:28:30 GMT"}, 0.0),
        ({"retry-after": "Wed, 99 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-1"}, None),
    ],
)
def test_seconds_milliseconds_and_dates(headers, seconds):
    assert retry_after.retry_after(headers) == seconds


def test_date_is_read_by_clock_of_writer_else_ours():
    there = {"retry-after": formatdate(1000, usegmt=True), "date": formatdate(910, usegmt=True)}
    assert retry_after.retry_after(there) == 90
    here = retry_after.retry_after({"retry-after": formatdate(time.time() + 3600, usegmt=True)})
    assert here is not None
    assert 3000 < here <= 3600


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("12ms", 0.012),
        ("1h2m3.5s", 3723.5),
        ("9µs", 9e-6),
        ("7", 7.0),
        ("", None),
        ("m", None),
        ("6m0", None),
        ("-1", None),
        ("1d", None),
    ],
)
def test_durations_as_go_writes_them(text, seconds):
    assert retry_after.duration(text) == seconds


def limit(**said):
    return {f"x-ratelimit-{name.replace('_', '-')}": value for name, value in said.items()}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (limit(reset_requests="1s", reset_tokens="6m0s", remaining_requests="0"), 1.0),
        (limit(reset_requests="1s", reset_tokens="2s", remaining_tokens="0"), 2.0),
        (
            limit(
                reset_requests="1s",
                reset_tokens="2s",
                remaining_tokens="0",
                remaining_requests="0",
            ),
            2.0,
        ),
        (limit(reset_requests="8h0m0s", reset_tokens="2s", remaining_requests="9"), 2.0),
        (limit(reset_requests="5"), 5.0),
        (limit(reset_requests="0", reset_tokens="-1"), None),
        ({}, None),
    ],
)
def test_limit_that_is_used_up_is_waited_for_and_no_other(headers, seconds):
    assert retry_after.reset(headers) == seconds


@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "date", "x-ratelimit-reset-tokens"]),
        st.text(st.characters(codec="ascii")) | st.just(DATE) | st.floats().map(str),
    )
)
def test_every_provider_header_is_wait_or_none(headers):
    for seconds in (retry_after.retry_after(headers), retry_after.reset(headers)):
        assert seconds is None or 0 <= seconds < float("inf")
