"""Tricks of a tenant who writes policies, pods without a sidecar and ConfigMaps, to read the key of
a ClusterEmbeddingProvider or to raise its ceiling: each fails, on a real API server.

The tenant has the Role `tenants.AUTHOR` and nothing else. No kubelet runs here: a pod that the API
server accepts would get its volumes, and the sidecar's are filled by `tenants.MountedPod`.
"""

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_contract import names, proof
from embedding_operator.kube import kinds
from embedding_operator.render import secrets
from tests.parts import helm, kubectl, reconciling, tenants

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.needs_kubernetes("1.30", "ValidatingAdmissionPolicy v1"),
]

CHART = Path(__file__).parents[2] / "charts" / "embedding-operator"
KEY = "sk-of-the-platform"
ADDRESS = "https://api.openai.com/v1"
EVIL = "https://evil.example/v1"
ENTRY = names.secret_class_key("openai")
OWNED = names.owned_secret("search")
DOCUMENT = names.document_configmap("search")
GUARDED = {"embedding.agenticverz.io/pod-guard": "enabled", "embedding": "allowed"}
CLASS: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.CLASS_KIND,
    "metadata": {"name": "openai"},
    "spec": {
        "type": "OpenAI",
        "apiKey": {"secretKeyRef": {"name": "openai", "key": "KEY"}},
        "models": [{"model": "text-embedding-3-small"}],
        "namespaceSelector": {"matchLabels": {"embedding": "allowed"}},
        "perPolicy": {"daily": {"requests": 100}},
        "redis": {"url": "redis://limits.platform.svc:6379/0"},
    },
}
APP = {"name": "app", "image": "registry.example/app:1"}


@pytest.fixture(scope="module")
def platform(api_server):
    """The operator's namespace with the key, and the chart's guard of pods."""
    rendered = helm.Helm()(
        "template",
        "eo",
        str(CHART),
        "--namespace",
        reconciling.SYSTEM,
        "--show-only",
        "templates/podguard.yaml",
        "--api-versions",
        "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy",
        "--set-string",
        "sidecarImage.repository=sidecar,sidecarImage.tag=1",
    )
    guard = [it for it in yaml.safe_load_all(rendered) if it]
    # Kept, as other files of the same server share it, and a deleted one would stay Terminating.
    api_server.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": reconciling.SYSTEM}}
    )
    write(api_server, "secret", "openai", reconciling.SYSTEM, {"KEY": KEY})
    api_server.apply(*guard)
    yield api_server
    for it in reversed(guard):
        api_server("delete", it["kind"], it["metadata"]["name"])
    api_server("delete", "secret", "openai", "-n", reconciling.SYSTEM)


class Shop:
    """A guarded namespace with a policy of the class, its tenant, and a pod with a sidecar."""

    def __init__(self, platform, namespace, folder):
        self.admin = platform
        self.namespace = namespace
        self.run = reconciling.Reconciling(reconciling.connect(platform.kubeconfig), namespace)
        labels = [f"{key}={value}" for key, value in GUARDED.items()]
        platform("label", "namespace", namespace, *labels)
        self.tenant = tenants.account(
            platform, folder, namespace=namespace, name="author", rules=tenants.AUTHOR
        )
        reconciling.wait_for_default_account(platform, namespace)
        platform.apply(CLASS)
        self.policy()
        self.pod = tenants.MountedPod(
            platform, folder / "pod", namespace=namespace, policy="search"
        ).sync()
        assert self.pod.sent(KEY) == {ADDRESS}

    def policy(self, *providers, name="search", **spec):
        """The tenant writes a policy, and the operator reconciles it."""
        self.tenant.apply(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {
                    "podSelector": {},
                    "providers": list(providers) or [{"ref": "openai"}],
                    **spec,
                },
            }
        )
        self.run(name)

    def platform_changes(self, **spec):
        self.admin.apply({**CLASS, "spec": {**CLASS["spec"], **spec}})
        self.run("search")

    def document(self):
        """The document as it stands, and its signature: anybody here may read both."""
        data = self.tenant.get("configmap", DOCUMENT, "-n", self.namespace)["data"]
        return json.loads(data[names.DOCUMENT_KEY]), data[names.DOCUMENT_SIGNATURE]

    def write(self, document, signature):
        """The tenant writes the ConfigMap of the document."""
        text = document if isinstance(document, str) else json.dumps(document)
        data = {names.DOCUMENT_KEY: text}
        if signature is not None:
            data[names.DOCUMENT_SIGNATURE] = signature
        write(self.tenant, "configmap", DOCUMENT, self.namespace, data)

    def fresh_pod(self, folder):
        """A sidecar that starts now, without a last good document."""
        return tenants.MountedPod(
            self.admin, folder, namespace=self.namespace, policy="search"
        ).sync()

    def condition(self, kind, name="search"):
        return self.run.condition(name, kind)["reason"]

    def held(self, name="search"):
        return secrets.decode(self.run.get(kinds.SECRET, names.owned_secret(name)))


