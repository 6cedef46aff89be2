"""Read what can be imported: an export, a plain JSON document, the older layouts, and the strings of any Redis.

`open_source` detects the kind of a source by its content. A source is never written to. `fill` copies its data into a
staged import.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from msgspec import Struct

from .. import codec
from ..backends import find_kind, open_backend
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
from ..errors import NOTHING_CHANGED, Damaged, InvalidName, KeyNotFound
from ..maintenance.history import iter_commits, marks_up_to, with_superseded_by
from ..model import Commit, check_key, now, to_datetime
from ..states.missing import check_exists
from ..states.steady import snapshot
from .files import ImportFile
from .formats import json_documents as documents
from .formats.jsonl import FIRST
from .formats.jsonl_reader import JsonlReader, Record
from .temporary_stores import TemporaryStores
from .version_pages import as_of, iter_pages

if TYPE_CHECKING:
    from ..sealing.keys import UserKey

LAYOUTS = ("jsonl", "json", "state")
SCHEMES = ("redis://", "rediss://", "redis+cluster://", "redis+sentinel://", "unix://")
MAX_DOCUMENT_BYTES = 1 << 30  # a JSON document is read into memory whole
VERSIONS_PER_PUT = 1000
COMMITS_PER_PUT = 1000
SECOND_MICROSECONDS = 1_000_000
_MAX_NAMED_KEYS = 20  # the report names this many keys that were left out


class Options(Struct, frozen=True):
    """Say how to read a source; see `StateManager.import_from`. `user_key` opens a sealed file."""

    layout: str | None = None
    pattern: str | None = None
    strip_prefix: str = ""
    text: bool = False
    skip: bool = False
    user_key: UserKey | None = None


class ImportSource(ABC):
    """A source of an import.

    Attributes:
        name: the user's name for it.
        description: what it contains, for a person.
        head: the head of the exported namespace; None if the source is not an export.
        expiry_slack: microseconds by which equal expiries may differ; None if the source stores no expiry.
        skipped: a text for each key that was left out; "" for all but the first.

    """

    head: Head | None = None
    expiry_slack: int | None = 0

    def __init__(self, name: str, description: str) -> None:
        self.name = name
        self.description = description
        self.skipped: list[str] = []

    @abstractmethod
    def fill(self, receiver: StagedImport, reason: str, author: str, progress: ProgressCount) -> Head:
        """Copy all data into a staged import, and return the head to finish it with. O(size), in bounded memory.

        Raises:
            Damaged: the source does not hold what its layout says. The caller drops the staged data.

        """

    def backend(self, space: TemporaryStores) -> Backend:
        """Return the source as a namespace of its own, in a temporary store."""
        namespace = space.open("sqlite", "import")
        receiver = namespace.open_staging()
        try:
            receiver.finish(self.fill(receiver, "", "", lambda _done, _total: None))
        finally:
            receiver.close()
        return namespace


class JsonlSource(ImportSource):
    """An export in JSON Lines, with its history."""

    def __init__(self, file: ImportFile) -> None:
        self._file = file
        with file.open() as opened:
            reader = JsonlReader(opened, file.name)
        self.head = reader.head
        exported = f"namespace {reader.header.namespace!r} at revision {self.head.revision}"
        super().__init__(file.name, f"an export (JSON Lines) of {exported}")

    def fill(self, receiver: StagedImport, reason: str, author: str, progress: ProgressCount) -> Head:  # noqa: ARG002
        with self._file.open() as opened:
            reader = JsonlReader(opened, self.name)
            if reader.head != self.head:
                raise Damaged(f"{self.name} was replaced during the import", (NOTHING_CHANGED, "Try again"))
            marks: list[CheckpointRecord] = []
            commits: list[Commit] = []
            versions = _versions(reader.records(), commits, marks, lambda: put(receiver, commits=commits))
            for page in _pages(with_superseded_by(versions)):
                put(receiver, page)
                progress(reader.bytes, self._file.size)
            put(receiver, commits=commits, marks=marks)
            return reader.head


def _versions(
    records: Iterable[Record], commits: list[Commit], marks: list[CheckpointRecord], flush: Callable[[], None]
) -> Iterator[Version]:
    """Yield the versions. Add the checkpoints and commits to lists; `flush` takes the commits when there are many."""
    for record in records:
        if isinstance(record, Version):
            yield record
        elif isinstance(record, CheckpointRecord):
            marks.append(record)
        else:
            commits.append(record)
            if len(commits) >= COMMITS_PER_PUT:
                flush()
                commits.clear()


def _pages(versions: Iterable[StoredVersion]) -> Iterator[list[StoredVersion]]:
    page: list[StoredVersion] = []
    size = 0
    for version in versions:
        page.append(version)
        size += len(version.value or b"")
        if len(page) >= VERSIONS_PER_PUT or size >= PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


def put(
    receiver: StagedImport, versions: Iterable[StoredVersion] = (), commits: Iterable[Commit] = (),
    marks: Iterable[CheckpointRecord] | None = None,
) -> None:  # fmt: skip
    """Put data into a staged import, with the note that tells an import from a migration."""
    receiver.put(versions, commits, marks, note={"import": True})


def _put_first_commit(receiver: StagedImport, count: int, time: int, reason: str, author: str) -> Head:
    """Add the commit that wrote all `count` keys, as revision 1; return the head."""
    put(receiver, commits=[Commit(1, to_datetime(time), reason, author, count)], marks=[])
    return Head(1, time, count, 0, os.urandom(16).hex())


def _layout_of(document: dict[str, Any], name: str) -> str:
    """Return the layout of a document.

    If all its values look like entries of a state.json, its name decides.

    Raises:
        InvalidName: the values look like entries, but the file has another name. They may be the values themselves.

    """
    if not documents.is_state(document):
        return "json"
    if os.path.basename(name) == "state.json":
        return "state"
    raise InvalidName(
        f"{name} can be read in two ways: every value is an object with a value and a timestamp, as in a state.json",
        "Give --as json (layout='json') to import these objects as the values, or --as state (layout='state') to import"
        " the 'value' of each",
    )


class JsonSource(ImportSource):
    """A JSON document in memory: an object `{key: value}`, or a state.json, whose entries have times."""

    def __init__(self, name: str, data: bytes, layout: str | None) -> None:
        document = documents.parse(data, name)
        if layout is None:
            layout = _layout_of(document, name)
        if layout == "state":
            versions: Iterable[Version] = documents.state_versions(data, name, now())
            kind = "the entries of a state.json"
        else:
            self.expiry_slack = None
            versions = documents.plain(document, name, now())
            kind = "a plain JSON object"
        self._versions = sorted(versions, key=lambda version: version.key)
        super().__init__(name, f"{kind} with {len(self._versions):,} keys")

    def fill(self, receiver: StagedImport, reason: str, author: str, progress: ProgressCount) -> Head:
        total, done = len(self._versions), 0
        time = now()
        rest = (StoredVersion(each.key, each.value, 1, each.time, each.expires) for each in self._versions)
        while page := list(islice(rest, VERSIONS_PER_PUT)):
            put(receiver, page)
            done += len(page)
            progress(done, total)
        return _put_first_commit(receiver, total, time, reason, author)


class StoreSource(ImportSource):
    """A namespace of another program's store, such as a thread of LangGraph, with its checkpoints as revisions."""

    def __init__(self, backend: Backend, title: str) -> None:
        self._backend = backend
        head = backend.head()
        check_exists(backend, head)
        self.head = head
        super().__init__(backend.url, f"{title}: {backend.namespace} at revision {head.revision}")

    def fill(self, receiver: StagedImport, reason: str, author: str, progress: ProgressCount) -> Head:  # noqa: ARG002
        """Copy all versions up to the head. What the owner writes meanwhile is left out."""
        with snapshot(self._backend, whole=True) as state:
            self.head = head = state.head()
            live = 0
            for page in iter_pages(state):
                put(receiver, as_of(page, head.revision))
                live += sum(not version.until and version.value is not None for version in page)
                progress(live, head.count)
            commits = iter_commits(state, head.revision + 1)
            while some := list(islice(commits, COMMITS_PER_PUT)):
                put(receiver, commits=some)
            put(receiver, marks=marks_up_to(state, head.revision))
            if reading := getattr(state, "reading", ""):
                self.description += f"; {reading}"
            return head


