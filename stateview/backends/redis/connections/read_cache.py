"""A cache of versions that were read. The server's invalidation messages empty it (Redis 6, RESP3).

An answer from the cache is at most `max_stale` seconds old, whatever becomes of the messages: all that is cached is of
the newest answer of the server that also takes the commits, and counts for so long from when that answer was asked for.
Each later answer either confirms it or empties the cache. The messages make most answers newer than that. After a
failover they may come from the former primary for as long as it lives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from redis.exceptions import RedisClusterException, RedisError, ResponseError

from ....model import ABSENT
from ...protocol import Version
from ...reentry import is_owned
from .answers import Answer
from .sentinels import has_moved

CONNECT_SECONDS = 0.5  # of each step of opening the connection
SILENT_SECONDS = 2.0  # after a commit that was not announced, when the connection is opened again
POLL_SECONDS = 0.02  # between two looks at the connection while waiting for a commit
LOST_SECONDS = 1.0  # between two attempts to connect
REFUSED_SECONDS = 30.0  # between two attempts where a server, a proxy or a rule refuses it
ROW_OVERHEAD_BYTES = 200  # of a cached version, beside its value


class _Writes:
    """The last write to namespaces of one name, by this process."""

    last: object = None


_writes: WeakValueDictionary[str, _Writes] = WeakValueDictionary()


class InvalidationCache:
    """Versions by key, with values as they are encoded, not as they are stored.

    The server announces every change of the head key, so a commit of any client empties the cache. So does the loss of
    the connection, a commit of this process by whatever manager, and any answer of a later revision. If the server does
    not let this client track keys, the cache stays empty, and every read asks the server.

    Args:
        find_pool: returns the pool of connections to the server of the namespace. The connection has its options.
        head: the name of the head key.
        limit: bytes of cached versions.
        max_stale: seconds that an answer may be old; 0 to cache nothing, and only wait for announcements.

    """

    def __init__(self, find_pool: Callable[[], Any], head: str, limit: int, max_stale: float) -> None:
        self._find_pool = find_pool
        self._head = head
        self._limit = limit
        self._max_stale = max_stale
        self._mutex = threading.RLock()
        self._connection: Any = None
        self._pool: Any = None  # of the connection
        self._connecting: threading.Thread | None = None
        self._cache: dict[str, Version | None] = {}
        self._size = 0
        self._generation = 0
        self._answer: Answer | None = None  # the newest: all that is cached is of it
        self._fresh = 0.0  # when the newest answer, or the last that is equal to it, was asked for
        self._announced = True  # whether a commit was announced since the newest answer
        self._missed = 0.0  # when a newer answer came without an announcement; 0 after an announcement
        self._writes = _writes.setdefault(head, _Writes())
        self._written = self._writes.last
        self._retry_after = 0.0

    def get(self, key: str) -> tuple[Version | None] | None:
        """Return the cached version of a key in a tuple, or `(None,)` for an absent key; None if nothing is cached."""
        if is_owned(self._mutex):  # its connection may be in the middle of a reply
            return None
        with self._mutex:
            if not self._read_announcements() or time.monotonic() - self._fresh > self._max_stale:
                return None
            version = self._cache.get(key, ABSENT)  # a call in the middle of this one can empty the cache
            return None if version is ABSENT else (version,)

    def generation(self) -> int | None:
        """Return a number to take before a read, and to give to `put` after it; None if nothing can be cached."""
        if is_owned(self._mutex):
            return None
        if self._connection is None:
            self._start_connecting()
        with self._mutex:
            return self._generation if self._read_announcements() else None

    def put(self, key: str, version: Version | None, answer: Answer, generation: int) -> None:
        """Cache a version that was read, unless the cache was emptied since `generation`.

        Args:
            key: the key.
            version: its version; None for an absent key.
            answer: the server's answer when it was read, which `saw` was told.
            generation: the number taken before that.

        """
        with self._mutex:
            is_current = self._is_current() and generation == self._generation and self._connection is not None
            if not is_current or answer != self._answer or not self._max_stale:
                return
            size = ROW_OVERHEAD_BYTES + (len(version.value or b"") if version is not None else 0)
            if self._size + size > self._limit:
                self._cache.clear()
                self._size = 0
            if size <= self._limit:
                self._cache[key] = version
                self._size += size
            if generation != self._generation:  # a call in the middle of this one has written
                self._clear()

    def saw(self, answer: Answer, asked: float) -> None:
        """Take an answer of the server, and empty the cache if it is newer: no later answer is of an earlier revision.

        Args:
            answer: the answer.
            asked: the time before it was asked for, by the monotonic clock.

        """
        newest = self._answer
        if newest is not None and answer == newest:
            self._fresh = max(self._fresh, asked)
        elif newest is None or answer.revision >= newest.revision:
            with self._mutex:
                if self._answer is None or answer.revision >= self._answer.revision:
                    if self._answer is not None:
                        self._drop_versions()
                        self._missed = 0.0 if self._announced else self._missed or time.monotonic()
                    self._answer, self._fresh, self._announced = answer, asked, False

    def forget(self) -> None:
        """Empty the caches of this process after a write to the namespace."""
        self._writes.last = object()

    def begin_anew(self) -> None:
        """Forget the newest answer too: the next may be of an earlier revision."""
        with self._mutex:
            self._clear()
            self._answer = None

    def sleep(self, seconds: float, generation: int) -> None:
        """Wait up to `seconds` until a commit was announced since `generation`, or the connection is lost."""
        deadline = time.monotonic() + seconds
        while True:
            with self._mutex:  # redis-py allows one thread at a time on a connection
                if not self._read_announcements() or self._generation != generation:
                    return
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, POLL_SECONDS))

    def close(self) -> None:
        """Close the connection. In the middle of a use of the connection, the use closes it at its end."""
        in_use = is_owned(self._mutex)
        with self._mutex:
            self._connecting = None  # its thread closes what it opens
            if in_use:
                self._clear()
                self._connection = None
            else:
                self._disconnect()

    def _clear(self) -> None:
        """Empty the cache, also of what is being read."""
        self._drop_versions()
        self._generation += 1

    def _drop_versions(self) -> None:
        self._cache.clear()
        self._size = 0

    def _is_current(self) -> bool:
        """Return whether this process has written nothing since the last call; empty the cache otherwise."""
        if (last := self._writes.last) is self._written:
            return True
        self._written = last
        self._clear()
        return False

    # --- the connection ----------------------------------------------------------------------------------------

    def _disconnect(self) -> None:
        self._clear()
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def _start_connecting(self) -> None:
        """Open the connection in a thread of its own, since a silent network lets it wait for seconds."""
        with self._mutex:
            if self._connection is None and self._connecting is None and time.monotonic() >= self._retry_after:
                thread = threading.Thread(target=self._connect, name="stateview-cache", daemon=True)
                self._connecting = thread  # until a call in the middle of this one closes the cache
                try:
                    thread.start()
                except RuntimeError:  # no more threads, or the interpreter ends
                    self._connecting, self._retry_after = None, time.monotonic() + REFUSED_SECONDS

    def _connect(self) -> None:
        connection = pool = None
        try:
            pool = self._find_pool()
            options = {**pool.connection_kwargs, "protocol": 3}
            options["socket_timeout"] = min(options.get("socket_timeout") or CONNECT_SECONDS, CONNECT_SECONDS)
            connection = pool.connection_class(**options)
            connection.connect()
            connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._head)
            connection.read_response()
            wait = 0.0
        except (RedisError, RedisClusterException, OSError, ValueError, AttributeError) as error:
            wait = REFUSED_SECONDS if isinstance(error, ResponseError) else LOST_SECONDS
        with self._mutex:
            wanted = self._connecting is threading.current_thread()
            if wanted:
                self._connecting = None
                self._retry_after = time.monotonic() + wait
            if not wanted or wait:
                if connection is not None:
                    connection.disconnect()
                return
            self._clear()
            self._connection, self._pool = connection, pool
            self._announced, self._missed = True, 0.0

    def _read_announcements(self) -> bool:
        """Read what the server has sent; return False if the connection is lost, or announces nothing any more."""
        connection = self._connection
        if connection is None:
            return False
        self._is_current()
        try:
            while connection.can_read(timeout=0):
                connection.read_response(push_request=True)
                self._clear()
                self._announced, self._missed = True, 0.0
            if (self._missed and time.monotonic() - self._missed > SILENT_SECONDS) or has_moved(self._pool, connection):
                self._disconnect()
                return False
        except BaseException as error:  # also that of a signal handler: a part of a reply may still come
            self._disconnect()
            if isinstance(error, (RedisError, OSError)):
                return False
            raise
        finally:
            if self._connection is not connection:  # a call in the middle of this one has closed the cache
                connection.disconnect()
        return self._connection is connection
