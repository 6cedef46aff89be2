"""A cache of versions that were read. The server's invalidation messages empty it (Redis 6, RESP3).

An answer from the cache is at most `MAX_STALE_SECONDS` old. The server answers a PING after it has announced every
commit before it, so the cache answers only while the last PING with an answer was sent so long ago. It waits for no
answer. Without one, every read asks the server.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any
from weakref import WeakValueDictionary

from redis.exceptions import RedisError, ResponseError

from ....model import ABSENT
from ...protocol import Version
from ...reentry import is_owned

MAX_STALE_SECONDS = 0.5  # also of the first connection: reads wait no longer for it
PING_SECONDS = 0.1  # between two PINGs while the cache is read
SILENT_SECONDS = 2.0  # without an answer to a PING, after which the connection is opened again
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
    the connection, a commit of this process by whatever manager, and any reply of a later revision. If the server does
    not let this client track keys, the cache stays empty, and every read asks the server.

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
        self._connecting: threading.Thread | None = None
        self._cache: dict[str, Version | None] = {}
        self._size = 0
        self._generation = 0
        self._revision = 0  # no answer so far was of a later one
        self._writes = _writes.setdefault(head, _Writes())
        self._written = self._writes.last
        self._pings: deque[float] = deque()  # when those without an answer were sent
        self._fresh = 0.0  # when the last PING with an answer was sent
        self._retry_after = 0.0
        self._waits = True  # whether a read waits for the connection: the first one

    def get(self, key: str) -> tuple[Version | None] | None:
        """Return the cached version of a key in a tuple, or `(None,)` for an absent key; None if nothing is cached."""
        if is_owned(self._mutex):  # its connection may be in the middle of a reply
            return None
        with self._mutex:
            if not self._read_announcements(ping=True) or time.monotonic() - self._fresh > MAX_STALE_SECONDS:
                return None
            version = self._cache.get(key, ABSENT)  # a call in the middle of this one can empty the cache
            return None if version is ABSENT else (version,)

    def generation(self) -> int | None:
        """Return a number to take before a read, and to give to `put` after it; None if nothing can be cached."""
        if is_owned(self._mutex):
            return None
        if self._connection is None and (thread := self._start_connecting()) is not None and self._waits:
            self._waits = False
            thread.join(MAX_STALE_SECONDS)
        with self._mutex:
            return self._generation if self._read_announcements() else None

    def put(self, key: str, version: Version | None, revision: int, generation: int) -> None:
        """Cache a version that was read, unless the cache was emptied since `generation`.

        Args:
            key: the key.
            version: its version; None for an absent key.
            revision: a revision that the namespace had when it was read.
            generation: the number taken before that.

        """
        with self._mutex:
            is_current = self._is_current() and generation == self._generation and self._connection is not None
            self.saw(revision)
            if not is_current:
                return
            generation = self._generation
            size = ROW_OVERHEAD_BYTES + (len(version.value or b"") if version is not None else 0)
            if self._size + size > self._limit:
                self._cache.clear()
                self._size = 0
            if size <= self._limit:
                self._cache[key] = version
                self._size += size
            if generation != self._generation:  # a call in the middle of this one has written
                self._clear()

    def saw(self, revision: int) -> None:
        """Empty the cache if a reply was of a later revision than any before: no later answer is of an earlier one."""
        if revision > self._revision:
            with self._mutex:
                self._revision = max(revision, self._revision)
                self._clear()

    def forget(self) -> None:
        """Empty the caches of this process after a write to the namespace."""
        self._writes.last = object()

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
        self._cache.clear()
        self._size = 0
        self._generation += 1

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

    def _start_connecting(self) -> threading.Thread | None:
        """Open the connection in a thread of its own, since a silent network lets it wait for seconds."""
        with self._mutex:
            thread = self._connecting
            if self._connection is None and thread is None and time.monotonic() >= self._retry_after:
                thread = threading.Thread(target=self._connect, name="stateview-cache", daemon=True)
                self._connecting = thread  # until a call in the middle of this one closes the cache
                try:
                    thread.start()
                except RuntimeError:  # no more threads, or the interpreter ends
                    self._connecting, self._retry_after = None, time.monotonic() + REFUSED_SECONDS
                    return None
            return thread

    def _connect(self) -> None:
        connection = None
        try:
            options = {**self._pool.connection_kwargs, "protocol": 3}
            options["socket_timeout"] = min(options.get("socket_timeout") or MAX_STALE_SECONDS, MAX_STALE_SECONDS)
            connection = self._pool.connection_class(**options)
            connection.connect()
            started = time.monotonic()
            connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._head)
            connection.read_response()
            connection.send_command("HGET", self._head, "revision")
            revision = connection.read_response()
            wait = 0.0
        except (RedisError, OSError, ValueError, AttributeError) as error:
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
            self._connection, self._fresh = connection, started
            self._pings.clear()
            self._revision = int(revision) if revision and revision.isdigit() else 0

    def _read_announcements(self, ping: bool = False) -> bool:
        """Read what the server has sent, and send a PING if one is due; return False if the connection is lost."""
        connection = self._connection
        if connection is None:
            return False
        self._is_current()
        try:
            while connection.can_read(timeout=0):
                if connection.read_response(push_request=True) not in (b"PONG", "PONG"):
                    self._clear()
                elif self._pings:
                    self._fresh = self._pings.popleft()
            moment = time.monotonic()
            if (self._pings and moment - self._pings[0] > SILENT_SECONDS) or self._has_moved(connection):
                self._disconnect()
                return False
            if ping and moment - (self._pings[-1] if self._pings else self._fresh) > PING_SECONDS:
                self._pings.append(moment)
                connection.send_command("PING", check_health=False)
        except BaseException as error:  # also that of a signal handler: a part of a reply may still come
            self._disconnect()
            if isinstance(error, (RedisError, OSError)):
                return False
            raise
        finally:
            if self._connection is not connection:  # a call in the middle of this one has closed the cache
                connection.disconnect()
        return self._connection is connection

    def _has_moved(self, connection: Any) -> bool:
        """Return whether the sentinels have sent the other connections to another server since."""
        primary = getattr(self._pool, "master_address", None)
        return primary is not None and tuple(primary) != (connection.host, connection.port)
