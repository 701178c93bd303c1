"""A real API server with the resource on it, shared by a session; a namespace for each test."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import cluster
from tests.parts import kubectl, secrecy

CRD = Path(__file__).parents[1] / "crds" / "embeddingpolicies.yaml"

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def api_server() -> Iterator[kubectl.Kubectl]:
    cluster.down_stale()
    name = f"api-{os.getpid()}"
    up = cluster.up(form="control-plane", name=name, owner_pid=os.getpid())
    try:
        asked = kubectl.Kubectl(up.kubeconfig)
        asked.define(CRD)
        yield asked
    finally:
        cluster.down(name)


@pytest.fixture
def namespace(api_server: kubectl.Kubectl) -> Iterator[str]:
    name = f"test-{next(_numbers)}"
    api_server("create", "namespace", name)
    yield name
    if len(secrecy.WRITTEN):
        spoken = list(secrecy.in_objects(api_server, "-n", name, kinds=secrecy.SPOKEN))
        assert not spoken or secrecy.WRITTEN.find(spoken) == []
    api_server("delete", "namespace", name, "--wait=false")
