"""Reasons of a Redis's refusals, in words of our own: never the server's prose."""

import re
from typing import Final

import hiredis
from redis.exceptions import RedisError

from embedding_sidecar import errors

_COMMAND: Final = re.compile(r"'([a-z][a-z|_-]{0,31})'")
_SAYING: Final = {
    "NOAUTH": "the URL has no user or password, and this Redis requires one",
    "WRONGPASS": "the user or the password in the URL is wrong",
    "READONLY": "this is a replica, which takes no writes",
    "OOM": "its memory is full, and its maxmemory-policy evicts nothing",
    "LOADING": "it still loads its data",
    "MISCONF": "it cannot write to its disk, and takes no writes until it can",
}
_CODES: Final = frozenset({"ERR", "NOPERM", *_SAYING})
"""Codes of refusals that last until a person acts; others come from a Cluster that moves slots, or
from a server that is not a Redis."""


def failure(error: BaseException, *, pattern: str, run_by_script: str = "") -> errors.StoreAway:
    """The failure of a command: errors.StoreRefuses with the reason of a refusal, or its type."""
    answer = str(error) if isinstance(error, hiredis.ReplyError | RedisError) else ""
    if isinstance(error, RedisError) and error.status_code:
        # redis-py has taken it out of the answer's text.
        answer = f"{error.status_code} {answer}"
    if answer.partition(" ")[0] not in _CODES:
        return errors.StoreAway(type(error).__name__)
    return errors.StoreRefuses(lacking(answer, pattern=pattern, run_by_script=run_by_script))


def lacking(answer: str, *, pattern: str, run_by_script: str) -> str:
    """The code of a refusal, and the right of the user that is missing.

    `answer` begins with the code, in the forms of Redis 6 to 8 and of Valkey. `pattern` is that of
    the keys in use, `run_by_script` the rights that the script needs: an older Redis names none.
    """
    code, _, rest = answer.partition(" ")
    if code == "NOPERM" and (" key" in rest or "channel" in rest):
        return f"{code}: the user may not use these keys; its right ~{pattern} is missing"
    if code == "NOPERM" or "ACL failure in script" in rest:
        found = _COMMAND.search(rest)
        right = f"the user's right +{found[1]}" if found else "a right of the user"
        return f"{code}: {right} is missing"
    if "executing the script can't run this command" in rest:
        return f"{code}: the script may not run its commands; one of {run_by_script} is missing"
    return f"{code}: {_SAYING[code]}" if code in _SAYING else code
