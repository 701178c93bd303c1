"""Apply an owned object where it differs from the desired one; leave foreign objects alone."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.errors import Problem
from embedding_operator.kube import kinds, ownership, quantities
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.current_reads import CurrentReads
from embedding_operator.kube.kinds import Object
from embedding_operator.kube.ownership import Owner

DEFAULTED: Final = frozenset({"Deployment", "Service", "CronJob"})
"""Kinds with lists of objects in which the API server sets defaults."""
_GOING: Final = "{} is being deleted, and is made anew once its finalizers are gone"
QUANTITIES: Final = frozenset({"cpu", "memory"})


class ObjectApplier:
    """Applies the objects of all owners; `drifted` gets the kind of each one repaired."""

    def __init__(
        self, *, objects: KubeClient, reads: CurrentReads, drifted: Callable[[str], None]
    ) -> None:
        self._objects = objects
        self._reads = reads
        self._drifted = drifted
        self._applied: dict[tuple[str, str, str], dict[tuple[str, str], str]] = {}

    def ensure(
        self, owner: Owner, desired: Object, *, live: Object | None
    ) -> tuple[Object | None, Problem | None]:
        """Apply `desired` if `live`, as read, differs; the object afterwards, or the problem.

        Raises:
            errors.Conflict: `live` is None, and there is one of ours that no watch has shown.
        """
        name = desired["metadata"]["name"]
        if live is not None and not ownership.is_ours(live, owner):
            return None, _foreign(live)
        applied = self._applied.setdefault(_key(owner), {})
        digest = hashlib.sha256(msgspec.json.encode(desired, order="deterministic")).hexdigest()
        if live is None or not _is_as_desired(live, desired):
            has_drifted = applied.get((desired["kind"], name)) == digest
            try:
                live = self._write(desired, is_new=live is None)
            except errors.Conflict:
                hidden = self._reads.reveal(*_place(desired))
                if hidden is None:
                    raise
                if not ownership.is_ours(hidden, owner):
                    return None, _foreign(hidden)
                if hidden["metadata"].get("deletionTimestamp"):
                    return None, Problem("Refused", _GOING.format(name))
                raise  # what is to be written may depend on it
            except errors.Denied as error:
                # One object that the API server refuses must not block the others, or the status.
                return None, Problem(error.reason, str(error))
            if has_drifted:
                self._drifted(desired["kind"])
        applied[desired["kind"], name] = digest
        return live, None

    def ensure_read(self, owner: Owner, desired: Object) -> tuple[Object | None, Problem | None]:
        """Read the object, and ensure it."""
        live = self._reads.get_ours(*_place(desired))
        try:
            return self.ensure(owner, desired, live=live)
        except errors.Conflict:
            if live is not None:
                raise
            # Now it is read. A reconcile that ended for each hidden object would be overtaken by
            # the rounds, which have the next one begin with none revealed.
            return self.ensure(owner, desired, live=self._reads.get_ours(*_place(desired)))

    def _write(self, desired: Object, *, is_new: bool) -> Object:
        live = self._objects.apply(desired, is_new=is_new)
        foreign = sorted((live.get("data") or {}).keys() - desired.get("data", {}).keys())
        if foreign and "data" in desired:
            live = self._objects.remove_keys(desired, foreign)
        self._reads.wrote(live)
        return live

    def forget(self, kind: str, namespace: str, name: str) -> None:
        """An owner has gone."""
        self._applied.pop((kind, namespace, name), None)

    def remove(self, owner: Owner, unwanted: Object, *, is_hidden: bool = False) -> None:
        """Delete an object that the owner no longer wants, if it is there and ours.

        `is_hidden`: it may be there though no watch shows it, as somebody took its labels.
        """
        read = self._reads.reveal if is_hidden else self._reads.get_unwanted
        live = read(*_place(unwanted))
        if live is not None and ownership.is_ours(live, owner):
            self._objects.delete(live)
        applied = self._applied.get(_key(owner), {})
        applied.pop((unwanted["kind"], unwanted["metadata"]["name"]), None)


def _foreign(live: Object) -> Problem:
    message = (
        f"{live['kind']} {live['metadata']['name']} belongs to {ownership.owner_of(live)};"
        " the operator does not change it"
    )
    return Problem("ForeignObject", message)


def _place(found: Object) -> tuple[kinds.Kind, str, str]:
    metadata = found["metadata"]
    return kinds.KINDS[found["kind"]], metadata["namespace"], metadata["name"]


def _key(owner: Owner) -> tuple[str, str, str]:
    return owner.kind, owner.namespace, owner.name


def _is_as_desired(live: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """True if `live` has every desired field, no other data, and no label that was ours before."""
    if _no_longer_wanted(live["metadata"], desired["metadata"]):
        return False
    if "data" in desired and (live.get("data") or {}) != desired["data"]:
        return False
    return _contains(live, desired, filled=desired["kind"] in DEFAULTED)


def _no_longer_wanted(live: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """True if labels or annotations of an earlier apply of ours are not desired any more."""
    for entry in live.get("managedFields") or ():
        if (entry.get("manager"), entry.get("operation")) != (names.FIELD_MANAGER, "Apply"):
            continue
        ours = (entry.get("fieldsV1") or {}).get("f:metadata") or {}
        for kind in ("labels", "annotations"):
            held = {key.removeprefix("f:") for key in ours.get(f"f:{kind}") or {} if key != "."}
            if held - (desired.get(kind) or {}).keys():
                return True
    return False


def _contains(live: Any, desired: Any, *, filled: bool) -> bool:
    """True if `live` has every desired field. `filled`: the server sets defaults in lists too."""
    if isinstance(desired, Mapping) and isinstance(live, Mapping):
        return all(
            # Other owners may be there too, unless they control it.
            all(owner in live.get(key, []) for owner in value)
            if key == "ownerReferences"
            else key in live and _is_there(key, live[key], value, filled=filled)
            for key, value in desired.items()
        )
    if filled and isinstance(desired, list) and isinstance(live, list):
        return len(live) == len(desired) and all(
            _contains(one, other, filled=True) for one, other in zip(live, desired, strict=True)
        )
    return bool(live == desired)


def _is_there(key: str, live: Any, desired: Any, *, filled: bool) -> bool:
    if filled and key in QUANTITIES and not isinstance(desired, Mapping):
        # The server writes 1000m as 1.
        return quantities.amount(live) == quantities.amount(desired)
    return _contains(live, desired, filled=filled)
