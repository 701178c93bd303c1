"""Trim Jobs of an index and their pods.

They are read when an index is reconciled, and not watched: a watch would need a right for Jobs in
all namespaces.
"""

from typing import Final

import msgspec

from embedding_contract import index_report, names
from embedding_operator.informers.kept import Kept

NAMES_KEPT: Final = 64
"""The bound for conditions and containers; a Job has two conditions, a pod two containers."""


class _Owner(msgspec.Struct, omit_defaults=True):
    uid: str = ""
    kind: str = ""
    controller: bool = False


class _Meta(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    namespace: str
    uid: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    owner_references: list[_Owner] | None = None


class _Condition(msgspec.Struct, omit_defaults=True):
    type: str = ""
    status: str = ""


class _JobStatus(msgspec.Struct, omit_defaults=True):
    active: int = 0
    conditions: list[_Condition] | None = None


class _Job(msgspec.Struct):
    metadata: _Meta
    status: _JobStatus = msgspec.field(default_factory=_JobStatus)


_JOB_DECODER: Final = msgspec.json.Decoder(_Job)


def job(raw: msgspec.Raw) -> Kept:
    """A Job: its owner and its conditions."""
    found = _JOB_DECODER.decode(raw)
    found.status.conditions = (found.status.conditions or [])[:NAMES_KEPT]
    return _kept(found.metadata, found)


class _Ended(msgspec.Struct, rename="camel", omit_defaults=True):
    finished_at: str | None = None
    exit_code: int = 0
    message: str | None = None


class _State(msgspec.Struct, omit_defaults=True):
    terminated: _Ended | None = None


class _ContainerStatus(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    state: _State | None = None
    last_state: _State | None = None


class _RunStatus(msgspec.Struct, rename="camel", omit_defaults=True):
    container_statuses: list[_ContainerStatus] | None = None


class _Run(msgspec.Struct):
    metadata: _Meta
    status: _RunStatus = msgspec.field(default_factory=_RunStatus)


_RUN_DECODER: Final = msgspec.json.Decoder(_Run)


def run(raw: msgspec.Raw) -> Kept:
    """A pod of a Job: its owner and the termination messages of its containers."""
    found = _RUN_DECODER.decode(raw)
    statuses = [
        it for it in found.status.container_statuses or () if it.name == names.VECTORS_CONTAINER
    ]
    for it in statuses:
        for state in (it.state, it.last_state):
            ended = state.terminated if state is not None else None
            if ended is not None and len(ended.message or "") > index_report.MAX_BYTES:
                ended.message = None  # kubelet stores no longer one
    found.status.container_statuses = statuses[:NAMES_KEPT]
    return _kept(found.metadata, found)


def _kept(meta: _Meta, found: _Job | _Run) -> Kept:
    meta.owner_references = [it for it in meta.owner_references or () if it.controller][:1]
    return Kept(
        namespace=meta.namespace,
        name=meta.name,
        version="",
        uid=meta.uid,
        content=msgspec.json.encode(found),
    )
