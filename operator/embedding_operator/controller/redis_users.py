"""Makes and removes the users of policies in the Redis of a class, as the class's own user."""

import secrets
import time
from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

import redis

from embedding_operator import errors
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.policy import redis_users
from embedding_operator.policy.redis_users import NOT_MADE

SECONDS: Final = 2.0
"""The longest wait for a connection, and for an answer."""
AGAIN_SECONDS: Final = 10.0
"""A Redis that failed is asked again after this time: reconciles of other policies do not wait."""
PASSWORD_BYTES: Final = 32

T = TypeVar("T")


class RedisUsers:
    """The users of all classes. `clock` is in seconds and never goes back."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[str, tuple[float, str]] = {}
        """When a URL failed last, and with what."""

    def grant(self, admin_url: str, class_name: str, policy: ObjectKey, *, before: str) -> str:
        """The URL of a policy's user, which is there afterwards; `before` is the one it has.

        Raises:
            errors.InvalidPolicy: there is no such user, and the reason why.
        """
        if not redis_users.is_made(admin_url):
            return admin_url
        user = redis_users.user_of(
            class_name,
            policy,
            before=before,
            new_password=secrets.token_urlsafe(PASSWORD_BYTES),
        )
        words = ("ACL", "SETUSER", user.name, *user.rules())
        self._ask(admin_url, lambda asked: asked.execute_command(*words))
        return redis_users.url_of(admin_url, user)

    def keep_only(
        self, admin_url: str, class_name: str, policies: Callable[[], Collection[ObjectKey]]
    ) -> None:
        """Remove the users of policies that may not use the class any more, or have gone.

        `policies` says which may, after users were listed: so no user is removed that is new.

        Raises:
            errors.InvalidPolicy: they may still be there, and the reason why.
        """
        if not redis_users.is_made(admin_url):
            return

        def remove(asked: Any) -> None:
            there = {it.decode(errors="replace") for it in asked.execute_command("ACL", "USERS")}
            ours = {it for it in there if it.startswith(redis_users.prefix(class_name))}
            kept = {redis_users.name_of(class_name, it) for it in policies()}
            if unwanted := sorted(ours - kept):
                # Redis also ends their connections.
                asked.execute_command("ACL", "DELUSER", *unwanted)

        self._ask(admin_url, remove)

    def _ask(self, url: str, question: Callable[[Any], T]) -> T:
        redis_users.check(url)
        until, why = self._failed.get(url, (float("-inf"), ""))
        if self._clock() < until:
            raise errors.InvalidPolicy("", why, reason=NOT_MADE)
        try:
            with redis.Redis.from_url(
                url,
                socket_timeout=SECONDS,
                socket_connect_timeout=SECONDS,
                decode_responses=False,
            ) as asked:
                found = question(asked)
        except (redis.RedisError, OSError, ValueError) as error:
            # Never the error's text, which may hold the URL or an argument.
            why = f"its Redis does not make users: {_reason(error)}"
            self._failed[url] = self._clock() + AGAIN_SECONDS, why
            raise errors.InvalidPolicy("", why, reason=NOT_MADE) from None
        self._failed.pop(url, None)
        return found


def _reason(error: Exception) -> str:
    if isinstance(error, redis.exceptions.NoPermissionError):
        return "the class's user lacks a right (+acl|setuser, +acl|users, +acl|deluser)"
    if isinstance(error, redis.exceptions.AuthenticationError):
        return "the class's user or password is wrong"
    return type(error).__name__
