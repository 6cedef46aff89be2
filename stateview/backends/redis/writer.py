"""Write a namespace of a Redis server: commits, pruning, copies into it."""

from __future__ import annotations

import secrets
import time
from abc import ABC
from contextlib import suppress
from typing import Any

import msgspec
import redis
from redis.exceptions import AskError, MovedError, RedisClusterException, RedisError, ResponseError

from ...arguments import Revision, time_of
from ...errors import (
    COMMITTED,
    NOTHING_CHANGED,
    BackendError,
    BackendUnavailable,
    Damaged,
    NotReplicated,
    Rewound,
    StateException,
    tells_what_was_done,
)
from ..conflicts import (
    check_new,
    checkpoint_conflict_error,
    history_pruned_error,
    key_conflict_error,
    lost_revision_error,
    plain_data_error,
    stale_base_error,
)
from ..protocol import CheckpointWrite, CommitRequest, Head, ProgressCount
from ..retries import Backoff
from ..stored_values import StoredValues
from . import packing
from .connections.answers import Answer
from .connections.client import NoConnection, Session, encode_bulk, reach
from .connections.contact import REGISTRY, keyring_digest
from .connections.errors import to_state_error
from .reader import Reader
from .scripts.commit import COMMIT, UPGRADE
from .scripts.common import KINDS
from .server_checks import refuse_eviction

WORDS_PER_SECOND = 30_000  # words of a commit that a slow server runs in a second; a large commit gets more time
LARGEST_COMMIT_BYTES = 768 * 1024 * 1024  # a server closes the connection at 1 GiB, without a reply
_MIN_RESEAL_SECONDS = 0.0005
_MAX_RESEAL_SECONDS = 0.02  # a client with long pauses comes too late again and again
_encode = msgspec.json.Encoder().encode


