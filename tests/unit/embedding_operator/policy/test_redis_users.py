"""The user of a policy in the Redis of a class: name, rights and URL."""

import string
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import class_keys
from embedding_operator import errors
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.policy import redis_users
from embedding_sidecar.quota import quota_store

NAMES = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=12)
KEYS = st.builds(ObjectKey, NAMES, NAMES)
NEW = "n" * 43
SEARCH = ObjectKey("shop", "search")


def user(policy=SEARCH, *, before="", new=NEW):
    return redis_users.user_of("openai", policy, before=before, new_password=new)


def test_keys_are_those_of_sidecars():
    assert class_keys.QUOTA_PREFIX == quota_store.PREFIX


def test_rules_take_everything_away_first_and_hold_no_password():
    rules = user().rules()
    assert rules[:2] == ["reset", "on"]
    assert not any(NEW in it for it in rules)
    assert not any(it.startswith("+@") or it in {"+config", "allkeys", "nopass"} for it in rules)


@given(KEYS, KEYS)
def test_keys_of_two_policies_never_begin_alike(one, other):
    """A pattern of Redis ends in `*`, or is the key itself."""
    if one == other:
        return
    theirs = f"{class_keys.QUOTA_PREFIX}{{{class_keys.scope('openai', *other)}}}"
    own, more, _ = class_keys.patterns("openai", *one)
    for key in (theirs, f"{theirs}:20000", f"{theirs}:month:1"):
        assert key != own
        assert not key.startswith(more.removesuffix("*"))


@given(KEYS, st.text(min_size=1, max_size=20))
def test_url_keeps_address_and_has_nothing_of_users_of_class(policy, secret):
    made = user(policy)
    url = redis_users.url_of("rediss://admin:s%40cr%2Ft@redis.platform:6380/3?a=b", made)
    parts = urlsplit(url)
    assert (parts.scheme, parts.hostname, parts.port) == ("rediss", "redis.platform", 6380)
    assert (parts.path, parts.query) == ("/3", "a=b")
    assert unquote(parts.username or "") == made.name
    assert parts.password == NEW
    assert "cr%2Ft" not in url


@given(KEYS)
def test_password_is_taken_from_own_url_only(policy):
    first = user(policy)
    url = redis_users.url_of("redis://:p@r:1/0", first)
    assert user(policy, before=url, new="m" * 43).password == NEW
    other = ObjectKey(policy.namespace, f"{policy.name}x")
    assert user(other, before=url, new="m" * 43).password == "m" * 43


@pytest.mark.parametrize("before", ["", "redis://", "x", "redis://embedding%2Fopenai:short@r"])
def test_url_that_is_none_gives_new_password(before):
    assert user(before=before).password == NEW


def test_repr_has_no_password():
    assert NEW not in repr(user())


@pytest.mark.parametrize("url", ["redis://r:1/0", "redis://user@r:1/0", "unix:///tmp/r"])
def test_class_without_password_has_no_users_of_its_own(url):
    assert not redis_users.is_made(url)


@pytest.mark.parametrize(
    "url", ["redis+cluster://:p@a,b", "redis+sentinel://:p@a/s", "unix://:p@r"]
)
def test_other_forms_of_redis_are_refused(url):
    with pytest.raises(errors.InvalidPolicy, match="single Redis"):
        redis_users.check(url)
