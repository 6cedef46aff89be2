"""Look into a folder of diskcache: `diskcache:PATH`. Only its present state is kept.

The folder's cache is the namespace `default`; the shards of a `FanoutCache` are `000`, `001` and so on. A key that is
text stays as it is, unless it starts with `$`. The other keys have a prefix:

- `$str/…`: text that starts with `$`.
- `$int/0000000000000000042`, `$int/-…`: an integer of 19 digits, so that the order of names is that of the index.
- `$float/1.5`: a float.
- `$bytes/HEX`, `$pickle/HEX`: bytes, and the pickle of any other key. It is not opened.
- `$odd/TYPE-SHA256`: a key that is too long for a name, is empty, or has a NUL.

Each kind of name is a lane: a range of the table's index on the key, read in the order of the names.
"""

from __future__ import annotations

import math
import os
import re
import stat
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import islice
from math import inf
from typing import Any, NamedTuple

import apsw

from ... import codec
from ...errors import KeyNotFound
from .. import Store
from ..files.durable_files import file_error
from ..key_ranges import prefix_end
from ..protocol import SUMMARY_BYTES, Backend, Version
from . import values
from .present import Bounds, Entry, PresentBackend
from .sqlite_file import SqliteFile, rows

TABLES = {
    "Cache": ("key", "raw", "store_time", "expire_time", "size", "mode", "filename", "value"),
    "Settings": ("key", "value"),
}
WHAT = "a cache of diskcache"
_DATABASE = "cache.db"
_SHARD = re.compile(r"\d{3}")
_FILE = re.compile(r"[\w.-]+(/[\w.-]+)*", re.ASCII)
_BINARY, _TEXT, _PICKLE = 2, 3, 4
_NOT_DECODED: dict[object, str] = {_BINARY: "bytes", _PICKLE: "pickle"}  # where it is in a file
_MAX_TEXT_KEY, _MAX_BYTES_KEY = 1000, 500  # bytes; hexadecimal digits take twice that, and a key has 1,024
_DIGITS = 19
_MAX_INT = 2**63 - 1
_SECOND = 1_000_000
_MAX_SECONDS = 250_000_000_000  # the year 9892: Python knows no year after 9999
_LARGE_BYTES = 100_000  # of a value of which a list of keys reads the start alone
# SQLite's length() of a text counts the characters before its first NUL, so that ASCII without NUL needs no search
_PLAIN_TEXT = f"""octet_length(key) BETWEEN 1 AND {_MAX_TEXT_KEY}
    AND (length(key) = octet_length(key) OR instr(CAST(key AS BLOB), x'00') = 0)"""
_PLAIN_BYTES = f"octet_length(key) <= {_MAX_BYTES_KEY}"
_WHOLE = "store_time, expire_time, size, mode, filename, value, octet_length(value), typeof(value)"
_COLUMNS = _WHOLE.replace(" value,", f" CASE WHEN octet_length(value) <= {_LARGE_BYTES} THEN value END,")
_WITHIN = {"text": _PLAIN_TEXT, "hex": _PLAIN_BYTES, "int": "typeof(key) = 'integer'"}


class Row(NamedTuple):
    """A row of the cache. `value` is None if it is in a file, or large; `length` is its size, and `type` SQLite's."""

    store_time: object
    expire_time: object
    size: object
    mode: object
    filename: object
    value: Any
    length: int | None
    type: str


class Range(NamedTuple):
    """A condition of SQL that holds for a range of the index, and its values."""

    condition: str
    values: tuple[Any, ...] = ()


