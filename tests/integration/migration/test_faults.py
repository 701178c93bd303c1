"""Lost races, wrong answers, a process that dies: a rerun succeeds."""

import os
from collections.abc import Callable

import pytest
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from embedding_operator.migration import transfer
from tests.parts import sidecar
from tests.parts.migrating import KEYS, MARK, OLD, SIX, TO, Door, all_keys

pytestmark = pytest.mark.integration


def test_write_of_another_between_read_and_write_is_kept(bao, cli, door):
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


def test_race_that_is_always_lost_is_given_up_and_nothing_is_lost(bao, cli, door):
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


def test_write_that_is_refused_for_another_reason_is_not_repeated(bao, cli, door):
    door.before = lambda _: (
        JSONResponse({"errors": [f"{MARK}quoted"]}, 400)
        if door.asked[-1].startswith("POST ")
        else None
    )
    said = cli("migrate", "--from-file", cli.env_file(), "--to", TO)
    assert (said.code, said.output) == (2, "")
    assert "400" in said.error
    assert len([it for it in door.asked if it.startswith("POST ")]) == 1


def test_redirect_carries_token_nowhere(bao, cli, server, door):
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
def test_status_is_told_in_words_and_what_vault_says_is_not(bao, cli, door, status):
    door.before = lambda _: JSONResponse({"errors": [f"{MARK}quoted"]}, status)
    said = cli("verify", "--from-file", cli.env_file(), "--to", TO)
    assert (said.code, said.output) == (2, "")
    assert STATUSES[status] in said.error


MOMENTS = [(when, call) for call in CALLS for when in ("before", "after")]


@pytest.mark.parametrize("moment", MOMENTS, ids=" ".join)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_at_any_call_ends_with_2_and_rerun_ends_right(bao, cli, door, fault, moment):
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
def test_process_that_dies_at_any_call_leaves_all_or_nothing(bao, cli, door, moment):
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


def test_defect_shows_no_value(bao, cli, tmp_path):
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
