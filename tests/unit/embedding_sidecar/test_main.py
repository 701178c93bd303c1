"""The process's exit where something is wrong."""

import asyncio
import socket
from pathlib import Path

import pytest

from embedding_contract import document
from embedding_sidecar import __main__, memory_limit
from embedding_sidecar.engine import service
from embedding_sidecar.policy import current_policy, policy_file, runtime, settings


class Failing(current_policy.Fixed):
    """A source whose first look finds a policy, and whose second one fails."""

    def __init__(self):
        self._looks = 0

    def poll(self):
        self._looks += 1
        if self._looks > 1:
            raise RuntimeError("nobody thought of this")
        provider = document.Provider(name="a", kind="OpenAI", model="m", base_url="https://x")
        policy = document.PolicyDocument(namespace="shop", name="main", providers=(provider,))
        return policy_file.load(policy, "f" * 16, {})

    def secret(self, name):
        return ""


class Workshop(runtime.RuntimeFactory):
    """Notes that it was closed."""

    closed = 0

    async def close(self):
        type(self).closed += 1
        await super().close()


def test_lease_is_given_back_when_following_fails(monkeypatch):
    monkeypatch.setattr(runtime, "RuntimeFactory", Workshop)
    with (
        socket.create_server(("127.0.0.1", 0)) as api,
        socket.create_server(("127.0.0.1", 0)) as admin,
        pytest.raises(RuntimeError, match="nobody thought of this"),
    ):
        asyncio.run(
            __main__._run(
                Failing(),
                (api, admin),
                timing=service.Timing(),
                memory_bytes=memory_limit.DEFAULT_BYTES,
                callers=settings.Callers(),
                identity_token=Path("nowhere"),
            )
        )
    assert Workshop.closed == 1
