"""Add the sidecar to a pod: `pod -> pod`, without IO.

The sidecar is a native one (an init container that restarts always) and the first, so that it
serves all containers after it, init containers too, and never keeps a Job from ending. Edits of a
policy reach it by the ConfigMap and the Secret that it mounts; only its resources are part of the
pod.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from embedding_contract import names
from embedding_operator.injection import (
    bypasses,
    fields,
    namespace_bounds,
    resizing,
    resources,
    selection,
    templates,
)

Object = Mapping[str, Any]
Pod = dict[str, Any]

_HEX_DIGITS: Final = 16
_HEX_DIGITS_OF_RESOURCES: Final = 8
_CREATED: Final = 1
"""The generation of a pod whose spec has not changed; older servers have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """The chart's values for the sidecar; `resources` as in a container.

    `otel_endpoint` is the URL that receives spans and metrics; None turns tracing off. The pod
    names `pull_secrets`, Secrets of its own namespace, so that a node can pull the image.
    """

    image: str
    pull_policy: str
    resources: Object
    otel_endpoint: str | None = None
    pull_secrets: tuple[str, ...] = ()


def amounts(
    pod: Object,
    *,
    sidecar: Sidecar,
    candidate: selection.Candidate,
    within: namespace_bounds.Bounds = namespace_bounds.UNBOUNDED,
) -> Object | namespace_bounds.DoesNotFit:
    """The sidecar's requests and limits in a pod, as the namespace permits them, or why not."""
    spec = pod["spec"]
    fitted = _fitted(spec, sidecar=sidecar, candidate=candidate)
    return namespace_bounds.fit(fitted, chart=sidecar.resources, spec=spec, bounds=within)


def _fitted(spec: Object, *, sidecar: Sidecar, candidate: selection.Candidate) -> Object:
    return resources.fit(written(sidecar, candidate), chart=sidecar.resources, spec=spec)


def skip(pod: Object, *, reason: namespace_bounds.Reason) -> Pod:
    """The pod with a note of why it has no sidecar; `coverage` reads it."""
    metadata = dict(pod.get("metadata") or {})
    annotations = metadata.get("annotations") or {}
    metadata["annotations"] = {**annotations, names.ANNOTATION_SIDECAR_SKIPPED: reason}
    return {**pod, "metadata": metadata}


def inject(
    pod: Object,
    *,
    sidecar: Sidecar,
    candidate: selection.Candidate,
    given: Object | None = None,
) -> Pod:
    """The pod with the sidecar of this policy; `given` are the requests and limits of `amounts`.

    A pod that has a sidecar keeps it, so that a second review changes nothing; a container that
    another webhook has added since gets the environment.
    """
    result: Pod = copy.deepcopy(dict(pod))
    if selection.carries_sidecar(pod):
        _give_environment(result["spec"], policy=pod["metadata"]["labels"][names.LABEL_INJECTED])
        return result
    metadata, spec = result.setdefault("metadata", {}), result["spec"]
    terms = _terms(
        sidecar,
        candidate,
        amounts=_fitted(spec, sidecar=sidecar, candidate=candidate) if given is None else given,
        is_root=_runs_as_root(spec),
    ) | {"hash": sidecar_hash(sidecar, candidate)}
    _give_environment(spec, policy=candidate.name)
    container = templates.fill(fields.SIDECAR, terms)
    spec["initContainers"] = [container, *(spec.get("initContainers") or ())]
    spec["volumes"] = [*(spec.get("volumes") or ()), *templates.fill(fields.VOLUMES, terms)]
    _give_pull_secrets(spec, sidecar.pull_secrets)
    for kind, added in (("labels", fields.LABELS), ("annotations", fields.ANNOTATIONS)):
        metadata[kind] = {**(metadata.get(kind) or {}), **templates.fill(added, terms)}
    return result


def sidecar_hash(sidecar: Sidecar, candidate: selection.Candidate) -> str:
    """16 hexadecimal digits of the sidecar that a new pod would get, and 8 of its resources.

    The first are of an ordinary pod's container, without the differences between pods and without
    the defaults of the API server. Resources can change in a running pod, and stand apart.
    """
    terms = _terms(sidecar, candidate, amounts={}, is_root=False)
    plain = [templates.fill(it, terms) for it in (fields.SIDECAR, fields.VOLUMES)]
    digits = _digest([*plain, *sidecar.pull_secrets], _HEX_DIGITS)
    return f"{digits}.{_digest(written(sidecar, candidate), _HEX_DIGITS_OF_RESOURCES)}"


