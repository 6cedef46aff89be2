"""The look for data of the older layout before a namespace is made: a SCAN of the whole server, bounded in time.

A look that did not come to its end may have found half of the older state, or none of it. Half is never taken in: the
namespace is refused until `import` has taken all, which is not bounded. None is said once, and the namespace is made.

A process that makes many namespaces does not look through the server for each. Its looks take a second together, and
a tenth of its time after that. In between, a look at all namespaces counts for each that has none. What an older
program wrote since that look, in some seconds at most, stays where it is, and `import` takes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import redis

from ...errors import NOTHING_CHANGED, BackendError, Damaged, NextStep, hint_text
from ..notes import say_once
from .connections.client import escape_match

if TYPE_CHECKING:
    from .backend import RedisBackend

LOOK_SECONDS = 0.3  # for all pages and nodes; the first page is read, and one page of values, whatever they take
_PAGE_SECONDS = 0.02  # more than the fastest page took: then the server is busy, and the next page is smaller
_FIRST_COUNT, _LEAST_COUNT, _MOST_COUNT = 2000, 250, 10_000  # keys that the server passes over for a page
_VALUES_PER_PAGE = 500
_SPARE_SECONDS = 1.0  # that the looks of a process at a server may take together, and then:
_SPARE_SHARE = 0.1  # of the time that passes
_STOPPED = f"was stopped after {LOOK_SECONDS:g} s"


class OlderStrings(NamedTuple):
    """What a look found: whether there are strings, these, and whether they are all that lie on the server."""

    exist: bool
    strings: dict[str, bytes]
    are_all: bool

    def pages(self, prefix: str) -> list[dict[str, bytes]]:
        """Return the strings whose names start with a prefix, in one page; no page if there is none."""
        page = {name: value for name, value in self.strings.items() if name.startswith(prefix)}
        return [page] if page else []


class _Pace:
    """How many keys the next page passes over, and whether there is time for it."""

    def __init__(self) -> None:
        self.count = _FIRST_COUNT
        self._deadline = time.monotonic() + LOOK_SECONDS
        self._fastest = self._last = 0.0

    def has_time(self) -> bool:
        """Return whether another page like the last can be read before the deadline. The first always can."""
        return not self._last or time.monotonic() + self._last < self._deadline

    def took(self, seconds: float) -> None:
        """Choose the size of the next page by the time that the last took. Most of it may be the way to the server."""
        self._last = seconds
        self._fastest = min(self._fastest or seconds, seconds)
        factor = 2.0 if seconds < self._fastest + _PAGE_SECONDS else 0.5
        self.count = int(min(_MOST_COUNT, max(_LEAST_COUNT, self.count * factor)))


class _Looks:
    """The looks of this process at a server: the time that is left for them, and the last look that is shared."""

    def __init__(self) -> None:
        self._spare = _SPARE_SECONDS
        self._counted = time.monotonic()
        self._shared: tuple[set[bytes], bool] = set(), True  # which namespaces have strings, and whether these are all
        self._ends = 0.0  # until when it counts

    def share(self, backend: RedisBackend) -> OlderStrings | None:
        """Return what the shared look says of a namespace; None if the namespace needs a look of its own."""
        moment = time.monotonic()
        self._spare = min(_SPARE_SECONDS, self._spare + (moment - self._counted) * _SPARE_SHARE)
        self._counted = moment
        if self._spare > 0:
            return None
        if moment > self._ends:
            names, are_all, took = backend._with_retry(lambda client: self.find(client, "*", _Pace()))
            self._shared = {name.split(b":", 2)[1] for name in names}, are_all
            self._ends = time.monotonic() + took / _SPARE_SHARE
        namespaces, are_all = self._shared
        return None if backend.namespace.encode() in namespaces else OlderStrings(False, {}, are_all)

    def find(self, client: Any, namespace: str, pace: _Pace) -> tuple[set[bytes], bool, float]:
        """Return names that may be of a namespace, a pattern of SCAN; whether these are all; and how long it took."""
        started = time.monotonic()
        pattern = f"[sc][th][ae][tc]*:{namespace}:*"  # of both kinds, so that one SCAN finds both
        is_cluster = not isinstance(client, redis.Redis)
        nodes = map(client.get_redis_connection, client.get_primaries()) if is_cluster else iter([client])
        names: set[bytes] = set()
        are_all = all(_scan(node, pattern, pace, names) for node in nodes)
        took = min(LOOK_SECONDS, time.monotonic() - started)
        self._spare = max(self._spare - took, -_SPARE_SECONDS)
        return names, are_all, took


@lru_cache(maxsize=64)
def _looks(url: str) -> _Looks:  # noqa: ARG001
    """Return the looks of this process at the server of a store URL."""
    return _Looks()


def look(backend: RedisBackend) -> OlderStrings:
    """Look for the strings `state:NS:KEY` and `checkpoint:NS:NAME`. O(keys of the server), in `LOOK_SECONDS` at most.

    Raises:
        BackendUnavailable, BackendError: the server does not answer, or refuses.
        Damaged: a name is not UTF-8 text.

    """
    looks = _looks(backend.url)
    if (shared := looks.share(backend)) is not None:
        return shared
    stems = tuple(f"{kind}:{backend.namespace}:".encode() for kind in ("state", "checkpoint"))

    def act(client: Any) -> OlderStrings:
        pace = _Pace()
        names, are_all, _ = looks.find(client, escape_match(backend.namespace), pace)
        wanted = sorted(name for name in names if name.startswith(stems))
        strings: dict[str, bytes] = {}
        for start in range(0, len(wanted) if are_all else 0, _VALUES_PER_PAGE):
            if start and not pace.has_time():
                are_all = False
                break
            strings.update(_values(client, wanted[start : start + _VALUES_PER_PAGE], backend.url))
        return OlderStrings(bool(wanted), strings, are_all)

    return backend._with_retry(act)


def _scan(server: Any, pattern: str, pace: _Pace, names: set[bytes]) -> bool:
    """Add the names of a server's strings that match. Return False if the time ended before the last page."""
    cursor = 0
    while pace.has_time():
        started = time.monotonic()
        cursor, page = server.scan(cursor, pattern, pace.count, _type="string")
        pace.took(time.monotonic() - started)
        names.update(page)
        if not cursor:
            return True
    return False


