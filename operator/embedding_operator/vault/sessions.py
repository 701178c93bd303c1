"""Logins to Vault: one per identity, shared by all its paths and kept alive while possible.

A session is renewed at two thirds of its lease, by `renew-self` where the token allows it and the
lease grows by that, else by a new login.
"""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from embedding_operator import errors
from embedding_operator.vault import failures
from embedding_operator.vault.addresses import Identity
from embedding_operator.vault.connections import Client, Settings, clients
from embedding_operator.vault.failures import Scope, VaultReadError

TOKEN_SECONDS: Final = 600  # the least that TokenRequest gives
RENEW_AT: Final = 2 / 3
WORTH_RENEWING: Final = 1 / 2
"""Below this part of its first lease a token nears its end (token_max_ttl): log in anew."""
_OPERATOR: Final = Identity("", "", None)


class Tokens(Protocol):
    """Makes tokens of ServiceAccounts."""

    def service_account_token(
        self, *, namespace: str, name: str, audience: str, seconds: int
    ) -> str | None:
        """A token; None where the ServiceAccount does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login. `serial` tells logins apart; a renewed one keeps it."""

    serial: int
    vault: Client = field(repr=False)
    since: float
    lease_seconds: float
    renewable: bool
    renew_at: float
    expires_at: float
    engines: dict[str, int] = field(default_factory=dict)
    """The version of the key-value engine at a mount, as far as this login has asked."""


