"""What an operator has made of a namespace, in a form that is equal for equal work.

Left out is what differs from run to run by intention: times, UIDs, versions, random values.
"""

import base64
import difflib
import json
import re
from collections.abc import Sequence
from typing import Any, Final

from embedding_contract import fingerprint, names
from embedding_operator.kube import kinds
from embedding_operator.kube.client import KubeClient

Object = dict[str, Any]
EndState = Sequence[str]
"""Objects and statuses, each as its kind, its name and indented JSON; in order."""

_OWNED: Final = tuple(it for it in kinds.KINDS.values() if it.namespaced)
_OF_USERS: Final = (kinds.POLICY, kinds.INDEX)
_MANAGED: Final = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
_CHANGING: Final = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "uid"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "time"),
    (re.compile(r'(?<="version": )\d+|(?<="versions": )"[^"]*"'), '"of Vault"'),
    (re.compile(r"(?<=embedding-index-articles-)[0-9a-f]{8}\b"), "run"),  # a hash of the UID
    (re.compile(r"\b10\.\d+\.\d+\.\d+\b"), "address"),
)
_RANDOM: Final = {
    names.SECRET_API_TOKEN: re.compile(r"[A-Za-z0-9_-]{32,}"),
    names.SECRET_CACHE_KEY: re.compile(r"[0-9a-f]{64}"),
}


def of(api: KubeClient, namespace: str) -> EndState:
    """All that the operator owns in a namespace, and what it says of policies and indexes."""
    found = [
        (kind, it["metadata"]["name"], _owned(kind, it))
        for kind in _OWNED
        for it in api.find(kind, namespace, selector=_MANAGED)
    ]
    documents = [
        fingerprint.of_document(value.encode())
        for kind, _, it in found
        if kind is kinds.CONFIG_MAP
        for value in it["data"].values()
    ]
    found += [
        (kind, it["metadata"]["name"], _status(it))
        for kind in _OF_USERS
        for it in api.find(kind, namespace)
    ]

    def normal(text: str) -> str:
        for form, word in _CHANGING:
            text = form.sub(word, text)
        for it in documents:
            text = text.replace(it, "the document's fingerprint")
        return text.replace(namespace, "NAMESPACE")

    return sorted(
        normal(f"{kind.plural}/{name} {json.dumps(it, sort_keys=True, indent=1)}")
        for kind, name, it in found
    )


def homes(api: KubeClient) -> set[str]:
    """The namespaces in which the operator owns anything."""
    return {
        it["metadata"]["namespace"] for kind in _OWNED for it in api.find(kind, selector=_MANAGED)
    }


def difference(found: EndState, wanted: EndState) -> str:
    """What is there in vain, and what is missing; empty for equal ones."""
    if found == wanted:
        return ""
    is_, should_be = ("\n".join(it).splitlines() for it in (found, wanted))
    return "\n".join(difflib.unified_diff(should_be, is_, "wanted", "found", lineterm=""))


def _owned(kind: kinds.Kind, found: Object) -> Object:
    metadata = found["metadata"]
    kept = {key: it for key, it in found.items() if key not in {"metadata", "status"}}
    kept |= {key: metadata.get(key) for key in ("labels", "annotations", "ownerReferences")}
    if kind is kinds.SECRET:
        kept["data"] = {key: _value(key, it) for key, it in (found.get("data") or {}).items()}
    return kept


def _value(key: str, encoded: str) -> str:
    """A value of a Secret; a random one of the right form by its name."""
    value = base64.b64decode(encoded).decode()
    form = _RANDOM.get(key)
    return f"random {key}" if form is not None and form.fullmatch(value) else value


def _status(found: Object) -> Object:
    """A status; generations are numbers of edits, and here only as new or old."""
    generation, status = found["metadata"]["generation"], found.get("status") or {}
    text = json.dumps(status).replace(
        f'"observedGeneration": {generation}', '"observedGeneration": "newest"'
    )
    made: Object = json.loads(text)
    return made
