"""Argo CD and Flux see no difference in what they applied once the operator has worked with it.

Both compare by a dry run of server-side apply (Argo CD's ServerSideDiff, Flux always), or by the
three-way diff of `kubectl diff` (Argo CD's default). docs/gitops.md says which rules follow: none.
"""

import os
from typing import Any

import pytest
import yaml

from dev import cluster
from embedding_contract import names
from tests.parts import charted, helm
from tests.parts.installation import ROOT, SYSTEM_NAMESPACE, wait
from tests.parts.kubectl import Kubectl, KubectlError

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

ARGO = "argocd-controller"
TRACKING = ("app.kubernetes.io/instance", "argocd.argoproj.io/tracking-id")
"""By these Argo CD knows what belongs to an Application, and prunes what is not in Git."""
SHOP = "shop"
MONITORING = ("prometheusrules", "podmonitors", "prometheuses", "prometheusagents", "thanosrulers")
POLICY: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "search", "namespace": SHOP},
    "spec": {
        "podSelector": {"matchLabels": {"app": "search"}},
        "secrets": [{"name": "database", "vault": {"mount": "secret", "path": "shop/db"}}],
        "providers": [
            {
                "name": "openai",
                "type": "OpenAI",
                "model": "text-embedding-3-small",
                "apiKey": {"secretKeyRef": {"name": "keys", "key": "OPENAI"}},
            }
        ],
    },
}
OWN = (
    {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": SHOP, "labels": {names.LABEL_INJECTION: "enabled"}},
    },
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "keys", "namespace": SHOP},
        "stringData": {"OPENAI": "a-key"},
    },
)


@pytest.fixture(scope="module")
def chart():
    """What both tools render of the chart; ServiceMonitors and the like are in it."""
    values = {
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "rollouts": {"enabled": True},
    }
    made: str = helm.Helm()(
        *("template", charted.NAME, str(ROOT / "charts" / charted.NAME), "-n", SYSTEM_NAMESPACE),
        *("--no-hooks", "--kube-version", "1.37", "-f", "-"),
        stdin=yaml.safe_dump(values),
    )
    return made


@pytest.fixture(scope="module")
def administrator(chart, tmp_path_factory):
    """A server with chart and policy applied from Git, on which the operator has done its work."""
    cluster.down_stale()
    name = f"gitops-{os.getpid()}"
    up = cluster.up(form="control-plane", name=name, owner_pid=os.getpid())
    asked = Kubectl(up.kubeconfig)
    operator = None
    try:
        crds = cluster.artifact("prometheus-operator-crds")
        for plural in MONITORING:
            file = crds / f"monitoring.coreos.com_{plural}.yaml"
            asked("apply", "--server-side", "-f", str(file))
        asked("create", "namespace", SYSTEM_NAMESPACE)
        apply(asked, chart)
        asked.apply(*OWN)
        for plural in (names.PLURAL, names.INDEX_PLURAL, names.CLASS_PLURAL):
            asked.wait_until_served(ROOT / "crds" / f"{plural}.yaml")
        apply(asked, yaml.safe_dump(POLICY))
        by_client = POLICY | {"metadata": {"name": "by-client", "namespace": SHOP}}
        by_client["spec"] = {
            **POLICY["spec"],
            "podSelector": {"matchLabels": {"app": "other"}},
            "secrets": [],
        }
        asked("apply", "-f", "-", stdin=yaml.safe_dump(by_client))
        operator = charted.Operator(asked, tmp_path_factory.mktemp("operator"))
        operator.start()
        wait(lambda: worked(asked), "the operator", last=lambda: asked("get", "embpol", "-A"))
        yield asked, by_client
    finally:
        if operator is not None:
            operator.stop()
        cluster.down(name)


def apply(asked, text):
    asked("apply", "--server-side", f"--field-manager={ARGO}", "-f", "-", stdin=text)


def diff(asked, text, *options):
    """What a dry run would change; KubectlError tells it."""
    asked("diff", *options, "-f", "-", stdin=text)


def worked(asked):
    hooks = asked("get", "mutatingwebhookconfigurations", "-o", "yaml")
    policies = asked.get("embpol", "-n", SHOP)["items"]
    return "caBundle" in hooks and all(
        it.get("status", {}).get("observedGeneration") == it["metadata"]["generation"]
        for it in policies
    )


def test_chart_shows_no_difference_after_operator_worked(administrator, chart):
    asked, _ = administrator
    diff(asked, chart, "--server-side", f"--field-manager={ARGO}")


def test_policy_shows_no_difference_after_operator_worked(administrator):
    asked, by_client = administrator
    diff(asked, yaml.safe_dump(POLICY), "--server-side", f"--field-manager={ARGO}")
    diff(asked, yaml.safe_dump(by_client))


def test_difference_would_be_seen(administrator, chart):
    asked, _ = administrator
    assert "pollSeconds" not in chart
    with pytest.raises(KubectlError, match="memory: 1Gi"):
        diff(
            asked,
            chart.replace("memory: 512Mi", "memory: 1Gi"),
            "--server-side",
            f"--field-manager={ARGO}",
        )


def test_applying_again_takes_nothing_from_operator(administrator, chart):
    """A sync of Argo CD, a reconcile of Flux: no conflict, and the webhook stays trusted."""
    asked, _ = administrator
    before = asked("get", "mutatingwebhookconfigurations", "-o", "yaml")
    apply(asked, chart)
    assert asked("get", "mutatingwebhookconfigurations", "-o", "yaml") == before


def test_no_object_of_operator_looks_as_if_git_had_it(administrator):
    """Argo CD deletes what carries the Application's label and is not in Git."""
    asked, _ = administrator
    ours = f"--selector={names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
    found = asked.get("configmaps,secrets,prometheusrules,podmonitors", "-A", ours)["items"]
    assert len(found) >= 4
    for it in found:
        marks = {**it["metadata"].get("labels", {}), **it["metadata"].get("annotations", {})}
        assert not marks.keys() & set(TRACKING)
        if it["metadata"]["namespace"] == SHOP:
            assert it["metadata"]["ownerReferences"][0]["kind"] == names.KIND
