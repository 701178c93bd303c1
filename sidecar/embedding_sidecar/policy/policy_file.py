"""Follows the mounted policy document and secrets, and keeps the last good ones.

kubelet swaps the `..data` link of a volume in one step, so files are read through the link (`stat`,
never `lstat`) and the directory is never mounted with subPath. A file's state is recorded only
after it was read, so that one that could not be read is read again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from embedding_contract import document, fingerprint, json_fields, names

MAX_BYTES = 2**20
"""Bound of a document, and of all secrets together: a ConfigMap or a Secret has no more.
https://kubernetes.io/docs/concepts/configuration/configmap/#motivation"""

Signature = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and time of change in ns of each file: another one if a content may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A document and its secrets, which have no white space around them."""

    document: document.PolicyDocument
    document_fingerprint: str
    secrets: Mapping[str, str] = field(repr=False)
    secrets_fingerprint: str


class Follower:
    """Reads the files when they have changed.

    `check` raises json_fields.InvalidDocument for a valid document that cannot be carried out.
    """

    def __init__(
        self,
        *,
        path: Path,
        secrets: Path,
        check: Callable[[document.PolicyDocument], None] = lambda _: None,
    ) -> None:
        self._path = path
        self._check = check
        self._secrets_directory = secrets
        self._document_signature: Signature = ()
        self._secrets_signature: Signature | None = None
        self._document: document.PolicyDocument | None = None
        self._document_fingerprint = ""
        self._secrets: dict[str, bytes] = {}
        self.missing: str | None = f"there is no policy document at {path} yet"
        """The reason why there is no document; None once there is one."""
        self.rejected: str | None = None
        """The reason why the newest document is not in force; None if it is."""

    def poll(self) -> Loaded | None:
        """The new document and secrets; None if nothing changed or nothing can be used."""
        changed = self._poll_document()
        changed = self._poll_secrets() or changed
        if not changed or self._document is None:
            return None
        return load(self._document, self._document_fingerprint, self._secrets)

    def secret(self, name: str) -> str:
        """A secret's value as last read, also without a document; empty for none."""
        return _text(self._secrets.get(name, b""))

    def _poll_document(self) -> bool:
        try:
            signature = _signature([self._path])
            if signature == self._document_signature:
                return False
            if _size(signature) > MAX_BYTES:
                self._document_signature = signature
                self.rejected = (
                    f"the policy document at {self._path} is longer than {MAX_BYTES} bytes"
                )
                return False
            text = _read(self._path)
            if _signature([self._path]) != signature:
                return False  # swapped while it was read: the next poll sees the new one
        except OSError:
            # A vanished file changes nothing: the document stays in force.
            return False
        try:
            parsed = document.parse(text)
            self._check(parsed)
        except json_fields.InvalidDocument as error:
            self.rejected = f"the policy document at {self._path} cannot be used: {error}"
            self._document_signature = signature
            return False
        self._document = parsed
        self._document_fingerprint = fingerprint.of_document(text)
        self._document_signature = signature
        self.missing = self.rejected = None
        return True

    def _poll_secrets(self) -> bool:
        try:
            # `..data` and the directory it leads to are kubelet's own; entries have plain names.
            files = sorted(
                file
                for file in self._secrets_directory.iterdir()
                if not file.name.startswith("..") and file.is_file()
            )
            signature = _signature(files)
            if signature == self._secrets_signature:
                return False
            if _size(signature) > MAX_BYTES:
                # The secrets stay, as where files vanish.
                return False
            contents = {file.name: _read(file) for file in files}
            if _signature(files) != signature:
                return False
        except OSError:
            # Missing, or swapped just now: the secrets stay.
            return False
        if self._secrets_signature is not None and not contents:
            return False
        self._secrets_signature = signature
        self._secrets = contents
        return True


def load(
    parsed: document.PolicyDocument, document_fingerprint: str, secrets: Mapping[str, bytes]
) -> Loaded:
    """Document and secrets as one value.

    The API token is the key of the secrets' fingerprint, which is empty without one.
    """
    token = secrets.get(names.SECRET_API_TOKEN, b"")
    values = {name: _text(value) for name, value in secrets.items()}
    return Loaded(
        document=parsed,
        document_fingerprint=document_fingerprint,
        secrets=MappingProxyType(values),
        secrets_fingerprint=fingerprint.of_secrets(secrets, token=token) if token else "",
    )


def _text(value: bytes) -> str:
    return value.decode(errors="replace").strip()


def _read(file: Path) -> bytes:
    """The beginning of a file; one that grows meanwhile has another signature afterwards."""
    with file.open("rb") as opened:
        return opened.read(MAX_BYTES + 1)


def _size(signature: Signature) -> int:
    return sum(size for _, _, size, _ in signature)


def _signature(files: list[Path]) -> Signature:
    found = []
    for file in files:
        status = file.stat()
        found.append((file.name, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