class RedisStringsSource(ImportSource):
    """The strings of a Redis whose keys match a pattern. They are read by `fill`."""

    expiry_slack = SECOND_MICROSECONDS  # Redis reports the remaining milliseconds, at a time that is not known exactly

    def __init__(self, server: Any, options: Options) -> None:
        self._server = server
        self._options = options
        super().__init__(server.url, f"the strings {options.pattern!r} of {server.url}")

    def fill(self, receiver: StagedImport, reason: str, author: str, progress: ProgressCount) -> Head:
        """Copy the strings. The names of the keys are kept in memory."""
        from ..backends.redis.foreign_keys import scan

        time, done = now(), 0
        stripped: dict[str, str] = {}  # the names by their keys
        for page in scan(self._server, self._options.pattern or "*"):
            versions = []
            for foreign in page:
                if foreign.type != "string":
                    self._skip(foreign.key, foreign.type)
                    continue
                key = self._strip(foreign.key, stripped) if self._options.strip_prefix else foreign.key
                value = self._value(foreign.key, foreign.value)
                versions.append(StoredVersion(check_key(key), value, 1, time, foreign.expires))
            put(receiver, versions)
            done += len(versions)
            progress(done, 0)
        if not done:
            hint = "A pattern is as in Redis's KEYS, such as 'app:*'"
            raise KeyNotFound(f"{self._server.url} has no string that matches {self._options.pattern!r}", hint)
        return _put_first_commit(receiver, done, time, reason, author)

    def _strip(self, name: str, stripped: dict[str, str]) -> str:
        key = name.removeprefix(self._options.strip_prefix)
        if not key:
            raise InvalidName(f"nothing is left of the key {name!r} without the prefix", "Give a shorter prefix")
        if stripped.setdefault(key, name) != name:
            raise InvalidName(f"the keys {stripped[key]!r} and {name!r} are the same without the prefix")
        return key

    def _skip(self, key: str, kind: str) -> None:
        if not self._options.skip:
            hint = "Give --skip (skip=True) to leave out keys that are not strings, or a narrower pattern"
            raise Damaged(f"{self._server.url}: the key {key[:60]!r} is a {kind}, not a string", hint)
        self.skipped.append(f"{key[:60]} ({kind})" if len(self.skipped) < _MAX_NAMED_KEYS else "")

    def _value(self, key: str, data: bytes) -> bytes:
        what = f"{self._server.url}: the value of {key[:60]!r}"
        try:
            return codec.normal(data, what)
        except Damaged as error:
            hint = "Give --string (text=True) to import values that are not JSON as text"
            if not self._options.text:
                raise Damaged(error.message, hint) from error
        try:
            return codec.encode(data.decode())
        except UnicodeDecodeError:
            raise Damaged(f"{what} is not UTF-8 text", "Give a pattern that leaves out this key") from None


