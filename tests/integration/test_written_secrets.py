"""After all the other integration tests, by its name: none of their secrets was written anywhere.

What stood in a test's namespace has been searched when the test ended (tests/conftest.py).
"""

import pytest

from tests.parts import secrecy

pytestmark = pytest.mark.integration


@pytest.fixture
def written():
    if not len(secrecy.WRITTEN):
        pytest.skip("no test of this run has written a secret")
    return secrecy.WRITTEN


def test_no_program_of_ours_has_logged_one(written, tmp_path_factory):
    assert written.find(secrecy.in_files(tmp_path_factory.getbasetemp())) == []


@pytest.mark.cluster
def test_no_object_of_the_whole_cluster_holds_one(written, api_server):
    assert written.find(secrecy.in_objects(api_server, "-A")) == []
