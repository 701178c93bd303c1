"""A policy's status says from when the API server injects, and why it cannot be told to."""

import pytest

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.controller.injection_reconciler import InjectionReconciler
from embedding_operator.injection import selection
from tests.parts import policies, reconciling

pytestmark = [pytest.mark.cluster, pytest.mark.integration]


class Injections(InjectionReconciler):
    """What was seen of the namespace's EmbeddingInjection, said by the test."""

    def __init__(self):
        self.selectors = []
        self.failure = None

    def injects(self, key, selector):
        return selector in self.selectors

    def problem(self, namespace):
        return self.failure


@pytest.fixture
def injections():
    return Injections()


@pytest.fixture
def run(api_server, namespace, injections):
    api_server("label", "namespace", namespace, f"{names.LABEL_INJECTION}={selection.ENABLED}")
    made = reconciling.Reconciling(reconciling.connect(api_server.kubeconfig), namespace)
    made.restart(injections=injections)
    provider = policies.LOCAL
    api_server.apply(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "search", "namespace": namespace},
            "spec": {"podSelector": {"matchLabels": {"app": "a"}}, "providers": [provider]},
        }
    )
    return made


def test_pods_count_as_missed_once_server_can_inject_them(run, injections):
    run("search")
    assert "covering" not in run.status("search")
    injections.selectors = [{"matchLabels": {"app": "a"}}]
    run("search")
    assert run.status("search")["covering"]["since"]
    # Another selector is not injected yet.
    injections.selectors = [{}]
    run("search")
    assert "covering" not in run.status("search")


def test_object_that_cannot_be_written_is_condition_with_cause(run, injections):
    injections.failure = errors.Problem("InjectionNotWritten", "exceeded quota")
    run("search")
    found = run.condition("search", "InjectionSupported")
    assert (found["status"], found["reason"]) == ("False", "InjectionNotWritten")
    assert "exceeded quota" in found["message"]
    injections.failure = None
    run("search")
    assert run.condition("search", "InjectionSupported")["status"] == "True"
