"""One look at a path of a key-value engine: is it as it was, and if not, what does it hold.

Version 2 is asked for the version first, and for the values only where that is another. Where
`metadata/` is forbidden, and with version 1, which has none, the values are read each time.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import hvac.exceptions

from embedding_operator.vault import failures
from embedding_operator.vault.addresses import Address, Identity, Values
from embedding_operator.vault.failures import Unreadable
from embedding_operator.vault.sessions import Session, Sessions

METADATA_FORBIDDEN: Final = "metadata is forbidden"
VERSION_1: Final = "KV version 1"


class Stamp(NamedTuple):
    """What tells one state of a path from another, without its values."""

    version: int
    created_at: str
    deleted_at: str
    destroyed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What stands at a path.

    `whole` is why it is read whole at each look, None where the version is asked for. `refused` is
    the serial of the login that may not read the metadata. `changed_at` is when the version was
    written, or where there are none when another value was seen; None where neither is known.
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
    """Looks at paths as the identities that they are for; safe to use from any thread."""

    def __init__(self, *, sessions: Sessions) -> None:
        self._sessions = sessions

    def forget(self, identity: Identity) -> None:
        """Nobody reads as this identity any more."""
        self._sessions.forget(identity)

    def read(self, address: Address, *, known: Content | None, patience_seconds: float) -> Content:
        """What stands there now; `known` itself where that is as it was.

        A login younger than `patience_seconds` that is refused is not made again.

        Raises:
            Unreadable: it cannot be read.
        """
        session = self._sessions.get(address.identity)
        try:
            try:
                return _read(session, address, known)
            except hvac.exceptions.Forbidden:
                # The token may have expired or been revoked, or the role given more since.
                renewed = self._sessions.after_refusal(
                    address.identity, session, patience_seconds=patience_seconds
                )
                if renewed is None:
                    raise
                return _read(renewed, address, known)
        except failures.FOREIGN as error:
            raise failures.of_reading(error) from None
        except (AttributeError, KeyError, TypeError, ValueError):
            raise Unreadable("VaultFailing", "what answers for {where} is not Vault") from None


def _read(session: Session, address: Address, known: Content | None) -> Content:
    # Not tried in turn: with version 1, data/PATH is a path that may be another namespace's.
    if _engine(session, address.mount) == 1:
        return _plain(session, address, known)
    found = _versioned(session, address, known)
    session.engines.setdefault(address.mount, 2)  # whoever may not ask for it needs not again
    return found


def _versioned(session: Session, address: Address, known: Content | None) -> Content:
    refused = known.refused if known is not None else None
    if known is not None and known.stamp is not None and refused != session.serial:
        try:
            if _newest(session, address) == known.stamp:
                return known
            refused = None
        except hvac.exceptions.Forbidden:
            refused = session.serial  # the values are asked for next, and tell a bad token
    try:
        body = _get(session, "data", address)
    except hvac.exceptions.InvalidPath as error:
        # A version that was deleted is 404 as well, but Vault tells of it.
        if not isinstance(error.json, dict) or not error.json.get("data"):
            raise
        body = error.json
    data = body.get("data")
    if not isinstance(data, dict) or not {"data", "metadata"} <= data.keys():
        raise Unreadable("VaultFailing", "what Vault answers for {where} is no KV version 2")
    stamp = _stamp(data["metadata"]["version"], data["metadata"])
    if data["data"] is None:
        raise _emptied(stamp)
    is_refused = refused is not None and refused == session.serial
    if known is not None and known.stamp == stamp:
        return dataclasses.replace(
            known, whole=METADATA_FORBIDDEN if is_refused else None, refused=refused
        )
    return Content(
        values=_values(data["data"]),
        stamp=stamp,
        whole=METADATA_FORBIDDEN if is_refused else None,
        refused=refused,
        changed_at=datetime.fromisoformat(stamp.created_at),
    )


def _newest(session: Session, address: Address) -> Stamp | None:
    """The state of the newest version, by the metadata; None where there is none."""
    data = _get(session, "metadata", address).get("data")
    if not isinstance(data, dict):
        return None
    number = data.get("current_version", 0)
    newest = (data.get("versions") or {}).get(str(number))
    return _stamp(number, newest) if newest else None


def _plain(session: Session, address: Address, known: Content | None) -> Content:
    try:
        data = _get(session, "", address).get("data")
    except hvac.exceptions.InvalidPath:
        session.engines.pop(address.mount, None)  # it may have become version 2
        raise
    if not isinstance(data, dict):
        raise Unreadable("VaultFailing", "what Vault answers for {where} is no KV version 1")
    values = _values(data)
    if known is not None and known.values == values:
        return known
    changed_at = datetime.now(UTC) if known is not None else None
    return Content(values=values, stamp=None, whole=VERSION_1, changed_at=changed_at)


def _engine(session: Session, mount: str) -> int:
    """The version of the engine at a mount, as Vault's own command line finds it out.

    https://developer.hashicorp.com/vault/api-docs/system/internal-ui-mounts

    Raises:
        Unreadable: it is an engine of another kind, which a read may change (database/creds).
    """
    if mount not in session.engines:
        try:
            answer = _object(session.vault.get(f"/v1/sys/internal/ui/mounts/{_quoted(mount)}"))
        except (hvac.exceptions.Forbidden, hvac.exceptions.InvalidPath):
            return 2  # it does not say so to whom may read nothing there, version 1 or 2
        found = answer.get("data") or {}
        if found.get("type") not in {"kv", "generic"}:
            raise Unreadable("MountUnsupported", "{where} is on no key-value mount")
        session.engines[mount] = 2 if (found.get("options") or {}).get("version") == "2" else 1
    return session.engines[mount]


def _emptied(stamp: Stamp) -> Unreadable:
    if stamp.destroyed:
        message = f"the newest version at {{where}}, {stamp.version}, is destroyed"
        return Unreadable("VersionDestroyed", message, gone=True)
    message = f"the newest version at {{where}}, {stamp.version}, is deleted"
    return Unreadable("VersionDeleted", message, gone=True)


def _stamp(version: int, told: Mapping[str, Any]) -> Stamp:
    return Stamp(version, told["created_time"], told["deletion_time"], told["destroyed"])


def _get(session: Session, part: str, address: Address) -> dict[str, Any]:
    pieces = ("/v1", _quoted(address.mount), part, _quoted(address.path))
    return _object(session.vault.get("/".join(piece for piece in pieces if piece)))


def _object(answer: object) -> dict[str, Any]:
    """An answer of Vault; the library passes on whatever is no JSON, as of another web server."""
    if not isinstance(answer, dict):
        raise hvac.exceptions.UnexpectedError("the answer is not Vault's")
    return answer


def _quoted(path: str) -> str:
    return quote(path, safe="/")


def _values(data: Mapping[str, object]) -> Values:
    return {key: _bytes(value) for key, value in data.items()}


def _bytes(value: object) -> bytes:
    """A Vault value as a Secret holds it: text as it is, anything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="surrogatepass")
