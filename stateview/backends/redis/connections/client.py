"""The client of a Redis server for each kind of store URL, and the connections that commits use."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from inspect import signature
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from .errors import is_unsupported
from .sentinels import Sentinels, has_moved
from .url import RedisURL, parse


class NoConnection(redis.ConnectionError):
    """No connection could be opened, so nothing was sent."""


def escape_match(text: str) -> str:
    """Return the SCAN pattern that matches one text alone. Redis escapes by a backslash, `fnmatch` by `[…]`."""
    return "".join("\\" + sign if sign in "*?[]\\" else sign for sign in text)


def encode_bulk(words: list[bytes]) -> bytes:
    """Encode the words of a command in the server's protocol, as bulk strings. `%b` takes 40 times as long to copy."""
    return b"".join([part for word in words for part in (b"$%d\r\n" % len(word), word, b"\r\n")])


class Session:
    """A connection that sends one command after the other, and the name under which it numbers commits.

    The server remembers the last number of each session, so a commit that is sent again is applied once. The session
    keeps a connection of the pool from one command to the next, and sends and reads on the connection itself. With
    redis-py's `evalsha` a commit would take 2.2 times as long as a SET, instead of 1.4 times.
    """

    def __init__(self) -> None:
        self._name = secrets.token_hex(8).encode()
        self._number = 0
        self._pool: Any = None
        self._connection: Any = None

    @property
    def has_connection(self) -> bool:
        """Whether the session holds a connection of the pool."""
        return self._connection is not None

    def next(self) -> tuple[bytes, bytes]:
        """Return the session's name, and the number of its next commit."""
        self._number += 1
        return self._name, b"%d" % self._number

    def send(self, pool: Any, command: tuple[int, bytes], words: list[bytes], then: bytes = b"") -> Any:
        """Send a command, and return the server's reply.

        Args:
            pool: the pool of connections.
            command: the number of words that the command starts with, and these in the server's protocol.
            words: the words that follow.
            then: a second command in the server's protocol, sent in the same round trip. The result is then a pair of
                the replies. An error in reply to the second command is not raised, but returned.

        Raises:
            NoConnection: no connection could be opened, so nothing was sent.
            ResponseError: the server replied an error to the command.

        """
        connection = self._take_connection(pool)
        try:
            packed = b"".join((b"*%d\r\n" % (command[0] + len(words)), command[1], encode_bulk(words), then))
            connection.send_packed_command([packed])
            replies = [_read_reply(connection) for _ in range(2 if then else 1)]
        except BaseException:
            connection.disconnect()  # a part of the reply may still come
            pool.release(connection)
            raise
        if isinstance(replies[0], ResponseError):
            pool.release(connection)
            raise replies[0]
        self._pool, self._connection = pool, connection
        return tuple(replies) if then else replies[0]

    def connect(self, pool: Any) -> None:
        """Open the connection that the next command takes.

        Raises:
            NoConnection: it could not be opened.

        """
        self._pool, self._connection = pool, self._take_connection(pool)

    def release(self) -> None:
        """Return the connection to the pool, which checks it before it hands it out again."""
        if self._connection is not None:
            self._pool.release(self._connection)
            self._connection = None

    def _take_connection(self, pool: Any) -> Any:
        held = self._connection
        if held is not None and (pool is not self._pool or has_moved(pool, held) or self._is_stale()):
            self.release()
        connection, self._connection = self._connection, None
        if connection is None:
            try:
                connection = pool.get_connection()
            except RedisError as error:
                raise NoConnection(str(error)) from error
        return connection

    def _is_stale(self) -> bool:
        """Return whether the connection can be read although no reply is due: then the server has closed it."""
        try:
            return bool(self._connection.can_read(timeout=0))
        except (RedisError, OSError):
            return True


@contextmanager
def sent(pool: Any, commands: Sequence[bytes]) -> Iterator[Callable[[], list[Any]]]:
    """Send commands in one round trip, and yield the function that reads their replies, errors among them.

    redis-py's pipelines take as long to encode such commands as the server takes to run them.

    Args:
        pool: the pool of connections.
        commands: each in the server's protocol.

    """
    connection = pool.get_connection()
    try:
        connection.send_packed_command([b"".join(commands)])
        yield lambda: [_read_reply(connection) for _ in commands]
    except BaseException:
        connection.disconnect()  # a part of the replies may still come
        raise
    finally:
        pool.release(connection)


