"""A real API server with the resource on it, shared by a session; a namespace for each test.

Sessions are as many as there are workers (pytest-xdist), and each searches what its own tests left.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import hypothesis
import pytest

from dev import cluster
from tests.parts import compatibility, kubectl, secrecy

CRD = Path(__file__).parents[1] / "crds" / "embeddingpolicies.yaml"
INDEX_CRD = CRD.with_name("embeddingindexes.yaml")
CLASS_CRD = CRD.with_name("clusterembeddingproviders.yaml")
INJECTION_CRD = CRD.with_name("embeddinginjections.yaml")
SAID = "said"

_numbers = itertools.count(1)

# No test asserts a time, and a loaded machine takes long now and then.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Tells a result at the end of the run, also of a test that passes in another process."""
    return partial(record_property, SAID)


@pytest.fixture
def record_row(record_property: Callable[[str, object], None]) -> compatibility.Record:
    """Records a row of docs/compatibility.md; the test has the marker `compatibility`."""
    return lambda row: record_property(compatibility.PROPERTY, row.to_json())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have said, also those that were skipped."""
    reports = [
        report
        for outcome in ("passed", "failed", "skipped")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call" or outcome == "skipped"
    ]
    said = [text for report in reports for name, text in report.user_properties if name == SAID]
    if said:
        terminalreporter.section("results")
        for text in dict.fromkeys(map(str, said)):
            terminalreporter.write_line(text)


@pytest.fixture(scope="session", autouse=True)
def no_secret_was_logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests wrote into a Vault stands in no log of our programs. Looked at last of all."""
    yield
    if len(secrecy.WRITTEN):
        logs = list(secrecy.in_files(tmp_path_factory.getbasetemp()))
        assert not logs or secrecy.WRITTEN.find(logs) == []


@pytest.fixture(scope="session")
def api_server() -> Iterator[kubectl.Kubectl]:
    """In the end no object of it holds what tests wrote into a Vault."""
    cluster.down_stale()
    name = f"api-{os.getpid()}"
    up = cluster.up(form="control-plane", name=name, owner_pid=os.getpid())
    try:
        asked = kubectl.Kubectl(up.kubeconfig)
        for definition in (CRD, INDEX_CRD, CLASS_CRD, INJECTION_CRD):
            asked.define(definition)
        yield asked
        if len(secrecy.WRITTEN):
            assert secrecy.WRITTEN.find(secrecy.in_objects(asked, "-A")) == []
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
