"""What a Redis that refuses lacks: field case B9."""

import pytest

from embedding_sidecar import redis_refusals

PATTERN = "aos:embedding:quota:*"


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
    ],
)
def test_missing_right_is_named(answer, told):
    """B9: the log said "ERR", and health ok."""
    found = redis_refusals.lacking(answer, pattern=PATTERN)
    assert told in found
    assert found.startswith(answer.split(" ", 1)[0])


@pytest.mark.parametrize("answer", ["ERR my-secret", "NOPERM my-secret", "BUSY my-secret"])
def test_prose_of_the_server_is_not_told(answer):
    assert "my-secret" not in redis_refusals.lacking(answer, pattern=PATTERN)
