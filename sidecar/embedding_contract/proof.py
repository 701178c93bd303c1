"""The proof by which the operator and a sidecar show each other that they hold the API token.

The token itself never travels: whatever answers on a pod's address may be anything. The operator
signs each request for one pod, and the sidecar signs its answer to that request. Both signatures
are HMAC-SHA256 (RFC 2104) keyed with the policy's API token, over fields that cannot contain a line
end, each on a line of its own.

A policy's document is signed likewise, with a key of the owned Secret, where its sidecars hold
values that whoever writes ConfigMaps may not have.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, replace
from typing import Final

SCHEME: Final = "EmbeddingProof"
"""The scheme of the request's `Authorization` header (RFC 9110, section 11.4)."""
ANSWER_HEADER: Final = "x-embedding-proof"
"""The header of the answer that carries its signature, 64 hexadecimal digits."""
MAX_SKEW_SECONDS: Final = 300
"""The most that the time of a request may differ from the clock of the asked sidecar."""
NONCE_HEX_DIGITS: Final = 32

_REQUEST: Final = "embedding-proof/1 request"
_ANSWER: Final = "embedding-proof/1 answer"
_DOCUMENT: Final = "embedding-document/1"
_CREDENTIALS: Final = re.compile(
    r"EmbeddingProof nonce=(?P<nonce>[0-9a-f]{32}),time=(?P<time>[0-9]{1,12}),"
    r"pod=(?P<pod>[0-9A-Za-z-]{1,64}),mac=(?P<mac>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The content of a request's `Authorization` header: `time` is Unix time in seconds."""

    nonce: str
    time: int
    pod: str
    mac: str

    def render(self) -> str:
        """The value of the header."""
        return f"{SCHEME} nonce={self.nonce},time={self.time},pod={self.pod},mac={self.mac}"

    def is_signed(self, token: str, *, method: str, path: str, body: bytes = b"") -> bool:
        """True if the holder of `token` signed this request; takes the same time either way."""
        expected = self.signed(token, method=method, path=path, body=body)
        return hmac.compare_digest(self.mac, expected.mac)

    def signed(self, token: str, *, method: str, path: str, body: bytes) -> "Credentials":
        """The same with the `mac` by which the holder of `token` signs this request."""
        lines = (_REQUEST, method, path, self.nonce, str(self.time), self.pod)
        of_body = (hashlib.sha256(body).hexdigest(),) if body else ()
        return replace(self, mac=_mac(token, *lines, *of_body))


def sign_request(
    token: str, *, method: str, path: str, nonce: str, time: int, pod: str, body: bytes = b""
) -> Credentials:
    """Sign one request to the pod with the UID `pod`, or to any pod of the index with that UID.

    `path` is the request target as it is sent; `nonce` is 32 hexadecimal digits, used once. A
    request with a body is signed with the SHA-256 of it.
    """
    unsigned = Credentials(nonce=nonce, time=time, pod=pod, mac="")
    return unsigned.signed(token, method=method, path=path, body=body)


def parse(header: str) -> Credentials | None:
    """Read an `Authorization` header; None where it has another scheme or form."""
    found = _CREDENTIALS.fullmatch(header)
    if found is None:
        return None
    return Credentials(
        nonce=found["nonce"], time=int(found["time"]), pod=found["pod"], mac=found["mac"]
    )


def sign_answer(token: str, *, nonce: str, status: int, body: bytes) -> str:
    """Sign the answer to the request that carried `nonce`: the value of `ANSWER_HEADER`."""
    return _mac(token, _ANSWER, nonce, str(status), hashlib.sha256(body).hexdigest())


def is_answer_signed(token: str, given: str, *, nonce: str, status: int, body: bytes) -> bool:
    """True if the holder of `token` gave this answer to the request that carried `nonce`."""
    expected = sign_answer(token, nonce=nonce, status=status, body=body)
    return hmac.compare_digest(given.encode(), expected.encode())


def sign_document(key: str, document: bytes) -> str:
    """Sign the bytes of a policy's document: the content of `names.DOCUMENT_SIGNATURE`."""
    return _mac(key, _DOCUMENT, hashlib.sha256(document).hexdigest())


def is_document_signed(key: str, given: str, document: bytes) -> bool:
    """True if the holder of `key` signed the document."""
    return hmac.compare_digest(given.encode(), sign_document(key, document).encode())


def _mac(token: str, *lines: str) -> str:
    return hmac.new(token.encode(), "\n".join(lines).encode(), hashlib.sha256).hexdigest()
