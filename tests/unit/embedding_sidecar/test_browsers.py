"""D11 of the field's cases: requests that only a page in a browser sends are refused, with why."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_sidecar import errors
from embedding_sidecar.openai_format import browsers, request_headers

HOSTS = browsers.LOOPBACK | {"sidecar.internal"}
OWN = "127.0.0.1:8484"


def head(**sent):
    return request_headers.read(
        [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in sent.items()]
    )


def refused(*, hosts=HOSTS, **sent) -> errors.Rejected:
    with pytest.raises(errors.Rejected) as found:
        browsers.check(head(**sent), hosts=hosts)
    assert found.value.status == 403
    return found.value


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8484",
        "localhost:1",
        "LocalHost",
        "[::1]",
        "[::1]:8484",
        "localhost:",
        "sidecar.internal:80",
        "SIDECAR.internal",
        "",
    ],
)
def test_host_of_this_sidecar_is_let_through(host):
    browsers.check(head(host=host), hosts=HOSTS)
    browsers.check(head(), hosts=HOSTS)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8484",
        "localhost.evil.example",
        "127.0.0.1.evil.example:8484",
        "evil.example@127.0.0.1",
        "127.0.0.1@evil.example",
        "localhost:8484:8484",
        "localhost:x",
        "[::1",
        "::1",
        "[::2]:8484",
        "127.0.0.2",
        "0.0.0.0",
        "10.1.2.3:8484",
        "localhost, evil.example",
        "localhost evil.example",
        "\xe4",
    ],
)
def test_host_of_another_is_refused_by_its_name(host):
    """D11, sibling: a name that was made to point here (DNS rebinding)."""
    error = refused(host=host)
    assert (error.param, error.code) == ("Host", "host_not_allowed")
    assert "EMBEDDING_ALLOWED_HOSTS" in error.message
    browsers.check(head(host=host), hosts=None)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "", "none, cross-site"])
@pytest.mark.parametrize("hosts", [HOSTS, None])
def test_request_of_another_site_is_refused(site, hosts):
    """D11, sibling: a script, an image or a form without an Origin."""
    assert refused(host=OWN, sec_fetch_site=site, hosts=hosts).param == "Sec-Fetch-Site"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "http://localhost:3000",
        "http://127.0.0.1:8485",
        "http://127.0.0.1",
        "file://",
        "http://127.0.0.1:8484.evil.example",
        "http://127.0.0.1:8484, https://evil.example",
    ],
)
@pytest.mark.parametrize("hosts", [HOSTS, None])
def test_origin_of_another_is_refused(origin, hosts):
    """D11."""
    error = refused(host=OWN, origin=origin, hosts=hosts)
    assert (error.param, error.code) == ("Origin", "cross_origin_request")


def test_foreign_origin_is_refused_of_who_names_no_host():
    assert refused(origin="http://").param == "Origin"
    assert refused(origin="http://None").param == "Origin"


@pytest.mark.parametrize("site", ["none", "same-origin", "Same-Origin"])
def test_page_of_this_sidecar_is_let_through(site):
    browsers.check(head(host=OWN, origin=f"http://{OWN}", sec_fetch_site=site), hosts=HOSTS)
    browsers.check(head(host="sidecar.internal", origin="https://sidecar.internal"), hosts=HOSTS)


def test_message_about_header_is_bounded():
    for sent in ({"host": "x" * 60_000}, {"host": OWN, "origin": "x" * 60_000}):
        assert len(refused(**sent).message) < 1000


@given(
    st.dictionaries(
        st.sampled_from(["host", "origin", "sec_fetch_site"]),
        st.text(st.characters(max_codepoint=255), max_size=40),
    )
)
def test_any_headers_are_judged(sent):
    with contextlib.suppress(errors.Rejected):
        browsers.check(head(**sent), hosts=HOSTS)


@pytest.mark.parametrize(
    "sent",
    [{"origin": f"http://{OWN}"}, {"sec_fetch_site": "same-origin"}, {"sec_fetch_site": "none"}],
)
def test_body_without_content_type_is_json_unless_browser_sends_it(sent):
    request_headers.check(head(host=OWN))
    request_headers.check(head(host=OWN, content_type="application/json", **sent))
    with pytest.raises(errors.Rejected) as found:
        request_headers.check(head(host=OWN, **sent))
    assert (found.value.status, found.value.param) == (415, "Content-Type")
