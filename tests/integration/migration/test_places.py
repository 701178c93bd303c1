"""The address of Vault, the identity that asks, and the path for the secrets."""

import pytest

from tests.parts import sidecar
from tests.parts import vault as real
from tests.parts.migrating import MOUNT, PATH, SIX, TO, Cli

pytestmark = pytest.mark.integration


LEAST = f'path "{MOUNT}/data/{PATH}" {{ capabilities = ["create", "read", "update"] }}'


def test_token_needs_path_and_nothing_else(bao, cli):
    token = bao.token(LEAST)
    said = cli("migrate", "--from-file", cli.env_file(), "--to", TO, VAULT_TOKEN=token)
    assert (said.code, bao.read()) == (0, SIX)


def test_token_that_may_only_read_verifies_and_writes_nothing(bao, cli):
    token = bao.token(f'path "{MOUNT}/data/{PATH}" {{ capabilities = ["read"] }}')
    file = cli.env_file()
    assert cli("verify", "--from-file", file, "--to", TO, VAULT_TOKEN=token).code == 1
    said = cli("migrate", "--from-file", file, "--to", TO, VAULT_TOKEN=token)
    assert (said.code, said.output) == (2, "")
    assert f"cannot write {TO}: Vault forbids it" in said.error
    assert bao.nothing()


@pytest.mark.parametrize("token", ["s.revoked", "no-token"])
def test_token_that_is_not_valid_is_told_and_not_shown(bao, cli, token):
    said = cli("migrate", "--from-file", cli.env_file(), "--to", TO, VAULT_TOKEN=token)
    assert (said.code, said.output) == (2, "")
    assert "token" in said.error
    assert token not in said.error


def test_token_of_vault_login_is_used(bao, cli):
    file = cli.home / ".vault-token"
    file.write_text(cli.environment["VAULT_TOKEN"] + "\n", encoding="utf-8")
    said = cli("migrate", "--from-file", cli.env_file(), "--to", TO, VAULT_TOKEN="")
    assert (said.code, bao.read()) == (0, SIX)


def test_namespace_of_vault_is_another_vault(bao, cli):
    bao.client.adapter.post("/v1/sys/namespaces/team")
    bao.client.adapter.post(
        f"/v1/sys/mounts/{MOUNT}",
        headers={"X-Vault-Namespace": "team"},
        json={"type": "kv", "options": {"version": "2"}},
    )
    arguments = ("--from-file", cli.env_file(), "--to", TO)
    # The engine upgrades itself for a moment after it was mounted.
    sidecar.wait_until(lambda: cli("migrate", *arguments, VAULT_NAMESPACE="team").code == 0)
    assert bao.nothing()
    assert cli("verify", *arguments, VAULT_NAMESPACE="team").code == 0
    assert cli("verify", *arguments).code == 1
    assert cli("verify", *arguments, VAULT_NAMESPACE="nobody").code == 2


def test_tls_is_verified_by_named_authority(tmp_path):
    server = real.Vault(tmp_path, tls=True)
    server.start()
    try:
        cli = Cli(tmp_path, address=server.address, token_file=server.token_file)
        arguments = ("migrate", "--from-file", cli.env_file(), "--to", f"secret/{PATH}")
        said = cli(*arguments)
        assert (said.code, said.output) == (2, "")
        assert "VAULT_CACERT" in said.error
        assert cli(*arguments, VAULT_SKIP_VERIFY="true").code == 2
        assert cli(*arguments, VAULT_CACERT=str(server.ca_file)).code == 0
        plain = server.address.replace("https", "http")
        assert cli(*arguments, VAULT_ADDR=plain).code == 2
    finally:
        server.stop()


def test_sealed_vault_and_one_that_is_away_are_told(tmp_path):
    server = real.Vault(tmp_path)
    server.start()
    cli = Cli(tmp_path, address=server.address, token_file=server.token_file)
    arguments = ("migrate", "--from-file", cli.env_file(), "--to", f"secret/{PATH}")
    try:
        server.seal()
        sealed = cli(*arguments)
        assert (sealed.code, sealed.output) == (2, "")
        assert "sealed" in sealed.error
        server.unseal()
        assert cli(*arguments).code == 0
    finally:
        server.stop()
    away = cli(*arguments)
    assert (away.code, away.output) == (2, "")
    assert "cannot be reached" in away.error


