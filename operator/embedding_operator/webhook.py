"""The admission webhook: asks `selection` about a pod that is being created, and injects.

It never stops a pod. Whatever goes wrong here, the answer is "allowed" with a warning: a pod
without sidecar is told by the policy's status, a pod that cannot start is an outage.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import kopf

from embedding_operator import cluster, injector, selection

_LOG = logging.getLogger(__name__)

HANDLER: Final = "inject"
"""The path at which the API server asks."""
BUDGET_SECONDS: Final = 2.0
"""For all reads of one pod; the configuration gives the whole answer 3 s."""
CERTIFICATE_CHECK_SECONDS: Final = 10.0
CERTIFICATE_WAIT_SECONDS: Final = 0.5
REASONS_TOLD: Final = frozenset(
    {"PolicyNotFound", "HostNetwork", "Windows", "NameTaken", "ServerTooOld"}
)
"""Where somebody wanted a sidecar and would wonder; the others are as it was asked for."""
_THREADS: Final = 16
_EVENTS_REMEMBERED: Final = 1024

Object = Mapping[str, Any]


class Reads(Protocol):
    """Reads the cluster as it is now, not as it was last heard of."""

    def get(self, kind: cluster.Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        """An object; None where there is none."""
        ...

    def find(self, kind: cluster.Kind, namespace: str | None = None) -> list[dict[str, Any]]:
        """All objects of a kind in a namespace."""
        ...

    def version(self) -> tuple[int, int]:
        """Major and minor of the API server."""
        ...


class Records(Protocol):
    """Writes events."""

    def record(self, about: dict[str, Any], *, warning: bool, reason: str, message: str) -> None:
        """An event of an object."""
        ...


class Counts(Protocol):
    """Counts answers."""

    def injected(self, *, result: str, reason: str) -> None:
        """The webhook answered for a pod."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """The pod as it should be created, and what its creator is told."""

    pod: Object
    warnings: tuple[str, ...] = ()


class Webhook:
    """Answers for pods."""

    def __init__(
        self, *, reads: Reads, sidecar: injector.Sidecar, records: Records, counts: Counts
    ) -> None:
        self._reads = reads
        self._sidecar = sidecar
        self._records = records
        self._counts = counts
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="admission")
        self._told: dict[tuple[str, str], None] = {}

    async def answer(self, pod: Object, *, namespace: str, dry_run: bool) -> Answer:
        """The answer for one pod; raises nothing.

        Args:
            pod: as it is about to be created, perhaps without a name.
            namespace: its own.
            dry_run: whether nothing may be written, events included.
        """
        loop = asyncio.get_running_loop()
        try:
            decision = await asyncio.wait_for(
                loop.run_in_executor(self._threads, self._decide, pod, namespace), BUDGET_SECONDS
            )
            answer = self._carry_out(decision, pod)
        except Exception as error:  # noqa: BLE001 - never stops a pod, whatever goes wrong
            _LOG.exception("a pod of %s is created without a sidecar", namespace)
            self._counts.injected(result="failed", reason=type(error).__name__)
            return Answer(
                pod,
                (f"embedding-operator: no sidecar, as it failed ({type(error).__name__})",),
            )
        owner = _owner(pod, namespace)
        if isinstance(decision, selection.Skipped) and answer.warnings and owner and not dry_run:
            self._threads.submit(self._tell, owner, decision)
        return answer

    def _decide(self, pod: Object, namespace: str) -> selection.Decision:
        found = self._reads.get(cluster.NAMESPACE, None, namespace)
        policies = self._reads.find(cluster.POLICY, namespace)
        return selection.decide(
            pod,
            namespace_labels=(found or {}).get("metadata", {}).get("labels") or {},
            among=selection.candidates(policies),
            server_version=self._reads.version(),
        )

    def _carry_out(self, decision: selection.Decision, pod: Object) -> Answer:
        if isinstance(decision, selection.Skipped):
            self._counts.injected(result="skipped", reason=decision.reason)
            told = decision.reason in REASONS_TOLD
            warning = f"embedding-operator: no sidecar: {decision.message}"
            return Answer(pod, (warning,) if told else ())
        had = selection.carries_sidecar(pod)
        result = injector.inject(pod, sidecar=self._sidecar, candidate=decision.candidate)
        self._counts.injected(result="kept" if had else "injected", reason="")
        return Answer(result)

    def _tell(self, owner: dict[str, Any], skipped: selection.Skipped) -> None:
        """An event of what creates such pods, once, not for each of its pods."""
        key = (owner["metadata"]["uid"], skipped.reason)
        if key in self._told:
            return
        self._told[key] = None
        if len(self._told) > _EVENTS_REMEMBERED:
            self._told.pop(next(iter(self._told)), None)
        self._records.record(
            owner,
            warning=True,
            reason=f"EmbeddingSidecar{skipped.reason}",
            message=f"pods get no embedding sidecar: {skipped.message}",
        )


def register(registry: kopf.OperatorRegistry, webhook: Webhook) -> None:
    """Have kopf ask `webhook` about every pod that is created."""

    async def inject(
        *,
        body: kopf.Body,
        patch: kopf.Patch,
        warnings: list[str],
        dryrun: bool,
        namespace: str | None,
        **_: Any,
    ) -> None:
        answer = await webhook.answer(dict(body), namespace=namespace or "", dry_run=dryrun)
        warnings.extend(answer.warnings)
        patch.fns.append(_becoming(answer.pod))

    kopf.on.mutate("", "v1", "pods", id=HANDLER, operations=["CREATE"], registry=registry)(inject)


def serve(
    settings: kopf.OperatorSettings,
    *,
    port: int,
    certificate: Path,
    key: Path,
    listens: Callable[[], None],
) -> None:
    """Have kopf listen on this port of all addresses, from when the certificate is there.

    `listens` is called once it does. Files that change are read again. The configuration that leads
    the API server here is the chart's: kopf's own has no selectors.
    """
    server = kopf.WebhookServer(
        port=port,
        host="localhost",  # only for kopf's log: it would look the machine's own name up
        certfile=certificate,
        pkeyfile=key,
        file_check_interval=CERTIFICATE_CHECK_SECONDS,
    )

    async def when_there(answer: kopf.WebhookFn) -> AsyncIterator[kopf.WebhookClientConfig]:
        # Nobody tells of a mounted file.
        while not _are_there(certificate, key):  # noqa: ASYNC110 - as just said
            await asyncio.sleep(CERTIFICATE_WAIT_SECONDS)
        async for client in server(answer):
            listens()
            yield client

    settings.admission.managed = None
    settings.admission.server = when_there


def _are_there(*paths: Path) -> bool:
    return all(path.exists() for path in paths)


def _becoming(pod: Object) -> Callable[[Any], None]:
    """A change of a body into this pod; kopf makes RFC 6902 operations of it."""

    def change(body: Any) -> None:
        body.clear()
        body.update(pod)

    return change


def _owner(pod: Object, namespace: str) -> dict[str, Any] | None:
    """What controls a pod: its ReplicaSet, Job, ..."""
    for reference in pod["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return {
                "apiVersion": reference["apiVersion"],
                "kind": reference["kind"],
                "metadata": {
                    "name": reference["name"],
                    "namespace": namespace,
                    "uid": reference["uid"],
                },
            }
    return None
