"""The index document and the token in force: files of the pod, read again and again."""

import asyncio
import logging
from typing import Final

from embedding_contract.index_document import IndexDocument
from embedding_contract.json_fields import InvalidDocument
from embedding_vectors import settings
from embedding_vectors.settings import Loaded, Settings

POLL_SECONDS: Final = 0.5

_log = logging.getLogger(__name__)


class InForce:
    """Holds the last good document. A file that vanished changes nothing."""

    def __init__(self, *, settings_: Settings, name: str | None = None) -> None:
        self._settings = settings_
        self._name = name
        self._loaded: Loaded | None = None
        self._told = ""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the document in force; empty where there is none."""
        return self._loaded.fingerprint if self._loaded else ""

    def document(self) -> IndexDocument | None:
        """The document; None where there is none yet."""
        return self._loaded.document if self._loaded else None

    def token(self) -> str:
        """The policy's API token; empty where there is none."""
        return settings.token(self._settings)

    def look(self) -> None:
        """Read the document again, and use it from now on if it is valid."""
        try:
            loaded = settings.load(self._settings, name=self._name)
        except (OSError, InvalidDocument) as error:
            problem = f"the index document at {self._settings.document} cannot be used: {error}"
            if problem != self._told:
                _log.warning("%s", problem)
            self._told = problem
            return
        self._told = ""
        if self._loaded is None or loaded.fingerprint != self._loaded.fingerprint:
            self._loaded = loaded
            _log.info("index %s is in force: %s", loaded.document.name, loaded.fingerprint)

    async def follow(self) -> None:
        """Call `look` at intervals, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(POLL_SECONDS)
