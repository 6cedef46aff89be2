"""Talking to a Redis server, below the backend: clients for each kind of URL, what an error means, and lanes."""

from __future__ import annotations

import re
import secrets
import select
import socket
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from ...errors import NOTHING_CHANGED, BackendError, BackendUnavailable, Damaged, ReadOnly, StateException, run

_PASSING = (redis.ConnectionError, redis.TimeoutError, BusyLoadingError, ClusterDownError, TryAgainError)
_REFUSED = (AuthenticationError, AuthorizationError, NoPermissionError)


def is_transient(error: Exception) -> bool:
    """Whether the same may succeed a moment later."""
    if isinstance(error, (*_REFUSED, MaxConnectionsError)) or "[SSL: " in str(error):
        return False
    if isinstance(error, RedisClusterException):
        return "cannot be connected" in str(error) or "not covered" in str(error)
    return isinstance(error, _PASSING) or str(error).startswith("BUSY ")


def reason(error: Exception) -> str:
    """Return what the library says, without its own objects, which some versions show with their passwords."""
    return re.split(r" : (?:Redis)?<", str(error))[0]


def may_have_applied(error: Exception) -> bool:
    """Whether what was sent may have been done all the same: it was not refused, and there was a connection."""
    if isinstance(error, (ResponseError, BusyLoadingError, RedisClusterException, *_REFUSED)):
        return False
    return "connecting to" not in str(error)


def to_state_error(error: Exception, url: str, namespace: str) -> StateException:
    """Return what a server's or the library's error means, in our words, with the next step."""
    what, text = f"{url}: {error}", str(error)
    if is_transient(error):
        what = f"{url} does not answer: {reason(error)}"
        return BackendUnavailable(what, "Check that the server runs and the address is right")
    if "CERTIFICATE" in text:
        return BackendError(what, "Give the file of the CA that signed it: add ?ssl_ca_certs=PATH to the store URL")
    if isinstance(error, OutOfMemoryError) or "OOM" in text:
        return BackendError(what, ("The server is full", NOTHING_CHANGED, "Raise maxmemory or free some"))
    if isinstance(error, ReadOnlyError) or "READONLY" in text:
        return ReadOnly(what, "This server is a replica; give the address of the primary")
    if "MISCONF" in text:
        return BackendError(what, ("The server cannot save to its disk and refuses writes", NOTHING_CHANGED))
    if isinstance(error, _REFUSED) or "NOAUTH" in text or "NOPERM" in text or "WRONGPASS" in text:
        return BackendError(what, "Check the user and password of the store URL")
    if "DAMAGED" in text:
        return Damaged(f"{url}: an entry of {namespace!r} is not what was written", run("recover"))
    if "WRONGTYPE" in text:
        return Damaged(what, f"Something else wrote to the keys stateview:{{{namespace}}}:*")
    return BackendError(what)


class NoConnection(redis.ConnectionError):
    """There was no connection: what was to be sent was not."""


def escape_match(text: str) -> str:
    """Return the SCAN pattern that matches a text alone: Redis escapes by a backslash, where `fnmatch` uses `[…]`."""
    return "".join("\\" + sign if sign in "*?[]\\" else sign for sign in text)


