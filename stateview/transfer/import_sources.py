"""What can be imported: an export, a plain JSON document, the older layouts, and the strings of any Redis.

Each is told by what it is, not by its name, and none is ever written to. `fill` gives what it holds to a receiver.
"""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import stat
import sys
import tempfile
import weakref
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO, Any

from msgspec import Struct

from .. import codec
from ..backends import mask, open_backend
from ..backends.protocol import (
    PAGE_BYTES,
    Backend,
    CheckpointRecord,
    Head,
    ProgressCount,
    StagedImport,
    StoredVersion,
    Version,
)
from ..errors import NOTHING_CHANGED, BackendError, Damaged, Hint, InvalidName, KeyNotFound, StateException
from ..model import Commit, check_key, now, to_datetime
from ..states.compare import entries
from . import json_documents as documents
from .jsonl import FIRST, JsonlReader, with_superseded_by

LAYOUTS = ("jsonl", "json", "state")
SCHEMES = ("redis://", "rediss://", "redis+cluster://", "redis+sentinel://", "unix://")
MAX_DOCUMENT_BYTES = 1 << 30  # bytes of a document, which is taken into memory whole
SECOND_MICROSECONDS = 1_000_000
_SQLITE = b"SQLite format 3\0"
_MAX_NAMED_KEYS = 20  # names of what was passed over


class Options(Struct, frozen=True):
    """How a source is to be read. See `StateManager.import_from`."""

    layout: str | None = None
    pattern: str | None = None
    strip_prefix: str = ""
    text: bool = False
    skip: bool = False


