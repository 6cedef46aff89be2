"""A cache of versions that were read, which the server's invalidation messages keep coherent (Redis 6, RESP3)."""

from __future__ import annotations

import threading
import time
from typing import Any

from redis.exceptions import RedisError

from ...model import ABSENT
from ..protocol import Version
from ..reentry import is_owned

ALIVE_SECONDS = 1.0  # a connection that was quiet for so long must answer a PING before the cache is used again
POLL_SECONDS = 0.02  # between two looks at the connection while waiting for a commit
REFUSED_SECONDS = 30.0  # between two attempts to track where a server, a proxy or a rule refuses it
ROW_OVERHEAD_BYTES = 200  # of a cached version, beside its value


class InvalidationCache:
    """Versions by key, with values as they are encoded, not as they are stored.

    The server announces every change of the head key, so a commit of any client empties the cache. So does the loss of
    the connection. If the server does not let this client track keys, the cache stays empty, and every read asks the
    server.

    Args:
        pool: the pool whose options the connection has.
        head: the name of the head key.
        limit: bytes of cached versions.

    """

    def __init__(self, pool: Any, head: str, limit: int) -> None:
        self._pool = pool
        self._head = head
        self._limit = limit
        self._mutex = threading.RLock()
        self._connection: Any = None
        self._cache: dict[str, Version | None] = {}
        self._size = 0
        self._generation = 0
        self._checked = 0.0  # when the server last answered on the connection
        self._refused_until = 0.0

    def get(self, key: str) -> tuple[Version | None] | None:
        """Return the cached version of a key in a tuple, or `(None,)` for an absent key; None if nothing is cached."""
        if is_owned(self._mutex):  # its connection may be in the middle of a reply
            return None
        with self._mutex:
            if self._connection is None or not self._read_announcements():
                return None
            version = self._cache.get(key, ABSENT)  # a call in the middle of this one can empty the cache
            return None if version is ABSENT else (version,)

    def generation(self) -> int | None:
        """Return a number to take before a read, and to give to `put` after it; None if nothing can be cached."""
        if is_owned(self._mutex):
            return None
        with self._mutex:
            if self._connection is None:
                self._connect()
            return self._generation if self._connection is not None else None

    def put(self, key: str, version: Version | None, generation: int) -> None:
        """Cache a version that was read, unless the cache was emptied since `generation`."""
        with self._mutex:
            if generation != self._generation or self._connection is None:
                return
            size = ROW_OVERHEAD_BYTES + (len(version.value or b"") if version is not None else 0)
            if self._size + size > self._limit:
                self._clear()
            if size <= self._limit:
                self._cache[key] = version
                self._size += size
            if generation != self._generation:  # a call in the middle of this one has written
                self._clear()

    def forget(self) -> None:
        """Empty the cache after a write of this process."""
        with self._mutex:
            self._clear()

    def sleep(self, seconds: float, generation: int) -> None:
        """Wait up to `seconds` until a commit was announced since `generation`, or the connection is lost."""
        deadline = time.monotonic() + seconds
        while True:
            with self._mutex:  # redis-py allows one thread at a time on a connection
                if self._connection is None or not self._read_announcements() or self._generation != generation:
                    return
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, POLL_SECONDS))

    def close(self) -> None:
        """Close the connection."""
        with self._mutex:
            self._disconnect()

    def _clear(self) -> None:
        self._cache.clear()
        self._size = 0
        self._generation += 1

    def _disconnect(self) -> None:
        self._clear()
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def _connect(self) -> None:
        if time.monotonic() < self._refused_until:
            return
        connection = None
        try:
            options = {**self._pool.connection_kwargs, "protocol": 3}
            connection = self._pool.connection_class(**options)
            connection.connect()
            connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._head)
            connection.read_response()
        except (RedisError, OSError):
            if connection is not None:
                connection.disconnect()
            self._refused_until = time.monotonic() + REFUSED_SECONDS
            return
        self._clear()
        self._connection = connection
        self._checked = time.monotonic()

    def _read_announcements(self) -> bool:
        """Read all announcements; return False if the connection is lost. Check a quiet connection once a second."""
        connection = self._connection
        try:
            while connection.can_read(timeout=0):
                connection.read_response(push_request=True)
                self._clear()
            moment = time.monotonic()
            if moment - self._checked > ALIVE_SECONDS:
                connection.send_command("PING")
                while connection.read_response(push_request=True) not in (b"PONG", "PONG"):
                    self._clear()
                self._checked = moment
        except (RedisError, OSError):
            self._disconnect()
            return False
        return True
