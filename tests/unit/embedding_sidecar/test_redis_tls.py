"""Connections to a Redis by TLS share a context, which is made anew once a minute."""

from embedding_sidecar.redis_client import redis_url


def contexts(client, count=2):
    return [client.connection_pool.make_connection().ssl_context.get() for _ in range(count)]


def test_connections_share_context():
    first, second = contexts(redis_url.connect("rediss://127.0.0.1/"))
    assert first is second


def test_clients_share_no_context():
    (one,), (other,) = (contexts(redis_url.connect("rediss://127.0.0.1/"), 1) for _ in range(2))
    assert one is not other


def test_context_is_replaced_in_time(monkeypatch):
    client = redis_url.connect("rediss://127.0.0.1/")
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    (first,) = contexts(client, 1)
    now += redis_url._CONTEXT_SECONDS + 1
    (second,) = contexts(client, 1)
    assert first is not second


def test_context_checks_as_url_says():
    (checked,) = contexts(redis_url.connect("rediss://127.0.0.1/"), 1)
    (unchecked,) = contexts(redis_url.connect("rediss://127.0.0.1/?ssl_cert_reqs=none"), 1)
    assert checked.check_hostname
    assert not unchecked.check_hostname
