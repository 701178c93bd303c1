"""The key-value engine: its version, and answers that are not Vault's."""

import pytest

from embedding_operator.vault import connections, failures, kv

KV2 = {"type": "kv", "options": {"version": "2"}}
STAMP = {"created_time": "2026-01-01T00:00:00Z", "deletion_time": "", "destroyed": False}


class Vault(connections.Client):
    """A client that gets one answer, or fails."""

    def __init__(self, found):
        super().__init__(address="http://127.0.0.1:9", timeout_seconds=1)
        self.found = found
        self.asked = list[str]()

    def request(self, *arguments, **_):
        self.asked.append(" ".join(arguments))
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_version_1_is_told_from_2_and_another_engine_from_kv():
    assert kv.engine(KV2) == 2
    for listed in ({"type": "kv"}, {"type": "kv", "options": {}}, {"type": "generic"}):
        assert kv.engine(listed) == 1
    assert kv.engine({"type": "kv", "options": None}) == 1
    for listed in ({"type": "cubbyhole"}, {}):
        assert kv.engine(listed) is None


def test_path_is_quoted_and_its_slashes_stay():
    vault = Vault({"data": {"data": {}, "metadata": {"version": 3, **STAMP}}})
    assert kv.newest(vault, "team/kv", "a b/../ä?x#y").stamp.version == 3
    assert vault.asked == ["get /v1/team/kv/data/a%20b/../%C3%A4%3Fx%23y"]


@pytest.mark.parametrize("found", ["<p>", None, [], {}, {"data": None}, {"data": []}])
def test_answer_of_another_server_is_not_vaults(found):
    for read in (kv.newest, kv.newest_stamp, kv.unversioned, kv.keys):
        with pytest.raises(failures.VaultReadError, match="VaultFailing"):
            read(Vault(found), "secret", "keys")


def test_404_with_data_is_version_without_values():
    body = {"data": {"data": None, "metadata": {"version": 2, **STAMP, "destroyed": True}}}
    deleted = failures.VaultReadError("MountMissing", "", status=404, body=body)
    state = kv.newest(Vault(deleted), "secret", "keys")
    assert (state.values, state.stamp.version, state.stamp.destroyed) == (None, 2, True)


@pytest.mark.parametrize(("status", "body"), [(404, {}), (404, {"data": None}), (403, {"data": 1})])
def test_other_failures_are_passed_on(status, body):
    failure = failures.VaultReadError("Reason", "", status=status, body=body)
    with pytest.raises(failures.VaultReadError) as raised:
        kv.newest(Vault(failure), "secret", "keys")
    assert raised.value is failure
