"""The key-value engine of Vault, version 1 and 2: which one a mount has, what a path holds.

https://developer.hashicorp.com/vault/api-docs/secret/kv. Each function raises VaultReadError.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from embedding_operator.vault import failures
from embedding_operator.vault.connections import Client
from embedding_operator.vault.failures import VaultReadError

_MOUNTS: Final = "/v1/sys/internal/ui/mounts"
"""The mounts that a token sees, as Vault's own command line asks for them: unlike sys/mounts it
needs no capability (https://developer.hashicorp.com/vault/api-docs/system/internal-ui-mounts)."""


class Stamp(NamedTuple):
    """Tells one state of a path from another without its values; version 2 only."""

    version: int
    created_at: str
    deleted_at: str
    destroyed: bool


UNVERSIONED: Final = Stamp(0, "", "", destroyed=False)
"""Stands for a path of version 1, or one that has no version yet: check-and-set names 0."""


@dataclass(frozen=True, slots=True)
class State:
    """The content of a path; `values` is None if the newest version is deleted or destroyed."""

    values: Mapping[str, object] | None = field(repr=False)
    stamp: Stamp = UNVERSIONED


def mounts(vault: Client) -> dict[str, Any]:
    """Mounts of secrets that the token sees, by path, which ends in a slash."""
    listed: dict[str, Any] = _data(vault.get(_MOUNTS)).get("secret", {})
    return listed


def mount(vault: Client, name: str) -> dict[str, Any]:
    """One mount, or the one that `name` is a path of."""
    return _data(vault.get(f"{_MOUNTS}/{_quoted(name)}"))


def engine(listed: Mapping[str, Any]) -> int | None:
    """The version of a mount's key-value engine; None where the engine is of another kind."""
    if listed.get("type") not in {"kv", "generic"}:  # as the very first KV engines are called
        return None
    return 2 if (listed.get("options") or {}).get("version") == "2" else 1


def unversioned(vault: Client, mount: str, path: str) -> dict[str, Any]:
    """The values at a path of version 1."""
    return _data(_get(vault, mount, path))


def newest(vault: Client, mount: str, path: str) -> State:
    """The newest version at a path of version 2."""
    try:
        data = _data(_get(vault, mount, "data", path))
    except VaultReadError as error:
        # A version that was deleted is 404 as well, but Vault tells of it.
        if error.status != HTTPStatus.NOT_FOUND or not error.body.get("data"):
            raise
        data = _data(error.body)
    if not {"data", "metadata"} <= data.keys():
        raise VaultReadError("VaultFailing", "the answer is not one of KV version 2")
    return State(data["data"], _stamp(data["metadata"]["version"], data["metadata"]))


def newest_stamp(vault: Client, mount: str, path: str) -> Stamp | None:
    """The stamp of the newest version, by the metadata; None where there is none."""
    data = _data(_get(vault, mount, "metadata", path))
    number = data.get("current_version", 0)
    found = (data.get("versions") or {}).get(str(number))
    return _stamp(number, found) if found else None


def keys(vault: Client, mount: str, path: str) -> frozenset[str]:
    """The keys at a path of version 2, by an endpoint that gives no values."""
    return frozenset(_data(_get(vault, mount, "subkeys", path)).get("subkeys") or {})


def write(
    vault: Client, mount: str, path: str, values: Mapping[str, object], *, version: int
) -> None:
    """A new version of a path whose newest one is still `version`; else status 400."""
    body = {"options": {"cas": version}, "data": dict(values)}
    _data(vault.post(_address(mount, "data", path), json=body))


def _get(vault: Client, *parts: str) -> Any:
    return vault.get(_address(*parts))


def _address(*parts: str) -> str:
    return "/".join(("/v1", *map(_quoted, parts)))


def _quoted(part: str) -> str:
    return quote(part, safe="/")


def _data(answer: Any) -> dict[str, Any]:
    data = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(data, dict):
        raise failures.not_vault()
    return data


def _stamp(version: int, told: Mapping[str, Any]) -> Stamp:
    return Stamp(version, told["created_time"], told["deletion_time"], told["destroyed"])
