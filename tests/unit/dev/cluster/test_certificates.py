"""Every part trusts the cluster's own authority, and nothing else."""

import base64
import ipaddress
import json

import pytest
from cryptography import x509
from cryptography.x509 import verification

from dev.cluster import certificates


@pytest.fixture(scope="module")
def authority():
    return certificates.Authority()


def _read(pair):
    return x509.load_pem_x509_certificate(pair.certificate)


def _verifier(authority):
    store = verification.Store([_read(authority.pair)])
    return verification.PolicyBuilder().store(store)


def test_server_is_verified_by_name_and_address(authority):
    leaf = _read(authority.issue("kube-apiserver", hosts=["kubernetes.default", "127.0.0.1"]))
    for subject in (
        x509.DNSName("kubernetes.default"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ):
        _verifier(authority).build_server_verifier(subject).verify(leaf, [])


def test_server_of_another_name_is_refused(authority):
    leaf = _read(authority.issue("kube-apiserver", hosts=["kubernetes.default"]))
    verifier = _verifier(authority).build_server_verifier(x509.DNSName("example.com"))
    with pytest.raises(verification.VerificationError):
        verifier.verify(leaf, [])


def test_another_clusters_certificate_is_refused(authority):
    foreign = _read(certificates.Authority().issue("x", hosts=["kubernetes"]))
    verifier = _verifier(authority).build_server_verifier(x509.DNSName("kubernetes"))
    with pytest.raises(verification.VerificationError):
        verifier.verify(foreign, [])


def test_client_carries_its_name_and_groups(authority):
    subject = _read(authority.issue("system:node:n", groups=["system:nodes"])).subject
    assert subject.rfc4514_string() == "CN=system:node:n,O=system:nodes"


def test_kubeconfig_holds_all_client_needs(authority):
    pair = authority.issue("admin")
    text = certificates.kubeconfig(
        server="https://127.0.0.1:1", authority=b"CA", user=pair, name="one"
    )
    document = json.loads(text)
    assert document["current-context"] == document["contexts"][0]["name"] == "one"
    assert document["contexts"][0]["context"] == {"cluster": "one", "user": "one"}
    cluster = document["clusters"][0]["cluster"]
    assert cluster["server"] == "https://127.0.0.1:1"
    assert base64.b64decode(cluster["certificate-authority-data"]) == b"CA"
    user = document["users"][0]["user"]
    assert base64.b64decode(user["client-key-data"]) == pair.key


def test_private_key_is_not_printed(authority):
    pair = authority.issue("admin")
    assert "PRIVATE" not in repr(pair)
    assert repr(pair) == "Pair(certificate=..., key=***)"


def test_private_key_is_its_owners_alone(authority, tmp_path):
    (tmp_path / "admin.key").touch(mode=0o644)
    authority.issue("admin").write(tmp_path, "admin")
    assert (tmp_path / "admin.key").stat().st_mode & 0o777 == 0o600
