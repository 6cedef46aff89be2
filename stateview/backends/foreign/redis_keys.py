"""Look at the keys of any application on a Redis server: `redis-keys://HOST:PORT/DB?match=GLOB`.

The namespace is `default`. A key of the server is a key, see `names.bytes_key`. Its value is the string, as JSON where
it is JSON; or an object with one marker, `$hash`, `$list`, `$set`, `$zset` or `$stream`, and `count` and `sha256` where
only the first members are shown. Keys of stateview's own namespaces are left out: `redis://` opens these.

A server sorts no keys. Their names are read once, by SCAN, and sorted in memory: at most `limit` of them (an option of
the URL). Without that option, it takes `SCAN_SECONDS` at most. Where these were not all, a note and `cut_off` say so.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import sha256
from math import inf
from typing import Any, NamedTuple
from urllib.parse import unquote

from redis.exceptions import NoPermissionError, ResponseError

from ... import codec
from ...errors import InvalidName, StateException
from ...model import Finding, now
from .. import Store
from ..notes import say_once
from ..protocol import SUMMARY_BYTES, ProgressText, StoreIdentity, Version
from ..redis.backend import RedisBackend
from ..redis.connections.client import encode_bulk, sent
from ..redis.connections.errors import to_state_error
from ..redis.foreign_keys import OWN, READ_BYTES
from . import names, values
from .present import Bounds, Entry, PresentBackend

DEFAULT_LIMIT = 100_000
SCAN_SECONDS = 2.0
MAX_MEMBERS = 1000  # of a collection that are shown
_LISTED_MEMBERS = 20  # that a list of keys reads
_LISTED_BYTES = 4096  # of a string that a list of keys reads
_LISTED_MEMORY = 65_536  # of a collection from which a list of keys reads members
_SAMPLES = 100  # members by which a server tells the memory of a collection
_MEMBER_BYTES = 3  # that JSON needs for a member
_KEYS_PER_SCAN = 10_000
_KEYS_PER_READ = 500
_MIN_INDEX_SECONDS, _REST_FACTOR = 5.0, 20.0  # an index is as old as this, or as this many times its making, at most
_GONE = "none"
_UNREADABLE = "that this user may not read"
_NARROWER = "Give a narrower match=GLOB, or limit=NUMBER, in the URL"

Command = tuple[object, ...]


class Index(NamedTuple):
    """The keys that were found, sorted, and the names of those whose key is not their text."""

    serial: int
    keys: list[str]
    names: dict[str, bytes]
    time: int
    made_at: float
    seconds: float
    whole: bool

    def name(self, key: str) -> bytes:
        """Return the name on the server that a key stands for."""
        return self.names.get(key, key.encode())


class Found(NamedTuple):
    """A key of the server: its type, the milliseconds until it expires (below 0: never), its number and its members.

    A list of keys reads the members of small collections alone. Of others, `members` is the memory that they take, or
    None if that is not known.
    """

    type: str
    left: int
    number: int
    members: Any


def parse_url(url: str) -> tuple[str, bytes, int]:
    """Return the URL of the server, the pattern of the names, and how many names are read.

    Raises:
        InvalidName: an option is not valid.

    """
    address, _, query = url.partition("?")
    pattern, limit, scheme, rest = "*", DEFAULT_LIMIT, "redis", []
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name == "match":
            pattern = unquote(value)
        elif name == "limit":
            if not (value.isascii() and value.isdigit() and int(value[:10])):
                raise InvalidName(
                    "the option limit of redis-keys:// is not a number above 0", "Give such as limit=1000000"
                )
            limit = int(value[:10])
        elif name == "tls":
            scheme = "rediss"
        else:
            rest.append(part)
    start = f"{scheme}:{address.partition(':')[2]}"
    return (f"{start}?{'&'.join(rest)}" if rest else start), pattern.encode(), limit


class RedisKeys(PresentBackend):
    """The keys of any application on a Redis server. See the protocol `Backend` for each method."""

    kind = "redis-keys"
    title = "the plain keys of a Redis server"
    ranks_keys = True

    def __init__(
        self, store: Store, namespace: str, *, timeout: float | None = None, quiet: bool = False, **options: Any
    ) -> None:
        super().__init__(store, namespace, **options)
        self._quiet = quiet
        address, self._pattern, self._limit = parse_url(store.place)
        self._server = RedisBackend(address, store.shown, namespace, read_only=True, timeout=timeout)
        self._exists = namespace == "default"
        self._index: Index | None = None

    def close(self) -> None:
        self._server.close()

    def identity(self) -> StoreIdentity:
        return StoreIdentity((self.kind, self.place, self.namespace))

    def namespaces(self) -> list[str]:
        self.index()
        return ["default"]

    def mark(self) -> tuple[object, int] | None:
        if not self._exists:
            return None
        index = self.index()
        return index.serial, index.time

    def diagnose(self, progress: ProgressText) -> Iterator[Finding]:
        """Tell whether the names were all read."""
        yield from super().diagnose(progress)
        try:
            index = self.index()
        except StateException:
            return  # the check of the head reports it
        if not index.whole:
            found, meaning = (
                f"only {_first(index)} that SCAN returned are listed",
                "other keys are found by their names alone",
            )
            yield Finding("warning", self.url, found, meaning, _NARROWER, "keys-not-all")

    def cut_off(self) -> str:
        index = self._index
        return "" if index is None or index.whole else _first(index)

    @property
    def reading(self) -> str:
        return "the server keeps no state, so each key is as it was when it was read"

    # --- the index ---------------------------------------------------------------------------------------------

    def index(self) -> Index:
        """Return the sorted keys. They are read again when they are some seconds old."""
        with self._lock:
            old = self._index
            if self._pinned and old is not None:
                return old
            if old is not None and time.monotonic() - old.made_at < max(_MIN_INDEX_SECONDS, _REST_FACTOR * old.seconds):
                return old
            started, moment = time.monotonic(), now()
            found, whole = self._server._with_retry(self._scan)
            named = {names.bytes_key(name): name for name in found}
            keys = sorted(named)
            odd = {key: name for key, name in named.items() if key.startswith("$")}
            same = old is not None and old.keys == keys
            serial = 0 if old is None else old.serial + (not same)
            ended = time.monotonic()
            index = Index(serial, keys, odd, old.time if old and same else moment, ended, ended - started, whole)
            self._index = index
        if not (whole or self._quiet):
            text = f"{self.url}: only {_first(index)} that SCAN returned are listed, searched and counted. {_NARROWER}"
            say_once(text, about=f"the keys of {self.url}")
        return index

    def _scan(self, client: Any) -> tuple[set[bytes], bool]:
        """Return the names that match, and whether they are all. Bounded by the limit and by time."""
        found: set[bytes] = set()
        is_given = "limit=" in self.place.partition("?")[2]  # who gives a limit waits until it is reached
        cursor, deadline = 0, float("inf") if is_given else time.monotonic() + SCAN_SECONDS
        while True:
            cursor, page = client.scan(cursor, match=self._pattern, count=_KEYS_PER_SCAN)
            found.update(name for name in page if not name.startswith(OWN))
            if not cursor:
                break
            if len(found) >= self._limit or time.monotonic() > deadline:
                return found, False
        return found, True

    def _places(self, keys: list[str], bounds: Bounds) -> tuple[int, int]:
        low = bisect_left(keys, bounds.low)
        return low, max(low, bisect_left(keys, bounds.high) if bounds.high else len(keys))

    def count_of(self, bounds: Bounds) -> int:
        """Count the names. A key that has expired since counts until the names are read again."""
        low, high = self._places(self.index().keys, bounds)
        return high - low

    def names(self, bounds: Bounds, limit: int) -> list[str]:
        keys = self.index().keys
        low, high = self._places(keys, bounds)
        return keys[low : min(high, low + limit)]

    def entries(self, bounds: Bounds, limit: int, skip: int = 0, backwards: bool = False) -> list[Entry]:
        index = self.index()
        low, high = self._places(index.keys, bounds)
        if backwards:
            low, high = max(low, high - skip - limit), max(low, high - skip)
        else:
            low, high = min(high, low + skip), min(high, low + skip + limit)
        # A key that is gone has a row, too: a short page would seem the last
        return [
            Entry(key, *_summary(found), index.time, _expires(found))
            for key, found in self._look(index.keys[low:high], _LISTED_BYTES, _LISTED_MEMBERS, is_list=True)
        ]

    # --- values ------------------------------------------------------------------------------------------------

    def encoded(self, keys: list[str], time: int, enough: float = inf) -> list[Version]:  # noqa: ARG002
        index = self.index()  # the server judges expiry
        out: list[Version] = []
        held = 0
        for some in self._weighed([key for key in keys if self._is_known(index, key)]):
            for key, found in self._look(some, codec.MAX_BYTES, MAX_MEMBERS):
                if found.type == _GONE:
                    continue
                if found.type == "string" and found.number > codec.MAX_BYTES:
                    value = codec.encode(self._large_string(index.name(key), found))
                else:
                    value = _encoded(found, self._digest(index.name(key), found))
                held += len(value)
                out.append(self.version(Entry(key, 0, b"", index.time, _expires(found)), value))
            if held >= enough:
                break
        return out

    def _large_string(self, name: bytes, found: Found) -> values.Marked:
        """Return what shows a string over the limit of a value. It is read whole for its digest, part by part."""
        hashed, size = sha256(found.members), len(found.members)
        while size < found.number and isinstance(
            part := self._pipe([("GETRANGE", name, size, size + READ_BYTES - 1)])[0], bytes
        ):
            if not part:
                break  # it was cut meanwhile
            hashed.update(part)
            size += len(part)
        return values.opaque("string", size=size, sha256=values.digest(hashed))

    def _digest(self, name: bytes, found: Found) -> str:
        """Return a digest of a collection of which the first members alone are shown; "" of one over 64 MiB.

        A stream needs none: no entry is ever changed, and the first ones or their number tell what came and went.
        """
        is_cut = isinstance(found.members, (list, dict)) and found.number > len(found.members)
        if not is_cut or found.type == "stream":
            return ""
        (memory,) = self._pipe([("MEMORY", "USAGE", name)])
        (data,) = self._pipe([("DUMP", name)]) if isinstance(memory, int) and memory <= codec.MAX_BYTES else (None,)
        return values.digest(sha256(data)) if isinstance(data, bytes) else ""

    def _weighed(self, keys: list[str]) -> Iterator[list[str]]:
        """Yield the keys in groups whose values are some megabytes together, so that few are held at once."""
        index = self.index()
        some: list[str] = []
        held = 0
        for start in range(0, len(keys), _KEYS_PER_READ):
            part = keys[start : start + _KEYS_PER_READ]
            asked = [(*command, index.name(key)) for key in part for command in (("STRLEN",), ("MEMORY", "USAGE"))]
            sizes = self._pipe(asked) if len(keys) > 1 else [0, 0]
            for key, *replies in zip(part, sizes[::2], sizes[1::2], strict=True):
                size = next((reply for reply in replies if isinstance(reply, int)), 0)  # 0: it may not be read
                if some and held + size > READ_BYTES:
                    yield some
                    some, held = [], 0
                some.append(key)
                held += size
        if some:
            yield some

    def _is_known(self, index: Index, key: str) -> bool:
        at = bisect_left(index.keys, key)
        is_listed = at < len(index.keys) and index.keys[at] == key
        return is_listed or (not index.whole and not key.startswith("$") and not key.encode().startswith(OWN))

    def _look(
        self, keys: list[str], max_bytes: int, members: int, is_list: bool = False
    ) -> Iterator[tuple[str, Found]]:
        """Yield each key with what the server has under it. Two round trips for some hundred keys.

        For a list of keys, large collections and the types of modules are not read, and their `members` are None.
        """
        index = self.index()
        for start in range(0, len(keys), _KEYS_PER_READ):
            some = keys[start : start + _KEYS_PER_READ]
            named = [index.name(key) for key in some]
            heads = self._pipe([(word, name) for name in named for word in ("TYPE", "PTTL")])
            kinds = [f"key {_UNREADABLE}" if isinstance(kind, Exception) else _text(kind) for kind in heads[::2]]
            asked = [_commands(kind, name, max_bytes, members) for kind, name in zip(kinds, named, strict=True)]
            if is_list:
                self._leave_large(kinds, named, asked)
            replies = iter(self._pipe([command for commands in asked for command in commands]))
            found = [
                _found(kind, left, [next(replies) for _ in commands], members)
                for kind, left, commands in zip(kinds, heads[1::2], asked, strict=True)
            ]
            # A key that is gone since TYPE reads as an empty one
            empty = [at for at, one in enumerate(found) if one.members is not None and not one.number]
            for at, exists in zip(empty, self._pipe([("EXISTS", named[at]) for at in empty]), strict=True):
                if exists == 0:
                    found[at] = Found(_GONE, -1, 0, None)
            yield from zip(some, found, strict=True)

    def _leave_large(self, kinds: list[str], named: list[bytes], asked: list[list[Command]]) -> None:
        """Leave the members of large collections out of what is asked. A list of keys shows their number."""
        collections = [at for at, kind in enumerate(kinds) if kind != "string" and asked[at]]
        commands: list[Command] = [("MEMORY", "USAGE", named[at], "SAMPLES", _SAMPLES) for at in collections]
        for at, memory in zip(collections, self._pipe(commands), strict=True):
            if asked[at][0][0] == "DUMP":
                asked[at] = []
            elif not isinstance(memory, int) or memory > _LISTED_MEMORY:
                asked[at] = asked[at][:1] + ([("MEMORY", "USAGE", named[at])] if isinstance(memory, int) else [])

    def _send(self, commands: list[Command]) -> list[Any]:
        words = [[word if isinstance(word, bytes) else str(word).encode() for word in command] for command in commands]
        encoded = [b"*%d\r\n%b" % (len(command), encode_bulk(command)) for command in words]

        def act(client: Any) -> list[Any]:
            with sent(client.connection_pool, encoded) as replies:
                return replies()

        return self._server._with_retry(act)

    def _pipe(self, commands: list[Command]) -> list[Any]:
        """Return the replies to commands, and among them the errors that are about one key, or one command."""
        replies = self._send(commands) if commands else []
        for reply in replies:
            if isinstance(reply, Exception) and not (_is_wrong_type(reply) or _is_refused(reply)):
                raise to_state_error(reply, self.url, self.namespace)
        return replies


def _first(index: Index) -> str:
    return f"the first {len(index.keys):,}"  # the dashboard has little room for it


def _text(kind: object) -> str:
    return kind.decode(errors="replace") if isinstance(kind, bytes) else str(kind)


def _is_wrong_type(reply: Exception) -> bool:
    return isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply)


def _is_refused(reply: Exception) -> bool:
    """Return whether this user may not run a command, or not on a key, or the server has renamed the command."""
    unknown = isinstance(reply, ResponseError) and re.search("unknown (sub)?command", str(reply), re.IGNORECASE)
    return bool(unknown) or isinstance(reply, NoPermissionError)


def _commands(kind: str, name: bytes, max_bytes: int, members: int) -> list[Command]:
    """Return the commands that read the number of the members of a key, and the first of them."""
    last = members - 1
    known: dict[str, list[Command]] = {
        "string": [("STRLEN", name), ("GETRANGE", name, 0, max_bytes)],
        "hash": [("HLEN", name), ("HSCAN", name, 0, "COUNT", members)],
        "list": [("LLEN", name), ("LRANGE", name, 0, last)],
        "set": [("SCARD", name), ("SSCAN", name, 0, "COUNT", members)],
        "zset": [("ZCARD", name), ("ZRANGE", name, 0, last, "WITHSCORES")],
        "stream": [("XLEN", name), ("XRANGE", name, "-", "+", "COUNT", members)],
    }
    return known.get(kind, [("DUMP", name)] if kind != _GONE and _UNREADABLE not in kind else [])


def _found(kind: str, left: Any, replies: list[Any], members: int) -> Found:
    left = -1 if isinstance(left, Exception) else left
    if len(replies) == 1 and not isinstance(replies[0], int):  # what the server would write to its disk: its own type
        data = replies[0]
        return (
            Found(_GONE, -1, 0, None) if data is None else Found(kind, left, 1, data if type(data) is bytes else None)
        )
    for reply in replies:
        if isinstance(reply, Exception):
            changed = _is_wrong_type(reply)
            return Found("a type that changed meanwhile" if changed else f"{kind} {_UNREADABLE}", -1, 0, None)
    if not replies:
        return Found(kind, left, 0, None)
    count, content = (*replies, None)[:2]
    if content is None or isinstance(content, int):  # the members were not read
        return Found(kind, left, count, content)
    if kind == "hash":
        pairs = content[1]
        fields = pairs if isinstance(pairs, dict) else dict(zip(pairs[::2], pairs[1::2], strict=True))
        content = dict(sorted(fields.items())[:members])  # sorted, so that the same fields have the same digest
    elif kind == "set":
        content = sorted(content[1])[:members]
    return Found(kind, left, count, content)


def _expires(found: Found) -> int:
    return now() + found.left * 1000 if found.left >= 0 else 0


def _summary(found: Found) -> tuple[int, bytes]:
    """Return the size and the start of a value for a list of keys. The size of a large one is about right."""
    if found.type == _GONE:
        return 4, b"null"
    if found.number and not isinstance(found.members, (bytes, list, dict)):
        start = b'{"count":%d,"$%b":' % (found.number, found.type.encode())
        return max(found.members or 0, _MEMBER_BYTES * found.number, len(start) + 1), start
    value = _encoded(found)
    shown = len(found.members) if isinstance(found.members, (list, dict)) else 0
    size = len(value)
    if found.type == "string" and found.number > _LISTED_BYTES:
        size = found.number
    elif found.number > shown > 0:
        size = len(value) * found.number // shown
    return size, value[:SUMMARY_BYTES]


def _encoded(found: Found, digest: str = "") -> bytes:
    """Encode what shows a key of the server. The digest is that of a collection that is not shown whole."""
    kind, content = found.type, found.members
    if kind == "string":
        if found.number > len(content):  # of a list of keys, which reads the start
            return values.encode(content.decode(errors="ignore"), content, kind)
        return _string(content)
    shown: Any
    if kind == "hash":
        shown = {names.bytes_key(field): values.shown_text(value) for field, value in content.items()}
    elif kind in ("list", "set"):
        shown = [values.shown_text(item) for item in content]
    elif kind == "zset":
        shown = [[values.shown_text(item), score] for item, score in _scored(content)]
    elif kind == "stream":
        shown = [{"id": _text(place), "fields": _fields(fields)} for place, fields in _messages(content)]
    else:
        return codec.encode(values.opaque(kind, content))
    whole: dict[str, Any] = {f"${kind}": shown}
    if found.number > len(content):
        whole["count"] = found.number
        whole |= {"sha256": digest} if digest else {}
    return values.encode(values.Marked(whole), None, kind)


def _string(data: bytes) -> bytes:
    """Encode a string: as the JSON that it is, else as text, else as bytes."""
    try:
        return codec.normal(data)
    except StateException:
        return values.encode(values.shown_text(data), data, "string")


def _scored(content: Iterable[Any]) -> Iterator[tuple[bytes, float]]:
    """Yield the members of a sorted set. Replies differ by the protocol: pairs, or one list of both."""
    items = list(content)
    if items and isinstance(items[0], bytes):
        items = list(zip(items[::2], items[1::2], strict=True))
    for member, score in items:
        yield member, float(score)


def _messages(content: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    for message in content:
        yield message[0], message[1] or {}


def _fields(fields: Any) -> dict[str, Any]:
    pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=True)
    return {names.bytes_key(name): values.shown_text(value) for name, value in pairs}
