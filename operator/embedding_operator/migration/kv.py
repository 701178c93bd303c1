"""Vault's KV engine, as a migration uses it; beside package vault all that imports `hvac`.

Errors are classified by the class that the library gives a status; neither its texts nor a server's
are shown, as they may quote a request.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import hvac
import hvac.exceptions
import requests

from embedding_operator import errors
from embedding_operator.migration import target
from embedding_operator.migration.connection import Connection
from embedding_operator.migration.refusal import Refused
from embedding_operator.migration.target import Target

TIMEOUT_SECONDS: Final = 15
_MOUNTS: Final = "/v1/sys/internal/ui/mounts"
"""What a token may see of mounts; it needs no capability of its own, unlike sys/mounts."""


_AWAY: Final[Mapping[type[Exception], str]] = {
    hvac.exceptions.VaultDown: "is sealed or in standby (503)",
    hvac.exceptions.VaultNotInitialized: "is not initialised (501)",
    hvac.exceptions.InternalServerError: "failed (500)",
    hvac.exceptions.BadGateway: "has a gateway that fails (502)",
    hvac.exceptions.RateLimitExceeded: "is at its rate limit (429)",
    requests.exceptions.RequestException: "does not answer",
}


class BadRequestError(Refused):
    """Vault answered 400: to a write, that the path has changed since, or something else."""


class _NothingThereError(Refused):
    """Vault answered 404; `data` has the metadata of a version that is deleted or destroyed."""

    def __init__(self, message: str, data: dict[str, Any] | None) -> None:
        super().__init__(message)
        self.data = data


@dataclass(frozen=True, slots=True)
class Held:
    """What a path holds, and the version to name in check-and-set; 0 where there never was one."""

    values: Mapping[str, object] = field(repr=False)
    version: int


class Kv:
    """One Vault. Every method raises Refused, errors.Denied or errors.Unavailable."""

    def __init__(self, connection: Connection) -> None:
        self._address = connection.address
        certificate = connection.certificate
        self._client = hvac.Client(
            url=connection.address,
            token=connection.token,
            namespace=connection.namespace,
            verify=str(connection.trust) if connection.trust else True,
            cert=(str(certificate[0]), str(certificate[1])) if certificate else None,
            timeout=TIMEOUT_SECONDS,
            # A redirect would carry the token to another address.
            allow_redirects=False,
        )

    def target(self, to: str, *, mount: str | None) -> Target:
        """MOUNT/PATH on the longest mount that Vault lists, or on the one that is given."""
        target.plain(to)
        if mount is not None:
            name = target.given(to, mount)
            listed = self._object(f"reading mount {name}", lambda: self._get(f"{_MOUNTS}/{name}"))
            if str(listed.get("path", "")).strip("/") != name:
                raise Refused(f"--mount {mount}: Vault has no mount of just that name")
        else:
            found = self._object("listing mounts", lambda: self._get(_MOUNTS))
            mounts = found.get("secret")
            if not isinstance(mounts, dict):
                raise Refused(f"{self._address} does not answer as Vault does")
            name = target.longest(to, mounts)
            listed = mounts[f"{name}/"]
        return Target.of(to, mount=name, listed=listed)

    def read(self, where: Target) -> Held:
        """All that a path holds; nothing where its newest version is deleted or destroyed."""
        if where.version == 1:
            return Held(self._read(where, str(where)) or {}, 0)
        # Not by the library's method, which takes a destroyed version for a missing path.
        found = self._read(where, f"{where.mount}/data/{where.path}")
        if found is None:
            return Held({}, 0)
        return Held(found["data"] or {}, found["metadata"]["version"])

    def names(self, where: Target) -> frozenset[str]:
        """The keys of a path, by an endpoint that gives no values."""
        if where.version == 1:
            raise Refused(
                f"--names-only: {where.mount} is KV version 1, which gives names only with values"
            )
        found = self._read(where, f"{where.mount}/subkeys/{where.path}")
        return frozenset((found or {}).get("subkeys") or {})

    def write(self, where: Target, content: Mapping[str, object], *, version: int) -> None:
        """A new version of a path whose newest one is still `version`.

        Raises:
            BadRequestError: it is not, or Vault refuses the content.
        """
        self._object(
            f"writing {where}",
            lambda: self._client.secrets.kv.v2.create_or_update_secret(
                path=where.path, secret=dict(content), cas=version, mount_point=where.mount
            ),
        )

    def _get(self, path: str) -> Any:
        return self._client.adapter.get(path)

    def _read(self, where: Target, path: str) -> dict[str, Any] | None:
        try:
            return self._object(f"reading {where}", lambda: self._get(f"/v1/{path}"))
        except _NothingThereError as nothing:
            return nothing.data

    def _object(self, what: str, ask: Callable[[], Any]) -> dict[str, Any]:
        """The `data` of an answer."""
        try:
            answer = ask()
        except (hvac.exceptions.VaultError, OSError, ValueError) as error:
            failure: errors.OperatorError = self._failure(error, what)
        else:
            data = answer.get("data") if isinstance(answer, dict) else None
            if isinstance(data, dict):
                return data
            failure = Refused(f"{self._address} does not answer as Vault does ({what})")
        # Outside of the handler, so that the library's error, which may quote a request, is not
        # even the context of ours.
        raise failure

    def _failure(self, error: Exception, what: str) -> errors.OperatorError:
        if isinstance(error, hvac.exceptions.InvalidPath):
            data = error.json.get("data") if isinstance(error.json, dict) else None
            return _NothingThereError(f"Vault has nothing for {what} (404)", data)
        if isinstance(error, hvac.exceptions.InvalidRequest):
            return BadRequestError(f"Vault refuses the request for {what} (400)")
        if isinstance(error, hvac.exceptions.Forbidden | hvac.exceptions.Unauthorized):
            return errors.Denied(
                f"Vault forbids {what} (403): the token is not valid any more, or its policies do"
                " not allow it"
            )
        if isinstance(error, requests.exceptions.SSLError):
            return Refused(
                f"{self._address}: its certificate cannot be verified; VAULT_CACERT names the CA"
            )
        for kind, told in _AWAY.items():
            if isinstance(error, kind):
                return errors.Unavailable(f"{self._address} {told}; {what} can be tried again")
        is_answer = isinstance(error, hvac.exceptions.VaultError)
        told = "refuses" if is_answer else "cannot be asked"
        return Refused(f"{self._address} {told}; {what} failed ({type(error).__name__})")
