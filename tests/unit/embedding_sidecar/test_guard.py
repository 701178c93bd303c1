"""Who may open the management pages."""

import asyncio
import hmac

import pytest

from embedding_contract import names
from embedding_sidecar.metrics import Metrics
from embedding_sidecar.serving.app import Application

TOKEN = "the-api-token"


class Current:
    """Nothing in force but a token."""

    rejected = None

    def api_token(self):
        return TOKEN

    def runtime_or_none(self):
        return None


def status(token):
    """What the admin port answers to this token, on a page that needs one."""
    application = Application(current=Current(), metrics=Metrics()).admin()  # type: ignore[arg-type] # a part
    said = []

    async def send(message):
        said.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": names.PATH_CONFIG,
        "raw_path": names.PATH_CONFIG.encode(),
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer " + token.encode())],
    }
    asyncio.run(application(scope, None, send))  # type: ignore[arg-type] # reads no body
    return said[0]["status"]


@pytest.mark.parametrize("token", ["", "t", TOKEN[:-1], TOKEN + "x", "ä"])
def test_a_wrong_token_takes_as_long_as_any_other(monkeypatch, token):
    compared = []
    real = hmac.compare_digest

    def compare(given, expected):
        compared.append((given, expected))
        return real(given, expected)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert status(token) == 401
    assert [expected for _, expected in compared] == [TOKEN.encode()]
