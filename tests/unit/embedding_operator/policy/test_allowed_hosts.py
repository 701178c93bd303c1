"""Hosts that a URL may name: an ambiguous URL is refused, and never interpreted."""

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio.connection import parse_url
from yarl import URL

from embedding_operator.policy import allowed_hosts

ALLOWED = allowed_hosts.parse(
    [
        "api.openai.com",
        "*.models.svc:8080",
        "redis.platform",
        "sentinel.platform:26379",
        "10.0.0.7",
        "[2001:db8::7]:443",
    ]
)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "https://API.OpenAI.com/v1",
        "https://api.openai.com:8443",
        "http://e5.models.svc:8080/v1/@?x",
        "redis://redis.platform",
        "rediss://user:p%40ss:w@redis.platform:6380/3?ssl_cert_reqs=none",
        "redis+cluster://redis.platform:7000,redis.platform:7001/0",
        "rediss+sentinel://:pw@sentinel.platform,sentinel.platform:26379/main/0",
        "http://10.0.0.7:8080/v1",
        "https://[2001:0DB8:0::7]/v1",
    ],
)
def test_allowed_host_is_called_in_each_form(url):
    assert ALLOWED.refusal(url) is None


REFUSED = {
    "another host": "https://evil.example/v1",
    "the host as a user": "https://api.openai.com@evil.example/v1",
    "a password before the host": "https://u:api.openai.com@evil.example/v1",
    "a user before an allowed host": "https://u@api.openai.com/v1",
    "a backslash": "https://evil.example\\@api.openai.com/v1",
    "a backslash after": "https://api.openai.com\\.evil.example/v1",
    "an allowed host as a label": "https://api.openai.com.evil.example/v1",
    "a label before": "https://evil.api.openai.com/v1",
    "a suffix that is no label": "https://evilapi.openai.com/v1",
    "a trailing dot": "https://api.openai.com./v1",
    "an empty label": "https://api..openai.com/v1",
    "a percent sign": "https://api%2eopenai.com/v1",
    "a letter of another alphabet": "https://api.openаi.com/v1",  # noqa: RUF001 - that is the trick
    "a wide dot": "https://api。openai.com/v1",
    "its punycode": "https://xn--api-openi-2fg.com/v1",
    "white space": "https://api.openai.com /v1",
    "a tab": "https://api.openai.com\t.evil.example/v1",
    "a line end": "https://api.openai.com\n",
    "a fragment": "https://evil.example#@api.openai.com",
    "a query": "https://evil.example?@api.openai.com",
    "an empty host": "https:///api.openai.com",
    "no slashes": "https:api.openai.com",
    "another scheme": "ftp://api.openai.com",
    "a socket": "unix:///run/redis.sock",
    "an empty port": "https://api.openai.com:/v1",
    "two ports": "https://api.openai.com:443:443/v1",
    "a port out of range": "https://api.openai.com:65536/v1",
    "port 0": "https://api.openai.com:0/v1",
    "another port than the entry's": "http://e5.models.svc:8081/v1",
    "the scheme's port where the entry has another": "http://e5.models.svc/v1",
    "two labels for one": "http://a.b.models.svc:8080/v1",
    "no label for one": "http://models.svc:8080/v1",
    "an empty label for one": "http://.models.svc:8080/v1",
    "an address in short": "http://10.7/v1",
    "an address as a number": "http://167772167/v1",
    "an address in hexadecimal": "http://0x0a000007/v1",
    "an address in octal": "http://012.0.0.7/v1",
    "an address mapped into IPv6": "http://[::ffff:10.0.0.7]/v1",
    "an IPv6 zone": "https://[2001:db8::7%25eth0]/v1",
    "IPv6 without brackets": "https://2001:db8::7/v1",
    "IPv6 at another port": "https://[2001:db8::7]:8443/v1",
    "loopback": "http://127.0.0.1:8485/v1",
    "the metadata address": "http://169.254.169.254/latest",
    "one node of several": "redis+cluster://redis.platform,evil.example:6379",
    "an empty node": "redis+cluster://redis.platform,,redis.platform",
    "several nodes where one is meant": "redis://redis.platform,evil.example",
    "the host as an option": "redis://redis.platform/0?host=evil.example",
    "the port as an option": "redis://redis.platform/0?port=22",
    "an encoded option": "redis://redis.platform/0?%70ort=22",
    "an option without a path": "redis://redis.platform?port=22",
    "a raw @ in the password": "redis://:p@ss@redis.platform",
    "a raw / in the password": "redis://:p/ss@redis.platform",
    "nothing": "",
}


