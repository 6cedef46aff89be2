"""A memory of what was read from Redis, kept coherent by the server's invalidation messages (Redis 6, RESP3)."""

from __future__ import annotations

import threading
import time
from typing import Any

from redis.exceptions import RedisError

from ..protocol import Version

ALIVE_SECONDS = 1.0  # seconds for which a quiet connection is believed; then it must answer a PING
POLL_SECONDS = 0.02  # seconds between two looks at the connection while waiting for a commit


class InvalidationCache:
    """Versions by key, all dropped when the head key changes on the server or the connection is lost.

    Only one head key is tracked, so any commit of the namespace empties it. Where the server or its rules do not let
    a client track, it stays empty, and every read asks the server.
    """

    def __init__(self, pool: Any, head: str, limit: int) -> None:
        self._pool = pool
        self._head = head
        self._limit = limit
        self._mutex = threading.Lock()
        self._connection: Any = None
        self._cache: dict[str, Version | None] = {}
        self._size = 0
        self._generation = 0
        self._checked = 0.0
        self._off_until = 0.0

    def get(self, key: str) -> tuple[Version | None] | None:
        """Return what is remembered of a key (which may be that it is absent), if it is certain to be true still."""
        with self._mutex:
            if self._connection is None or not self._quiet():
                return None
            return (self._cache[key],) if key in self._cache else None

    def generation(self) -> int | None:
        """To be taken before a read, and given to `put` after it; None where nothing can be remembered."""
        with self._mutex:
            if self._connection is None:
                self._connect()
            return self._generation if self._connection is not None else None

    def put(self, key: str, version: Version | None, generation: int) -> None:
        """Remember what was read, unless something was forgotten since `generation`."""
        with self._mutex:
            if generation != self._generation or self._connection is None:
                return
            size = len(version.value or b"") + 200 if version is not None else 200
            if self._size + size > self._limit:
                self._clear()
            if size <= self._limit:
                self._cache[key] = version
                self._size += size

    def forget(self) -> None:
        """Remember nothing: this process has written."""
        with self._mutex:
            self._clear()

    def sleep(self, seconds: float, generation: int) -> None:
        """Wait up to `seconds` for anything that was announced since `generation`, or for the connection to be lost."""
        deadline = time.monotonic() + seconds
        while True:
            with self._mutex:  # only in turns: two threads that read one connection would take it apart
                if self._connection is None or not self._quiet() or self._generation != generation:
                    return
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, POLL_SECONDS))

    def close(self) -> None:
        """Let go of the connection."""
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
        if time.monotonic() < self._off_until:
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
            self._off_until = time.monotonic() + 30.0  # an old server, a proxy, a rule: ask again, but not each time
            return
        self._clear()
        self._connection = connection
        self._checked = time.monotonic()

    def _quiet(self) -> bool:
        """Whether no commit was announced; takes in what was. The connection is checked once a second."""
        try:
            while self._connection.can_read(timeout=0):
                self._connection.read_response(push_request=True)
                self._clear()
            moment = time.monotonic()
            if moment - self._checked > ALIVE_SECONDS:
                self._connection.send_command("PING")
                while self._connection.read_response(push_request=True) not in (b"PONG", "PONG"):
                    self._clear()
                self._checked = moment
        except (RedisError, OSError):
            self._disconnect()
            return False
        return True
