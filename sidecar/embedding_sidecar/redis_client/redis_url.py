"""A client for a Redis by its URL, in each form that Redis is run in.

    redis://, rediss:// (TLS)                     one server, and anything that acts like one
    unix://                                       one server by its socket
    redis+cluster://, rediss+cluster://           Redis Cluster; several nodes to begin with
    redis+sentinel://, rediss+sentinel://         a server that Sentinels name: .../SERVICE/DATABASE

Options are those of redis-py, plus `sentinel_username` and `sentinel_password`. The forms of one
server are IANA's; those with a plus are those of Redis' own libraries and of others for Python
(redis-vl, LangChain, Prefect).
"""

import asyncio
import re
import ssl
import time
from typing import Any, Final, cast

import redis.asyncio
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    RedisSSLContext,
    SSLConnection,
    parse_url,
)
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

_SOCKET_SECONDS: Final = 2.0
_MAX_CONNECTIONS: Final = 64
"""Connections to one server; also bounds what can be under way while it does not answer."""
_CONTEXT_SECONDS: Final = 60.0
_ONCE_MORE: Final = Retry(NoBackoff(), 1)
"""One immediate retry: Redis may have closed a connection while it was in the pool."""
_MAX_REPLY_BYTES: Final = 2**23
"""Bytes that redis-py reads beyond _REPLY_BYTES for each reply. The longest replies are a scope's
generations, 4,096 of which are texts' and take 350 bytes each at most, and the slots of a Cluster.
"""
_REPLY_BYTES: Final = 2**16 + 2**12
"""Each reply may have so many bytes: a value of the cache has no more, and a pipeline to a node of
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

    TLS also trusts the `authorities` (PEM), unless the URL names some of its own.

    Replies are bytes and no wait is longer than 2 s, whatever the URL says. The client of a Cluster
    is a redis.asyncio.RedisCluster, which has the same commands for keys of one slot.

    Raises:
        ValueError: the URL or one of its options is wrong. The text holds nothing of the URL.
    """
    several = _SEVERAL.fullmatch(url)
    try:
        if several is None:
            return _one(_options(url, authorities))
        port = _SENTINEL_PORT if several["form"] == "sentinel" else _PORT
        hosts = _hosts(several["hosts"], port=port)
        *service, database = several["path"].split("/")[1:] if several["path"] else [""]
        if several["form"] == "sentinel" and not service:
            service, database = [database], ""
        user = f"{several['user']}@" if several["user"] else ""
        # redis-py reads the options, as those of one server.
        alone = f"{several['scheme']}://{user}host/{database}{several['query'] or ''}"
        found = _options(alone, authorities)
        options = {it: value for it, value in found.items() if it not in _FIXED}
        if database and not database.isdecimal():
            raise ValueError("the database in the URL must be a number")
        if several["scheme"] == "rediss":
            options["ssl"] = True
        if several["form"] == "cluster":
            if service or int(database or 0):
                raise ValueError("a Redis Cluster has only database 0; remove the path of the URL")
            return _cluster(hosts, options)
        if len(service) != 1 or not service[0]:
            raise ValueError("the URL must name the Sentinels' service as its path")
        return _sentinel(hosts, service[0], options)
    except (AttributeError, TypeError, RedisError, RedisClusterException):
        raise ValueError("an option of the URL is unknown or has a wrong value") from None


