"""Walks of policies on a real API server under one operator, several at once, and their judgement.

A lane has two namespaces: in one the steps of a walk are applied, in the other its last step alone.
In the end both must hold the same.
"""

import base64
import difflib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

from embedding_contract import fingerprint, names
from embedding_operator import errors
from embedding_operator.kube import kinds
from tests.parts import policy_walks, reconciling, vault
from tests.parts.direct import MERGE
from tests.parts.policy_walks import Object, Step, Walk

PATIENCE_SECONDS: Final = 90.0
"""Three times the promise for a change to be in effect, on a machine with other work."""
SHRINKING_SECONDS: Final = 15.0
"""The same once a walk has failed: Hypothesis looks for the smallest form for 5 minutes."""
GIVEN: Final = {names.KIND: kinds.POLICY, names.INDEX_KIND: kinds.INDEX}
COMPARED: Final = (
    *GIVEN.values(),
    *(kind for kind in kinds.KINDS.values() if kind.namespaced),
)
_OF_TIME: Final = {
    *("uid", "resourceVersion", "generation", "observedGeneration", "creationTimestamp"),
    *("managedFields", "namespace", "lastTransitionTime", "clusterIP", "clusterIPs"),
}
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_REVISION: Final = "deployment.kubernetes.io/revision"
"""How often the pods of a Deployment have changed."""
_RUN: Final = re.compile(
    rf"(embedding-index-{policy_walks.INDEX})-[0-9a-z]{{6,10}}(-[0-9a-z]{{5}})?\b"
)
"""Names of an index's Job and pods: the first digests a document, the others end at random."""
_RANDOM: Final = {
    *(names.SECRET_API_TOKEN, names.SECRET_CACHE_KEY, names.SECRET_DOCUMENT_KEY),
    names.DOCUMENT_SIGNATURE,
}
"""Keys of a ConfigMap or a Secret whose values are made anew for each policy."""
_OTHERS: Final = {("configmaps", "kube-root-ca.crt"), ("secrets", policy_walks.SECRET)}
"""Objects of a namespace that are there without a policy."""


Found = tuple[kinds.Kind, Object]
"""An object, and its kind."""


class Judge:
    """The API server's word on what Hypothesis made; counts what it refuses."""

    NAMESPACE: Final = "default"
    """It has no policies, so that each may be created there without being stored."""

    def __init__(self, objects: reconciling.Administrator) -> None:
        self._objects = objects
        self.admitted = self.refused = 0

    def admits(self, made: Object) -> bool:
        """True if the API server would store this object."""
        text = json.dumps(made).replace(policy_walks.NAMESPACE, self.NAMESPACE)
        kind = GIVEN[made["kind"]]
        try:
            self._objects.dry_run(kind, self.NAMESPACE, json.loads(text))
        except errors.Denied:
            self.refused += 1
            return False
        self.admitted += 1
        return True


