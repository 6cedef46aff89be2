"""The errors of a Redis server and of redis-py: their codes, which of them pass, and what they mean to a user."""

from __future__ import annotations

import re
import ssl

import redis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ClusterError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)

from ....errors import NOTHING_CHANGED, BackendError, BackendUnavailable, Damaged, Hint, ReadOnly, StateException, run
from ...files.durable_files import CLOSE_FILES, OUT_OF_FILES
from .tls import tls_hint

_TRANSIENT = (
    redis.ConnectionError, redis.TimeoutError, BusyLoadingError, ClusterDownError, TryAgainError, SlotNotCoveredError,
)  # fmt: skip
_NOT_YET = ("BUSY", "NOREPLICAS", "READONLY")  # codes of replies that are another a moment later
_REFUSED = (AuthenticationError, AuthorizationError, NoPermissionError)

# redis-py removes the code from a reply for which it has a class. It leaves all other codes in the text.
_CODE_OF_CLASS: dict[type[Exception], str] = {
    OutOfMemoryError: "OOM", ReadOnlyError: "READONLY", NoPermissionError: "NOPERM",
    AuthenticationError: "WRONGPASS", AuthorizationError: "WRONGPASS",
}  # fmt: skip
_LOGIN: tuple[type[StateException], Hint] = (BackendError, "Check the user and password of the store URL")
_RIGHT = "Give the user this right: references/backends.md lists the least rights"
_MEANINGS: dict[str, tuple[type[StateException], Hint]] = {
    "OOM": (BackendError, ("The server is full", NOTHING_CHANGED, "Raise maxmemory or free some memory")),
    "READONLY": (ReadOnly, "This server is a replica; give the address of the primary"),
    "NOREPLICAS": (
        BackendUnavailable,
        (NOTHING_CHANGED, "Start the replicas that min-replicas-to-write asks for, or lower it"),
    ),
    "MISCONF": (BackendError, ("The server cannot save to its disk and refuses writes", NOTHING_CHANGED)),
    "NOPERM": (BackendError, _RIGHT), "NOAUTH": _LOGIN, "WRONGPASS": _LOGIN,
}  # fmt: skip
_OTHER_CODES = ("DAMAGED", "MISSING", "WRONGTYPE", "BUSY")

# The line of a script comes before the code where Lua's `error` was called, and before Redis 7 in every error.
_IN_SCRIPT = re.compile(r"user_script: ?\d+: -?([A-Z]+)\b(?: (\w+))?")
_AT_START = re.compile(r"([A-Z]+)\b")


def error_code(error: Exception) -> str:
    """Return the code of an error that a server replied, such as `OOM`; `ERR` for a reply without a code of its own.

    Returns "" for an error that is no reply of a server. `DAMAGED`, and `MISSING` before the name of a part, are codes
    of this package's own scripts.
    """
    for kind, code in _CODE_OF_CLASS.items():
        if isinstance(error, kind):
            return code
    if not isinstance(error, ResponseError):
        return ""
    text = str(error)
    if hides_command(error):
        return "NOPERM"
    match = _IN_SCRIPT.search(text) or _AT_START.match(text)
    return match[1] if match and (match[1] in _MEANINGS or match[1] in _OTHER_CODES) else "ERR"


def hides_command(error: Exception) -> bool:
    """Return whether a user may not run a command of a script, and the error does not name it: before Redis 7.2."""
    return "The user executing the script can't" in str(error)


def is_unsupported(error: Exception) -> bool:
    """Return whether a server, a proxy or its rules for this user lack the command that the error is about."""
    return error_code(error) in ("ERR", "NOPERM")


def may_not_run(error: Exception, command: str) -> bool:
    """Return whether a server replied that this user may not run a command whose name begins so."""
    return error_code(error) == "NOPERM" and f"'{command}" in str(error)


def denied(error: Exception) -> ResponseError | None:
    """Return the reply that made redis-py give up a cluster: this user may not ask who keeps what, or it is none."""
    cause: BaseException | None = error
    while isinstance(cause, RedisClusterException):
        cause = cause.__cause__ or cause.__context__
    return cause if isinstance(cause, ResponseError) and (error_code(cause) == "NOPERM" or _is_alone(cause)) else None


def _is_alone(error: Exception) -> bool:
    """Return whether a server replied that it is not in cluster mode."""
    return isinstance(error, ResponseError) and "cluster support disabled" in str(error)


def os_error(error: BaseException, handled: BaseException | None = None) -> OSError | None:
    """Return the error of the system that made redis-py raise an error, such as `ssl.SSLError`; None if none did.

    Args:
        error: an error of redis-py.
        handled: the error that the caller is handling, if any. Python chains it to `error`, but it caused nothing.

    """
    cause: BaseException | None = error
    while isinstance(cause, (RedisError, RedisClusterException)):
        cause = cause.__cause__ or cause.__context__
        if cause is handled:
            return None
    return cause if isinstance(cause, OSError) else None


