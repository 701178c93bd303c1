"""The places from which a migration reads secrets."""

import base64
from pathlib import Path

import pytest

from embedding_operator.kube.client import KubeClient
from embedding_operator.migration import sources
from embedding_operator.migration.refusal import Refused


class OneSecret(KubeClient):
    """shop/keys, and no other."""

    def __init__(self, **data: bytes):
        self._data = {key: base64.b64encode(value).decode() for key, value in data.items()}

    def get(self, kind, namespace, name):
        there = (kind.plural, namespace, name) == ("secrets", "shop", "keys")
        return {"data": self._data} if there else None


def test_file_gives_its_values(tmp_path):
    file = tmp_path / ".env"
    file.write_text("A='$B'\n", encoding="utf-8")
    found = sources.file(str(file))
    assert (found.place, found.values) == (str(file), {"A": "$B"})


@pytest.mark.parametrize("name", ["nothing", "."])
def test_file_that_cannot_be_read_is_named(name, tmp_path):
    with pytest.raises(Refused, match=r"--from-file .*: (No such file|Is a directory)"):
        sources.file(str(tmp_path / name))


def test_environment_gives_named_variables_alone():
    found = sources.environment({b"A": b"1", b"B": b"2"}, ["B", "C"])
    assert found.values == {"B": "2"}


def test_secret_gives_all_keys_or_named_ones():
    objects = OneSecret(A=b"1", B=b"2")
    assert sources.secret(objects, "shop/keys", None).values == {"A": "1", "B": "2"}
    assert sources.secret(objects, "shop/keys", ["B", "C"]).values == {"B": "2"}


def test_bytes_that_are_no_text_are_refused_by_key_and_not_shown():
    objects = OneSecret(A=b"1", B=b"\xff\xfeSECRET")
    with pytest.raises(Refused, match="Secret shop/keys: B is not UTF-8") as refused:
        sources.secret(objects, "shop/keys", None)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    assert sources.secret(objects, "shop/keys", ["A"]).values == {"A": "1"}
    with pytest.raises(Refused, match="the environment: A is not UTF-8"):
        sources.environment({b"A": b"\xff"}, ["A"])


@pytest.mark.parametrize("address", ["keys", "/keys", "shop/", "shop/keys/A", ""])
def test_secret_is_addressed_by_namespace_and_name(address):
    with pytest.raises(Refused, match="must be NAMESPACE/NAME"):
        sources.secret(OneSecret(), address, None)


@pytest.mark.parametrize("address", ["shop/other", "other/keys"])
def test_secret_that_is_not_there_is_named(address):
    with pytest.raises(Refused, match=f"there is no Secret {address}"):
        sources.secret(OneSecret(), address, None)


def test_source_shows_no_value():
    assert "sk-1" not in repr(sources.Source(place=str(Path()), values={"A": "sk-1"}))
