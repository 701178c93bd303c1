"""The chart's roles are what the operator needs, no less and no more, by the API server's audit."""

import json
import os
from collections.abc import Iterator

import pytest
import yaml

from dev import cluster
from embedding_contract import names
from embedding_operator.injection import webhook_ca
from tests.parts import charted, helm, shipped_roles, vault
from tests.parts.indexes import CASES
from tests.parts.installation import ROOT, SYSTEM_NAMESPACE, wait
from tests.parts.kubectl import Kubectl, KubectlError

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.integration,
    pytest.mark.needs_kubernetes("1.36", "MutatingAdmissionPolicy v1"),
]

SHOP = "shop"
MONITORING = "monitoring.coreos.com"
MONITORING_PLURALS = (
    "prometheusrules",
    "podmonitors",
    "prometheuses",
    "prometheusagents",
    "thanosrulers",
)


@pytest.fixture(scope="module")
def administrator() -> Iterator[Kubectl]:
    """An API server of our own, whose audit log has nobody else's lines; with the chart on it."""
    cluster.down_stale()
    name = f"permissions-{os.getpid()}"
    up = cluster.up(form="control-plane", name=name, owner_pid=os.getpid())
    try:
        yield Kubectl(up.kubeconfig)
    finally:
        cluster.down(name)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with vault.running(tmp_path_factory.mktemp("vault")) as started:
        yield started


@pytest.fixture(scope="module")
def log(administrator, store, tmp_path_factory):
    """The audit log after a policy's whole life, with the operator in its ServiceAccount's name."""
    install(administrator, store)
    operator = charted.Operator(administrator, tmp_path_factory.mktemp("operator"))
    try:
        operator.start(RESYNC_SECONDS="2", LEADER_ELECTION="true")
        live(administrator, store, operator)
    finally:
        operator.stop()
    return administrator.kubeconfig.parent / "log" / "audit.log"


def install(administrator, store):
    # The chart's Roles are of namespaces that are there.
    administrator("create", "namespace", SHOP)
    crds = cluster.artifact("prometheus-operator-crds")
    for plural in MONITORING_PLURALS:
        administrator("apply", "--server-side", "-f", str(crds / f"{MONITORING}_{plural}.yaml"))
    values = {
        "vault": {
            "address": store.address,
            "allowInsecureHTTP": True,
            "pollSeconds": 1,
            "allowed": [{"namespace": SHOP, "mount": "secret", "path": "{{namespace}}/*"}],
        },
        "rollouts": {"enabled": True},
        "vectors": {"enabled": True, "namespaces": [SHOP]},
    }
    # The upgrade from the webhook, which stays for once: the rights of both ways.
    for by in ("webhook", "policy"):
        charted.install(administrator, {**values, "injection": {"by": by}})
    administrator.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{charted.NAME}-webhook", "namespace": SYSTEM_NAMESPACE},
            "stringData": {"tls.crt": "spoiled", "tls.key": "spoiled"},
        }
    )


def policy(**spec):
    reference = {"mount": "secret", "path": f"{SHOP}/keys", "key": "KEY"}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "search", "namespace": SHOP},
        "spec": {
            "podSelector": {},
            "vault": {"role": "reader"},
            "providers": [
                {
                    "name": "openai",
                    "type": "OpenAI",
                    "model": "text-embedding-3-small",
                    "apiKey": {"vault": reference},
                }
            ],
            "secrets": [{"name": "database", "vault": {"mount": "secret", "path": f"{SHOP}/db"}}],
            **spec,
        },
    }


