"""`secrets migrate` and `secrets verify` on a real OpenBao."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from embedding_operator.migration import transfer
from tests.parts import sidecar
from tests.parts import vault as real
from tests.parts.migrating import KEYS, MARK, MOUNT, PATH, SIX, TO, Cli, Door

pytestmark = pytest.mark.integration

OLD = {"OLD": f"{MARK}old", "NUMBER": 5, "NESTED": {"a": [1.5, None, "x"]}}


class Bao:
    """A server with the example's mount, as an administrator sees it."""

    def __init__(self, server: real.Vault) -> None:
        self.server = server
        client = server.client()
        self._engine("agenticverz", version="2")
        self._engine("agenticverz2", version="2")
        self._engine("old", version="1")
        self.kv = client.secrets.kv.v2
        self.client = client

    def _engine(self, path: str, *, version: str) -> None:
        self.server.client().sys.enable_secrets_engine(
            "kv", path=path, options={"version": version}
        )

    def write(self, values: dict[str, Any], path: str = PATH) -> None:
        self.kv.create_or_update_secret(path, values, mount_point=MOUNT)

    def read(self, path: str = PATH) -> dict[str, Any]:
        """The values, without a version."""
        values: dict[str, Any] = self._answer(path)["data"]
        return values

    def version(self, path: str = PATH) -> int:
        version: int = self._answer(path)["metadata"]["version"]
        return version

    def nothing(self, path: str = PATH) -> bool:
        listed = self.client.adapter.get(f"/v1/sys/internal/ui/mounts/{MOUNT}")
        assert listed["data"]["path"] == f"{MOUNT}/"
        try:
            self._answer(path)
        except Exception as error:  # noqa: BLE001 - told by its class
            return type(error).__name__ == "InvalidPath"
        return False

    def token(self, rules: str) -> str:
        """A token that may do this alone."""
        name = f"policy-{time.monotonic_ns()}"
        self.client.sys.create_or_update_policy(name, rules)
        made: str = self.client.auth.token.create(policies=[name], no_default_policy=True)["auth"][
            "client_token"
        ]
        return made

    def _answer(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.kv.read_secret_version(
            path, mount_point=MOUNT, raise_on_deleted_version=False
        )["data"]
        return answer


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[real.Vault]:
    started = real.Vault(tmp_path_factory.mktemp("vault"))
    started.start()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def administrator(server) -> Bao:
    return Bao(server)


@pytest.fixture
def bao(administrator) -> Iterator[Bao]:
    """Nothing is at the example's path."""
    yield administrator
    administrator.kv.delete_metadata_and_all_versions(PATH, mount_point=MOUNT)


@pytest.fixture
def cli(server, tmp_path) -> Cli:
    return Cli(tmp_path, address=server.address, token_file=server.token_file)


@pytest.fixture
def door(server, cli) -> Iterator[Door]:
    """Between the command and Vault."""
    made = Door(server.address)
    with sidecar.served(made.app()) as url:
        cli.environment["VAULT_ADDR"] = url
        yield made


def all_keys(outcome: str) -> dict[str, str]:
    return dict.fromkeys(KEYS, outcome)


# --- the main job


def test_a_file_is_migrated_verified_and_a_second_run_writes_nothing(bao, cli):
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


def test_the_operators_own_program_does_the_same(bao, cli):
    cli.program = "embedding_operator"
    said = cli("migrate", "--from-file", cli.env_file(), "--to", TO)
    assert (said.code, said.table(), bao.read()) == (0, all_keys("written"), SIX)


def test_standard_input_is_a_file_too(bao, cli):
    said = cli("migrate", "--from-file", "-", "--to", TO, stdin=f"A='{MARK}1'\n")
    assert (said.code, bao.read()) == (0, {"A": f"{MARK}1"})
    assert cli("verify", "--from-file", "-", "--to", TO, stdin=f"A='{MARK}1'\n").code == 0


def test_of_an_environment_only_the_named_variables_are_migrated(bao, cli):
    said = cli("migrate", "--from-env", "--keys", ",".join(KEYS), "--to", TO, **SIX)
    assert (said.code, said.table(), bao.read()) == (0, all_keys("written"), SIX)
    assert cli("verify", "--from-env", "--keys", ",".join(KEYS), "--to", TO, **SIX).code == 0


def test_a_whole_environment_is_never_written(bao, cli):
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


def test_other_keys_of_the_path_stay(bao, cli):
    bao.write(OLD)
    assert cli("migrate", "--from-file", cli.env_file(), "--to", TO).code == 0
    assert bao.read() == {**OLD, **SIX}


def test_a_dry_run_tells_the_same_and_writes_nothing(bao, cli):
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


def test_a_key_with_another_value_stays_unless_overwritten(bao, cli):
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


def test_a_key_that_neither_side_has_is_told(bao, cli):
    bao.write({"A": f"{MARK}1"})
    file = cli.env_file({"A": f"{MARK}1"})
    for verb in ("migrate", "verify"):
        said = cli(verb, "--from-file", file, "--to", TO, "--keys", "A,B")
        assert (said.code, said.table()) == (1, {"A": "equal", "B": "missing at the source"})


def test_a_template_that_was_not_filled_in_leaves_nothing_behind(bao, cli):
    said = cli("migrate", "--from-file", cli.env_file(dict.fromkeys(KEYS, "")), "--to", TO)
    assert (said.code, said.table()) == (1, all_keys("not written: empty at the source"))
    assert bao.nothing()


def test_names_are_verified_without_reading_a_value(bao, cli):
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


def test_names_of_a_path_without_a_version_are_missing(bao, cli):
    arguments = ("verify", "--from-file", cli.env_file(), "--to", TO, "--names-only")
    assert cli(*arguments).table() == all_keys("missing in Vault")
    bao.write(SIX)
    bao.kv.delete_latest_version_of_secret(PATH, mount_point=MOUNT)
    assert cli(*arguments).table() == all_keys("missing in Vault")


@pytest.mark.parametrize("how", ["delete_latest_version_of_secret", "destroy_secret_versions"])
def test_a_deleted_or_destroyed_version_is_followed_by_a_new_one(bao, cli, how):
    bao.write({**OLD, KEYS[0]: f"{MARK}another"})
    more = {"versions": [1]} if how == "destroy_secret_versions" else {}
    getattr(bao.kv, how)(PATH, mount_point=MOUNT, **more)
    file = cli.env_file()
    assert cli("verify", "--from-file", file, "--to", TO).table() == all_keys("missing in Vault")
    assert cli("migrate", "--from-file", file, "--to", TO).table() == all_keys("written")
    assert (bao.read(), bao.version()) == (SIX, 2)


def test_values_are_what_they_were_to_the_byte(bao, cli):
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


# --- who asks, and what it needs

LEAST = f'path "{MOUNT}/data/{PATH}" {{ capabilities = ["create", "read", "update"] }}'


def test_a_token_needs_the_path_and_nothing_else(bao, cli):
    token = bao.token(LEAST)
    said = cli("migrate", "--from-file", cli.env_file(), "--to", TO, VAULT_TOKEN=token)
    assert (said.code, bao.read()) == (0, SIX)


def test_a_token_that_may_only_read_verifies_and_writes_nothing(bao, cli):
    token = bao.token(f'path "{MOUNT}/data/{PATH}" {{ capabilities = ["read"] }}')
    file = cli.env_file()
    assert cli("verify", "--from-file", file, "--to", TO, VAULT_TOKEN=token).code == 1
    said = cli("migrate", "--from-file", file, "--to", TO, VAULT_TOKEN=token)
    assert (said.code, said.output) == (2, "")
    assert f"forbids writing {TO}" in said.error
    assert bao.nothing()


@pytest.mark.parametrize("token", ["s.revoked", "no-token"])
def test_a_token_that_is_not_valid_is_told_and_not_shown(bao, cli, token):
    said = cli("migrate", "--from-file", cli.env_file(), "--to", TO, VAULT_TOKEN=token)
    assert (said.code, said.output) == (2, "")
    assert "token" in said.error
    assert token not in said.error


def test_the_token_of_vault_login_is_used(bao, cli):
    file = cli.home / ".vault-token"
    file.write_text(cli.environment["VAULT_TOKEN"] + "\n", encoding="utf-8")
    said = cli("migrate", "--from-file", cli.env_file(), "--to", TO, VAULT_TOKEN="")
    assert (said.code, bao.read()) == (0, SIX)


def test_a_namespace_of_vault_is_another_vault(bao, cli):
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


def test_tls_is_verified_by_the_named_authority(tmp_path):
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


def test_a_sealed_vault_and_one_that_is_away_are_told(tmp_path):
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
    assert "does not answer" in away.error


# --- where to


def test_the_longest_mount_that_vault_lists_is_the_mount(bao, cli):
    file = cli.env_file()
    assert cli("migrate", "--from-file", file, "--to", f"agenticverz2/{PATH}").code == 0
    assert bao.nothing()
    held = bao.kv.read_secret_version(
        PATH, mount_point="agenticverz2", raise_on_deleted_version=True
    )
    assert held["data"]["data"] == SIX


def test_a_mount_can_be_given_by_name(bao, cli):
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
def test_a_wrong_place_is_refused(bao, cli, verb, case):
    to, more, told = WRONG[case]
    said = cli(verb, "--from-file", cli.env_file(), "--to", to, *more)
    assert (said.code, said.output) == (2, "")
    assert told in said.error
    assert bao.nothing()


def test_a_mount_without_check_and_set_is_verified_and_not_written(bao, cli):
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
    "no cluster": (("--from-secret", "shop/keys", "--to", TO), "no cluster"),
    "no address": (("--from-env", "--keys", "HOME", "--to", TO), "VAULT_ADDR"),
}


