"""One node, the parts beside it and the chart: built up once, shared by the node tests."""

import os
from collections.abc import Iterator

import pytest

from dev import cluster
from tests.parts import database, installation

NAME = "e2e"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[installation.Installation]:
    cluster.down_stale()
    node = cluster.up(form="node", name=NAME, owner_pid=os.getpid())
    product = installation.Installation(node, tmp_path_factory.mktemp("parts"))
    try:
        product.load_images()
        product.parts.start()
        product.parts.configure_vault()
        product.install_chart()
        yield product
    finally:
        product.parts.daemons.stop()
        database.remove(product.parts.folder)
        cluster.down(NAME)


@pytest.fixture(scope="session")
def shop(installed: installation.Installation) -> installation.Installation:
    """The installation with the example's namespace, policy and application applied and ready."""
    for name in ("namespace", "policy", "application"):
        installed.apply_example(name)
    installed.wait_for_policy("Ready")
    installed.kubectl("rollout", "status", "deployment/search", "-n", "shop", "--timeout=120s")
    return installed
