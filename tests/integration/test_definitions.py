"""Definitions of a release of before, and a second installation, on a real API server.

The tests follow one cluster's life: they run in their order.
"""

import os
import subprocess

import pytest

from dev import cluster
from embedding_contract import names
from tests.parts import (
    charted,
    helm,
    installation,
    kubectl,
    operating,
    policies,
    release_before,
    skew,
)
from tests.parts.installation import wait

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

METRIC = "embedding_operator_definition_missing_fields"
POLICIES = f"{names.PLURAL}.{names.GROUP}"
CHART = installation.ROOT / "charts" / "embedding-operator"


@pytest.fixture(scope="module")
def bare():
    """An API server of its own: definitions are shared by all who use one."""
    name = f"skew-{os.getpid()}"
    up = cluster.up(form="control-plane", name=name, owner_pid=os.getpid())
    try:
        yield kubectl.Kubectl(up.kubeconfig)
    finally:
        cluster.down(name)


def policy(namespace):
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "search", "namespace": namespace},
        "spec": {
            "podSelector": {},
            "providers": [policies.LOCAL],
            "alerts": {"enabled": False},
        },
    }


def test_operator_serves_on_older_definition_and_names_what_it_lacks(bare, tmp_path):
    asked = helm.Helm(bare.kubeconfig)
    asked("install", "mine", str(release_before.of().chart), "-n", "mine", "--create-namespace")
    bare.wait_until_served(release_before.of().crd)
    bare("create", "namespace", "older")
    bare.apply(policy("older"))
    with skew.operator(tmp_path / "operator", bare.kubeconfig, None) as running:
        wait(
            lambda: bare("get", "embpol", "-n", "older", "-o", "jsonpath={.items[0].status}"),
            "a status",
            last=running.log,
        )
        name = names.document_configmap("search")
        assert bare.get("configmap", name, "-n", "older")["data"][names.DOCUMENT_KEY]
        counted = running.metrics()
        told = running.log()
    assert f'{METRIC}{{definition="{POLICIES}"}} 0.0' not in counted
    assert f'{METRIC}{{definition="{POLICIES}"}}' in counted
    assert "is older than this operator, which serves on; it lacks" in told
    assert "spec.quota.monthly" in told or "spec.providers[]" in told
    assert "Traceback" not in told


def test_definition_of_this_release_lacks_nothing_after_chart_upgrade(bare, tmp_path):
    """The chart brings the definitions; a policy of before stays as it was."""
    helm.Helm(bare.kubeconfig)("upgrade", "mine", str(CHART), "-n", "mine")
    with skew.operator(
        tmp_path / "operator", bare.kubeconfig, None, INSTALLATION="mine/mine"
    ) as running:
        counted = [it for it in running.metrics().splitlines() if it.startswith(METRIC)]
        told = running.log()
    assert len(counted) == 4
    assert {it.rpartition(" ")[2] for it in counted} == {"0.0"}
    assert "older than this operator" not in told


def test_second_release_says_whose_definitions_those_are(bare):
    asked = helm.Helm(bare.kubeconfig)
    with pytest.raises(helm.HelmError) as refused:
        asked("install", "second", str(CHART), "-n", "second", "--create-namespace")
    assert "belong to release mine in namespace mine" in refused.value.said
    assert "policies of this cluster" in refused.value.said
    asked("upgrade", "mine", str(CHART), "-n", "mine")  # the first one is upgraded as ever


def test_second_operator_stops_and_says_whose_policies_those_are(bare, tmp_path):
    (tmp_path / "operator").mkdir()
    second = operating.Operator(tmp_path / "operator", bare.kubeconfig, None)
    done = subprocess.run(
        second.program,
        env={**second.environment, "INSTALLATION": "second/mine"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert "belong to the installation mine in namespace mine" in done.stderr
    assert "second/mine, stops" in done.stderr


def test_definitions_that_were_kept_are_taken_over_by_another_release(bare):
    """C15: Helm refuses them until it is told to take them, as docs/install.md says."""
    asked = helm.Helm(bare.kubeconfig)
    asked("uninstall", "mine", "-n", "mine")
    install = ("install", "renamed", str(CHART), "-n", "renamed", "--create-namespace")
    with pytest.raises(helm.HelmError, match="invalid ownership metadata"):
        asked(*install)
    asked(*install, "--take-ownership")
    annotations = bare.get("crd", POLICIES)["metadata"]["annotations"]
    assert annotations[names.ANNOTATION_INSTALLATION] == "renamed/renamed"
    assert [it["metadata"]["name"] for it in bare.get("embpol", "-A")["items"]] == ["search"]


@pytest.mark.needs_kubernetes("1.30", "ValidatingAdmissionPolicy v1")
def test_uninstalled_chart_takes_authority_along_and_leaves_secrets(bare, tmp_path):
    """C15: no Secret with an authority's key stays; what policies own stays with them."""
    asked = helm.Helm(bare.kubeconfig)
    asked("uninstall", "renamed", "-n", "renamed")
    asked(
        *("install", charted.NAME, str(CHART), "-n", installation.SYSTEM_NAMESPACE),
        # The operators of the tests above had its account and its roles.
        *("--set", "crds.install=false", "--take-ownership", "--force-conflicts"),
    )
    running = charted.Operator(bare, tmp_path / "operator")
    running.start(INSTALLATION="")  # the definitions are still marked as the renamed one's
    held = ("secret", names.owned_secret("search"), "-n", "older")
    wait(lambda: bare(*("get", *held, "--ignore-not-found")), "the Secret", last=running.log)
    authority = ("secret", "embedding-operator-webhook", "-n", installation.SYSTEM_NAMESPACE)
    (owner,) = bare.get(*authority)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("ServiceAccount", charted.NAME)
    running.stop()
    asked("uninstall", charted.NAME, "-n", installation.SYSTEM_NAMESPACE)
    bare("wait", "--for=delete", *authority, "--timeout=60s")
    hooks = bare.get("mutatingwebhookconfigurations,validatingadmissionpolicies")["items"]
    assert [it["metadata"]["name"] for it in hooks if "embedding" in it["metadata"]["name"]] == []
    assert bare.get(*held)["data"]
    bare("delete", "namespace", "older", "--wait", "--timeout=30s")
