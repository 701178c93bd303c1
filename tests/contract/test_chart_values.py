"""The chart's values: what people expect of one, refused where it cannot work, all described."""

import json
import typing
from collections.abc import Iterator, Mapping

import pytest
import yaml

from embedding_operator import settings
from tests.contract.test_chart import (
    CHART,
    NAMESPACE,
    NAMESPACED,
    PROVIDED,
    VARIANTS,
    environment,
    one,
    operator_container,
    render,
)
from tests.parts import helm

NAMED = VARIANTS["as people name it"]
OPEN = frozenset(
    {
        "global",
        "affinity.nodeAffinity",
        "affinity.podAffinity",
        "affinity.podAntiAffinity",
        "extraVolumes[]",
        "extraVolumeMounts[]",
        "extraEnv[].valueFrom",
        "peers[].podSelector",
        "peers[].namespaceSelector",
        "peers[].ipBlock",
        "networkPolicy.egress[].ports[]",
    }
)
"""Objects of Kubernetes' own, and those that a parent chart shares: the API server judges them."""
NOT_IN_VALUES = frozenset({"global", "classes.podGuard.namespaceSelector.matchExpressions"})

Schema = dict[str, typing.Any]


def schema() -> Schema:
    found: Schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    return found


def values() -> dict[str, typing.Any]:
    found: dict[str, typing.Any] = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    return found


def resolved(node: Schema, whole: Schema) -> Schema:
    """A node with what it refers to."""
    made = dict(node)
    for part in (node, *node.get("allOf", ())):
        if "$ref" in part:
            made |= whole["definitions"][part["$ref"].rpartition("/")[2]]
    return made | {key: node[key] for key in ("description",) if key in node}


def described(node: Schema, whole: Schema, at: str = "") -> Iterator[tuple[str, Schema]]:
    """Each property with its path."""
    for name, inner in node.get("properties", {}).items():
        found = resolved(inner, whole)
        yield f"{at}{name}", found
        yield from described(found, whole, f"{at}{name}.")


def keys(found: Mapping[str, typing.Any], at: str = "") -> Iterator[str]:
    for name, inner in found.items():
        yield f"{at}{name}"
        if isinstance(inner, dict):
            yield from keys(inner, f"{at}{name}.")


def objects_of(node: Schema, at: str) -> Iterator[tuple[str, Schema]]:
    """Each object in a schema, by its path."""
    if node.get("type") == "object":
        yield at, node
    for name, inner in node.get("properties", {}).items():
        yield from objects_of(inner, f"{at}.{name}" if at else name)
    if "items" in node:
        yield from objects_of(node["items"], f"{at}[]")


def refusal(chosen: Mapping[str, typing.Any], *served: str) -> str:
    with pytest.raises(helm.HelmError) as refused:
        helm.Helm()(
            *("template", "embedding-operator", str(CHART), "-n", NAMESPACE, "-f", "-"),
            *(f"--api-versions={kind}" for kind in served),
            stdin=json.dumps(chosen),
        )
    return refused.value.said


# --- the schema


def test_each_value_is_described_in_schema_and_each_property_is_value():
    whole = schema()
    properties = dict(described(whole, whole))
    assert {path for path, it in properties.items() if not it.get("description")} == set()
    # Below a map, such as labels, keys are the user's.
    maps = tuple(
        f"{path}."
        for path, it in properties.items()
        if isinstance(it.get("additionalProperties"), dict)
    )
    given = {it for it in keys(values()) if not it.startswith(maps)}
    assert given - properties.keys() == set()
    open_ones = tuple(f"{it.removesuffix('[]')}" for it in OPEN)
    missing = properties.keys() - given - NOT_IN_VALUES
    assert {it for it in missing if not it.startswith(open_ones)} == set()


