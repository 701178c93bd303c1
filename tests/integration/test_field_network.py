"""Networks that are not ours (field.md, C3, B8, B9): a real sidecar, proxy, authority and Redis."""

import dataclasses
import itertools
import re
import urllib.parse
from pathlib import Path

import pytest
import redis as redis_client

from embedding_contract import document, names
from tests.fakes import provider
from tests.integration.test_sidecar_document import KEY_FILE, Files
from tests.parts import connect_proxy, ports, redis_forms, sidecar

pytestmark = pytest.mark.integration

NAME = "models.corp.example"
API_TOKEN = {names.SECRET_API_TOKEN: sidecar.TOKEN, KEY_FILE: provider.KEY}


@pytest.fixture
def files(tmp_path, provider_url):
    made = Files(tmp_path, provider_url)
    made.write_secrets(**API_TOKEN)
    return made


@pytest.fixture
def corporate(tmp_path, provider_url):
    """A proxy that alone knows where NAME is, whose certificate is of a private authority."""
    port = urllib.parse.urlsplit(provider_url).port
    assert port is not None
    with (
        connect_proxy.with_tls(tmp_path, port=port, names=(NAME, "127.0.0.1")) as (by_tls, pem),
        connect_proxy.running() as proxy,
    ):
        proxy.places[f"{NAME}:443"] = ("127.0.0.1", by_tls)
        yield proxy, by_tls, pem


def calling(files, url, **network):
    """The document of a policy that calls this URL by such a network."""
    (one,) = files.policy.providers
    files.write(
        providers=(dataclasses.replace(one, base_url=url),),
        network=document.Network(**network),
    )


@pytest.fixture
def run(start, files):
    def run_one(**environment):
        return start("--document", files.document, "--secrets", files.secrets, **environment).wait()

    return run_one


def failure(running):
    """Why the provider gave no answer, as health says."""
    sidecar.wait_until(lambda: running.page(names.PATH_HEALTH)["failures"])
    (word,) = running.page(names.PATH_HEALTH)["failures"].values()
    return word


def test_provider_behind_proxy_and_private_authority_is_reached(run, files, corporate):
    """C3: nothing of it could be given to a sidecar in a pod."""
    proxy, _, pem = corporate
    calling(files, f"https://{NAME}/v1", https_proxy=proxy.url, authorities=pem)
    running = run()
    assert running.embed("a").status_code == 200
    assert proxy.asked == [f"CONNECT {NAME}:443 HTTP/1.1"]


def test_network_of_document_reaches_running_sidecar(run, files, corporate):
    """C3: an edit of values or policy takes effect in running pods, by either client."""
    proxy, by_tls, pem = corporate
    calling(files, f"https://127.0.0.1:{by_tls}/v1")
    running = run()
    assert running.embed("a").status_code == 502
    assert failure(running) == "certificate_untrusted"
    calling(files, f"https://127.0.0.1:{by_tls}/v1", authorities=pem)
    sidecar.wait_until(lambda: running.embed("b").status_code == 200)
    assert not proxy.asked
    calling(files, f"https://{NAME}/v1", authorities=pem, https_proxy=proxy.url)
    texts = map(str, itertools.count())
    # Until it obeys, texts go the way before.
    sidecar.wait_until(lambda: running.embed(next(texts)).status_code == 200 and proxy.asked)


def test_host_in_no_proxy_is_called_directly(run, files, corporate):
    """C3, a sibling."""
    proxy, by_tls, pem = corporate
    url = f"https://127.0.0.1:{by_tls}/v1"
    calling(files, url, https_proxy=proxy.url, no_proxy=".svc,127.0.0.1", authorities=pem)
    assert run().embed("a").status_code == 200
    assert not proxy.asked


def test_invalid_authorities_leave_last_good_document(run, files, provider_url):
    """C3, bad input: the field is named."""
    calling(files, f"{provider_url}/v1")
    running = run()
    calling(files, f"{provider_url}/v1", authorities="no PEM")
    sidecar.wait_until(lambda: running.page(names.PATH_HEALTH)["rejected"])
    assert "network.authorities" in running.page(names.PATH_HEALTH)["rejected"]
    assert running.embed("a").status_code == 200


# --- B8

