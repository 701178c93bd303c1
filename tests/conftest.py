"""A real API server with the resource on it, shared by a session; a namespace for each test.

Sessions are as many as there are workers (pytest-xdist), and each searches what its own tests left.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from dev import cluster
from dev.cluster import artifacts
from tests.parts import compatibility, kubectl, secrecy, shipped_roles

CRD = Path(__file__).parents[1] / "crds" / "embeddingpolicies.yaml"
INDEX_CRD = CRD.with_name("embeddingindexes.yaml")
CLASS_CRD = CRD.with_name("clusterembeddingproviders.yaml")
INJECTION_CRD = CRD.with_name("embeddinginjections.yaml")
SAID = "said"
RIGHTS = "rights"
ALL_RIGHTS = "--all-rights-used"

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


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all-rights-used`: fail if the chart gives a right that no test of the run used."""
    parser.addoption(ALL_RIGHTS, action="store_true", help="for runs of the whole cluster tier")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the chosen minor of Kubernetes lacks; without a choice nothing is skipped."""
    chosen = os.environ.get(artifacts.VERSION)
    for mark in item.iter_markers("needs_kubernetes"):
        minor, what = mark.args
        if chosen and _number(chosen) < _number(minor):
            pytest.skip(f"Kubernetes {minor} is the first with {what}")


def _number(minor: str) -> tuple[int, ...]:
    return tuple(map(int, minor.split(".")))


@pytest.fixture(autouse=True)
def operator_was_refused_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """The chart's roles are enough for what the operator did, by the API servers' audit logs."""
    yield
    refused = shipped_roles.AUDIT.refusals()
    if request.node.get_closest_marker("refused") is None:
        assert refused == [], "the chart's roles lack a right"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the first process, or judge there, which rights were used."""
    shipped_roles.AUDIT.refusals()
    told = [shipped_roles.AUDIT.answered, sorted(shipped_roles.AUDIT.used)]
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[RIGHTS] = told
        return
    _USED.note(told)
    if session.config.getoption(ALL_RIGHTS) and _USED.unused():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


class _Used:
    """The rights that all processes of a run have used."""

    def __init__(self) -> None:
        self._answered = 0
        self._used: set[shipped_roles.Grant] = set()

    def note(self, told: list[Any]) -> None:
        self._answered += told[0]
        self._used |= {(group, resource, verb) for group, resource, verb in told[1]}

    def unused(self) -> list[str]:
        return [" ".join(it).strip() for it in sorted(shipped_roles.unused(self._used))]

    def __str__(self) -> str:
        return f"the chart's roles: {self._answered} requests of operators, none refused"

    def __bool__(self) -> bool:
        return bool(self._answered)


_USED = _Used()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Called of pytest-xdist as a process ends."""
    told = getattr(node, "workeroutput", {}).get(RIGHTS)
    if told is not None:
        _USED.note(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have said, also those that were skipped."""
    if _USED:
        terminalreporter.write_line(str(_USED))
    if terminalreporter.config.getoption(ALL_RIGHTS):
        terminalreporter.write_line(f"rights never used: {', '.join(_USED.unused()) or 'none'}")
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
