"""Access to the pages of a pod, for holders of the API token.

People's tools send the token itself (`Bearer`, RFC 6750). The operator and sidecars send a proof
that they hold it (`embedding_contract.proof`), which is of no use to another pod, later, or for
another page; the answer to a proof is signed too.
"""

import hmac
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from embedding_contract import names, proof

MAX_NONCES: Final = 8192
"""Proofs remembered at a time, about 1 MB. Only a holder of the token adds one; the operator sends
some hundred within the time that one is remembered."""


class Admission(NamedTuple):
    """The verdict on a request: `refusal` says why it is refused, and is empty if it is admitted.

    `nonce` is the proof's, with which the answer is signed; empty where that is not signed.
    """

    refusal: str = ""
    nonce: str = ""


class Guard:
    """Admits requests, each proof once.

    `pod` is the UID that proofs name, empty where it is not known; `clock` returns Unix time.
    `asked` is what its messages call this program, `max_nonces` how many proofs it remembers.
    """

    def __init__(
        self,
        *,
        pod: str,
        asked: str = "sidecar",
        max_nonces: int = MAX_NONCES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pod = pod
        self._asked = asked
        self._max_nonces = max_nonces
        self._clock = clock
        self._nonces: dict[str, int] = {}
        """The Unix time until which each nonce could be used again, the first seen first."""
        self._forgotten_until = 0

    def admit(
        self, authorization: str, *, token: str, method: str, path: str, body: bytes = b""
    ) -> Admission:
        """Judge the `Authorization` of a request for `path`, the request target as it was sent."""
        if not token:
            return Admission("No API token is configured, so nobody may ask this.")
        scheme, _, given = authorization.partition(" ")
        if scheme == proof.SCHEME:
            return self.admit_proof(authorization, token=token, method=method, path=path, body=body)
        if scheme.lower() != "bearer":
            return Admission(
                f"This needs `Authorization: Bearer` with the API token, or an {proof.SCHEME} that "
                "is signed with it."
            )
        # The time that this takes does not reveal where they differ.
        if not hmac.compare_digest(given.encode(), token.encode()):
            return Admission("What follows `Bearer` is not the API token of this policy.")
        return Admission()

    def admit_proof(
        self, authorization: str, *, token: str, method: str, path: str, body: bytes = b""
    ) -> Admission:
        """The same where only a proof is accepted; `token` is not empty."""
        if not self._pod:
            return Admission(
                f"This {self._asked} accepts no {proof.SCHEME}, because {names.ENV_POD_UID} is not "
                "set."
            )
        credentials = proof.parse(authorization)
        if credentials is None:
            return Admission(f"What follows {proof.SCHEME} does not have the form of a proof.")
        if not credentials.is_signed(token, method=method, path=path, body=body):
            return Admission(
                f"This {proof.SCHEME} is not signed with the API token of this policy, or for "
                "another method or path."
            )
        if credentials.pod != self._pod:
            # The answer is not signed: another pod may have relayed a request that was sent to it.
            return Admission(f"This {proof.SCHEME} is for another pod than {self._pod}.")
        return Admission(self._first_use(credentials), credentials.nonce)

    def _first_use(self, credentials: proof.Credentials) -> str:
        now = self._clock()
        if abs(now - credentials.time) > proof.MAX_SKEW_SECONDS:
            return (
                f"The time of this {proof.SCHEME} is {abs(now - credentials.time):.0f} s away from "
                f"this pod's clock, and at most {proof.MAX_SKEW_SECONDS} s are allowed."
            )
        self._forget(now)
        usable_until = credentials.time + proof.MAX_SKEW_SECONDS
        # After the clock was set back, a forgotten nonce could be used again.
        if credentials.nonce in self._nonces or usable_until <= self._forgotten_until:
            return f"This {proof.SCHEME} has been used before; sign each request anew."
        if len(self._nonces) >= self._max_nonces:
            return f"{self._max_nonces} proofs came within {2 * proof.MAX_SKEW_SECONDS} s; wait."
        self._nonces[credentials.nonce] = usable_until
        return ""

    def _forget(self, now: float) -> None:
        while self._nonces:
            nonce, usable_until = next(iter(self._nonces.items()))
            if usable_until >= now:
                return
            self._forgotten_until = max(self._forgotten_until, usable_until)
            del self._nonces[nonce]
