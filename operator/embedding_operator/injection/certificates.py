"""The webhook's certificate and the authority that signs it: when to renew, and how.

Pure but for random numbers: the clock is an argument, and `webhook_ca` stores the result.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from cryptography import exceptions, x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE: Final = timedelta(days=3650)
LEAF_LIFE: Final = timedelta(days=90)
RENEW_AT_LEFT: Final = 1 / 3
"""A certificate is renewed when this part of its life is left."""
_END: Final = b"-----END CERTIFICATE-----\n"
_SKEW: Final = timedelta(hours=1)  # clocks of nodes differ

_UNUSABLE: Final = (
    ValueError,
    TypeError,
    exceptions.InvalidSignature,
    exceptions.UnsupportedAlgorithm,
    x509.ExtensionNotFound,
)
"""Errors of cryptography for PEM that is not a certificate or key, or not ours."""

Plan = Literal["keep", "leaf", "authority", "all"]
_MOST_FORMER: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An authority and the certificate it signed, each as PEM.

    `former` are earlier authorities that have not ended: another replica may still serve a
    certificate of theirs.
    """

    authority: bytes
    former: bytes = b""
    authority_key: bytes = field(repr=False)
    certificate: bytes
    key: bytes = field(repr=False)

    @property
    def trusted(self) -> bytes:
        """The authorities that an API server must trust, the newest first."""
        return self.authority + self.former


def split(trusted: bytes) -> tuple[bytes, bytes]:
    """The newest of some authorities, and the rest; only the first certificate is looked at."""
    first, end, rest = trusted.partition(_END)
    return (first + end, rest) if rest.strip() else (trusted, b"")


def holds(trusted: bytes, authority: bytes) -> bool:
    """True if this authority is one of some."""
    return b"".join(authority.split()) in b"".join(trusted.split())


def due_at(bundle: Bundle) -> datetime:
    """The time from which `plan` renews a part of a bundle that fits.

    Raises:
        ValueError: the bundle has parts that are no certificates.
    """
    loaded = map(x509.load_pem_x509_certificate, (bundle.authority, bundle.certificate))
    return min(map(_due_at, loaded))


def plan(bundle: Bundle | None, *, hosts: tuple[str, ...], now: datetime) -> Plan:
    """The parts to renew: none, the certificate, or the authority too.

    An authority that is due stays trusted; one that does not fit (`all`) does not.
    """
    if bundle is None:
        return "all"
    try:
        authority = x509.load_pem_x509_certificate(bundle.authority)
        leaf = x509.load_pem_x509_certificate(bundle.certificate)
        leaf.verify_directly_issued_by(authority)
        keys_fit = _fits(bundle.authority_key, authority) and _fits(bundle.key, leaf)
        hosts_fit = _hosts(leaf) == hosts
    except _UNUSABLE:
        return "all"
    if not keys_fit:
        return "all"
    if _is_due(authority, now):
        return "authority"
    return "keep" if hosts_fit and not _is_due(leaf, now) else "leaf"


def issue(
    bundle: Bundle | None, *, hosts: tuple[str, ...], now: datetime, renews_authority: bool = False
) -> Bundle:
    """A new certificate, signed by the authority of `bundle`, or by a new one for None.

    With `renews_authority` a new one signs it, and that of `bundle` becomes a former one.
    """
    former = b""
    if bundle is not None:
        former = _standing(bundle.trusted if renews_authority else bundle.former, now)
    if bundle is None or renews_authority:
        authority_key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(authority_key, now)
    else:
        loaded = serialization.load_pem_private_key(bundle.authority_key, None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError("the authority's key is not ours")
        authority_key = loaded
        authority = x509.load_pem_x509_certificate(bundle.authority)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _leaf(key, hosts=hosts, authority=authority, signed_by=authority_key, now=now)
    return Bundle(
        authority=authority.public_bytes(serialization.Encoding.PEM),
        former=former,
        authority_key=_pem(authority_key),
        certificate=leaf.public_bytes(serialization.Encoding.PEM),
        key=_pem(key),
    )


def _is_due(certificate: x509.Certificate, now: datetime) -> bool:
    return now > _due_at(certificate)


def _due_at(certificate: x509.Certificate) -> datetime:
    ends = certificate.not_valid_after_utc
    return ends - (ends - certificate.not_valid_before_utc) * RENEW_AT_LEFT


def _standing(authorities: bytes, now: datetime) -> bytes:
    """Those of some authorities that have not ended, the newest ones."""
    try:
        loaded = x509.load_pem_x509_certificates(authorities) if authorities.strip() else []
    except _UNUSABLE:
        return b""
    standing = [it for it in loaded if it.not_valid_after_utc > now][:_MOST_FORMER]
    return b"".join(it.public_bytes(serialization.Encoding.PEM) for it in standing)


def _fits(key: bytes, certificate: x509.Certificate) -> bool:
    private = serialization.load_pem_private_key(key, None)
    return private.public_key() == certificate.public_key()


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = _named("embedding-operator webhook authority")
    return (
        _builder(subject=name, issuer=name, key=key, now=now, life=AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    key: ec.EllipticCurvePrivateKey,
    *,
    hosts: tuple[str, ...],
    authority: x509.Certificate,
    signed_by: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    issuer = authority.subject
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key())
    alternatives = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return (
        _builder(subject=_named("webhook"), issuer=issuer, key=key, now=now, life=LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(server, critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(signed_by, hashes.SHA256())
    )


def _builder(
    *,
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + life)
        .add_extension(identifier, critical=False)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