def workload(kind):
    """One that reads the synced Secret from its environment."""
    container = {"name": "app", "image": "app:1", "envFrom": [{"secretRef": {"name": "database"}}]}
    labels = {"app": kind.lower()}
    annotations = {names.ANNOTATION_RESTART: "true"}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "app", "namespace": SHOP, "annotations": annotations},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def live(administrator, store, operator):
    """Each thing the operator may do, done; and seen to have its effect."""
    administrator.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": SHOP, "labels": {names.LABEL_INJECTION: "enabled"}},
        },
        *(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": name, "namespace": SHOP},
            }
            for name in ("default", "embedding-vault")
        ),
    )
    store.trust(administrator, namespace=SHOP)
    store.write(f"{SHOP}/keys", KEY="sk-1")
    store.write(f"{SHOP}/db", password="pw-1")
    administrator.apply(policy())

    def seen(check, what):
        wait(check, what, timeout_seconds=60, last=operator.log)

    def secrets_synced():
        status = administrator.get("embpol", "search", "-n", SHOP).get("status", {})
        conditions = {it["type"]: it["status"] for it in status.get("conditions", [])}
        return conditions.get("SecretsSynced") == conditions.get("MonitoringApplied") == "True"

    seen(secrets_synced, "a synced policy")
    # A ConfigMap that lost the label by which it is watched is read, and labelled again.
    document = ("configmap", names.document_configmap("search"), "-n", SHOP)
    administrator("label", *document, f"{names.LABEL_MANAGED_BY}-")
    seen(
        lambda: names.LABEL_MANAGED_BY in administrator.get(*document)["metadata"]["labels"],
        "a ConfigMap with its label",
    )
    # A pod with a sidecar that cannot be asked is nudged.
    pod = yaml.safe_load(
        (ROOT / "tests/contract/cases/pods/best-effort.out.yaml").read_text(encoding="utf-8")
    )
    administrator.apply(pod | {"metadata": pod["metadata"] | {"namespace": SHOP}})
    running = '{"status": {"phase": "Running", "podIP": "127.0.0.2"}}'
    name = pod["metadata"]["name"]
    administrator(
        "patch", "pod", name, "-n", SHOP, "--subresource=status", "--type=merge", "-p", running
    )
    seen(
        lambda: names.ANNOTATION_NUDGE in administrator("get", "pods", "-n", SHOP, "-o", "yaml"),
        "a nudge",
    )
    # Its running sidecar gets other resources.
    resources = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    administrator.apply(policy(sidecar={"resources": resources}))
    pods = ("pods", "-n", SHOP, "-o", "yaml")
    seen(lambda: "memory: 512Mi" in administrator("get", *pods), "a resized sidecar")
    # A changed Secret restarts what reads it.
    kinds = ("Deployment", "StatefulSet", "DaemonSet")
    administrator.apply(*map(workload, kinds))
    store.write(f"{SHOP}/db", password="pw-2")

    def restarted(kind):
        found = administrator.get(kind, "app", "-n", SHOP)
        return names.ANNOTATION_SECRETS in str(found["spec"]["template"]["metadata"])

    seen(lambda: all(map(restarted, kinds)), "three restarts")
    live_index(administrator, seen)
    live_class(administrator, seen)
    # What the policy no longer wants goes.
    administrator.apply(policy(alerts={"enabled": False}, secrets=[]))
    seen(lambda: not administrator.get("prometheusrules", "-n", SHOP)["items"], "no rules any more")
    ours = ("secrets", "-n", SHOP, "-l", names.LABEL_POLICY)
    seen(lambda: len(administrator.get(*ours)["items"]) == 1, "no Secret of an entry taken out")
    # The spoiled certificate is made anew, and its authority told.
    listed = ("mutatingwebhookconfigurations", "-o", "yaml")
    seen(lambda: "caBundle" in administrator("get", *listed), "a trusted webhook")
    # The API server injects no more where no policy is.
    administrator("delete", "embpol", "search", "-n", SHOP)
    injections = (names.INJECTION_PLURAL, "-n", SHOP)
    seen(lambda: not administrator.get(*injections)["items"], "no EmbeddingInjection any more")


def live_index(administrator, seen):
    """An index is filled, changed, searched no more."""
    raw = yaml.safe_load((CASES / "index-good/smallest.yaml").read_text(encoding="utf-8"))
    raw["metadata"] = {"name": "articles", "namespace": SHOP}
    raw["spec"]["target"] = {
        "model": "text-embedding-3-small",
        "dimensions": 1536,
        "column": "embedding",
    }
    name = names.index_objects("articles")

    def jobs():
        selector = f"{names.LABEL_INDEX}=articles"
        return administrator.get("jobs", "-n", SHOP, "-l", selector)["items"]

    administrator.apply(raw)
    seen(lambda: len(jobs()) == 1, "a Job")
    (first,) = jobs()
    raw["spec"] |= {"applyPlan": True, "search": {"enabled": False}}
    administrator.apply(raw)
    seen(
        lambda: [it["metadata"]["uid"] for it in jobs()] not in ([], [first["metadata"]["uid"]]),
        "a Job of the change",
    )
    listed = ("deployments,services", "-n", SHOP, "-o", "name")
    seen(lambda: name not in administrator("get", *listed), "no search any more")


