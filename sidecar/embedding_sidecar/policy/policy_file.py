"""Follows the mounted policy document and secrets, and keeps the last good ones.

kubelet swaps the `..data` link of a volume in one step, so files are read through the link (`stat`,
never `lstat`) and the directory is never mounted with subPath. A file's state is recorded only
after it was read, so that one that could not be read is read again.

A document can be written by anybody with the right to write ConfigMaps of the namespace. So where
the secrets have a document key, only a document that is signed with it is obeyed; and values of
classes are given to a document that was signed, and to no other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from embedding_contract import document, fingerprint, json_fields, names, proof

MAX_BYTES = 2**20
"""Bound of a document, and of all secrets together: a ConfigMap or a Secret has no more.
https://kubernetes.io/docs/concepts/configuration/configmap/#motivation"""

MAX_SIGNATURE_BYTES = 1024
"""Bound of a signature, which has 64 hexadecimal digits."""

State = tuple[tuple[str, int, int, int], ...]
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
        self._signature_path = path.with_name(names.DOCUMENT_SIGNATURE)
        self._document_state: tuple[State, str] | None = None
        """The state of document and signature, and the key that was there."""
        self._secrets_state: State | None = None
        self._document: document.PolicyDocument | None = None
        self._document_fingerprint = ""
        self._signed_with = ""
        """The key that signed the document; empty for none."""
        self._secrets: dict[str, bytes] = {}
        self._of_classes: dict[str, bytes] = {}
        """Values of classes that the document may have."""
        self.missing: str | None = f"there is no policy document at {path} yet"
        """The reason why there is no document; None once there is one."""
        self.rejected: str | None = None
        """The reason why the newest document is not in force; None if it is."""

    def poll(self) -> Loaded | None:
        """The new document and secrets; None if nothing changed or nothing can be used."""
        has_secrets = self._poll_secrets()
        has_document = self._poll_document()
        if has_document:
            # Its secrets may have come between the two.
            has_secrets = self._poll_secrets() or has_secrets
        if not (has_document or has_secrets) or self._document is None:
            return None
        return load(self._document, self._document_fingerprint, self._given())

    def _given(self) -> dict[str, bytes]:
        """The secrets that the document may have.

        One that an earlier key signed keeps the values of classes that came with that key: the new
        ones may be for other addresses. Values that have gone are gone for every document.
        """
        if self._signed_with and self._signed_with == self._document_key():
            self._of_classes = {k: it for k, it in self._secrets.items() if _is_of_class(k)}
        elif self._signed_with:
            self._of_classes = {k: it for k, it in self._of_classes.items() if k in self._secrets}
        else:
            self._of_classes = {}
        rest = {name: it for name, it in self._secrets.items() if not _is_of_class(name)}
        return {**rest, **self._of_classes}

    def _document_key(self) -> str:
        return self.secret(names.SECRET_DOCUMENT_KEY)

    def secret(self, name: str) -> str:
        """A secret's value as last read, also without a document; empty for none."""
        return _text(self._secrets.get(name, b""))

    def _poll_document(self) -> bool:
        key = self._document_key()
        try:
            signed = [self._path, *filter(Path.exists, [self._signature_path])]
            state = _state(signed)
            if (state, key) == self._document_state:
                return False
            if _size(state) > MAX_BYTES:
                self._document_state = state, key
                self.rejected = (
                    f"the policy document at {self._path} is longer than {MAX_BYTES} bytes"
                )
                return False
            text = _read(self._path)
            signature = b"".join(map(_read, signed[1:]))[:MAX_SIGNATURE_BYTES]
            if _state(signed) != state:
                return False  # swapped while it was read: the next poll sees the new one
        except OSError:
            # A vanished file changes nothing: the document stays in force.
            return False
        self._document_state = state, key
        try:
            _check_signature(key, signature, text)
            parsed = document.parse(text)
            self._check(parsed)
        except json_fields.InvalidDocument as error:
            self.rejected = f"the policy document at {self._path} cannot be used: {error}"
            return False
        self.missing = self.rejected = None
        self._document = parsed
        self._document_fingerprint = fingerprint.of_document(text)
        self._signed_with = key
        return True

    def _poll_secrets(self) -> bool:
        try:
            # `..data` and the directory it leads to are kubelet's own; entries have plain names.
            files = sorted(
                file
                for file in self._secrets_directory.iterdir()
                if not file.name.startswith("..") and file.is_file()
            )
            state = _state(files)
            if state == self._secrets_state:
                return False
            if _size(state) > MAX_BYTES:
                # The secrets stay, as where files vanish.
                return False
            contents = {file.name: _read(file) for file in files}
            if _state(files) != state:
                return False
        except OSError:
            # Missing, or swapped just now: the secrets stay.
            return False
        if self._secrets_state is not None and not contents:
            return False
        self._secrets_state = state
        self._secrets = contents
        return True


def load(
    parsed: document.PolicyDocument, document_fingerprint: str, secrets: Mapping[str, bytes]
) -> Loaded:
    """Document and secrets as one value.

    The API token is the key of the secrets' fingerprint, which is empty without one. The document
    key is in the fingerprint only.
    """
    token = secrets.get(names.SECRET_API_TOKEN, b"")
    values = {
        name: _text(value) for name, value in secrets.items() if name != names.SECRET_DOCUMENT_KEY
    }
    return Loaded(
        document=parsed,
        document_fingerprint=document_fingerprint,
        secrets=MappingProxyType(values),
        secrets_fingerprint=fingerprint.of_secrets(secrets, token=token) if token else "",
    )


def _check_signature(key: str, signature: bytes, text: bytes) -> None:
    if key and not proof.is_document_signed(key, _text(signature), text):
        message = (
            "the operator did not sign it, or with another key than the one that the Secret has now"
        )
        raise json_fields.InvalidDocument("signature", message)


def _is_of_class(name: str) -> bool:
    return name.startswith(names.CLASS_PREFIXES)


def _text(value: bytes) -> str:
    return value.decode(errors="replace").strip()


def _read(file: Path) -> bytes:
    """The beginning of a file; one that grows meanwhile has another state afterwards."""
    with file.open("rb") as opened:
        return opened.read(MAX_BYTES + 1)


def _size(state: State) -> int:
    return sum(size for _, _, size, _ in state)


def _state(files: list[Path]) -> State:
    found = []
    for file in files:
        status = file.stat()
        found.append((file.name, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
