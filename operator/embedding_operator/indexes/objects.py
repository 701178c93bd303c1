"""The objects of an index: pure.

Its pods are injected like any other and call their own sidecar. Edits of the index reach them by
the ConfigMap that they mount; only replicas, resources and the policy are part of the pods.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from embedding_contract import index_document, names
from embedding_operator.indexes.resource import EmbeddingIndex
from embedding_operator.kube.kinds import Object
from embedding_operator.kube.ownership import metadata
from embedding_operator.policy.reference import SecretReference

COMPONENT: Final = "app.kubernetes.io/component"
SEARCH: Final = "search"
BACKFILL: Final = "backfill"
NEVER: Final = "0 0 1 1 *"
"""The schedule of a suspended CronJob, which must have one."""
RESTARTS: Final = 1_000
"""The Job of a change may wait for days, for example for a database right."""
SCHEDULED_RESTARTS: Final = 6
KEPT_SECONDS: Final = 86_400
LATE_SECONDS: Final = 600
RUN_DIGITS: Final = 8
_STARTS_WITHIN_SECONDS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """The chart's values for pods of indexes, which run in `namespaces` only."""

    image: str
    pull_policy: str
    resources: Mapping[str, Any]
    namespaces: frozenset[str] = field(default_factory=frozenset)
    pull_secrets: tuple[str, ...] = ()


def configmap(index: EmbeddingIndex, text: str) -> Object:
    """The ConfigMap that every pod of the index mounts; `text` is the index document."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(index, names.index_objects(index.name)),
        "data": {names.INDEX_KEY: text},
    }


def deployment(index: EmbeddingIndex, vectors: Vectors) -> Object:
    """The pods that answer searches."""
    resources = None if index.search is None else index.search.resources
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(index, names.index_objects(index.name)),
        "spec": {
            "replicas": 0 if index.search is None else index.search.replicas,
            "selector": {"matchLabels": _selector(index)},
            "template": _template(
                index,
                vectors,
                component=SEARCH,
                command="serve",
                resources=vectors.resources if resources is None else resources,
            ),
        },
    }


def service(index: EmbeddingIndex) -> Object:
    """The Service by which sidecars reach them."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(index, names.index_objects(index.name)),
        "spec": {
            "selector": _selector(index),
            "ports": [
                {
                    "name": names.VECTORS_PORT_NAME,
                    "port": names.VECTORS_PORT,
                    "targetPort": names.VECTORS_PORT_NAME,
                    "protocol": "TCP",
                }
            ],
        },
    }


def cron_job(index: EmbeddingIndex, vectors: Vectors) -> Object:
    """Fills by schedule; suspended without one, for use by `kubectl create job`."""
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata(index, names.index_objects(index.name)),
        "spec": {
            "schedule": index.schedule or NEVER,
            "timeZone": "Etc/UTC",
            "suspend": index.schedule is None,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": LATE_SECONDS,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {
                "metadata": {"labels": {names.LABEL_INDEX: index.name}},
                "spec": _job_spec(index, vectors, restarts=SCHEDULED_RESTARTS),
            },
        },
    }


def job(index: EmbeddingIndex, vectors: Vectors, *, name: str) -> Object:
    """The run that a change of the index needs."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(index, name),
        "spec": _job_spec(index, vectors, restarts=RESTARTS),
    }


def job_name(index: EmbeddingIndex, document: index_document.IndexDocument) -> str:
    """The name of that run, which changes if the index needs another state of the database."""
    wanted = json.loads(index_document.dump(document))
    for key in ("search", "limits"):
        del wanted[key]
    # The column for text search is part of the plan too.
    configuration = document.search.text_configuration if document.search else None
    text = json.dumps([wanted, configuration, [index.dsn.name, index.dsn.key]], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:RUN_DIGITS]
    return f"{names.index_objects(index.name)}-{digest}"


def _job_spec(index: EmbeddingIndex, vectors: Vectors, *, restarts: int) -> Object:
    return {
        # Workers share the rows: the Job is complete when one finds none left.
        "parallelism": index.limits.workers,
        "backoffLimit": restarts,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "template": _template(
            index,
            vectors,
            component=BACKFILL,
            command="backfill",
            resources=vectors.resources,
            # In place, so that the sidecar's cache outlives a worker.
            restarts="OnFailure",
        ),
    }


def _template(
    index: EmbeddingIndex,
    vectors: Vectors,
    *,
    component: str,
    command: str,
    resources: Mapping[str, Any],
    restarts: str = "Always",
) -> Object:
    return {
        "metadata": {"labels": {**_labels(index, component), names.LABEL_POLICY: index.policy}},
        "spec": {
            "restartPolicy": restarts,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            **_pull_secrets(vectors),
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                _container(vectors, component=component, command=command, resources=resources)
            ],
            "volumes": [
                {
                    "name": "index",
                    "configMap": {"name": names.index_objects(index.name)},
                },
                {"name": "database", "projected": {"sources": _database(index)}},
                {
                    "name": "token",
                    "secret": {
                        "secretName": names.owned_secret(index.policy),
                        "items": [{"key": names.SECRET_API_TOKEN, "path": names.SECRET_API_TOKEN}],
                    },
                },
            ],
        },
    }


def _pull_secrets(vectors: Vectors) -> Object:
    named = [{"name": it} for it in vectors.pull_secrets]
    return {"imagePullSecrets": named} if named else {}


def _container(
    vectors: Vectors, *, component: str, command: str, resources: Mapping[str, Any]
) -> Object:
    probe = {"port": names.VECTORS_PORT_NAME}
    made: Object = {
        "name": names.VECTORS_CONTAINER,
        "image": vectors.image,
        "imagePullPolicy": vectors.pull_policy,
        "args": [command],
        "env": [
            {
                "name": names.ENV_POD_UID,
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}},
            }
        ],
        "ports": [
            {
                "name": names.VECTORS_PORT_NAME,
                "containerPort": names.VECTORS_PORT,
                "protocol": "TCP",
            }
        ],
        "startupProbe": {
            "httpGet": {"path": names.PATH_STARTED, **probe},
            "periodSeconds": 1,
            "failureThreshold": _STARTS_WITHIN_SECONDS,
        },
        "livenessProbe": {
            "httpGet": {"path": names.PATH_LIVE, **probe},
            "periodSeconds": 10,
            "failureThreshold": 3,
            "timeoutSeconds": 5,
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": name, "mountPath": path, "readOnly": True}
            for name, path in (
                ("index", names.INDEX_DIRECTORY),
                ("database", names.DATABASE_DIRECTORY),
                ("token", names.TOKEN_DIRECTORY),
            )
        ],
    }
    if resources:
        made["resources"] = {kind: dict(named) for kind, named in resources.items()}
    if component == SEARCH:
        made["readinessProbe"] = {
            "httpGet": {"path": names.PATH_STARTED, **probe},
            "periodSeconds": 5,
            "timeoutSeconds": 5,
        }
    return made


def _database(index: EmbeddingIndex) -> list[Object]:
    found = [_projected(index.dsn, names.DSN_FILE)]
    if index.authority is not None:
        found.append(_projected(index.authority, names.DATABASE_CA_FILE))
    return found


def _projected(reference: SecretReference, path: str) -> Object:
    items = [{"key": reference.key, "path": path}]
    return {"secret": {"name": reference.name, "items": items}}


def _labels(index: EmbeddingIndex, component: str) -> dict[str, str]:
    return {names.LABEL_INDEX: index.name, COMPONENT: component}


def _selector(index: EmbeddingIndex) -> dict[str, str]:
    """Without the policy, as a selector is immutable."""
    return _labels(index, SEARCH)
