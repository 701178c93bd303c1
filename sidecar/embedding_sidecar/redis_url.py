"""A client for a Redis by its URL, in each form that Redis is run in.

    redis://, rediss:// (TLS)                     one server, and whatever looks like one
    unix://                                       one server by its socket
    redis+cluster://, rediss+cluster://           Redis Cluster; several nodes to begin with
    redis+sentinel://, rediss+sentinel://         a server that Sentinels name: .../SERVICE/DATABASE

Options are those of redis-py, plus `sentinel_username` and `sentinel_password`. The forms of one
server are IANA's; those with a plus are those of Redis' own libraries and of others for Python
(redis-vl, LangChain, Prefect).
"""

import copy
import re
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

import redis.asyncio
from redis._parsers import _AsyncHiredisParser
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import RedisSSLContext, SSLConnection, parse_url
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

_SOCKET_SECONDS: Final = 2.0
_MAX_CONNECTIONS: Final = 64
"""To one server; also bounds what can be under way while it does not answer."""
_CONTEXT_SECONDS: Final = 60.0
_ONCE_MORE: Final = Retry(NoBackoff(), 1)
"""At once: a connection that Redis closed while it lay in the pool."""
_MAX_REPLY_BYTES: Final = 2**23
"""Of what redis-py reads, beyond what each reply pays for: the longest are all generations of a
scope, 4,096 of which are texts' and take 350 bytes each at most, and the slots of a Cluster."""
_REPLY_BYTES: Final = 2**16 + 2**12
"""Each reply pays for so many bytes: a value of the cache has no more, and a pipeline to a node of
a Cluster has a reply for each."""
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_FIXED: Final = frozenset({"host", "port", "path", "connection_class"})
_SEVERAL: Final = re.compile(
    r"(?P<scheme>rediss?)\+(?P<form>cluster|sentinel)://"
    r"(?:(?P<user>[^/?#]*)@)?(?P<hosts>[^/?#@]+)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?"
)
_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+)(?::(?P<port>[0-9]{1,5}))?")


def connect(url: str, *, authorities: str | None = None) -> redis.asyncio.Redis:
    """A client of this URL; it connects when first used.

    By TLS the `authorities` (PEM) are believed too, where the URL names none of its own.

    Bytes come back as bytes and no wait is longer than 2 s, whatever the URL says. A client of a
    Cluster is a redis.asyncio.RedisCluster, which has the same commands for keys of one slot.

    Raises:
        ValueError: this is no URL of a Redis, or it has an option that no connection takes. The
            text holds nothing of the URL.
    """
    several = _SEVERAL.fullmatch(url)
    try:
        if several is None:
            return _one(_believing(_options(url), authorities))
        hosts = _hosts(several["hosts"])
        *service, database = several["path"].split("/")[1:] if several["path"] else [""]
        if several["form"] == "sentinel" and not service:
            service, database = [database], ""
        user = f"{several['user']}@" if several["user"] else ""
        # What one server would be called: its options are read by who knows them.
        alone = f"{several['scheme']}://{user}host/{database}{several['query'] or ''}"
        options = {it: value for it, value in _options(alone).items() if it not in _FIXED}
        if database and not database.isdecimal():
            raise ValueError("the database of the URL is no number")
        if several["scheme"] == "rediss":
            options["ssl"] = True
        options = _believing(options, authorities)
        if several["form"] == "cluster":
            if service or int(database or 0):
                raise ValueError("a Cluster has one database, which has no name")
            return _cluster(hosts, options)
        if len(service) != 1 or not service[0]:
            raise ValueError("the URL must name the service that the Sentinels know")
        return _sentinel(hosts, service[0], options)
    except (AttributeError, TypeError, RedisError, RedisClusterException):
        raise ValueError("an option of the URL is unknown, or has a wrong value") from None


class _BoundedParser(_AsyncHiredisParser):
    """A parser of redis-py that gives up a server whose replies are longer than any can be."""

    _reader: Any
    _unpaid_bytes = 0

    async def read_from_socket(self) -> bool:
        """Read what has come, within the bound."""
        before = self._reader.len()
        more: bool = await super().read_from_socket()  # type: ignore[no-untyped-call] # upstream's
        self._unpaid_bytes += self._reader.len() - before
        if self._unpaid_bytes > _MAX_REPLY_BYTES:
            raise NoConnection("a reply is longer than what was asked for can be")
        return more

    async def read_response(self, *arguments: Any, **named: Any) -> Any:
        """Read a reply, which pays for what has come."""
        found = await super().read_response(*arguments, **named)
        self._unpaid_bytes = max(self._unpaid_bytes - _REPLY_BYTES, 0)
        return found