def _read_reply(connection: Any) -> Any:
    """Read a reply, and return an error of the server as a value."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def server_of(client: Any, key: str) -> tuple[object, ...]:
    """Return the identity of the server and the database that keep a key; () if the server does not tell.

    The identity does not depend on the address. A primary and its replicas share it. Each start of a server without
    its data makes a new one.
    """
    database = 0
    try:
        if isinstance(client, redis.Redis):
            info = client.info()
            database = client.get_connection_kwargs().get("db") or 0
        else:
            info = client.info(target_nodes=client.get_node_from_key(key))
    except ResponseError as error:
        if is_unsupported(error):
            return ()
        raise
    replication_id = str(info.get("master_replid", ""))
    return (replication_id, database) if replication_id.strip("0?") else ()


def pool_of(client: Any, key: str) -> Any:
    """Return the pool of connections to the server that keeps a key. A cluster tells where that is."""
    if isinstance(client, redis.Redis):
        return client.connection_pool
    return client.get_redis_connection(client.get_node_from_key(key)).connection_pool


def reach(client: Any, key: str) -> None:
    """Open a connection of a cluster's client to the server that keeps a key, unless a connection is open.

    redis-py asks the cluster again who keeps the key, if that server does not answer it. A connection that a session
    opens itself tells redis-py nothing.

    Raises:
        NoConnection: the server does not answer.

    """
    try:
        client.ping(target_nodes=client.get_node_from_key(key))
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise NoConnection(str(error)) from error


def open_client(url: str, timeout: float, more: float = 0.0) -> Any:
    """Return a client for a store URL, which connects later. It does not retry: the backend does.

    Args:
        url: the store URL.
        timeout: seconds until the deadline of all attempts. No single reply is waited for longer.
        more: seconds that a reply may take in addition.

    Raises:
        ValueError, TypeError: the URL, or an option in it, is not usable.

    """
    scheme = url.partition("://")[0]
    parsed = parse(url)
    seconds = {"socket_connect_timeout": min(2.0, timeout), "socket_timeout": min(5.0, timeout) + more}
    options: dict[str, Any] = {**seconds, "retry": Retry(NoBackoff(), 0)}
    options |= _handshake_options("lib_" in parsed.query)
    if scheme == "redis+cluster":
        return _cluster_client(parsed, options)
    if scheme == "redis+sentinel":
        return _sentinel_client(parsed, options)
    client = redis.Redis.from_url(parsed.url, **options)
    pool = client.connection_pool
    pool.connection_class(**pool.connection_kwargs)  # raises for an option that no connection has
    return client


@cache
def _handshake_options(names_library: bool) -> dict[str, Any]:
    """Return options by which a new connection makes one round trip, not four, before its first command.

    redis-py asks for announcements of maintenance, and tells its name and its version, which it reads from a file.

    Args:
        names_library: whether the URL says which library the server is told of.

    """
    options: dict[str, Any] = {}
    try:
        from redis.maint_notifications import MaintNotificationsConfig

        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    except ImportError:  # an earlier redis-py
        pass
    if not names_library:
        is_later = "driver_info" in signature(AbstractConnection.__init__).parameters
        options |= {"driver_info": None} if is_later else {"lib_name": None, "lib_version": None}
    return options


def _cluster_client(url: RedisURL, options: dict[str, Any]) -> Any:
    """Return a client for `LOGIN@HOST:PORT,…?OPTIONS`, which asks each address for the nodes until one answers."""
    from redis.cluster import ClusterNode

    from .cluster import Cluster

    options |= _query_options(url, "")
    nodes = [ClusterNode(host or "localhost", port) for host, port in url.addresses]  # type: ignore[no-untyped-call]
    return Cluster(startup_nodes=nodes, **options)


def _query_options(url: RedisURL, database: str) -> dict[str, Any]:
    """Return the login, the database and the options of a store URL that names several addresses."""
    from redis.connection import parse_url

    login = url.login + "@" if url.login else ""
    options: dict[str, Any] = parse_url(f"redis://{login}localhost/{database}?{url.query}")  # type: ignore[no-untyped-call]
    del options["host"]
    return options


def _sentinel_client(url: RedisURL, options: dict[str, Any]) -> Any:
    """Return a client for `LOGIN@HOST:PORT,…/SERVICE/DB?OPTIONS`."""
    service, database = [*url.names, ""][:2]
    options |= _query_options(url, database)
    names = ("socket_connect_timeout", "socket_timeout", "retry", "driver_info", "maint_notifications_config")
    sentinel_options = {name: options[name] for name in names if name in options}  # sentinels have logins of their own
    sentinel_options |= {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    return Sentinels(url.addresses, sentinel_options).master_for(service or "mymaster", **options)  # type: ignore[no-untyped-call]
