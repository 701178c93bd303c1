"""What a Redis that answers and refuses lacks, in words of our own: never the server's prose."""

import re
from typing import Final

import hiredis
from redis.exceptions import RedisError

_COMMAND: Final = re.compile(r"'([a-z][a-z|_-]{0,31})'")
_SAYING: Final = {
    "NOAUTH": "the URL has no user or password, and this Redis wants one",
    "WRONGPASS": "user or password of the URL are wrong",
    "READONLY": "this is a replica, which takes no writes",
    "OOM": "it is full, and its maxmemory-policy drops nothing",
    "LOADING": "it still loads what it kept",
    "MISCONF": "it cannot write to its disk, and takes no writes until it can",
}
_CODES: Final = frozenset({"ERR", "NOPERM", *_SAYING})
"""Of refusals that stay until somebody changes something; other answers are of a Redis in motion,
as a Cluster's are, or of what is none."""


def of(error: BaseException | None, *, pattern: str, run_by_script: str) -> str | None:
    """What a Redis lacks that has refused so; None where it did not refuse.

    redis-py takes the code of an answer away, and says it beside.
    """
    if isinstance(error, RedisError) and error.status_code:
        answer = f"{error.status_code} {error}"
    elif isinstance(error, hiredis.ReplyError | RedisError):
        answer = str(error)
    else:
        return None
    if answer.partition(" ")[0] not in _CODES:
        return None
    return lacking(answer, pattern=pattern, run_by_script=run_by_script)


def lacking(answer: str, *, pattern: str, run_by_script: str) -> str:
    """The code of a refusal, and the right of the user that is missing where it is one.

    Args:
        answer: of Redis, with the code first. Forms of Redis 6 to 8 and of Valkey.
        pattern: of the keys that are used.
        run_by_script: rights to what a script runs, of which an older Redis does not say which.
    """
    code, _, rest = answer.partition(" ")
    if code == "NOPERM" and (" key" in rest or "channel" in rest):
        return f"{code}: the user may not use these keys; its right ~{pattern} is missing"
    if code == "NOPERM" or "ACL failure in script" in rest:
        found = _COMMAND.search(rest)
        return (
            f"{code}: the user's right {_right(found[1])} is missing"
            if found
            else f"{code}: a right of the user is missing"
        )
    if "executing the script can't run this command" in rest:
        return f"{code}: the script may not run its commands; one of {run_by_script} is missing"
    return f"{code}: {_SAYING[code]}" if code in _SAYING else code


def _right(command: str) -> str:
    return f"+{command}"
