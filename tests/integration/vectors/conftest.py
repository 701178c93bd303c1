"""One PostgreSQL for the tests of a module; each test has a schema of its own in it."""

import pytest

from tests.parts import filling, postgres


@pytest.fixture(scope="module")
def server():
    with postgres.running() as running:
        yield running


@pytest.fixture
def texts(tmp_path, server):
    with filling.texts(tmp_path, server) as made:
        yield made
