"""Signing in to Vault: one login per identity whoever needs it, kept alive while it can be.

A session is renewed at two thirds of its lease, by `renew-self` where the token allows it and the
lease grows by that, else by a new login.
"""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import hvac.adapters
import hvac.exceptions
from hvac.api.auth_methods import approle, kubernetes

from embedding_operator import errors
from embedding_operator.vault import failures
from embedding_operator.vault.addresses import Identity
from embedding_operator.vault.connections import Connections, Settings
from embedding_operator.vault.failures import Scope, Unreadable

TOKEN_SECONDS: Final = 600  # the least that TokenRequest gives
RENEW_AT: Final = 2 / 3
WORTH_RENEWING: Final = 1 / 2
"""Below this part of its first lease a token nears its end (token_max_ttl): sign in anew."""
_OPERATOR: Final = Identity("", "", None)


class Tokens(Protocol):
    """Makes tokens of ServiceAccounts."""

    def service_account_token(
        self, *, namespace: str, name: str, audience: str, seconds: int
    ) -> str | None:
        """A token; None where there is no such account."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login. `serial` tells logins apart; a renewed one keeps it."""

    serial: int
    vault: hvac.adapters.JSONAdapter = field(repr=False)
    since: float
    lease_seconds: float
    renewable: bool
    renew_at: float
    expires_at: float
    engines: dict[str, int] = field(default_factory=dict)
    """The version of the key-value engine at a mount, as far as this login has asked."""


@dataclass(slots=True)
class _Desk:
    """Where the logins of one identity are made, one at a time."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    failed: int = 0
    failure: Unreadable | None = None


@dataclass(slots=True)
class _Turn:
    """Somebody's turn at a desk, at which so many logins had failed when they began to wait."""

    desk: _Desk
    failed_before: int

    def sign_in(self, login: Callable[[], Session]) -> Session:
        """A new login; the failure of another that was waited for is one's own."""
        desk = self.desk
        if desk.failure is not None and desk.failed > self.failed_before:
            raise desk.failure
        try:
            return login()
        except Unreadable as failure:
            desk.failed += 1
            desk.failure = failure
            raise


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
        self._connections = Connections(settings=settings, observe=observe)
        self._lock = threading.Lock()
        self._desks: dict[Identity, _Desk] = {}
        self._sessions: dict[Identity, Session] = {}
        self._logins = 0

    def get(self, identity: Identity) -> Session:
        """The session of an identity, signing in or renewing where that is due.

        Raises:
            Unreadable: it cannot be had.
        """
        who = self._who(identity)
        with self._desk(who) as desk:
            session = self._sessions.get(who)
            if session is None:
                session = desk.sign_in(lambda: self._login(identity))
            elif self._clock() >= session.renew_at:
                session = self._renewed(identity, session)
            self._sessions[who] = session
            return session

    def after_refusal(
        self, identity: Identity, refused: Session, *, patience_seconds: float
    ) -> Session | None:
        """Another session than the refused one, whose token may have been revoked.

        None where it is younger than `patience_seconds`: a path that is forbidden is no reason to
        sign in again and again.

        Raises:
            Unreadable: none can be had.
        """
        who = self._who(identity)
        with self._desk(who) as desk:
            session = self._sessions.get(who)
            if session is not None and session.serial != refused.serial:
                return session  # somebody else has signed in meanwhile
            if self._clock() - refused.since < patience_seconds:
                return None
            try:
                session = self._sessions[who] = desk.sign_in(lambda: self._login(identity))
            except Unreadable:
                self._sessions.pop(who, None)
                raise
            if session.serial == refused.serial:
                return None  # the token file is as it was
        if self._settings.method != "token":
            self._revoke(refused)
        return session

    def forget(self, identity: Identity) -> None:
        """Nobody asks as this identity any more."""
        with self._lock:
            self._sessions.pop(identity, None)
            self._desks.pop(identity, None)

    def _who(self, identity: Identity) -> Identity:
        """Whose login it is: but for Kubernetes auth, the operator's own."""
        return identity if self._settings.method == "kubernetes" else _OPERATOR

    @contextmanager
    def _desk(self, who: Identity) -> Iterator[_Turn]:
        """One at a time signs in for an identity, and the others wait for what that brings."""
        with self._lock:
            desk = self._desks.setdefault(who, _Desk())
        failed_before = desk.failed
        with desk.lock:
            yield _Turn(desk, failed_before)

    # --- signing in

    def _login(self, identity: Identity) -> Session:
        vault = self._connections.anonymous()
        if self._settings.method == "token":
            return self._from_file(vault)
        try:
            answer = (
                self._by_approle(vault)
                if self._settings.method == "approle"
                else self._by_kubernetes(vault, identity)
            )
            return self._session(vault, answer, serial=self._next())
        except failures.FOREIGN as error:
            raise failures.of_login(error) from None

    def _by_kubernetes(self, vault: hvac.adapters.JSONAdapter, identity: Identity) -> object:
        if identity.role is None:
            raise Unreadable(
                "RoleMissing",
                "{where} needs a login: spec.vault.role is not set, and Vault is asked by"
                " Kubernetes auth",
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
            raise Unreadable(
                "TokenRefused",
                f"{{where}} is read as ServiceAccount {account}: {error}",
                scope=Scope.IDENTITY,
                answered=False,
            ) from None
        if token is None:
            raise Unreadable(
                "ServiceAccountMissing",
                f"{{where}} is read as ServiceAccount {account}, which does not exist",
                scope=Scope.IDENTITY,
                final=True,
                answered=False,
            )
        return kubernetes.Kubernetes(adapter=vault).login(
            role=identity.role, jwt=token, mount_point=self._settings.auth_mount
        )

    def _by_approle(self, vault: hvac.adapters.JSONAdapter) -> object:
        return approle.AppRole(adapter=vault).login(
            role_id=_text(self._settings.role_id_file, "role id"),
            secret_id=_text(self._settings.secret_id_file, "secret id"),
            mount_point=self._settings.auth_mount,
        )

    def _from_file(self, vault: hvac.adapters.JSONAdapter) -> Session:
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
            renew_at=now + seconds,  # the file may be rotated under us
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
            except failures.FOREIGN as error:
                found = failures.of_login(error)
                if not found.final:
                    return self._still_good(session, found)
        try:
            return self._login(identity)
        except Unreadable as found:
            if found.final:
                raise
            return self._still_good(session, found)

    def _still_good(self, session: Session, found: Unreadable) -> Session:
        """A session that cannot be renewed now is used until its end."""
        now = self._clock()
        if now >= session.expires_at:
            raise found
        again_at = min(now + self._settings.poll_seconds, session.expires_at)
        return dataclasses.replace(session, renew_at=again_at)

    def _revoke(self, refused: Session) -> None:
        """Vault keeps every login of ours until its lease ends, also those that nobody uses."""
        try:
            refused.vault.post("/v1/auth/token/revoke-self", json={})
        except failures.FOREIGN:
            return  # refused because it is revoked, or it ends with its lease

    def _session(self, vault: hvac.adapters.JSONAdapter, answer: object, *, serial: int) -> Session:
        auth = answer.get("auth") if isinstance(answer, dict) else None
        if not isinstance(auth, Mapping) or not {"client_token", "lease_duration"} <= auth.keys():
            raise hvac.exceptions.UnexpectedError("the answer is not Vault's")
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
        raise Unreadable(
            "TokenRefused",
            f"{{where}}: the {what} file cannot be read ({type(error).__name__})",
            scope=Scope.IDENTITY,
            answered=False,
        ) from None
