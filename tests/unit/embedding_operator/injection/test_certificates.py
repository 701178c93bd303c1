"""Certificates: the time when each is made, and that clients accept them."""

import dataclasses
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from embedding_operator.injection import certificates

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOSTS = ("embedding-operator.system.svc", "embedding-operator.system.svc.cluster.local")


def issue(bundle=None, *, hosts=HOSTS, now=NOW):
    return certificates.issue(bundle, hosts=hosts, now=now)


def plan(bundle, *, hosts=HOSTS, now=NOW):
    return certificates.plan(bundle, hosts=hosts, now=now)


def loaded(pem):
    return x509.load_pem_x509_certificate(pem)


def test_new_certificate_is_kept():
    assert plan(issue()) == "keep"


def test_plan_without_certificate_makes_all():
    assert plan(None) == "all"


@pytest.mark.parametrize(("days", "expected"), [(59, "keep"), (61, "leaf"), (91, "leaf")])
def test_certificate_is_renewed_with_third_of_its_life_left(days, expected):
    assert plan(issue(), now=NOW + timedelta(days=days)) == expected


def test_new_certificate_is_by_same_authority():
    first = issue()
    later = NOW + timedelta(days=70)
    second = issue(first, now=later)
    assert second.authority == first.authority
    assert second.certificate != first.certificate
    assert second.key != first.key
    assert plan(second, now=later) == "keep"


def test_authority_is_made_anew_long_before_it_ends():
    assert plan(issue(), now=NOW + timedelta(days=7 * 365)) == "authority"


def test_another_service_needs_another_certificate():
    assert plan(issue(), hosts=("other.system.svc",)) == "leaf"


@pytest.mark.parametrize("part", ["authority", "authority_key", "certificate", "key"])
def test_part_that_does_not_fit_others_is_all_to_make(part):
    mixed = dataclasses.replace(issue(), **{part: getattr(issue(), part)})
    assert plan(mixed) == "all"


@pytest.mark.parametrize("part", ["authority", "authority_key", "certificate", "key"])
@pytest.mark.parametrize("nonsense", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAA\n"])
def test_nonsense_in_secret_is_all_to_make(part, nonsense):
    assert plan(dataclasses.replace(issue(), **{part: nonsense})) == "all"


def test_keys_are_not_shown():
    bundle = issue()
    shown = repr(bundle)
    assert "PRIVATE KEY" not in shown
    assert repr(bundle.key) not in shown


def test_lives_are_as_written():
    bundle = issue()
    for pem, life in (
        (bundle.authority, certificates.AUTHORITY_LIFE),
        (bundle.certificate, certificates.LEAF_LIFE),
    ):
        assert loaded(pem).not_valid_after_utc == NOW + life
        assert loaded(pem).not_valid_before_utc < NOW


@pytest.mark.parametrize("host", HOSTS)
def test_client_that_trusts_authority_gets_through_by_each_name(tmp_path, host):
    bundle = issue(now=datetime.now(UTC))
    assert handshake(bundle, tmp_path, trusting=bundle.authority, host=host) is None


def test_client_that_trusts_another_or_asks_by_another_name_does_not(tmp_path):
    bundle = issue(now=datetime.now(UTC))
    other = issue(now=datetime.now(UTC)).authority
    for trusting, host in ((other, HOSTS[0]), (bundle.authority, "other.system.svc")):
        error = handshake(bundle, tmp_path, trusting=trusting, host=host)
        assert isinstance(error, ssl.SSLCertVerificationError)


def handshake(bundle, folder, *, trusting, host):
    """What a client says of a server with this bundle; None where it is content."""
    file = folder / "webhook.pem"
    file.write_bytes(bundle.certificate + bundle.key)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(file, file)
    asking = ssl.create_default_context(cadata=trusting.decode())
    asking.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    ours, theirs = socket.socketpair()

    def serve():
        try:
            serving.wrap_socket(theirs, server_side=True).close()
        except OSError:  # the client went away, which is what some tests are about
            theirs.close()

    server = threading.Thread(target=serve)
    server.start()
    try:
        asking.wrap_socket(ours, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        ours.close()
        return error
    finally:
        server.join(10)
    return None
