"""Users of policies in the real Redis of a class: what they can, and what they cannot."""

import asyncio
from urllib.parse import unquote, urlsplit

import pytest
import redis

from embedding_contract import class_keys
from embedding_operator import errors
from embedding_operator.controller import redis_users
from embedding_operator.kube.kinds import ObjectKey
from embedding_sidecar.quota import claims, quota_store
from embedding_sidecar.redis_client import redis_url
from tests.parts import redis_forms

pytestmark = pytest.mark.integration

SEARCH, OTHER = ObjectKey("shop", "search"), ObjectKey("shop", "search-2")
MINE = f"{class_keys.QUOTA_PREFIX}{{{class_keys.scope('openai', 'shop', 'search')}}}:20000"
THEIRS = f"{class_keys.QUOTA_PREFIX}{{{class_keys.scope('openai', 'shop', 'search-2')}}}:20000"
OF_A_POLICY = f"{class_keys.QUOTA_PREFIX}{{shop/search}}:20000"
WINDOW = class_keys.window("openai")
PASSWORD = redis_forms.PASSWORD


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = redis_forms.Server(tmp_path_factory.mktemp("redis"), "--requirepass", PASSWORD)
    yield made.wait(password=PASSWORD)
    made.kill()


@pytest.fixture
def url(server):
    with server.client(password=PASSWORD) as asked:
        asked.flushall()
        asked.hset(THEIRS, "calls", 5)
        asked.hset(OF_A_POLICY, "calls", 5)
    return f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0"


@pytest.fixture
def mine(url):
    return redis_users.RedisUsers().grant(url, "openai", SEARCH, before="")


@pytest.fixture
def asked(mine):
    with redis.Redis.from_url(mine) as made:
        yield made


def test_url_has_user_of_policy_and_no_password_of_class(mine, url):
    parts = urlsplit(mine)
    assert unquote(parts.username) == "embedding/openai/shop/search"
    assert (parts.hostname, parts.port, parts.path) == ("127.0.0.1", urlsplit(url).port, "/0")
    assert PASSWORD not in mine


def test_ceilings_are_counted_by_user_of_policy(mine):
    claim = claims_of(class_keys.scope("openai", "shop", "search"))

    async def run():
        store = quota_store.RedisStore(redis_url.connect(mine))
        try:
            return await store.claim(claim)
        finally:
            await store.close()

    assert asyncio.run(run()).held.calls == 1


def claims_of(scope):
    return claims.LeaseClaim(
        scope=scope,
        lease="a",
        sequence=1,
        number=0,
        limits=claims.Limits(10, None, None),
        need=claims.Amounts(1, 0, 0),
        want=claims.Amounts(1, 0, 0),
    )


def test_key_of_another_policy_is_refused_to_sidecar(mine):
    claim = claims_of(class_keys.scope("openai", "shop", "search-2"))

    async def run():
        store = quota_store.RedisStore(redis_url.connect(mine))
        try:
            return await store.claim(claim)
        finally:
            await store.close()

    with pytest.raises(Exception, match=r"NOPERM"):
        asyncio.run(run())


def script(text):
    return ("EVAL", text, "1", MINE)


CANNOT = [
    ("GET", THEIRS),
    ("HGETALL", THEIRS),
    ("HSET", THEIRS, "calls", "0"),
    ("EXPIRE", THEIRS, "0"),
    ("HGETALL", OF_A_POLICY),
    ("HGETALL", class_keys.window("other")),
    ("EVAL", "return redis.call('HGETALL', KEYS[1])", "1", THEIRS),
    script(f"return redis.call('HGETALL', '{THEIRS}')"),
    script("return redis.call('FLUSHALL')"),
    script("return redis.call('KEYS', '*')"),
    script("return redis.call('CONFIG', 'GET', 'requirepass')"),
    ("DEL", MINE),
    ("GET", MINE),
    ("COPY", THEIRS, MINE),
    ("RENAME", THEIRS, MINE),
    ("DUMP", MINE),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("FLUSHDB",),
    ("FLUSHALL",),
    ("SWAPDB", "0", "1"),
    ("CONFIG", "GET", "requirepass"),
    ("CONFIG", "SET", "requirepass", ""),
    ("ACL", "LIST"),
    ("ACL", "WHOAMI"),
    ("ACL", "SETUSER", "default", "nopass"),
    ("ACL", "LOG"),
    ("INFO",),
    ("MONITOR",),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SLOWLOG", "GET"),
    ("DEBUG", "SLEEP", "1"),
    ("SHUTDOWN",),
    ("SAVE",),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() end)"),
    ("FCALL", "f", "0"),
    ("MODULE", "LIST"),
    ("PUBLISH", "c", "m"),
    ("SUBSCRIBE", "c"),
    ("MULTI",),
]


@pytest.mark.parametrize("command", CANNOT, ids=lambda it: " ".join(it)[:60])
def test_user_of_policy_may_not(asked, server, command):
    with pytest.raises(
        redis.exceptions.ResponseError,
        match=r"permission|ACL failure|can't (run|access)|not allowed",
    ):
        asked.execute_command(*command)
    with server.client(password=PASSWORD) as admin:
        assert admin.hget(THEIRS, "calls") == b"5"


