"""A sidecar's trust: a Redis with other writers, callers of its pages, a page in a browser.

Cases D5, D9 and D11 of the field, each against real sidecars and a real Redis.
"""

import functools
import json
import random
import secrets
import signal
import socket
import struct
import threading
import time
import zlib

import pytest
import redis as client_of_redis

from embedding_contract import document, names, proof
from embedding_sidecar.quota import quota_store
from tests.fakes import provider
from tests.integration.test_sidecar_document import KEY_FILE, Files
from tests.parts import sidecar

pytestmark = pytest.mark.integration

CACHE_KEY = "0123456789abcdef" * 4
OTHER_KEY = "fedcba9876543210" * 4
MODEL = "text-embedding-3-small"
EVIL = struct.pack(f"<{provider.DIMENSIONS}f", *[0.25] * provider.DIMENSIONS)
POD = "0b5c1c6e-57a1-4b8e-9d0b-7a0f6a2c2f11"


# --- D5: entries in Redis


@pytest.fixture
def asked(redis):
    with client_of_redis.Redis.from_url(redis.url) as client:
        yield client


def entry_keys(asked) -> list[bytes]:
    return list(asked.scan_iter("aos:embedding:cache:*"))


def bought(running, asked, *texts):
    """The keys of these texts in Redis, once it has them."""
    return {text: new_key(asked, functools.partial(running.embed, text)) for text in texts}


def new_key(asked, buy):
    """The key of the text that this buys, once Redis has it."""
    before = set(entry_keys(asked))
    buy().raise_for_status()
    sidecar.wait_until(lambda: set(entry_keys(asked)) - before)
    (key,) = set(entry_keys(asked)) - before
    return key


def body_of(raw: bytes, *, vector=None, made_at=None, ttl=None, tokens=None) -> bytes:
    """What an entry says, with something else instead; of format 2 or 3."""
    begin = 5 if raw[0] == 2 else 17
    its_time, its_ttl, its_tokens, model, space = struct.unpack_from("<dIIHH", raw, begin)
    names_at = begin + 20
    packed = struct.pack(
        "<dIIHH",
        its_time if made_at is None else made_at,
        its_ttl if ttl is None else ttl,
        its_tokens if tokens is None else tokens,
        model,
        space,
    )
    vector_at = names_at + model + space
    return packed + raw[names_at:vector_at] + (raw[vector_at:] if vector is None else vector)


def of_format_2(key: bytes, body: bytes) -> bytes:
    """As sidecars wrote before: anybody can."""
    del key
    return struct.pack("<BI", 2, zlib.crc32(body)) + body


def with_checksum(key: bytes, body: bytes) -> bytes:
    """As a sidecar without a key writes: anybody can."""
    framed = len(key).to_bytes(4, "big") + key
    return b"\x03" + zlib.crc32(body, zlib.crc32(framed)).to_bytes(16, "big") + body


FORMS = pytest.mark.parametrize("form", [of_format_2, with_checksum])


@FORMS
def test_entry_that_somebody_else_wrote_is_miss(from_environment, redis, asked, stand_in, form):
    """D5: forged entries were served as hits."""
    one, other = (
        from_environment(REDIS_URL=redis.url, EMBEDDING_CACHE_KEY=CACHE_KEY) for _ in range(2)
    )
    (key,) = bought(one, asked, "x").values()
    asked.set(key, form(key, body_of(asked.get(key), vector=EVIL)))
    answer = other.embed("x")
    assert answer.headers["x-embedding-cache"] == "miss"
    assert answer.json()["data"] == one.embed("x").json()["data"]
    assert len(stand_in.calls) == 2
    assert 'aos_embedding_errors_total{provider="",type="cache_entry"} 1.0' in (
        other.admin.get(names.PATH_METRICS).text
    )


def test_entry_that_was_moved_to_another_text_is_miss(from_environment, redis, asked):
    """D5, sibling: bytes that a sidecar has signed, under another key."""
    one, other = (
        from_environment(REDIS_URL=redis.url, EMBEDDING_CACHE_KEY=CACHE_KEY) for _ in range(2)
    )
    keys = bought(one, asked, "x", "y")
    asked.set(keys["x"], asked.get(keys["y"]))
    assert other.embed("x").headers["x-embedding-cache"] == "miss"
    assert other.embed("y").headers["x-embedding-cache"] == "hit"


