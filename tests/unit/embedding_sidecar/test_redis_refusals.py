"""The missing right in the refusal of a Redis: field case B9."""

import hiredis
import pytest
import redis.exceptions
from redis._parsers.base import BaseParser

from embedding_sidecar import errors
from embedding_sidecar.redis_client import redis_refusals

PATTERN = "aos:embedding:quota:*"
RUN = "+time +hset"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("NOPERM this user has no permissions to run the 'evalsha' command", "+evalsha"),
        ("NOPERM User a has no permissions to run the 'config|get' command", "+config|get"),
        (
            "NOPERM this user has no permissions to access one of the keys used as arguments",
            f"~{PATTERN}",
        ),
        ("NOPERM No permissions to access a key", f"~{PATTERN}"),
        (
            (
                "ERR The user executing the script can't run this command or subcommand script: 10,"
                " on @user_script:1."
            ),
            "+time",
        ),
        (
            (
                "ERR ACL failure in script: User a has no permissions to run the 'time' command"
                " script: 10, on @user_script:1."
            ),
            "+time",
        ),
        ("NOAUTH Authentication required.", "no user or password"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "wrong"),
        ("READONLY You can't write against a read only replica.", "replica"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "maxmemory-policy"),
        ("LOADING Redis is loading the dataset in memory", "loads"),
        ("MISCONF Redis is configured to save RDB snapshots, but", "disk"),
    ],
)
def test_missing_right_is_named(answer, told):
    """B9: the log said "ERR", and health ok."""
    found = redis_refusals.lacking(answer, pattern=PATTERN, run_by_script=RUN)
    assert told in found
    assert found.startswith(answer.split(" ", 1)[0])


@pytest.mark.parametrize("answer", ["ERR my-secret", "NOPERM my-secret", "BUSY my-secret"])
def test_prose_of_server_is_not_told(answer):
    assert "my-secret" not in redis_refusals.lacking(answer, pattern=PATTERN, run_by_script=RUN)


@pytest.mark.parametrize(
    "answer", ["NOPERM no 'get' command", "WRONGPASS invalid", "OOM x", "ERR x"]
)
def test_refusal_is_same_in_either_clients_form(answer):
    """B9: redis-py takes the code away, and so the wrong password was an AuthenticationError."""
    told = redis_refusals.lacking(answer, pattern=PATTERN, run_by_script=RUN)
    for error in (hiredis.ReplyError(answer), BaseParser.parse_error(answer)):
        failure = redis_refusals.failure(error, pattern=PATTERN, run_by_script=RUN)
        assert (type(failure), str(failure)) == (errors.StoreRefuses, told)


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        redis.exceptions.ConnectionError("ERR my-secret"[4:]),
        hiredis.ReplyError("MOVED 1 nowhere:1"),
        hiredis.ReplyError("WRONGTYPE Operation against a key"),
        BaseParser.parse_error("CLUSTERDOWN The cluster is down"),
        hiredis.ReplyError("NOPERMISSION"),
        hiredis.ReplyError(""),
    ],
)
def test_other_error_is_no_refusal(error):
    failure = redis_refusals.failure(error, pattern=PATTERN, run_by_script=RUN)
    assert (type(failure), str(failure)) == (errors.StoreAway, type(error).__name__)
