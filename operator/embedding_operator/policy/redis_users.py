"""The user of one policy in the Redis of a ClusterEmbeddingProvider: its rights and URL. Pure.

The class's own URL has a user that may make others. A policy's user may touch the policy's ceilings
and the class's window, and run the commands of the scripts that count them.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from embedding_contract import class_keys
from embedding_operator import errors
from embedding_operator.kube.kinds import ObjectKey

PREFIX: Final = "embedding/"
NOT_MADE: Final = "RedisUserNotMade"
COMMANDS: Final = (
    "+eval",
    "+evalsha",
    # Commands of the scripts, which run with the rights of their caller.
    "+time",
    "+hgetall",
    "+hmget",
    "+hset",
    "+hlen",
    "+hdel",
    "+expire",
    # Commands of a client that connects.
    "+ping",
    "+select",
)
"""Not CONFIG, which would show the passwords of others."""
_PASSWORD: Final = re.compile(r"[A-Za-z0-9_-]{32,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user by name and password."""

    name: str
    password: str = field(repr=False)
    patterns: tuple[str, ...]

    def rules(self) -> list[str]:
        """The words of ACL SETUSER, which leave nothing of an earlier user of this name."""
        digest = hashlib.sha256(self.password.encode()).hexdigest()
        # `reset` takes every right away, and every password.
        return ["reset", "on", f"#{digest}", *(f"~{it}" for it in self.patterns), *COMMANDS]


def prefix(class_name: str) -> str:
    """The beginning of the names of all users of a class."""
    return f"{PREFIX}{class_name}/"


def name_of(class_name: str, policy: ObjectKey) -> str:
    """The user of a policy."""
    return f"{prefix(class_name)}{policy.namespace}/{policy.name}"


def is_made(admin_url: str) -> bool:
    """True if policies get users of their own, as they may not have the class's password."""
    return bool(urlsplit(admin_url).password)


def check(admin_url: str) -> None:
    """Refuse a Redis in which no users can be made.

    Raises:
        errors.InvalidPolicy: it has several nodes, each with users of its own.
    """
    if urlsplit(admin_url).scheme not in {"redis", "rediss"}:
        message = (
            "users of policies are made in a single Redis only (redis:// or rediss://), as each"
            " node of a Cluster, and each replica, has users of its own"
        )
        raise errors.InvalidPolicy("", message, reason=NOT_MADE)


def user_of(class_name: str, policy: ObjectKey, *, before: str, new_password: str) -> User:
    """The user of a policy, with the password of its URL from before if that has one."""
    name = name_of(class_name, policy)
    parts = urlsplit(before)
    known = unquote(parts.password or "") if unquote(parts.username or "") == name else ""
    return User(
        name=name,
        password=known if _PASSWORD.fullmatch(known) else new_password,
        patterns=class_keys.patterns(class_name, policy.namespace, policy.name),
    )


def url_of(admin_url: str, user: User) -> str:
    """The class's URL with a policy's user in it."""
    parts = urlsplit(admin_url)
    address = parts.netloc.rpartition("@")[2]
    mine = f"{quote(user.name, safe='')}:{quote(user.password, safe='')}@{address}"
    return parts._replace(netloc=mine).geturl()