class TemporaryStores:
    """A temporary folder, which goes with `close`, with the last reference to it, or with the process."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="stateview-")
        self._opened: list[Backend] = []
        self._end = weakref.finalize(self, _clear, self.folder, self._opened)

    def open(self, kind: str, namespace: str, name: str = "store") -> Backend:
        """Return a namespace in it."""
        backend = open_backend(f"{kind}:{os.path.join(self.folder, name)}", namespace)
        self._opened.append(backend)
        return backend

    def path(self, *names: str) -> str:
        """Return a place in it, whose folder is there."""
        path = os.path.join(self.folder, *names)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def close(self) -> None:
        """Remove it."""
        self._end()


def _clear(folder: str, opened: list[Backend]) -> None:
    for backend in opened:
        backend.close()
    shutil.rmtree(folder)


class ImportSource(ABC):
    """What something that is imported has in common with the rest.

    `name` is what the user calls it, `words` what it was found to be. `slack` is by how many microseconds expiries may
    differ and be the same all the same; None: it knows nothing of expiry. `skipped` names what was passed over.
    """

    slack: int | None = 0
    head: Head | None = None  # of what tells its revision and lineage

    def __init__(self, name: str, words: str) -> None:
        self.name = name
        self.words = words
        self.skipped: list[str] = []

    @abstractmethod
    def fill(self, receiver: StagedImport, reason: str, author: str, progress: ProgressCount) -> Head:
        """Put all of it into a receiver; returns the head to finish with. O(all of it), in bounded memory.

        Raises:
            Damaged: it is not what it seemed to be. What was put is to be dropped.

        """

    def backend(self, space: TemporaryStores) -> Backend:
        """All of it as a namespace of its own, in a workspace."""
        found = space.open("sqlite", "import")
        receiver = found.open_staging()
        try:
            receiver.finish(self.fill(receiver, "", "", lambda _done, _all: None))
        finally:
            receiver.close()
        return found


class JsonlSource(ImportSource):
    """An export as JSON Lines, with its history."""

    def __init__(self, file: ImportFile) -> None:
        self._file = file
        with file.open() as opened:
            header = JsonlReader(opened, file.name)
            self.head = header.head
        where = f"namespace {header.header.namespace!r} at revision {self.head.revision}"
        super().__init__(file.name, f"an export (JSON Lines) of {where}")

    def fill(self, receiver: StagedImport, reason: str, author: str, progress: ProgressCount) -> Head:  # noqa: ARG002
        with self._file.open() as opened:
            reader = JsonlReader(opened, self.name)
            if reader.head != self.head:
                raise Damaged(f"{self.name} was replaced while it was read", (NOTHING_CHANGED, "Try again"))
            marks: list[CheckpointRecord] = []
            commits: list[Commit] = []
            versions = with_superseded_by(
                _sort(reader.records(), commits, marks, lambda: _put(receiver, commits=commits))
            )
            for page in _pages(versions):
                _put(receiver, page)
                progress(reader.bytes, self._file.size)
            _put(receiver, commits=commits, marks=marks)
            return reader.head


def _sort(
    records: Iterable[Commit | CheckpointRecord | Version],
    commits: list[Commit],
    marks: list[CheckpointRecord],
    flush: Callable[[], None],
) -> Iterator[Version]:
    """Yield the versions; the commits, flushed now and then, and the marks go into lists."""
    for one in records:
        if isinstance(one, Version):
            yield one
        elif isinstance(one, CheckpointRecord):
            marks.append(one)
        else:
            commits.append(one)
            if len(commits) >= 1000:
                flush()
                commits.clear()


def _pages(versions: Iterable[StoredVersion]) -> Iterator[list[StoredVersion]]:
    page: list[StoredVersion] = []
    size = 0
    for one in versions:
        page.append(one)
        size += len(one.value or b"")
        if len(page) >= 1000 or size >= PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


def _put(
    receiver: StagedImport, versions: Iterable[StoredVersion] = (), commits: Iterable[Commit] = (),
    marks: Iterable[CheckpointRecord] | None = None,
) -> None:  # fmt: skip
    receiver.put(versions, commits, marks, note={"import": True})


def _first(count: int, moment: int, reason: str, author: str) -> tuple[Commit, Head]:
    """Return the first commit of a namespace, and where it stands then."""
    commit = Commit(1, to_datetime(moment), reason, author, count)
    return commit, Head(1, moment, count, 0, os.urandom(16).hex())


def _layout_of(found: dict[str, Any], name: str) -> str:
    """Return the layout of a document: by its name where its entries all look like those of a state.json.

    Values may have that form too: which is meant, only who has the file can say.
    """
    if not documents.is_state(found):
        return "json"
    if os.path.basename(name) == "state.json":
        return "state"
    raise InvalidName(
        f"{name} can be read in two ways: every entry is an object with a value and a timestamp, as in a state.json",
        "Give --as json to take these objects as the values, or --as state to take what is in their 'value'"
        " (layout='json', layout='state')",
    )


class JsonSource(ImportSource):
    """A JSON document in memory: `{key: value}`, or a state.json, whose entries tell their times."""

    def __init__(self, name: str, data: bytes, layout: str | None) -> None:
        found = documents.parse(data, name)
        if layout is None:
            layout = _layout_of(found, name)
        moment = now()
        if layout == "state":
            versions: Iterable[Version] = documents.versions(data, name, moment)
            words = "the entries of a state.json"
        else:
            self.slack = None
            versions = documents.plain(found, name, moment)
            words = "a plain JSON object"
        self._versions = sorted(versions, key=lambda one: one.key)
        super().__init__(name, f"{words} with {len(self._versions):,} keys")

    def fill(self, receiver: StagedImport, reason: str, author: str, progress: ProgressCount) -> Head:
        commit, head = _first(len(self._versions), now(), reason, author)
        rest = iter(self._versions)
        done = 0
        while page := list(islice(rest, 1000)):
            _put(receiver, [StoredVersion(one.key, one.value, 1, one.time, one.expires) for one in page])
            done += len(page)
            progress(done, len(self._versions))
        _put(receiver, commits=[commit], marks=[])
        return head


class LegacySource(ImportSource):
    """A namespace in a workspace, as which data of an older layout was taken in."""

    def __init__(self, name: str, words: str, found: Backend) -> None:
        self._found = found
        head = found.head()
        if not head.lineage:
            raise KeyNotFound(f"{name} holds nothing to import")
        super().__init__(name, f"{words}: {head.count:,} keys, {len(found.marks()):,} checkpoints")

    def backend(self, space: TemporaryStores) -> Backend:  # noqa: ARG002
        return self._found

    def fill(self, receiver: StagedImport, reason: str, author: str, progress: ProgressCount) -> Head:  # noqa: ARG002
        found, head = self._found, self._found.head()
        after, done = ("", 0), 0
        while page := found.versions_page(after):
            _put(receiver, page)
            after = page[-1].key, page[-1].revision
            done += sum(1 for one in page if not one.until and one.value is not None)
            progress(done, head.count)
        _put(receiver, commits=found.commits(1 << 30), marks=found.marks())
        return head


class RedisStringsSource(ImportSource):
    """The strings of a Redis whose keys match a pattern. Not read before they are wanted."""

    slack = SECOND_MICROSECONDS  # what is left of a life is told in milliseconds, at a time that is not quite known

    def __init__(self, server: Any, options: Options) -> None:
        self._server = server
        self._options = options
        super().__init__(server.url, f"the strings {options.pattern!r} of {server.url}")

    def fill(self, receiver: StagedImport, reason: str, author: str, progress: ProgressCount) -> Head:
        """See `ImportSource.fill`. The names of the keys are in memory."""
        from ..backends.redis.foreign_keys import scan

        moment, done = now(), 0
        stripped: dict[str, str] = {}
        for page in scan(self._server, self._options.pattern or "*"):
            put = []
            for one in page:
                if one.type != "string":
                    self._pass_over(one.key, one.type)
                    continue
                key = one.key
                if self._options.strip_prefix:
                    key = self._strip(one.key, stripped)
                put.append(StoredVersion(check_key(key), self._value(one.key, one.value), 1, moment, one.expires))
            _put(receiver, put)
            done += len(put)
            progress(done, 0)
        if not done:
            raise KeyNotFound(f"{self.words}: there are none", "The pattern is one of Redis's KEYS, such as 'app:*'")
        commit, head = _first(done, moment, reason, author)
        _put(receiver, commits=[commit], marks=[])
        return head

    def _strip(self, name: str, known: dict[str, str]) -> str:
        key = name.removeprefix(self._options.strip_prefix)
        if not key:
            raise InvalidName(f"nothing is left of the key {name!r} without the prefix", "Give a shorter prefix")
        if known.setdefault(key, name) != name:
            raise InvalidName(f"the keys {known[key]!r} and {name!r} are the same without the prefix")
        return key

    def _pass_over(self, key: str, kind: str) -> None:
        if not self._options.skip:
            hint = "Give --skip (skip=True) to leave out what is no string, or a narrower pattern"
            raise Damaged(f"{self._server.url}: the key {key[:60]!r} is a {kind}, not a string", hint)
        self.skipped.append(f"{key[:60]} ({kind})" if len(self.skipped) < _MAX_NAMED_KEYS else "")

    def _value(self, key: str, data: bytes) -> bytes:
        what = f"{self._server.url}: the value of {key[:60]!r}"
        try:
            return codec.normal(data, what)
        except Damaged as error:
            hint = "Give --string (text=True) to take what is not JSON as text"
            if not self._options.text:
                raise Damaged(error.message, hint) from error
        try:
            return codec.encode(data.decode())
        except UnicodeDecodeError:
            raise Damaged(f"{what} is not UTF-8 text", "Give a pattern that leaves it out") from None


def file_error(error: OSError, name: str) -> BackendError:
    """Return what the operating system says of a file that is read or written."""
    hints: dict[int, Hint] = {
        errno.ENOENT: "Check its path: the folder must be there",
        errno.EACCES: "Check who may read and write it", errno.EPERM: "Check who may read and write it",
        errno.ENOSPC: (NOTHING_CHANGED, "Free some space and try again"),
    }  # fmt: skip
    said = os.strerror(error.errno) if error.errno else str(error)
    return BackendError(f"{name}: {said}", hints.get(error.errno or 0, NOTHING_CHANGED))


def open_source(
    given: str | os.PathLike[str] | IO[bytes], space: TemporaryStores, options: Options, namespace: str
) -> ImportSource:
    """Find out what something is.

    Args:
        given: a path, a file that is open for reading bytes, the URL of a Redis, or `-` for standard input.
        space: where copies may lie.
        options: how to read it.
        namespace: whose keys to look for in a Redis of the older layout.

    Raises:
        KeyNotFound: there is nothing, or nothing known.
        Damaged: it cannot be read as what it is.
        InvalidName: options that do not go with it.

    """
    if options.layout not in (None, *LAYOUTS):
        raise InvalidName(f"there is no layout {options.layout!r}", f"It is one of {', '.join(LAYOUTS)}")
    given = given if hasattr(given, "read") else os.fspath(given)
    if isinstance(given, str) and given.startswith(SCHEMES):
        return _redis(given, space, options, namespace)
    if options.pattern is not None or options.strip_prefix or options.text or options.skip:
        raise InvalidName("pattern, strip-prefix, string and skip go with the URL of a Redis")
    if isinstance(given, str) and given != "-":
        scheme, colon, rest = given.partition(":")
        if colon and scheme in ("json", "sqlite") and not os.path.exists(given):
            raise InvalidName(f"{given!r} is a store, not a file", f"See 'stateview migrate {scheme}:{rest} …'")
        if os.path.isdir(given):
            return _folder(given, space)
    file = ImportFile(given, space)
    with file.open() as opened:
        start = opened.read(16)
    if start == _SQLITE:
        return _sqlite(file, space)
    if options.layout == "jsonl" or (options.layout is None and start.startswith(FIRST)):
        return JsonlSource(file)
    if options.layout is None and os.path.basename(file.path) == "state.json" and file.is_plain:
        folder = os.path.dirname(os.path.abspath(file.path))
        if not os.path.exists(os.path.join(folder, "history.jsonl")) and os.path.isdir(
            os.path.join(folder, "checkpoints")
        ):
            return _folder(folder, space)
    with file.open() as opened:
        data = opened.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        what = f"{file.name} is a document of over {MAX_DOCUMENT_BYTES:,} bytes"
        raise Damaged(what, "JSON Lines (stateview export FILE.jsonl) can be of any size")
    return JsonSource(file.name, data, options.layout)


class ImportFile:
    """A file that can be read more than once: as it lies, or a copy of what came through a pipe.

    Raises:
        Damaged, KeyNotFound: it is none.

    """

    def __init__(self, given: Any, space: TemporaryStores) -> None:
        self.is_plain = False
        self.name = "standard input" if given == "-" else str(getattr(given, "name", "the file"))
        if isinstance(given, str) and given != "-":
            self.name = self.path = given
            try:
                kind = os.stat(given).st_mode
            except FileNotFoundError as error:
                raise KeyNotFound(f"there is no file {given!r}") from error
            except OSError as error:
                raise file_error(error, given) from error
            if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
                raise Damaged(f"{given} is a device, not a file", "For standard input give -")
            self.is_plain = stat.S_ISREG(kind)
        if not self.is_plain:
            self._copy(given, space)
        with self._errors(), open(self.path, "rb") as file:
            self._zipped = file.read(2) == b"\x1f\x8b"
            # How much there is to read where it is compressed is not known
            self.size = 0 if self._zipped else os.fstat(file.fileno()).st_size

    def _copy(self, given: Any, space: TemporaryStores) -> None:
        self.path = space.path("input")
        with self._errors(), open(self.path, "wb") as copy:
            if isinstance(given, str) and given != "-":
                with open(given, "rb") as source:
                    shutil.copyfileobj(source, copy, 1 << 20)
            else:
                shutil.copyfileobj(_standard_input() if given == "-" else given, copy, 1 << 20)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file from its beginning, unpacked."""
        with self._errors():
            opener: Any = gzip.open if self._zipped else open
            with opener(self.path, "rb") as file:
                yield file

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise Damaged(f"{self.name}: what is packed in it (gzip) is cut off, or altered: {error}") from error
        except OSError as error:
            if isinstance(error, StateException):
                raise
            raise file_error(error, self.name) from error


