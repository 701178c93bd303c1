"""Trim pods, and the workloads that create them."""

from typing import Final

import msgspec

from embedding_contract import names
from embedding_operator.informers.kept import FOREIGN_BYTES, NOTHING, Kept
from embedding_operator.injection import bypasses

POD_BYTES: Final = 16_384
"""The most bytes stored of a pod. A larger one, by labels, ports or containers, is not stored and
not counted by its policy."""


ENV_BYTES: Final = 65_536
"""A longer environment is not searched for variables that bypass the sidecar."""
VALUE_CHARACTERS: Final = 2_048
"""A longer variable is not stored."""


_RESIZE: Final = "PodResize"
_MESSAGE_CHARACTERS: Final = 256


class _PodAnnotations(msgspec.Struct, omit_defaults=True):
    mirror: str | None = msgspec.field(default=None, name="kubernetes.io/config.mirror")
    sidecar_hash: str | None = msgspec.field(default=None, name=names.ANNOTATION_SIDECAR_HASH)
    skipped: str | None = msgspec.field(default=None, name=names.ANNOTATION_SIDECAR_SKIPPED)


class _PodMeta(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    namespace: str
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: msgspec.Raw = NOTHING
    annotations: _PodAnnotations = msgspec.field(default_factory=_PodAnnotations)


class _Port(msgspec.Struct, rename="camel", omit_defaults=True):
    container_port: int = 0
    name: str | None = None


class _Variable(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    value: str = ""
    value_from: dict[str, msgspec.Raw] | None = None


_VARIABLES_DECODER: Final = msgspec.json.Decoder(list[_Variable] | None)


class _Resources(msgspec.Struct, omit_defaults=True):
    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


class _Container(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    ports: list[_Port] | None = None
    restart_policy: str | None = None
    resources: _Resources | None = None
    env: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Os(msgspec.Struct, omit_defaults=True):
    name: str | None = None


class _NodeSelector(msgspec.Struct, omit_defaults=True):
    os: str | None = msgspec.field(default=None, name="kubernetes.io/os")
    beta_os: str | None = msgspec.field(default=None, name="beta.kubernetes.io/os")


class _Volume(msgspec.Struct):
    name: str


class _PodSpec(msgspec.Struct, rename="camel", omit_defaults=True):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    ephemeral_containers: list[_Container] | None = None
    volumes: list[_Volume] | None = None
    host_network: bool = False
    resources: _Resources | None = None
    os: _Os | None = None
    node_selector: _NodeSelector | None = None


class _Ran(msgspec.Struct, rename="camel", omit_defaults=True):
    started_at: str | None = None


class _Waiting(msgspec.Struct, omit_defaults=True):
    reason: str = ""


class _State(msgspec.Struct, omit_defaults=True):
    running: _Ran | None = None
    terminated: _Ran | None = None
    waiting: _Waiting | None = None


class _ContainerStatus(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    restart_count: int = 0
    started: bool | None = None
    state: _State | None = None
    resources: _Resources | None = None


class _PodCondition(msgspec.Struct, omit_defaults=True):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None


class _PodStatus(msgspec.Struct, omit_defaults=True):
    phase: str = ""
    start_time: str | None = msgspec.field(default=None, name="startTime")
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    container_statuses: list[_ContainerStatus] | None = msgspec.field(
        default=None, name="containerStatuses"
    )
    init_container_statuses: list[_ContainerStatus] | None = msgspec.field(
        default=None, name="initContainerStatuses"
    )
    conditions: list[_PodCondition] | None = None


class _Pod(msgspec.Struct):
    metadata: _PodMeta
    spec: _PodSpec
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)


_POD_DECODER: Final = msgspec.json.Decoder(_Pod)


class _Concerns(msgspec.Struct):
    policy: str = msgspec.field(default="", name=names.LABEL_INJECTED)
    index: str = msgspec.field(default="", name=names.LABEL_INDEX)


_CONCERNS_DECODER: Final = msgspec.json.Decoder(_Concerns)


def pod(raw: msgspec.Raw) -> Kept:
    """A pod: the fields that `selection`, `coverage` and `sidecars` use."""
    found = _POD_DECODER.decode(raw)
    meta = found.metadata
    seen, meta.resource_version = meta.resource_version, ""
    concerns, content = _Concerns(), None
    if memoryview(meta.labels).nbytes <= FOREIGN_BYTES:
        concerns = _CONCERNS_DECODER.decode(meta.labels)
        for container in (*(found.spec.containers or ()), *(found.spec.init_containers or ())):
            container.env = _environment(container.env)
        _keep_resources(found, carries=bool(concerns.policy))
        encoded = msgspec.json.encode(found)
        content = encoded if len(encoded) <= POD_BYTES else None
    return Kept(
        namespace=meta.namespace,
        name=meta.name,
        version=seen,
        uid=meta.uid,
        policy=concerns.policy,
        index=concerns.index,
        about=content,
        content=content,
    )


def _keep_resources(found: _Pod, *, carries: bool) -> None:
    """Keep what is needed to resize a sidecar; nothing of a pod that carries none."""
    status = found.status
    told = [it for it in status.conditions or () if it.type.startswith(_RESIZE) and carries]
    for it in told:
        it.message = None if it.message is None else it.message[:_MESSAGE_CHARACTERS]
    status.conditions = told or None
    for seen in (*(status.container_statuses or ()), *(status.init_container_statuses or ())):
        if not carries or seen.name != names.CONTAINER:
            seen.resources = None
    if not carries:
        found.spec.resources = None
        for container in (*(found.spec.containers or ()), *(found.spec.init_containers or ())):
            container.resources = None


def _environment(
    raw: msgspec.Raw | msgspec.UnsetType,
) -> msgspec.Raw | msgspec.UnsetType:
    """The container's variables that can bypass the sidecar, as JSON."""
    if raw is msgspec.UNSET or memoryview(raw).nbytes > ENV_BYTES:
        return msgspec.UNSET
    found = [
        it
        for it in _VARIABLES_DECODER.decode(raw) or ()
        if it.name in bypasses.LOOKED_AT and len(it.value) <= VALUE_CHARACTERS
    ]
    for it in found:
        it.value_from = None if it.value_from is None else {}
    return msgspec.Raw(msgspec.json.encode(found)) if found else msgspec.UNSET


class _WorkloadAnnotations(msgspec.Struct, omit_defaults=True):
    restart: str | None = msgspec.field(default=None, name=names.ANNOTATION_RESTART)
    seen: str | None = msgspec.field(default=None, name=names.ANNOTATION_SECRETS_SEEN)


class _WorkloadMeta(msgspec.Struct, omit_defaults=True):
    name: str
    namespace: str
    uid: str = ""
    annotations: _WorkloadAnnotations = msgspec.field(default_factory=_WorkloadAnnotations)


class _TemplateAnnotations(msgspec.Struct, omit_defaults=True):
    secrets: str | None = msgspec.field(default=None, name=names.ANNOTATION_SECRETS)


class _TemplateMeta(msgspec.Struct, omit_defaults=True):
    annotations: _TemplateAnnotations = msgspec.field(default_factory=_TemplateAnnotations)


class _SecretRef(msgspec.Struct, omit_defaults=True):
    name: str | None = None
    key: str | None = None
    optional: bool | None = None


class _EnvFrom(msgspec.Struct, rename="camel", omit_defaults=True):
    secret_ref: _SecretRef | None = None


class _ValueFrom(msgspec.Struct, rename="camel", omit_defaults=True):
    secret_key_ref: _SecretRef | None = None


class _Env(msgspec.Struct, rename="camel", omit_defaults=True):
    value_from: _ValueFrom | None = None


class _Item(msgspec.Struct):
    key: str


class _SecretSource(msgspec.Struct, rename="camel", omit_defaults=True):
    secret_name: str | None = None
    name: str | None = None
    items: list[_Item] | None = None
    optional: bool | None = None


class _Projection(msgspec.Struct, omit_defaults=True):
    secret: _SecretSource | None = None


class _Projected(msgspec.Struct, omit_defaults=True):
    sources: list[_Projection] = msgspec.field(default_factory=list)


class _SourceVolume(msgspec.Struct, omit_defaults=True):
    secret: _SecretSource | None = None
    projected: _Projected | None = None


class _Reader(msgspec.Struct, rename="camel", omit_defaults=True):
    env: list[_Env] | None = None
    env_from: list[_EnvFrom] | None = None


class _TemplateSpec(msgspec.Struct, rename="camel", omit_defaults=True):
    containers: list[_Reader] = msgspec.field(default_factory=list)
    init_containers: list[_Reader] = msgspec.field(default_factory=list)
    volumes: list[_SourceVolume] | None = None


class _Template(msgspec.Struct):
    spec: _TemplateSpec
    metadata: _TemplateMeta = msgspec.field(default_factory=_TemplateMeta)


class _WorkloadSpec(msgspec.Struct, omit_defaults=True):
    template: _Template
    paused: bool = False


class _Workload(msgspec.Struct):
    metadata: _WorkloadMeta
    spec: _WorkloadSpec


_WORKLOAD_DECODER: Final = msgspec.json.Decoder(_Workload)


def workload(raw: msgspec.Raw) -> Kept:
    """A Deployment, StatefulSet or DaemonSet that asks for restarts: the fields of `workloads`."""
    found = _WORKLOAD_DECODER.decode(raw)
    meta = found.metadata
    asks = meta.annotations.restart is not None or meta.annotations.seen is not None
    return Kept(
        namespace=meta.namespace,
        name=meta.name,
        version="",
        uid=meta.uid,
        content=msgspec.json.encode(found) if asks else None,
    )