def write(asked, kind, name, namespace, data):
    """Replace the data of a ConfigMap or a Secret."""
    is_secret = kind == "secret"
    values = {
        key: base64.b64encode(it.encode()).decode() if is_secret else it for key, it in data.items()
    }
    found = asked("get", kind, name, "-n", namespace, "--ignore-not-found", "-o", "name")
    made = {
        "apiVersion": "v1",
        "kind": "Secret" if is_secret else "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": values,
    }
    if found:
        body = json.dumps([{"op": "replace", "path": "/data", "value": values}])
        asked("patch", kind, name, "-n", namespace, "--type=json", "-p", body)
    else:
        asked("create", "-f", "-", stdin=json.dumps(made))


@pytest.fixture
def shop(platform, namespace, tmp_path):
    made = Shop(platform, namespace, tmp_path)
    yield made
    platform("delete", "embpol", "--all", "-n", namespace)
    platform("delete", "cembp", "--all")


# --- the Role is no more than the issue says


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "secret", OWNED),
        ("get", "secrets"),
        ("create", "token", "default"),
        ("patch", "secret", OWNED, "-p", "{}"),
        ("create", "role", "more", "--verb=get", "--resource=secrets"),
        ("get", "cembp"),
        ("label", "namespace", "default", "embedding=allowed"),
    ],
)
def test_tenant_may_not(shop, arguments):
    with pytest.raises(kubectl.KubectlError, match="orbidden"):
        shop.tenant(*arguments, "-n", shop.namespace)


@pytest.mark.parametrize("verb", ["exec", "attach", "portforward"])
def test_tenant_may_not_enter_pods(shop, verb):
    path = f"/api/v1/namespaces/{shop.namespace}/pods/any/{verb}"
    with pytest.raises(kubectl.KubectlError, match="orbidden"):
        shop.tenant("create", "--raw", path, "-f", "-", stdin="{}")


# --- tricks with ConfigMaps: the sidecar keeps the operator's last document


def _elsewhere(document):
    document["providers"][0]["baseURL"] = EVIL


def _through_a_proxy(document):
    document["network"] = {"httpsProxy": "http://evil.example:3128"}


def _one_more_provider(document):
    other = {**document["providers"][0], "name": "evil", "baseURL": EVIL}
    document["providers"].append(other)


def _no_ceiling(document):
    document["classes"] = []


def _higher_ceiling(document):
    document["classes"][0]["quota"]["daily"]["requests"] = 10**9


def _nothing_required(document):
    document["requires"] = []
    document["providers"][0]["baseURL"] = EVIL


def _key_as_redis_url(document):
    document["cache"]["redisURLFile"] = ENTRY


