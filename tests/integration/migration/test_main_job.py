"""The keys that are migrated and verified, and the report of each."""

import pytest

from tests.parts.migrating import KEYS, MARK, MOUNT, OLD, PATH, SIX, TO, all_keys

pytestmark = pytest.mark.integration


def test_file_is_migrated_verified_and_second_run_writes_nothing(bao, cli):
    file = cli.env_file()
    first = cli("migrate", "--from-file", file, "--to", TO)
    assert (first.code, first.table()) == (0, all_keys("written"))
    assert bao.read() == SIX
    second = cli("migrate", "--from-file", file, "--to", TO)
    assert (second.code, second.table()) == (0, all_keys("equal"))
    assert bao.version() == 1
    proof = cli("verify", "--from-file", file, "--to", TO)
    assert (proof.code, proof.table()) == (0, all_keys("equal"))
    assert "agree" in proof.output


def test_operators_own_program_does_same(bao, cli):
    cli.program = "embedding_operator"
    said = cli("migrate", "--from-file", cli.env_file(), "--to", TO)
    assert (said.code, said.table(), bao.read()) == (0, all_keys("written"), SIX)


def test_standard_input_is_file_too(bao, cli):
    said = cli("migrate", "--from-file", "-", "--to", TO, stdin=f"A='{MARK}1'\n")
    assert (said.code, bao.read()) == (0, {"A": f"{MARK}1"})
    assert cli("verify", "--from-file", "-", "--to", TO, stdin=f"A='{MARK}1'\n").code == 0


def test_migration_of_environment_takes_only_named_variables(bao, cli):
    said = cli("migrate", "--from-env", "--keys", ",".join(KEYS), "--to", TO, **SIX)
    assert (said.code, said.table(), bao.read()) == (0, all_keys("written"), SIX)
    assert cli("verify", "--from-env", "--keys", ",".join(KEYS), "--to", TO, **SIX).code == 0


def test_whole_environment_is_never_written(bao, cli):
    said = cli("migrate", "--from-env", "--to", TO, **SIX)
    assert (said.code, said.output) == (2, "")
    assert "--keys" in said.error
    assert bao.nothing()


def test_only_named_keys_are_migrated_and_verified(bao, cli):
    file = cli.env_file()
    two = KEYS[:2]
    said = cli("migrate", "--from-file", file, "--to", TO, "--keys", ",".join(two))
    assert (said.code, said.table()) == (0, dict.fromkeys(two, "written"))
    assert bao.read() == {key: SIX[key] for key in two}
    assert cli("verify", "--from-file", file, "--to", TO, "--keys", ",".join(two)).code == 0
    whole = cli("verify", "--from-file", file, "--to", TO)
    assert whole.code == 1
    assert whole.table() == {**all_keys("missing in Vault"), **dict.fromkeys(two, "equal")}


def test_other_keys_of_path_stay(bao, cli):
    bao.write(OLD)
    assert cli("migrate", "--from-file", cli.env_file(), "--to", TO).code == 0
    assert bao.read() == {**OLD, **SIX}


def test_dry_run_tells_same_and_writes_nothing(bao, cli):
    bao.write({**OLD, KEYS[0]: f"{MARK}another", KEYS[1]: SIX[KEYS[1]]})
    arguments = ("migrate", "--from-file", cli.env_file(), "--to", TO, "--dry-run")
    expected = all_keys("would be written") | {KEYS[1]: "equal"}
    said = cli(*arguments)
    assert said.table() == expected | {KEYS[0]: "kept: Vault has another value"}
    assert (said.code, bao.version()) == (1, 1)
    said = cli(*arguments, "--overwrite")
    assert said.table() == expected | {KEYS[0]: "would be overwritten"}
    assert (said.code, bao.version()) == (0, 1)
    assert "nothing was written" in said.output


def test_key_with_another_value_stays_unless_overwritten(bao, cli):
    bao.write({KEYS[0]: f"{MARK}another"})
    file = cli.env_file()
    said = cli("migrate", "--from-file", file, "--to", TO)
    assert said.table()[KEYS[0]] == "kept: Vault has another value"
    assert (said.code, bao.read()) == (1, {**SIX, KEYS[0]: f"{MARK}another"})
    assert cli("verify", "--from-file", file, "--to", TO).table()[KEYS[0]] == "different"
    said = cli("migrate", "--from-file", file, "--to", TO, "--overwrite")
    assert said.table() == all_keys("equal") | {KEYS[0]: "overwritten"}
    assert (said.code, bao.read(), bao.version()) == (0, SIX, 3)
    assert cli("migrate", "--from-file", file, "--to", TO, "--overwrite").code == 0
    assert bao.version() == 3