@pytest.mark.parametrize("url", REFUSED.values(), ids=REFUSED)
def test_host_that_is_not_listed_or_could_be_read_in_two_ways_is_refused(url):
    assert ALLOWED.refusal(url) is not None
    assert not ALLOWED.allows(url)


def test_empty_list_allows_every_host():
    for url in (*REFUSED.values(), "https://api.openai.com"):
        assert allowed_hosts.AllowedHosts().allows(url)


def test_refusal_names_host_and_port():
    assert ALLOWED.refusal("https://evil.example/v1") == (
        "host evil.example, port 443, is not allowed"
    )
    assert "port 26379" in str(allowed_hosts.parse(["a"]).refusal("redis+sentinel://b/main"))
    assert "ambiguous" in str(ALLOWED.refusal("https://api.openai.com./v1"))


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.",
        "a.*",
        "a*.example",
        "*.*.example",
        "https://api.openai.com",
        "api.openai.com/v1",
        "api.openai.com.",
        " api.openai.com",
        "user@api.openai.com",
        "bücher.example",
        "127.1",
        "0x7f.0.0.1",
        "*.0.0.1",
        "*.127.0.0.1",
        "2001:db8::7",
        "*.[2001:db8::7]",
        "[2001:db8::g]",
        "a:0",
        "a:65536",
        "a:",
    ],
)
def test_entry_that_could_be_read_in_two_ways_stops_start(entry):
    with pytest.raises(allowed_hosts.InvalidHost):
        allowed_hosts.parse(["api.openai.com", entry])


def test_list_is_shown_in_bounded_way():
    shown = str(allowed_hosts.parse([f"h{number}.example" for number in range(500)]))
    assert "h0.example" in shown
    assert shown.endswith("and 490 more")


_TRICKS = [*r"@:/\?#.,[]&u0", " ", "\t", "\u0430", "%2e", "::1", ":443", ":22", "evil.example"]
_TRICKS += ["?port=22", "?host=evil.example", "@evil.example"]
_PIECES = st.lists(st.sampled_from(_TRICKS), max_size=3).map("".join)
_HOST = st.sampled_from(["api.openai.com", "10.0.0.7", "API.openai.com:443"])


@settings(max_examples=500)
@given(st.sampled_from(["http", "https", "redis", "rediss"]), _PIECES, _HOST, _PIECES)
def test_clients_of_sidecar_see_host_that_was_allowed(scheme, before, host, after):
    rest = before + host + after
    allowed = allowed_hosts.parse(["api.openai.com:443", "api.openai.com:6379", "10.0.0.7:80"])
    url = f"{scheme}://{rest}"
    if not allowed.allows(url):
        return
    seen: list[tuple[object, object]]
    if scheme.startswith("redis"):
        try:
            options = parse_url(url)
        except ValueError:
            return  # a client that cannot read the URL connects nowhere
        seen = [(options["host"], options.get("port", 6379))]
    else:
        split, other = urlsplit(url), URL(url, encoded=True)
        default = {"http": 80, "https": 443}[scheme]
        seen = [(split.hostname, split.port or default), (other.host, other.port)]
    assert set(seen) <= {("api.openai.com", 443), ("api.openai.com", 6379), ("10.0.0.7", 80)}


@given(st.ip_addresses(), st.ip_addresses())
def test_address_is_allowed_in_any_of_its_writings_and_no_other_is(one, other):
    def written(address):
        return f"[{address.exploded}]" if address.version == 6 else str(address)

    assert isinstance(one, ipaddress.IPv4Address | ipaddress.IPv6Address)
    allowed = allowed_hosts.parse([written(one)])
    assert allowed.allows(f"http://{written(one).upper()}/v1")
    assert allowed.allows(f"http://{written(other)}/v1") == (one == other)