def live_class(administrator, seen):
    """A provider of the platform says that its key is missing."""
    file = CASES / "class-good/smallest.yaml"
    administrator.apply(yaml.safe_load(file.read_text(encoding="utf-8")))

    def told():
        status = administrator.get("cembp", "openai").get("status", {})
        return any(it["reason"] == "SecretMissing" for it in status.get("conditions", []))

    seen(told, "a class without its key")


def entries(log):
    lines = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    return [entry for entry in lines if entry["user"]["username"] == charted.USER]


def test_operator_was_refused_no_request(log):
    refused = [
        (entry["verb"], entry["requestURI"])
        for entry in entries(log)
        if entry["responseStatus"]["code"] in {401, 403}
    ]
    assert refused == []


@pytest.mark.parametrize(
    ("account", "namespace", "allowed"),
    [
        ("embedding-vault", SHOP, "yes"),
        ("default", SHOP, "no"),
        ("embedding-vaults", SHOP, "no"),
        (charted.NAME, SYSTEM_NAMESPACE, "no"),
    ],
)
def test_operator_makes_tokens_of_its_own_accounts_only(
    log, administrator, account, namespace, allowed
):
    asked = ("auth", "can-i", "create", f"serviceaccounts/{account}", "--subresource=token")
    try:
        said = administrator(*asked, "-n", namespace, f"--as={charted.USER}")
    except KubectlError as refused:
        said = refused.said
    assert said.strip().splitlines()[-1] == allowed


def test_each_granted_right_is_used(log, administrator):
    used = {it for entry in entries(log) for it in shipped_roles.grants(entry)}
    given = [
        administrator.get("clusterrole", charted.NAME),
        administrator.get("role", charted.NAME, "-n", SYSTEM_NAMESPACE),
        administrator.get("role", f"{charted.NAME}-lease", "-n", SYSTEM_NAMESPACE),
        administrator.get("role", f"{charted.NAME}-vectors", "-n", SHOP),
    ]
    granted = {
        (group, resource, verb)
        for role in given
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted - used == shipped_roles.TO_ADOPT
    assert granted == shipped_roles.granted()


# --- who writes which field


def fields(found, at=()):
    """The leaves of a field manager's fieldsV1; the keys of list items are part of the path."""
    inner = {key: it for key, it in found.items() if key != "."}
    if not inner:
        yield at
    for key, it in inner.items():
        if not (at and at[-1].startswith("k:") and key in KEYS):  # each manager has the keys
            yield from fields(it, (*at, key))


KEYS = ("f:name", "f:key", "f:containerPort", "f:port", "f:protocol", "f:mountPath")
"""Fields by which items of a list are told apart."""


def managers(administrator, found):
    """The field managers of an object of the chart, with their fields."""
    where = found["metadata"].get("namespace")
    named = (found["kind"], found["metadata"]["name"], *(("-n", where) if where else ()))
    live = administrator.get(*named, "--show-managed-fields")
    return {
        it["manager"]: set(fields(it["fieldsV1"]))
        for it in live["metadata"]["managedFields"]
        if not it.get("subresource")
    }


def is_written(found, path):
    """True if an object of the chart has a value where a field manager's path leads."""
    for step in path:
        kind, _, named = step.partition(":")
        if kind == "k":
            wanted = json.loads(named).items()
            found = next((it for it in found if wanted <= it.items()), None)
        else:
            found = found.get(named)
        if found is None:
            return False
    return True


def test_chart_and_operator_write_no_field_both(log, administrator):
    """Helm 4 applies server-side, and would get a conflict; the operator's apply is forced."""
    manifest = helm.Helm(administrator.kubeconfig)(
        "get", "manifest", charted.NAME, "-n", SYSTEM_NAMESPACE
    )
    shared, writers = [], set()
    for found in (it for it in yaml.safe_load_all(manifest) if it):
        for name, written in managers(administrator, found).items():
            if name.startswith(names.FIELD_MANAGER):
                writers.add((found["kind"], name))
                shared += [(found["kind"], it) for it in written if is_written(found, it)]
    assert shared == []
    # What the operator does write there: it was not looked past.
    assert writers == {("MutatingWebhookConfiguration", webhook_ca.FIELD_MANAGER)}
