"""The chart: its manifests, its refusals, and that it fits the operator and the API server."""

import json
import typing
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from embedding_contract import built_in_alerts, names
from embedding_operator import settings
from embedding_operator.injection import admission_server, webhook
from embedding_operator.monitoring import endpoints
from tests.parts import helm, installation, shipped_roles

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "embedding-operator"
CRD = ROOT / "crds" / "embeddingpolicies.yaml"
INDEX_CRD = CRD.with_name("embeddingindexes.yaml")
CLASS_CRD = CRD.with_name("clusterembeddingproviders.yaml")
INJECTION_CRD = CRD.with_name("embeddinginjections.yaml")
NAMESPACE = "embedding-system"
RULE = {"namespace": "shop", "mount": "secret", "path": "{{namespace}}/*"}

CERT_MANAGER = "cert-manager.io/v1"
PROVIDED = {"certificates": "provided", "certificateSecret": "tls", "caBundle": "-----BEGIN-----"}
NAMESPACED = {"mode": "namespaced", "namespaces": ["blog", "shop"], "webhook": PROVIDED}

VARIANTS: dict[str, dict[str, typing.Any]] = {
    "as it comes": {},
    "demo": installation.values(),
    "vault by token": {
        "vault": {
            "address": "https://vault.example.com",
            "namespace": "team",
            "caConfigMap": "vault-ca",
            "auth": {"method": "token", "tokenSecret": "vault-token"},
            "allowed": [RULE],
        }
    },
    "vault by AppRole": {
        "vault": {
            "address": "http://vault:8200",
            "allowInsecureHTTP": True,
            "concurrency": 2,
            "auth": {"method": "approle", "mount": "operators", "appRoleSecret": "vault-approle"},
        }
    },
    "vault by more accounts": {
        "vault": {"address": "https://vault.example.com", "serviceAccounts": ["other"]}
    },
    "cert-manager": {"webhook": {"certificates": "certManager", "certificateSecret": "tls"}},
    "provided": {
        "webhook": {
            "certificates": "provided",
            "certificateSecret": "tls",
            "caBundle": "-----BEGIN CERTIFICATE-----",
        }
    },
    "asked by known clients": {"webhook": {"clientCA": {"configMap": "front-proxy-ca"}}},
    "asked by known clients of a Secret's": {"webhook": {"clientCA": {"secret": "front-proxy-ca"}}},
    "scheduled": {
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "podLabels": {"team": "platform"},
        "podAnnotations": {"note": "here"},
        "imagePullSecrets": [{"name": "registry"}],
    },
    "restarting": {"rollouts": {"enabled": True}},
    "with indexes": {"vectors": {"enabled": True, "namespaces": ["shop", "blog"]}},
    "behind a proxy": {
        "sidecar": {
            "proxy": {"https": "http://proxy.example:3128", "noProxy": ".corp"},
            "caConfigMap": "corporate",
            "policyNetwork": True,
        }
    },
    "traced": {"sidecar": {"otel": {"endpoint": "http://otel-collector.monitoring:4318"}}},
    "monitored": {
        "podMonitor": {"enabled": True, "labels": {"release": "stack"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "stack"}},
        "alerts": {"additional": True},
    },
    "restarting in two namespaces": {"rollouts": {"enabled": True, "namespaces": ["a", "b"]}},
    "providers guarded": {
        "providers": {
            "requireSecretLabel": True,
            "allowedHosts": ["api.openai.com", "*.models.svc:8080", "[2001:db8::7]:443"],
        }
    },
    "proved": {
        "monitoring": {
            "prometheus": [
                {"url": "http://prometheus.monitoring:9090"},
                {
                    "url": "https://mimir.example.com/prometheus",
                    "caConfigMap": "mimir-ca",
                    "basicAuthSecret": "mimir-login",
                    "headersSecret": "mimir-headers",
                },
            ],
            "alertmanager": [
                {
                    "url": "http://alertmanager.monitoring:9093",
                    "bearerSecret": "alertmanager-token",
                    "allowInsecureHTTP": True,
                }
            ],
            "maxBodyMiB": 32,
        }
    },
    "of two namespaces": NAMESPACED,
    "of two namespaces with Vault and restarts": {
        **NAMESPACED,
        "vault": {"address": "https://vault.example.com"},
        "rollouts": {"enabled": True},
    },
    "as people name it": {
        "nameOverride": "embeddings",
        "commonLabels": {"team": "platform"},
        "commonAnnotations": {"note": "here"},
        "serviceAccount": {"name": "embedder", "annotations": {"role": "arn"}},
        "image": {"digest": f"sha256:{'a' * 64}"},
        "sidecarImage": {"tag": "2", "digest": f"sha256:{'b' * 64}"},
        "imagePullSecrets": [{"name": "registry"}],
        "webhook": {"port": 10250},
        "metricsPort": 19090,
        "healthPort": 18081,
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        "networkPolicy": {
            "enabled": True,
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "egress": [{"ports": [{"port": 443}]}],
        },
        "uncoveredPods": {"action": "Deny"},
    },
    "watched": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "without the resource": {"crds": {"install": False}},
    "by webhook": {"injection": {"by": "webhook"}},
    "without dashboards": {"dashboards": {"enabled": False}},
    "dashboards for Grafana": {
        "dashboards": {
            "namespace": "monitoring",
            "labels": {"dashboards": "yes"},
            "folder": "Embeddings",
            "folderAnnotation": "k8s-sidecar-target-directory",
        }
    },
}