def test_verify_tells_every_difference_and_ends_with_1(bao, cli):
    bao.write({"A": f"{MARK}1", "B": f"{MARK}x", "D": f"{MARK}4", "N": 1, "E\x1b[2J": "x"})
    file = cli.env_file({"A": f"{MARK}1", "B": f"{MARK}2", "C": f"{MARK}3", "N": "1"})
    said = cli("verify", "--from-file", file, "--to", TO)
    assert said.code == 1
    assert "\x1b" not in said.output
    assert said.table() == {
        "A": "equal",
        "B": "different",
        "C": "missing in Vault",
        "N": "different",
        "D": "missing at the source",
        "'E\\x1b[2J'": "missing at the source",
    }
    assert "DIFFER" in said.output


def test_key_that_neither_side_has_is_told(bao, cli):
    bao.write({"A": f"{MARK}1"})
    file = cli.env_file({"A": f"{MARK}1"})
    for verb in ("migrate", "verify"):
        said = cli(verb, "--from-file", file, "--to", TO, "--keys", "A,B")
        assert (said.code, said.table()) == (1, {"A": "equal", "B": "missing at the source"})


def test_template_that_was_not_filled_in_leaves_nothing_behind(bao, cli):
    said = cli("migrate", "--from-file", cli.env_file(dict.fromkeys(KEYS, "")), "--to", TO)
    assert (said.code, said.table()) == (1, all_keys("not written: empty at the source"))
    assert bao.nothing()


def test_names_are_verified_without_reading_value(bao, cli):
    bao.write({**SIX, KEYS[0]: f"{MARK}another"})
    rules = f'path "{MOUNT}/subkeys/{PATH}" {{ capabilities = ["read"] }}'
    token = bao.token(rules)
    arguments = ("verify", "--from-file", cli.env_file(), "--to", TO)
    said = cli(*arguments, "--names-only", VAULT_TOKEN=token)
    assert (said.code, said.table()) == (0, all_keys("present"))
    assert "only names were compared, not values" in said.output
    assert cli(*arguments, VAULT_TOKEN=token).code == 2
    bao.write({KEYS[0]: "", "MORE": ""})
    said = cli(*arguments, "--names-only", VAULT_TOKEN=token)
    assert said.code == 1
    assert said.table() == all_keys("missing in Vault") | {
        KEYS[0]: "present",
        "MORE": "missing at the source",
    }


def test_names_of_path_without_version_are_missing(bao, cli):
    arguments = ("verify", "--from-file", cli.env_file(), "--to", TO, "--names-only")
    assert cli(*arguments).table() == all_keys("missing in Vault")
    bao.write(SIX)
    bao.kv.delete_latest_version_of_secret(PATH, mount_point=MOUNT)
    assert cli(*arguments).table() == all_keys("missing in Vault")


@pytest.mark.parametrize("how", ["delete_latest_version_of_secret", "destroy_secret_versions"])
def test_deleted_or_destroyed_version_is_followed_by_new_one(bao, cli, how):
    bao.write({**OLD, KEYS[0]: f"{MARK}another"})
    more = {"versions": [1]} if how == "destroy_secret_versions" else {}
    getattr(bao.kv, how)(PATH, mount_point=MOUNT, **more)
    file = cli.env_file()
    assert cli("verify", "--from-file", file, "--to", TO).table() == all_keys("missing in Vault")
    assert cli("migrate", "--from-file", file, "--to", TO).table() == all_keys("written")
    assert (bao.read(), bao.version()) == (SIX, 2)


def test_values_are_what_they_were_to_byte(bao, cli):
    values = {
        "LINES": f"{MARK}-----BEGIN KEY-----\nabc\n\n-----END KEY-----\n",
        "SPACES": f" {MARK} \t",
        "OTHERS": f"{MARK}käse 日本 🙂\u2028\x7f\x01",
        "LARGE": MARK + "x" * 1_000_000,
    }
    file = cli.env_file(values)
    assert cli("migrate", "--from-file", file, "--to", TO).code == 0
    assert bao.read() == values
    assert cli("verify", "--from-file", file, "--to", TO).code == 0
