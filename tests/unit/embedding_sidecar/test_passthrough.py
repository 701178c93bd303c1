"""The target of a passed-through request: below one URL, whatever its path."""

import asyncio
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.requests import Request
from yarl import URL

from embedding_sidecar import errors
from embedding_sidecar.upstream import http_client, passthrough


class Upstream:
    """Notes where it was sent."""

    def __init__(self):
        self.urls = []

    async def stream(self, *, method, url, headers, body):
        self.urls.append(url)
        return http_client.StreamedAnswer(status=204, headers=[], chunks=nothing())


async def nothing():
    for chunk in list[bytes]():
        yield chunk


def forward(path, *, query=b"", base_url):
    """The URLs that were asked for a request of this path, as it comes over the wire."""
    upstream: Any = Upstream()
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [(b"host", b"127.0.0.1:8484")],
    }

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    request = Request(scope, receive)
    asyncio.run(passthrough.forward(request, base_url=base_url, upstream=upstream))
    return upstream.urls


@pytest.mark.parametrize("base_url", ["http://models:8080", "https://api.openai.com/v1"])
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/files/a%2Fb", "/v1/@elsewhere/x", "/v1//elsewhere/x"]
)
def test_path_goes_below_one_url_as_it_came(path, base_url):
    (asked,) = forward(path, query=b"x=%2F", base_url=base_url)
    assert asked == f"{base_url}{path.removeprefix('/v1')}?x=%2F"
    assert URL(asked, encoded=True).host == URL(base_url).host


@pytest.mark.parametrize("base_url", ["http://models:8080", "https://api.openai.com/v1"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1%2f@elsewhere/x",
        "/v1%2Felsewhere",
        "/%76%31/x",
        "/v1/../x",
        "/v1/%2e%2E/x",
        "/v1/..%2fx",
        "/v1/a/.%5C../x",
    ],
)
def test_path_that_leads_elsewhere_goes_nowhere(path, base_url):
    with pytest.raises(errors.Rejected) as refused:
        forward(path, base_url=base_url)
    assert refused.value.status == 400