def render(values: Mapping[str, typing.Any], *served: str) -> list[dict[str, typing.Any]]:
    """The chart's objects, for a cluster that has these kinds besides its own."""
    text = helm.Helm()(
        *("template", "embedding-operator", str(CHART), "-n", NAMESPACE, "-f", "-"),
        *(f"--api-versions={kind}" for kind in (CERT_MANAGER, *served)),
        stdin=json.dumps(values),
    )
    return [found for found in yaml.safe_load_all(text) if found]


@pytest.fixture(scope="module")
def rendered():
    return {name: render(values) for name, values in VARIANTS.items()}


def one(objects, kind, name=None):
    (found,) = (
        o for o in objects if o["kind"] == kind and (name is None or o["metadata"]["name"] == name)
    )
    return found


def operator_container(objects):
    (container,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return container


def environment(objects):
    """What the chart says; what the pod says of itself is kopf's."""
    given = operator_container(objects)["env"]
    return {entry["name"]: entry["value"] for entry in given if "value" in entry}


# --- values


def test_lint_finds_nothing():
    helm.Helm()("lint", "--strict", "--quiet", str(CHART))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"vualt": {}}, "vualt"),
        ({"vault": {"adress": "x"}}, "adress"),
        ({"vault": {"address": "vault.example.com"}}, "/vault/address"),
        ({"vault": {"allowed": [{"namespace": "shop"}]}}, "/vault/allowed/0"),
        ({"vault": {"allowed": [RULE | {"capability": "write"}]}}, "capability"),
        ({"webhook": {"certificates": "none"}}, "/webhook/certificates"),
        ({"webhook": {"timeoutSeconds": 60}}, "/webhook/timeoutSeconds"),
        ({"logLevel": "loud"}, "/logLevel"),
        ({"replicas": 0}, "/replicas"),
        ({"leaderElection": {"enabled": False}}, "replicas: 2 needs leaderElection.enabled"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "/podDisruptionBudget/maxUnavailable"),
        ({"rollouts": {"namespaces": ["Shop"]}}, "/rollouts/namespaces/0"),
        ({"image": {"repository": ""}}, "/image/repository"),
        ({"vectors": {"enabled": True}}, "vectors.namespaces is needed"),
        ({"vectors": {"namespaces": ["*"]}}, "/vectors/namespaces/0"),
        ({"dashboards": {"folderAnnotation": ""}}, "/dashboards/folderAnnotation"),
        (
            {"vault": {"address": "https://v", "auth": {"method": "token"}}},
            "vault.auth.tokenSecret is needed",
        ),
        (
            {"vault": {"address": "https://v", "auth": {"method": "approle"}}},
            "vault.auth.appRoleSecret is needed",
        ),
        ({"vault": {"address": "http://v"}}, "set vault.allowInsecureHTTP"),
        ({"vault": {"concurrency": 0}}, "/vault/concurrency"),
        ({"providers": {"allowedHost": []}}, "allowedHost"),
        ({"providers": {"requireSecretLabel": "true"}}, "/providers/requireSecretLabel"),
        ({"providers": {"allowedHosts": "api.openai.com"}}, "/providers/allowedHosts"),
        ({"providers": {"allowedHosts": ["https://a.b"]}}, "/providers/allowedHosts/0"),
        ({"providers": {"allowedHosts": ["a.b", "*"]}}, "/providers/allowedHosts/1"),
        ({"providers": {"allowedHosts": ["a.b,c.d"]}}, "/providers/allowedHosts/0"),
        ({"webhook": {"certificates": "provided"}}, "webhook.caBundle is needed"),
        ({"webhook": {"clientCA": {"secret": "a", "configMap": "b"}}}, "not both"),
        ({"monitoring": {"prometheus": [{}]}}, "/monitoring/prometheus/0"),
        (
            {"monitoring": {"prometheus": [{"url": "prometheus:9090"}]}},
            "/monitoring/prometheus/0/url",
        ),
        ({"monitoring": {"prometheus": [{"url": "http://a", "token": "x"}]}}, "token"),
        ({"monitoring": {"maxBodyMiB": 0}}, "/monitoring/maxBodyMiB"),
        (
            {"monitoring": {"alertmanager": [{"url": "http://a", "bearerSecret": "s"}]}},
            "monitoring.alertmanager[0].url is http://",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(values, said):
    with pytest.raises(helm.HelmError) as refused:
        render(values)
    assert said in refused.value.said


# --- the operator's settings


class Noting(dict[str, str]):
    """An environment that notes what it is asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key: str, default: typing.Any = None) -> typing.Any:
        self.asked.add(key)
        return super().get(key, default)


def test_every_variable_of_chart_is_setting_and_every_setting_variable(rendered, tmp_path):
    guard = tmp_path / "guard.yaml"
    guard.write_text("", encoding="utf-8")
    known: set[str] = set()
    asked: set[str] = set()
    for name in (
        "vault by token",
        "vault by AppRole",
        "asked by known clients",
        "proved",
        "behind a proxy",
    ):
        given = environment(rendered[name])
        files = {key: str(guard) for key in ("VAULT_GUARD_FILE", "MONITORING_FILE") if key in given}
        noting = Noting(given | files)
        settings.read(noting)
        known |= given.keys()
        asked |= noting.asked
    assert asked == known


@pytest.mark.parametrize("name", VARIANTS)
def test_operator_starts_with_what_chart_gives_it(name, rendered, tmp_path):
    objects = rendered[name]
    for found in objects:
        for file, text in found["data"].items() if found["kind"] == "ConfigMap" else ():
            (tmp_path / file).write_text(text, encoding="utf-8")
    given = environment(objects)
    for file in {"VAULT_GUARD_FILE", "MONITORING_FILE"} & given.keys():
        given[file] = str(tmp_path / Path(given[file]).name)
    chosen = settings.read(given)
    configuration = one(objects, "MutatingWebhookConfiguration")
    service = one(objects, "Service")
    assert chosen.webhook is not None
    assert chosen.webhook.configuration == configuration["metadata"]["name"]
    assert chosen.webhook.service == service["metadata"]["name"]
    assert chosen.namespace == service["metadata"]["namespace"] == NAMESPACE
    values = VARIANTS[name].get("vault", {})
    if "VAULT_GUARD_FILE" in given:
        allowed = [(rule.namespace, rule.mount, rule.path) for rule in chosen.rules.rules]
        wanted = values.get("allowed", [])
        assert allowed == [(rule["namespace"], rule["mount"], rule["path"]) for rule in wanted]
    assert (chosen.vault is None) == (not values.get("address"))
    guarded = VARIANTS[name].get("providers", {})
    endpoint = VARIANTS[name].get("sidecar", {}).get("otel", {}).get("endpoint")
    assert chosen.sidecar_otel_endpoint == endpoint
    assert chosen.providers.require_secret_label == guarded.get("requireSecretLabel", False)
    listed = [str(entry) for entry in chosen.providers.allowed.entries]
    assert listed == guarded.get("allowedHosts", [])


@pytest.mark.parametrize("name", VARIANTS)
def test_every_file_that_setting_names_is_mounted(name, rendered):
    container = operator_container(rendered[name])
    mounts = tuple(f"{mount['mountPath']}/" for mount in container["volumeMounts"])
    paths = [value for value in environment(rendered[name]).values() if value.startswith("/")]
    assert paths
    for path in paths:
        assert f"{path}/".startswith(mounts), f"{path} is below no mount"
    volumes = one(rendered[name], "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {v["name"] for v in volumes}


def test_servers_of_monitoring_are_read_with_what_is_mounted_of_them(rendered, tmp_path):
    objects = rendered["proved"]
    written = one(objects, "ConfigMap", "embedding-operator-monitoring")["data"]["monitoring.yaml"]
    (tmp_path / "monitoring.yaml").write_text(written, encoding="utf-8")
    found = endpoints.load(tmp_path / "monitoring.yaml")
    plain, mimir = found.prometheus
    (alertmanager,) = found.alertmanager
    assert mimir.ca_file is not None
    assert alertmanager.bearer_file is not None
    assert plain == endpoints.Endpoint(url="http://prometheus.monitoring:9090")
    assert found.body_bytes == 32 * endpoints.MEBIBYTE
    container = operator_container(objects)
    folders = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {
        volume["name"]: volume
        for volume in one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]
    }
    for path, kind, name in (
        (mimir.ca_file.parent, "configMap", "mimir-ca"),
        (mimir.basic_directory, "secret", "mimir-login"),
        (mimir.headers_directory, "secret", "mimir-headers"),
        (alertmanager.bearer_file.parent, "secret", "alertmanager-token"),
    ):
        assert name in volumes[folders[str(path)]][kind].values()
    assert "embedding-operator-monitoring" not in {o["metadata"]["name"] for o in rendered["demo"]}


# --- the webhook


def test_webhook_fails_open_soon_and_asks_only_where_it_may_inject(rendered):
    (found,) = one(rendered["as it comes"], "MutatingWebhookConfiguration")["webhooks"]
    assert found["failurePolicy"] == "Ignore"
    assert found["timeoutSeconds"] >= admission_server.REQUEST_SECONDS
    assert found["namespaceSelector"] == {"matchLabels": {names.LABEL_INJECTION: "enabled"}}
    assert {
        "key": names.LABEL_INJECTION,
        "operator": "NotIn",
        "values": ["disabled"],
    } in found["objectSelector"]["matchExpressions"]
    assert found["reinvocationPolicy"] == "IfNeeded"
    assert found["clientConfig"]["service"]["path"] == f"/{webhook.HANDLER}"


@pytest.mark.parametrize("of", ["", " of a Secret's"])
def test_client_authority_is_mounted_where_operator_reads_it(rendered, of):
    objects = rendered[f"asked by known clients{of}"]
    file = Path(environment(objects)["WEBHOOK_CLIENT_CA"])
    mounts = {it["mountPath"] for it in operator_container(objects)["volumeMounts"]}
    assert str(file.parent) in mounts
    by_known, by_all = (
        settings.read(environment(it)).webhook for it in (objects, rendered["as it comes"])
    )
    assert by_known is not None
    assert by_all is not None
    assert (by_known.client_ca, by_all.client_ca) == (file, None)


def test_webhook_leads_through_service_to_operators_port(rendered):
    objects = rendered["as it comes"]
    client = one(objects, "MutatingWebhookConfiguration")["webhooks"][0]["clientConfig"]["service"]
    service = one(objects, "Service")
    (port,) = (port for port in service["spec"]["ports"] if port["port"] == client["port"])
    (target,) = (p for p in operator_container(objects)["ports"] if p["name"] == port["targetPort"])
    assert client["name"] == service["metadata"]["name"]
    assert str(target["containerPort"]) == environment(objects)["WEBHOOK_PORT"]
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


@pytest.mark.parametrize("name", ["as it comes", "cert-manager"])
def test_authority_is_left_to_keeper_of_certificate(name, rendered):
    (found,) = one(rendered[name], "MutatingWebhookConfiguration")["webhooks"]
    assert "caBundle" not in found["clientConfig"]


# --- permissions


def rules(objects):
    return [
        rule
        for role in objects
        if role["kind"] in {"Role", "ClusterRole"}
        for rule in role["rules"]
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_no_rule_is_wildcard(name, rendered):
    for rule in rules(rendered[name]):
        for part in ("apiGroups", "resources", "verbs"):
            assert "*" not in rule[part]


def granted(objects, resource):
    return [rule for rule in rules(objects) if resource in rule["resources"]]


def test_tokens_are_minted_for_named_accounts_only(rendered):
    (rule,) = granted(rendered["vault by more accounts"], "serviceaccounts/token")
    assert rule["resourceNames"] == ["embedding-vault", "other"]
    assert rule["verbs"] == ["create"]
    for name in ("as it comes", "vault by token", "vault by AppRole"):
        assert granted(rendered[name], "serviceaccounts/token") == []


def test_workloads_are_patched_only_where_administrator_says_so(rendered):
    def where(name):
        return [
            (role["kind"], role["metadata"].get("namespace"))
            for role in rendered[name]
            if role["kind"] in {"Role", "ClusterRole"} and granted([role], "deployments")
        ]

    assert where("as it comes") == []
    assert where("restarting") == [("ClusterRole", None)]
    assert where("restarting in two namespaces") == [("Role", "a"), ("Role", "b")]
    for name, told in (
        ("as it comes", ""),
        ("restarting", "*"),
        ("restarting in two namespaces", "a,b"),
    ):
        assert environment(rendered[name])["ROLLOUT_NAMESPACES"] == told
    (rule,) = granted(rendered["restarting"], "deployments")
    assert rule["verbs"] == ["list", "patch"]


def test_pods_of_indexes_are_run_only_where_administrator_names_it(rendered):
    def where(name):
        return [
            (role["kind"], role["metadata"].get("namespace"))
            for role in rendered[name]
            if role["kind"] in {"Role", "ClusterRole"} and granted([role], "jobs")
        ]

    assert where("as it comes") == []
    assert where("with indexes") == [("Role", "shop"), ("Role", "blog")]
    assert environment(rendered["as it comes"])["VECTORS_NAMESPACES"] == ""
    chosen = settings.read(environment(rendered["with indexes"])).vectors
    assert chosen.namespaces == {"shop", "blog"}
    assert chosen.image.startswith("ghcr.io/agenticverz/embedding-vectors:")
    bound = [
        (it["metadata"]["namespace"], it["roleRef"]["name"])
        for it in rendered["with indexes"]
        if it["kind"] == "RoleBinding" and it["metadata"]["namespace"] != NAMESPACE
    ]
    assert bound == [(it, "embedding-operator-vectors") for it in ("shop", "blog")]


def test_webhooks_configuration_is_changed_by_its_keeper_only(rendered):
    objects = rendered["as it comes"]
    (rule,) = granted(objects, "mutatingwebhookconfigurations")
    assert rule["resourceNames"] == [environment(objects)["WEBHOOK_CONFIGURATION"]]
    for name in ("cert-manager", "provided"):
        assert granted(rendered[name], "mutatingwebhookconfigurations") == []


def test_pods_can_be_nudged_and_not_changed(rendered):
    objects = rendered["as it comes"]
    assert [rule["verbs"] for rule in granted(objects, "pods/status")] == [["patch"]]
    for rule in granted(objects, "pods"):
        assert set(rule["verbs"]) <= {"get", "list", "watch"}


def test_people_get_policies_with_built_in_roles(rendered):
    labels = [
        role["metadata"]["labels"]
        for role in rendered["as it comes"]
        if role["kind"] == "ClusterRole"
    ]
    for rule in granted(rendered["as it comes"], "embeddingpolicies"):
        assert "embeddingindexes" in rule["resources"]
    for role in ("view", "edit", "admin"):
        key = f"rbac.authorization.k8s.io/aggregate-to-{role}"
        assert [found[key] for found in labels if key in found] == ["true"]


def test_only_cluster_administrators_write_platforms_providers(rendered):
    verbs = {
        verb
        for objects in rendered.values()
        for rule in granted(objects, "clusterembeddingproviders")
        for verb in rule["verbs"]
    }
    assert verbs == {"get", "list", "watch"}
    (status,) = granted(rendered["as it comes"], "clusterembeddingproviders/status")
    assert status["verbs"] == ["patch"]


# --- injection

SERVED = shipped_roles.INJECTS
BY_POLICY: list[dict[str, typing.Any]] = [
    {},
    {"injection": {"by": "policy"}},
    {"injection": {"by": "auto"}},
]
OF_WEBHOOK = {"MutatingWebhookConfiguration", "Service"}
OF_POLICY = {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}


@pytest.mark.parametrize("values", BY_POLICY, ids=str)
def test_server_that_can_inject_needs_no_webhook(values):
    objects = render(values, SERVED)
    kinds = {it["kind"] for it in objects}
    assert kinds >= OF_POLICY
    assert not kinds & OF_WEBHOOK
    chosen = settings.read(environment(objects))
    assert chosen.injects_by_policy
    assert chosen.webhook is None
    assert [it["name"] for it in operator_container(objects)["ports"]] == ["metrics", "health"]
    assert not granted(objects, "mutatingwebhookconfigurations")
    # Only their fields and owner are read.
    assert [it["verbs"] for it in granted(objects, "customresourcedefinitions")] == [["get"]]
    (rule,) = granted(objects, names.INJECTION_PLURAL)
    assert set(rule["verbs"]) == {"list", "watch", "create", "patch", "delete"}


@pytest.mark.parametrize("served", [(), (SERVED,)], ids=["older", "newer"])
def test_webhook_injects_where_it_is_chosen_or_server_cannot(served):
    objects = render({"injection": {"by": "webhook" if served else "auto"}}, *served)
    kinds = {it["kind"] for it in objects}
    assert kinds >= OF_WEBHOOK
    assert not kinds & OF_POLICY
    chosen = settings.read(environment(objects))
    assert not chosen.injects_by_policy
    assert chosen.webhook is not None
    assert not granted(objects, names.INJECTION_PLURAL)


def test_policy_on_server_without_it_is_refused_by_value_name():
    with pytest.raises(helm.HelmError, match=r"injection\.by: policy needs"):
        render({"injection": {"by": "policy"}})


def test_image_is_literal_of_policy_and_never_of_its_parameter():
    image = {"repository": "registry.example/a", "tag": "7"}
    found = one(render({"sidecarImage": image}, SERVED), "MutatingAdmissionPolicy")["spec"]
    variables = {it["name"]: it["expression"] for it in found["variables"]}
    assert variables["image"] == '"registry.example/a:7"'
    (mutation,) = found["mutations"]
    said = mutation["jsonPatch"]["expression"]
    assert '"image": dyn(variables.image)' in said
    assert '"args": dyn(["--document", ' in said
    assert found["failurePolicy"] == "Ignore"
    assert found["reinvocationPolicy"] == "IfNeeded"


def test_policy_selects_namespaces_and_pods_as_webhook_does():
    (hook,) = one(render({}), "MutatingWebhookConfiguration")["webhooks"]
    found = one(render({}, SERVED), "MutatingAdmissionPolicy")["spec"]["matchConstraints"]
    assert found["namespaceSelector"] == hook["namespaceSelector"]
    assert found["objectSelector"] == hook["objectSelector"]
    assert found["resourceRules"] == hook["rules"]


def test_no_role_for_people_has_injection_objects(rendered):
    for values in ({}, {"injection": {"by": "webhook"}}):
        for found in render(values, SERVED):
            labels = found["metadata"].get("labels") or {}
            if any("aggregate-to" in label for label in labels):
                assert names.INJECTION_PLURAL not in str(found["rules"])


# --- install, upgrade, uninstall


@pytest.mark.parametrize(
    "file", [CRD, INDEX_CRD, CLASS_CRD, INJECTION_CRD], ids=lambda file: file.stem
)
def test_resource_is_installed_as_it_is_and_kept(rendered, file):
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    name = written["metadata"]["name"]
    installed = one(rendered["as it comes"], "CustomResourceDefinition", name)
    assert installed["spec"] == written["spec"]
    assert installed["metadata"]["annotations"] == {
        "helm.sh/resource-policy": "keep",
        names.ANNOTATION_INSTALLATION: "embedding-system/embedding-operator",
    }
    kinds = {found["kind"] for found in rendered["without the resource"]}
    assert "CustomResourceDefinition" not in kinds


@pytest.mark.parametrize("name", VARIANTS)
def test_chart_has_no_hook_or_finalizer_that_blocks_uninstall(name, rendered):
    for found in rendered[name]:
        # Objects of `helm test` are made by it alone.
        hook = (found["metadata"].get("annotations") or {}).get("helm.sh/hook", "test")
        assert hook == "test"
        assert "finalizers" not in found["metadata"]


DASHBOARDS = "embedding-operator-dashboards"
GRAFANA_DASHBOARD = "grafana.integreatly.org/v1beta1/GrafanaDashboard"


def test_grafanas_sidecar_finds_both_dashboards(rendered):
    made = one(rendered["as it comes"], "ConfigMap", DASHBOARDS)
    assert made["metadata"]["namespace"] == NAMESPACE
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert "annotations" not in made["metadata"]
    files = (CHART / "files" / "dashboards").glob("*.json")
    assert made["data"] == {file.name: file.read_text() for file in files}


def test_dashboards_lie_where_and_in_folder_that_values_say(rendered):
    made = one(rendered["dashboards for Grafana"], "ConfigMap", DASHBOARDS)
    assert made["metadata"]["namespace"] == "monitoring"
    assert made["metadata"]["labels"]["dashboards"] == "yes"
    assert made["metadata"]["annotations"] == {"k8s-sidecar-target-directory": "Embeddings"}


def test_no_dashboard_is_made_where_none_is_wanted(rendered):
    names = {found["metadata"]["name"] for found in rendered["without dashboards"]}
    assert DASHBOARDS not in names


def test_grafana_operator_gets_its_own_kind_where_it_is_there(rendered):
    kinds = {found["kind"] for found in rendered["as it comes"]}
    assert "GrafanaDashboard" not in kinds
    served = render({"dashboards": {"folder": "Embeddings"}}, GRAFANA_DASHBOARD)
    made = [found for found in served if found["kind"] == "GrafanaDashboard"]
    assert [it["metadata"]["name"] for it in made] == [
        "embedding-operator-cost",
        "embedding-operator-operations",
    ]
    for found in made:
        assert found["spec"]["folder"] == "Embeddings"
        reference = found["spec"]["configMapRef"]
        data = one(served, "ConfigMap", reference["name"])["data"]
        assert json.loads(data[reference["key"]])["title"]


def test_changed_guard_restarts_operator(rendered):
    def annotations(values):
        return one(render(values), "Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert annotations({"vault": {"allowed": [RULE]}}) != annotations({})


def test_guards_of_providers_are_off_unless_set(rendered):
    given = environment(rendered["as it comes"])
    assert given["PROVIDERS_REQUIRE_SECRET_LABEL"] == "false"
    assert given["PROVIDERS_ALLOWED_HOSTS"] == ""


@pytest.mark.cluster
@pytest.mark.parametrize("name", VARIANTS)
def test_api_server_takes_every_object(name, rendered, api_server, namespace):
    """Those of other projects' kinds aside; the pod in a namespace that demands restricted."""
    objects = [o for o in rendered[name] if o["apiVersion"] != "monitoring.coreos.com/v1"]
    for found in objects:
        if "namespace" in found["metadata"]:
            found["metadata"]["namespace"] = namespace
    stream = yaml.safe_dump_all(objects)
    api_server(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=stream
    )
    api_server("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    account = {"name": "default", "namespace": namespace}
    api_server.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    template = one(objects, "Deployment")["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "operator", "namespace": namespace},
        "spec": {**template["spec"], "serviceAccountName": "default"},
    }
    api_server("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def test_alerts_about_operator_are_those_of_table(rendered):
    rule = one(rendered["monitored"], "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "stack"
    (group,) = rule["spec"]["groups"]
    assert [it["alert"] for it in group["rules"]] == [it.name for it in built_in_alerts.OPERATOR]
    assert [it["expr"] for it in group["rules"]] == [it.expr for it in built_in_alerts.OPERATOR]


def test_operator_series_keep_namespace_of_policy(rendered):
    monitor = one(rendered["monitored"], "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["honorLabels"] is True


def test_policies_add_alerts_only_where_chart_says_so(rendered):
    assert environment(rendered["monitored"])["ADDITIONAL_ALERTS"] == "true"
    assert environment(rendered["as it comes"])["ADDITIONAL_ALERTS"] == "false"