CAUSES = ["connection_refused", "certificate_untrusted", "proxy_unreachable", "name_unknown"]
CAUSES += ["proxy_authentication_required", "proxy_refused"]


@pytest.mark.parametrize("cause", CAUSES)
def test_cause_of_no_connection_is_told(run, files, corporate, cause):
    """B8: one word for six causes, and no line in the log."""
    proxy, by_tls, _ = corporate
    nobody = f"127.0.0.1:{ports.free()}"
    url, network = f"https://{NAME}/v1", {"https_proxy": proxy.url}
    match cause:
        case "connection_refused":
            url, network = f"http://{nobody}/v1", {}
        case "certificate_untrusted":
            url, network = f"https://127.0.0.1:{by_tls}/v1", {}
        case "name_unknown":
            url, network = "http://nobody.invalid/v1", {}
        case "proxy_unreachable":
            network = {"https_proxy": f"http://{nobody}"}
        case "proxy_authentication_required":
            proxy.status = 407
        case _:
            proxy.status = 403
    calling(files, url, **network)
    running = run()
    running.embed("a")
    assert failure(running) == cause
    assert running.page(names.PATH_CONFIG)["failures"] == {"main": cause}
    assert f"provider main gave no answer: {cause}" in running.said()
    counted = rf'aos_embedding_provider_calls_total\{{[^}}]*"{cause}"[^}}]*\}} [1-9]'
    said = running.admin.get(names.PATH_METRICS).text
    assert re.search(counted, said) or f'"{cause}"' in said


def test_provider_that_answers_again_has_no_failure_any_more(run, files, provider_url):
    """B8, a sibling."""
    calling(files, f"http://127.0.0.1:{ports.free()}/v1")
    running = run()
    running.embed("a")
    assert failure(running) == "connection_refused"
    calling(files, f"{provider_url}/v1")
    sidecar.wait_until(lambda: running.embed("b").status_code == 200)
    assert running.page(names.PATH_HEALTH)["failures"] == {}


@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("HTTPS_PROXY", "user:geheim@proxy.example:3128", "proxy_without_scheme"),
        ("https_proxy", "socks5://user:geheim@proxy.example:1080", "proxy_not_http"),
        ("ALL_PROXY", "http://", "proxy_not_a_url"),
        ("http_proxy", "http://proxy:99999", "proxy_not_a_url"),
    ],
)
def test_proxy_that_cannot_be_used_stops_start(start, variable, value, word):
    """B8: the fifth and sixth cause, and two siblings."""
    running = start(OPENAI_API_KEY="sk-x", **{variable: value})
    assert running.process.wait(20) == 2
    assert f"{variable}: {word}" in running.said()
    assert "geheim" not in running.said()


# --- B9


RIGHTS = {
    "+time": "~aos:* +@read +@write +@connection +eval +evalsha",
    "+evalsha": "~aos:* +@all -evalsha",
    "~aos:embedding:quota:*": "~other:* +@all",
}


@pytest.mark.parametrize("missing", RIGHTS)
def test_right_that_redis_does_not_give_is_named(from_environment, redis, missing):
    """B9: 503 for all, health said ok, and the log "ERR"."""
    administrator = redis_client.Redis(port=redis.port)
    administrator.execute_command("ACL", "SETUSER", "a", "on", ">geheim", *RIGHTS[missing].split())
    running = from_environment(REDIS_URL=f"redis://a:geheim@127.0.0.1:{redis.port}/0")
    assert running.embed("a").status_code == 503
    health = running.page(names.PATH_HEALTH)
    assert health["status"] == "degraded"
    assert health["quota_store"].startswith("refuses: ")
    assert missing in health["quota_store"]
    assert missing in running.page(names.PATH_QUOTA)["exact_reason"]
    assert f"quota: the store refuses: {health['quota_store'].partition(': ')[2]}" in running.said()
    assert "geheim" not in running.said()
    administrator.execute_command("ACL", "SETUSER", "a", "~*", "+@all")
    sidecar.wait_until(lambda: running.embed("b").status_code == 200)
    assert running.page(names.PATH_HEALTH)["quota_store"] == "ok"


