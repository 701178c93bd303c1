"""Vault as a migration reads and writes it, with failures in words for a command line."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar

from embedding_operator import errors
from embedding_operator.migration import target
from embedding_operator.migration.connection import Connection
from embedding_operator.migration.refusal import Refused
from embedding_operator.migration.target import Target
from embedding_operator.vault import connections, kv
from embedding_operator.vault.failures import VaultReadError

TIMEOUT_SECONDS: Final = 15
_TEMPORARY: Final = frozenset({429, 500, 501, 502, 503})
_Result = TypeVar("_Result")


class BadRequestError(Refused):
    """Vault answered 400: to a write, that the path has changed since, or something else."""


class Store:
    """The key-value engines of one Vault.

    Every method raises Refused, errors.Denied or errors.Unavailable.
    """

    def __init__(self, connection: Connection) -> None:
        self._address = connection.address
        certificate = connection.certificate
        self._vault = connections.Client(
            address=connection.address,
            timeout_seconds=TIMEOUT_SECONDS,
            token=connection.token,
            namespace=connection.namespace,
            verify=str(connection.ca) if connection.ca else True,
            cert=(str(certificate[0]), str(certificate[1])) if certificate else None,
        )

    def target(self, to: str, *, mount: str | None) -> Target:
        """MOUNT/PATH on the longest mount that Vault lists, or on the one that is given."""
        target.plain(to)
        if mount is not None:
            name = target.given(to, mount)
            listed = self._ask(f"mount {name}", lambda: kv.mount(self._vault, name))
            if str(listed.get("path", "")).strip("/") != name:
                raise Refused(f"--mount {mount}: Vault has no mount of exactly that name")
        else:
            mounts = self._ask("the list of mounts", lambda: kv.mounts(self._vault))
            name = target.longest(to, mounts)
            listed = mounts[f"{name}/"]
        version = kv.engine(listed)
        if version is None:
            raise Refused(f"--to: mount {name} is of type {listed.get('type')}, not kv")
        return Target(name, to.removeprefix(f"{name}/"), version)

    def read(self, where: Target) -> kv.State:
        """The newest version; the values of one that is deleted or destroyed are None."""
        place = (self._vault, where.mount, where.path)
        if where.version == 1:
            nothing: dict[str, Any] = {}
            return kv.State(self._ask(where, lambda: kv.unversioned(*place), missing=nothing))
        return self._ask(where, lambda: kv.newest(*place), missing=kv.State({}))

    def names(self, where: Target) -> frozenset[str]:
        """The keys of a path, without reading values."""
        if where.version == 1:
            raise Refused(
                f"--names-only: {where.mount} is KV version 1, which gives names only with values"
            )
        place = (self._vault, where.mount, where.path)
        return self._ask(where, lambda: kv.keys(*place), missing=frozenset())

    def write(self, where: Target, content: Mapping[str, object], *, version: int) -> None:
        """A new version of a path whose newest one is still `version`.

        Raises:
            BadRequestError: the newest version is another one, or Vault refuses the content.
        """
        place = (self._vault, where.mount, where.path)
        self._ask(where, lambda: kv.write(*place, content, version=version), verb="write")

    def _ask(
        self,
        where: object,
        request: Callable[[], _Result],
        *,
        missing: _Result | None = None,
        verb: str = "read",
    ) -> _Result:
        """The result of a request; `missing` where Vault has nothing, unless that is None."""
        try:
            return request()
        except VaultReadError as failure:
            if failure.status == HTTPStatus.NOT_FOUND and missing is not None:
                return missing
            raise self._error(failure, f"cannot {verb} {where}: {failure.cause}") from None

    def _error(self, failure: VaultReadError, told: str) -> errors.OperatorError:
        if failure.status == HTTPStatus.BAD_REQUEST:
            return BadRequestError(told)
        if failure.status in {401, 403}:
            return errors.Denied(
                f"{told}: the token is not valid any more, or its policies do not allow it"
            )
        if failure.status in _TEMPORARY:
            return errors.Unavailable(f"{told}; try again")
        if failure.status is None:
            return errors.Unavailable(
                f"{told} (VAULT_ADDR is {self._address}; VAULT_CACERT names its CA)"
            )
        return Refused(told)
