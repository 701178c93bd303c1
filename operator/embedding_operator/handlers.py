"""What kopf watches: every handler does one thing, it puts a policy's key into the queue.

Nothing of kopf's own is written into any object: handlers of raw events leave no annotation, no
finalizer and no progress (docs/decisions/002).
"""

import asyncio
import logging
from typing import Any, Final, Protocol

import kopf

from embedding_contract import names
from embedding_operator.workqueue import Key, WorkQueue

_LOG = logging.getLogger(__name__)

SERVER_SECONDS: Final = 300
CHUNK: Final = 500
_MONITORING: Final = "monitoring.coreos.com"
OWNED: Final = (
    ("", "v1", "configmaps"),
    ("", "v1", "secrets"),
    (_MONITORING, "v1", "prometheusrules"),
    (_MONITORING, "v1", "podmonitors"),
)
PODS: Final = ("", "v1", "pods")
POLICIES: Final = (names.GROUP, names.VERSION, names.PLURAL)


class DeafError(kopf.PermanentError):
    """A watch has ended and nothing would bring it back; the process should be restarted.

    Permanent, so that the probe says so at once: for other errors kopf lets it wait a minute.
    """


class Wrote(Protocol):
    """Knows what this process wrote itself."""

    def is_echo(self, plural: str, namespace: str | None, name: str, *, version: str) -> bool:
        """Whether an object is as it was left, which its event tells of."""
        ...


def registry(queue: WorkQueue[Key], *, wrote: Wrote) -> kopf.OperatorRegistry:
    """All handlers, in a registry of their own."""
    made = kopf.OperatorRegistry()
    seen = _Seen()

    async def policy_changed(
        event: kopf.RawEvent, namespace: str | None, name: str, meta: kopf.Meta, **_: Any
    ) -> None:
        if namespace is not None and seen.is_news(Key(namespace, name), event["type"], meta):
            queue.add(Key(namespace, name))

    async def owned_changed(
        resource: kopf.Resource, namespace: str | None, name: str, meta: kopf.Meta, **_: Any
    ) -> None:
        if not wrote.is_echo(resource.plural, namespace, name, version=meta["resourceVersion"]):
            for key in _owners(namespace, meta):
                queue.add(key)

    async def pod_changed(namespace: str | None, meta: kopf.Meta, **_: Any) -> None:
        # The label selects the watch, but the event of its removal comes too.
        policy = meta.labels.get(names.LABEL_INJECTED)
        if namespace is not None and policy:
            queue.add(Key(namespace, policy))

    async def watches_live(**_: Any) -> int:
        return watching()

    kopf.on.event(*POLICIES, registry=made)(policy_changed)
    for resource in OWNED:
        kopf.on.event(*resource, registry=made)(owned_changed)
    kopf.on.event(*PODS, registry=made)(pod_changed)
    kopf.on.login(registry=made)(kopf.login_via_client)
    kopf.on.probe(id="watches", registry=made)(watches_live)
    return made


def _owners(namespace: str | None, meta: kopf.Meta) -> list[Key]:
    """The policies that own an object; not by its label, which may have been taken off."""
    owners = [it["name"] for it in meta.get("ownerReferences", ()) if it["kind"] == names.KIND]
    return [Key(namespace, name) for name in owners if namespace is not None]


class _Seen:
    """All that was last seen of each policy but its status, whose change is no reason to act."""

    def __init__(self) -> None:
        self._last: dict[Key, object] = {}

    def is_news(self, key: Key, event: str | None, meta: kopf.Meta) -> bool:
        about = [meta.get(it) for it in ("uid", "generation", "deletionTimestamp")]
        about += [dict(meta.labels), dict(meta.annotations)]
        before = self._last.pop(key, None)
        if event == "DELETED":
            return True
        self._last[key] = about
        return before != about


def settings() -> kopf.OperatorSettings:
    """How kopf watches: only what is ours, in pages, with a new stream every five minutes."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.peering.standalone = True
    made.watching.server_timeout = SERVER_SECONDS
    made.watching.client_timeout = SERVER_SECONDS + 10
    made.watching.connect_timeout = 10
    made.watching.chunk_size = CHUNK
    made.queueing.worker_limit = 50
    for resource in OWNED:
        ours = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
        made.watching.label_selectors[resource] = ours
    made.watching.label_selectors[PODS] = names.LABEL_INJECTED
    return made


def watching(loop: asyncio.AbstractEventLoop | None = None) -> int:
    """How many watches run, in the loop that runs here or in another thread's.

    Raises:
        DeafError: one of those that cannot be missing has ended; kopf does not restart it
            (kopf#1145), and an operator that hears nothing looks alive.
    """
    running = [
        task.get_name()
        for task in asyncio.all_tasks(loop)
        if task.get_name().startswith("watcher for ") and not task.done()
    ]
    for plural in (names.PLURAL, "configmaps", "secrets", "pods"):
        if not any(f"watcher for {plural}" in name for name in running):
            raise DeafError(f"nothing watches {plural}")
    return len(running)
