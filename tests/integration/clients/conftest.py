"""The environment of an injected application, for clients that read nothing else."""

from collections.abc import Callable

import pytest

from embedding_contract import names
from tests.parts import sidecar


@pytest.fixture
def injected(
    from_environment: Callable[..., sidecar.Sidecar], monkeypatch: pytest.MonkeyPatch
) -> sidecar.Sidecar:
    """A sidecar, and the environment that the injection gives an application."""
    running = from_environment()
    url = f"http://127.0.0.1:{running.port}/v1"
    monkeypatch.setenv(names.ENV_BASE_URL, url)
    monkeypatch.setenv(names.ENV_BASE_URL_LEGACY, url)
    monkeypatch.setenv(names.ENV_API_KEY, names.PLACEHOLDER_KEY)
    return running