def _sharing(kind: type[SSLConnection]) -> type[SSLConnection]:
    """Connections that make one TLS context after the other for all of them.

    Each would make its own, which reads all authorities and stops the event loop for 40 ms. Not one
    for good: a certificate is replaced in its file.
    """
    shared: RedisSSLContext | None = None
    until = 0.0

    class Sharing(kind):  # type: ignore[misc, valid-type] # a class given by a caller
        def _made(self) -> RedisSSLContext:
            # It may be the one that is over; a copy is made when it is first used.
            made = copy.copy(self.ssl_context)
            made.context = None
            return made

        def _connection_arguments(self) -> Mapping[str, Any]:
            nonlocal shared, until
            if shared is None or time.monotonic() > until:
                shared, until = self._made(), time.monotonic() + _CONTEXT_SECONDS
            self.ssl_context = shared
            return cast("Mapping[str, Any]", super()._connection_arguments())

    return Sharing


class _Host(NamedTuple):
    name: str
    port: int | None


def _hosts(written: str) -> list[_Host]:
    found = []
    for text in written.split(","):
        host = _HOST.fullmatch(text)
        if host is None:
            raise ValueError("a host of the URL is none")
        found.append(_Host(host["name"].strip("[]"), int(host["port"]) if host["port"] else None))
    return found


def _options(url: str) -> dict[str, Any]:
    try:
        return dict(parse_url(url))
    except ValueError:
        # Its own text may hold a part of the URL, and that a part of the password.
        raise ValueError("it is no URL of a Redis, or an option has a wrong value") from None


def _settled(options: dict[str, Any]) -> dict[str, Any]:
    """The options with what no URL can change."""
    if options.get("ssl_cert_reqs") == "none":
        # Else no context can be made: a name is checked in a certificate that was.
        options.setdefault("ssl_check_hostname", False)
    return {
        **options,
        "decode_responses": False,
        "max_connections": _MAX_CONNECTIONS,
        "socket_connect_timeout": _SOCKET_SECONDS,
        "socket_timeout": _SOCKET_SECONDS,
        "retry": _ONCE_MORE,
    }


def _believing(options: dict[str, Any], authorities: str | None) -> dict[str, Any]:
    """The options of a connection by TLS, with these authorities beside OpenSSL's."""
    is_tls = options.get("connection_class") is SSLConnection or "ssl" in options
    return {"ssl_ca_data": authorities, **options} if is_tls and authorities else options


def _one(options: dict[str, Any]) -> redis.asyncio.Redis:
    if options.get("connection_class") is SSLConnection:
        options["connection_class"] = _sharing(SSLConnection)
    pool = redis.asyncio.ConnectionPool(**_settled(options), parser_class=_BoundedParser)
    # Else an unknown option would be found by the first command, as what is no RedisError.
    pool.make_connection()  # type: ignore[no-untyped-call] # upstream's
    return redis.asyncio.Redis.from_pool(pool)


class _SentinelPool(SentinelConnectionPool):
    async def aclose(self) -> None:
        """Close the connections, also those to the Sentinels, which nobody else would."""
        await super().aclose()
        await self.sentinel_manager.aclose()


def _sentinel(hosts: list[_Host], service: str, options: dict[str, Any]) -> redis.asyncio.Redis:
    own = {
        name: options.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in options
    }
    settled = _settled(options)
    shared = {name: value for name, value in settled.items() if name.startswith(("ssl", "socket_"))}
    sentinel = Sentinel(  # type: ignore[no-untyped-call] # upstream's
        [(host.name, host.port or _SENTINEL_PORT) for host in hosts],
        sentinel_kwargs={**shared, **own, "retry": _ONCE_MORE},
        **settled,
    )
    for asked in sentinel.sentinels:
        asked.connection_pool.connection_kwargs["parser_class"] = _BoundedParser
    kind: dict[str, Any] = {"parser_class": _BoundedParser}
    if "ssl" in options:
        kind["connection_class"] = _sharing(SentinelManagedSSLConnection)
    made = sentinel.master_for(service, connection_pool_class=_SentinelPool, **kind)
    made.connection_pool.make_connection()
    return cast("redis.asyncio.Redis", made)


class _Cluster(redis.asyncio.RedisCluster):
    """One whose errors are those of any Redis: a Cluster in pieces is a connection that is none."""

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().execute_command(*args, **kwargs)
        except RedisClusterException as error:
            raise NoConnection(str(error)) from error


def _cluster(hosts: list[_Host], options: dict[str, Any]) -> redis.asyncio.Redis:
    options.pop("db", None)
    made = _Cluster(
        startup_nodes=[ClusterNode(host.name, host.port or _PORT) for host in hosts],
        # Keys whose node is gone are misses; the others are there.
        require_full_coverage=False,
        # Each fifth redirection would close every connection, with what is under way on it.
        reinitialize_steps=0,
        **_settled(options),
    )
    # Those of the nodes that are found later, too.
    made.connection_kwargs["parser_class"] = _BoundedParser
    for node in made.startup_nodes:
        node.connection_kwargs["parser_class"] = _BoundedParser
    if "ssl" in options:
        kind = made.connection_kwargs["connection_class"] = _sharing(SSLConnection)
        for node in made.startup_nodes:
            node.connection_class = kind
    return cast("redis.asyncio.Redis", made)
