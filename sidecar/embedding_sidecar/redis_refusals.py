"""What a Redis that answers and refuses lacks, in words of our own: never the server's prose."""

import re
from typing import Final

_COMMAND: Final = re.compile(r"'([a-z][a-z|_-]{0,31})'")
_SAYING: Final = {
    "NOAUTH": "the URL has no user or password, and this Redis wants one",
    "WRONGPASS": "user or password of the URL are wrong",
    "READONLY": "this is a replica, which takes no writes",
}
_RUN_BY_SCRIPT: Final = "+time +hgetall +hmget +hset +hlen +expire"
"""What the quota's script runs."""


def lacking(answer: str, *, pattern: str) -> str:
    """The code of a refusal, and the right of the user that is missing where it is one.

    Args:
        answer: of Redis, with the code first. Forms of Redis 6 to 8 and of Valkey.
        pattern: of the keys that are used.
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
        return f"{code}: the script may not run its commands; one of {_RUN_BY_SCRIPT} is missing"
    return f"{code}: {_SAYING[code]}" if code in _SAYING else code


def _right(command: str) -> str:
    return f"+{command}"
