"""One read of a path: unchanged, or what it holds now.

Version 2 of the engine is asked for the version first, and for the values only where that has
changed. Where `metadata/` is forbidden, and with version 1, which has none, the values are read
each time.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from embedding_operator.vault import failures, kv
from embedding_operator.vault.addresses import Address, Identity, Values
from embedding_operator.vault.failures import VaultReadError
from embedding_operator.vault.kv import Stamp
from embedding_operator.vault.sessions import Session, Sessions

METADATA_FORBIDDEN: Final = "metadata is forbidden"
VERSION_1: Final = "KV version 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The content of a path.

    `whole` is the reason for reading the values each time; None if the version is compared.
    `refused` is the serial of the login that may not read the metadata. `changed_at` is the time of
    the version, or with version 1 of the last seen change; None if unknown.
    """

    values: Values = field(repr=False)
    stamp: Stamp | None
    whole: str | None = None
    refused: int | None = None
    changed_at: datetime | None = None

    @property
    def version(self) -> int | None:
        """The version; None where the engine has none."""
        return self.stamp.version if self.stamp else None


class Reader:
    """Reads paths, each as its own identity; safe to use from any thread."""

    def __init__(self, *, sessions: Sessions) -> None:
        self._sessions = sessions

    def forget(self, identity: Identity) -> None:
        """Drop the login of an identity that nobody reads as any more."""
        self._sessions.forget(identity)

    def read(self, address: Address, *, known: Content | None, patience_seconds: float) -> Content:
        """The path's content now; `known` itself where it is unchanged.

        A refused login is made anew once it is `patience_seconds` old.

        Raises:
            VaultReadError: the path cannot be read.
        """
        session = self._sessions.get(address.identity)
        try:
            try:
                return _read(session, address, known)
            except VaultReadError as failure:
                if failure.status != HTTPStatus.FORBIDDEN:
                    raise
                # The token may have expired or been revoked, or the role given more since.
                renewed = self._sessions.after_refusal(
                    address.identity, session, patience_seconds=patience_seconds
                )
                if renewed is None:
                    raise
                return _read(renewed, address, known)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise failures.not_vault() from None


def _read(session: Session, address: Address, known: Content | None) -> Content:
    # Not tried in turn: with version 1, data/PATH is a path that may be another namespace's.
    if _engine(session, address.mount) == 1:
        return _unversioned(session, address, known)
    found = _versioned(session, address, known)
    session.engines.setdefault(address.mount, 2)  # a login that may not ask needs not again
    return found


def _versioned(session: Session, address: Address, known: Content | None) -> Content:
    where = (session.vault, address.mount, address.path)
    refused = known.refused if known is not None else None
    if known is not None and known.stamp is not None and refused != session.serial:
        try:
            if kv.newest_stamp(*where) == known.stamp:
                return known
            refused = None
        except VaultReadError as failure:
            if failure.status != HTTPStatus.FORBIDDEN:
                raise
            refused = session.serial  # the values are asked for next, and tell a bad token
    found = kv.newest(*where)
    stamp = found.stamp
    if found.values is None:
        raise _emptied(stamp)
    whole = METADATA_FORBIDDEN if refused is not None and refused == session.serial else None
    if known is not None and known.stamp == stamp:
        return dataclasses.replace(known, whole=whole, refused=refused)
    return Content(
        values=_values(found.values),
        stamp=stamp,
        whole=whole,
        refused=refused,
        changed_at=datetime.fromisoformat(stamp.created_at),
    )


def _unversioned(session: Session, address: Address, known: Content | None) -> Content:
    try:
        values = _values(kv.unversioned(session.vault, address.mount, address.path))
    except VaultReadError as failure:
        if failure.status == HTTPStatus.NOT_FOUND:
            session.engines.pop(address.mount, None)  # it may have become version 2
        raise
    if known is not None and known.values == values:
        return known
    changed_at = datetime.now(UTC) if known is not None else None
    return Content(values=values, stamp=None, whole=VERSION_1, changed_at=changed_at)


def _engine(session: Session, mount: str) -> int:
    """The version of the engine at a mount.

    Raises:
        VaultReadError: it is an engine of another kind, which a read may change (database/creds).
    """
    if mount not in session.engines:
        try:
            found = kv.engine(kv.mount(session.vault, mount))
        except VaultReadError as failure:
            if failure.status in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
                return 2  # so Vault answers a login that may read nothing there, version 1 or 2
            raise
        if found is None:
            raise VaultReadError("MountUnsupported", "its mount is no key-value engine")
        session.engines[mount] = found
    return session.engines[mount]


def _emptied(stamp: Stamp) -> VaultReadError:
    newest = f"the newest version, {stamp.version},"
    if stamp.destroyed:
        return VaultReadError("VersionDestroyed", f"{newest} is destroyed", gone=True)
    return VaultReadError("VersionDeleted", f"{newest} is deleted", gone=True)


def _values(data: Mapping[str, object]) -> Values:
    return {key: _bytes(value) for key, value in data.items()}


def _bytes(value: object) -> bytes:
    """A Vault value as a Secret holds it: text as it is, anything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="surrogatepass")