class Writer(Reader, ABC):
    """The writing half of a backend."""

    def commit(self, batch: CommitRequest) -> Head:
        """Make one round trip. The first commit of a namespace makes four."""
        self._check_writable()
        self._check_lost(batch)
        if not self._ready:
            self._handshake()
        try:
            with self._session() as session:  # commits of other threads use other sessions
                reply, replicas, asked = self._exchange(batch, session)
        finally:
            self._forget_reads()  # a refusal, too, tells of commits that the cache knows nothing of
        if not isinstance(reply, bytes):
            self._raise_conflict(reply, batch)
        revision, moment, count, floor, lineage, *tend = reply.split(b" ", 5)
        number, time_ = int(revision), int(moment)
        head = Head(Revision(number, time_), time_, int(count), int(floor), lineage.decode())
        self._revision = number
        self._saw(b"%b %b %b" % (lineage, revision, moment), asked)
        if batch.writes:
            self._remember(batch, head)
            if tend and tend[0] and self.values.error is None:
                self._tend(tend[0].split(b"\0"))
        if replicas is not None:
            self._check_replicas(head.revision, replicas)
        return head

    def _check_lost(self, batch: CommitRequest) -> None:
        """Refuse a commit that expects a revision of a commit that the server has lost, as `Rewound` told before.

        Another commit may have this revision now.
        """
        for key, revision in (*batch.expected.items(), ("", batch.base or 0)):
            if self._link.answers.is_lost(revision, key):
                raise lost_revision_error(self.namespace, revision)

    def _check_replicas(self, revision: int, replicas: int | ResponseError) -> None:
        """Raise an error if fewer replicas than were asked for have confirmed a commit."""
        wanted = self.options.wait_replicas
        if isinstance(replicas, ResponseError):  # such as that of a user who may not run WAIT
            error = to_state_error(replicas, self.url, self.namespace)
            raise NotReplicated(error.message, (COMMITTED, *error.next_steps), revision=revision) from replicas
        if replicas < wanted:
            what = f"{self.url}: {replicas} of {wanted} replicas confirmed revision {revision:,} within"
            hint = (COMMITTED, "A failover may lose it. Check the replicas, or give a longer wait_timeout")
            message = f"{what} {self.options.wait_timeout:g} s"
            raise NotReplicated(message, hint, revision=revision, replicas=replicas)

    def _exchange(self, batch: CommitRequest, session: Session) -> tuple[Any, Any, float]:
        """Send a commit until the server applies or refuses it.

        Returns the reply, the reply of WAIT or None, and the time before the commit was sent.

        What is sealed is sealed for one revision: if another client came first, it is sealed and sent again. So it is,
        or is sent plain, if another client has changed the keyring.

        Raises:
            Sealed: no key opens the namespace.
            InvalidArgument: a key was given, and the namespace has plain data.
            BackendUnavailable: other clients came first until the deadline.
            Rewound: the namespace lacks a commit that this manager knows.

        """
        answers = self._link.answers
        is_second = False
        is_new = False
        backoff = None
        while True:
            form = self._keyring, self.values
            if not form[1].ready:
                is_new = self._start_sealing(batch)
                form = self._keyring, self.values
            known, asked = answers.newest, time.monotonic()
            words = self._checked_arguments(batch, session, form, is_new, known)
            reply, replicas = self._send_commit(session, words)
            if reply == [b"register"]:
                self._start_namespace()
                is_new = True
                continue
            if reply == [b"upgrade"]:
                self._eval(UPGRADE)
                continue
            if isinstance(reply, bytes) or reply[0] not in (b"reseal", b"rekey", b"rewound"):
                if is_new:
                    with self._contact_mutex:
                        self._new_keyring = None
                return reply, replicas, asked
            if reply[0] == b"rewound":
                if is_second and known is not None and known is answers.newest:
                    raise self._rewound(known, reply[1])
                is_second = True
                self._abandon(self._link.client)  # see `_ask`
                continue
            is_new = False
            if reply[0] == b"reseal":
                self._revision = int(reply[1])
            else:
                self._learn_keyring()
                self._revision = None
            if backoff is None:
                backoff = Backoff(self.timeout, _MIN_RESEAL_SECONDS, _MAX_RESEAL_SECONDS)
            elif not backoff.wait():
                message = f"{self.url}: other clients committed before this one for {self.timeout:g} s"
                raise BackendUnavailable(message, (NOTHING_CHANGED, "Try again"))

    def _send_commit(self, session: Session, words: list[bytes]) -> tuple[Any, Any]:
        """Run a commit once: the same words that the same session sends again are the same commit.

        Returns the script's reply, and how many replicas have confirmed the commit; None if none are asked for.
        """
        options = self.options
        then = b""
        if options.wait_replicas:
            milliseconds = b"%d" % max(1, int(options.wait_timeout * 1000))
            then = b"*3\r\n" + encode_bulk([b"WAIT", b"%d" % options.wait_replicas, milliseconds])

        def act(client: Any) -> Any:
            try:
                return self._run(client, session, COMMIT, words, then, directly=True)
            except NoConnection:
                if not isinstance(client, redis.Redis):
                    with suppress(RedisError, RedisClusterException):  # whatever it meets, the commit was not sent
                        reach(client, self._keys[0])
                raise
            except (MovedError, AskError):
                if isinstance(client, redis.Redis):
                    raise
                # redis-py follows the slot, and learns where it is. Then the commit is sent once more: WAIT waits for
                # the writes of its own connection.
                reply = self._run(client, session, COMMIT, words)
                return self._run(client, session, COMMIT, words, then, directly=True) if then else reply

        if not self._ready:
            self._handshake()
        if self._denied:
            self._check_rights()
        reply = self._with_retry(act, commit=True, extra=len(words) / WORDS_PER_SECOND)
        return reply if then else (reply, None)

    def _start_sealing(self, batch: CommitRequest) -> bool:
        """Make the keyring of a new namespace, which the first commit stores. Return whether the namespace is new."""
        with self._contact_mutex:  # the threads that begin at once use one keyring
            head = self._learn_keyring()
            self.values.check_open()
            if head and not self.values.ready:
                raise plain_data_error(self.namespace)
            if not head:
                check_new(batch, self.namespace)
                self._start_namespace()
        return not head

    def _start_namespace(self) -> None:
        """List a namespace that is to be made by the next commit, and choose the form of its values."""
        refuse_eviction(self)
        self._registry(lambda client: client.sadd(REGISTRY, self.namespace))
        with self._contact_mutex:
            self._new_keyring = self._new_keyring or self._given.new_keyring()
            self._use_keyring(self._new_keyring)
        self._revision = 0
        self._ready = True

    def _tend(self, keys: list[bytes]) -> None:
        """Do a bite of packing for the keys that a commit named."""
        with tells_what_was_done(lambda: COMMITTED):
            try:
                packing.tend_all(self, keys)
            except (Damaged, Rewound):
                raise
            except StateException:
                pass  # the commit is complete; a later commit or `compact` does what is left

    def _remember(self, batch: CommitRequest, head: Head) -> None:
        """Remember the values of a commit: a later commit sends their deltas."""
        for key, write in batch.writes.items():
            self._known.put(key, head.revision, write.time or batch.time or head.time, write.value)

    def _checked_arguments(
        self, batch: CommitRequest, session: Session, form: tuple[bytes | None, StoredValues], new: bool,
        known: Answer | None,
    ) -> list[bytes]:  # fmt: skip
        words = self._commit_args(batch, session.next(), form, new, known)
        if (size := sum(map(len, words))) > LARGEST_COMMIT_BYTES:
            message = f"{self.url}: {size >> 20} MiB of values are more than a server takes in one commit"
            raise BackendError(message, (NOTHING_CHANGED, "Save them in several commits"))
        return words

    def _commit_args(
        self, batch: CommitRequest, number: tuple[bytes, bytes],
        form: tuple[bytes | None, StoredValues] | None = None, new: bool = False, known: Answer | None = None,
    ) -> list[bytes]:  # fmt: skip
        """Return the arguments of the script COMMIT.

        Args:
            batch: the commit.
            number: the session's name, and the number of the commit in it. A token of the commit takes their place.
            form: a keyring, and the form of values by it; None for those that this client knows now.
            new: whether the commit may make the namespace.
            known: the newest answer that this client knows, which the server must not have lost.

        """
        options = _options(batch)
        lineage = secrets.token_hex(16) if new else ""
        reason, author, revision = batch.reason, batch.author, 0
        keyring, values = form or (self._keyring, self.values)
        if keyring is not None:
            if new:
                self._lineage = lineage
                options["keyring"] = keyring.decode()
            options["of"], options["ring"] = self._lineage, keyring_digest(keyring)
        if values.sealed:
            if self._revision is None:
                self.head()
            revision = (self._revision or 0) + 1
            options["sealed_for"] = revision
        if not values.plain:
            reason = values.pack_text(reason, "reason", "", revision)
            author = values.pack_text(author, "author", "", revision)
            for mark in options.get("marks", ()):
                if note := mark.get("note"):
                    at = revision if mark.get("after") and batch.writes else revision - 1
                    mark["note"] = values.pack_text(note, "note", mark["name"], mark.get("revision", at))
        if new:
            options["lineage"] = lineage
        if batch.token:
            number = batch.token.encode(), b"1"
        record = _encode([reason, author, len(batch.writes), *map(int, batch.undo)])
        words = [_encode(options) if options else b"", record, *number, b"%d" % self.keep]
        words.append(b"" if known is None else known.text)
        pack = values.pack
        for key, write in sorted(batch.writes.items()):  # code points have the order of their UTF-8
            if (delta := self._known.delta(key, write.value, values, revision)) is not None:
                words += (key.encode(), *delta)
            if write.value is None:
                words += (key.encode(), b"D", b"")
            elif write.ttl or write.time:
                words += (key.encode(), b"%d %d" % (write.ttl, write.time), pack(write.value, key, revision))
            else:
                words += (key.encode(), b"", pack(write.value, key, revision))
        return words

    def _raise_conflict(self, reply: Any, batch: CommitRequest) -> None:
        """Raise the error for a reply of COMMIT that a precondition is not met."""
        status = reply[0]
        if status == b"base":
            raise stale_base_error(self.namespace, batch.base or 0, int(reply[1]))
        if status == b"key":
            raise key_conflict_error(reply[1].decode(), int(reply[2]), int(reply[3]))
        if status == b"mark":
            raise checkpoint_conflict_error(reply[1].decode())
        if status == b"pruned":
            raise history_pruned_error(self.namespace, int(reply[1]), int(reply[2]))

    def compact(self, floor: int, progress: ProgressCount | None = None) -> int:
        """Prune in steps: the server answers other clients between two of them."""
        from . import maintenance

        self._check_writable()
        return maintenance.compact(self, floor, progress)

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._known.clear()

    def _rewound(self, known: Answer, text: bytes) -> Rewound:
        error = super()._rewound(known, text)
        self._known.clear()
        return error

    def drop(self) -> None:
        self._check_writable()
        self._with_retry(lambda client: client.unlink(*self._keys))
        self._begin_anew()
        self._forget_reads()
        with tells_what_was_done(lambda: f"Namespace {self.namespace!r} was removed, but is still listed"):
            self._registry(lambda client: client.srem(REGISTRY, self.namespace))


def _options(batch: CommitRequest) -> dict[str, Any]:
    """Return what only some commits ask for, as COMMIT takes it."""
    options: dict[str, Any] = {}
    if batch.base is not None:
        options["base"] = _witness(batch.base)
    if batch.expected:
        options["expected"] = {key: _witness(revision) for key, revision in batch.expected.items()}
    if batch.time:
        options["time"] = batch.time
    if batch.marks:
        options["marks"] = [_mark(mark) for mark in batch.marks]
    if batch.unmarks:
        options["unmarks"] = [(name, int(revision)) for name, revision in batch.unmarks]
    return options


def _witness(revision: int) -> int | tuple[int, int]:
    """Return a revision as COMMIT takes it: with the time of its commit, if that is known."""
    moment = time_of(revision)
    return (int(revision), moment) if moment else int(revision)


def _mark(mark: CheckpointWrite) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": mark.name}
    if mark.revision is not None:
        fields["revision"] = int(mark.revision)
    for name in ("note", "time", "fresh", "after"):
        if value := getattr(mark, name):
            fields[name] = value
    if mark.kind:
        fields["kind"] = KINDS.index(mark.kind)
    return fields