def is_transient(error: Exception, cause: OSError | None = None) -> bool:
    """Return whether the same call may succeed a moment later. `cause` is the `os_error` of the error."""
    return is_unanswered(error, cause) or error_code(error) in _NOT_YET


def is_unanswered(error: Exception, cause: OSError | None = None) -> bool:
    """Return whether no server was there to answer, for now. `cause` is the `os_error` of the error."""
    if (
        isinstance(error, (*_REFUSED, MaxConnectionsError))
        or (isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError))  # that is a lost connection
        or lacks_descriptors(cause)
    ):
        return False
    if isinstance(error, _TRANSIENT):
        return True
    if isinstance(error, RedisClusterException):  # redis-py has no classes for these two
        return "cannot be connected" in str(error) or "not covered" in str(error)
    return _is_moving(error)


def _is_moving(error: Exception) -> bool:
    """Return whether the slot is being moved: each node that redis-py asked named another, and none ran the command."""
    return isinstance(error, ClusterError) and "TTL exhausted" in str(error)


def may_have_applied(error: Exception, cause: OSError | None = None) -> bool:
    """Return whether the server may have run a command that failed with this error. `cause` is its `os_error`."""
    if isinstance(error, (ResponseError, BusyLoadingError, RedisClusterException, *_REFUSED)) or _is_moving(error):
        return False
    return not isinstance(cause, ConnectionRefusedError) and not lacks_descriptors(cause)


def lacks_descriptors(cause: BaseException | None) -> bool:
    """Return whether the process, or the system, has too many files open."""
    return isinstance(cause, OSError) and cause.errno in OUT_OF_FILES


def reason(error: Exception) -> str:
    """Return the text of an error without redis-py's own objects: some versions print them with their passwords."""
    return re.split(r" : (?:Redis)?<", str(error))[0]


def to_state_error(error: Exception, url: str, namespace: str, cause: OSError | None = None) -> StateException:
    """Convert an error of the server or of redis-py to one of this package, with the next step."""
    if is_unanswered(error, cause) or error_code(error) == "BUSY":
        message = f"{url} does not answer: {reason(error)}"
        address = "Check that the server runs and the address is right"
        return BackendUnavailable(message, tls_hint(cause) if isinstance(cause, ssl.SSLError) else address)
    if lacks_descriptors(cause):
        return BackendError(f"{url}: too many files are open", CLOSE_FILES)
    if _is_alone(error):
        return BackendError(f"{url}: this server is not in cluster mode", _other_scheme(url, "redis"))
    if isinstance(error, (AskError, ClusterCrossSlotError)) and not url.startswith("redis+cluster:"):
        return BackendError(f"{url}: this server is a node of a cluster", _other_scheme(url, "redis+cluster"))
    message = f"{url}: {error}"
    if isinstance(cause, ssl.SSLError):
        return BackendError(message, tls_hint(cause))
    code = error_code(error)
    if code == "DAMAGED":
        return Damaged(f"{url}: an entry of {namespace!r} is not what was written", run("recover"))
    if code == "MISSING" and (match := _IN_SCRIPT.search(str(error))):
        return missing_part_error(url, namespace, match[2])
    if code == "WRONGTYPE":
        return Damaged(message, f"Another program wrote to the keys stateview:{{{namespace}}}:*")
    kind, hint = _MEANINGS.get(code, (BackendError, ""))
    return kind(message, hint)


def _other_scheme(url: str, scheme: str) -> str:
    """Return the hint to reach the first address of a URL by another scheme."""
    address = re.split("[/?,]", url.partition("://")[2].rpartition("@")[2])[0]
    return f"Give a store URL such as {scheme}://{address or 'HOST:PORT'}{'?ssl=true' if url[:7] == 'rediss:' else ''}"


def missing_right_error(url: str, command: str) -> BackendError:
    """Return the error for a command that commits need, and that the user of the server may not run."""
    what = f"{url}: this user may not run {command.upper()} on the keys of the namespace"
    return BackendError(what, (NOTHING_CHANGED, f"Allow it by ACL SETUSER NAME +{command}", _RIGHT))


def missing_part_error(url: str, namespace: str, part: str) -> Damaged:
    """Return the error for a key of a namespace that is gone, or that lacks members which it had."""
    message = f"{url}: the key stateview:{{{namespace}}}:{part} is gone, or lacks a part: it was evicted or deleted"
    return Damaged(message, run("recover"))