EDITS = [
    _elsewhere,
    _through_a_proxy,
    _one_more_provider,
    _no_ceiling,
    _higher_ceiling,
    _nothing_required,
    _key_as_redis_url,
]
SIGNATURES = {
    "kept": lambda document, kept: kept,
    "removed": lambda document, kept: None,
    "made with a key of the tenant": lambda document, kept: proof.sign_document(
        "k", json.dumps(document).encode()
    ),
    "made with no key": lambda document, kept: proof.sign_document(
        "", json.dumps(document).encode()
    ),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("signature", SIGNATURES)
def test_edited_document_is_not_obeyed(shop, tmp_path, edit, signature):
    document, kept = shop.document()
    edit(document)
    shop.write(document, SIGNATURES[signature](document, kept))
    shop.pod.sync()
    assert shop.pod.sent(KEY) == {ADDRESS}
    assert shop.pod.ceilings() == {"openai": 100}
    assert "signature" in shop.pod.rejected
    started = shop.fresh_pod(tmp_path / "fresh")
    assert started.loaded is None
    assert "signature" in started.rejected
    shop.run("search")
    assert shop.fresh_pod(tmp_path / "later").sent(KEY) == {ADDRESS}


def test_older_document_with_higher_ceiling_is_not_obeyed(shop, tmp_path):
    data = shop.tenant.get("configmap", DOCUMENT, "-n", shop.namespace)["data"]
    shop.platform_changes(perPolicy={"daily": {"requests": 5}})
    assert shop.pod.sync().ceilings() == {"openai": 5}
    write(shop.tenant, "configmap", DOCUMENT, shop.namespace, data)
    assert shop.pod.sync().ceilings() == {"openai": 5}
    assert shop.fresh_pod(tmp_path / "fresh").loaded is None


def test_older_document_with_older_address_is_not_obeyed(shop, tmp_path):
    data = shop.tenant.get("configmap", DOCUMENT, "-n", shop.namespace)["data"]
    shop.platform_changes(baseURL="https://new.example/v1")
    assert shop.pod.sync().sent(KEY) == {"https://new.example/v1"}
    write(shop.tenant, "configmap", DOCUMENT, shop.namespace, data)
    assert shop.pod.sync().sent(KEY) == {"https://new.example/v1"}
    assert shop.fresh_pod(tmp_path / "fresh").loaded is None


def test_document_of_another_policy_is_not_obeyed(shop, tmp_path):
    """The tenant's second policy has a signed document, too, and no ceiling of the first."""
    shop.policy({"ref": "openai"}, name="other", quota={"daily": {"requests": 7}})
    name = names.document_configmap("other")
    data = shop.tenant.get("configmap", name, "-n", shop.namespace)["data"]
    write(shop.tenant, "configmap", DOCUMENT, shop.namespace, data)
    assert shop.pod.sync().loaded.document.name == "search"
    assert shop.fresh_pod(tmp_path / "fresh").loaded is None


def test_configmap_that_tenant_made_is_not_obeyed(shop, tmp_path):
    document, kept = shop.document()
    _elsewhere(document)
    shop.tenant("delete", "configmap", DOCUMENT, "-n", shop.namespace)
    shop.write(document, kept)
    shop.run("search")
    assert shop.fresh_pod(tmp_path / "fresh").sent(KEY) <= {ADDRESS}
    assert shop.pod.sync().sent(KEY) == {ADDRESS}


def test_document_written_before_class_was_named_gets_no_key(shop, tmp_path):
    own = {"name": "own", "type": "OpenAICompatible", "model": "m", "baseURL": EVIL}
    document, _ = shop.document()
    shop.policy(own)
    waiting = shop.fresh_pod(tmp_path / "waiting")
    _elsewhere(document)
    document["requires"] = []
    shop.write(document, None)
    waiting.sync()
    assert ENTRY not in shop.held()
    shop.policy()  # the Secret gets the key
    shop.write(document, None)
    assert ENTRY in shop.held()
    assert waiting.sync().sent(KEY) == set()


# --- tricks with policies


@pytest.mark.parametrize(
    "entry",
    [
        {"ref": "openai", "baseURL": EVIL},
        {"ref": "openai", "apiKey": {"secretKeyRef": {"name": OWNED, "key": ENTRY}}},
        {"ref": "openai", "type": "OpenAICompatible"},
        {"ref": "openai", "pricePerMillionTokens": "0"},
        {"ref": "openai", "rate": {"requestsPerMinute": 10**6}},
    ],
)
def test_field_of_class_may_not_stand_beside_ref(shop, entry):
    with pytest.raises(kubectl.KubectlError, match=r"spec\.providers"):
        shop.policy(entry)
    assert shop.pod.sync().sent(KEY) == {ADDRESS}


def test_owned_secret_may_not_be_written_from_vault(shop):
    synced = {"name": OWNED, "vault": {"mount": "secret", "path": "shop/mine"}}
    with pytest.raises(kubectl.KubectlError, match="embedding-"):
        shop.policy({"ref": "openai"}, secrets=[synced])


SOURCE = {"secretKeyRef": {"name": OWNED, "key": ENTRY}}
READS = {
    "provider of the same policy": ("search", {"apiKey": SOURCE}, {}),
    "provider of another policy": ("other", {"apiKey": SOURCE}, {}),
    "cache of another policy": ("other", {}, {"cache": {"redis": SOURCE}}),
    "quota of another policy": ("other", {}, {"quota": {"redis": SOURCE}}),
}


@pytest.mark.parametrize("read", READS)
def test_owned_secret_is_no_source_of(shop, read):
    name, fields, spec = READS[read]
    own = {"name": "own", "type": "OpenAICompatible", "model": "m", "baseURL": EVIL, **fields}
    refs = [{"ref": "openai"}] if name == "search" else []
    shop.policy(*refs, own, name=name, failover={"acrossSpaces": True}, **spec)
    assert shop.condition("SecretsSynced", name) == "SecretOfOperator"
    held = shop.held(name)
    assert {key for key, it in held.items() if it == KEY.encode()} <= {ENTRY}
    assert (ENTRY in held) == (name == "search")


def test_proxy_of_tenant_is_refused(shop):
    shop.run.restart(network=reconciling.OPEN_NETWORK)
    proxy = {"network": {"proxy": {"https": "http://evil.example:3128"}}}
    shop.policy({"ref": "openai"}, sidecar=proxy)
    assert shop.condition("Accepted") == "NetworkNotAllowed"
    assert shop.pod.sync().sent(KEY) == {ADDRESS}


def test_policy_without_limits_has_those_of_class(shop):
    shop.policy({"ref": "openai"}, quota={"unlimited": True})
    assert shop.condition("Accepted") == "Accepted"
    assert shop.pod.sync().ceilings() == {"openai": 100}


def test_refused_policy_does_not_keep_higher_ceiling(shop, tmp_path):
    """The last good document stays in force; its ceiling is not the class's any more."""
    other = {"name": "own", "type": "OpenAICompatible", "model": "m", "baseURL": EVIL}
    shop.policy({"ref": "openai"}, other)
    assert shop.condition("Accepted") == "SpacesDiffer"
    assert shop.pod.sync().sent(KEY) == {ADDRESS}
    shop.platform_changes(perPolicy={"daily": {"requests": 5}})
    assert shop.pod.sync().sent(KEY) == set()
    assert shop.fresh_pod(tmp_path / "fresh").sent(KEY) == set()


def test_refused_policy_with_edited_document_keeps_no_key(shop):
    other = {"name": "own", "type": "OpenAICompatible", "model": "m", "baseURL": EVIL}
    shop.policy({"ref": "openai"}, other)
    document, kept = shop.document()
    _elsewhere(document)
    shop.write(document, kept)
    shop.run("search")
    assert ENTRY not in shop.held()
    assert shop.pod.sync().sent(KEY) == set()


# --- tricks with pods: the API server refuses them


def injected(**changes):
    """A pod as the webhook makes it, with changes of its spec."""
    made = reconciling.injected({"metadata": {}, "spec": {"containers": [APP]}}, policy="search")
    made["spec"].update(copy.deepcopy(changes))
    return made


def altered(**changes):
    """A pod as the webhook makes it, with changes of the sidecar."""
    made = injected()
    made["spec"]["initContainers"][0].update(copy.deepcopy(changes))
    return made


def mounting(volume, *, kind="containers"):
    """A pod without a sidecar whose container mounts a volume."""
    container = {**APP, "volumeMounts": [{"name": volume["name"], "mountPath": "/stolen"}]}
    spec = {"containers": [APP], "volumes": [volume], kind: [{**container, "name": "thief"}]}
    return {"metadata": {}, "spec": spec}


def reading(**fields):
    return {"metadata": {}, "spec": {"containers": [{**APP, **fields}]}}


def items(*keys):
    return {
        "secretName": OWNED,
        "items": [{"key": key, "path": path} for key, path in keys],
    }


def with_secret(**source):
    made = injected()
    made["spec"]["volumes"][1]["secret"].update(source)
    return made


def mounted_beside(volume, path):
    """A pod as the webhook makes it, with one more volume, which the sidecar mounts."""
    made = injected()
    made["spec"]["volumes"].append(volume)
    made["spec"]["initContainers"][0]["volumeMounts"].append(
        {"name": volume["name"], "mountPath": path}
    )
    return made


SECRET = {"name": "s", "secret": {"secretName": OWNED}}
SIDECAR = injected()["spec"]["initContainers"][0]
CODE = {"name": "code", "configMap": {"name": "code"}}
EXEC = {"exec": {"command": ["cat", f"{names.SECRETS_DIRECTORY}/{ENTRY}"]}}
REFERENCE = {"name": OWNED, "key": ENTRY}
DRIVER = {"driver": "csi.evil.example", "nodePublishSecretRef": {"name": OWNED}}
APP_MOUNTS = {**APP, "volumeMounts": [{"name": names.VOLUME_SECRETS, "mountPath": "/stolen"}]}
PODS = {
    "a volume": mounting(SECRET),
    "a volume of an init container": mounting(SECRET, kind="initContainers"),
    "a volume of a Secret that is not there yet": mounting(
        {"name": "s", "secret": {"secretName": names.owned_secret("later"), "optional": True}}
    ),
    "a volume with the sidecar's name": mounting(
        {"name": names.VOLUME_SECRETS, "secret": {"secretName": OWNED}}
    ),
    "a projected volume": mounting(
        {"name": "s", "projected": {"sources": [{"secret": {"name": OWNED}}]}}
    ),
    "one key of the Secret": mounting({"name": "s", "secret": items((ENTRY, "k"))}),
    "the API token, and the key": mounting(
        {"name": "s", "secret": items(("api-token", "api-token"), (ENTRY, "k"))}
    ),
    "a volume's driver": mounting({"name": "s", "csi": DRIVER}),
    "a variable": reading(
        env=[{"name": "K", "valueFrom": {"secretKeyRef": REFERENCE}}],
    ),
    "all variables": reading(envFrom=[{"secretRef": {"name": OWNED}}]),
    "an application beside the sidecar": injected(containers=[APP_MOUNTS]),
    "a sidecar of another image": altered(image="registry.example/evil:1"),
    "a sidecar of another tag": altered(image="sidecar:0"),
    "a sidecar with a command": altered(command=["cat", names.SECRETS_DIRECTORY]),
    "a sidecar with other arguments": altered(args=["--document", "/tmp/evil.json"]),
    "a sidecar without arguments": altered(args=[]),
    "a sidecar with a hook": altered(lifecycle={"postStart": EXEC}),
    "a sidecar with another probe": altered(livenessProbe=EXEC),
    "a sidecar with a proxy": altered(env=[{"name": "HTTPS_PROXY", "value": "http://evil:1"}]),
    "a sidecar with Python's variables": altered(env=[{"name": "PYTHONPATH", "value": "/e"}]),
    "a sidecar that reads a ConfigMap": altered(envFrom=[{"configMapRef": {"name": "code"}}]),
    "a sidecar with a terminal": altered(stdin=True, tty=True),
    "a sidecar in another folder": altered(workingDir="/tmp"),
    "a sidecar with the key as its termination message": altered(
        terminationMessagePath=f"{names.SECRETS_DIRECTORY}/{ENTRY}"
    ),
    "a sidecar with code of the tenant": mounted_beside(CODE, "/usr/lib/python3.11"),
    "a sidecar with code of the tenant by a detour": mounted_beside(
        CODE, "/var/run/secrets/../../../usr/lib/python3.11"
    ),
    # A link to the key, made by the application, would be read as the token, and sent to Entra.
    "a sidecar with a folder of the application for its token": mounted_beside(
        {"name": names.VOLUME_IDENTITY, "emptyDir": {}}, names.IDENTITY_DIRECTORY
    ),
    "a sidecar with another volume for its token": mounted_beside(
        {"name": "folder", "emptyDir": {}}, names.IDENTITY_DIRECTORY
    ),
    "the key under the name of another": with_secret(**items((ENTRY, "provider-own"))),
    "a shared process namespace": injected(shareProcessNamespace=True),
    "the node's process namespace": injected(hostPID=True),
}


def create(asked, namespace, pod):
    made = copy.deepcopy(pod)
    made.update(apiVersion="v1", kind="Pod")
    made["metadata"].update(generateName="trick-", namespace=namespace)
    return json.loads(asked("create", "-f", "-", "-o", "json", stdin=json.dumps(made)))


@pytest.mark.parametrize("trick", PODS)
def test_pod_is_refused_with(shop, trick):
    with pytest.raises(kubectl.KubectlError, match=r"in this namespace|ValidatingAdmissionPolicy"):
        create(shop.tenant, shop.namespace, PODS[trick])


def test_pod_as_it_is_injected_is_accepted(shop):
    create(shop.tenant, shop.namespace, injected())


def test_pod_with_identity_is_accepted(shop):
    """As it is injected where a provider is called by the pod's identity."""
    sources = [{"serviceAccountToken": {"audience": names.AZURE_AUDIENCE, "path": "azure"}}]
    volume = {"name": names.VOLUME_IDENTITY, "projected": {"sources": sources}}
    create(shop.tenant, shop.namespace, mounted_beside(volume, names.IDENTITY_DIRECTORY))


def test_pod_with_other_secrets_is_accepted(shop):
    other = {"name": "s", "secret": {"secretName": "keys"}}
    create(shop.tenant, shop.namespace, mounting(other))


def test_pod_of_index_may_mount_api_token_alone(shop):
    token = {"name": "token", "secret": items(("api-token", "api-token"))}
    create(shop.tenant, shop.namespace, mounting(token))


def test_namespace_without_label_is_not_guarded(shop):
    other = f"{shop.namespace}-free"
    shop.admin("create", "namespace", other)
    reconciling.wait_for_default_account(shop.admin, other)
    create(shop.admin, other, PODS["a volume"])
    shop.admin("delete", "namespace", other, "--wait=false")


EPHEMERAL = {"image": "registry.example/evil:1", "name": "thief"}


@pytest.mark.parametrize(
    "container",
    [
        {**EPHEMERAL, "volumeMounts": [{"name": names.VOLUME_SECRETS, "mountPath": "/stolen"}]},
        {**EPHEMERAL, "targetContainerName": names.CONTAINER},
        {**EPHEMERAL, "env": [{"name": "K", "valueFrom": {"secretKeyRef": REFERENCE}}]},
    ],
)
def test_ephemeral_container_is_refused(shop, container):
    pod = create(shop.tenant, shop.namespace, injected())["metadata"]["name"]
    patch = json.dumps({"spec": {"ephemeralContainers": [container]}})
    asked = ("patch", "pod", pod, "-n", shop.namespace, "--subresource=ephemeralcontainers")
    with pytest.raises(kubectl.KubectlError, match="in this namespace"):
        shop.tenant(*asked, "-p", patch)
    plain = json.dumps({"spec": {"ephemeralContainers": [EPHEMERAL]}})
    shop.tenant(*asked, "-p", plain)


def test_image_of_running_sidecar_is_not_changed(shop):
    pod = create(shop.tenant, shop.namespace, injected())["metadata"]["name"]
    asked = ("patch", "pod", pod, "-n", shop.namespace, "-p")
    evil = {"spec": {"initContainers": [{"name": names.CONTAINER, "image": "evil:1"}]}}
    with pytest.raises(kubectl.KubectlError, match="may not be changed"):
        shop.tenant(*asked, json.dumps(evil))
    shop.tenant(*asked, json.dumps({"metadata": {"labels": {"app": "search"}}}))


# --- and what others can do, as docs/providers-cluster.md says


def test_reader_of_secrets_reads_key(shop, tmp_path):
    reader = tenants.account(
        shop.admin, tmp_path, namespace=shop.namespace, name="reader", rules=tenants.READER
    )
    data = reader.get("secret", OWNED, "-n", shop.namespace)["data"]
    assert base64.b64decode(data[ENTRY]).decode() == KEY


def test_writer_of_secrets_signs_what_it_likes(shop, tmp_path):
    """The right to write Secrets is the right to write documents."""
    document, _ = shop.document()
    _elsewhere(document)
    text = json.dumps(document)
    patch = {"data": {names.SECRET_DOCUMENT_KEY: base64.b64encode(b"k").decode()}}
    shop.admin("patch", "secret", OWNED, "-n", shop.namespace, "-p", json.dumps(patch))
    shop.write(text, proof.sign_document("k", text.encode()))
    assert shop.fresh_pod(tmp_path / "fresh").sent(KEY) == {EVIL}
