"""The server that keeps a namespace: this process's connections to it, retries, and what it answered."""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from functools import cache, cached_property
from hashlib import sha1
from typing import Any, TypeVar

import redis
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from ....errors import (
    NOTHING_CHANGED,
    BackendError,
    CommitUnknown,
    Rewound,
    StateException,
)
from ...fork import watch_fork
from ...retries import Backoff
from ..scripts.commit import DENIED
from ..scripts.common import NAMES, UNCHECKED, WHOLE, framed
from .answers import Answer, Answers
from .client import NoConnection, Session, encode_bulk, open_client, pool_of
from .errors import (
    denied,
    error_code,
    hides_command,
    is_transient,
    is_unsupported,
    lacks_descriptors,
    may_have_applied,
    may_not_run,
    missing_right_error,
    os_error,
    reason,
    to_state_error,
)
from .read_cache import InvalidationCache
from .reading import commands_of, is_reading
from .sentinels import SentinelCheck
from .url import Options, parse

T = TypeVar("T")
B = TypeVar("B", bound="Server")
TIMEOUT_SECONDS = 10.0  # how long to retry, by default
FORK_SECONDS = 1.0  # how long a fork waits for another thread that opens a connection
FIRST_CONTACT_SECONDS = 1.0  # by default, while a single server has never answered
MIN_BACKOFF_SECONDS = 0.01
MAX_BACKOFF_SECONDS = 1.0
CACHE_BYTES = 32 * 1024 * 1024
MAX_IDLE_SESSIONS = 4  # sessions that keep their connection