def _values(client: Any, names: list[bytes], url: str) -> Iterator[tuple[str, bytes]]:
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.get(name)
        values = pipe.execute()
    for name, value in zip(names, values, strict=True):
        if value is not None:  # else it is gone since
            try:
                yield name.decode(), value
            except UnicodeDecodeError:
                raise Damaged(f"{url}: the older key {name[:80]!r} is not UTF-8 text", NOTHING_CHANGED) from None


def half_error(backend: RedisBackend) -> BackendError:
    """Return the error for a namespace of whose older data a part was found."""
    what = f"{backend.url}: namespace {backend.namespace!r} has data of the older layout; the look for all of it"
    error = BackendError(
        f"{what} {_STOPPED}", (NOTHING_CHANGED, NextStep("Take in all of it by ", ("import", backend.url)))
    )
    error.target = _target(backend)
    return error


def say_unseen(backend: RedisBackend) -> None:
    """Say that older data may lie on the server, once for each server."""
    step = NextStep("they stay unseen until ", ("import", backend.url, "--merge"), " takes them in")
    name = backend.namespace
    text = f"{backend.url} holds many keys, and the look for data of the older layout {_STOPPED}."
    text += f" If keys state:{name}:* are there, " + hint_text(step, _target(backend))
    say_once(text, about=f"the older layout in {backend.url}")


def _target(backend: RedisBackend) -> list[str]:
    return ["-s", backend.url, "-n", backend.namespace]
