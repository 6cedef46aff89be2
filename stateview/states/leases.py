"""Locks between processes and hosts: a lease is an entry that expires unless its holder renews it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from msgspec.structs import replace

from .. import codec
from ..arguments import may_be_same
from ..backends.processes import host_id, host_name, is_gone, started
from ..backends.protocol import Backend, CommitRequest, Head, Version, Write
from ..backends.retries import Backoff
from ..errors import Conflict, LockHeld, LockLost, NextStep, NotReplicated, Rewound, StateException
from ..model import check_key, check_lock
from .transaction import to_ttl

PREFIX = "lock/"
Committer = Callable[[CommitRequest], Head]
_POLL_SECONDS = 1.0  # a waiter looks again, though no commit has woken it: the holder may have died
_PAUSE_SECONDS = 0.005
_NEUTRAL_TRIES = 8  # to commit before other writers do, so that undo passes over the commit
_held: set[str] = set()  # the tokens of the locks that this process holds, or is about to hold


def quoted(name: str) -> str:
    """Quote a name for a place between slashes in a key: `%` as `%25`, `/` as `%2F`."""
    return name.replace("%", "%25").replace("/", "%2F")


def unquoted(part: str) -> str:
    """Return the name that `quoted` has quoted."""
    return part.replace("%2F", "/").replace("%25", "%")


def lock_key(name: str) -> str:
    """Return the key of the entry of a lock."""
    return PREFIX + quoted(name)


def is_lease(key: str, *versions: Version | None) -> bool:
    """Return whether one of the versions of a key is the entry of a lock.

    A lock is of the present: a restore or an undo neither brings it back nor takes it away.
    """
    return key.startswith(PREFIX) and any(one is not None and one.expires for one in versions)


class Lock:
    """Hold a lock of a namespace. `StateManager.lock` makes locks, and says what they promise.

    Attributes:
        name: the name.
        key: the key of its entry.
        host, process: the host's name, and the id of the process that takes it.
        fence: the revision of the commit that took the lock: a later holder always has a higher one. Pass it to
            other systems, so that they can refuse a holder that has lost the lock.

    """

    def __init__(
        self, backend: Backend, commit: Committer, locks: list[Lock], name: str, ttl: float, wait: float,
        unlock: NextStep | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.key = check_key(lock_key(check_lock(name)))
        self.fence = 0
        self._revision = 0
        self._backend, self._commit, self._locks = backend, commit, locks
        self._ttl, self._micros, self._wait = ttl, to_ttl(ttl), wait
        self._unlock = unlock or NextStep("Or take the lock away with ", ("delete", self.key))
        self._token = ""
        self.host, self.process = host_name(), os.getpid()
        self._mutex = threading.RLock()  # a commit names the revision of the entry, which a renewal changes
        self._released = threading.Event()
        self._lost: LockLost | None = None
        self._due = 0.0
        self._value = b""
        self.beats: list[Callable[[], None]] = []  # called by the thread that renews, each half second

    def __repr__(self) -> str:
        return f"<Lock {self.name!r} fence {self.fence}{' lost' if self._lost else ''}>"

    @property
    def is_lost(self) -> bool:
        """Whether the lock is known to be lost."""
        return self._lost is not None

    @property
    def is_here(self) -> bool:
        """Whether this process is the one that took the lock, and not a child of it by `fork`."""
        return self.process == os.getpid()

    # --- taking and giving back --------------------------------------------------------------------------------

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.is_here:
            return
        try:
            self.release()
        except StateException:
            if kind is None:  # else the error of the block says more, and the lease expires
                raise

    def acquire(self) -> None:
        """Take the lock, or raise `LockHeld`."""
        version = self._backend.read([self.key]).get(self.key) if self in self._locks else None
        if version is not None and self.is_here:
            raise self._held_error(version)
        self._token, self.process = os.urandom(12).hex(), os.getpid()
        self._released, self._lost = threading.Event(), None
        self._value = codec.encode(
            {
                "host": self.host,
                "process": self.process,
                "since": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "started": started(self.process),
                "host_id": host_id(),
                "token": self._token,
            }
        )
        _held.add(self._token)
        try:
            self._acquire()
        except BaseException:
            _held.discard(self._token)
            raise
        self._due = time.monotonic() + self._ttl / 3
        self._locks.append(self)
        threading.Thread(target=self._renew_until_released, name=f"stateview {self.key}", daemon=True).start()

    def _acquire(self) -> None:
        deadline = time.monotonic() + self._wait
        backoff = Backoff(max(self._wait, self._ttl), first=0.001, longest=0.01)
        while True:
            version = self._backend.read([self.key]).get(self.key)
            former = 0 if version is None else version.revision
            if version is None or has_ended(_holder(version)):
                reason = f"lock {self.name}" if version is None else f"lock {self.name}, whose process has ended"
                try:
                    write = Write(self._value, self._micros)
                    self._revision = self.fence = self._write(write, former, reason, self._commit).revision
                    return
                except NotReplicated as error:
                    with suppress(NotReplicated):
                        self._write(Write(None), error.revision, f"unlock {self.name}", self._commit)
                    what = "The lock was given back: a failover could give it to another holder"
                    error.next_steps = (what, "Check the replicas, or give a longer wait_timeout")
                    raise
                except Conflict:
                    if not backoff.wait():
                        raise
                    continue
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._held_error(version)
            expiry = max(0.0, (version.expires - self._backend.now()) / 1e6) + 0.001
            time.sleep(min(left, _PAUSE_SECONDS))  # each commit of the holder ends the wait
            self._backend.wait(self._backend.head().revision, min(left, expiry, _POLL_SECONDS))

    def release(self, request: CommitRequest | None = None) -> None:
        """Give the lock back; with a request, in one commit with it.

        Raises:
            LockLost: another process has it, or may have had it. Nothing was written.

        """
        with self._mutex:
            if self._released.is_set():
                return
            self._released.set()
            if self in self._locks:
                self._locks.remove(self)
            try:
                self.check()
                if request is None:
                    reason = f"unlock {self.name}"
                    self._guarded(lambda: self._write(Write(None), self._revision, reason, self._commit))
                else:
                    self._release_with(request)
            finally:
                _held.discard(self._token)

    def _release_with(self, request: CommitRequest) -> None:
        try:
            self._guarded(lambda: self._commit(self._with(request, Write(None))))
        except Conflict:
            reason = f"unlock {self.name}"
            self._guarded(lambda: self._write(Write(None), self._revision, reason, self._commit))
            raise

    def _write(self, write: Write, former: int, reason: str, send: Committer) -> Head:
        """Commit a write of the entry alone, in such a way that `undo` passes over it where it can."""
        request = CommitRequest({self.key: write}, {self.key: former}, reason=reason)
        for _ in range(_NEUTRAL_TRIES):
            last = self._backend.commits(1)
            if not last:
                break
            from .restore import position_of

            undo = position_of(last[0]), last[0].forward, last[0].behind
            try:
                return send(replace(request, base=last[0].revision, undo=undo))
            except Conflict:
                version = self._backend.read([self.key]).get(self.key)
                if not may_be_same(version.revision if version is not None else 0, former):
                    raise
        return send(request)

    def _held_error(self, version: Version) -> LockHeld:
        holder = _holder(version)
        process, host, since = holder.get("process"), str(holder.get("host")), str(holder.get("since"))
        where = f"process {process} on host {host}"
        if process == os.getpid() and holder.get("host_id") == host_id():
            where = f"this process, {process}"
        hint = f"Wait until it is free, or end process {process}", self._unlock
        message = f"lock {self.name!r} of namespace {self._backend.namespace!r} is held by {where} since {since}"
        return LockHeld(message, hint, host=host, process=process, since=since)

    # --- while it is held --------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise `LockLost` if the lock is known to be lost. It asks no backend: a commit of the manager does."""
        if self._lost is not None:
            raise self._lost

    def commit(self, send: Committer, request: CommitRequest) -> Head:
        """Send a commit of the holder on the condition that the lock is still held. A due renewal goes with it.

        Raises:
            LockLost: it is not. Nothing was written.
            Conflict: as `send` raises it.

        """
        with self._mutex:
            if self._released.is_set():
                return send(request)
            self.check()
            is_due = bool(request.writes) and time.monotonic() >= self._due
            renewal = Write(self._value, self._micros) if is_due else None
            head = self._guarded(lambda: send(self._with(request, renewal)))
            return self._renewed(head) if is_due else head

    def _with(self, request: CommitRequest, write: Write | None) -> CommitRequest:
        """Return a request that depends on the lock, and writes its entry as said, or not at all."""
        writes = {key: one for key, one in request.writes.items() if key != self.key}
        if write is not None:
            writes[self.key] = write
        return replace(request, writes=writes, expected={**request.expected, self.key: self._revision})

    def _guarded(self, send: Callable[[], Head]) -> Head:
        """Send a commit that names the revision of the entry. Raise `LockLost` if that is why it is refused."""
        while True:
            revision = self._revision
            try:
                return send()
            except Conflict:
                if self._refresh() == revision:
                    raise
                # Else the reply to an earlier renewal did not come, and it was made

    def _refresh(self) -> int:
        """Read the revision of the entry. Raise `LockLost` if the entry is not the lock's own any more."""
        version = self._backend.read([self.key]).get(self.key)
        if version is None or _holder(version).get("token") != self._token:
            self._lost = self._lost_error(version)
            raise self._lost
        self._revision = version.revision
        return version.revision

    def _lost_error(self, version: Version | None) -> LockLost:
        if version is None:
            why = f"it was not renewed for {self._ttl:g} s, or its entry {self.key!r} was deleted"
        else:
            holder = _holder(version)
            why = f"process {holder.get('process')} on host {holder.get('host')} has it since {holder.get('since')}"
        message = f"lock {self.name!r} of namespace {self._backend.namespace!r} is lost: {why}"
        return LockLost(message, "Nothing was written. Take the lock again, and read again what it protects")

    def _renew_until_released(self) -> None:
        while not self._released.wait(min(self._ttl / 3, 0.5) if self.beats else self._ttl / 3):
            if self._lost is not None:
                return
            for beat in list(self.beats):
                beat()
            try:
                self._renew()
            except LockLost:
                return
            except Rewound as error:  # it is raised once, and nobody hears of it here
                what = f"lock {self.name!r} of namespace {self._backend.namespace!r} is in doubt: {error.message}"
                self._lost = LockLost(what, "Nothing was written. Take the lock again, and read again what it protects")
                return
            except StateException:
                pass  # the backend may answer again before the lease expires
            except Exception:  # the interpreter ends, or the store was closed in the middle
                pass

    def _renew(self) -> None:
        with self._mutex:
            if self._released.is_set() or time.monotonic() < self._due:
                return
            write, reason, send = Write(self._value, self._micros), f"renew lock {self.name}", self._backend.commit
            self._renewed(self._guarded(lambda: self._write(write, self._revision, reason, send)))

    def _renewed(self, head: Head) -> Head:
        self._revision, self._due = head.revision, time.monotonic() + self._ttl / 3
        return head


def _holder(version: Version) -> dict[str, Any]:
    value = codec.decode(version.value or b"null", version.key)
    return value if isinstance(value, dict) else {}


def has_ended(holder: dict[str, Any]) -> bool:
    """Return whether the process that the value of a lock names is known to have ended, or to have given it back."""
    here = host_id()
    process, start = holder.get("process"), str(holder.get("started"))
    if not here or holder.get("host_id") != here or not isinstance(process, int):
        return False
    if process == os.getpid() and start == started(process):
        return holder.get("token") not in _held
    return is_gone(process, start)