@cache
def script_hash(script: str) -> str:
    """Return the hash by which EVALSHA names a script."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


def _word(argument: Any) -> bytes:
    """Encode an argument of a script."""
    if isinstance(argument, bytes):
        return argument
    return argument.encode() if isinstance(argument, str) else b"%d" % argument


class _Link:
    """The client of a backend, and the cache that listens through it. A copy of the backend shares them."""

    def __init__(self) -> None:
        self.client: Any = None
        self.tracking: InvalidationCache | None = None
        self.answers = Answers()
        self.sentinels = SentinelCheck()
        self.has_reading_scripts = True  # whether EVAL_RO is there (Redis 7), as far as is known


class Server(ABC):
    """The Redis server of one namespace.

    Args:
        address: the store URL.
        shown: the store URL without its password, for messages.
        namespace: a checked name.
        read_only: never write.
        history: how many revisions superseded versions are kept for.
        timeout: seconds to retry through transient errors. None: `TIMEOUT_SECONDS`, and less for the first contact with
            a single server, whose address may be wrong. A cluster and sentinels may be in the middle of a failover.
        chosen: options of this package, in place of those in the URL.

    """

    def __init__(
        self, address: str, shown: str, namespace: str, read_only: bool, history: int, timeout: float | None,
        chosen: dict[str, Any],
    ) -> None:  # fmt: skip
        self.url = shown
        self.namespace = namespace
        self.read_only = read_only
        self.keep = history
        if timeout is None and "timeout=" in address:
            with suppress(ValueError):  # the first use tells what is wrong with the URL
                timeout = parse(address).options.timeout
        self.timeout = TIMEOUT_SECONDS if timeout is None else timeout
        self._has_sentinels = address.startswith("redis+sentinel:")
        is_single = not address.startswith(("redis+cluster:", "redis+sentinel:"))
        self._first_timeout = FIRST_CONTACT_SECONDS if timeout is None and is_single else self.timeout
        self._address = address
        self._mutex = threading.RLock()  # held while the client is opened or closed, never while a server is waited for
        self._contact_mutex = threading.RLock()  # held while the first contact is made, or a keyring is learnt
        self._link = _Link()
        self._set_prefix(f"stateview:{{{namespace}}}:")
        self._max_idle = 0 if "max_connections" in address else MAX_IDLE_SESSIONS
        self._chosen = chosen
        self._sessions: list[Session] = []  # those that no call uses now
        self._answered = False  # whether the server has ever answered
        self._wrote = False  # whether the server has ever taken a commit
        self._checked = True  # whether scripts raise an error for a part that lacks members
        self._locked_for_fork: list[list[threading.RLock]] = []  # for each fork that is under way, what it holds
        watch_fork(self)

    @abstractmethod
    def _handshake(self) -> None:
        """Make the first contact, unless it was made."""

    def _set_prefix(self, prefix: str) -> None:
        """Set what the names of all keys of the namespace begin with."""
        self._prefix = prefix
        self._keys = [prefix + name for name in NAMES]
        self._commands: dict[tuple[str, str], tuple[int, bytes]] = {}  # what a call of a script begins with

    # --- forks -------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Wait until no other thread opens a connection, but not for a server that does not answer.

        The child never uses a connection that is open then, and the parent goes on with it.
        """
        locks = self._contact_mutex, self._mutex
        self._locked_for_fork.append([lock for lock in locks if lock.acquire(timeout=FORK_SECONDS)])

    def after_fork(self, child: bool) -> None:
        """Let the child open connections of its own."""
        if not child:
            for lock in self._locked_for_fork.pop():
                lock.release()
            return
        self._mutex, self._contact_mutex, self._locked_for_fork = threading.RLock(), threading.RLock(), []
        self._link.client = None
        self._link.tracking = None
        self._link.sentinels = SentinelCheck()
        self._sessions = []

    # --- calls -------------------------------------------------------------------------------------------------

    @cached_property
    def options(self) -> Options:
        """The options of this package: those of the store URL, and those that were given beside it.

        Raises:
            BackendError: the URL is not usable.

        """
        try:
            return parse(self._address).options._replace(**self._chosen)
        except ValueError as error:
            raise self._url_error(error) from error

    def _url_error(self, error: Exception) -> BackendError:
        return BackendError(f"{self.url} is not a usable Redis URL: {error}")

    def _connect(self) -> Any:
        """Return the client. It connects with its first command."""
        with self._mutex:
            client = self._link.client  # a call in the middle of this one can close it
            if client is None:
                options = self.options
                more = options.wait_timeout if options.wait_replicas else 0.0
                try:
                    client = self._link.client = open_client(self._address, self.timeout, more)
                except (ValueError, TypeError) as error:
                    raise self._url_error(error) from error
                max_stale = options.max_stale if options.consistency == "cached" else 0.0
                head = self._keys[0]
                self._link.tracking = InvalidationCache(lambda: pool_of(client, head), head, CACHE_BYTES, max_stale)
            return client

    def _with_retry(self, act: Callable[[Any], T], commit: bool = False, extra: float = 0.0) -> T:
        """Call `act` with the client, and retry it through transient errors up to the deadline.

        Args:
            act: the call.
            commit: whether the server may have applied the call although its reply is lost.
            extra: seconds to add to the timeout.

        Raises:
            BackendUnavailable: the server does not answer.
            CommitUnknown: the same, after an attempt that the server may have applied.
            BackendError, Damaged, ReadOnly: the server refused.

        """
        timeout = self.timeout if self._answered else self._first_timeout
        backoff = Backoff(timeout + extra, MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS)
        handled = sys.exc_info()[1]
        sent = is_replica = False
        while True:
            client: Any = None
            try:
                client = self._connect()
                if self._has_sentinels:
                    self._link.sentinels.start(client.connection_pool)
                result = act(client)
                self._answered = True
                self._wrote = self._wrote or commit
                return result
            except (RedisError, RedisClusterException, AttributeError, OSError, ValueError) as caught:
                error = self._server_error(caught, client)
                cause = os_error(error, handled)
                sent = sent or (commit and not isinstance(caught, NoConnection) and may_have_applied(error, cause))
                self._answered = self._answered or isinstance(error, (BusyLoadingError, redis.TimeoutError))
                if error_code(error) == "READONLY":
                    self._abandon(client)  # a new connection may lead to the new primary
                    if not (self._wrote or is_replica or self._first_timeout == self.timeout):
                        is_replica = True  # rather than a primary that has just become one
                        backoff = Backoff(FIRST_CONTACT_SECONDS, MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS)
                if is_transient(error, cause) and backoff.wait():
                    continue
                if sent:
                    hint = "The commit may or may not have been applied: load the keys before you try again"
                    raise CommitUnknown(f"{self.url} does not answer: {reason(error)}", hint) from error
                raise to_state_error(error, self.url, self.namespace, cause) from error
            except BaseException:  # a signal handler's
                self._abandon(client)
                raise

    def _abandon(self, client: Any) -> None:
        """Use a client no more: redis-py may have put a connection back whose reply still comes.

        Other threads go on with it. It closes its connections when nobody uses it.
        """
        with self._mutex:
            if client is not None and self._link.client is client:
                tracking, self._link.tracking, self._link.client = self._link.tracking, None, None
                if tracking is not None:
                    tracking.close()

    def _server_error(self, caught: Exception, client: Any) -> Exception:
        """Return the error that a call met on the server or on its way there; raise any other error again."""
        error = caught.__cause__ if isinstance(caught.__cause__, RedisError) else denied(caught) or caught
        if isinstance(error, (RedisError, RedisClusterException)):
            return error
        if isinstance(caught, OSError) and lacks_descriptors(caught):  # redis-py reads its version from a file
            raise to_state_error(caught, self.url, self.namespace, caught) from caught
        if isinstance(caught, StateException):
            raise caught
        if self._link.client is client:
            self._abandon(client)
            raise caught
        # `close` on another thread took the connection from redis-py while it read
        return redis.ConnectionError("the connection was closed")

    def _eval(self, script: str, *arguments: Any) -> Any:
        """Run a script on the keys of the namespace, and return its reply. One round trip.

        Raises:
            Rewound: the namespace lacks a commit that this manager knows.

        """
        return self._ask(script, *arguments)[1]

    def _ask(self, script: str, *arguments: Any) -> tuple[Answer, Any]:
        """Run a script as `_eval`, and return the server's answer too."""
        self._handshake()
        answers = self._link.answers
        text = framed(script if self._checked else script.replace(WHOLE, UNCHECKED))
        words = [b"", *map(_word, arguments)]
        is_second = False
        while True:
            known = answers.newest if self._checked else None
            words[0] = b"" if known is None else known.text
            asked = time.monotonic()
            with self._session() as session:
                reply = self._with_retry(lambda client: self._run(client, session, text, words))
            if len(reply) == 2:
                return (self._saw(reply[0], asked) if self._checked else Answer(reply[0], b"", 0, 0)), reply[1]
            if is_second and known is not None and known is answers.newest:  # else another thread has begun anew
                raise self._rewound(known, reply[0])
            is_second = True
            self._abandon(self._link.client)  # this may be a former primary: a new connection leads to the present one

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """Take a session that no other call uses."""
        try:
            session = self._sessions.pop()
        except IndexError:
            session = Session()
        try:
            yield session
        finally:
            if len(self._sessions) >= self._max_idle:
                session.release()
            self._sessions.append(session)

    def _run(
        self, client: Any, session: Session, script: str, words: list[bytes], then: bytes = b"", whole: bool = False,
        directly: bool = False,
    ) -> Any:  # fmt: skip
        """Run a script on the keys of the namespace, see `Session.send`. With `whole` its text is sent at once.

        On a cluster redis-py sends it, and follows a slot that has moved; with `directly` the session sends it.

        A script that only reads is sent by a command that refuses to write, so a reader needs no right to run others.
        A server or a user without this command takes another round trip, once for this backend.

        Raises:
            BackendError: the user lacks the right to run a command of a script that only reads.

        """
        try:
            return self._run_as_allowed(client, session, script, words, then, whole, directly)
        except ResponseError as error:
            if hides_command(error) and is_reading(script) and (name := self._denied_in(client, session, script)):
                raise missing_right_error(self.url, name) from None
            raise

    def _denied_in(self, client: Any, session: Session, script: str) -> str:
        """Return a command of a script that this user may not run. Before Redis 7.2, an error does not name it."""
        words = [name.encode() for name in commands_of(script)]
        found = self._run_as_allowed(client, session, DENIED, words, b"", True, False)
        return found.decode().lower() if found else ""

    def _run_as_allowed(
        self, client: Any, session: Session, script: str, words: list[bytes], then: bytes, whole: bool,
        directly: bool,
    ) -> Any:  # fmt: skip
        refused = None
        if self._reads_only(script):
            try:
                return self._send_script(client, session, script, words, then, whole, directly, "_RO")
            except ResponseError as error:
                if not is_unsupported(error) or is_transient(error):
                    raise
                refused = error
        try:
            reply = self._send_script(client, session, script, words, then, whole, directly)
        except ResponseError as error:
            if refused is not None and may_not_run(error, "eval"):
                raise refused from None
            raise
        if refused is not None:
            self._link.has_reading_scripts = False
        return reply

    def _reads_only(self, script: str) -> bool:
        """Return whether a script is sent by EVALSHA_RO or EVAL_RO."""
        return self._link.has_reading_scripts and is_reading(script)

    def _send_script(
        self, client: Any, session: Session, script: str, words: list[bytes], then: bytes, whole: bool,
        directly: bool, suffix: str = "",
    ) -> Any:  # fmt: skip
        """Send EVALSHA, or EVAL with `whole` or if the server does not know the script; each with a suffix."""
        try:
            if directly or isinstance(client, redis.Redis):
                return session.send(pool_of(client, self._keys[0]), self._command(script, whole, suffix), words, then)
            name, text = ("EVAL", script) if whole else ("EVALSHA", script_hash(script))
            return client.execute_command(name + suffix, text, len(self._keys), *self._keys, *words)
        except NoScriptError:
            if whole:
                raise
            return self._send_script(client, session, script, words, then, True, directly, suffix)

    def _command(self, script: str, whole: bool, suffix: str) -> tuple[int, bytes]:
        """Return how many words a call of a script begins with, and these in the server's protocol."""
        command = None if whole else self._commands.get((script, suffix))
        if command is None:
            name, text = ("EVAL", script) if whole else ("EVALSHA", script_hash(script))
            words = [word.encode() for word in (name + suffix, text, str(len(self._keys)), *self._keys)]
            command = len(words), encode_bulk(words)
            if not whole:
                self._commands[script, suffix] = command
        return command

    # --- what the server has answered --------------------------------------------------------------------------

    def _saw(self, text: bytes, asked: float) -> Answer:
        """Remember an answer of the server, which was asked for at a time of the monotonic clock."""
        answer = self._link.answers.add(text)
        if (tracking := self._link.tracking) is not None:
            tracking.saw(answer, asked)
        return answer

    def _rewound(self, known: Answer, text: bytes) -> Rewound:
        """Return the error that the namespace lacks the commit of `known`, and begin anew with what the server has."""
        answers = self._link.answers
        lineage, revision, _ = text.split(b" ")
        lost = answers.known() or [known]
        last = 0  # the last commit that this manager knows and the server has
        if lineage == known.lineage:
            numbers = [answer.revision for answer in lost]
            floor = int(self._with_retry(lambda client: client.hget(self._keys[0], "floor")) or 0)
            records = self._with_retry(lambda client: client.hmget(self._keys[8], numbers))
            for answer, record in zip(lost, records, strict=True):
                if answer.revision <= floor or (record or b"").startswith(b"%d " % answer.time):
                    last = answer.revision
        lost_from = min((answer.revision for answer in lost if answer.revision > last), default=known.revision)
        answers.begin_anew(range(last + 1, known.revision + 1))
        if (tracking := self._link.tracking) is not None:
            tracking.begin_anew()
        where = f"{self.url}: namespace {self.namespace!r}"
        if not lineage:
            message = f"{where} is gone: it had revision {known.revision:,} when this manager last asked"
        elif lineage != known.lineage:
            message = f"{where} is another: it was dropped or lost, and made again"
        else:
            message = f"{where} lost commits from revision {lost_from:,} on, and is at revision {int(revision):,}"
        hint = (NOTHING_CHANGED, "Load what you need again; calls go on from what is left")
        return Rewound(message, hint, lost_from=lost_from, revision=int(revision))

    def _begin_anew(self) -> None:
        """Take whatever the server answers next: this process has replaced or repaired the namespace."""
        self._link.answers.begin_anew()
        if (tracking := self._link.tracking) is not None:
            tracking.begin_anew()

    def examined(self: B) -> B:
        """Return this backend for `doctor` and `recover`, which read what is left of a namespace without a part.

        It shares the link: an exception in the middle of its call ends the use of the client for both.
        """
        other = copy(self)
        other._checked = False
        return other

    def _forget_reads(self) -> None:
        """Empty the cache after a write of this process."""
        if (tracking := self._link.tracking) is not None:
            tracking.forget()

    def close(self) -> None:
        """Close all connections. A later call opens them again."""
        with self._mutex:
            client, tracking = self._link.client, self._link.tracking
            self._link.client = self._link.tracking = None  # first: who uses the client sees why its call fails
            self._sessions = []
            if tracking is not None:
                tracking.close()
            if client is not None:
                client.close()