def _standard_input() -> IO[bytes]:
    if sys.stdin is None or getattr(sys.stdin, "name", "") == os.devnull:  # which the command line has in its place
        raise InvalidName("standard input is closed", "Give a file, or 'stateview import - < FILE'")
    return sys.stdin.buffer


def _folder(path: str, space: TemporaryStores) -> ImportSource:
    """Return a folder of one of the older layouts."""
    from ..backends.legacy.json_files import find_key_files

    try:
        names = os.listdir(path)
    except OSError as error:
        raise file_error(error, path) from error
    if "history.jsonl" in names or _is_ours(os.path.join(path, "state.db")):
        root, name = os.path.split(os.path.abspath(path))
        kind = "json" if "history.jsonl" in names else "sqlite"
        hint = f"It is no file to import: see 'stateview migrate {kind}:{root} …'"
        raise InvalidName(f"{path} is the namespace {name!r} of a store", hint)
    if "state.db" in names:
        return _sqlite(ImportFile(os.path.join(path, "state.db"), space), space)
    saved = os.path.join(path, "checkpoints")
    if "state.json" in names:
        _copy_files([os.path.join(path, "state.json")], space, "older", "import")
        _copy_files(_json_files(saved), space, "older", "import", "checkpoints")
        return LegacySource(path, "an older state.json", space.open("json", "import", "older"))
    if loose := find_key_files(path):
        _copy_files(loose.values(), space, "older")
        for name in sorted(os.listdir(saved)) if os.path.isdir(saved) else ():
            folder = os.path.join(saved, name)
            if os.path.isdir(folder):
                os.makedirs(space.path("older", "checkpoints", name), exist_ok=True)
                _copy_files(_json_files(folder), space, "older", "checkpoints", name)
                shutil.copystat(folder, space.path("older", "checkpoints", name))
        return LegacySource(path, "files KEY.json of the older layout", space.open("json", "default", "older"))
    hint = "A folder holds KEY.json files, or an older state.json or state.db; of a store see 'stateview migrate'"
    raise KeyNotFound(f"{path} holds nothing that can be imported", hint)