def open_source(
    source: str | os.PathLike[str] | IO[bytes],
    space: TemporaryStores,
    options: Options,
    namespace: str,
) -> ImportSource:
    """Open a source, and detect its kind.

    Args:
        source: a path, a file open for reading bytes, the URL of a Redis or of another program's store, or `-` for
            standard input.
        space: where copies are made.
        options: how to read the source.
        namespace: the namespace to look for in another program's store, and of the older layout in a Redis.

    Raises:
        KeyNotFound: the source does not exist, or holds no known data.
        Damaged: the source does not hold what its layout says.
        Sealed: the file is sealed, and the key does not open it.
        InvalidName: the options do not fit the source.

    """
    from .legacy_sources import SQLITE_MAGIC, legacy_database, legacy_folder

    if options.layout not in (None, *LAYOUTS):
        raise InvalidName(f"there is no layout {options.layout!r}", f"The layouts are {', '.join(LAYOUTS)}")
    source = source if hasattr(source, "read") else os.fspath(source)
    if isinstance(source, str) and source.startswith(SCHEMES):
        return _redis(source, space, options, namespace)
    if options.pattern is not None or options.strip_prefix or options.text or options.skip:
        raise InvalidName("pattern, strip-prefix, string and skip need the URL of a Redis as the source")
    if isinstance(source, str) and source != "-":
        scheme, colon, path = source.partition(":")
        if colon and not os.path.exists(source):
            if scheme in ("json", "sqlite"):
                raise InvalidName(f"{source!r} is a store, not a file", f"See 'stateview migrate {scheme}:{path} …'")
            kind = find_kind(scheme)
            if kind is not None and kind.foreign:
                return _foreign(source, "", space, namespace)
        from ..backends.foreign.guess import find_guess

        found = find_guess(source)
        if found is not None and found.is_foreign:
            return _foreign(found.url, f"{found.url}, {found.found}", space, namespace)
        if os.path.isdir(source):
            return legacy_folder(source, space)
    file = ImportFile(source, space, options.user_key)
    with file.open() as opened:
        start = opened.read(16)
    if start == SQLITE_MAGIC:
        return legacy_database(file, space)
    try:
        codec.check_text_start(start)
    except UnicodeDecodeError as error:
        raise Damaged(f"{file.name}, line 1 column 1: {error.reason}", codec.SAVE_AS_UTF8) from error
    if options.layout == "jsonl" or (options.layout is None and start.startswith(FIRST)):
        return JsonlSource(file)
    if options.layout is None and os.path.basename(file.path) == "state.json" and file.is_plain:
        folder = os.path.dirname(os.path.abspath(file.path))
        is_adopted = os.path.exists(os.path.join(folder, "history.jsonl"))
        if not is_adopted and os.path.isdir(os.path.join(folder, "checkpoints")):
            return legacy_folder(folder, space)
    with file.open() as opened:
        data = opened.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        what = f"{file.name} is a document of over {MAX_DOCUMENT_BYTES:,} bytes"
        raise Damaged(what, "JSON Lines ('stateview export FILE.jsonl') have no such limit")
    return JsonSource(file.name, data, options.layout)


def is_older_redis(source: Any, options: Options) -> bool:
    """Return whether the source is the older layout in a Redis."""
    return isinstance(source, str) and source.startswith(SCHEMES) and options.pattern is None


def _foreign(url: str, title: str, space: TemporaryStores, namespace: str) -> ImportSource:
    """Open the namespace of this name in another program's store, or the only one of the store."""
    backend = open_backend(url, namespace, read_only=True)
    space.close_too(backend)
    if not backend.head().lineage and len(names := backend.namespaces()) == 1:
        backend = open_backend(url, names[0], read_only=True)
        space.close_too(backend)
    return StoreSource(backend, title or str(getattr(backend, "title", backend.url)))


def _redis(url: str, space: TemporaryStores, options: Options, namespace: str) -> ImportSource:
    from .legacy_sources import legacy_strings

    server: Any = open_backend(url, "default", read_only=True)
    space.close_too(server)
    if options.pattern is not None:
        return RedisStringsSource(server, options)
    if options.strip_prefix or options.text or options.skip:
        raise InvalidName("strip-prefix, string and skip go with a pattern", "Give such as --pattern 'app:*'")
    return legacy_strings(server, space, namespace)