@pytest.mark.parametrize("case", USAGE)
def test_what_cannot_be_done_ends_with_2_and_says_why(cli, case):
    arguments, told = USAGE[case]
    said = cli("migrate", *arguments, VAULT_ADDR="")
    assert (said.code, said.output) == (2, "")
    assert told in said.error.splitlines()[-1]


# --- races and crashes


def test_what_another_writes_between_read_and_write_is_kept(bao, cli, door):
    bao.write(OLD)

    def another(number: int) -> None:
        if number == 3:
            assert door.asked[-1].startswith("POST ")
            bao.write({**OLD, "THEIRS": f"{MARK}theirs", KEYS[0]: f"{MARK}theirs"})

    door.before = another
    said = cli("migrate", "--from-file", cli.env_file(), "--to", TO)
    # What they wrote first is theirs, as if it had been there from the beginning.
    assert said.table() == all_keys("written") | {KEYS[0]: "kept: Vault has another value"}
    assert bao.read() == {**OLD, **SIX, "THEIRS": f"{MARK}theirs", KEYS[0]: f"{MARK}theirs"}


def test_a_race_that_is_always_lost_is_given_up_and_nothing_is_lost(bao, cli, door):
    def another(number: int) -> None:
        if door.asked[-1].startswith("POST "):
            bao.write({"THEIRS": f"{MARK}{number}"})

    door.before = another
    said = cli("migrate", "--from-file", cli.env_file(), "--to", TO)
    assert (said.code, said.output) == (2, "")
    assert "nothing of theirs was lost" in said.error
    assert bao.version() == transfer.ATTEMPTS
    assert bao.read().keys() == {"THEIRS"}


