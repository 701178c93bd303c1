"""The fields that injection adds to a pod: one table for the webhook's patch and the policy's CEL.

Terms: `image`, `pull_policy`, `resources`, `collector` (the OTLP endpoint), `policy` (its name),
`hash`; true or false: `has_collector`, `has_identity` (a provider is called by the identity of the
pod's ServiceAccount), `is_root` (the pod runs as user 0); the names of the policy's objects
`document`, `secret` and `environment`; `pull_secret`, the name of one.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from embedding_contract import names
from embedding_operator.injection.templates import Only, Term

USER: Final = 65532
"""The numeric USER of the sidecar's image."""
_STARTS_WITHIN_SECONDS: Final = 60

OBJECTS: Final[Mapping[str, Callable[[str], str]]] = {
    "document": names.document_configmap,
    "secret": names.owned_secret,
    "environment": names.environment_configmap,
}
"""The terms that name an object of the policy."""


def _mount(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "mountPath": path, "readOnly": True}


SIDECAR: Final[dict[str, Any]] = {
    "name": names.CONTAINER,
    "image": Term("image"),
    "imagePullPolicy": Term("pull_policy"),
    "args": ["--document", names.DOCUMENT_PATH, "--secrets", names.SECRETS_DIRECTORY],
    "env": [
        {
            "name": names.ENV_POD_UID,
            # The default of the API server.
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}},
        },
        Only("has_collector", {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": Term("collector")}),
        Only(
            "has_collector",
            # A collector finds the pod's name, namespace and workload by its UID.
            {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": f"k8s.pod.uid=$({names.ENV_POD_UID})"},
        ),
    ],
    "restartPolicy": "Always",
    "ports": [
        {"name": names.ADMIN_PORT_NAME, "containerPort": names.ADMIN_PORT, "protocol": "TCP"}
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
    "resources": Term("resources"),
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        # Otherwise the image's user applies, or the one that the cluster gives the namespace. A
        # pod that runs as root would pass that on, and kubelet would refuse to start the sidecar.
        "runAsUser": Only("is_root", USER),
    },
    "volumeMounts": [
        _mount(names.VOLUME_DOCUMENT, names.DOCUMENT_DIRECTORY),
        _mount(names.VOLUME_SECRETS, names.SECRETS_DIRECTORY),
        Only("has_identity", _mount(names.VOLUME_IDENTITY, names.IDENTITY_DIRECTORY)),
    ],
}
"""The container, the first of initContainers."""

VOLUMES: Final[list[Any]] = [
    {
        "name": names.VOLUME_DOCUMENT,
        "configMap": {"name": Term("document"), "optional": True},
    },
    {
        "name": names.VOLUME_SECRETS,
        "secret": {"secretName": Term("secret"), "optional": True},
    },
    Only(
        "has_identity",
        {
            "name": names.VOLUME_IDENTITY,
            "projected": {
                "sources": [
                    {
                        "serviceAccountToken": {
                            "audience": names.AZURE_AUDIENCE,
                            "expirationSeconds": names.AZURE_TOKEN_SECONDS,
                            "path": names.AZURE_TOKEN,
                        }
                    }
                ]
            },
        },
    ),
]
"""Added to spec.volumes. They need not be there, so that a pod starts without them; and the pod's
token."""

ENVIRONMENT: Final = {"configMapRef": {"name": Term("environment"), "optional": True}}
"""Put first in envFrom of each ordinary container, so that the application's variables win. Native
sidecars get nothing: they are not the application."""

PULL_SECRET: Final = {"name": Term("pull_secret")}
"""Added to spec.imagePullSecrets for each of the chart's that the pod does not name itself."""

LABELS: Final = {names.LABEL_INJECTED: Term("policy")}
ANNOTATIONS: Final = {names.ANNOTATION_SIDECAR_HASH: Term("hash")}
