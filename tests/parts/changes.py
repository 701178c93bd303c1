"""Changes of a policy while all parts are harmed: its quota is edited, and its key is rotated."""

import json
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import hvac.exceptions
import requests

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.kube import kinds
from tests.fakes import provider
from tests.parts import skew, vault
from tests.parts.gate import Gate
from tests.parts.installation import wait
from tests.parts.reconciling import Administrator

QUOTA: Final = 10_000_000
"""Calls a day, before any edit; never used up."""
PROVIDER: Final = "a"
"""The provider whose key is looked at."""
EDIT_SECONDS: Final = 3.0
_AWAY: Final = (errors.Unavailable, hvac.exceptions.VaultError, requests.RequestException)


class Changes:
    """Edits of a policy's quota, and rotations of its key in Vault, also while they are refused."""

    def __init__(
        self, shop: skew.Shop, objects: Administrator, *, server: vault.Vault, gates: Sequence[Gate]
    ) -> None:
        self._shop = shop
        self._objects = objects
        self._vault = server
        self._gates = gates
        self.other_keys = (f"sk-other-{os.urandom(8).hex()}", provider.KEY)
        """Keys of other policies, which providers take all the time."""
        self.keys: list[str] = []
        self.edits = 0
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, *, rotation_seconds: float) -> None:
        """Edit and rotate in threads of their own until `finish`."""
        for seconds, change in ((EDIT_SECONDS, self.edit), (rotation_seconds, self.rotate)):
            thread = threading.Thread(target=self._repeat, args=(seconds, change), daemon=True)
            self._threads.append(thread)
            thread.start()

    def finish(self) -> None:
        """A last edit and a last key, each as often as it takes."""
        self._ending.set()
        for it in self._threads:
            it.join()
        for change in (self.edit, self.rotate):
            wait(partial(_is_done, change), "a last change")

    def edit(self) -> None:
        """Give the policy another quota."""
        self.edits += 1
        path = kinds.POLICY.path(self._shop.namespace, skew.POLICY)
        patch = {"spec": {"quota": {"daily": {"requests": QUOTA + self.edits}}}}
        content = "application/merge-patch+json"
        self._objects._call("PATCH", path, patch, content=content)

    def rotate(self) -> None:
        """Put a new key into Vault; providers take the old ones, too, until `revoke`."""
        key = f"sk-main-{os.urandom(8).hex()}"
        self.keys.append(key)
        self._accept(*self.keys)
        self._vault.write(f"{self._shop.namespace}/keys", KEY=key)

    def revoke(self) -> None:
        """Providers take the last key alone from now on."""
        self._accept(self.keys[-1])

    def have_arrived(self) -> bool:
        """True if document and Secret have the last edit and the last key."""
        found = self._objects.get(
            kinds.CONFIG_MAP, self._shop.namespace, names.document_configmap(skew.POLICY)
        )
        assert found is not None
        quota = json.loads(found["data"][names.DOCUMENT_KEY])["quota"]["daily"]["requests"]
        held = self._shop.secrets().get(names.secret_provider_key(PROVIDER), b"").decode()
        return bool(quota == QUOTA + self.edits and held == self.keys[-1])

    def _accept(self, *keys: str) -> None:
        for it in self._gates:
            it.accept((*keys, *self.other_keys))

    def _repeat(self, seconds: float, change: Callable[[], None]) -> None:
        while not self._ending.wait(seconds):
            _is_done(change)


def _is_done(change: Callable[[], None]) -> bool:
    try:
        change()
    except _AWAY:
        return False
    return True
