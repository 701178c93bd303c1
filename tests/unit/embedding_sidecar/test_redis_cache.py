"""What a Redis URL may say, without a Redis."""

import asyncio

import pytest

from embedding_sidecar import errors, redis_cache

NOBODY = "127.0.0.1:1"


def generations(url):
    """What the first command over a client of this URL comes to."""

    async def ask():
        store = redis_cache.RedisCache(redis_cache.connect(url), scope="shop/policy/main")
        try:
            return await store.generations()
        finally:
            await store.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "url",
    [
        "http://redis",
        f"redis://:secretpw@{NOBODY}?socket_timeout=soon",
        f"redis://:secretpw@{NOBODY}?ssl_cert_reqs=none",
        f"redis://:secretpw@{NOBODY}?database=1",
        f"rediss://:secretpw@{NOBODY}?ssl_cert_reqs=perhaps",
    ],
)
def test_a_url_no_connection_can_be_made_of_is_refused_at_once(url):
    with pytest.raises(ValueError, match=r"\w") as refused:
        redis_cache.connect(url)
    assert "secretpw" not in str(refused.value)


def test_no_url_makes_text_of_the_bytes_of_a_vector_or_lengthens_a_wait():
    told = redis_cache.connect(
        f"redis://{NOBODY}?decode_responses=True&socket_timeout=600&max_connections=1&retry=9"
    ).connection_pool.connection_kwargs
    usual = redis_cache.connect(f"redis://{NOBODY}").connection_pool.connection_kwargs
    assert told["decode_responses"] is False
    assert told["socket_timeout"] == usual["socket_timeout"]
    assert type(told["retry"]) is type(usual["retry"])


@pytest.mark.parametrize(
    "url",
    [
        f"redis://{NOBODY}/0?health_check_interval=30&client_name=shop",
        f"rediss://{NOBODY}/0?ssl_cert_reqs=required",
        "unix:///nowhere/redis.sock",
        "redis://a..b",
    ],
)
def test_a_url_that_nobody_answers_at_is_a_store_that_is_away(url):
    with pytest.raises(errors.StoreAway):
        generations(url)
