"""What lies on a Redis server under keys that are not a namespace's: read by SCAN, never written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from redis.exceptions import RedisClusterException, RedisError, ResponseError

from ...errors import Damaged
from ...model import now
from .backend import RedisBackend
from .connections.errors import to_state_error

KEYS_PER_READ = 1000  # keys of one look
READ_BYTES = 8_000_000  # bytes of values that are asked for at once
OWN = b"stateview:"  # what every key of a namespace starts with


class ForeignKey(NamedTuple):
    """A key of the server: a string's value and when it expires (0: never), or the type of what is no string."""

    key: str
    value: bytes
    expires: int
    type: str = "string"


def scan(backend: RedisBackend, pattern: str) -> Iterator[list[ForeignKey]]:
    """Yield the keys that a pattern of the server's matches, page by page, each once; those of namespaces are left out.

    What is written meanwhile may be in it or not, as with every SCAN. O(keys of the server), and the names that match
    in memory; each page's values besides, some megabytes of them.

    Raises:
        BackendUnavailable, BackendError: the server does not answer, or refuses.
        Damaged: a key that is no UTF-8 text.

    """
    known: set[bytes] = set()
    page: list[bytes] = []
    skew = backend._with_retry(_skew)
    try:
        client = backend._connect()
        for name in client.scan_iter(match=pattern, count=KEYS_PER_READ):
            if name in known or name.startswith(OWN):
                continue
            known.add(name)
            page.append(name)
            if len(page) == KEYS_PER_READ:
                yield from _look(backend, page, skew)
                page = []
    except (RedisError, RedisClusterException) as error:
        raise to_state_error(error, backend.url, backend.namespace) from error
    if page:
        yield from _look(backend, page, skew)


def _skew(client: Any) -> int:
    """Return the microseconds by which a server's clock is ahead.

    The backend's own `now` would look for older data of a namespace that nobody asked for.
    """
    started = now()
    seconds, micros = client.time()
    return int(seconds) * 1_000_000 + int(micros) - (started + now()) // 2


def value(backend: RedisBackend, key: str) -> bytes | None:
    """Return the string under a key; None where there is none."""
    found: bytes | None = backend._with_retry(lambda client: client.get(key))
    return found


def _look(backend: RedisBackend, names: list[bytes], skew: int) -> Iterator[list[ForeignKey]]:
    replies = send_all(backend, [(word, name) for name in names for word in ("STRLEN", "PTTL")])
    moment = now() + skew
    others = [name for name, size in zip(names, replies[::2], strict=True) if isinstance(size, ResponseError)]
    out = []
    for name, kind in zip(others, send_all(backend, [("TYPE", name) for name in others]), strict=True):
        if isinstance(kind, ResponseError):
            raise to_state_error(kind, backend.url, backend.namespace)
        out.append(ForeignKey(_text(backend, name), b"", 0, kind.decode() if isinstance(kind, bytes) else str(kind)))
    if out:
        yield [one for one in out if one.type != "none"]
    some: list[tuple[bytes, int]] = []
    room = 0
    for name, size, left in zip(names, replies[::2], replies[1::2], strict=True):
        if isinstance(size, ResponseError) or left == -2:  # no string, or gone since
            continue
        if isinstance(left, ResponseError):
            raise to_state_error(left, backend.url, backend.namespace)
        if some and room + size > READ_BYTES:
            yield _values(backend, some)
            some, room = [], 0
        some.append((name, moment + left * 1000 if left >= 0 else 0))
        room += size
    if some:
        yield _values(backend, some)


def _values(backend: RedisBackend, some: list[tuple[bytes, int]]) -> list[ForeignKey]:
    found = send_all(backend, [("GET", name) for name, _ in some])
    out = []
    for (name, expires), data in zip(some, found, strict=True):
        if isinstance(data, ResponseError):
            raise to_state_error(data, backend.url, backend.namespace)
        if data is not None:  # else gone since
            out.append(ForeignKey(_text(backend, name), data, expires))
    return out


def send_all(backend: RedisBackend, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the replies to commands of one key each, errors among them. One round trip, or none for no command."""
    if not commands:
        return []

    def act(client: Any) -> list[Any]:
        with client.pipeline(transaction=False) as pipe:
            for words in commands:
                pipe.execute_command(*words)
            return list(pipe.execute(raise_on_error=False))

    return backend._with_retry(act)


def _text(backend: RedisBackend, name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        hint = "Give a pattern that leaves it out"
        raise Damaged(f"{backend.url}: the key {name[:60]!r} is not UTF-8 text", hint) from None
