"""What errors of a server and of redis-py mean: by codes and classes, never by words."""

from __future__ import annotations

import ssl

import pytest
import redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ClusterError,
    MaxConnectionsError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    SlotNotCoveredError,
)

from stateview.backends.redis.connections.errors import (
    error_code,
    is_transient,
    is_unsupported,
    may_have_applied,
    os_error,
    to_state_error,
)
from stateview.errors import BackendError, BackendUnavailable, Damaged, ReadOnly, StateException

# Replies as redis-py hands them over. Each text names another code, which must not count.
CODES = [
    (OutOfMemoryError("command not allowed, not READONLY"), "OOM"),
    (ReadOnlyError("You can't write against a replica, OOM"), "READONLY"),
    (NoPermissionError("this user has no permissions, WRONGTYPE"), "NOPERM"),
    (AuthenticationError("invalid username-password pair, OOM"), "WRONGPASS"),
    (ResponseError("MISCONF Redis is configured to save RDB snapshots, OOM"), "MISCONF"),
    (ResponseError("WRONGTYPE Operation against a key, script: 1f, on @user_script:42."), "WRONGTYPE"),
    (ResponseError("BUSY Redis is busy running a script. OOM"), "BUSY"),
    (ResponseError("user_script:12: DAMAGED: the head, OOM, script: 1f, on @user_script:12."), "DAMAGED"),
    (ResponseError("Error running script (call to f_1f): @user_script:3: @user_script: 3: -OOM command"), "OOM"),
    (ResponseError("Error running script (call to f_1f): @user_script:3: WRONGTYPE Operation"), "WRONGTYPE"),
    (ResponseError("unknown command 'OOM'"), "ERR"),
    (ResponseError("DB index is out of range"), "ERR"),
    (ResponseError(""), "ERR"),
    (redis.ConnectionError("OOM"), ""),
    (redis.TimeoutError("READONLY"), ""),
    (RedisClusterException("WRONGTYPE"), ""),
]


@pytest.mark.parametrize(("error", "code"), CODES, ids=[f"{code}-{place}" for place, (_, code) in enumerate(CODES)])
def test_the_code_is_the_first_word_of_the_reply(error: Exception, code: str) -> None:
    assert error_code(error) == code
    assert is_unsupported(error) == (code in ("ERR", "NOPERM"))
    assert to_state_error(error, "redis://h", "main").message.startswith("redis://h")


MEANINGS: list[tuple[Exception, type[StateException], str]] = [
    (OutOfMemoryError("x"), BackendError, "maxmemory"),
    (ReadOnlyError("x"), ReadOnly, "primary"),
    (ResponseError("MISCONF x"), BackendError, "disk"),
    (ResponseError("NOREPLICAS x"), BackendUnavailable, "min-replicas-to-write"),
    (NoPermissionError("x"), BackendError, "least rights"),
    (ResponseError("WRONGTYPE x"), Damaged, r"stateview:\{main\}:\*"),
    (ResponseError("user_script:1: DAMAGED: x"), Damaged, "recover"),
    (ResponseError("unknown command 'x'"), BackendError, "unknown command"),
    (redis.ConnectionError("x"), BackendUnavailable, "server runs"),
    (MovedError("12751 127.0.0.1:7001"), BackendError, r"node of a cluster\. .* redis\+cluster://h$"),
    (ClusterCrossSlotError("x"), BackendError, r"node of a cluster"),
    (ResponseError("This instance has cluster support disabled"), BackendError, r"not in cluster mode\. .* redis://h$"),
]


@pytest.mark.parametrize(("error", "kind", "words"), MEANINGS, ids=[str(error) for error, _, _ in MEANINGS])
def test_an_error_of_the_server_becomes_one_of_this_package(
    error: Exception, kind: type[StateException], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        raise to_state_error(error, "redis://h", "main")
    assert isinstance(caught.value, BackendUnavailable) == (kind is BackendUnavailable)


def test_transient_errors() -> None:
    for error in (
        redis.ConnectionError("x"), redis.TimeoutError("x"), BusyLoadingError("x"), ClusterDownError("x"),
        SlotNotCoveredError("x"), ResponseError("BUSY x"), ReadOnlyError("x"), ResponseError("NOREPLICAS x"),
        ClusterError("TTL exhausted."),
    ):  # fmt: skip
        assert is_transient(error)
    for error in (MaxConnectionsError("x"), AuthenticationError("x"), ResponseError("x")):
        assert not is_transient(error)
    assert not is_transient(redis.ConnectionError("x"), ssl.SSLError("x"))


def connection_error(cause: OSError) -> Exception:
    try:
        try:
            raise cause
        except OSError:
            raise redis.ConnectionError("x")  # noqa: B904 - redis-py raises it so
    except redis.ConnectionError as error:
        return error


def test_the_error_of_the_system_is_what_redis_py_met_and_not_what_the_caller_handles() -> None:
    refused = ConnectionRefusedError("x")
    assert os_error(connection_error(refused)) is refused
    assert not may_have_applied(connection_error(refused), refused)
    assert may_have_applied(redis.ConnectionError("x"))
    assert not may_have_applied(ResponseError("x"))
    try:
        raise ConnectionRefusedError("of another server")
    except ConnectionRefusedError as handled:
        try:
            raise redis.ConnectionError("Connection closed by server.")
        except redis.ConnectionError as error:
            assert error.__context__ is handled
            assert os_error(error, handled) is None
        reset = ConnectionResetError("x")
        assert os_error(connection_error(reset), handled) is reset