def test_other_databases_hold_nothing_more_for_it(mine, server):
    with server.client(password=PASSWORD, db=1) as admin:
        admin.hset(THEIRS, "calls", 5)
    there = redis.Redis.from_url(mine.replace("/0", "/1"))
    with there, pytest.raises(redis.exceptions.NoPermissionError):
        there.hgetall(THEIRS)


def test_user_of_policy_can_change_its_own_ceilings_and_shared_window(asked):
    """As docs/providers-cluster.md says of whoever reads its URL in the owned Secret."""
    asked.hset(MINE, "calls", 1)
    assert asked.expire(MINE, 0)  # deletes it
    assert asked.hgetall(MINE) == {}
    asked.hset(WINDOW, "made up", 1)
    assert asked.hgetall(WINDOW) == {b"made up": b"1"}
    assert asked.expire(WINDOW, 0)


def test_password_is_kept_and_another_is_made_where_it_is_unknown(mine, url):
    users = redis_users.RedisUsers()
    assert users.grant(url, "openai", SEARCH, before=mine) == mine
    other = users.grant(url, "openai", SEARCH, before="")
    assert other != mine
    late = redis.Redis.from_url(mine)
    with late, pytest.raises(redis.exceptions.AuthenticationError):
        late.hgetall(MINE)
    moved = url.replace("127.0.0.1", "localhost")
    assert users.grant(moved, "openai", SEARCH, before=other) == other.replace(
        "127.0.0.1", "localhost"
    )


def test_password_of_another_user_is_not_taken_over(mine, url):
    theirs = redis_users.RedisUsers().grant(url, "openai", OTHER, before=mine)
    assert urlsplit(theirs).password != urlsplit(mine).password


def test_redis_that_forgot_gets_its_users_back(mine, url, server):
    with server.client(password=PASSWORD) as admin:
        admin.acl_deluser("embedding/openai/shop/search")
    redis_users.RedisUsers().grant(url, "openai", SEARCH, before=mine)
    with redis.Redis.from_url(mine) as asked:
        assert asked.hgetall(MINE) == {}


def test_user_without_right_is_removed_and_its_connections_end(mine, url, server):
    users = redis_users.RedisUsers()
    users.grant(url, "openai", OTHER, before="")
    users.grant(url, "azure", SEARCH, before="")
    with server.client(password=PASSWORD) as admin:
        admin.acl_setuser("somebody", enabled=True)
        with redis.Redis.from_url(mine) as lost:
            lost.hgetall(MINE)
            users.keep_only(url, "openai", lambda: [OTHER])
            with pytest.raises(redis.exceptions.RedisError):
                lost.hgetall(MINE)
        left = set(admin.acl_users())
    assert {it for it in left if "/" in it} == {
        "embedding/openai/shop/search-2",
        "embedding/azure/shop/search",
    }
    assert {"default", "somebody"} <= left


def test_user_that_came_while_users_were_removed_stays(url, server):
    users, late = redis_users.RedisUsers(), redis_users.RedisUsers()
    made = []

    def policies():
        made.append(late.grant(url, "openai", SEARCH, before=""))
        return []

    with server.client(password=PASSWORD) as admin:
        admin.acl_deluser("embedding/openai/shop/search")
    users.keep_only(url, "openai", policies)
    with redis.Redis.from_url(made[0]) as asked:
        assert asked.hgetall(MINE) == {}


def refusal(url, users=None):
    with pytest.raises(errors.InvalidPolicy) as caught:
        (users or redis_users.RedisUsers()).grant(url, "openai", SEARCH, before="")
    assert caught.value.reason == "RedisUserNotMade"
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


def test_wrong_password_of_class_is_told_without_it(url):
    assert "password is wrong" in refusal(url.replace(PASSWORD, f"{PASSWORD}x"))


def test_class_s_user_without_rights_is_told(url, server):
    with server.client(password=PASSWORD) as admin:
        admin.acl_setuser("weak", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+ping"])
    assert "lacks a right" in refusal(url.replace(f":{PASSWORD}", f"weak:{PASSWORD}"))


def test_redis_that_is_away_is_not_asked_again_at_once():
    now = [0.0]
    users = redis_users.RedisUsers(clock=lambda: now[0])
    away = f"redis://:{PASSWORD}@127.0.0.1:1/0"
    assert "ConnectionError" in refusal(away, users)
    first = users._failed[away]
    now[0] = redis_users.AGAIN_SECONDS - 1
    refusal(away, users)
    assert users._failed[away] == first
    now[0] = redis_users.AGAIN_SECONDS
    refusal(away, users)
    assert users._failed[away] != first


@pytest.mark.parametrize("form", ["redis+cluster", "rediss+cluster", "redis+sentinel"])
def test_several_nodes_are_refused_as_each_has_users_of_its_own(form):
    assert "single Redis" in refusal(f"{form}://:{PASSWORD}@a:1,b:2/s")


def test_url_without_password_is_given_as_it_is():
    url = "redis://limits.platform.svc:6379/0"
    assert redis_users.RedisUsers().grant(url, "openai", SEARCH, before="") == url
