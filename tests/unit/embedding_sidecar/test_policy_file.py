"""Following the mounted files as kubelet writes them: swapped links, and the last good one kept."""

import json
import os
from pathlib import PosixPath

import pytest

from embedding_contract import document, fingerprint
from embedding_sidecar.policy import policy_file


class Volume:
    """A volume as kubelet writes it: a directory for each state, `..data` swapped to the newest."""

    def __init__(self, directory):
        self.directory = directory
        self._states = 0
        directory.mkdir()

    def write(self, **files):
        self._states += 1
        state = self.directory / f"..state-{self._states}"
        state.mkdir()
        for name, content in files.items():
            (state / name.replace("_", ".")).write_bytes(content)
        (self.directory / "..new").symlink_to(state.name)
        os.replace(self.directory / "..new", self.directory / "..data")  # noqa: PTH105 - rename(2)
        for name in files:
            link = self.directory / name.replace("_", ".")
            if not link.is_symlink():
                link.symlink_to(f"..data/{name.replace('_', '.')}")


@pytest.fixture
def volumes(tmp_path):
    return Volume(tmp_path / "policy"), Volume(tmp_path / "secrets")


@pytest.fixture
def follower(volumes):
    policy, secrets = volumes
    return policy_file.Follower(path=policy.directory / "document.json", secrets=secrets.directory)


def text(model="m"):
    provider = document.Provider(name="a", kind="OpenAI", model=model, base_url="https://x")
    policy = document.PolicyDocument(namespace="shop", name="main", providers=(provider,))
    return document.dump(policy).encode()


def test_missing_document_is_told_with_reason(follower, volumes):
    assert follower.poll() is None
    assert "document.json yet" in follower.missing


def test_document_and_its_secrets_are_loaded_once(follower, volumes):
    policy, secrets = volumes
    policy.write(document_json=text())
    secrets.write(key=b"sk-1\n")
    loaded = follower.poll()
    assert loaded.document == document.parse(text())
    assert loaded.document_fingerprint == fingerprint.of_document(text())
    assert loaded.secrets == {"key": "sk-1"}
    assert follower.missing is None
    assert follower.poll() is None


def test_swapped_link_is_seen(follower, volumes):
    policy, _ = volumes
    policy.write(document_json=text("one"))
    follower.poll()
    policy.write(document_json=text("two"))
    assert follower.poll().document.providers[0].model == "two"


def test_rotated_key_is_seen(follower, volumes):
    policy, secrets = volumes
    policy.write(document_json=text())
    secrets.write(key=b"one", **{"api-token": b"t"})
    before = follower.poll()
    secrets.write(key=b"two", **{"api-token": b"t"})
    after = follower.poll()
    assert after.secrets == {"key": "two", "api-token": "t"}
    assert after.secrets_fingerprint != before.secrets_fingerprint
    assert after.document_fingerprint == before.document_fingerprint


def test_secrets_that_come_later_are_seen(follower, volumes):
    policy, secrets = volumes
    policy.write(document_json=text())
    assert follower.poll().secrets == {}
    secrets.write(key=b"one")
    assert follower.poll().secrets == {"key": "one"}


def test_document_that_cannot_be_used_leaves_last_good_one(follower, volumes):
    policy, _ = volumes
    policy.write(document_json=text())
    follower.poll()
    policy.write(document_json=json.dumps({"version": 9}).encode())
    assert follower.poll() is None
    assert "this sidecar reads 1" in follower.rejected
    policy.write(document_json=text("healed"))
    assert follower.poll().document.providers[0].model == "healed"
    assert follower.rejected is None


def test_vanished_files_change_nothing(follower, volumes):
    policy, secrets = volumes
    policy.write(document_json=text())
    secrets.write(key=b"one")
    follower.poll()
    (policy.directory / "..data").unlink()
    (secrets.directory / "..data").unlink()
    assert follower.poll() is None
    assert follower.rejected is None
    assert follower.missing is None


def test_secret_values_are_not_shown(follower, volumes):
    policy, secrets = volumes
    policy.write(document_json=text())
    secrets.write(key=b"sk-very-secret")
    assert "sk-very-secret" not in repr(follower.poll())


def test_document_that_vanishes_while_it_is_read_changes_nothing(volumes):
    policy, secrets = volumes
    policy.write(document_json=text())

    class Vanishing(PosixPath):
        def open(self, *arguments, **named):
            opened = super().open(*arguments, **named)
            self.unlink()
            return opened

    path = Vanishing(policy.directory / "document.json")
    follower = policy_file.Follower(path=path, secrets=secrets.directory)
    assert follower.poll() is None
    assert follower.poll() is None


def test_secrets_without_token_have_no_fingerprint(follower, volumes):
    policy, secrets = volumes
    policy.write(document_json=text())
    secrets.write(key=b"guessable")
    assert follower.poll().secrets_fingerprint == ""
    secrets.write(key=b"guessable", **{"api-token": b"random"})
    assert follower.poll().secrets_fingerprint


def test_document_beyond_config_map_size_keeps_last_good_one(follower, volumes):
    policy, _ = volumes
    policy.write(document_json=text("first"))
    assert follower.poll().document.providers[0].model == "first"
    policy.write(document_json=text("second") + b" " * policy_file.MAX_BYTES)
    assert follower.poll() is None
    assert f"longer than {policy_file.MAX_BYTES} bytes" in follower.rejected
    policy.write(document_json=text("third"))
    assert follower.poll().document.providers[0].model == "third"
    assert follower.rejected is None


def test_secrets_beyond_secret_size_keep_last_ones(follower, volumes):
    policy, secrets = volumes
    policy.write(document_json=text())
    secrets.write(key=b"sk-1")
    assert follower.poll().secrets["key"] == "sk-1"
    secrets.write(key=b"sk-2", more=b"x" * policy_file.MAX_BYTES)
    assert follower.poll() is None
    assert follower.secret("key") == "sk-1"
