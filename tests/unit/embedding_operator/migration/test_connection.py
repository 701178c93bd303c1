"""VAULT_ADDR and the other variables that `vault` reads."""

import pytest

from embedding_operator.migration import connection
from embedding_operator.migration.refusal import Refused

GOOD = {"VAULT_ADDR": "https://vault.example.com:8200", "VAULT_TOKEN": "s.token"}


def read(tmp_path, **changed: str) -> connection.Connection:
    return connection.read({**GOOD, **changed}, home=tmp_path)


def test_address_and_token_are_enough(tmp_path):
    made = read(tmp_path)
    assert (made.address, made.token) == (GOOD["VAULT_ADDR"], GOOD["VAULT_TOKEN"])
    assert (made.namespace, made.ca, made.certificate) == (None, None, None)


def test_plain_http_is_had_by_asking_for_it(tmp_path):
    assert read(tmp_path, VAULT_ADDR="http://127.0.0.1:8200/").address == "http://127.0.0.1:8200"


def test_token_file_of_vault_login_stands_in(tmp_path):
    (tmp_path / ".vault-token").write_text("s.file\n", encoding="utf-8")
    assert read(tmp_path, VAULT_TOKEN="").token == "s.file"
    assert read(tmp_path).token == "s.token"


def test_namespace_ca_and_client_certificate(tmp_path):
    file = tmp_path / "file.pem"
    file.touch()
    made = read(
        tmp_path,
        VAULT_NAMESPACE="team",
        VAULT_CACERT=str(file),
        VAULT_CAPATH=str(tmp_path),
        VAULT_CLIENT_CERT=str(file),
        VAULT_CLIENT_KEY=str(file),
    )
    assert (made.namespace, made.ca, made.certificate) == ("team", file, (file, file))
    assert read(tmp_path, VAULT_CAPATH=str(tmp_path)).ca == tmp_path


BAD = [
    ("VAULT_ADDR", ""),
    ("VAULT_ADDR", "vault.example.com:8200"),
    ("VAULT_ADDR", "https://"),
    ("VAULT_ADDR", "https://vault:port"),
    ("VAULT_ADDR", "https://vault:99999"),
    ("VAULT_ADDR", "https://user:password@vault"),
    ("VAULT_ADDR", "https://vault/?namespace=x"),
    ("VAULT_ADDR", "https://vault/#x"),
    ("VAULT_ADDR", "https://[::1"),
    ("VAULT_ADDR", "unix:///run/vault.sock"),
    ("VAULT_TOKEN", ""),
    ("VAULT_TOKEN", "s.token\n"),
    ("VAULT_TOKEN", "s. token"),
    ("VAULT_TOKEN", "s.tökén"),
    ("VAULT_NAMESPACE", "te am"),
    ("VAULT_NAMESPACE", "team\n"),
    ("VAULT_NAMESPACE", "täm"),
    ("VAULT_CACERT", "/nowhere/ca.pem"),
    ("VAULT_CAPATH", "/nowhere"),
    ("VAULT_CLIENT_CERT", "/"),
    ("VAULT_CLIENT_KEY", "/"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_unusable_variable_is_named(name, value, tmp_path):
    with pytest.raises(Refused, match=name) as refused:
        read(tmp_path, **{name: value})
    assert "password" not in str(refused.value)
    assert "s." not in str(refused.value)


@pytest.mark.parametrize("value", ["1", "true", "TRUE", "t"])
def test_tls_is_verified_whatever_is_asked(value, tmp_path):
    with pytest.raises(Refused, match="VAULT_SKIP_VERIFY"):
        read(tmp_path, VAULT_SKIP_VERIFY=value)
    assert read(tmp_path, VAULT_SKIP_VERIFY="0")


def test_token_is_not_shown(tmp_path):
    assert "s.token" not in repr(read(tmp_path))
