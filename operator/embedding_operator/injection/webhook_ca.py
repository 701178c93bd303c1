"""The webhook's CA: a Secret, a file, and the caBundle in the webhook's configuration.

The replica that holds the Lease writes the Secret and the configuration; the others read the
Secret, and make it where there is none: the holder may have values that need no webhook, and waits
for these replicas to be ready. All three are checked at the start, every minute, when a certificate
is due and when this replica gets the Lease: an upgrade of the chart may remove the caBundle, and an
API server that cannot call the webhook creates pods without sidecars.

The caBundle has the former authority beside the new one, and a certificate of a new authority is
served only once the API server has been told of that authority: replicas change at different times.
"""

import base64
import logging
import os
import threading
import time
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
"""Between looks at the clock, which need no request: a suspended cluster wakes with a late one."""
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
    """Keeps the Secret, the file and the webhook's configuration in agreement.

    `objects` writes only while this replica holds the Lease, and `free` always: by it a Secret is
    created, which one replica succeeds in.
    """

    def __init__(
        self,
        *,
        objects: KubeClient,
        free: KubeClient,
        place: Place,
        may_write: Callable[[], bool],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._objects = objects
        self._free = free
        self._place = place
        self._may_write = may_write
        self._clock = clock
        self._due_at: datetime | None = None
        self._could_write = False
        self._owner: dict[str, Any] | None = None

    def check(self) -> None:
        """Check and repair all three; without the right to write a missing Secret and the file.

        Raises:
            errors.OperatorError: the API server does not answer or refuses, or was told of a new
                authority just now.
        """
        may_write = self._could_write = self._may_write()
        bundle = (None if may_write else self._stored()) or self._bundle()
        if not self._place.file.exists():
            self._write(bundle)  # nothing better can be served
        if not self._tell(bundle, may_write=may_write) and bundle.former:
            # API servers learn of it by a watch, within less than RETRY_SECONDS.
            raise errors.Unavailable("it was told of a new authority just now", reason="JustTold")
        self._write(bundle)
        self._due_at = certificates.due_at(bundle)

    def run(self, stopping: threading.Event) -> None:
        """Check every minute until stopped, and sooner after a failure or with the Lease.

        Helm creates the webhook configuration after the Deployment.
        """
        told = ""
        while not stopping.is_set():
            said = ""
            try:
                self.check()
            except (errors.OperatorError, OSError) as error:  # OSError: no space for the file
                said = str(error)
            except Exception as error:  # noqa: BLE001 - no bug may end this thread
                _LOG.exception("checking the webhook's certificate failed")
                said = type(error).__name__
            if said and said != told:
                _LOG.warning("the API server may not trust the webhook: %s", said)
            told = said
            is_soon = bool(said) or self._is_due()
            self._wait(stopping, RETRY_SECONDS if is_soon else CHECK_SECONDS)

    def _wait(self, stopping: threading.Event, seconds: float) -> None:
        """Wait until stopped, or for so long, or until a certificate is due or the Lease is got."""
        ends_at, was_due = time.monotonic() + seconds, self._is_due()
        while (left := ends_at - time.monotonic()) > 0 and not stopping.wait(
            min(left, LOOK_SECONDS)
        ):
            if (self._is_due() and not was_due) or self._gets_lease():
                return

    def _gets_lease(self) -> bool:
        """True if this replica may write and could not at the last check."""
        return self._may_write() and not self._could_write

    def _is_due(self) -> bool:
        """True if a certificate is due, which the holder of the Lease has yet to renew."""
        return self._due_at is not None and self._due_at < self._clock()

    def _stored(self) -> certificates.Bundle | None:
        """The bundle in the Secret as it is; None where there is none."""
        return _read(self._objects.get(kinds.SECRET, self._place.namespace, self._place.secret))

    def _bundle(self) -> certificates.Bundle:
        """The bundle in the Secret, renewed if due."""
        for _ in range(_ATTEMPTS):
            place, now = self._place, self._clock()
            stored = self._objects.get(kinds.SECRET, place.namespace, place.secret)
            found = _read(stored)
            to_make = certificates.plan(found, hosts=place.hosts, now=now)
            if found is not None and to_make == "keep" and self._has_owner(stored):
                return found
            made = found if to_make == "keep" else None
            made = made or certificates.issue(
                None if to_make == "all" else found,
                hosts=place.hosts,
                now=now,
                renews_authority=to_make == "authority",
            )
            try:
                self._store(made, stored)
            except errors.Conflict:
                continue  # another replica was first: read its Secret
            if to_make != "keep":
                _LOG.info("made the webhook's certificate (%s)", to_make)
            return made
        raise errors.Unavailable(f"the Secret {self._place.secret} keeps changing")

    def _has_owner(self, stored: Mapping[str, Any] | None) -> bool:
        """True if the Secret goes with its owner, or can have none."""
        owner = self._account_reference()
        owners = (stored or {}).get("metadata", {}).get("ownerReferences") or []
        return owner is None or any(it.get("uid") == owner["uid"] for it in owners)

    def _account_reference(self) -> dict[str, Any] | None:
        """The operator's ServiceAccount, with which an uninstalled chart's Secret goes."""
        if self._owner is None:
            try:
                found = self._free.own_account()
            except errors.Denied:  # whoever took this right from all users; the webhook is more
                return None
            if found is None or found.namespace != self._place.namespace:
                return None
            kind = {"apiVersion": "v1", "kind": "ServiceAccount"}
            self._owner = {**kind, "name": found.name, "uid": found.uid}
        return self._owner

    def _store(self, bundle: certificates.Bundle, stored: dict[str, Any] | None) -> None:
        values = (bundle.trusted, bundle.authority_key, bundle.certificate, bundle.key)
        metadata: dict[str, Any] = {
            "name": self._place.secret,
            "namespace": self._place.namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
        }
        if (owner := self._account_reference()) is not None:
            metadata["ownerReferences"] = [owner]
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
            self._free.create(kinds.SECRET, self._place.namespace, body)
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

    def _tell(self, bundle: certificates.Bundle, *, may_write: bool) -> bool:
        """Set the caBundle in every webhook of the configuration, if this replica may.

        False if the API server did not trust the newest authority before, but an earlier one.
        """
        name = self._place.configuration
        found = self._objects.get(kinds.WEBHOOK, None, name)
        if found is None:
            if not may_write:
                return True
            raise errors.Unavailable(f"there is no MutatingWebhookConfiguration {name}")
        wanted = base64.b64encode(bundle.trusted).decode()
        webhooks = found.get("webhooks") or []
        stood = [webhook["clientConfig"].get("caBundle") or "" for webhook in webhooks]
        if all(it == wanted for it in stood):
            return True
        if may_write:
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
        trusted = [base64.b64decode(it) for it in stood if it]
        return all(certificates.holds(it, bundle.authority) for it in trusted)


def _read(stored: Mapping[str, Any] | None) -> certificates.Bundle | None:
    data = (stored or {}).get("data") or {}
    if not all(key in data for key in _KEYS):
        return None
    trusted, authority_key, certificate, key = (base64.b64decode(data[key]) for key in _KEYS)
    authority, former = certificates.split(trusted)
    return certificates.Bundle(
        authority=authority,
        former=former,
        authority_key=authority_key,
        certificate=certificate,
        key=key,
    )