def test_every_object_of_schema_is_closed_or_kubernetes_own():
    whole = schema()
    found = dict(objects_of({**whole, "definitions": {}}, ""))
    for name, node in whole["definitions"].items():
        found |= dict(objects_of(node, name))
    open_ones = {path for path, it in found.items() if "additionalProperties" not in it}
    assert open_ones == OPEN
    assert not {path for path, it in found.items() if it.get("additionalProperties") is True}


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"enabled": False}, "condition: embedding-operator.enabled"),
        ({"mode": "namespaced", "webhook": PROVIDED}, "namespaces is needed by mode: namespaced"),
        ({"namespaces": ["shop"]}, "namespaces is for mode: namespaced"),
        ({"mode": "one"}, "/mode"),
        ({"mode": "namespaced", "namespaces": ["Shop"]}, "/namespaces/0"),
        ({"mode": "namespaced", "namespaces": ["shop"]}, "webhook.certificates: own cannot work"),
        (
            {**NAMESPACED, "rollouts": {"enabled": True, "namespaces": ["other"]}},
            "rollouts.namespaces names other",
        ),
        (
            {**NAMESPACED, "vectors": {"enabled": True, "namespaces": ["other"]}},
            "vectors.namespaces names other",
        ),
        (
            {"webhook": {"certificates": "certManager", "certificateSecret": "tls"}},
            "webhook.certificates: certManager needs cert-manager",
        ),
        ({"webhook": {"caBundle": "x"}}, "webhook.caBundle is for"),
        (
            {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}},
            "podMonitor.enabled and serviceMonitor.enabled",
        ),
        ({"metricsPort": 9443}, "webhook.port, metricsPort and healthPort must differ"),
        ({"webhook": {"port": 0}}, "/webhook/port"),
        ({"extraEnv": [{"name": "LOG_LEVEL", "value": "x"}]}, "LOG_LEVEL is set twice"),
        ({"extraEnv": [{"name": "A", "value": "x"}, {"name": "A"}]}, "A is set twice"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name is needed"),
        ({"image": {"digest": "sha256:1"}}, "/image/digest"),
        ({"imagePullSecrets": ["registry"]}, "/imagePullSecrets/0"),
        ({"uncoveredPods": {"action": "Audit"}}, "/uncoveredPods/action"),
        ({"fullnameOverride": "Name"}, "/fullnameOverride"),
        ({"tolerations": [{"operater": "Exists"}]}, "operater"),
        ({"networkPolicy": {"metricsFrom": [{"pods": {}}]}}, "pods"),
    ],
)
def test_pair_that_cannot_work_is_refused_by_name(chosen, said):
    assert said in refusal(chosen)


@pytest.mark.parametrize("enabled", [True, False])
def test_parent_chart_has_it_or_not_by_its_condition(tmp_path, enabled):
    dependency = {
        "name": CHART.name,
        "version": "0.1.0",
        "condition": f"{CHART.name}.enabled",
    }
    about = {"apiVersion": "v2", "name": "parent", "version": "1.0.0"}
    (tmp_path / "Chart.yaml").write_text(json.dumps({**about, "dependencies": [dependency]}))
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / CHART.name).symlink_to(CHART)
    given = {CHART.name: {"enabled": enabled}, "global": {"imageRegistry": "registry.example"}}
    text = helm.Helm()("template", "parent", str(tmp_path), "-f", "-", stdin=json.dumps(given))
    found = [it for it in yaml.safe_load_all(text) if it]
    assert [it["metadata"]["name"] for it in found if it["kind"] == "Deployment"] == (
        ["parent-embedding-operator"] if enabled else []
    )
    assert bool(found) == enabled


# --- names, labels, images


@pytest.fixture(scope="module")
def named():
    return render(NAMED)


def test_every_object_has_labels_and_annotations_of_all(named):
    (deployment,) = (it for it in named if it["kind"] == "Deployment")
    templates = [deployment["spec"]["template"]["metadata"]]
    for metadata in (*(it["metadata"] for it in named), *templates):
        assert metadata["labels"]["team"] == "platform"
        assert metadata["annotations"]["note"] == "here"
    for found in named:
        assert found["metadata"]["labels"]["app.kubernetes.io/name"] == "embeddings"