def test_two_migrations_at_once_both_end_right(bao, cli):
    half = {key: SIX[key] for key in KEYS[:3]}
    rest = {key: SIX[key] for key in KEYS[3:]}
    running = [
        cli.start("migrate", "--from-file", cli.env_file(values, name), "--to", TO)
        for name, values in (("1", half), ("2", rest), ("3", half), ("4", rest))
    ]
    for process in running:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert bao.read() == SIX
    assert bao.version() == 2


def test_a_write_that_is_refused_for_another_reason_is_not_repeated(bao, cli, door):
    door.before = lambda _: (
        JSONResponse({"errors": [f"{MARK}quoted"]}, 400)
        if door.asked[-1].startswith("POST ")
        else None
    )
    said = cli("migrate", "--from-file", cli.env_file(), "--to", TO)
    assert (said.code, said.output) == (2, "")
    assert "400" in said.error
    assert len([it for it in door.asked if it.startswith("POST ")]) == 1


def test_a_redirect_carries_the_token_nowhere(bao, cli, server, door):
    elsewhere = Door(server.address)
    with sidecar.served(elsewhere.app()) as url:
        door.before = lambda _: RedirectResponse(f"{url}{door.asked[-1].split()[1]}")
        said = cli("migrate", "--from-file", cli.env_file(), "--to", TO)
    assert (said.code, said.output, elsewhere.asked) == (2, "", [])
    assert "does not answer as Vault does" in said.error


