"""Fingerprints change with the content that they stand for, and with nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import fingerprint

SECRETS = st.dictionaries(st.text(max_size=8), st.binary(max_size=8), max_size=4)


@given(SECRETS, SECRETS)
def test_secrets_have_one_fingerprint_exactly_when_they_are_same(one, other):
    same = fingerprint.of_secrets(one, token=b"t") == fingerprint.of_secrets(other, token=b"t")
    assert same == (one == other)


def test_fingerprint_depends_on_where_name_ends():
    one = fingerprint.of_secrets({"ab": b"c"}, token=b"t")
    assert one != fingerprint.of_secrets({"a": b"bc"}, token=b"t")


def test_fingerprint_depends_on_token():
    secrets = {"cache-redis-url": b"redis://:hunter2@redis"}
    assert fingerprint.of_secrets(secrets, token=b"1") != fingerprint.of_secrets(
        secrets, token=b"2"
    )


def test_document_is_known_by_its_bytes():
    assert fingerprint.of_document(b"{}") == "44136fa355b3678a"
    assert fingerprint.of_document(b"{} ") != "44136fa355b3678a"
