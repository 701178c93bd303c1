"""The targets that an index claims, and the indexes that a policy's sidecars may search: pure.

Works on outlines (informers.index_objects), the only part of other indexes that is decoded.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from embedding_contract import document, index_document, names
from embedding_operator.errors import Problem

SEARCHED_LIMIT: Final = 256
"""The most indexes of a policy that its sidecars may search, the oldest: documents are bounded."""

Object = Mapping[str, Any]


def taken(index: Object, among: Iterable[Object]) -> Problem | None:
    """The problem of an index whose target belongs to an older one in the same database.

    Databases are the same if both indexes name the same key of the same Secret. The database itself
    finds other conflicts: its table embedding_target names the owner of each target.
    """
    mine, places = _age(index), _places(index)
    for other in among:
        if other["metadata"].get("uid") == index["metadata"].get("uid") or _is_going(other):
            continue
        both = sorted(places & _places(other))
        if both and _age(other) < mine:
            message = (
                f"EmbeddingIndex {other['metadata']['name']} is older and has the target"
                f" {both[0][-1]} of the same database; a target belongs to one index."
            )
            return Problem("TargetTaken", message)
    return None


def searchable(indexes: Sequence[Object]) -> tuple[document.Index, ...]:
    """The indexes that the policy's sidecars may search, by name."""
    found = [it for it in indexes if it["spec"]["search"].get("enabled") and not _is_going(it)]
    oldest = sorted(found, key=_age)[:SEARCHED_LIMIT]
    made = [
        document.Index(
            name=it["metadata"]["name"],
            uid=it["metadata"]["uid"],
            url=_url(it["metadata"]["namespace"], it["metadata"]["name"]),
        )
        for it in oldest
    ]
    return tuple(sorted(made, key=lambda it: it.name))


def _url(namespace: str, name: str) -> str:
    return f"http://{names.index_objects(name)}.{namespace}.svc:{names.VECTORS_PORT}"


def _places(index: Object) -> frozenset[tuple[str, str, str]]:
    """Secret and key of the database, and the name, of each target."""
    spec = index["spec"]
    reference, table = (spec.get("database") or {}).get("dsnSecretRef") or {}, spec.get("table", {})
    targets = [it for it in (spec.get("target"), spec.get("failoverTarget")) if it]
    return frozenset(
        (
            reference.get("name", ""),
            reference.get("key", ""),
            index_document.target_id(
                table.get("schema", ""),
                table.get("name", ""),
                column=it.get("column"),
                own_table=it.get("table"),
            ),
        )
        for it in targets
    )


def _age(index: Object) -> tuple[str, str]:
    metadata = index["metadata"]
    return metadata.get("creationTimestamp") or "", metadata["name"]


def _is_going(index: Object) -> bool:
    return bool(index["metadata"].get("deletionTimestamp"))