def encode_bulk(words: list[bytes]) -> bytes:
    """Words of a command in the server's protocol."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


class CommitSession:
    """What commits are sent by, one after the other: a connection, and a name under which they are numbered.

    The server remembers the last number of each lane: a commit that was sent again is applied once. The connection is
    one of the pool, kept as long as all goes well, and asked past the client's layers, which take longer than the
    server does.
    """

    def __init__(self) -> None:
        self._name = secrets.token_hex(8).encode()
        self._number = 0
        self._pool: Any = None
        self._connection: Any = None
        self._watched: socket.socket | None = None  # what `poll` looks at
        self._poll: Any = None

    def next(self) -> tuple[bytes, bytes]:
        """Return the name, and the number of the next commit."""
        self._number += 1
        return self._name, b"%d" % self._number

    def ask(self, pool: Any, command: tuple[int, bytes], words: list[bytes]) -> Any:
        """Send a command and more words to it; return the answer.

        Raises:
            NotSent: there is no connection, so nothing was sent.

        """
        if self._connection is not None and (pool is not self._pool or self._is_stirred()):
            self.rest()
        connection, self._connection = self._connection, None
        if connection is None:
            try:
                connection = pool.get_connection()
            except RedisError as error:
                raise NoConnection(str(error)) from error
        try:
            connection.send_packed_command([b"*%d\r\n%b%b" % (command[0] + len(words), command[1], encode_bulk(words))])
            answer = _short_answer(connection)
            if answer is None:
                answer = connection.read_response()
        except ResponseError:
            pool.release(connection)
            raise
        except BaseException:
            connection.disconnect()  # half an answer may be left on it
            pool.release(connection)
            raise
        if (plain := _plain_socket(connection)) is not self._watched:
            self._watched, self._poll = plain, _poll(plain)
        self._pool, self._connection = pool, connection
        return answer

    def rest(self) -> None:
        """Give the connection back to the pool, which looks whether it is still good before others get it."""
        if self._connection is not None:
            self._pool.release(self._connection)
            self._connection = None

    def _is_stirred(self) -> bool:
        """Whether there is something to read where nothing is due, such as the end of the connection."""
        if self._poll is not None:
            return bool(self._poll.poll(0))
        try:
            return bool(self._connection.can_read(timeout=0))
        except (RedisError, OSError):
            return True


def _plain_socket(connection: Any) -> socket.socket | None:
    """Return the socket of a connection without TLS, as far as this version of the library shows it."""
    found = getattr(connection, "_sock", None)
    return found if type(found) is socket.socket else None


def _poll(plain: socket.socket | None) -> Any:
    if plain is None or not hasattr(select, "poll"):  # Windows has none
        return None
    poll = select.poll()
    poll.register(plain, select.POLLIN)
    return poll


def _short_answer(connection: Any) -> bytes | None:
    """Return the answer, if it is one string that has come whole, as for almost every commit.

    Else it is left to be read.
    """
    plain = _plain_socket(connection)
    if plain is None:
        return None
    try:
        seen = plain.recv(4096, socket.MSG_PEEK)
    except TimeoutError:
        raise redis.TimeoutError("Timeout reading from socket") from None
    except OSError:
        return None  # the library meets it as well, and says it in its own words
    size, _, rest = seen.partition(b"\r\n")
    if size[:1] != b"$" or not rest.endswith(b"\r\n") or len(rest) != int(size[1:]) + 2:
        return None
    plain.recv(len(seen))
    return rest[:-2]


def server_of(client: Any, key: str) -> tuple[object, ...]:
    """Which server and database keep a key, however they are addressed; empty where the server does not say.

    A primary and its replicas have one id between them, and every start of a server of its own makes a new one.
    """
    database = 0
    try:
        if isinstance(client, redis.Redis):
            told = client.info()
            database = client.get_connection_kwargs().get("db") or 0
        else:
            told = client.info(target_nodes=client.get_node_from_key(key))
    except NoPermissionError:
        return ()
    except ResponseError as error:  # a proxy that does not know the command
        if "unknown command" in str(error).lower():
            return ()
        raise
    found = str(told.get("master_replid", ""))
    return (found, database) if found.strip("0?") else ()


def open_client(url: str, timeout: float) -> Any:
    """Return a client for a store URL. The library's own retries are off: one layer tries again, ours.

    No single answer is waited for longer than `timeout`, the deadline of all tries.
    """
    if "decode_responses" in url:
        raise ValueError("decode_responses cannot be chosen")
    if any(sign in url.partition("://")[2].rpartition("@")[0] for sign in "/?#"):  # taken apart, half would be shown
        raise ValueError("before the last @, write / as %2F, ? as %3F and # as %23")
    seconds = {"socket_connect_timeout": min(2.0, timeout), "socket_timeout": min(5.0, timeout)}
    options: dict[str, Any] = {**seconds, "retry": Retry(NoBackoff(), 0)}
    scheme, _, rest = url.partition("://")
    if scheme == "redis+cluster":
        from redis.cluster import RedisCluster

        return RedisCluster.from_url(f"redis://{rest}", **options)
    if scheme == "redis+sentinel":
        from redis.connection import parse_url
        from redis.sentinel import Sentinel

        place, mark, query = rest.partition("?")
        login, at, place = place.rpartition("@")
        hosts, _, path = place.partition("/")
        service, _, database = path.partition("/")
        options |= parse_url(f"redis://{login}{at}localhost/{database}{mark}{query}")  # type: ignore[no-untyped-call]
        del options["host"]
        addresses = [(host, int(port or 26379)) for host, _, port in (one.partition(":") for one in hosts.split(","))]
        names = ("socket_connect_timeout", "socket_timeout", "retry")
        own = {name: options[name] for name in names}  # the sentinels have logins of their own
        own |= {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
        sentinel = Sentinel(addresses, sentinel_kwargs=own)  # type: ignore[no-untyped-call]
        return sentinel.master_for(service or "mymaster", **options)  # type: ignore[no-untyped-call]
    client = redis.Redis.from_url(url, **options)
    pool = client.connection_pool
    pool.connection_class(**pool.connection_kwargs)  # an option that no connection knows is an error here
    return client