@pytest.mark.parametrize(
    "said",
    [
        {"vector": struct.pack("<8f", *[0.5] * 7, float("nan"))},
        {"vector": struct.pack("<8f", *[0.5] * 7, float("-inf"))},
        {"vector": struct.pack("<f", 0.5)},
        {"made_at": 1e300},
        {"made_at": float("nan")},
        {"made_at": -1.0},
        {"ttl": 2**32 - 1},
        {"tokens": 2**32 - 1},
    ],
    ids=str,
)
@FORMS
def test_impossible_entry_is_miss_without_key_too(from_environment, redis, asked, said, form):
    """D5: NaN, one number where many belong, `made_at` 1e300; and siblings."""
    one, other = (from_environment(REDIS_URL=redis.url) for _ in range(2))
    key = new_key(asked, lambda: one.embed("x", dimensions=8))
    asked.set(key, form(key, body_of(asked.get(key), **said)))
    assert other.embed("x", dimensions=8).headers["x-embedding-cache"] == "miss"


def test_size_that_was_bought_before_is_size_of_all(from_environment, redis, asked):
    """D5: one number where as many belong as the model has made before."""
    one, other = (from_environment(REDIS_URL=redis.url) for _ in range(2))
    (key,) = bought(one, asked, "x").values()
    other.embed("something else").raise_for_status()
    raw = asked.get(key)
    asked.set(key, with_checksum(key, body_of(raw, vector=struct.pack("<f", 0.5))))
    assert other.embed("x").headers["x-embedding-cache"] == "miss"


def test_rotated_or_absent_key_is_miss_and_never_error(from_environment, redis, asked):
    one = from_environment(REDIS_URL=redis.url, EMBEDDING_CACHE_KEY=CACHE_KEY)
    bought(one, asked, "x")
    for more in ({"EMBEDDING_CACHE_KEY": OTHER_KEY}, {}):
        other = from_environment(REDIS_URL=redis.url, **more)
        assert [other.embed("x").headers["x-embedding-cache"] for _ in range(2)] == ["miss", "hit"]
        assert "Traceback" not in other.said()
    assert one.page(names.PATH_HEALTH)["redis_entries"] == "authenticated"
    assert other.page(names.PATH_HEALTH)["redis_entries"] == "checksum"
    assert "not authenticated (cache-key is not set)" in other.said()
    assert "authenticated" not in one.said()
    assert CACHE_KEY not in one.said()


@pytest.fixture
def policy_of(tmp_path, provider_url, redis, start):
    """Starts a sidecar of a policy of its own, with its own Secret."""

    def start_one(name, *, shared=None, **secrets_of):
        folder = tmp_path / f"{name}-{secrets.token_hex(4)}"
        folder.mkdir()
        files = Files(folder, provider_url)
        cache = document.Cache(redis_url_file=names.SECRET_CACHE_REDIS_URL, shared=shared)
        files.write(name=name, cache=cache)
        usual = {"api_token": sidecar.TOKEN, "cache_redis_url": redis.url, KEY_FILE: provider.KEY}
        files.write_secrets(**{**usual, **secrets_of})
        running = start("--document", files.document, "--secrets", files.secrets).wait()
        return running, files

    return start_one


def test_policies_that_share_entries_need_no_common_key(policy_of, asked):
    one, _ = policy_of("one", shared="all", cache_key=CACHE_KEY)
    other, _ = policy_of("other", shared="all", cache_key=OTHER_KEY)
    bought(one, asked, "x")
    assert other.embed("x").headers["x-embedding-cache"] == "hit"
    assert other.page(names.PATH_HEALTH)["redis_entries"] == "checksum"
    assert "cache.shared" in other.said()


def test_entries_outlive_rotated_token_and_not_rotated_cache_key(policy_of, asked):
    one, files = policy_of("one", cache_key=CACHE_KEY)
    bought(one, asked, "x")
    other, _ = policy_of("one", cache_key=CACHE_KEY, api_token=sidecar.TOKEN + "-rotated")
    assert other.embed("x").headers["x-embedding-cache"] == "hit"
    before = one.page(names.PATH_CONFIG)["secrets_fingerprint"]
    files.write_secrets(cache_key=OTHER_KEY)
    sidecar.wait_until(lambda: one.page(names.PATH_CONFIG)["secrets_fingerprint"] != before)
    assert [one.embed("x").headers["x-embedding-cache"] for _ in range(2)] == ["miss", "hit"]


# --- D5: generations and counters in Redis


def generations_key(asked):
    (key,) = asked.scan_iter("aos:embedding:generations:*")
    return key


def clears(asked, key):
    """Values that no sidecar writes."""
    return {
        "a value that is none": lambda: asked.hset(key, mapping={"": "\r\n", "revision ": "1"}),
        "a value of a megabyte": lambda: asked.hset(
            key, mapping={"m": "x" * 2**20, "revision ": "1"}
        ),
        "more than can be": lambda: asked.hset(
            key, mapping={**{f"text {at:016x} m": "1" for at in range(6000)}, "revision ": "1"}
        ),
    }


