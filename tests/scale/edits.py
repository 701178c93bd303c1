"""Edits of policies at a steady rate, and the time until each is in its ConfigMap."""

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from embedding_contract import names
from embedding_operator.kube import kinds
from embedding_operator.kube.kinds import Object, ObjectKey
from tests.parts import arrivals, direct, estate, pacing

DOCUMENT: Final = names.DOCUMENT_KEY
FIRST_NUMBER: Final = 1_000
SENDERS: Final = 8
SEEN_SECONDS: Final = 300
NONE: Final = "0"


class Documents(arrivals.Watch):
    """The number of each policy's document."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(kubeconfig, kinds.CONFIG_MAP, selector=arrivals.OURS)

    def value_of(self, found: Object) -> str | None:
        """The daily quota that it says."""
        text = (found.get("data") or {}).get(DOCUMENT)
        return None if text is None else number_of(json.loads(text))


def number_of(found: Any) -> str:
    """The number of a spec or a document: its daily quota."""
    daily = (found.get("quota") or {}).get("daily") or {}
    return str(daily.get("requests", NONE))


def with_number(configmap: Object, number: str) -> Object:
    """A policy's ConfigMap with another number in its document."""
    document = json.loads(configmap["data"][DOCUMENT])
    quota = document.get("quota") or {}
    daily = {**(quota.get("daily") or {}), "requests": int(number)}
    changed = {**document, "quota": {**quota, "daily": daily}}
    return {**configmap, "data": {**configmap["data"], DOCUMENT: json.dumps(changed)}}


@contextmanager
def watched(kubeconfig: Path) -> Iterator[Documents]:
    """The documents, from now on."""
    found = Documents(kubeconfig)
    try:
        yield found
    finally:
        found.close()


class Editor:
    """Gives policies one number after another."""

    def __init__(self, built: estate.Estate, *, seed: int = 0) -> None:
        self._built = built
        self._chosen = random.Random(seed)
        self._number = FIRST_NUMBER
        self._connections = threading.local()
        self._opened: list[direct.Direct] = []

    def measure(self, documents: Documents, *, a_second: int, seconds: int) -> tuple[float, ...]:
        """Seconds from each edit, as it is sent, to its document; each of another policy."""
        policies = self._chosen.sample(self._built.policies, a_second * seconds)
        keys = [ObjectKey(*policy) for policy in policies]
        sent = pacing.paced(self.edit, keys, a_second=a_second, threads=SENDERS)
        return tuple(
            documents.wait(
                (policy.namespace, names.document_configmap(policy.name)),
                number,
                timeout_seconds=SEEN_SECONDS,
            )
            - at
            for policy, number, at in sent
        )

    def close(self) -> None:
        """End its connections."""
        for it in self._opened:
            it.close()

    def edit(self, policy: ObjectKey) -> tuple[ObjectKey, str, float]:
        """Give a policy the next number; that, and when it was sent."""
        self._number += 1
        number = self._number
        patch = {"spec": {"quota": {"daily": {"requests": number}}}}
        at = time.monotonic()
        self._connection().done("PATCH", kinds.POLICY.path(*policy), patch, content=direct.MERGE)
        return policy, str(number), at

    def _connection(self) -> direct.Direct:
        found: direct.Direct | None = getattr(self._connections, "one", None)
        if found is None:
            found = self._connections.one = direct.Direct(self._built.asked.kubeconfig)
            self._opened.append(found)
        return found
