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
from embedding_operator.injection import bypasses, resources, selection

Object = Mapping[str, Any]
Pod = dict[str, Any]

USER: Final = 65532
"""The numeric USER of the sidecar's image."""

_HEX_DIGITS: Final = 16
_STARTS_WITHIN_SECONDS: Final = 60


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


def inject(pod: Object, *, sidecar: Sidecar, candidate: selection.Candidate) -> Pod:
    """The pod with the sidecar of this policy.

    A pod that has a sidecar keeps it, so that a second review changes nothing; a container that
    another webhook has added since gets the environment.
    """
    result: Pod = copy.deepcopy(dict(pod))
    if selection.carries_sidecar(pod):
        _give_environment(result["spec"], policy=pod["metadata"]["labels"][names.LABEL_INJECTED])
        return result
    metadata, spec = result.setdefault("metadata", {}), result["spec"]
    container = _container(
        sidecar,
        amounts=resources.fit(_written(sidecar, candidate), chart=sidecar.resources, spec=spec),
        root=_runs_as_root(spec),
        has_identity=candidate.has_identity,
    )
    _give_environment(spec, policy=candidate.name)
    spec["initContainers"] = [container, *(spec.get("initContainers") or ())]
    spec["volumes"] = [*(spec.get("volumes") or ()), *_volumes(candidate)]
    _give_pull_secrets(spec, sidecar.pull_secrets)
    metadata["labels"] = {
        **(metadata.get("labels") or {}),
        names.LABEL_INJECTED: candidate.name,
    }
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        names.ANNOTATION_SIDECAR_HASH: sidecar_hash(sidecar, candidate),
    }
    return result


def sidecar_hash(sidecar: Sidecar, candidate: selection.Candidate) -> str:
    """16 hexadecimal digits of the sidecar that a new pod would get.

    The hash is of an ordinary pod's container, without the differences between pods and without
    the defaults of the API server.
    """
    plain = _container(
        sidecar,
        amounts=_written(sidecar, candidate),
        root=False,
        has_identity=candidate.has_identity,
    )
    parts = [plain, _volumes(candidate), *sidecar.pull_secrets]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_HEX_DIGITS]


def is_outdated(pod: Object, *, sidecar: Sidecar, candidate: selection.Candidate) -> bool:
    """True if a pod with a sidecar would get another one today."""
    annotations = pod["metadata"].get("annotations") or {}
    found: str | None = annotations.get(names.ANNOTATION_SIDECAR_HASH)
    return found != sidecar_hash(sidecar, candidate)


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


def _container(
    sidecar: Sidecar, *, amounts: Object, root: bool, has_identity: bool
) -> dict[str, Any]:
    security: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if root:
        # Otherwise the image's user applies, or the one that the cluster gives the namespace. A pod
        # that runs as root would pass that on, and kubelet would refuse to start the sidecar.
        security["runAsUser"] = USER
    mounted = {
        names.VOLUME_DOCUMENT: names.DOCUMENT_DIRECTORY,
        names.VOLUME_SECRETS: names.SECRETS_DIRECTORY,
    }
    if has_identity:
        mounted[names.VOLUME_IDENTITY] = names.IDENTITY_DIRECTORY
    return {
        "name": names.CONTAINER,
        "image": sidecar.image,
        "imagePullPolicy": sidecar.pull_policy,
        "args": ["--document", names.DOCUMENT_PATH, "--secrets", names.SECRETS_DIRECTORY],
        "env": _environment(sidecar),
        "restartPolicy": "Always",
        "ports": [
            {
                "name": names.ADMIN_PORT_NAME,
                "containerPort": names.ADMIN_PORT,
                "protocol": "TCP",
            }
        ],
        "startupProbe": {
            "httpGet": {"path": names.PATH_STARTED, "port": names.ADMIN_PORT_NAME},
            "periodSeconds": 1,
            "failureThreshold": _STARTS_WITHIN_SECONDS,
        },
        "livenessProbe": {
            "httpGet": {"path": names.PATH_LIVE, "port": names.ADMIN_PORT_NAME},
            "periodSeconds": 10,
            "failureThreshold": 3,
            "timeoutSeconds": 5,
        },
        "resources": {kind: dict(named) for kind, named in amounts.items()},
        "securityContext": security,
        "volumeMounts": [
            {"name": name, "mountPath": path, "readOnly": True} for name, path in mounted.items()
        ],
    }


def _environment(sidecar: Sidecar) -> list[dict[str, Any]]:
    uid = {
        "name": names.ENV_POD_UID,
        # The default of the API server.
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}},
    }
    if sidecar.otel_endpoint is None:
        return [uid]
    return [
        uid,
        {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": sidecar.otel_endpoint},
        # A collector finds the pod's name, namespace and workload by its UID.
        {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": f"k8s.pod.uid=$({names.ENV_POD_UID})"},
    ]


def _volumes(candidate: selection.Candidate) -> list[dict[str, Any]]:
    """Volumes that need not be there, so that a pod starts without them; and the pod's token."""
    policy = candidate.name
    found: list[dict[str, Any]] = [
        {
            "name": names.VOLUME_DOCUMENT,
            "configMap": {"name": names.document_configmap(policy), "optional": True},
        },
        {
            "name": names.VOLUME_SECRETS,
            "secret": {"secretName": names.owned_secret(policy), "optional": True},
        },
    ]
    if candidate.has_identity:
        token = {
            "audience": names.AZURE_AUDIENCE,
            "expirationSeconds": names.AZURE_TOKEN_SECONDS,
            "path": names.AZURE_TOKEN,
        }
        sources = [{"serviceAccountToken": token}]
        found.append({"name": names.VOLUME_IDENTITY, "projected": {"sources": sources}})
    return found


def _give_pull_secrets(spec: dict[str, Any], named: tuple[str, ...]) -> None:
    """Add those that the pod does not name itself."""
    own = list(spec.get("imagePullSecrets") or ())
    added = [{"name": it} for it in named if {"name": it} not in own]
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
            reference = {"configMapRef": {"name": name, "optional": True}}
            container["envFrom"] = [reference, *sources]
        if added := bypasses.exceptions(container):
            container["env"] = [*container["env"], *added]


def _runs_as_root(spec: Object) -> bool:
    return (spec.get("securityContext") or {}).get("runAsUser") == 0


def _written(sidecar: Sidecar, candidate: selection.Candidate) -> Object:
    return sidecar.resources if candidate.resources is None else candidate.resources