@pytest.mark.parametrize(
    ("release", "chosen", "name"),
    [
        ("embedding-operator", {}, "embedding-operator"),
        ("our-embedding-operator", {}, "our-embedding-operator"),
        ("shop", {}, "shop-embedding-operator"),
        ("shop", {"nameOverride": "embeddings"}, "shop-embeddings"),
        ("shop", {"fullnameOverride": "vectors"}, "vectors"),
    ],
)
def test_objects_are_named_as_people_expect(release, chosen, name):
    text = helm.Helm()("template", release, str(CHART), "-f", "-", stdin=json.dumps(chosen))
    found = [it for it in yaml.safe_load_all(text) if it]
    names = {it["metadata"]["name"] for it in found if it["kind"] != "CustomResourceDefinition"}
    assert {it for it in names if not it.startswith(name)} == set()
    assert one(found, "Deployment")["metadata"]["name"] == name


def test_image_is_named_by_tag_digest_or_both(named):
    assert operator_container(named)["image"] == (
        f"ghcr.io/agenticverz/embedding-operator@sha256:{'a' * 64}"
    )
    assert environment(named)["SIDECAR_IMAGE"] == (
        f"ghcr.io/agenticverz/embedding-sidecar:2@sha256:{'b' * 64}"
    )
    assert environment(render({}))["SIDECAR_IMAGE"] == "ghcr.io/agenticverz/embedding-sidecar:0.1.0"


