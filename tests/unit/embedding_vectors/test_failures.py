"""psycopg's errors become a reason and a SQLSTATE, and no word of PostgreSQL's."""

import dataclasses

import psycopg
import pytest
from psycopg import errors

from embedding_vectors import settings
from embedding_vectors.database import connections, failures
from embedding_vectors.errors import DatabaseError

SECRET = "postgresql://app:hunter2@db.example/orders"


@pytest.mark.parametrize(
    ("error", "reason", "sqlstate", "retry_helps"),
    [
        (errors.InvalidPassword, "AuthenticationFailed", "28P01", False),
        (errors.InsufficientPrivilege, "PermissionDenied", "42501", False),
        (errors.UndefinedTable, "SchemaDiffers", "42P01", False),
        (errors.TooManyConnections, "TooManyConnections", "53300", True),
        (errors.QueryCanceled, "Timeout", "57014", True),
        (errors.LockNotAvailable, "Timeout", "55P03", True),
        (errors.DiskFull, "DiskFull", "53100", True),
        (errors.AdminShutdown, "DatabaseUnavailable", "57P01", True),
        (errors.DeadlockDetected, "Conflict", "40P01", True),
        (errors.NumericValueOutOfRange, "ValueRefused", "22003", True),
        (errors.RaiseException, "DatabaseError", "P0001", True),
        (psycopg.OperationalError, "DatabaseUnavailable", None, True),
    ],
)
def test_statements_error_is_named_by_its_sqlstate(error, reason, sqlstate, retry_helps):
    made = failures.of(error(f"refused: {SECRET}"))
    assert (made.problem.reason, made.problem.sqlstate) == (reason, sqlstate)
    assert made.retry_helps is retry_helps
    assert "hunter2" not in repr(made) + str(made) + repr(made.problem)


@pytest.mark.parametrize(
    ("said", "reason", "sqlstate"),
    [
        ('FATAL:  password authentication failed for user "app"', "AuthenticationFailed", "28P01"),
        ('FATAL:  role "app" does not exist', "AuthenticationFailed", "28000"),
        (
            'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "app", no encryption',
            "AuthenticationFailed",
            "28000",
        ),
        ('FATAL:  database "orders" does not exist', "DSNInvalid", "3D000"),
        ("FATAL:  sorry, too many clients already", "TooManyConnections", "53300"),
        ("FATAL:  remaining connection slots are reserved", "TooManyConnections", "53300"),
        ("server does not support SSL, but SSL was required", "TLSRefused", None),
        ("SSL error: certificate verify failed", "TLSRefused", None),
        ("FATAL:  the database system is starting up", "DatabaseUnavailable", "57P03"),
        ("connection refused", "DatabaseUnavailable", None),
    ],
)
def test_refused_connection_is_named(said, reason, sqlstate):
    made = failures.of_connecting(psycopg.OperationalError(f"{said} {SECRET}"))
    assert (made.problem.reason, made.problem.sqlstate) == (reason, sqlstate)
    assert "hunter2" not in str(made)


@pytest.fixture
def chosen(tmp_path):
    return settings.Settings(
        document=tmp_path / "index.json",
        dsn_file=tmp_path / "dsn",
        ca_file=tmp_path / "ca.crt",
        sidecar_url="http://127.0.0.1:1",
        pod_uid="",
    )


@pytest.mark.parametrize("text", [None, "", "words alone", "postgresql://a:b@[", "x=1"])
def test_invalid_dsn_is_told_and_not_shown(chosen, text):
    if text is not None:
        chosen.dsn_file.write_text(text)
    with pytest.raises(DatabaseError) as caught:
        connections.connection_string(chosen, application="a")
    assert caught.value.problem.reason == "DSNInvalid"
    assert not caught.value.retry_helps
    assert not text or text not in str(caught.value)


def test_connection_has_times_name_and_authority_where_it_is_there(chosen):
    chosen.dsn_file.write_text(f"{SECRET}\n")
    made = psycopg.conninfo.conninfo_to_dict(connections.connection_string(chosen, application="a"))
    assert made["application_name"] == "a"
    assert int(made["connect_timeout"] or 0) > 0
    assert "sslrootcert" not in made
    chosen.ca_file.write_text("authority")
    made = psycopg.conninfo.conninfo_to_dict(connections.connection_string(chosen, application="a"))
    assert (made["sslrootcert"], made["sslmode"]) == (str(chosen.ca_file), "verify-full")


def test_dsns_own_parameters_stay(chosen):
    chosen.ca_file.write_text("authority")
    chosen.dsn_file.write_text("host=db sslmode=verify-ca connect_timeout=9")
    made = psycopg.conninfo.conninfo_to_dict(connections.connection_string(chosen, application="a"))
    assert (made["sslmode"], made["connect_timeout"]) == ("verify-ca", "9")


def test_settings_do_not_show_dsn(chosen):
    assert "hunter2" not in repr(dataclasses.replace(chosen, dsn=SECRET))