def _json_files(folder: str) -> list[str]:
    if not os.path.isdir(folder):
        return []
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".json")]
    return [path for path in paths if os.path.isfile(path)]


def _copy_files(paths: Iterable[str], space: TemporaryStores, *folder: str) -> None:
    for path in paths:
        try:
            shutil.copy2(path, space.path(*folder, os.path.basename(path)))
        except OSError as error:
            raise file_error(error, path) from error


def _is_ours(path: str) -> bool:
    """Whether a file is a SQLite database of this package's, by the number in its header."""
    from ..backends.sqlite.schema import APPLICATION_ID

    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        start = file.read(100)
    return start.startswith(_SQLITE) and int.from_bytes(start[68:72], "big") == APPLICATION_ID


def _sqlite(file: ImportFile, space: TemporaryStores) -> ImportSource:
    if _is_ours(file.path):
        folder = os.path.dirname(os.path.abspath(file.path))
        hint = f"It is no file to import: see 'stateview migrate sqlite:{os.path.dirname(folder)} …'"
        raise InvalidName(f"{file.name} is the namespace {os.path.basename(folder)!r} of a store", hint)
    copy = space.path("older", "import", "state.db")
    for suffix in ("", "-wal", "-journal"):
        if os.path.exists(file.path + suffix):
            with file._errors():
                shutil.copyfile(file.path + suffix, copy + suffix)
    found = space.open("sqlite", "import", "older")
    try:
        return LegacySource(file.name, "an older state.db", found)
    except Damaged as error:
        raise Damaged(error.message.replace(copy, file.name), NOTHING_CHANGED) from error


