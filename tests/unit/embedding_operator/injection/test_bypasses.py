"""A container's own environment and the sidecar's address: field cases C2 and C14."""

import pytest

from embedding_contract import names
from embedding_operator.informers import kept, pod_objects
from embedding_operator.injection import bypasses, injector, selection

SIDECAR = injector.Sidecar(image="sidecar:1", pull_policy="Never", resources={})
SEARCH = selection.Candidate(name="search", created_at="", pod_selector={})
OURS = f"http://127.0.0.1:{names.API_PORT}/v1"
PROXY = "http://user:geheim@proxy.corp:3128"


def variables(**values):
    return [{"name": name, "value": value} for name, value in values.items()]


def pod(**values):
    container = {"name": "app", "image": "app", "env": variables(**values)}
    return {
        "metadata": {"name": "p", "namespace": "shop", "labels": {}},
        "spec": {"containers": [container]},
    }


def injected(a_pod):
    return injector.inject(a_pod, sidecar=SIDECAR, candidate=SEARCH)


def environment(a_pod, number=0):
    return a_pod["spec"]["containers"][number].get("env", [])


def kept_of(a_pod):
    """As the operator keeps it: what is looked at must be there."""
    return pod_objects.pod(kept.encode(a_pod)).value()


@pytest.mark.parametrize("name", bypasses.PROXIES)
def test_container_with_proxy_is_given_loopback_excepted(name):
    """C2: the SDK's calls to the sidecar do not go to the proxy."""
    found = environment(injected(pod(**{name: PROXY})))
    assert found[0] == {"name": name, "value": PROXY}
    assert found[1:] == variables(NO_PROXY=bypasses.LOOPBACK, no_proxy=bypasses.LOOPBACK)


def test_container_whose_proxy_comes_from_secret_is_given_it_too():
    """C2, a sibling: by valueFrom."""
    a_pod = pod()
    reference = {"secretKeyRef": {"name": "proxy", "key": "url"}}
    a_pod["spec"]["containers"][0]["env"] = [{"name": "HTTP_PROXY", "valueFrom": reference}]
    assert len(environment(injected(a_pod))) == 3
    assert not bypasses.detours(kept_of(injected(a_pod)))


@pytest.mark.parametrize("own", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("value", ["", "10.0.0.0/8", "127.0.0.1"])
def test_container_that_has_its_own_keeps_it(own, value):
    """C2: the author's word counts."""
    a_pod = pod(HTTP_PROXY=PROXY, **{own: value})
    assert environment(injected(a_pod)) == environment(a_pod)


def test_container_without_proxy_gets_none():
    """C2: nothing else is put into an application's environment."""
    assert environment(injected(pod(HTTPS_PROXIES="x"))) == variables(HTTPS_PROXIES="x")


def test_init_container_is_given_it_and_native_sidecar_is_not():
    """C2, a sibling: whatever starts after the sidecar may call it."""
    a_pod = pod()
    proxied = {"image": "app", "env": variables(http_proxy=PROXY)}
    a_pod["spec"]["initContainers"] = [
        {"name": "migrate", **proxied},
        {"name": "mesh", "restartPolicy": "Always", **proxied},
    ]
    _, migrate, mesh = injected(a_pod)["spec"]["initContainers"]
    assert len(migrate["env"]) == 3
    assert mesh["env"] == variables(http_proxy=PROXY)


def test_second_injection_changes_nothing():
    once = injected(pod(HTTP_PROXY=PROXY))
    assert injected(once) == once


@pytest.mark.parametrize("value", ["", "localhost", "10.0.0.0/8,.corp", "127.0.0.2", "/", "::1"])
@pytest.mark.parametrize("proxy", bypasses.HTTP_PROXIES)
def test_own_exceptions_without_loopback_are_told_and_no_value_is(proxy, value):
    """C2: counted and said."""
    found = bypasses.detours(kept_of(injected(pod(**{proxy: PROXY}, NO_PROXY=value))))
    assert found == [
        f"container app sends all requests to its {proxy}, as its NO_PROXY lacks 127.0.0.1"
    ]


@pytest.mark.parametrize(
    "value", ["*", "127.0.0.1", ".corp, 127.0.0.1", "127.0.0.0/8", f"127.0.0.1:{names.API_PORT}"]
)
def test_own_exceptions_with_loopback_are_well(value):
    assert not bypasses.detours(kept_of(injected(pod(HTTP_PROXY=PROXY, no_proxy=value))))


def test_proxy_that_is_empty_or_of_other_urls_leads_nothing_away():
    for name, value in (("HTTP_PROXY", ""), ("HTTPS_PROXY", PROXY)):
        assert not bypasses.detours(kept_of(injected(pod(**{name: value}, NO_PROXY="x"))))


@pytest.mark.parametrize("name", bypasses.ADDRESSES)
@pytest.mark.parametrize(
    "value",
    ["https://api.openai.com/v1", "", "http://127.0.0.1:9/v1", "http://[::1", "http://h:99999"],
)
def test_own_literal_address_goes_past_sidecar(name, value):
    """C14: whatever the container sets comes before what the sidecar's ConfigMap gives it."""
    found = bypasses.detours(kept_of(injected(pod(**{name: value}))))
    assert found == [f"container app sets {name} itself"]


@pytest.mark.parametrize("value", [OURS, f"http://localhost:{names.API_PORT}/v1/"])
def test_own_literal_address_of_sidecar_is_well(value):
    """C14, a sibling: a container that says the sidecar's address itself."""
    assert not bypasses.detours(kept_of(injected(pod(OPENAI_BASE_URL=value))))


def test_native_sidecar_with_its_own_address_is_no_application():
    """C14, a sibling."""
    a_pod = pod()
    a_pod["spec"]["initContainers"] = [
        {"name": name, "restartPolicy": policy, "env": variables(OPENAI_BASE_URL="http://x")}
        for name, policy in (("mesh", "Always"), ("migrate", None))
    ]
    assert bypasses.detours(kept_of(injected(a_pod))) == [
        "container migrate sets OPENAI_BASE_URL itself"
    ]


def test_later_of_two_variables_of_name_counts():
    a_pod = pod()
    a_pod["spec"]["containers"][0]["env"] = [
        *variables(OPENAI_BASE_URL="http://x"),
        *variables(OPENAI_BASE_URL=OURS),
    ]
    assert not bypasses.detours(kept_of(injected(a_pod)))


def test_kept_part_of_environment_is_small():
    """Decision 021: memory is no function of what tenants write."""
    many = variables(**{f"V{number}": "x" * 100 for number in range(400)}, HTTP_PROXY=PROXY)
    a_pod = pod()
    a_pod["spec"]["containers"][0]["env"] = many
    assert environment(kept_of(a_pod)) == variables(HTTP_PROXY=PROXY)
    a_pod["spec"]["containers"][0]["env"] = many * 2
    assert not environment(kept_of(a_pod))
    long = pod(NO_PROXY="x," * 2_000, HTTP_PROXY=PROXY)
    assert environment(kept_of(long)) == variables(HTTP_PROXY=PROXY)