def test_longest_mount_that_vault_lists_is_mount(bao, cli):
    file = cli.env_file()
    assert cli("migrate", "--from-file", file, "--to", f"agenticverz2/{PATH}").code == 0
    assert bao.nothing()
    held = bao.kv.read_secret_version(
        PATH, mount_point="agenticverz2", raise_on_deleted_version=True
    )
    assert held["data"]["data"] == SIX


def test_mount_can_be_given_by_name(bao, cli):
    arguments = ("--from-file", cli.env_file(), "--to", TO)
    assert cli("migrate", *arguments, "--mount", MOUNT).code == 0
    assert bao.read() == SIX
    assert cli("verify", *arguments, "--mount", f"{MOUNT}/").code == 0


WRONG = {
    "a mount that is not there": ("nothing/path", (), "begins with no mount"),
    "a given mount that is not there": ("nothing/path", ("--mount", "nothing"), "nothing"),
    "a given mount that is a part of one": (TO, ("--mount", f"{MOUNT}/external"), "--mount"),
    "a given mount that is a path": (f"{TO}/x", ("--mount", TO), "--mount"),
    "another engine": ("cubbyhole/path", (), "cubbyhole"),
    "the engine of tokens": ("identity/path", (), "identity"),
    "the server's own": ("sys/policy", (), "system"),
    "climbing": (f"{MOUNT}/../{MOUNT}/{PATH}", (), "--to"),
    "encoded": (f"{MOUNT}/%2e%2e/x", (), "--to"),
    "only a mount": (f"{MOUNT}/", (), "--to"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("verb", ["migrate", "verify"])
def test_wrong_place_is_refused(bao, cli, verb, case):
    to, more, told = WRONG[case]
    said = cli(verb, "--from-file", cli.env_file(), "--to", to, *more)
    assert (said.code, said.output) == (2, "")
    assert told in said.error
    assert bao.nothing()


def test_mount_without_check_and_set_is_verified_and_not_written(bao, cli):
    file = cli.env_file()
    said = cli("migrate", "--from-file", file, "--to", f"old/{PATH}")
    assert (said.code, said.output) == (2, "")
    assert "enable-versioning old" in said.error
    assert cli("verify", "--from-file", file, "--to", f"old/{PATH}").code == 1
    bao.client.secrets.kv.v1.create_or_update_secret(PATH, SIX, mount_point="old")
    assert cli("verify", "--from-file", file, "--to", f"old/{PATH}").code == 0
    said = cli("verify", "--from-file", file, "--to", f"old/{PATH}", "--names-only")
    assert (said.code, "version 1" in said.error) == (2, True)


USAGE = {
    "no source": (("--to", TO), "--from-env"),
    "two sources": (("--from-env", "--from-file", "x", "--to", TO), "not allowed with"),
    "no target": (("--from-file", "x"), "--to"),
    "an option cut short": (("--from-file", "x", "--to", TO, "--over"), "unrecognized"),
    "no key": (("--from-file", "x", "--to", TO, "--keys", ""), "--keys"),
    "an empty key": (("--from-file", "x", "--to", TO, "--keys", "A,,B"), "--keys"),
    "no such file": (("--from-file", "/nothing", "--to", TO), "No such file"),
    "no cluster": (("--from-secret", "shop/keys", "--to", TO), "no cluster is configured"),
    "no address": (("--from-env", "--keys", "HOME", "--to", TO), "VAULT_ADDR"),
}


@pytest.mark.parametrize("case", USAGE)
def test_unusable_arguments_end_with_2_and_reason(cli, case):
    arguments, told = USAGE[case]
    said = cli("migrate", *arguments, VAULT_ADDR="")
    assert (said.code, said.output) == (2, "")
    assert told in said.error.splitlines()[-1]
