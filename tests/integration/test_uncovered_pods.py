"""The chart's ValidatingAdmissionPolicy for pods without their sidecar, on a real API server."""

import json
from typing import Any

import pytest
import yaml

from embedding_contract import names
from tests.parts import admitting, helm, policies, reconciling
from tests.parts.installation import ROOT, wait
from tests.parts.kubectl import Kubectl, KubectlError

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.integration,
    pytest.mark.needs_kubernetes("1.30", "ValidatingAdmissionPolicy v1"),
]

SERVED = "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"
SIDECAR = {**admitting.CONTAINER, "name": names.CONTAINER, "restartPolicy": "Always"}
SAID = "EmbeddingPolicy search selects this pod"

Object = dict[str, Any]


def rendered(action: str) -> list[Object]:
    text = helm.Helm()(
        *("template", "uncovered", str(ROOT / "charts" / "embedding-operator")),
        *("--show-only", "templates/uncovered.yaml", "--api-versions", SERVED),
        *("--set", f"uncoveredPods.action={action}"),
    )
    return [it for it in yaml.safe_load_all(text) if it]


@pytest.fixture(scope="module")
def guarded(api_server):
    """Pods without a sidecar are denied, in every enabled namespace of this server."""
    policy, binding = rendered("Deny")
    api_server.apply(policy, binding)
    yield api_server
    for it in (binding, policy):
        api_server("delete", it["kind"], it["metadata"]["name"])


@pytest.fixture
def shop(guarded, namespace):
    guarded("label", "namespace", namespace, f"{names.LABEL_INJECTION}=enabled")
    reconciling.wait_for_default_account(guarded, namespace)
    return namespace


def select(asked: Kubectl, namespace: str, selector: Object, name: str = "search") -> None:
    provider = policies.LOCAL
    asked.apply(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"podSelector": selector, "providers": [provider]},
        }
    )


def is_denied(asked: Kubectl, namespace: str, labels: Object | None = None, **spec: Any) -> bool:
    metadata = {"namespace": namespace, **({} if labels is None else {"labels": labels})}
    try:
        admitting.create(asked, namespace, metadata=metadata, options=("--dry-run=server",), **spec)
    except KubectlError as refused:
        if SAID not in refused.said:
            raise
        return True
    return False


def test_selected_pod_without_sidecar_is_denied_and_others_start(guarded, shop):
    assert not is_denied(guarded, shop, {"app": "search"})
    select(guarded, shop, {"matchLabels": {"app": "search"}})
    # The API server learns of a policy by a watch of its own.
    wait(lambda: is_denied(guarded, shop, {"app": "search"}), "a denied pod")
    assert not is_denied(guarded, shop, {"app": "search"}, initContainers=[SIDECAR])
    assert not is_denied(guarded, shop, {"app": "other"})
    assert not is_denied(guarded, shop)
    for skipped in (
        {"hostNetwork": True},
        {"os": {"name": "windows"}},
        {"nodeSelector": {"kubernetes.io/os": "windows"}},
    ):
        assert not is_denied(guarded, shop, {"app": "search"}, **skipped)
    opted_out = {"app": "search", names.LABEL_INJECTION: "disabled"}
    assert not is_denied(guarded, shop, opted_out)
    # It asks for another policy, and gets that one's sidecar or none.
    assert not is_denied(guarded, shop, {"app": "search", names.LABEL_POLICY: "other"})
    assert is_denied(guarded, shop, {"app": "search", names.LABEL_POLICY: "search"})
    index = {names.LABEL_INDEX: "articles", names.LABEL_POLICY: "search"}
    assert is_denied(guarded, shop, index)


@pytest.mark.parametrize(
    ("expression", "denied", "free"),
    [
        ({"operator": "In", "values": ["a", "b"]}, {"tier": "b"}, {"tier": "c"}),
        ({"operator": "NotIn", "values": ["a", "b"]}, {"tier": "c"}, {"tier": "a"}),
        ({"operator": "Exists"}, {"tier": ""}, {"other": "a"}),
        ({"operator": "DoesNotExist"}, {"other": "a"}, {"tier": "a"}),
    ],
)
def test_each_expression_selects_as_kubernetes_does(guarded, shop, expression, denied, free):
    select(guarded, shop, {"matchExpressions": [{"key": "tier", **expression}]})
    wait(lambda: is_denied(guarded, shop, denied), "a denied pod")
    assert not is_denied(guarded, shop, free)


def test_action_warns_by_default_and_can_be_off():
    _, binding = rendered("Warn")
    assert binding["spec"]["validationActions"] == ["Warn"]
    values = yaml.safe_load((ROOT / "charts/embedding-operator/values.yaml").read_text("utf-8"))
    assert values["uncoveredPods"] == {"action": "Warn"}
    whole = helm.Helm()(
        *("template", "x", str(ROOT / "charts" / "embedding-operator"), "-f", "-"),
        *("--api-versions", SERVED),
        stdin=json.dumps({"uncoveredPods": {"action": "Off"}}),
    )
    assert "x-embedding-operator-uncovered" not in whole
