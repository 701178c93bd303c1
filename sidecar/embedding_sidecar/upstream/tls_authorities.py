"""The trusted certificates, read again when their files change."""

import functools
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

LOOK_SECONDS: Final = 5.0
"""Files are checked when a connection is made, and no more often than this."""

_log = logging.getLogger(__name__)
_Signature = tuple[tuple[int, int, int] | None, ...]


class Authorities:
    """OpenSSL's own (`SSL_CERT_FILE`, `SSL_CERT_DIR`), and those given as PEM beside them."""

    def __init__(
        self, more: str | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._more = more
        self._clock = clock
        self._signature = _signature()
        self._context = _context(more, self._signature)
        self._looked_at = clock()

    def context(self) -> ssl.SSLContext:
        """The context for the TLS handshake of a connection that is made now."""
        now = self._clock()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            found = _signature()
            if found != self._signature:
                self._renew(found)
        return self._context

    def _renew(self, found: _Signature) -> None:
        made = _context(self._more, found)
        before = self._context.cert_store_stats()["x509_ca"]
        if before and not made.cert_store_stats()["x509_ca"]:
            return  # the file is being written, and is checked again
        self._signature, self._context = found, made
        _log.info("the authorities that are believed were read again")


def check(more: str) -> None:
    """Raise ValueError for a text that holds no certificates in PEM."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=more)
    except ssl.SSLError:
        raise ValueError("holds no certificates in PEM") from None


def word(error: BaseException) -> str | None:
    """The cause of a failed connection, in a word; None if nothing more is known."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate_untrusted"
    if isinstance(error, ssl.SSLError):
        return "tls_failed"
    if isinstance(error, ConnectionRefusedError):
        return "connection_refused"
    if isinstance(error, socket.gaierror):
        return "name_unknown"
    return None


@functools.lru_cache(maxsize=4)
def _context(more: str | None, _: _Signature) -> ssl.SSLContext:
    """Made once for each state of the files, as reading all authorities takes 30 ms."""
    context = ssl.create_default_context()
    if more:
        context.load_verify_locations(cadata=more)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _signature() -> _Signature:
    places = ssl.get_default_verify_paths()
    named = (
        os.environ.get(places.openssl_cafile_env) or places.openssl_cafile,
        os.environ.get(places.openssl_capath_env) or places.openssl_capath,
    )
    return tuple(map(_seen, named))


def _seen(place: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(place)  # noqa: PTH116 - follows links, as what kubelet mounts is one
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
