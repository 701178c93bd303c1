"""Sidecars' way to outside hosts, set by the chart or a policy: field case C3."""

import dataclasses

import pytest

from embedding_contract import document
from embedding_operator import errors, settings
from embedding_operator.policy import network, policy
from tests.parts import policies, raw_server

PROXY = "http://proxy.example:3128"
OTHER = "http://other.example:3128"


@pytest.fixture
def authority(tmp_path):
    text = raw_server.certificate(tmp_path, "a").read_text(encoding="utf-8")
    return text.partition("-----BEGIN PRIVATE KEY")[0]


def wanted(**own):
    fields = {"http": None, "https": None, "no": None, "ca_config_map": None}
    own_network = policy.Network(**(fields | own)) if own else None
    return dataclasses.replace(policies.parsed(), network=own_network)


def made(values, *, ca=None, **own):
    return values.of(wanted(**own), ca_of=lambda _: ca)


def test_document_without_network_values_says_nothing_of_it():
    said = made(network.Network())
    assert said == document.Network()
    text = document.dump(policy.to_document(policies.parsed(), network=said))
    assert "network" not in text


def test_network_values_are_in_every_document_and_spare_cluster(tmp_path, authority):
    file = tmp_path / "ca.crt"
    file.write_text(authority, encoding="utf-8")
    said = made(network.Network(https=PROXY, no=".corp", ca_file=file))
    assert said == document.Network(
        https_proxy=PROXY,
        no_proxy=".corp,.svc,.svc.cluster.local,127.0.0.1,localhost,::1",
        authorities=authority,
    )
    text = document.dump(policy.to_document(policies.parsed(), network=said))
    assert document.parse(text).network == said


def test_authorities_of_chart_are_read_anew_and_half_file_changes_nothing(tmp_path, authority):
    file = tmp_path / "ca.crt"
    values = network.Network(ca_file=file)
    assert made(values).authorities is None
    file.write_text(authority, encoding="utf-8")
    assert made(values).authorities == authority
    file.write_text("half", encoding="utf-8")
    assert made(values).authorities == authority


def test_policy_has_its_own_only_where_chart_says_so(authority):
    allowed = network.Network(https=PROXY, by_policies=True)
    said = made(allowed, https=OTHER, ca_config_map="ca", ca=authority)
    assert (said.https_proxy, said.authorities) == (OTHER, authority)
    with pytest.raises(errors.InvalidPolicy, match=r"network.*policyNetwork .* is off") as caught:
        made(network.Network(), https=OTHER)
    assert caught.value.reason == network.NOT_ALLOWED


def test_policy_has_none_while_hosts_are_guarded():
    """A proxy is sent what is meant for an allowed host."""
    guarded = network.Network(by_policies=True, is_guarded=True)
    with pytest.raises(errors.InvalidPolicy, match="allowedHosts"):
        made(guarded, https=OTHER)
    assert made(dataclasses.replace(guarded, https=PROXY)).https_proxy == PROXY


@pytest.mark.parametrize(
    ("own", "ca", "told"),
    [
        ({"ca_config_map": "ca"}, None, "caConfigMap: there is no ConfigMap ca"),
        ({"ca_config_map": "ca"}, "no PEM", "caConfigMap: ca.crt holds no PEM certificates"),
        ({"ca_config_map": "ca"}, "x" * (network.MAX_BYTES + 1), "longer than"),
        ({"http": "proxy:3128"}, None, "proxy: proxy_without_scheme"),
        ({"https": "socks5://proxy:1080"}, None, "proxy: proxy_not_http"),
    ],
)
def test_contradictory_network_field_is_refused_by_name(own, ca, told):
    with pytest.raises(errors.InvalidPolicy, match=told):
        made(network.Network(by_policies=True), ca=ca, **own)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("proxy.example:3128", "proxy_without_scheme"),
        ("socks5://proxy.example:1080", "proxy_not_http"),
        ("http://user:geheim@proxy:3128", "must not have a user or password"),
        ("http://proxy:3128/path", "proxy_not_a_url"),
        ("http://", "proxy_not_a_url"),
    ],
)
@pytest.mark.parametrize("name", ["SIDECAR_PROXY_HTTP", "SIDECAR_PROXY_HTTPS"])
def test_proxy_of_chart_that_cannot_be_used_stops_start(name, value, word):
    """B8: the fifth and sixth cause."""
    with pytest.raises(settings.InvalidSetting, match=f"{name}: .*{word}") as caught:
        settings.read({name: value})
    assert "geheim" not in str(caught.value)


def test_guard_of_hosts_is_known_to_network():
    read = settings.read(
        {"PROVIDERS_ALLOWED_HOSTS": "api.openai.com", "SIDECAR_POLICY_NETWORK": "true"}
    )
    assert read.network.is_guarded
    assert read.network.by_policies
