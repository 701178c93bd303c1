"""One process that tells, on the addresses of many pods, what their sidecars would tell.

python -m tests.scale.sidecars KUBECONFIG

It follows the documents and owned Secrets of all policies, and gives a pod the newest ones as it
starts and with each nudge, as kubelet does (docs/decisions/003). Kubelet's own period of a minute
is left out, so that a nudge which does not come is seen.
"""

import sys
import time
from base64 import b64decode
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from embedding_contract import fingerprint, formats, names
from embedding_operator.kube import kinds
from embedding_operator.kube.kinds import Object
from tests.parts import answering, arrivals

POLICY_LABEL: Final = "app"
"""Policies of an estate select pods by their own name in it."""
FOLLOWS: Final = "follows"
ASKED: Final = "asked "
"""A line that begins so tells how often all sidecars were asked."""
COUNTED_SECONDS: Final = 1.0
_FIRST: Final = "started"


class Documents(arrivals.Watch):
    """The text of each policy's document, by its ConfigMap."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(kubeconfig, kinds.CONFIG_MAP, selector=arrivals.OURS)

    def value_of(self, found: Object) -> str | None:
        """The document."""
        text: str | None = (found.get("data") or {}).get(names.DOCUMENT_KEY)
        return text


class Secrets(arrivals.Watch):
    """The fingerprint of each policy's owned Secret, and its entries."""

    def __init__(self, kubeconfig: Path) -> None:
        self.tokens: dict[arrivals.Place, str] = {}
        super().__init__(kubeconfig, kinds.SECRET, selector=arrivals.OURS)

    def value_of(self, found: Object) -> str | None:
        """The fingerprint; None of a Secret that is no policy's own."""
        held = {key: b64decode(it) for key, it in (found.get("data") or {}).items()}
        token = held.get(names.SECRET_API_TOKEN)
        if token is None:
            return None
        metadata = found["metadata"]
        self.tokens[metadata["namespace"], metadata["name"]] = token.decode()
        return fingerprint.of_secrets(held, token=token)


@dataclass(frozen=True, slots=True)
class Mounted:
    """What a pod's volumes hold of its policy."""

    document: str
    secrets: str
    token: str


class Pods(arrivals.Watch):
    """The injected pods, and a sidecar at the address of each."""

    def __init__(
        self,
        kubeconfig: Path,
        *,
        documents: Documents,
        secrets: Secrets,
        there: answering.Answering,
    ) -> None:
        self._documents = documents
        self._secrets = secrets
        self._there = there
        self._running: dict[arrivals.Place, answering.Sidecar] = {}
        super().__init__(kubeconfig, kinds.POD, selector=names.LABEL_INJECTED)

    def value_of(self, found: Object) -> str | None:
        """The nudge that a pod has; None before it has an address."""
        if not found["status"].get("podIP"):
            return None
        annotations = found["metadata"].get("annotations") or {}
        return str(annotations.get(names.ANNOTATION_NUDGE, _FIRST))

    def came(self, place: arrivals.Place, value: str | None, found: Object) -> None:
        """Mount what is there now."""
        if value is None:
            return
        policy = found["metadata"]["labels"][POLICY_LABEL]
        mounted = self._mounted(place[0], policy)
        running = self._running.get(place)
        if running is None:
            self._running[place] = sidecar(mounted, uid=found["metadata"]["uid"])
            self._there.at(found["status"]["podIP"], self._running[place])
        else:
            running.pages = pages(mounted)

    def _mounted(self, namespace: str, policy: str) -> Mounted:
        secret = (namespace, names.owned_secret(policy))
        document = (namespace, names.document_configmap(policy))
        return Mounted(
            document=self._documents.last()[document].value,
            secrets=self._secrets.last()[secret].value,
            token=self._secrets.tokens[secret],
        )


def sidecar(mounted: Mounted, *, uid: str) -> answering.Sidecar:
    """A sidecar that obeys this; of its requests only the last is kept."""
    requests: deque[bytes] = deque(maxlen=1)
    return answering.Sidecar(token=mounted.token, uid=uid, pages=pages(mounted), requests=requests)


def pages(mounted: Mounted) -> dict[str, Any]:
    """What it tells of its policy and of its day."""
    obeyed = {
        "document_fingerprint": fingerprint.of_document(mounted.document.encode()),
        "secrets_fingerprint": mounted.secrets,
        "failures": {},
        "format": formats.CURRENT,
    }
    return {
        names.PATH_CONFIG: {**answering.CONFIG, **obeyed},
        names.PATH_QUOTA: answering.DAY,
    }


def main() -> None:
    """Tell it until the process is killed, and how often it was asked."""
    kubeconfig = Path(sys.argv[1])
    with answering.answering(names.ADMIN_PORT) as there:
        documents, secrets = Documents(kubeconfig), Secrets(kubeconfig)
        Pods(kubeconfig, documents=documents, secrets=secrets, there=there)
        print(FOLLOWS, flush=True)
        while True:
            time.sleep(COUNTED_SECONDS)
            print(f"{ASKED}{sum(list(there.accepted.values()))}", flush=True)


if __name__ == "__main__":
    main()
