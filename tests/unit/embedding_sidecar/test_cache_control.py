"""A request's directives for the cache, in HTTP's words and in LiteLLM's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar.openai_format import cache_control
from embedding_sidecar.openai_format.cache_control import CacheControl

SECONDS = st.none() | st.integers(0, cache_control.MAX_SECONDS)
CONTROLS = st.builds(
    CacheControl,
    no_cache=st.booleans(),
    no_store=st.booleans(),
    max_age_seconds=SECONDS,
    ttl_seconds=SECONDS,
)


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        ("", CacheControl()),
        ("no-cache", CacheControl(no_cache=True)),
        ("No-Store", CacheControl(no_store=True)),
        ("max-age=60", CacheControl(max_age_seconds=60)),
        (
            "no-cache,no-store ,\tmax-age=0060",
            CacheControl(no_cache=True, no_store=True, max_age_seconds=60),
        ),
        ('max-age="60"', CacheControl(max_age_seconds=60)),
        # RFC 9111, section 1.2.2: too large a number is a very large one.
        ("max-age=99999999999999999999", CacheControl(max_age_seconds=2**31)),
        (f"max-age={'9' * 9999}", CacheControl(max_age_seconds=2**31)),
        # Section 4.2.1: what is no number is stale at once; of two, the shorter.
        ("max-age", CacheControl(max_age_seconds=0)),
        ("max-age=", CacheControl(max_age_seconds=0)),
        ("max-age=-1", CacheControl(max_age_seconds=0)),
        ("max-age=1.5", CacheControl(max_age_seconds=0)),
        ("max-age=soon", CacheControl(max_age_seconds=0)),
        ('max-age="6', CacheControl(max_age_seconds=0)),
        ("max-age=\u0661", CacheControl(max_age_seconds=0)),
        ("max-age=9, max-age=5", CacheControl(max_age_seconds=5)),
        # Section 5.2.3: others are ignored, and what they quote is theirs.
        ("max-stale, min-fresh=3, only-if-cached, s-maxage=1, x", CacheControl()),
        ('x="no-cache, max-age=1", no-store', CacheControl(no_store=True)),
        ('x="a\\", no-cache"', CacheControl()),
        ("x-no-cache, no-cache-x, xmax-age=1", CacheControl()),
    ],
)
def test_header_is_read_as_cache_control(header, meant):
    assert cache_control.from_header(header) == meant


@given(st.text(max_size=60) | st.text(alphabet='mx-age=0123",\\ noch', max_size=60))
def test_any_header_is_read(header):
    cache_control.from_header(header)


@given(CONTROLS)
def test_body_is_read_in_litellms_words(control):
    written = {
        "no-cache": control.no_cache,
        "no-store": control.no_store,
        "s-maxage": control.max_age_seconds,
        "ttl": control.ttl_seconds,
    }
    assert cache_control.from_body(written) == control


@given(CONTROLS, CONTROLS)
def test_two_wishes_are_both_kept(one, other):
    both = one.and_also(other)
    assert both == other.and_also(one)
    assert both == both.and_also(one)
    assert both.no_cache == (one.no_cache or other.no_cache)
    assert both.no_store == (one.no_store or other.no_store)
    for name in ("max_age_seconds", "ttl_seconds"):
        bounds = {getattr(one, name), getattr(other, name)} - {None}
        assert getattr(both, name) == min(bounds, default=None)
    assert one.and_also(cache_control.DEFAULT) == one