class Lane(NamedTuple):
    """The keys of one kind, in the order of their names: `prefix`, and then the name of the key.

    Its keys are from `first` up to `last`, itself not among them, with the condition `within`. The index sorts numbers
    before text, and text before bytes.
    """

    prefix: str
    kind: str
    first: Any = None
    last: Any = None
    within: str = ""
    raw: int = 1
    descending: bool = False

    def name(self, key: Any) -> str:
        """Return the name of a key."""
        if self.kind == "int":
            return f"{self.prefix}{abs(key):0{_DIGITS}}"
        return f"{self.prefix}{key.hex() if self.kind == 'hex' else key}"

    def key(self, name: str) -> Any:
        """Return the key that has a name; None if no key has."""
        rest = name[len(self.prefix) :]
        if self.kind == "text":
            return rest if rest.startswith("$") == (self.prefix != "") else None
        if self.kind == "hex":
            return bytes.fromhex(rest) if re.fullmatch("([0-9a-f]{2})*", rest) else None
        if not re.fullmatch(f"[0-9]{{{_DIGITS}}}", rest) or int(rest) > _MAX_INT + self.descending:
            return None
        return -int(rest) if self.descending else int(rest)

    def overlaps(self, low: str, high: str) -> bool:
        """Return whether names from `low` up to `high` may be of this lane."""
        return not ((high and high <= self.prefix) or (self.prefix and low >= prefix_end(self.prefix)))

    def range(self, low: str, high: str) -> Range | None:
        """Return the range of the index that has all keys with names from `low` up to `high`; None if it is empty.

        It may have some more keys at either end. Each end has one bound: of two, SQLite might search by the other.
        """
        if not self.overlaps(low, high):
            return None
        first = low[len(self.prefix) :] if low.startswith(self.prefix) else ""
        last = high[len(self.prefix) :] if high.startswith(self.prefix) else ""
        if self.kind == "text":
            stop = last if last and (self.last == b"" or last < self.last) else self.last
            start = max(first, self.first)
            return None if stop != b"" and start >= stop else Range("key >= ? AND key < ?", (start, stop))
        if self.kind == "hex":
            begin = bytes.fromhex(_leading(first, "[0-9a-f]", even=True))
            end = _following(bytes.fromhex(_leading(last, "[0-9a-f]", even=True)))
            return Range("key >= ?", (begin,)) if end is None else Range("key >= ? AND key < ?", (begin, end))
        small = min(int(_leading(first, "[0-9]").ljust(_DIGITS, "0")[:_DIGITS]), _MAX_INT)
        large = int(_leading(last, "[0-9]").ljust(_DIGITS, "9")[:_DIGITS])
        if self.descending:
            return Range("key BETWEEN ? AND ?", (max(-large, -_MAX_INT - 1), min(-small, -1)))
        return Range("key BETWEEN ? AND ?", (small, min(large, _MAX_INT)))