@dataclass(slots=True)
class LoginGate:
    """Admits one login of an identity at a time, and remembers how many have failed."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    failed: int = 0
    failure: VaultReadError | None = None


class Sessions:
    """The logins of all identities; safe to use from any thread."""

    def __init__(
        self,
        *,
        settings: Settings,
        tokens: Tokens,
        observe: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._clock = clock
        self._client = clients(settings, observe)
        self._lock = threading.Lock()
        self._gates: dict[Identity, LoginGate] = {}
        self._sessions: dict[Identity, Session] = {}
        self._logins = 0

    def get(self, identity: Identity) -> Session:
        """The session of an identity, by a login or a renewal where that is due.

        Raises:
            VaultReadError: the login failed.
        """
        owner = self._owner(identity)
        with self._gate(identity) as login:
            session = self._sessions.get(owner)
            if session is None:
                session = login()
            elif self._clock() >= session.renew_at:
                session = self._renewed(identity, session)
            self._sessions[owner] = session
            return session

    def after_refusal(
        self, identity: Identity, refused: Session, *, patience_seconds: float
    ) -> Session | None:
        """Another session than the refused one, whose token may have been revoked.

        None where the refused one is younger than `patience_seconds`: a forbidden path is no reason
        to log in again and again.

        Raises:
            VaultReadError: the login failed.
        """
        owner = self._owner(identity)
        with self._gate(identity) as login:
            session = self._sessions.get(owner)
            if session is not None and session.serial != refused.serial:
                return session  # another thread has logged in meanwhile
            if self._clock() - refused.since < patience_seconds:
                return None
            try:
                session = self._sessions[owner] = login()
            except VaultReadError:
                self._sessions.pop(owner, None)
                raise
            if session.serial == refused.serial:
                return None  # the token file is unchanged
        if self._settings.method != "token":
            self._revoke(refused)
        return session

    def forget(self, identity: Identity) -> None:
        """Drop the login of an identity that nobody reads as any more."""
        with self._lock:
            self._sessions.pop(identity, None)
            self._gates.pop(identity, None)

    def _owner(self, identity: Identity) -> Identity:
        """The identity that logs in: but for Kubernetes auth, the operator itself."""
        return identity if self._settings.method == "kubernetes" else _OPERATOR

    @contextmanager
    def _gate(self, identity: Identity) -> Iterator[Callable[[], Session]]:
        """Admit one thread at a time for a login, and give it the function that logs in.

        A thread that waited while a login failed gets that failure instead of another login.
        """
        with self._lock:
            gate = self._gates.setdefault(self._owner(identity), LoginGate())
        failed_before = gate.failed

        def login() -> Session:
            if gate.failure is not None and gate.failed > failed_before:
                raise gate.failure
            try:
                return self._login(identity)
            except VaultReadError as failure:
                gate.failed += 1
                gate.failure = failure
                raise

        with gate.lock:
            yield login

    # --- logging in

    def _login(self, identity: Identity) -> Session:
        vault = self._client()
        if self._settings.method == "token":
            return self._from_file(vault)
        credentials = (
            self._of_approle()
            if self._settings.method == "approle"
            else self._of_service_account(identity)
        )
        try:
            mount = quote(self._settings.auth_mount, safe="/")
            answer = vault.post(f"/v1/auth/{mount}/login", json=credentials)
            return self._session(vault, answer, serial=self._next())
        except VaultReadError as failure:
            raise failures.of_login(failure) from None

    def _of_service_account(self, identity: Identity) -> dict[str, str]:
        """The body of a login by https://developer.hashicorp.com/vault/api-docs/auth/kubernetes."""
        if identity.role is None:
            raise VaultReadError(
                "RoleMissing",
                "spec.vault.role is not set, and the operator logs in by Kubernetes auth",
                scope=Scope.IDENTITY,
                answered=False,
            )
        account = f"{identity.namespace}/{identity.service_account}"
        try:
            token = self._tokens.service_account_token(
                namespace=identity.namespace,
                name=identity.service_account,
                audience=self._settings.audience,
                seconds=TOKEN_SECONDS,
            )
        except errors.OperatorError as error:
            raise VaultReadError(
                "TokenRefused",
                f"there is no token of ServiceAccount {account}: {error}",
                scope=Scope.IDENTITY,
                answered=False,
            ) from None
        if token is None:
            raise VaultReadError(
                "ServiceAccountMissing",
                f"ServiceAccount {account} does not exist",
                scope=Scope.IDENTITY,
                final=True,
                answered=False,
            )
        return {"role": identity.role, "jwt": token}

    def _of_approle(self) -> dict[str, str]:
        """The body of a login by https://developer.hashicorp.com/vault/api-docs/auth/approle."""
        return {
            "role_id": _text(self._settings.role_id_file, "role id"),
            "secret_id": _text(self._settings.secret_id_file, "secret id"),
        }

    def _from_file(self, vault: Client) -> Session:
        vault.token = _text(self._settings.token_file, "token")
        before = self._sessions.get(_OPERATOR)
        same = before is not None and before.vault.token == vault.token
        now, seconds = self._clock(), self._settings.poll_seconds
        return Session(
            serial=before.serial if before is not None and same else self._next(),
            vault=vault,
            since=now,
            lease_seconds=seconds,
            renewable=False,
            renew_at=now + seconds,  # the file may be rotated meanwhile
            expires_at=now + seconds,
            engines=before.engines if before is not None and same else {},
        )

    # --- keeping it

    def _renewed(self, identity: Identity, session: Session) -> Session:
        if session.renewable:
            try:
                answer = session.vault.post("/v1/auth/token/renew-self", json={})
                renewed = self._session(session.vault, answer, serial=session.serial)
                if renewed.lease_seconds >= session.lease_seconds * WORTH_RENEWING:
                    return dataclasses.replace(
                        renewed,
                        since=session.since,
                        # So that a lease which shrinks with each renewal is noticed.
                        lease_seconds=session.lease_seconds,
                        engines=session.engines,
                    )
            except VaultReadError as error:
                failure = failures.of_login(error)
                if not failure.final:
                    return self._kept(session, failure)
        try:
            return self._login(identity)
        except VaultReadError as failure:
            if failure.final:
                raise
            return self._kept(session, failure)

    def _kept(self, session: Session, failure: VaultReadError) -> Session:
        """A session that cannot be renewed now is used until its end."""
        now = self._clock()
        if now >= session.expires_at:
            raise failure
        again_at = min(now + self._settings.poll_seconds, session.expires_at)
        return dataclasses.replace(session, renew_at=again_at)

    def _revoke(self, refused: Session) -> None:
        """End a login that is not used any more: Vault keeps it until its lease ends."""
        with suppress(VaultReadError):  # it is revoked already, or ends with its lease
            refused.vault.post("/v1/auth/token/revoke-self", json={})

    def _session(self, vault: Client, answer: Any, *, serial: int) -> Session:
        auth = answer.get("auth") if isinstance(answer, dict) else None
        if not isinstance(auth, Mapping) or not {"client_token", "lease_duration"} <= auth.keys():
            raise failures.not_vault()
        vault.token = str(auth["client_token"])
        # A token that never ends has a lease of 0.
        seconds = float(auth["lease_duration"]) or float("inf")
        now = self._clock()
        return Session(
            serial=serial,
            vault=vault,
            since=now,
            lease_seconds=seconds,
            renewable=bool(auth.get("renewable")),
            renew_at=now + seconds * RENEW_AT,
            expires_at=now + seconds,
        )

    def _next(self) -> int:
        with self._lock:
            self._logins += 1
            return self._logins


def _text(file: Path | None, what: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip() if file is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise VaultReadError(
            "TokenRefused",
            f"the {what} file cannot be read ({type(error).__name__})",
            scope=Scope.IDENTITY,
            answered=False,
        ) from None
