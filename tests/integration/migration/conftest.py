"""An OpenBao with the example's mount, and the command under test."""

from collections.abc import Iterator

import pytest

from tests.parts import sidecar
from tests.parts import vault as real
from tests.parts.migrating import MOUNT, PATH, Bao, Cli, Door


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[real.Vault]:
    with real.running(tmp_path_factory.mktemp("vault")) as started:
        yield started


@pytest.fixture(scope="module")
def administrator(server) -> Bao:
    return Bao(server)


@pytest.fixture
def bao(administrator) -> Iterator[Bao]:
    """Nothing is at the example's path."""
    yield administrator
    administrator.kv.delete_metadata_and_all_versions(PATH, mount_point=MOUNT)


@pytest.fixture
def cli(server, tmp_path) -> Cli:
    return Cli(tmp_path, address=server.address, token_file=server.token_file)


@pytest.fixture
def door(server, cli) -> Iterator[Door]:
    """Between the command and Vault."""
    made = Door(server.address)
    with sidecar.served(made.app()) as url:
        cli.environment["VAULT_ADDR"] = url
        yield made