def test_wrong_password_of_quotas_redis_is_named(from_environment, redis):
    """B9, a sibling: it was "away", and the log said AuthenticationError."""
    administrator = redis_client.Redis(port=redis.port)
    administrator.execute_command("ACL", "SETUSER", "a", "on", ">right", "~*", "+@all")
    running = from_environment(REDIS_URL=f"redis://a:geheim@127.0.0.1:{redis.port}/0")
    assert running.embed("a").status_code == 503
    store = running.page(names.PATH_HEALTH)["quota_store"]
    assert store.startswith("refuses: WRONGPASS: the user or the password in the URL is wrong")
    assert "geheim" not in running.said()


# --- B9, of the cache: requests go on as misses

ALL = "~aos:embedding:cache:* ~aos:embedding:generations:*"
OF_THE_CACHE = "+mget +get +set +unlink +hmget +hgetall +hlen +eval +hset +hsetnx +hdel +del"
REFUSED = {
    "+mget": f"{ALL} {OF_THE_CACHE} -mget",
    "+set": f"{ALL} {OF_THE_CACHE} -set",
    "+eval": f"{ALL} {OF_THE_CACHE} -eval",
    "+hmget": f"{ALL} {OF_THE_CACHE} -hmget",
    "+hsetnx": f"{ALL} {OF_THE_CACHE} -hsetnx",
    "~aos:embedding:cache:*": f"~aos:embedding:generations:* {OF_THE_CACHE}",
    "~aos:embedding:generations:*": f"~aos:embedding:cache:* {OF_THE_CACHE}",
}


@pytest.fixture
def cached(run, files, redis):
    """A sidecar with a cache in this Redis, as its user `a`, and no limit."""

    def run_one(password="geheim"):
        url = f"redis://a:{password}@127.0.0.1:{redis.port}/0"
        files.write_secrets(**API_TOKEN, **{"cache-url": url})
        files.write(
            cache=document.Cache(redis_url_file="cache-url"),
            quota=document.Quota(daily_requests=None),
        )
        return run()

    return run_one


@pytest.fixture
def administrator(redis):
    client = redis_client.Redis(port=redis.port)
    client.execute_command("ACL", "SETUSER", "a", "on", ">geheim", *f"{ALL} {OF_THE_CACHE}".split())
    return client


def told(running, word):
    """Health, metric and log say of the cache's Redis that it refuses, and why; texts go on."""
    texts = (f"text {number}" for number in itertools.count())

    def is_told():
        assert running.embed(next(texts)).status_code == 200
        return word in running.page(names.PATH_HEALTH)["redis"]

    sidecar.wait_until(is_told)
    health = running.page(names.PATH_HEALTH)
    assert health["status"] == "degraded"
    assert health["redis"].startswith("refuses: ")
    said = running.admin.get(names.PATH_METRICS).text
    assert re.search(r'aos_embedding_errors_total\{[^}]*"cache_refused"[^}]*\} [1-9]', said)
    assert re.search(r'aos_embedding_redis_up\{[^}]*"cache"[^}]*\} 0', said)
    assert "cache: the store refuses to" in running.said()
    assert word in running.said()
    assert "geheim" not in running.said()


def test_rights_that_docs_list_are_enough_for_cache(cached, administrator, from_environment):
    """B9: a second sidecar finds what the first has bought, and what was cleared no more."""
    running = cached()
    assert running.embed("a").headers["x-embedding-cache"] == "miss"
    sidecar.wait_until(lambda: administrator.keys("aos:embedding:cache:*"))
    for _ in range(2):
        cleared = running.admin.get(names.PATH_HEALTH)
        assert cleared.json()["redis"] == "ok"
    token = {"Authorization": f"Bearer {sidecar.TOKEN}"}
    asked = running.http.request("DELETE", names.PATH_CACHE, headers=token, json={"input": "a"})
    assert asked.status_code == 200
    assert not administrator.keys("aos:embedding:cache:*")
    assert running.embed("a").headers["x-embedding-cache"] == "miss"
    assert "refuses" not in running.said()
    assert administrator.execute_command("ACL", "LOG") == []


OF_THE_QUOTA = "+eval +evalsha +time +hgetall +hmget +hset +hlen +expire +config|get +info"