def _digest(value: Any, digits: int) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def is_outdated(
    pod: Object, expected: str, *, sidecar: Sidecar, candidate: selection.Candidate
) -> bool:
    """True if a pod with a sidecar would get another one today, whose hash is `expected`.

    A sidecar of other resources that was resized since is none of these.
    """
    if shape(pod) != expected.partition(".")[0]:
        return True
    if is_of_resources(pod, expected):
        return False
    wanted = wanted_resources(pod, sidecar=sidecar, candidate=candidate)
    return not resizing.is_as(resizing.seen(pod), wanted)


def shape(pod: Object) -> str:
    """The digits of a pod's sidecar that tell of all but its resources."""
    return _hash(pod).partition(".")[0]


def is_of_resources(pod: Object, expected: str) -> bool:
    """True if a pod was created with the resources of this hash, and not resized since."""
    if pod["metadata"].get("generation", 0) > _CREATED:
        return False
    return _hash(pod).partition(".")[2] == expected.partition(".")[2]


def wanted_resources(
    pod: Object, *, sidecar: Sidecar, candidate: selection.Candidate
) -> dict[str, dict[str, Any]]:
    """The requests and limits that the sidecar of this pod would get today."""
    return resizing.wanted(written(sidecar, candidate), chart=sidecar.resources, pod=pod)


def _hash(pod: Object) -> str:
    annotations = pod["metadata"].get("annotations") or {}
    return str(annotations.get(names.ANNOTATION_SIDECAR_HASH) or "")


def is_bypassing(pod: Object, *, environment_since: str | None) -> bool:
    """True if an application container started before the environment ConfigMap was there.

    It then lacks the sidecar's address, as containers read their environment once.
    """
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    starts = [moment for status in statuses if (moment := _started_at(status)) is not None]
    if environment_since is None:
        return bool(starts)
    since = datetime.fromisoformat(environment_since)
    return any(start < since for start in starts)


def _started_at(status: Object) -> datetime | None:
    state = status.get("state") or {}
    running = state.get("running") or state.get("terminated") or {}
    written = running.get("startedAt")
    return datetime.fromisoformat(written) if written else None


def _terms(
    sidecar: Sidecar, candidate: selection.Candidate, *, amounts: Object, is_root: bool
) -> dict[str, Any]:
    """The terms of `fields`, but for the hash."""
    return {
        "image": sidecar.image,
        "pull_policy": sidecar.pull_policy,
        "collector": sidecar.otel_endpoint,
        "has_collector": sidecar.otel_endpoint is not None,
        "resources": {kind: dict(named) for kind, named in amounts.items()},
        "is_root": is_root,
        "has_identity": candidate.has_identity,
        "policy": candidate.name,
        **{term: named(candidate.name) for term, named in fields.OBJECTS.items()},
    }


def _give_pull_secrets(spec: dict[str, Any], named: tuple[str, ...]) -> None:
    """Add those that the pod does not name itself."""
    own = list(spec.get("imagePullSecrets") or ())
    wanted = [templates.fill(fields.PULL_SECRET, {"pull_secret": it}) for it in named]
    added = [it for it in wanted if it not in own]
    if added:
        spec["imagePullSecrets"] = [*own, *added]


def _give_environment(spec: dict[str, Any], *, policy: str) -> None:
    """Put the environment ConfigMap first in envFrom, so that the application's variables win.

    A container with a proxy and without exceptions gets an exception for the sidecar. Native
    sidecars get nothing: they are not the application.
    """
    name = names.environment_configmap(policy)
    ordinary = (
        container
        for container in spec.get("initContainers") or ()
        if container.get("restartPolicy") != "Always"
    )
    for container in (*ordinary, *spec["containers"]):
        sources = container.get("envFrom") or []
        if not any((source.get("configMapRef") or {}).get("name") == name for source in sources):
            reference = templates.fill(fields.ENVIRONMENT, {"environment": name})
            container["envFrom"] = [reference, *sources]
        if added := bypasses.exceptions(container):
            container["env"] = [*container["env"], *added]


def _runs_as_root(spec: Object) -> bool:
    return (spec.get("securityContext") or {}).get("runAsUser") == 0


def written(sidecar: Sidecar, candidate: selection.Candidate) -> Object:
    """The resources that the policy asks for, or else the chart."""
    return sidecar.resources if candidate.resources is None else candidate.resources
