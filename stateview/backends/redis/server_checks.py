"""The checks of `doctor()` on the server itself: its version, role, persistence, memory and clock.

One of them is also made before a namespace is: whether the server may evict it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from ...errors import NOTHING_CHANGED, BackendError
from ...model import Finding
from .connections.errors import is_unsupported

if TYPE_CHECKING:
    from .backend import RedisBackend
    from .connections.server import Server

MAX_SKEW_MICROSECONDS = 1_000_000  # a larger difference between the two clocks is reported
FULL_SHARE = 0.9  # of maxmemory
OLDEST = (6, 2)

_FAILURES = (  # each with the field of INFO that says it
    ("snapshot-failed", "rdb_last_bgsave_status", "its last snapshot failed"),
    ("append-failed", "aof_last_write_status", "its last write to the append-only file failed"),
    ("append-rewrite-failed", "aof_last_bgrewrite_status", "its last rewrite of the append-only file failed"),
)
_EVICTS = "allkeys-"  # how the name of a policy begins that evicts keys without an expiry
_REMEDY = "CONFIG SET maxmemory-policy noeviction, or a policy volatile-*"
_DURABLE = "Set appendonly yes and appendfsync always (CONFIG SET, and in its configuration file)"


def check_server(backend: RedisBackend) -> Iterator[Finding]:
    """Yield findings about the settings and the state of the server. Two round trips."""
    info = yield from _ask(backend, "INFO", lambda client: client.info("everything"))
    settings = yield from _ask(backend, "CONFIG GET", lambda client: client.config_get("*"))
    if info is not None:
        yield from _check_state(backend, info)
    if settings is not None:
        yield from _check_persistence(backend, settings)
    info, settings = info or {}, settings or {}
    policy = str(settings.get("maxmemory-policy") or info.get("maxmemory_policy", ""))
    limit = int(settings.get("maxmemory") or info.get("maxmemory") or 0)
    yield from _check_memory(backend, policy, limit, int(info.get("used_memory", 0)))


def check_clock(backend: RedisBackend) -> Iterator[Finding]:
    """Yield a finding if the server's clock differs from the local clock."""
    backend._handshake()
    if abs(skew := backend._skew) > MAX_SKEW_MICROSECONDS:
        found = f"its clock is {abs(skew) / 1e6:.1f} s {'ahead' if skew > 0 else 'behind'}"
        meaning = "the times in the log, and when entries expire, follow its clock"
        remedy = "Set the clocks of both machines by the network (NTP)"
        yield _warning(backend, "clock-skew", found, meaning, remedy)


def refuse_eviction(backend: Server) -> None:
    """Refuse to make a namespace on a server that may evict it. One round trip.

    A server that does not let this user ask for INFO is not refused.

    Raises:
        BackendError: the policy evicts keys without an expiry, and the URL does not allow it.

    """
    if backend.options.allow_eviction:
        return
    info = _reply(backend, lambda client: client.info("memory"))
    if isinstance(info, ResponseError):
        return
    policy, limit = str(info.get("maxmemory_policy", "")), int(info.get("maxmemory") or 0)
    if policy.startswith(_EVICTS) and limit:
        what = f"{backend.url}: at {_mebibytes(limit)} the server evicts state that it acknowledged: its"
        hint = (NOTHING_CHANGED, _REMEDY, "Or add allow_eviction=1 to the store URL, if the state may be lost")
        raise BackendError(f"{what} maxmemory-policy is {policy}", hint)


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):,.3g} MiB"


def _warning(backend: RedisBackend, code: str, found: str, meaning: str, remedy: str = "") -> Finding:
    return Finding("warning", backend.url, found, meaning, remedy, code)


def _ask(backend: RedisBackend, command: str, act: Callable[[Any], Any]) -> Generator[Finding, None, Any]:
    """Return the server's reply; yield a finding and return None if this user may not send the command."""
    reply = _reply(backend, act)
    if not isinstance(reply, ResponseError):
        return reply
    meaning = "settings that may lose state could not be checked"
    remedy = "Ask the administrator for appendonly, appendfsync, save and maxmemory-policy"
    yield Finding("note", backend.url, f"{command} is not allowed: {reply}", meaning, remedy, "check-not-allowed")
    return None


def _reply(backend: Server, act: Callable[[Any], Any]) -> Any:
    """Return the server's reply; the error if this user may not send the command."""

    def call(client: Any) -> Any:
        if hasattr(client, "get_node_from_key"):  # a cluster: of the server that holds the namespace, not of all
            client = client.get_redis_connection(client.get_node_from_key(backend._keys[0]))
        try:
            return act(client)
        except ResponseError as error:
            if is_unsupported(error):
                return error
            raise

    return backend._with_retry(call)


def _check_state(backend: RedisBackend, info: dict[str, Any]) -> Iterator[Finding]:
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        meaning = "stateview is tested with 6.2 and later"
        yield _warning(backend, "old-server", f"version {version}", meaning, "Upgrade the server")
    if info.get("role") == "slave":
        found = f"it is a replica, its link to the primary {info.get('master_link_status', 'down')}"
        meaning = "it refuses every write, and may return an older state"
        yield _warning(backend, "replica", found, meaning, "Give the address of the primary")
    for code, field, found in _FAILURES:
        if info.get(field, "ok") != "ok":
            meaning = "commits from now on may be lost when the server ends; it may refuse writes"
            yield _warning(backend, code, found, meaning, "Look at the server's log and its disk")
    if info.get("loading"):
        yield _warning(backend, "loading", "it is still loading its data", "a read may miss a part of the state")


def _check_persistence(backend: RedisBackend, settings: dict[str, str]) -> Iterator[Finding]:
    appends, sync, save = (settings.get(name, "") for name in ("appendonly", "appendfsync", "save"))
    if appends != "yes" and not save:
        found = 'appendonly no, and no snapshots (save "")'
        yield _warning(backend, "no-persistence", found, "all state is lost when the server ends", _DURABLE)
    elif appends != "yes":
        found = f"appendonly no; snapshots (save {save!r})"
        meaning = "all commits since the last snapshot are lost when the server crashes"
        yield _warning(backend, "snapshots-only", found, meaning, _DURABLE)
    elif sync == "no":
        meaning = "a loss of power may lose the last half minute"
        yield _warning(backend, "no-fsync", "appendfsync no", meaning, _DURABLE)
    elif sync == "everysec":
        meaning = "a crash of the server may lose the last second, or more if its disk is slow"
        yield Finding("note", backend.url, "appendfsync everysec", meaning, _DURABLE, "fsync-every-second")


def _check_memory(backend: RedisBackend, policy: str, limit: int, used: int) -> Iterator[Finding]:
    if policy.startswith(_EVICTS):
        when = f"at {limit >> 20} MiB" if limit else "as soon as a maxmemory is set"
        meaning = f"{when} the server evicts acknowledged state, a whole namespace at once"
        yield _warning(backend, "eviction", f"maxmemory-policy {policy}", meaning, _REMEDY)
    if limit and used > FULL_SHARE * limit:
        meaning = "a full server refuses writes, or evicts keys by its policy"
        found = f"{used / limit:.0%} of its memory is used"
        yield _warning(backend, "memory-full", found, meaning, "Raise maxmemory, or prune")
