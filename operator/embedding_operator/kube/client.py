"""The Kubernetes client: calls to the API server."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

import msgspec
import urllib3

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.kube import api_errors, bodies, deadline, fence, kinds
from embedding_operator.kube.kinds import Object
from embedding_operator.kube.transport import Transport

TIMEOUT_SECONDS: Final = (2.0, 10.0)  # to connect, for the whole call
PAGE: Final = 500
DISCOVERY_SECONDS: Final = 30.0
PROXIED_BYTES: Final = 4 * 1024 * 1024
PROXIED_SECONDS: Final = 10.0
_MERGE: Final = "application/merge-patch+json"
_STRATEGIC: Final = "application/strategic-merge-patch+json"  # finds a container by its name
_APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML
PROMETHEUSES_READ: Final = 100
_NO_LONGER: Final = "1"
"""A resourceVersion that no object has: etcd's revision before its first write."""
_ACCOUNT_PARTS: Final = 4  # system:serviceaccount:NAMESPACE:NAME


class KubeClient:
    """Calls to one API server. Every method raises errors.Denied or errors.Unavailable.

    `check` is called just before each write is sent, on its connection, and raises to forbid it.
    """

    def __init__(self, client: Any, *, check: fence.Check | None = None) -> None:
        self._transport = Transport(client, check=check)
        self._served: dict[kinds.Kind, tuple[float, bool]] = {}
        self._version: tuple[float, tuple[int, int]] | None = None
        self._written: dict[tuple[str, str | None, str], str] = {}

    def get(self, kind: kinds.Kind, namespace: str | None, name: str) -> Object | None:
        """An object; None where there is none, as there is none of a name that none may have."""
        if not kinds.is_name(name):
            return None
        status, body = self._call("GET", kind.path(namespace, name))
        return None if status == HTTPStatus.NOT_FOUND else body

    def find(
        self, kind: kinds.Kind, namespace: str | None = None, *, selector: str = ""
    ) -> list[Object]:
        """All objects of a kind, of one namespace or of all, in pages."""
        return list(self._pages(kind, namespace, selector))

    def prometheuses(self) -> list[Object]:
        """The first PROMETHEUSES_READ objects of each kind in PROMETHEUSES that is served."""
        limit = [("limit", str(PROMETHEUSES_READ))]
        return [
            item
            for kind in kinds.PROMETHEUSES
            if self.serves(kind)
            for item in self._found(
                self._call("GET", kind.path(None), query=limit), f"list {kind.plural}"
            )["items"]
        ]

    def namespace_labels(self, namespace: str) -> dict[str, str]:
        """The labels of a namespace; none where it is gone."""
        # By a list of one, as the role allows to list namespaces and not to get one.
        query = [("fieldSelector", f"metadata.name={namespace}")]
        _, page = self._call("GET", kinds.NAMESPACE.path(None), query=query)
        return next((dict(it["metadata"].get("labels") or {}) for it in page.get("items", ())), {})

    def apply(
        self, desired: Object, *, is_new: bool = False, manager: str = names.FIELD_MANAGER
    ) -> Object:
        """Server-side apply; the object afterwards.

        With `is_new` nothing is changed where there is one of the name already: errors.Conflict.
        """
        kind, namespace, name = _address(desired)
        query = [("fieldManager", manager), ("force", "false" if is_new else "true")]
        if is_new:
            metadata = {**desired["metadata"], "resourceVersion": _NO_LONGER}
            desired = {**desired, "metadata": metadata}
        return self._wrote(
            self._found(
                self._call(
                    "PATCH", kind.path(namespace, name), desired, query=query, content=_APPLY
                ),
                f"apply {kind.plural}",
            )
        )

    def create(self, kind: kinds.Kind, namespace: str | None, body: Object) -> Object:
        """Create an object; errors.Conflict where it exists."""
        return self._found(self._call("POST", kind.path(namespace), body), f"create {kind.plural}")

    def dry_run(self, kind: kinds.Kind, namespace: str | None, body: Object) -> Object:
        """Create an object without storing it: as it would be after admission.

        errors.Denied where the API server would refuse it.
        """
        query = [("dryRun", "All")]
        return self._found(
            self._call("POST", kind.path(namespace), body, query=query), f"create {kind.plural}"
        )

    def replace(self, kind: kinds.Kind, namespace: str | None, body: Object) -> Object:
        """Replace an object as it was read; errors.Conflict where it has changed since."""
        path = kind.path(namespace, body["metadata"]["name"])
        return self._found(self._call("PUT", path, body), f"update {kind.plural}")

    def remove_keys(self, desired: Object, keys: list[str]) -> Object:
        """Take foreign keys out of a ConfigMap's or a Secret's data."""
        kind, namespace, name = _address(desired)
        patch = {"data": dict.fromkeys(keys)}
        return self._wrote(
            self._found(
                self._call("PATCH", kind.path(namespace, name), patch, content=_MERGE),
                f"patch {kind.plural}",
            )
        )

    def is_echo(self, plural: str, namespace: str | None, name: str, *, version: str) -> bool:
        """True, once, if an object is as the last `apply` or `remove_keys` left it.

        `version` is its resourceVersion, compared for equality only.
        """
        return self._written.pop((plural, namespace, name), None) == version

    def delete(self, live: Object) -> None:
        """Delete an object as it was read; one that has gone is no error.

        errors.Conflict where it has changed since, or is another by now.
        """
        kind, namespace, name = _address(live)
        seen = {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
        # Background deletes a Job's pods too, which stay by default.
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": seen,
            "propagationPolicy": "Background",
        }
        self._call("DELETE", kind.path(namespace, name), body)

    def patch_status(
        self, namespace: str, name: str, patch: Object, *, kind: kinds.Kind = kinds.POLICY
    ) -> Object | None:
        """Merge into the status of a policy or an index; the object, None if it is gone."""
        path = kind.path(namespace, name, "status")
        status, body = self._call("PATCH", path, {"status": patch}, content=_MERGE)
        return None if status == HTTPStatus.NOT_FOUND else body

    def annotate(
        self, kind: kinds.Kind, namespace: str, name: str, annotations: Object
    ) -> Object | None:
        """Merge annotations into an object; None where there is none."""
        patch = {"metadata": {"annotations": annotations}}
        path = kind.path(namespace, name)
        status, body = self._call("PATCH", path, patch, content=_MERGE)
        return None if status == HTTPStatus.NOT_FOUND else body

    def annotate_template(
        self, kind: kinds.Kind, namespace: str, name: str, annotations: Object, *, uid: str
    ) -> Object | None:
        """Merge annotations into a workload's pod template, which replaces its pods; None if gone.

        The uid makes this fail for another workload of the name.
        """
        template = {"metadata": {"annotations": annotations}}
        patch = {"metadata": {"uid": uid}, "spec": {"template": template}}
        query = [("fieldManager", "kubectl-embedding")]
        path = kind.path(namespace, name)
        status, body = self._call("PATCH", path, patch, query=query, content=_MERGE)
        return None if status == HTTPStatus.NOT_FOUND else body

    def nudge(self, namespace: str, pod: str, value: str) -> None:
        """Make kubelet sync a pod's volumes now, by an annotation through pods/status."""
        patch = {"metadata": {"annotations": {names.ANNOTATION_NUDGE: value}}}
        self._call("PATCH", kinds.POD.path(namespace, pod, "status"), patch, content=_MERGE)

    def resize(self, namespace: str, pod: str, resources: Object, *, uid: str) -> Object | None:
        """Change requests and limits of a pod's sidecar; the pod, None if it is gone.

        The uid makes this fail for another pod of the name.
        """
        container = {"name": names.CONTAINER, "resources": resources}
        patch = {"metadata": {"uid": uid}, "spec": {"initContainers": [container]}}
        path = kinds.POD.path(namespace, pod, "resize")
        status, body = self._call("PATCH", path, patch, content=_STRATEGIC)
        return None if status == HTTPStatus.NOT_FOUND else body

    def service_account_token(
        self, *, namespace: str, name: str, audience: str, seconds: int
    ) -> str | None:
        """A token of a ServiceAccount; None where there is no such account."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": seconds},
        }
        status, answer = self._call(
            "POST", kinds.SERVICE_ACCOUNT.path(namespace, name, "token"), body
        )
        return None if status == HTTPStatus.NOT_FOUND else str(answer["status"]["token"])

    @contextmanager
    def stream(
        self,
        kind: kinds.Kind,
        namespace: str | None = None,
        *,
        query: list[tuple[str, str]],
        accept: str,
        read_seconds: float,
    ) -> Iterator[bodies.Body]:
        """The body of a list or a watch in pieces of 64 KiB at most, as they come.

        `read_seconds` is the time-out of each read. The rest of an abandoned body is not read.
        Reason Expired: the API server no longer keeps the requested version;
        bodies.STREAM_TIMED_OUT: no byte came for `read_seconds`.
        """
        path = kind.path(namespace)
        timeout_seconds = (TIMEOUT_SECONDS[0], read_seconds)
        try:
            answer = self._transport.send(
                "GET", path, query=query, accept=accept, timeout_seconds=timeout_seconds
            )
        except urllib3.exceptions.HTTPError as error:
            raise api_errors.away(error) from error
        try:
            if answer.status != HTTPStatus.OK:
                raw = answer.read(bodies.PIECE_BYTES)
                raise api_errors.of(answer.status, raw, answer.headers, f"GET {path}")
            yield bodies.Body(answer)
        except urllib3.exceptions.ReadTimeoutError as error:
            silence = f"GET {path}: nothing was sent for {read_seconds:g} s"
            raise errors.Unavailable(silence, reason=bodies.STREAM_TIMED_OUT) from error
        except urllib3.exceptions.HTTPError as error:
            raise api_errors.away(error) from error
        finally:
            answer.close()

    def own_account(self) -> kinds.Account | None:
        """The ServiceAccount as which it calls; None if it calls as anything else."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        _, answer = self._call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
        user = answer.get("status", {}).get("userInfo", {})
        parts = str(user.get("username", "")).split(":")
        if parts[:2] != ["system", "serviceaccount"] or len(parts) != _ACCOUNT_PARTS:
            return None
        return kinds.Account(namespace=parts[2], name=parts[3], uid=str(user.get("uid", "")))

    def serves(self, kind: kinds.Kind) -> bool:
        """True if the API server serves a kind; cached for 30 s."""
        asked, known = self._served.get(kind, (float("-inf"), False))
        if time.monotonic() - asked > DISCOVERY_SECONDS:
            status, body = self._call("GET", f"/{kind.group}")
            resources = body.get("resources", []) if status == HTTPStatus.OK else []
            known = any(resource["name"] == kind.plural for resource in resources)
            self._served[kind] = (time.monotonic(), known)
        return known

    def version(self) -> tuple[int, int]:
        """Major and minor version of the API server; cached for 30 s."""
        if self._version is None or time.monotonic() - self._version[0] > DISCOVERY_SECONDS:
            _, body = self._call("GET", "/version")
            digits = "".join(filter(str.isdigit, body["minor"]))  # some servers say 29+
            self._version = (time.monotonic(), (int(body["major"]), int(digits)))
        return self._version[1]

    def proxied(
        self, kind: kinds.Kind, namespace: str, name: str, path: str, *, query: Mapping[str, str]
    ) -> bytes:
        """GET from a pod or a Service, `name` as `NAME:PORT`, through the API server's proxy.

        Raises:
            errors.Denied: the API server or the other end refuses.
            errors.Unavailable: the other end cannot be reached, sends more than 4 MiB, or takes
                longer than 10 s.
        """
        asked = f"{kind.path(namespace, name, 'proxy')}{path}"
        deadline = time.monotonic() + PROXIED_SECONDS
        body = b""
        try:
            answer = self._transport.send(
                "GET",
                asked,
                query=list(query.items()),
                accept="*/*",
                timeout_seconds=TIMEOUT_SECONDS,
            )
            for chunk in answer.stream(bodies.PIECE_BYTES, decode_content=True):
                body += chunk
                if len(body) > PROXIED_BYTES or time.monotonic() > deadline:
                    answer.close()
                    raise errors.Unavailable(f"GET {asked}: the answer is too long or too slow")
        except urllib3.exceptions.HTTPError as error:
            raise api_errors.away(error) from error
        if answer.status != HTTPStatus.OK:
            raise api_errors.of(answer.status, body, answer.headers, f"GET {asked}")
        return body

    def _pages(self, kind: kinds.Kind, namespace: str | None, selector: str) -> Iterator[Object]:
        token = ""
        while True:
            query = [("limit", str(PAGE)), ("labelSelector", selector), ("continue", token)]
            page = self._found(
                self._call("GET", kind.path(namespace), query=[q for q in query if q[1]]),
                f"list {kind.plural}",
            )
            yield from page["items"]
            token = page["metadata"].get("continue", "")
            if not token:
                return

    def _wrote(self, found: Object) -> Object:
        kind, namespace, name = _address(found)
        if kind in kinds.ECHOING:  # nothing would ever remove the note of another kind
            self._written[kind.plural, namespace, name] = found["metadata"]["resourceVersion"]
        return found

    @staticmethod
    def _found(answer: tuple[int, Object], what: str) -> Object:
        status, body = answer
        if status == HTTPStatus.NOT_FOUND:
            raise errors.Unavailable(f"{what}: not found", reason="NotFound")
        return body

    def _call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: list[tuple[str, str]] | None = None,
        content: str = "application/json",
    ) -> tuple[int, Object]:
        """Status and body of an answer that is 2xx or 404."""
        connect_seconds, call_seconds = map(deadline.bounded, TIMEOUT_SECONDS)
        ends_at = time.monotonic() + call_seconds
        try:
            response = self._transport.send(
                method,
                path,
                query=query or (),
                accept="application/json",
                content=content,
                body=body,
                timeout_seconds=(connect_seconds, call_seconds),
            )
            raw = bodies.whole(response, ends_at=ends_at)
        except urllib3.exceptions.HTTPError as error:
            raise api_errors.away(error) from error
        if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            return response.status, msgspec.json.decode(raw)
        if response.status == HTTPStatus.NOT_FOUND:
            return response.status, {}
        raise api_errors.of(response.status, raw, response.headers, f"{method} {path}")


def _address(desired: Object) -> tuple[kinds.Kind, str | None, str]:
    metadata = desired["metadata"]
    return kinds.KINDS[desired["kind"]], metadata.get("namespace"), metadata["name"]
