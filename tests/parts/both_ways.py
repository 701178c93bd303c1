"""Injection by the policy of the chart and by the webhook, side by side on one API server.

The namespace's label `way` chooses: `policy`, `webhook`, `both` or none. Pods are created in a dry
run, so that nothing is left of them.
"""

import base64
import contextlib
import copy
import http.client
import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

from dev.cluster import certificates
from embedding_contract import names
from embedding_operator.injection import (
    embedding_injection,
    expressions,
    injector,
    namespace_bounds,
    selection,
    skipped_pods,
    webhook,
)
from tests.parts import direct, helm, kubectl, shipped_roles
from tests.parts.installation import ROOT

WAYS = ("policy", "webhook")
POLICIES = frozenset({"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"})
READY_SECONDS = 30
TOKEN = "kube-api-access-"
"""The volume of the account's token begins so."""
Object = Mapping[str, Any]


class Admission(direct.Direct):
    """Creates pods in dry runs, by one connection."""

    def create(self, namespace: str, pod: Object) -> dict[str, Any]:
        """The pod as it would be created.

        Raises:
            RefusedError: the API server refuses it.
        """
        return self.done("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)


def chart(values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The chart's objects for a server that has MutatingAdmissionPolicy."""
    text = helm.Helm()(
        *("template", "embedding-operator", str(ROOT / "charts" / "embedding-operator")),
        *("-n", "embedding-system", f"--api-versions={shipped_roles.INJECTS}", "-f", "-"),
        stdin=json.dumps(dict(values or {})),
    )
    return [found for found in yaml.safe_load_all(text) if found]


def policy_objects(image: str) -> list[dict[str, Any]]:
    """The chart's policy and its binding, for namespaces with a fitting label `way`."""
    repository, _, tag = image.rpartition(":")
    values = {"sidecarImage": {"repository": repository, "tag": tag}}
    found = [it for it in chart(values) if it["kind"] in POLICIES]
    selector = found[0]["spec"]["matchConstraints"]["namespaceSelector"]
    selector["matchExpressions"] = [_way("policy")]
    return found


def _way(way: str) -> dict[str, Any]:
    return {"key": "way", "operator": "In", "values": [way, "both"]}


def rules_alone(condition: str) -> list[dict[str, Any]]:
    """A policy of one match condition, which labels the pods that it lets through."""
    name = f"alone-{condition}"
    (expression,) = (it for it in expressions.match_conditions() if it["name"] == condition)
    found = policy_objects("x:1")
    for it in found:
        it["metadata"]["name"] = name
    policy, binding = found
    binding["spec"]["policyName"] = name
    policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"] = [
        {"key": "way", "operator": "In", "values": ["alone"]}
    ]
    policy["spec"]["matchConditions"] = [expression]
    policy["spec"]["variables"] = []
    added = (
        '(has(object.metadata.labels) ? [] : [JSONPatch{op: "add", path: "/metadata/labels",'
        f' value: {{}}}}]) + [JSONPatch{{op: "add", path: "/metadata/labels/{condition}",'
        ' value: "yes"}]'
    )
    policy["spec"]["mutations"][0]["jsonPatch"]["expression"] = added
    return found


def namespaces(name: str, way: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """A namespace of a way, and the account of its pods."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {**labels, "way": way}},
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": name},
        },
    ]


def injection(
    name: str,
    policies: Iterable[Object],
    *,
    sidecar: injector.Sidecar,
    within: namespace_bounds.Bounds = namespace_bounds.UNBOUNDED,
) -> dict[str, Any]:
    """The EmbeddingInjection that the operator would write in this namespace."""
    candidates = selection.candidates(policies)
    return embedding_injection.of(name, candidates, sidecar=sidecar, within=within)


class Webhook:
    """The operator's webhook, with policies that were never written to the API server.

    `sidecar` is that of namespaces that have none in `sidecars`.
    """

    def __init__(self, *, sidecar: injector.Sidecar, version: tuple[int, int] = (1, 37)) -> None:
        self.seen: dict[str, tuple[Object, Sequence[Object]]] = {}
        self.sidecars: dict[str, injector.Sidecar] = {}
        self.asked = 0
        self._version = version
        self._sidecar = sidecar

    # --- webhook.Seen

    def namespace(self, name: str) -> dict[str, Any] | None:
        """A namespace with its labels."""
        found = self.seen.get(name)
        return None if found is None else {"metadata": {"name": name, "labels": found[0]}}

    def policies_of(self, namespace: str) -> list[dict[str, Any]]:
        """The policies of a namespace."""
        return [dict(it) for it in self.seen.get(namespace, ({}, ()))[1]]

    def bounds_of(self, namespace: str) -> namespace_bounds.Bounds:
        """None: tests of LimitRanges write them to the API server."""
        _ = namespace
        return namespace_bounds.UNBOUNDED

    def server_version(self) -> tuple[int, int]:
        """The API server's."""
        return self._version

    # --- asked

    def review(self, review: dict[str, Any]) -> dict[str, Any]:
        """The AdmissionReview that answers one."""
        request = review["request"]
        self.asked += 1
        pod = request["object"]
        namespace = request["namespace"]
        hook = webhook.Webhook(
            seen=self,
            sidecar=self.sidecars.get(namespace, self._sidecar),
            tells=_Silent(),
            counts=_Uncounted(),
        )
        answer = hook.answer(pod, namespace=namespace, dry_run=True)
        patch = jsonpatch.make_patch(pod, answer.pod).to_string()
        response = {
            "uid": request["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(patch.encode()).decode(),
        }
        return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}

    def configuration(self, url: str, authority: bytes) -> dict[str, Any]:
        """Has the API server ask it about pods of namespaces with a fitting label `way`."""
        (found,) = (
            it
            for it in chart({"injection": {"by": "webhook"}})
            if it["kind"] == "MutatingWebhookConfiguration"
        )
        (hook,) = found["webhooks"]
        hook["clientConfig"] = {"url": url, "caBundle": base64.b64encode(authority).decode()}
        hook["namespaceSelector"]["matchExpressions"] = [_way("webhook")]
        return found

    @contextlib.contextmanager
    def served(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Serves; the configuration that leads there."""
        authority = certificates.Authority()
        authority.issue("webhook", hosts=["localhost", "127.0.0.1"]).write(folder, "webhook")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "webhook.crt", folder / "webhook.key")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_port}/inject"
        try:
            yield self.configuration(url, authority.pair.certificate)
        finally:
            server.shutdown()
            server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        answering = self.review

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = json.dumps(answering(json.loads(body))).encode()
                self.send_response(http.HTTPStatus.OK)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class _Silent(skipped_pods.SkippedPods):
    def __init__(self) -> None:
        pass

    def skipped(self, about: Object, *, pod: Object, reason: str, message: str) -> None:
        pass


class _Uncounted:
    def injected(self, *, result: str, reason: str) -> None:
        pass


def comparable(pod: Object) -> dict[str, Any]:
    """A created pod without what differs between two equal ones."""
    found: dict[str, Any] = copy.deepcopy(dict(pod))
    for unequal in ("uid", "creationTimestamp", "managedFields", "namespace", "name"):
        found["metadata"].pop(unequal, None)
    for named in _named_volumes(found["spec"]):
        if named["name"].startswith(TOKEN):
            named["name"] = TOKEN
    return found


def again(pod: Object) -> dict[str, Any]:
    """A created pod to be created once more: without the token that the API server mounts."""
    made = comparable(pod)
    spec = made["spec"]
    for container in (spec, *_containers(spec)):
        for kind in {"volumes", "volumeMounts"} & container.keys():
            container[kind] = [it for it in container[kind] if it["name"] != TOKEN]
    return {**made, "metadata": {**made["metadata"], "generateName": "again-"}}


def without_token(pod: Object) -> dict[str, Any]:
    """The spec of a created pod without the token, whose place differs."""
    spec: dict[str, Any] = again(pod)["spec"]
    return spec


def _containers(spec: Object) -> Iterator[dict[str, Any]]:
    yield from spec.get("initContainers", ())
    yield from spec["containers"]


def _named_volumes(spec: Object) -> Iterator[dict[str, Any]]:
    yield from spec.get("volumes", ())
    for container in _containers(spec):
        yield from container.get("volumeMounts", ())


def wait_until_injected(admission: Admission, namespace: str, pod: Object) -> None:
    """Until a pod that must be injected is: an API server learns of policies by watches."""
    deadline = time.monotonic() + READY_SECONDS
    while names.LABEL_INJECTED not in admission.create(namespace, pod)["metadata"].get(
        "labels", {}
    ):
        if time.monotonic() > deadline:
            raise AssertionError(f"no injection in {namespace} after {READY_SECONDS} s")
        time.sleep(0.1)


def apply(asked: kubectl.Kubectl, objects: Sequence[Object]) -> None:
    """Server-side apply, namespaces first."""
    first = [dict(it) for it in objects if it["kind"] == "Namespace"]
    asked.apply(*first, *(dict(it) for it in objects if it["kind"] != "Namespace"))
