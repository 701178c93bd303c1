"""The chart's roles are what the operator needs, no less and no more, by the API server's audit."""

import json
import os
import sys
from collections.abc import Iterator
from http import HTTPStatus

import pytest
import yaml

import cluster
from embedding_contract import names
from tests.parts import daemons, helm, operating, vault
from tests.parts.installation import ROOT, SYSTEM_NAMESPACE, wait
from tests.parts.kubectl import Kubectl, KubectlError

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

NAME = "embedding-operator"
USER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{NAME}"
SHOP = "shop"
MONITORING = "monitoring.coreos.com"

Grant = tuple[str, str, str]
"""API group, resource (and subresource), verb."""


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
    started = vault.Vault(tmp_path_factory.mktemp("vault"))
    started.start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def log(administrator, store, tmp_path_factory):
    """The audit log after a policy's whole life, with the operator in its ServiceAccount's name."""
    folder = tmp_path_factory.mktemp("operator")
    install(administrator, store)
    environment = environment_of(administrator, folder)
    processes = daemons.Daemons(folder)
    command = [sys.executable, "-m", "embedding_operator", "run"]
    said = processes.log("operator")
    ready = daemons.answers("127.0.0.1", int(environment["WEBHOOK_PORT"]))
    try:
        processes.start("operator", command, ready=ready, environment=environment)
        live(administrator, store, said)
    finally:
        processes.stop()
    return administrator.kubeconfig.parent / "log" / "audit.log"


def install(administrator, store):
    crds = cluster.artifact("prometheus-operator-crds")
    for plural in ("prometheusrules", "podmonitors"):
        administrator("apply", "--server-side", "-f", str(crds / f"{MONITORING}_{plural}.yaml"))
    values = {
        "vault": {
            "address": store.address,
            "allowInsecureHTTP": True,
            "pollSeconds": 1,
            "allowed": [{"namespace": SHOP, "mount": "secret", "path": "{{namespace}}/*"}],
        },
        "rollouts": {"enabled": True},
    }
    helm.Helm(administrator.kubeconfig)(
        *("install", NAME, str(ROOT / "charts" / NAME), "-n", SYSTEM_NAMESPACE),
        *("--create-namespace", "-f", "-"),
        stdin=json.dumps(values),
    )
    administrator.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{NAME}-webhook", "namespace": SYSTEM_NAMESPACE},
            "stringData": {"tls.crt": "spoiled", "tls.key": "spoiled"},
        }
    )


def environment_of(administrator, folder):
    """What the chart's Deployment gives the operator, but for what is elsewhere on this machine."""
    deployment = administrator.get("deployment", NAME, "-n", SYSTEM_NAMESPACE)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    guard = folder / "allowed.yaml"
    configmap = administrator.get("configmap", f"{NAME}-guard", "-n", SYSTEM_NAMESPACE)
    guard.write_text(configmap["data"]["allowed.yaml"], encoding="utf-8")
    webhook, health, metrics = operating.free_ports(3)
    return given | {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "KUBECONFIG": str(kubeconfig_of(administrator, folder)),
        "VAULT_GUARD_FILE": str(guard),
        "WEBHOOK_PORT": str(webhook),
        "HEALTH_PORT": str(health),
        "METRICS_PORT": str(metrics),
        "WEBHOOK_CERTIFICATE_DIRECTORY": str(folder / "certificate"),
        "RESYNC_SECONDS": "2",
    }


def kubeconfig_of(administrator, folder):
    """A kubeconfig of the chart's ServiceAccount."""
    token = administrator("create", "token", NAME, "-n", SYSTEM_NAMESPACE, "--duration=1h")
    config = yaml.safe_load(administrator.kubeconfig.read_text(encoding="utf-8"))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token.strip()}}]
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file


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


def live(administrator, store, said):
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
        wait(check, what, timeout_seconds=60, last=lambda: said.read_text(encoding="utf-8"))

    def secrets_synced():
        status = administrator.get("embpol", "search", "-n", SHOP).get("status", {})
        conditions = {it["type"]: it["status"] for it in status.get("conditions", [])}
        return conditions.get("SecretsSynced") == conditions.get("MonitoringApplied") == "True"

    seen(secrets_synced, "a synced policy")
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
    # A changed Secret restarts what reads it.
    kinds = ("Deployment", "StatefulSet", "DaemonSet")
    administrator.apply(*map(workload, kinds))
    store.write(f"{SHOP}/db", password="pw-2")

    def restarted(kind):
        found = administrator.get(kind, "app", "-n", SHOP)
        return names.ANNOTATION_SECRETS in str(found["spec"]["template"]["metadata"])

    seen(lambda: all(map(restarted, kinds)), "three restarts")
    # What the policy no longer wants goes.
    administrator.apply(policy(alerts={"enabled": False}, secrets=[]))
    seen(lambda: not administrator.get("prometheusrules", "-n", SHOP)["items"], "no rules any more")
    ours = ("secrets", "-n", SHOP, "-l", names.LABEL_POLICY)
    seen(lambda: len(administrator.get(*ours)["items"]) == 1, "no Secret of an entry taken out")
    # The spoiled certificate is made anew, and its authority told.
    listed = ("mutatingwebhookconfigurations", "-o", "yaml")
    seen(lambda: "caBundle" in administrator("get", *listed), "a trusted webhook")


def entries(log):
    lines = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    return [entry for entry in lines if entry["user"]["username"] == USER]


def grants(entry) -> set[Grant]:
    """What a request needed; server-side apply that creates needs that permission too."""
    about = entry["objectRef"]
    subresource = f"/{about['subresource']}" if "subresource" in about else ""
    verbs = {entry["verb"]}
    if entry["verb"] == "patch" and entry["responseStatus"]["code"] == HTTPStatus.CREATED:
        verbs.add("create")
    return {(about.get("apiGroup", ""), about["resource"] + subresource, verb) for verb in verbs}


def test_nothing_it_asked_for_was_refused(log):
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
        (NAME, SYSTEM_NAMESPACE, "no"),
    ],
)
def test_it_makes_tokens_of_the_accounts_that_are_for_it_only(
    log, administrator, account, namespace, allowed
):
    asked = ("auth", "can-i", "create", f"serviceaccounts/{account}", "--subresource=token")
    try:
        said = administrator(*asked, "-n", namespace, f"--as={USER}")
    except KubectlError as refused:
        said = refused.said
    assert said.strip().splitlines()[-1] == allowed


def test_nothing_it_may_do_goes_unused(log, administrator):
    used = {it for entry in entries(log) if "objectRef" in entry for it in grants(entry)}
    roles = [
        administrator.get("clusterrole", NAME),
        administrator.get("role", NAME, "-n", SYSTEM_NAMESPACE),
    ]
    granted = {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted - used == set()
