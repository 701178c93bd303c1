"""Translates psycopg's errors into problems that an index may report.

PostgreSQL's own words may quote a value, a name or the connection string: none of them are passed
on. The SQLSTATE decides (PostgreSQL's documentation, appendix A), and stands beside our words.
"""

from typing import Final

import psycopg

from embedding_contract.index_report import Problem
from embedding_vectors.errors import DatabaseError

UNAVAILABLE: Final = "DatabaseUnavailable"
TIMEOUT: Final = "Timeout"

# A whole SQLSTATE, or the class that its first two characters name.
_KNOWN: Final = {
    "28": ("AuthenticationFailed", "the database refuses the role or its password", False),
    "3D000": ("DSNInvalid", "the connection string names a database that is not there", False),
    "42501": ("PermissionDenied", "the role lacks a right", False),
    "42": ("SchemaDiffers", "the database has not what the plan made", False),
    "53300": ("TooManyConnections", "the database has no connection left", True),
    "53100": ("DiskFull", "the database's disk is full", True),
    "57014": (TIMEOUT, "a statement took too long", True),
    "55P03": (TIMEOUT, "a lock was not to be had in time", True),
    "25P03": (TIMEOUT, "a transaction stood still too long", True),
    "57P": (UNAVAILABLE, "the database is shutting down or starting", True),
    "08": (UNAVAILABLE, "the connection is lost", True),
    "22": ("ValueRefused", "a value is none that its column takes", True),
    "40": ("Conflict", "transactions stood in each other's way", True),
}
_REST: Final = ("DatabaseError", "the database refused a statement", True)

# libpq gives no SQLSTATE for a refusal while it connects, only a message in the language of the
# server. These are parts of PostgreSQL's and pgbouncer's in English; any other message is
# DatabaseUnavailable.
_SAID_WHILE_CONNECTING: Final = (
    ("53300", "too many clients"),
    ("53300", "remaining connection slots"),
    ("53300", "too many connections"),
    ("53300", "no more connections allowed"),
    ("28P01", "authentication failed"),
    ("28P01", "no password supplied"),
    ("28P01", "SASL"),
    # Before TLS: this refusal of the role ends with "no encryption" or "SSL off".
    ("28000", "pg_hba.conf"),
    ("28000", "is not permitted to log in"),
    ("28000", 'role "', "does not exist"),
    ("3D000", 'database "', "does not exist"),
    ("42501", "permission denied for database"),
    ("57P03", "starting up"),
    ("57P01", "shutting down"),
)
_TLS: Final = ("SSL", "TLS", "certificate", "sslmode")


def of(error: psycopg.Error | OSError) -> DatabaseError:
    """The meaning of a statement's error."""
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate is None:
        problem = Problem(reason=UNAVAILABLE, message="the connection is lost")
        return DatabaseError(problem, retry_helps=True)
    return _known(sqlstate)


def of_connecting(error: psycopg.Error | OSError) -> DatabaseError:
    """The meaning of an error that came before there was a connection."""
    if isinstance(error, psycopg.ProgrammingError):
        problem = Problem(reason="DSNInvalid", message="the DSN is no connection string of libpq")
        return DatabaseError(problem, retry_helps=False)
    if (sqlstate := getattr(error, "sqlstate", None)) is not None:
        return _known(sqlstate)
    said = str(error)
    for state, *words in _SAID_WHILE_CONNECTING:
        if all(word in said for word in words):
            return _known(state)
    if any(word in said for word in _TLS):
        message = "no connection by TLS as the DSN wants it: certificate, name or sslmode"
        return DatabaseError(Problem(reason="TLSRefused", message=message), retry_helps=False)
    problem = Problem(reason=UNAVAILABLE, message="the database cannot be reached")
    return DatabaseError(problem, retry_helps=True)


def timeout(message: str) -> DatabaseError:
    """The error for a database that did not answer in time and reported nothing."""
    return DatabaseError(Problem(reason=TIMEOUT, message=message), retry_helps=True)


def _known(sqlstate: str) -> DatabaseError:
    for length in (5, 3, 2):
        if found := _KNOWN.get(sqlstate[:length]):
            break
    else:
        found = _REST
    reason, message, retry_helps = found
    problem = Problem(reason=reason, message=message, sqlstate=sqlstate)
    return DatabaseError(problem, retry_helps=retry_helps)
