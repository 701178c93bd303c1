"""Vault (or OpenBao) as this operator uses it; the only module that imports `hvac`.

One login per identity, renewed at two thirds of its lease; one read per identity and path and poll
interval, whoever asks, so that repairing drift asks Vault nothing. What cannot be read is a
`Problem` that names mount and path; no value is in any message.
"""

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import hvac
import hvac.exceptions
import requests

from embedding_operator import errors, guard

TIMEOUT_SECONDS: Final = 5
FAILURE_SECONDS: Final = 2.0
"""How long a failed read is not tried again, whoever asks."""
TOKEN_SECONDS: Final = 600  # the least that TokenRequest gives
JITTER: Final = 0.1

Values = Mapping[str, bytes]

_PROBLEMS: Final[Mapping[type[Exception], tuple[str, str]]] = {
    hvac.exceptions.InvalidPath: ("PathMissing", "there is nothing at {where}"),
    hvac.exceptions.Forbidden: ("VaultForbidden", "Vault's policy forbids reading {where}"),
    hvac.exceptions.Unauthorized: ("VaultForbidden", "Vault refused the login for {where}"),
    hvac.exceptions.InvalidRequest: ("VaultRefused", "Vault refused the request for {where}"),
    hvac.exceptions.RateLimitExceeded: ("VaultBusy", "Vault's rate limit is reached for {where}"),
    hvac.exceptions.InternalServerError: ("VaultFailing", "Vault failed (500) on {where}"),
    hvac.exceptions.VaultNotInitialized: ("VaultSealed", "Vault is not initialised; {where}"),
    hvac.exceptions.VaultDown: ("VaultSealed", "Vault is sealed or in standby (503); {where}"),
    hvac.exceptions.BadGateway: ("VaultUnreachable", "Vault's gateway fails (502) for {where}"),
    hvac.exceptions.UnexpectedError: ("VaultFailing", "Vault answered {where} unexpectedly"),
    hvac.exceptions.UnsupportedOperation: ("VaultRefused", "Vault cannot do that on {where}"),
    hvac.exceptions.PreconditionFailed: ("VaultFailing", "Vault is not consistent for {where}"),
    hvac.exceptions.ParamValidationError: ("VaultRefused", "the reference {where} is malformed"),
    hvac.exceptions.VaultError: ("VaultFailing", "Vault failed on {where}"),
    requests.exceptions.RequestException: ("VaultUnreachable", "Vault does not answer; {where}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where Vault is and how to sign in. All of it is the administrator's, none a policy's."""

    address: str
    ca_file: Path | None = None
    vault_namespace: str | None = None
    method: str = "kubernetes"
    auth_mount: str = "kubernetes"
    audience: str = "vault"
    token_file: Path | None = None
    poll_seconds: float = 60.0


class Identity(NamedTuple):
    """As whom Vault is asked: a ServiceAccount of the policy's own namespace, and a role."""

    namespace: str
    service_account: str
    role: str | None


class Tokens(Protocol):
    """Makes tokens of ServiceAccounts."""

    def service_account_token(
        self, *, namespace: str, name: str, audience: str, seconds: int
    ) -> str | None:
        """A token; None where there is no such account."""
        ...


@dataclass(slots=True)
class _Session:
    client: hvac.Client = field(repr=False)
    renew_at: float
    since: float = float("-inf")


@dataclass(frozen=True, slots=True)
class _Known:
    until: float
    answer: Values | errors.Problem = field(repr=False)


class _NoAccountError(Exception):
    pass


class Vault:
    """Reads of one Vault; safe to use from any thread."""

    def __init__(
        self,
        *,
        settings: Settings,
        rules: guard.Guard,
        tokens: Tokens,
        observe: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._tokens = tokens
        self._observe = observe
        self._clock = clock
        self._lock = threading.Lock()
        self._locks: dict[object, threading.Lock] = {}
        self._sessions: dict[Identity, _Session] = {}
        self._known: dict[tuple[Identity, str, str], _Known] = {}

    def read(self, identity: Identity, *, mount: str, path: str) -> Values | errors.Problem:
        """All keys of a KV v2 path, at most one poll interval old, or why not."""
        refusal = self._rules.refusal(namespace=identity.namespace, mount=mount, path=path)
        if refusal is not None:
            return errors.Problem("PathNotAllowed", refusal.message)
        address = (identity, mount, path)
        with self._exclusive(address):
            known = self._known.get(address)
            if known is not None and self._clock() < known.until:
                return known.answer
            answer = self._ask(identity, mount=mount, path=path)
            failed = isinstance(answer, errors.Problem)
            seconds = min(FAILURE_SECONDS, self._settings.poll_seconds)
            if not failed:
                # Jitter, so that paths which were first read together drift apart.
                seconds = self._settings.poll_seconds * random.uniform(1 - JITTER, 1)  # noqa: S311
            self._known[address] = _Known(self._clock() + seconds, answer)
            self._forget_unused()
            return answer

    def _ask(self, identity: Identity, *, mount: str, path: str) -> Values | errors.Problem:
        where = f"{mount}/{path}"
        try:
            try:
                answer = self._read(identity, mount=mount, path=path)
            except hvac.exceptions.Forbidden:
                # The token may have expired or been revoked: sign in once more. Not for each path
                # that is forbidden, as Vault keeps every login until its lease ends.
                session = self._sessions.get(identity)
                if session is None or self._is_new(session):
                    raise
                self._sessions.pop(identity, None)
                answer = self._read(identity, mount=mount, path=path)
        except _NoAccountError:
            return errors.Problem(
                "ServiceAccountMissing",
                f"{where} is read as ServiceAccount {identity.namespace}/"
                f"{identity.service_account}, which does not exist",
            )
        except (hvac.exceptions.VaultError, requests.exceptions.RequestException) as error:
            found = problem(error, where)
            self._observe(found.reason)
            return found
        except errors.OperatorError as error:
            return errors.Problem("TokenRefused", f"{where}: {error}")
        self._observe("ok")
        data = answer.get("data")
        if not isinstance(data, dict) or not {"data", "metadata"} <= data.keys():
            return errors.Problem("VaultFailing", f"{where} is not on a KV version 2 mount")
        if data["data"] is None:
            state = "destroyed" if data["metadata"]["destroyed"] else "deleted"
            return errors.Problem("PathMissing", f"the newest version at {where} is {state}")
        return {key: _bytes(value) for key, value in data["data"].items()}

    def _read(self, identity: Identity, *, mount: str, path: str) -> dict[str, Any]:
        client = self._session(identity)
        return _object(
            client.secrets.kv.v2.read_secret_version(
                path=path, mount_point=mount, raise_on_deleted_version=False
            )
        )

    def _session(self, identity: Identity) -> hvac.Client:
        with self._exclusive(identity):
            session = self._sessions.get(identity)
            if session is None or self._clock() >= session.renew_at:
                session = self._login(identity)
                self._sessions[identity] = session
            return session.client

    def _login(self, identity: Identity) -> _Session:
        settings = self._settings
        client = hvac.Client(
            url=settings.address,
            verify=str(settings.ca_file) if settings.ca_file else True,
            namespace=settings.vault_namespace,
            timeout=TIMEOUT_SECONDS,
            # The address is the administrator's; a redirect would carry the token elsewhere.
            allow_redirects=False,
        )
        if settings.method == "token":
            if settings.token_file is None:
                raise errors.Denied("no token file is configured")
            try:
                client.token = settings.token_file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise errors.Denied(f"token file: {error.strerror}") from None
            # The file may be rotated under us: read it again at the next poll.
            now = self._clock()
            return _Session(client, since=now, renew_at=now + settings.poll_seconds)
        if identity.role is None:
            raise errors.Denied("spec.vault.role is not set, and Vault is asked by Kubernetes auth")
        jwt = self._tokens.service_account_token(
            namespace=identity.namespace,
            name=identity.service_account,
            audience=settings.audience,
            seconds=TOKEN_SECONDS,
        )
        if jwt is None:
            raise _NoAccountError
        answer = _object(
            client.auth.kubernetes.login(
                role=identity.role, jwt=jwt, mount_point=settings.auth_mount
            )
        )
        lease_seconds = float(answer["auth"]["lease_duration"])
        now = self._clock()
        return _Session(client, since=now, renew_at=now + lease_seconds * 2 / 3)

    def _is_new(self, session: _Session) -> bool:
        return self._clock() - session.since < self._settings.poll_seconds

    def _exclusive(self, what: object) -> threading.Lock:
        """One lock for each identity and each path: equal questions are asked once."""
        with self._lock:
            return self._locks.setdefault(what, threading.Lock())

    def _forget_unused(self) -> None:
        """Let go of what nobody has asked for in two poll intervals: values, logins, locks."""
        now = self._clock()
        # Lists, as other threads add meanwhile.
        for address, known in list(self._known.items()):
            if now > known.until + self._settings.poll_seconds:
                self._known.pop(address, None)
        for identity, session in list(self._sessions.items()):
            if now >= session.renew_at:
                self._sessions.pop(identity, None)
        with self._lock:
            kept = self._known.keys() | self._sessions.keys()
            self._locks = {
                it: lock for it, lock in self._locks.items() if it in kept or lock.locked()
            }


def problem(error: Exception, where: str) -> errors.Problem:
    """What a failure of the client library means, by its class."""
    for kind in type(error).__mro__:
        if kind in _PROBLEMS:
            reason, message = _PROBLEMS[kind]
            return errors.Problem(reason, message.format(where=where))
    raise error


def _object(answer: object) -> dict[str, Any]:
    """An answer of Vault; the library passes on whatever is no JSON, as of another web server."""
    if not isinstance(answer, dict):
        raise hvac.exceptions.UnexpectedError("the answer is not Vault's")
    return answer


def _bytes(value: object) -> bytes:
    """A Vault value as a Secret holds it: text as it is, anything else as JSON."""
    return (value if isinstance(value, str) else json.dumps(value)).encode()