@pytest.mark.parametrize(
    "what", ["a value that is none", "a value of a megabyte", "more than can be"]
)
def test_impossible_generations_clear_cache_and_are_told(from_environment, redis, asked, what):
    """D5, sibling: clear lists in Redis."""
    one = from_environment(REDIS_URL=redis.url, EMBEDDING_CACHE_KEY=CACHE_KEY)
    bought(one, asked, "x")
    key = generations_key(asked)
    clears(asked, key)[what]()
    sidecar.wait_until(lambda: asked.hlen(key) == 2)
    sidecar.wait_until(lambda: one.page(names.PATH_CACHE_STATS)["memory"]["entries"] == 0)
    assert [one.embed("x").headers["x-embedding-cache"] for _ in range(2)] == ["miss", "hit"]
    assert "generations in Redis" in one.said()


def test_quota_holds_while_somebody_writes_what_cannot_be(
    from_environment, redis, asked, stand_in, say
):
    """D5: 444 calls were billed of 60, with `exact: true`."""
    limit = 60
    seed = random.randrange(10**9)
    chance = random.Random(seed)
    pods = [
        from_environment(REDIS_URL=redis.url, EMBEDDING_DAILY_QUOTA=str(limit)) for _ in range(3)
    ]
    for at, pod in enumerate(pods):
        pod.embed(f"first of {at}").raise_for_status()
    (key,) = asked.scan_iter(f"{quota_store.PREFIX}*")
    impossible = ["-1000", "nan", "inf", "nan inf", "1.5", "", "-0", "1e3", str(10**13)]
    fields = ["calls", "tokens", "spent_calls", "spent_tokens", "revision", "forgot"]
    over = threading.Event()

    def attack():
        while not over.is_set():
            field = chance.choice([*fields, *(it.decode() for it in asked.hkeys(key))])
            asked.hset(key, field, chance.choice(impossible))
            time.sleep(0.01)

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        codes = [
            pods[chance.randrange(3)].embed(f"text {number}").status_code for number in range(300)
        ]
    finally:
        over.set()
        attacker.join()
    say(f"counters forged (seed {seed}): {len(stand_in.calls)} calls billed of {limit}")
    assert len(stand_in.calls) <= limit
    assert set(codes) <= {200, 503}
    for pod in pods:
        page = pod.page(names.PATH_QUOTA)
        assert page["exact"] is False
        assert page["exact_reason"].startswith("StoreCorrupt: ")


@pytest.fixture(scope="module")
def without_provider(tmp_path_factory):
    """One for all tests that come to no provider."""
    running = sidecar.Sidecar(
        environment={
            "OPENAI_API_KEY": provider.KEY,
            "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
            "EMBEDDING_API_TOKEN": sidecar.TOKEN,
            "EMBEDDING_POD_UID": POD,
        },
        log=tmp_path_factory.mktemp("trust") / "sidecar.log",
    )
    yield running.wait()
    running.stop(signal.SIGTERM, signal.SIGINT)


# --- D9: the token need not travel


def proved(path, *, pod=POD, token=sidecar.TOKEN, at=0, method="GET") -> dict[str, str]:
    signed = proof.sign_request(
        token,
        method=method,
        path=path,
        nonce=secrets.token_hex(16),
        time=int(time.time()) + at,
        pod=pod,
    )
    return {"Authorization": signed.render()}


def is_answer_signed(answer, headers) -> bool:
    credentials = proof.parse(headers["Authorization"])
    assert credentials is not None
    return proof.is_answer_signed(
        sidecar.TOKEN,
        answer.headers.get(proof.ANSWER_HEADER, ""),
        nonce=credentials.nonce,
        status=answer.status_code,
        body=answer.content,
    )


@pytest.mark.parametrize(
    "path", [names.PATH_CONFIG, names.PATH_QUOTA, f"{names.PATH_CACHE_STATS}?a=%2F&b"]
)
def test_page_is_opened_by_proof_that_does_not_hand_token_over(without_provider, path):
    """D9: and the answer shows that the sidecar holds the token as well."""
    running = without_provider
    headers = proved(path)
    answer = running.admin.get(path, headers=headers)
    assert answer.status_code == 200
    assert is_answer_signed(answer, headers)
    assert running.page(names.PATH_CONFIG)["model"] == MODEL  # Bearer, of people's tools
    again = running.admin.get(path, headers=headers)
    assert again.status_code == 401
    assert "used before" in again.json()["error"]["message"]


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"pod": "another"}, "another pod"),
        ({"token": "another"}, "not signed"),
        ({"at": -1000}, "clock"),
        ({"method": "DELETE"}, "not signed"),
    ],
    ids=str,
)
def test_proof_that_is_for_something_else_is_refused_and_says_why(without_provider, more, word):
    """D9, siblings: sent on to another pod, made by another, an hour late, for another method."""
    running = without_provider
    answer = running.admin.get(names.PATH_CONFIG, headers=proved(names.PATH_CONFIG, **more))
    assert answer.status_code == 401
    assert word in answer.json()["error"]["message"]
    assert sidecar.TOKEN not in answer.text
    assert sidecar.TOKEN not in running.said()