def _leading(text: str, pattern: str, even: bool = False) -> str:
    """Return the longest start of a text whose characters all match a pattern."""
    found = re.match(f"{pattern}*", text)
    start = found[0] if found else ""
    return start[: len(start) // 2 * 2] if even else start


def _following(data: bytes) -> bytes | None:
    """Return the first bytes above all bytes that start with these; None if there are none."""
    stem = data.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


_LANES = (
    Lane("", "text", "", "$", _PLAIN_TEXT),
    Lane("$bytes/", "hex", within=_PLAIN_BYTES),
    Lane("$float/", "memory"),
    Lane("$int/-", "int", within="typeof(key) = 'integer'", descending=True),
    Lane("$int/", "int", within="typeof(key) = 'integer'"),
    Lane("$odd/", "memory"),
    Lane("$pickle/", "hex", within=_PLAIN_BYTES, raw=0),
    Lane("$str/", "text", "$", "%", _PLAIN_TEXT),
    Lane("", "text", "%", b"", _PLAIN_TEXT),
)
_ODD = (
    f"raw = 1 AND key >= '' AND key < x'' AND NOT ({_PLAIN_TEXT})",
    f"raw IN (0, 1) AND key >= x'' AND NOT ({_PLAIN_BYTES})",
)
_GONE = "a file that is missing"
_MISSING = codec.encode(values.opaque(_GONE))
_LIVE = "(expire_time IS NULL OR expire_time > ?)"


class DiskCache(PresentBackend):
    """A folder of diskcache, or a shard of a `FanoutCache`. See the protocol `Backend` for each method."""

    kind = "diskcache"
    title = WHAT

    def __init__(self, store: Store, namespace: str, **options: Any) -> None:
        super().__init__(store, namespace, **options)
        folder = os.path.dirname(self.place) if os.path.basename(self.place) == _DATABASE else self.place
        self.place = folder
        self.folder = folder if namespace == "default" else os.path.join(folder, namespace)
        self._exists = namespace == "default" or _SHARD.fullmatch(namespace) is not None
        self._file = SqliteFile(os.path.join(self.folder, _DATABASE), TABLES, WHAT, self.timeout)
        if namespace != "default":
            self.title = "a shard of a FanoutCache of diskcache"
        self._live = self._file
        self._memory: tuple[object, dict[str, list[tuple[str, int]]]] = (None, {})

    def close(self) -> None:
        self._file.close()

    @contextmanager
    def snapshot(self, whole: bool = False) -> Iterator[Backend]:
        """Open a backend that reads one state, by one read transaction. No writer waits for it."""
        with super().snapshot(whole) as state, self._file.held() as file:
            if isinstance(state, DiskCache) and state is not self:
                state._file, state._memory = file, (None, {})
            yield state

    @property
    def reading(self) -> str:
        has_moved = self._pinned is not None and self._file.has_moved
        return "the owner wrote meanwhile, so the values are of several moments" if has_moved else ""

    def namespaces(self) -> list[str]:
        """Return `default`, or the shards. A folder that is no cache is an error, so that a wrong path is told."""
        try:
            inside = sorted(os.listdir(self.place))
        except FileNotFoundError:
            raise KeyNotFound(f"there is no folder {self.place}", "Check the path") from None
        except OSError as error:
            raise file_error(error, self.place) from error
        if _DATABASE in inside:
            return ["default"]
        return [name for name in inside if _SHARD.fullmatch(name) and self._has_database(name)]

    def _has_database(self, shard: str) -> bool:
        return os.path.isfile(os.path.join(self.place, shard, _DATABASE))

    def mark(self) -> tuple[object, int] | None:
        """Return the times and sizes of the database's files. O(1)."""
        if not self._exists or (not os.path.exists(self._file.path) and self.namespaces()):
            return None  # the folder is a cache, which has no such namespace
        marks: list[object] = []
        last = 0
        for path in (self._file.path, f"{self._file.path}-wal"):
            try:
                status = os.stat(path)
            except FileNotFoundError:
                marks.append(None)
            except OSError as error:
                raise file_error(error, path) from error
            else:
                marks += [status.st_ino, status.st_mtime_ns, status.st_size]
                last = max(last, status.st_mtime_ns // 1000)
        return tuple(marks), last

    # --- keys --------------------------------------------------------------------------------------------------

    def count_of(self, bounds: Bounds) -> int:
        return self._file.read(lambda db: self._count(db, bounds))

    def _count(self, db: apsw.Connection, bounds: Bounds) -> int:
        if not bounds.low and not bounds.high:
            (total,) = rows(db, "SELECT count(*) FROM Cache")[0]
            (expired,) = rows(db, "SELECT count(*) FROM Cache WHERE expire_time <= ?", (bounds.time / _SECOND,))[0]
            return int(total - expired)
        return sum(1 for _ in self._listed(db, bounds))

    def names(self, bounds: Bounds, limit: int) -> list[str]:
        return self._file.read(lambda db: [name for name, _ in islice(self._listed(db, bounds), limit)])

    def entries(self, bounds: Bounds, limit: int, skip: int = 0, backwards: bool = False) -> list[Entry]:
        return self._file.read(lambda db: self._entries(db, bounds, limit, skip, backwards))

    def _entries(self, db: apsw.Connection, bounds: Bounds, limit: int, skip: int, backwards: bool) -> list[Entry]:
        page = list(islice(self._listed(db, bounds, backwards), skip, skip + limit))
        is_json = self._is_json(db)
        return [self._entry(db, name, row, is_json) for name, row in (reversed(page) if backwards else page)]

    def _listed(self, db: apsw.Connection, bounds: Bounds, backwards: bool = False) -> Iterator[tuple[str, int]]:
        """Yield the names within bounds, in order, each with its row."""
        for lane in reversed(_LANES) if backwards else _LANES:
            yield from self._names(db, lane, bounds, backwards)

    def _names(self, db: apsw.Connection, lane: Lane, bounds: Bounds, backwards: bool) -> Iterator[tuple[str, int]]:
        """Yield the names of a lane within bounds, in order, each with its row. It reads no value."""
        if lane.kind == "memory":
            if not lane.overlaps(bounds.low, bounds.high):
                return
            kept = self._in_memory(db)[lane.prefix]
            low = bisect_left(kept, (bounds.low, -1))
            places = range(low, bisect_left(kept, (bounds.high, -1)) if bounds.high else len(kept))
            for name, row in map(kept.__getitem__, reversed(places) if backwards else places):
                if rows(db, f"SELECT 1 FROM Cache WHERE rowid = ? AND {_LIVE}", (row, bounds.time / _SECOND)):
                    yield name, row
            return
        part = lane.range(bounds.low, bounds.high)
        if part is None:
            return
        order = "DESC" if lane.descending != backwards else "ASC"
        where = f"raw = {lane.raw} AND {lane.within} AND {part.condition} AND {_LIVE}"
        query = f"SELECT key, rowid FROM Cache WHERE {where} ORDER BY key {order}"
        for key, row in db.execute(query, (*part.values, bounds.time / _SECOND)):
            name = lane.name(key)
            if name < bounds.low or (bounds.high and name >= bounds.high):
                if (name < bounds.low) == backwards:
                    return  # past the far end
                continue
            yield name, row

    def _in_memory(self, db: apsw.Connection) -> dict[str, list[tuple[str, int]]]:
        """Return the names that are in no order of the index, sorted. O(keys) after a change: it reads the index."""
        version = self._file.data_version(db)
        if self._memory[0] != version:
            floats = rows(db, "SELECT key, rowid FROM Cache WHERE key < '' AND typeof(key) = 'real' AND raw = 1")
            columns = "typeof(key), raw, CAST(key AS BLOB), rowid"
            odd = [row for where in _ODD for row in rows(db, f"SELECT {columns} FROM Cache WHERE {where}")]
            self._memory = (
                version,
                {
                    "$float/": sorted((f"$float/{key!r}", row) for key, row in floats),
                    "$odd/": sorted((_odd_name(kind, raw, data), row) for kind, raw, data, row in odd),
                },
            )
        return self._memory[1]

    def _row(self, db: apsw.Connection, name: str, time: int) -> int | None:
        """Return the row of a key that is there, and not expired at a time."""
        lane = next((one for one in _LANES if one.prefix and name.startswith(one.prefix)), _LANES[0])
        if lane.kind == "memory":
            kept = self._in_memory(db)[lane.prefix]
            at = bisect_left(kept, (name, -1))
            if at == len(kept) or kept[at][0] != name:
                return None
            condition, value = "rowid = ?", kept[at][1]
        else:
            condition, value = f"key = ? AND raw = {lane.raw} AND {_WITHIN[lane.kind]}", lane.key(name)
        found = rows(db, f"SELECT rowid FROM Cache WHERE {condition} AND {_LIVE}", (value, time / _SECOND))
        return found[0][0] if found else None

    # --- values ------------------------------------------------------------------------------------------------

    def _is_json(self, db: apsw.Connection) -> bool:
        """Return whether the cache was made with `JSONDisk`, which stores JSON that zlib compressed."""
        return bool(rows(db, "SELECT 1 FROM Settings WHERE key = 'disk_compress_level'"))

    def _entry(self, db: apsw.Connection, name: str, row: int, is_json: bool) -> Entry:
        """Return an entry. Of a large value, and of a file, it reads the start alone, and the size is about right."""
        stored = Row(*rows(db, f"SELECT {_COLUMNS} FROM Cache WHERE rowid = ?", (row,))[0])
        times = _micros(stored.store_time), _micros(stored.expire_time)
        is_file = stored.filename is not None and (stored.mode == _TEXT or is_json)
        if not is_file and (stored.value is not None or not stored.length):
            value = self._value(stored, is_json)
            return Entry(name, len(value), value[:SUMMARY_BYTES], *times)
        if is_file:
            data, size = self._content(stored, SUMMARY_BYTES), _size(stored.size) or 0
        else:
            start = rows(
                db, f"SELECT substr(CAST(value AS BLOB), 1, {SUMMARY_BYTES}) FROM Cache WHERE rowid = ?", (row,)
            )
            data, size = start[0][0], stored.length or 0
        is_text = not is_json and (is_file or stored.type == "text")
        shown = codec.encode(data.decode(errors="ignore"))[:-1] if is_text and isinstance(data, bytes) else b""
        return Entry(name, size + 2 * is_text, shown[:SUMMARY_BYTES], *times)

    def encoded(self, keys: list[str], time: int, enough: float = inf) -> list[Version]:
        found, gone = self._file.read(lambda db: self._versions(db, keys, time, enough))
        if gone:  # the owner has written other values since, or none
            anew, _ = self._live.read(lambda db: self._versions(db, gone, time))
            found = {key: anew.get(key) if key in gone else one for key, one in found.items()}
        return [one for one in found.values() if one is not None]

    def _versions(
        self, db: apsw.Connection, keys: Iterable[str], time: int, enough: float = inf
    ) -> tuple[dict[str, Version | None], list[str]]:
        """Return the versions of keys, and those of the keys whose file is missing."""
        is_json, found, gone, held = self._is_json(db), dict[str, Version | None](), list[str](), 0
        for name in keys:
            row = self._row(db, name, time)
            if row is None:
                continue
            stored = Row(*rows(db, f"SELECT {_WHOLE} FROM Cache WHERE rowid = ?", (row,))[0])
            entry = Entry(name, 0, b"", _micros(stored.store_time), _micros(stored.expire_time))
            value = self._value(stored, is_json)
            found[name] = self.version(entry, value)
            if value == _MISSING:
                gone.append(name)
            held += len(value)
            if held >= enough:
                break
        return found, gone

    def _value(self, stored: Row, is_json: bool) -> bytes:
        """Encode a value by its mode. A file that is not read is named: each value has a new one."""
        if stored.filename is not None:
            kind = "JSON by zlib" if is_json else _NOT_DECODED.get(stored.mode, "text")
            size = _size(stored.size)
            if kind in _NOT_DECODED.values() or (size or 0) > codec.MAX_BYTES:
                return codec.encode(values.opaque(f"{kind} in a file", size=size, file=str(stored.filename)))
        elif stored.mode == _PICKLE and not is_json:
            return values.encode(_shown("pickle", stored.value), None, "pickle")
        data = stored.value if stored.filename is None else self._content(stored, codec.MAX_BYTES + 1)
        if isinstance(data, values.Marked):  # the file cannot be read
            return codec.encode(data)
        if is_json and isinstance(data, bytes):
            plain = values.inflated(data)
            return codec.encode(values.opaque("JSON by zlib", data)) if plain is None else values.json_text(plain)
        if stored.filename is not None and stored.mode == _TEXT and isinstance(data, bytes):
            data = values.shown_text(data)
        return values.encode(data, str(data).encode(errors="replace"), type(data).__name__)

    def _content(self, stored: Row, limit: int) -> bytes | values.Marked:
        """Read the file of a value, as far as a limit; an opaque value if it is missing, or no file of the folder."""
        name = str(stored.filename)
        if not _FILE.fullmatch(name) or ".." in name.split("/"):
            return values.opaque("a file outside the folder")
        path = os.path.join(self.folder, name)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(handle, "rb") as file:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    return values.opaque("no file")
                return file.read(limit)
        except FileNotFoundError:
            return values.opaque(_GONE)
        except OSError as error:
            return values.opaque(f"a file that cannot be read: {error.strerror}")


def _odd_name(kind: str, raw: object, data: object) -> str:
    content = data if isinstance(data, bytes) else repr(data).encode()
    return f"$odd/{'pickle' if raw == 0 else kind}-{sha256(repr(raw).encode() + kind.encode() + content).hexdigest()}"


def _shown(kind: str, data: object) -> Any:
    return values.opaque(kind, data) if isinstance(data, bytes) else data


def _size(size: object) -> int | None:
    return size if type(size) is int else None


def _micros(seconds: object) -> int:
    """Return a time of the cache in microseconds; 0 if it has none, or none that is a time."""
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        return 0
    return int(min(max(seconds, 0), _MAX_SECONDS) * _SECOND)