def test_rights_that_docs_list_are_enough_for_quota(from_environment, redis):
    """B9: also where the database is not the first; and no right of theirs is left out."""
    administrator = redis_client.Redis(port=redis.port)
    rights = f"~aos:embedding:quota:* {ALL} {OF_THE_QUOTA} {OF_THE_CACHE} +select"
    administrator.execute_command("ACL", "SETUSER", "a", "on", ">geheim", *rights.split())
    running = from_environment(REDIS_URL=f"redis://a:geheim@127.0.0.1:{redis.port}/3")
    assert running.embed("a").status_code == 200
    quota = running.page(names.PATH_QUOTA)
    assert quota["exact_reason"] == ""
    assert administrator.execute_command("ACL", "LOG") == []
    page = (Path(__file__).parents[2] / "docs/sidecar.md").read_text(encoding="utf-8")
    for listed in (OF_THE_CACHE, OF_THE_QUOTA.removesuffix(" +config|get +info"), ALL):
        assert f"{listed} " in page or f"{listed}`" in page


def test_rights_that_docs_list_are_enough_in_cluster(from_environment, tmp_path):
    """B9, a sibling."""
    nodes = redis_forms.Cluster(tmp_path / "cluster")
    rights = f"~aos:embedding:quota:* {ALL} {OF_THE_QUOTA} {OF_THE_CACHE}"
    rights += " +command +cluster|slots +script|load"
    try:
        nodes.join()
        for node in nodes.nodes:
            with node.client() as asked:
                asked.execute_command("ACL", "SETUSER", "a", "on", ">geheim", *rights.split())
        url = nodes.url.replace("://", "://a:geheim@")
        running = from_environment(REDIS_URL=url)
        answered = [running.embed(text).status_code for text in "abc"]
        for node in nodes.nodes:
            with node.client() as asked:
                assert asked.execute_command("ACL", "LOG") == []
        assert answered == [200] * 3
        health = running.page(names.PATH_HEALTH)
        assert (health["redis"], health["quota_store"]) == ("ok", "ok")
    finally:
        nodes.kill()


@pytest.mark.parametrize("missing", REFUSED)
def test_right_that_caches_redis_does_not_give_is_named(cached, administrator, missing):
    """B9: requests go on as misses, and health said nothing."""
    administrator.execute_command("ACL", "SETUSER", "a", "reset")
    rights = ("on", ">geheim", *REFUSED[missing].split())
    administrator.execute_command("ACL", "SETUSER", "a", *rights)
    running = cached()
    told(running, missing)
    administrator.execute_command("ACL", "SETUSER", "a", "~*", "+@all")
    sidecar.wait_until(
        lambda: running.embed("b") and running.page(names.PATH_HEALTH)["redis"] == "ok"
    )
    assert running.page(names.PATH_HEALTH)["status"] == "ok"


def test_wrong_password_of_caches_redis_is_named(cached, administrator):
    """B9, a sibling."""
    told(cached("wrong"), "WRONGPASS: the user or the password in the URL is wrong")


def test_replica_as_caches_redis_is_named(cached, administrator, redis):
    """B9, a sibling: it gives what it has, and takes nothing."""
    administrator.replicaof("127.0.0.1", str(ports.free()))
    administrator.config_set("replica-serve-stale-data", "yes")
    told(cached(), "READONLY: this is a replica")


def test_full_redis_of_cache_is_named(cached, administrator):
    """B9, a sibling: its entries are hits all the same."""
    running = cached()
    assert running.embed("kept").status_code == 200
    sidecar.wait_until(lambda: administrator.keys("aos:embedding:cache:*"))
    administrator.config_set("maxmemory", "1")
    told(running, "OOM: its memory is full")
    administrator.config_set("maxmemory", "0")
    sidecar.wait_until(
        lambda: running.embed("b") and running.page(names.PATH_HEALTH)["redis"] == "ok"
    )


def test_script_without_rights_says_what_is_not_cleared(cached, administrator):
    """B9, a sibling: a clearing that the Redis refuses is told with the right."""
    running = cached()
    assert running.embed("a").status_code == 200
    administrator.execute_command("ACL", "SETUSER", "a", "-eval")
    token = {"Authorization": f"Bearer {sidecar.TOKEN}"}
    refused = running.http.delete(names.PATH_CACHE, headers=token)
    assert refused.status_code == 503
    assert "refuses (NOPERM: the user's right +eval is missing)" in refused.text