def _redis(url: str, space: TemporaryStores, options: Options, namespace: str) -> ImportSource:
    server: Any = open_backend(url, "default", read_only=True)
    space._opened.append(server)
    if options.pattern is not None:
        return RedisStringsSource(server, options)
    if options.strip_prefix or options.text or options.skip:
        raise InvalidName("strip-prefix, string and skip go with a pattern", "Give such as --pattern 'app:*'")
    return _older_redis(server, space, namespace)


def _older_redis(server: Any, space: TemporaryStores, namespace: str) -> ImportSource:
    """Return the older layout in a Redis, adopted into a temporary store: the live state is not held in memory."""
    from ..backends.legacy.adoption import adopt
    from ..backends.legacy.redis_strings import read_strings
    from ..backends.redis.client import escape_match
    from ..backends.redis.foreign_keys import scan

    def find(prefix: str) -> Iterator[dict[str, bytes]]:
        for page in scan(server, escape_match(prefix) + "*"):
            yield {item.key: item.value for item in page if item.type == "string"}

    store = space.open("sqlite", "import")
    adopt(read_strings(find, namespace, mask(server.url)), _AdoptingStore(store))
    if not store.head().lineage:
        hint = "For other keys give --pattern; for a namespace of stateview's see 'stateview migrate'"
        raise KeyNotFound(f"{server.url} has no keys state:{namespace}:* or checkpoint:{namespace}:*", hint)
    return LegacySource(server.url, "the older layout in Redis", store)


class _AdoptingStore:
    """A store as the target of `adopt`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.read = backend.read
        self.commit = backend.commit

    def all_keys(self) -> Iterator[str]:
        return (version.key for version in entries(self._backend, None))