def test_proof_clears_cache_on_loopback_too(without_provider):
    running = without_provider
    headers = proved(names.PATH_CACHE, method="DELETE")
    answer = running.http.delete(names.PATH_CACHE, headers=headers)
    assert answer.json() == {"cleared": "all"}
    assert is_answer_signed(answer, headers)


# --- D11: a page in a browser

BROWSERS = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]
NAMED = {"Host": "evil.example:8484", "Origin": "http://evil.example:8484"}


def post(running, headers, *, body=b'{"model": "text-embedding-3-small", "input": "x"}', path=None):
    return running.http.post(path or names.PATH_EMBEDDINGS, content=body, headers=headers)


@pytest.mark.parametrize("sent", [*BROWSERS, NAMED, {"Host": "evil.example"}], ids=str)
def test_request_of_web_page_spends_no_quota_cached_or_not(from_environment, stand_in, sent):
    """D11: a cross-site request without Content-Type was answered and paid."""
    running = from_environment()
    for _ in range(2):
        answer = post(running, sent)
        assert answer.status_code == 403
        assert answer.json()["error"]["param"] in sent
        assert "access-control-allow-origin" not in answer.headers
    assert not stand_in.calls
    # Nor what is known already, nor by a head like those that are.
    for _ in range(3):
        assert post(running, {}).status_code == 200
        assert post(running, sent).status_code == 403
    assert len(stand_in.calls) == 1


def test_body_without_content_type_is_json_unless_page_of_ours_sends_it(from_environment):
    running = from_environment()
    assert post(running, {}).status_code == 200
    for sent in ({"Sec-Fetch-Site": "none"}, {"Origin": f"http://127.0.0.1:{running.port}"}):
        assert post(running, sent).status_code == 415
        assert post(running, {**sent, "Content-Type": "application/json"}).status_code == 200


@pytest.mark.parametrize("sent", [*BROWSERS, NAMED], ids=str)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", names.PATH_MODELS),
        ("GET", names.PATH_HEALTH),
        ("GET", names.PATH_CONFIG),
        ("DELETE", names.PATH_CACHE),
        ("POST", "/v1/chat/completions"),
        ("GET", names.PATH_OPENAPI),
        ("GET", "/nothing"),
    ],
)
def test_no_endpoint_answers_page(without_provider, method, path, sent):
    """D11, siblings: pass-through and management."""
    running = without_provider
    token = {"Authorization": f"Bearer {sidecar.TOKEN}"}
    answer = running.http.request(method, path, headers={**token, **sent})
    assert answer.status_code == 403
    assert answer.json()["error"]["param"] in sent
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("path", [names.PATH_EMBEDDINGS, "/v1/chat/completions", names.PATH_CACHE])
def test_preflight_gets_no_permission(without_provider, path):
    """D11, sibling: what a browser asks before it sends JSON."""
    answer = without_provider.http.options(
        path,
        headers={
            "Origin": "https://evil.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
            "Access-Control-Request-Private-Network": "true",
        },
    )
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("sent", BROWSERS, ids=str)
@pytest.mark.parametrize("path", [names.PATH_METRICS, names.PATH_HEALTH, names.PATH_LIVE])
def test_administration_answers_no_page_and_is_called_by_any_name(without_provider, path, sent):
    """D11, sibling: the other listener."""
    running = without_provider
    assert running.admin.get(path, headers=sent).status_code == 403
    assert running.admin.get(path, headers={"Host": "10.1.2.3:8485"}).status_code == 200


def test_host_that_is_allowed_is_served(from_environment):
    running = from_environment(EMBEDDING_ALLOWED_HOSTS="sidecar.internal, [fd00::1]")
    for host in ("sidecar.internal", "SIDECAR.internal:80", "[fd00::1]:8484", "localhost:1"):
        assert post(running, {"Host": host}).status_code == 200
    assert post(running, {"Host": "other.internal"}).status_code == 403


def test_two_hosts_in_one_request_are_refused(from_environment):
    running = from_environment()
    body = json.dumps({"model": MODEL, "input": "x"}).encode()
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
        connection.sendall(
            f"POST {names.PATH_EMBEDDINGS} HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
            + body
        )
        with connection.makefile("rb") as answer:
            assert answer.readline().startswith(b"HTTP/1.1 403 ")