class Lane:
    """Two namespaces, and one walk after the other through them."""

    def __init__(self, kubeconfig: Path, *, name: str) -> None:
        self.objects = reconciling.connect(kubeconfig)
        self.walked = f"{name}-walk"
        self.fresh = f"{name}-anew"
        self.judge = Judge(self.objects)
        self.refused_ends = 0
        self._patience_seconds = PATIENCE_SECONDS

    @property
    def namespaces(self) -> tuple[str, str]:
        """Of the walk, and of its last step alone."""
        return self.walked, self.fresh

    def furnish(self, server: vault.Vault) -> None:
        """Make the namespaces, with the values that policies name."""
        values = {key: f"value-of-{key}-in-walks" for key in policy_walks.SECRET_KEYS}
        secret: Object = {"metadata": {"name": policy_walks.SECRET}, "stringData": values}
        for namespace in self.namespaces:
            enabled: Object = {names.LABEL_INJECTION: "enabled"}
            body: Object = {"metadata": {"name": namespace, "labels": enabled}}
            self.objects.create(kinds.NAMESPACE, None, body)
            self.objects.create(kinds.SECRET, namespace, secret)
            server.write(f"{namespace}/{policy_walks.SECRET}", **values)

    def walk(self, walk: Walk) -> None:
        """Walk it; AssertionError if the end is not that of its last step alone."""
        self._empty()
        *before, last = walk.steps
        self._apply(last, self.fresh)
        for step in before:
            self._apply(step, self.walked)
            if step.is_awaited:
                self._await_status(step, self.walked)
        self._apply(last, self.walked)
        for namespace in self.namespaces:
            self._await_status(last, namespace)
        self.refused_ends += self._is_refused()
        moved = policy_walks.moved_keys(walk)
        self._until(
            lambda: not self._difference(moved), "equal ends", last=lambda: self._difference(moved)
        )
        self._delete_given()
        self._until(
            lambda: not self._names_left(),
            "end of what belonged to a deleted policy",
            last=self._names_left,
        )

    def _await_status(self, step: Step, namespace: str) -> None:
        self._until(lambda: self._is_observed(step, namespace), "status of what was applied")

    def _apply(self, step: Step, namespace: str) -> None:
        wanted = step.objects(namespace)
        for it in wanted.values():
            self._send(it)
        for kind, where in GIVEN.items():
            if kind not in wanted:
                self._delete(where, namespace)

    def _send(self, wanted: Object) -> None:
        """Create an object, or give it this spec."""
        kind, metadata = GIVEN[wanted["kind"]], wanted["metadata"]
        self._until(lambda: self._is_sent(kind, metadata, wanted), "acceptance")

    def _is_sent(self, kind: kinds.Kind, metadata: Object, wanted: Object) -> bool:
        live = self.objects.get(kind, metadata["namespace"], metadata["name"])
        try:
            if live is None:
                self.objects.create(kind, metadata["namespace"], wanted)
            else:
                self.objects.replace(kind, metadata["namespace"], {**live, "spec": wanted["spec"]})
        except errors.Conflict:
            return False
        return True

    def _delete(self, kind: kinds.Kind, namespace: str) -> None:
        for live in self.objects.find(kind, namespace):
            self._remove(kind, live)

    def _remove(self, kind: kinds.Kind, live: Object) -> None:
        metadata = live["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"])
        body = {"propagationPolicy": "Background"}
        self.objects._call("DELETE", path, body)

    def _delete_given(self) -> None:
        for namespace in self.namespaces:
            for kind in GIVEN.values():
                self._delete(kind, namespace)

    def _empty(self) -> None:
        """Take away what an earlier walk has left, as one that failed does."""
        self._delete_given()

        def is_empty() -> bool:
            left = [it for namespace in self.namespaces for it in self._left(namespace)]
            for kind, live in left:
                self._remove(kind, live)
            return not left

        self._until(is_empty, "empty namespaces")

    def _left(self, namespace: str) -> list[Found]:
        return [
            (kind, it)
            for kind in COMPARED
            for it in self.objects.find(kind, namespace)
            if (kind.plural, it["metadata"]["name"]) not in _OTHERS
        ]

    def _names_left(self) -> str:
        left = [it for namespace in self.namespaces for it in self._left(namespace)]
        return "\n".join(f"{kind.plural}/{live['metadata']['name']}" for kind, live in left)

    def _is_observed(self, step: Step, namespace: str) -> bool:
        for kind, wanted in step.objects(namespace).items():
            live = self.objects.get(GIVEN[kind], namespace, wanted["metadata"]["name"])
            if live is None:
                return False
            seen = live.get("status", {}).get("observedGeneration")
            if seen != live["metadata"]["generation"]:
                return False
        return True

    def _difference(self, moved: frozenset[str]) -> str:
        """What the two namespaces hold, where it differs; empty where nothing does."""
        for namespace in self.namespaces:
            self._make_pods_ready(namespace)
        found = self._left(self.fresh)
        fresh = self._held(self.fresh, found)
        walked = self._held(self.walked, without_last_good(self._left(self.walked), found, moved))
        return "\n".join(difflib.unified_diff(fresh, walked, "fresh", "walked", lineterm="", n=2))

    def _make_pods_ready(self, namespace: str) -> None:
        """Say what kubelet would, of which a Deployment waits before it ends older pods."""
        ready: Object = {"conditions": [{"type": "Ready", "status": "True"}]}
        for pod in self.objects.find(kinds.POD, namespace):
            owner = pod["metadata"]["ownerReferences"][0]
            conditions = {it["type"]: it["status"] for it in pod["status"].get("conditions", ())}
            if owner["kind"] == "ReplicaSet" and conditions.get("Ready") != "True":
                path = kinds.POD.path(namespace, pod["metadata"]["name"], "status")
                self.objects._call("PATCH", path, {"status": ready}, content=MERGE)

    def _accepted(self, namespace: str) -> list[Object]:
        """The conditions by which the operator takes or refuses policy and index."""
        return [
            condition
            for kind in GIVEN.values()
            for live in self.objects.find(kind, namespace)
            for condition in live.get("status", {}).get("conditions", ())
            if condition["type"] == "Accepted"
        ]

    def _is_refused(self) -> bool:
        return any(it["status"] == "False" for it in self._accepted(self.fresh))

    def _held(self, namespace: str, left: list[Found]) -> list[str]:
        """All that a namespace holds.

        Where policy or index is refused it is the refusal alone: it keeps what its last good form
        has made, which a fresh one never had.
        """
        if self._is_refused():
            text: str = yaml.safe_dump(_without_times(self._accepted(namespace)))
            return text.replace(namespace, policy_walks.NAMESPACE).splitlines()
        text = yaml.safe_dump(sorted((settled(it, kind) for kind, it in left), key=_place))
        for kind, it in left:
            place = f"{kind.plural}/{it['metadata']['name']}"
            text = text.replace(it["metadata"]["uid"], f"UID of {place}")
            # A document has its namespace in it, and UIDs of indexes.
            documents = it["data"] if kind is kinds.CONFIG_MAP else {}
            for key, document in documents.items():
                found = fingerprint.of_document(document.encode())
                text = text.replace(found, f"fingerprint of {place}/{key}")
        text = _RUN.sub(r"\1-RUN", _TIME.sub("TIME", text))
        return text.replace(namespace, policy_walks.NAMESPACE).splitlines()

    def _until(
        self, check: Callable[[], Any], what: str, *, last: Callable[[], str] = lambda: ""
    ) -> None:
        patience_seconds = self._patience_seconds
        deadline = time.monotonic() + patience_seconds
        while not check():
            if time.monotonic() > deadline:
                self._patience_seconds = SHRINKING_SECONDS
                raise AssertionError(f"no {what} after {patience_seconds:g} s\n{last()}")
            time.sleep(0.1)