CALLS = ("the list of mounts", "the read", "the write")
FAULTS: dict[str, Callable[[], Response]] = {
    "500": lambda: JSONResponse({"errors": [f"{MARK}quoted"]}, 500),
    "another web server": lambda: HTMLResponse(f"<p>{MARK}quoted</p>"),
}


STATUSES = {
    413: "refuses",
    429: "rate limit",
    500: "failed",
    501: "not initialised",
    502: "gateway",
    503: "sealed",
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_is_told_in_words_and_what_vault_says_is_not(bao, cli, door, status):
    door.before = lambda _: JSONResponse({"errors": [f"{MARK}quoted"]}, status)
    said = cli("verify", "--from-file", cli.env_file(), "--to", TO)
    assert (said.code, said.output) == (2, "")
    assert STATUSES[status] in said.error


MOMENTS = [(when, call) for call in CALLS for when in ("before", "after")]


@pytest.mark.parametrize("moment", MOMENTS, ids=" ".join)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_call_ends_with_2_and_a_rerun_ends_right(bao, cli, door, fault, moment):
    when, call = moment
    bao.write(OLD)
    number = CALLS.index(call) + 1
    setattr(door, when, lambda now: FAULTS[fault]() if now == number else None)
    file = cli.env_file()
    said = cli("migrate", "--from-file", file, "--to", TO)
    assert (said.code, said.output) == (2, "")
    assert len(door.asked) == number
    assert cli("migrate", "--from-file", file, "--to", TO).code == 0
    assert (bao.read(), bao.version()) == ({**OLD, **SIX}, 2)


@pytest.mark.parametrize("moment", MOMENTS, ids=" ".join)
def test_a_process_that_dies_at_any_call_leaves_all_or_nothing(bao, cli, door, moment):
    when, call = moment
    bao.write(OLD)
    number = CALLS.index(call) + 1
    file = cli.env_file()
    running: list[int] = []

    def die(now: int) -> Response | None:
        if now != number:
            return None
        sidecar.wait_until(lambda: running)
        os.kill(running[0], 9)
        return Response()  # to nobody

    setattr(door, when, die)
    process = cli.start("migrate", "--from-file", file, "--to", TO)
    running.append(process.pid)
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output, error) == (-9, "", "")
    written = moment == ("after", "the write")
    if written:
        sidecar.wait_until(lambda: bao.version() == 2)
    assert bao.read() == ({**OLD, **SIX} if written else OLD)
    said = cli("migrate", "--from-file", file, "--to", TO)
    assert (said.code, said.table()) == (0, all_keys("equal" if written else "written"))
    assert (bao.read(), bao.version()) == ({**OLD, **SIX}, 2)


def test_a_defect_shows_no_value(bao, cli, tmp_path):
    broken = tmp_path / "sitecustomize.py"
    broken.write_text(
        "from embedding_operator.migration import plan\n"
        "def fail(source, held, **_):\n"
        "    raise ValueError(f'broken by {source}')\n"
        "plan.migration = fail\n",
        encoding="utf-8",
    )
    process = cli.start(
        "migrate", "--from-file", cli.env_file(), "--to", TO, PYTHONPATH=str(tmp_path)
    )
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, "")
    assert "a defect, ValueError" in error
    assert MARK not in error
    assert 'transfer.py"' in error
    assert bao.nothing()
