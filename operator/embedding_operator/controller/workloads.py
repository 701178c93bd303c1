"""Decide whether a workload must be restarted, because Secrets that it reads have changed: pure.

A container gets its environment once, when it starts. When such a Secret changes, the pod template
of a workload that asks for it is annotated, and Kubernetes replaces the pods by the workload's own
strategy. An annotation of the workload itself, which restarts nothing, notes what its pods hold
(docs/decisions/012).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from embedding_contract import fingerprint, names

ALL: Final = "true"
"""The value of the annotation that means every synced Secret that the pod template reads."""
OFF: Final = "false"
CHANGED: Final = "changed"
"""Noted of a part that changed while restarts were not allowed. It equals no digest: pods may have
started meanwhile, with any content in between.
"""

Object = Mapping[str, Any]


class Part(NamedTuple):
    """A Secret, or one key of it."""

    secret: str
    key: str | None

    def __str__(self) -> str:
        return self.secret if self.key is None else f"{self.secret}/{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The fields to apply to a workload.

    `because` names the parts that changed; empty if no pod is to be replaced.
    """

    desired: dict[str, Any]
    because: tuple[str, ...]


def decide(
    workload: Object, held: Mapping[str, Object | None], *, may_restart: bool = True
) -> Change | None:
    """The change to make to a workload; None for none.

    `held` are the synced Secrets of the namespace by name, None for a missing one. Without
    `may_restart` only new parts are noted.
    """
    noted = _parse(_annotations(workload).get(names.ANNOTATION_SECRETS_SEEN, ""))
    may_restart = may_restart and not workload["spec"].get("paused")
    optional = _optional(workload)
    now: dict[str, str] = {}
    changed: list[str] = []
    for part in _parts(workload, held):
        name, digest = str(part), _digest(part, held[part.secret])
        before = noted.get(name)
        if before is None:
            now[name] = digest
        elif _is_change(before, digest, optional=part in optional):
            changed.append(name)
            now[name] = digest if may_restart else CHANGED
        else:
            now[name] = digest or before  # pods still hold a deleted one
    if now == noted:
        return None
    because = tuple(sorted(changed)) if may_restart else ()
    return Change(desired=_desired(workload, now, restart=bool(because)), because=because)


def asks(workload: Object, held: Mapping[str, Object | None]) -> bool:
    """True if a workload asks to be restarted for any of these Secrets."""
    return bool(_parts(workload, held))


def _is_change(before: str, digest: str, *, optional: bool) -> bool:
    """True if pods that started with `before` should be replaced.

    A deleted part is no reason, as new pods could not start. Nor is a new one: pods have been
    waiting for it, unless it is optional.
    """
    return bool(digest) and digest != before and (bool(before) or optional)


def _parts(workload: Object, held: Mapping[str, Object | None]) -> list[Part]:
    """The parts for which the workload asks to be restarted."""
    asked = _annotations(workload).get(names.ANNOTATION_RESTART, OFF).strip()
    if asked == OFF:
        return []
    if asked != ALL:
        named = dict.fromkeys(name.strip() for name in asked.split(","))
        return [Part(name, None) for name in named if name in held]
    read = dict.fromkeys(part for part, _ in _reads(workload) if part.secret in held)
    whole = {part.secret for part in read if part.key is None}
    return [part for part in read if part.key is None or part.secret not in whole]


def _optional(workload: Object) -> frozenset[Part]:
    """The parts that are optional everywhere."""
    needed = {part for part, optional in _reads(workload) if not optional}
    return frozenset(part for part, _ in _reads(workload)) - needed


def _reads(workload: Object) -> Iterator[tuple[Part, bool]]:
    """The parts of Secrets that the pod template reads, and whether each is optional.

    Without imagePullSecrets, which kubelet reads anew at each pull.
    """
    spec = workload["spec"]["template"]["spec"]
    for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        for source in container.get("envFrom") or ():
            if "secretRef" in source:
                yield _part(source["secretRef"], source["secretRef"].get("name"))
        for variable in container.get("env") or ():
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference:
                yield _part(reference, reference.get("name"), key=reference["key"])
    for volume in spec.get("volumes") or ():
        sources = [volume] if "secret" in volume else volume.get("projected", {}).get("sources", ())
        for source in sources or ():
            secret = source.get("secret")
            if secret:
                name = secret.get("secretName") or secret.get("name")
                for key in [item["key"] for item in secret.get("items") or ()] or [None]:
                    yield _part(secret, name, key=key)


def _part(reference: Object, name: str | None, *, key: str | None = None) -> tuple[Part, bool]:
    return Part(name or "", key), bool(reference.get("optional"))


def _digest(part: Part, secret: Object | None) -> str:
    """A digest of the content; empty without content.

    Keyed with the Secret's uid, which is random and readable only with the Secret: readers of the
    annotation cannot test guesses against the digest.
    """
    if secret is None:
        return ""
    data = secret.get("data") or {}
    if part.key is not None and part.key not in data:
        return ""
    read = data if part.key is None else {part.key: data[part.key]}
    entries = {key: value.encode() for key, value in read.items()}
    return fingerprint.of_secrets(entries, token=secret["metadata"]["uid"].encode())


def _desired(workload: Object, now: Mapping[str, str], *, restart: bool) -> dict[str, Any]:
    """All fields of the workload that are ours; server-side apply removes those left out."""
    metadata = workload["metadata"]
    text = ",".join(f"{part}={digest}" for part, digest in sorted(now.items()))
    before = _annotations(workload["spec"]["template"]).get(names.ANNOTATION_SECRETS)
    after = before
    if restart:
        # With the previous value, so that it differs from it, even after a rollback.
        after = fingerprint.of_document(f"{before}>{text}".encode())
    desired: dict[str, Any] = {
        "apiVersion": workload["apiVersion"],
        "kind": workload["kind"],
        # The uid makes this fail for another object of the name, instead of creating one.
        "metadata": {key: metadata[key] for key in ("name", "namespace", "uid")},
    }
    if text:
        desired["metadata"]["annotations"] = {names.ANNOTATION_SECRETS_SEEN: text}
    if after is not None:
        annotations = {names.ANNOTATION_SECRETS: after}
        desired["spec"] = {"template": {"metadata": {"annotations": annotations}}}
    return desired


def _parse(text: str) -> dict[str, str]:
    """The noted parts; foreign text becomes a part that nothing reads."""
    entries = (entry.partition("=") for entry in text.split(",") if entry)
    return {part: digest for part, _, digest in entries}


def _annotations(found: Object) -> Mapping[str, str]:
    return (found.get("metadata") or {}).get("annotations") or {}