class _Bound(asyncio.Protocol):
    """Counts the bytes from a server, and drops the connection where its replies are too long.

    It stands between a connection's transport and the protocol that redis-py reads from.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._stream = cast("asyncio.Protocol", transport.get_protocol())
        self._failure: Exception | None = None
        self._unpaid_bytes = 0
        transport.set_protocol(self)

    def pay(self) -> None:
        """Deduct _REPLY_BYTES for a reply that was read."""
        self._unpaid_bytes = max(self._unpaid_bytes - _REPLY_BYTES, 0)

    def data_received(self, data: bytes) -> None:
        self._unpaid_bytes += len(data)
        if self._unpaid_bytes > _MAX_REPLY_BYTES:
            self._failure = ConnectionAbortedError("the server's reply is longer than any can be")
            self._transport.abort()
        else:
            self._stream.data_received(data)

    def eof_received(self) -> bool | None:
        return self._stream.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream.connection_lost(self._failure or exc)

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()


class _SharedContext(RedisSSLContext):
    """The TLS context of all connections of a client, replaced from time to time.

    Each connection would make its own, which reads all authorities and stops the event loop for
    40 ms. A context is replaced each minute: a certificate may be replaced in its file.
    """

    def __init__(self, own: RedisSSLContext) -> None:
        for name in RedisSSLContext.__slots__:
            setattr(self, name, getattr(own, name))
        self._until = 0.0

    def get(self) -> ssl.SSLContext:
        if time.monotonic() > self._until:
            self.context, self._until = None, time.monotonic() + _CONTEXT_SECONDS
        return super().get()


def _bounded(kind: type[AbstractConnection]) -> type[Any]:
    """Connections of this kind with a bound on what comes, and with one TLS context for all."""
    shared: _SharedContext | None = None

    class Bounded(kind):  # type: ignore[misc, valid-type] # a class given by a caller
        _bound: _Bound
        ssl_context: RedisSSLContext

        def __init__(self, **options: Any) -> None:
            nonlocal shared
            super().__init__(**options)
            if isinstance(self, SSLConnection):
                shared = self.ssl_context = shared or _SharedContext(self.ssl_context)

        @property
        def transport(self) -> asyncio.Transport:
            """The transport of the open connection: by the one name that redis-py keeps private."""
            return cast("asyncio.Transport", self._writer.transport)

        async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
            # redis-py calls this twice for a socket of Unix.
            if not isinstance(self.transport.get_protocol(), _Bound):
                self._bound = _Bound(self.transport)
            await super().on_connect_check_health(check_health=check_health)

        async def read_response(self, *arguments: Any, **named: Any) -> Any:
            found = await super().read_response(*arguments, **named)
            self._bound.pay()
            return found

    return Bounded


def _hosts(written: str, *, port: int) -> list[tuple[str, int]]:
    found = []
    for text in written.split(","):
        host = _HOST.fullmatch(text)
        if host is None:
            raise ValueError("a host in the URL is not valid")
        found.append((host["name"].strip("[]"), int(host["port"] or 0) or port))
    return found


def _options(url: str, authorities: str | None) -> dict[str, Any]:
    """The options of the URL, for TLS with these authorities beside OpenSSL's."""
    try:
        options = dict(parse_url(url))
    except ValueError:
        # Its own text may hold a part of the URL, and that a part of the password.
        raise ValueError("the URL is not that of a Redis, or an option has a wrong value") from None
    is_tls = options.get("connection_class") is SSLConnection or "ssl" in options
    return {"ssl_ca_data": authorities, **options} if is_tls and authorities else options


def _settled(options: dict[str, Any]) -> dict[str, Any]:
    """The options with those that no URL can change."""
    if options.get("ssl_cert_reqs") == "none":
        # OpenSSL makes no context that checks the name in an unchecked certificate.
        options.setdefault("ssl_check_hostname", False)
    return {
        **options,
        "decode_responses": False,
        "max_connections": _MAX_CONNECTIONS,
        "socket_connect_timeout": _SOCKET_SECONDS,
        "socket_timeout": _SOCKET_SECONDS,
        "retry": _ONCE_MORE,
    }


def _one(options: dict[str, Any]) -> redis.asyncio.Redis:
    kind = _bounded(options.pop("connection_class", Connection))
    pool = redis.asyncio.ConnectionPool(connection_class=kind, **_settled(options))
    # Otherwise the first command would find an unknown option, with an error of another kind.
    pool.make_connection()  # type: ignore[no-untyped-call] # upstream's
    return redis.asyncio.Redis.from_pool(pool)


class _SentinelPool(SentinelConnectionPool):
    async def aclose(self) -> None:
        """Close the connections, and those to the Sentinels, which redis-py leaves open."""
        await super().aclose()
        await self.sentinel_manager.aclose()


def _sentinel(
    hosts: list[tuple[str, int]], service: str, options: dict[str, Any]
) -> redis.asyncio.Redis:
    own = {
        name: options.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in options
    }
    settled = _settled(options)
    shared = {name: value for name, value in settled.items() if name.startswith(("ssl", "socket_"))}
    sentinel = Sentinel(  # type: ignore[no-untyped-call] # upstream's
        hosts,
        sentinel_kwargs={**shared, **own, "retry": _ONCE_MORE},
        **settled,
    )
    for asked in sentinel.sentinels:
        pool = asked.connection_pool
        pool.connection_class = _bounded(pool.connection_class)
    kind = SentinelManagedSSLConnection if "ssl" in options else SentinelManagedConnection
    made = sentinel.master_for(
        service, connection_pool_class=_SentinelPool, connection_class=_bounded(kind)
    )
    made.connection_pool.make_connection()
    return cast("redis.asyncio.Redis", made)


class _Cluster(redis.asyncio.RedisCluster):
    """A client whose errors are those of any Redis: a Cluster in pieces is a lost connection."""

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().execute_command(*args, **kwargs)
        except RedisClusterException as error:
            raise NoConnection(str(error)) from error


def _cluster(hosts: list[tuple[str, int]], options: dict[str, Any]) -> redis.asyncio.Redis:
    options.pop("db", None)
    made = _Cluster(
        startup_nodes=[ClusterNode(name, port) for name, port in hosts],
        # Keys whose node is gone are misses; the others are there.
        require_full_coverage=False,
        # By default each fifth redirection closes every connection, with the commands under way.
        reinitialize_steps=0,
        **_settled(options),
    )
    # Nodes that are found later are made with these options.
    kind = _bounded(SSLConnection if "ssl" in options else Connection)
    made.connection_kwargs["connection_class"] = kind
    for node in made.startup_nodes:
        node.connection_class = kind
    return cast("redis.asyncio.Redis", made)
