"""The webhook's CA: a Secret, a file, and the caBundle in the webhook's configuration.

The replica that holds the Lease writes the Secret and the configuration; the others read the
Secret. All three are checked at the start and every minute: an upgrade of the chart may remove the
caBundle, and an API server that cannot call the webhook creates pods without sidecars.
"""

import base64
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.injection import certificates
from embedding_operator.kube import kinds
from embedding_operator.kube.client import KubeClient

_LOG = logging.getLogger(__name__)

CHECK_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.2
"""Between looks at a Secret that the holder of the Lease has not written yet."""
_NOT_WRITTEN: Final = "NotWritten"
FIELD_MANAGER: Final = "embedding-operator-webhook"
_ATTEMPTS: Final = 5
_KEYS: Final = ("ca.crt", "ca.key", "tls.crt", "tls.key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The names of the chart's objects, and a folder of this process."""

    namespace: str
    secret: str
    service: str
    configuration: str
    directory: Path

    @property
    def hosts(self) -> tuple[str, ...]:
        """The DNS names of the Service; the API server uses the first."""
        host = f"{self.service}.{self.namespace}.svc"
        return (host, f"{host}.cluster.local")

    @property
    def file(self) -> Path:
        """Certificate and key in one file, so that a reader never mixes two pairs."""
        return self.directory / "webhook.pem"


class WebhookCA:
    """Keeps the Secret, the file and the webhook's configuration in agreement."""

    def __init__(
        self,
        *,
        objects: KubeClient,
        place: Place,
        may_write: Callable[[], bool],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._objects = objects
        self._place = place
        self._may_write = may_write
        self._clock = clock

    def check(self) -> None:
        """Check and repair all three; without the right to write only the file.

        Raises:
            errors.OperatorError: the API server does not answer or refuses, or the Secret is not
                there and only another replica may make it.
        """
        may_write = self._may_write()
        bundle = self._bundle() if may_write else self._stored()
        self._write(bundle)
        if may_write:
            self._tell(bundle)

    def run(self, stopping: threading.Event) -> None:
        """Check every minute until stopped, and sooner after a failure.

        Helm creates the webhook configuration after the Deployment.
        """
        told = ""
        while not stopping.is_set():
            said = ""
            try:
                self.check()
            except errors.Unavailable as error:
                if error.reason == _NOT_WRITTEN:  # as at the start of the first replicas
                    stopping.wait(LOOK_SECONDS)
                    continue
                said = str(error)
            except (errors.OperatorError, OSError) as error:  # OSError: no space for the file
                said = str(error)
            except Exception as error:  # noqa: BLE001 - no bug may end this thread
                _LOG.exception("checking the webhook's certificate failed")
                said = type(error).__name__
            if said and said != told:
                _LOG.warning("the API server may not trust the webhook: %s", said)
            told = said
            stopping.wait(RETRY_SECONDS if said else CHECK_SECONDS)

    def _stored(self) -> certificates.Bundle:
        """The bundle in the Secret as it is."""
        place = self._place
        found = _read(self._objects.get(kinds.SECRET, place.namespace, place.secret))
        if found is None:
            raise errors.Unavailable(
                f"the replica that holds the Lease has not written the Secret {place.secret} yet",
                reason=_NOT_WRITTEN,
            )
        return found

    def _bundle(self) -> certificates.Bundle:
        """The bundle in the Secret, renewed if due."""
        for _ in range(_ATTEMPTS):
            place, now = self._place, self._clock()
            stored = self._objects.get(kinds.SECRET, place.namespace, place.secret)
            found = _read(stored)
            to_make = certificates.plan(found, hosts=place.hosts, now=now)
            if found is not None and to_make == "keep":
                return found
            made = certificates.issue(
                found if to_make == "leaf" else None, hosts=place.hosts, now=now
            )
            try:
                self._store(made, stored)
            except errors.Conflict:
                continue  # another replica was first: read its Secret
            _LOG.info("made the webhook's certificate (%s)", to_make)
            return made
        raise errors.Unavailable(f"the Secret {self._place.secret} keeps changing")

    def _store(self, bundle: certificates.Bundle, stored: dict[str, Any] | None) -> None:
        values = (bundle.authority, bundle.authority_key, bundle.certificate, bundle.key)
        metadata: dict[str, Any] = {
            "name": self._place.secret,
            "namespace": self._place.namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
        }
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": metadata,
            "data": {
                key: base64.b64encode(value).decode()
                for key, value in zip(_KEYS, values, strict=True)
            },
        }
        if stored is None:
            self._objects.create(kinds.SECRET, self._place.namespace, body)
        else:
            metadata["resourceVersion"] = stored["metadata"]["resourceVersion"]
            body["type"] = stored["type"]  # immutable
            self._objects.replace(kinds.SECRET, self._place.namespace, body)

    def _write(self, bundle: certificates.Bundle) -> None:
        content = bundle.certificate + bundle.key
        file = self._place.file
        if file.exists() and file.read_bytes() == content:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_bytes(content)
        os.replace(new, file)  # noqa: PTH105 - the word for what it does

    def _tell(self, bundle: certificates.Bundle) -> None:
        """Set the caBundle in every webhook of the configuration."""
        name = self._place.configuration
        found = self._objects.get(kinds.WEBHOOK, None, name)
        if found is None:
            raise errors.Unavailable(f"there is no MutatingWebhookConfiguration {name}")
        wanted = base64.b64encode(bundle.authority).decode()
        webhooks = found.get("webhooks") or []
        if all(webhook["clientConfig"].get("caBundle") == wanted for webhook in webhooks):
            return
        self._objects.apply(
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": name},
                "webhooks": [
                    {"name": webhook["name"], "clientConfig": {"caBundle": wanted}}
                    for webhook in webhooks
                ],
            },
            manager=FIELD_MANAGER,
        )


def _read(stored: Mapping[str, Any] | None) -> certificates.Bundle | None:
    data = (stored or {}).get("data") or {}
    if not all(key in data for key in _KEYS):
        return None
    authority, authority_key, certificate, key = (base64.b64decode(data[key]) for key in _KEYS)
    return certificates.Bundle(
        authority=authority, authority_key=authority_key, certificate=certificate, key=key
    )