def test_pull_secrets_reach_operators_pod_and_injected_pods(named):
    pod = one(named, "Deployment")["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    chosen = settings.read(environment(named))
    assert chosen.pull_secrets == chosen.vectors.pull_secrets == ("registry",)


# --- the pod


def test_token_is_mounted_by_volume_and_by_nothing_else(named):
    assert one(named, "ServiceAccount")["automountServiceAccountToken"] is False
    pod = one(named, "Deployment")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == "embedder"
    (mount,) = (
        it for it in operator_container(named)["volumeMounts"] if it["name"] == "api-access"
    )
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    (volume,) = (it for it in pod["volumes"] if it["name"] == "api-access")
    written = json.dumps(volume["projected"]["sources"])
    for path in ("token", "ca.crt", "namespace"):
        assert f'"path": "{path}"' in written


def test_ports_are_those_of_values_everywhere(named):
    container = operator_container(named)
    ports = {it["name"]: it["containerPort"] for it in container["ports"]}
    assert ports == {"webhook": 10250, "metrics": 19090, "health": 18081}
    chosen = settings.read(environment(named))
    assert chosen.webhook is not None
    assert (chosen.webhook.port, chosen.metrics_port, chosen.health_port) == (10250, 19090, 18081)
    rules = one(named, "NetworkPolicy")["spec"]["ingress"]
    assert {it["ports"][0]["port"] for it in rules} == set(ports)


def test_host_network_keeps_names_of_cluster():
    pod = one(render({"hostNetwork": True}), "Deployment")["spec"]["template"]["spec"]
    assert (pod["hostNetwork"], pod["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    assert "hostNetwork" not in one(render({}), "Deployment")["spec"]["template"]["spec"]


def test_extras_stand_beside_charts_own(named):
    assert environment(named)["TZ"] == "UTC"
    mounts = {it["name"] for it in operator_container(named)["volumeMounts"]}
    volumes = {it["name"] for it in one(named, "Deployment")["spec"]["template"]["spec"]["volumes"]}
    assert "more" in mounts & volumes


# --- network and monitoring


def test_network_policy_is_off_and_opens_egress_unless_said(named):
    assert not [it for it in render({}) if it["kind"] == "NetworkPolicy"]
    assert one(named, "NetworkPolicy")["spec"]["policyTypes"] == ["Ingress", "Egress"]
    plain = one(render({"networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"]
    assert plain["policyTypes"] == ["Ingress"]
    assert "egress" not in plain


def test_service_monitor_finds_its_service_and_port():
    found = render({"serviceMonitor": {"enabled": True, "labels": {"release": "stack"}}})
    monitor = one(found, "ServiceMonitor")
    service = one(found, "Service", "embedding-operator-metrics")
    assert monitor["metadata"]["labels"]["release"] == "stack"
    selector = monitor["spec"]["selector"]["matchLabels"]
    assert selector.items() <= service["metadata"]["labels"].items()
    webhook = one(found, "Service", "embedding-operator")
    assert not selector.items() <= webhook["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    labels = one(found, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


# --- mode namespaced


@pytest.mark.parametrize("name", ["of two namespaces", "of two namespaces with Vault and restarts"])
def test_namespaced_operator_has_rights_in_its_namespaces_alone(name):
    served = "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"
    found = render(VARIANTS[name], served)
    kinds = {it["kind"] for it in found if "namespace" not in it["metadata"]}
    assert kinds <= {"CustomResourceDefinition", "MutatingWebhookConfiguration"}
    bound = {
        it["metadata"]["namespace"]
        for it in found
        if it["kind"] == "RoleBinding" and it["metadata"]["name"].endswith("-policies")
    }
    assert bound == {"blog", "shop"}
    chosen = settings.read(environment(found) | {"VAULT_ADDR": "", "VAULT_GUARD_FILE": ""})
    assert chosen.watch_namespaces == ("blog", "shop")
    restarts = {"blog", "shop"} if "Vault" in name else set()
    assert chosen.rollout_namespaces == restarts


def test_namespaced_webhook_is_asked_about_watched_namespaces():
    (hook,) = one(render(NAMESPACED), "MutatingWebhookConfiguration")["webhooks"]
    (expression,) = hook["namespaceSelector"]["matchExpressions"]
    assert expression == {
        "key": "kubernetes.io/metadata.name",
        "operator": "In",
        "values": ["blog", "shop"],
    }


# --- helm test, Artifact Hub


def test_helm_test_asks_pods_own_sidecar_without_any_right():
    found = render(NAMED)
    pod = one(found, "Job")["spec"]["template"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod["spec"]
    (container,) = pod["spec"]["containers"]
    assert container["args"][0] == "test-sidecar"
    assert container["image"] == operator_container(found)["image"]
    policy = one(found, "EmbeddingPolicy")
    selector = policy["spec"]["podSelector"]["matchLabels"]
    assert selector.items() <= pod["metadata"]["labels"].items()
    assert container["args"][2] == policy["spec"]["providers"][0]["model"]
    space = one(found, "Namespace")["metadata"]
    assert space["name"] == policy["metadata"]["namespace"]
    assert space["labels"]["embedding.agenticverz.io/injection"] == "enabled"


def test_helm_test_runs_in_namespace_that_is_there_if_one_is_named():
    for chosen, name in (({"testNamespace": "shop"}, "shop"), (NAMESPACED, "blog")):
        found = render(chosen)
        assert "Namespace" not in {it["kind"] for it in found}
        for kind in ("EmbeddingPolicy", "Job"):
            assert one(found, kind)["metadata"]["namespace"] == name


@pytest.mark.parametrize(
    ("hosts", "host"),
    [([], "provider.invalid"), (["*.models.svc:8080"], "test.models.svc:8080")],
)
def test_helm_test_keeps_to_allowed_hosts(hosts, host):
    policy = one(render({"providers": {"allowedHosts": hosts}}), "EmbeddingPolicy")
    assert policy["spec"]["providers"][0]["baseURL"] == f"http://{host}/v1"


def test_artifact_hub_is_told_images_and_resources():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    told = {
        key: yaml.safe_load(chart["annotations"][f"artifacthub.io/{key}"])
        for key in ("images", "crds", "crdsExamples")
    }
    images = {it["image"] for it in told["images"]}
    given = values()
    repositories = [given[key]["repository"] for key in ("image", "sidecarImage")]
    repositories.append(given["vectors"]["image"]["repository"])
    assert images == {f"{it}:{chart['appVersion']}" for it in repositories}
    defined = {
        it["metadata"]["name"] for it in render({}) if it["kind"] == "CustomResourceDefinition"
    }
    assert {it["name"] for it in told["crds"]} == defined
    assert told["crdsExamples"][0]["kind"] == "EmbeddingPolicy"