def without_last_good(
    walked: list[Found], fresh: list[Found], moved: frozenset[str]
) -> list[Found]:
    """Without the values that a fresh policy could not read, but for those that must not stay.

    Where a value cannot be read, the last good one stays (docs/secrets.md); those of keys in
    `moved` do not.
    """
    unread = any(
        condition["type"] == "SecretsSynced" and condition["status"] != "True"
        for kind, live in fresh
        if kind is kinds.POLICY
        for condition in live.get("status", {}).get("conditions", ())
    )
    if not unread:
        return walked
    known = {
        live["metadata"]["name"]: live.get("data") or {}
        for kind, live in fresh
        if kind is kinds.SECRET
    }
    kept = []
    for kind, live in walked:
        found = live
        if kind is kinds.SECRET:
            name = live["metadata"]["name"]
            if name not in known:
                continue
            data = live.get("data") or {}
            kept_keys = known[name].keys() | moved
            found = {**live, "data": {key: data[key] for key in data if key in kept_keys}}
        kept.append((kind, found))
    return kept


def settled(live: Object, kind: kinds.Kind) -> Object:
    """What of an object does not depend on when, how often and in which namespace it was made."""
    found: Object = _without_times({"kind": kind.plural, **live})
    (found["metadata"].get("annotations") or {}).pop(_REVISION, None)
    data = found.get("data") or {}
    if kind is kinds.SECRET:
        data = {key: base64.b64decode(it).decode("utf-8", "replace") for key, it in data.items()}
    if kind in (kinds.SECRET, kinds.CONFIG_MAP):
        found["data"] = data | dict.fromkeys(_RANDOM & data.keys(), "random")
    return found


def _without_times(it: Any) -> Any:
    if isinstance(it, dict):
        return {key: _without_times(inner) for key, inner in it.items() if key not in _OF_TIME}
    return [_without_times(inner) for inner in it] if isinstance(it, list) else it


def _place(found: Object) -> tuple[str, str]:
    return found["kind"], found["metadata"]["name"]
