"""Export and import: a namespace as a file, and what a file or a Redis holds as commits."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import msgspec
from msgspec import Raw, Struct

from .. import codec
from ..backends.durable_files import fsync_folder, remove, temporary
from ..backends.protocol import (
    Backend,
    CheckpointRecord,
    CheckpointWrite,
    CommitRequest,
    Head,
    ProgressCount,
    StateAt,
    Version,
    Write,
)
from ..errors import Conflict, HistoryPruned, InvalidName, KeyNotFound, NextStep, StateException, see
from ..model import Commit, to_micros
from ..states import compare as comparison
from ..states.compare import Pair
from ..states.json_diff import Change, Diff
from ..states.patterns import Selection
from ..states.retention import numbered_names, stamped_name
from ..states.view import StateView, resolve
from . import jsonl as portable
from .import_sources import ImportSource, Options, TemporaryStores, file_error, open_source

MAX_ATTEMPTS = 5  # of an export while more is written than the history keeps
DEADLINE_SECONDS = 30.0  # seconds of starting anew because others wrote meanwhile
VERSIONS_PER_PAGE = 4000
_FORCE = "Give force=True (--force) to take its values"
_NO_REVISION = 10**15  # a revision that no namespace comes to

Committer = Callable[[CommitRequest], Head]
Target = str | os.PathLike[str] | IO[bytes]


class ExportReport(Struct, frozen=True):
    """What an export wrote: of which namespace and revision, and how much. Of plain JSON the versions are the keys."""

    layout: str
    namespace: str
    revision: int
    versions: int
    commits: int = 0
    checkpoints: int = 0
    bytes: int = 0


class ImportReport(Struct, frozen=True):
    """What an import did, or would do.

    `found` says what the source was taken for, `how` is `"new"`, `"merge"` or `"replace"`. `diff` is what changed in a
    namespace that was there, `checkpoint` the one that was made before. `skipped` names the first keys that were
    passed over, which were `left_out` in all.
    """

    found: str
    how: str
    revision: int
    keys: int
    checkpoints: int
    diff: Diff | None = None
    checkpoint: str = ""
    skipped: tuple[str, ...] = ()
    left_out: int = 0


def no_progress(done: int, all: int) -> None:
    """Say nothing."""


# --- export -----------------------------------------------------------------------------------------------------------


def layout_of(name: str, layout: str | None, some: bool) -> str:
    """Return the layout of an export: what was asked for, else what the file's name says; `jsonl` where nothing does.

    Args:
        name: the file's name; "" where there is none.
        layout: `jsonl`, `json`, or None.
        some: whether a past state or some keys were asked for, which only plain JSON can hold.

    Raises:
        InvalidName: neither says, or they do not fit.

    """
    stem = name.removesuffix(".gz")
    found = layout or next((one for one in ("jsonl", "json") if stem.endswith("." + one)), None)
    if found is None and stem:
        raise InvalidName(
            f"{name!r} ends neither in .jsonl nor in .json", "Give it one of these, or say which (as, --as)"
        )
    found = found or ("json" if some else "jsonl")
    if found not in ("jsonl", "json"):
        raise InvalidName(f"there is no layout {found!r} to export", "It is jsonl or json")
    if some and found == "jsonl":
        raise InvalidName("a past state, or some keys, can be exported as plain JSON only", "Name a file with .json")
    return found


def export(
    backend: Backend, target: Target, layout: str | None = None, at: str | int | None = None,
    keys: Iterable[str] | str | None = None, overwrite: bool = False, progress: ProgressCount = no_progress,
) -> ExportReport:  # fmt: skip
    """See `StateManager.export`."""
    path = "" if hasattr(target, "write") else os.fspath(target)
    if target == "":
        raise InvalidName("the name of the file is empty", "Give a name that ends in .jsonl or .json")
    found = layout_of(path, layout, at is not None or keys is not None)
    straight = _is_special(path) if path else True
    if path and not straight:
        path = os.path.realpath(path)  # a link stays one
        if os.path.exists(path) and not overwrite:
            raise _exists(path)
    with _errors(path), _scratch("" if straight else path) as name:
        zipped = path.endswith(".gz")
        if found == "jsonl":
            done = _export_lines(backend, name, zipped, progress)
        else:
            done = _export_document(backend, name, zipped, at, keys, progress)
        size = os.path.getsize(name)
        if straight:
            _copy(name, target)
        else:
            _place(name, path, overwrite)
    return msgspec.structs.replace(done, bytes=size)


def _is_special(path: str) -> bool:
    """Whether there is a pipe or a device, which is written to as it is."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    if stat.S_ISDIR(mode):
        raise InvalidName(f"{path} is a folder", "Give the name of a file")
    return not stat.S_ISREG(mode)


def _exists(path: str) -> Conflict:
    return Conflict(f"{path} is there already; it was not overwritten", "Give overwrite=True (--yes), or another name")


@contextmanager
def _errors(path: str) -> Iterator[None]:
    """Hold the operating system's errors as ours, where they are of a file that was named."""
    try:
        yield
    except OSError as error:
        if not path or isinstance(error, (StateException, BrokenPipeError)):
            raise
        raise file_error(error, path) from error


@contextmanager
def _scratch(path: str) -> Iterator[str]:
    """Hold the name of a file to write.

    Beside `path`, or in a folder of its own. Gone in the end, if it is still there.
    """
    if not path:
        with tempfile.TemporaryDirectory(prefix="stateview-") as folder:
            yield os.path.join(folder, "export")
        return
    name = temporary(path)
    try:
        yield name
    finally:
        remove(name)


@contextmanager
def _writing(name: str, zipped: bool) -> Iterator[IO[bytes]]:
    """Hold a new file, packed if need be, durable when it is closed."""
    with open(name, "wb") as file:
        if zipped:
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                yield packed  # type: ignore[misc]
        else:
            yield file
        file.flush()
        os.fsync(file.fileno())


def _copy(name: str, target: Any) -> None:
    with open(name, "rb") as file:
        if hasattr(target, "write"):
            shutil.copyfileobj(file, target, 1 << 20)
            return
        with open(target, "wb") as out:
            shutil.copyfileobj(file, out, 1 << 20)


def _place(name: str, path: str, overwrite: bool) -> None:
    if overwrite:
        if os.path.exists(path):
            shutil.copymode(path, name)
        os.replace(name, path)
    else:
        try:
            os.link(name, path)
        except FileExistsError:
            raise _exists(path) from None
        except OSError:  # a file system without links
            if os.path.exists(path):
                raise _exists(path) from None
            os.rename(name, path)
    fsync_folder(os.path.dirname(path))


def _there(backend: Backend) -> Head:
    head = backend.head()
    if not head.lineage:
        what = f"there is no namespace {backend.namespace!r} in {backend.url}"
        raise KeyNotFound(what, see("namespaces"))
    return head


def _export_lines(backend: Backend, name: str, zipped: bool, progress: ProgressCount) -> ExportReport:
    """Write all that is kept as of one revision, whatever is written meanwhile.

    What is newer is left out. What that supersedes is still kept, unless the floor has risen past it: then the file is
    written once more with the floor of the end, from which on all was there all the time.
    """
    for _ in range(MAX_ATTEMPTS):
        head = _there(backend)
        marks = [mark for mark in backend.marks() if mark.revision <= head.revision]
        last = backend.commits(1, head.revision + 1)
        # The head of some backends tells the time of the last checkpoint where that came after
        time = head.time if head.revision else 0
        if last and last[0].revision == head.revision:
            time = to_micros(last[0].time)
        header = portable.Header(portable.FORMAT, backend.namespace, head.lineage, head.revision, head.floor, time)
        with _writing(name, zipped) as out:
            counts = portable.write(out, header, _commits(backend, head), marks, _versions(backend, head, progress))
        after = backend.head()
        if after.lineage != head.lineage:
            raise Conflict(f"namespace {backend.namespace!r} was dropped or replaced while it was exported")
        there = {(mark.name, mark.revision) for mark in backend.marks()}
        if after.floor <= head.revision and all((mark.name, mark.revision) in there for mark in marks):
            if after.floor > head.floor:
                counts = _raise_floor(name, zipped, after.floor)
            found = "jsonl", backend.namespace, head.revision, counts.versions, counts.commits, counts.checkpoints
            return ExportReport(*found)
    raise Conflict(
        f"more is written to namespace {backend.namespace!r} while it is exported than its history keeps",
        "Export a checkpoint as plain JSON (--at), or end its writers for a while",
    )


def _commits(backend: Backend, head: Head) -> Iterator[Commit]:
    below = head.revision + 1
    while page := backend.commits(1000, below):
        yield from page
        below = page[-1].revision


def _versions(backend: Backend, head: Head, progress: ProgressCount) -> Iterator[Version]:
    after, done = ("", 0), 0
    while page := backend.versions_page(after, VERSIONS_PER_PAGE):
        for one in page:
            done += not one.until and one.value is not None
            if one.revision <= head.revision:
                yield one
        # What is newer of a key is passed over: of one that is written again and again there would be no end
        after = page[-1].key, page[-1].revision if page[-1].revision <= head.revision else _NO_REVISION
        progress(done, head.count)


def _raise_floor(name: str, zipped: bool, floor: int) -> portable.Counts:
    """Write a file anew, without what no revision from a floor on can see."""
    opener: Any = gzip.open if zipped else open
    with opener(name, "rb") as file:
        reader = portable.JsonlReader(file, name)
        header = msgspec.structs.replace(reader.header, floor=floor)
        commits: list[Commit] = []
        marks: list[CheckpointRecord] = []
        records = reader.records()
        first: list[Version] = []
        for one in records:
            if isinstance(one, Version):
                first.append(one)
                break
            (commits if isinstance(one, Commit) else marks).append(one)  # type: ignore[arg-type]

        def versions() -> Iterator[Version]:
            yield from first
            yield from (one for one in records if isinstance(one, Version))

        other = temporary(name)
        try:
            with _writing(other, zipped) as out:
                counts = portable.write(out, header, commits, marks, versions())
            os.replace(other, name)
        finally:
            remove(other)
    return counts


def _export_document(
    backend: Backend,
    name: str,
    zipped: bool,
    at: str | int | None,
    keys: Iterable[str] | str | None,
    progress: ProgressCount,
) -> ExportReport:
    """Write `{key: value}`, keys sorted, two spaces of indentation: a line of a value is a line of a git diff."""
    head = _there(backend)
    ref = "live" if at is None else at
    point = resolve(backend, ref, head)
    if keys is not None:
        keys = [keys] if isinstance(keys, str) else list(keys)
    count = 0
    with _writing(name, zipped) as out:
        for one in StateView(backend, point, str(ref)).raw_entries(keys=keys):
            assert one.value is not None
            block = codec.pretty(msgspec.json.encode({one.key: Raw(one.value)}))
            out.write((b",\n" if count else b"{\n") + block[2:-2])  # without the braces and their line ends
            count += 1
            if count % 1000 == 0:
                progress(count, head.count)
        out.write(b"\n}\n" if count else b"{}\n")
    if keys is not None and not count:
        raise KeyNotFound(f"no key matches {' '.join(keys)!r} at {ref}", see("keys"))
    return ExportReport("json", backend.namespace, point.revision, count)


# --- import -----------------------------------------------------------------------------------------------------------


class ImportJob:
    """An import on its way: what was found, what it would change, and then the change.

    Args:
        backend: the namespace to import into.
        commit: what commits to it.
        given: what to import, see `open_source`.
        options: how to read it.
        how: `"merge"` or `"replace"`; None where the namespace is new.
        force: also what is of another lineage, or older.
        author: who, for the log.
        reason: for the log.
        progress: is told how much is done, and of how much; 0 where that is not known.

    Raises:
        Conflict: the namespace is there and `how` is not given, or it is of another lineage, or a later revision.

    """

    def __init__(
        self, backend: Backend, commit: Committer, given: Any, options: Options, how: str | None = None,
        force: bool = False, author: str = "", reason: str = "", progress: ProgressCount = no_progress,
    ) -> None:  # fmt: skip
        if how not in (None, "merge", "replace"):
            raise InvalidName(f"how={how!r}: it is merge or replace")
        self.backend = backend
        self.author = author
        self._commit = commit
        self.space = TemporaryStores()
        self.writes: dict[str, Write] = {}
        self._held: Backend | None = None
        self._live = StateAt(0, 0)
        self._looked = False
        self._progress = progress
        try:
            self.source: ImportSource = open_source(given, self.space, options, backend.namespace)
            self.head = backend.head()
            self.is_new = not self.head.lineage
            self.how = how or ("new" if self.is_new else "")
            if not self.is_new:
                self._check(force)
        except BaseException:
            self.space.close()
            raise
        self.reason = reason or f"import {self.source.name}"[:400] + (f" ({how})" if how else "")

    def __enter__(self) -> ImportJob:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was copied."""
        self.space.close()

    def _check(self, force: bool) -> None:
        head, found = self.head, self.source.head
        name, words = self.backend.namespace, self.source.words
        if not self.how:
            raise Conflict(
                f"namespace {name!r} of {self.backend.url} is there already: {head.count:,} keys at revision"
                f" {head.revision}; {self.source.name} is {words}",
                "Give how='merge' (--merge: write its keys, keep all others) or how='replace' (--replace: make all keys"
                " as in the source), or another namespace",
            )
        if found is None or force:
            return
        if found.lineage != head.lineage:
            raise Conflict(
                f"{self.source.name} is {words} of another lineage ({found.lineage[:8]}) than namespace"
                f" {name!r} ({head.lineage[:8]}): it is no earlier or later state of this namespace",
                _FORCE,
            )
        if found.revision < head.revision:
            raise Conflict(
                f"{self.source.name} is {words}: older than the live state, revision {head.revision}",
                (_FORCE, NextStep("Or restore that state from the history with ", ("restore", str(found.revision)))),
            )
        self._check_commit()

    def _check_commit(self) -> None:
        """Refuse what has the same beginning but went on by itself: the commit that is live is another one there."""
        revision = self.head.revision
        mine = [one for one in self.backend.commits(1, revision + 1) if one.revision == revision]
        theirs = [one for one in self._there().commits(1, revision + 1) if one.revision == revision]
        if mine and theirs and (mine[0].time, mine[0].reason) != (theirs[0].time, theirs[0].reason):
            raise Conflict(
                f"{self.source.name} is {self.source.words}, and its history diverged from this namespace: revision"
                f" {revision} is another commit in each",
                _FORCE,
            )

    def _there(self) -> Backend:
        if self._held is None:
            self._held = self.source.backend(self.space)
        return self._held

    # --- into a namespace that is there

    def refresh(self) -> None:
        """Find out what it would change in what is live now. O(keys), from the second time on O(changes since).

        Raises:
            Damaged: the source is not what it seemed to be.

        """
        other = self._there()
        previous = self._live if self._looked else None
        self._live = StateAt(self.backend.head().revision, self.backend.now())
        target = StateAt(other.head().revision, self._live.time)
        since: list[str] | None = None
        if previous is not None:
            try:
                since = self.backend.changed_keys(StateAt(previous.revision, 0), StateAt(self._live.revision, 0))
            except HistoryPruned:
                self.writes.clear()
        for key in since or ():
            self.writes.pop(key, None)
        self.writes.update(self._writes(self._pairs(since, target)))
        self._looked = True

    def _pairs(self, keys: list[str] | None, target: StateAt) -> Iterator[Pair]:
        """Yield the live version and the source's, of all keys or of some."""
        one, other = (self.backend, self._live), (self._there(), target)
        if keys is None:
            yield from comparison.merge_join(one, other)
            return
        for start in range(0, len(keys), comparison.KEYS_PER_PAGE):
            some = keys[start : start + comparison.KEYS_PER_PAGE]
            old, new = one[0].read(some, one[1]), other[0].read(some, other[1])
            yield from ((key, old.get(key), new.get(key)) for key in some)

    def _writes(self, pairs: Iterable[Pair]) -> Iterator[tuple[str, Write]]:
        for key, old, new in pairs:
            if new is None:
                if self.how == "replace" and old is not None:
                    yield key, Write(None)
            elif old is None or self._differ(key, old, new):
                yield key, Write(new.value, max(1, new.expires - self._live.time) if new.expires else 0)

    def _differ(self, key: str, old: Version, new: Version) -> bool:
        if old.value != new.value and comparison.change(key, old, new) is not None:
            return True
        slack = self.source.slack
        if slack is None or old.expires == new.expires:
            return False
        return not (old.expires and new.expires) or abs(old.expires - new.expires) > slack

    def preview(self) -> Diff:
        """Return what it would change in what was live at the last look, streamed; to be read before it is closed."""
        target = StateAt(self._there().head().revision, self._live.time)

        def source(held: ImportJob = self) -> Iterator[Change]:
            for start in range(0, len(keys := sorted(held.writes)), comparison.KEYS_PER_PAGE):
                for pair in held._pairs(keys[start : start + comparison.KEYS_PER_PAGE], target):
                    if found := comparison.change(*pair):
                        yield found

        return Diff("live", self.source.name, source)

    def execute(self, seen: bool = False) -> ImportReport:
        """Do it: make the namespace, or what was looked at as one commit, planned anew where others write meanwhile.

        Args:
            seen: someone has seen the preview: only what it showed is done.

        Raises:
            Conflict: others wrote to a key that is to be written, and the preview was seen; or for 30 s. Or a new
                namespace is there by now, or a migration into it is not done.

        """
        if self.is_new:
            return self._receive()
        if not self._looked:
            self.refresh()
        deadline = time.monotonic() + DEADLINE_SECONDS
        names = numbered_names(stamped_name("before_import"))
        mark = next(names)
        while self.writes:
            safety = CheckpointWrite(mark, f"made by {self.reason}"[:500], fresh=True, kind="safety")
            marks = (safety,) if self.how == "replace" else ()
            try:
                done = self._commit(
                    CommitRequest(self.writes, base=self._live.revision, reason=self.reason, marks=marks)
                )
            except Conflict:
                if time.monotonic() > deadline:
                    raise
                if any(known.name == mark for known in self.backend.marks()):
                    mark = next(names)
                self._look_again(seen)
                continue
            before = StateAt(done.revision - 1, self._live.time)
            applied = comparison.diff_points(
                self.backend, before, StateAt(done.revision, self._live.time), ("live", self.source.name), Selection()
            )
            return self._imported(done, applied, mark if marks else "")
        return self._imported(self.backend.head(), Diff("live", self.source.name, lambda: iter(())))

    def committed_revision(self) -> int | None:
        """Return the revision that it made, for who interrupted it: None if it came to nothing. O(1)."""
        if self.is_new:
            head = self.backend.head()
            return head.revision if head.lineage else None
        mine = self._live.revision + 1  # its commit comes right after what was looked at
        found = self.backend.commits(1, mine + 1) if self._looked else []
        return mine if found and (found[0].revision, found[0].reason) == (mine, self.reason) else None

    def _look_again(self, seen: bool) -> None:
        before = {key: write.value for key, write in self.writes.items()}
        self.refresh()
        now = {key: write.value for key, write in self.writes.items()}
        if seen and before != now:
            late = sorted(key for key in before.keys() | now.keys() if (key in before, key in now) != (True, True))
            raise Conflict(
                f"others wrote meanwhile, so that it would now change other keys: {', '.join(map(repr, late[:3]))}",
                "Look at what would change now, and try again",
            )

    # --- into a new one

    def _receive(self) -> ImportReport:
        """Make the namespace, with all that the source holds; it is there whole, or not at all."""
        receiver = self.backend.open_staging()
        note = receiver.progress()
        if note is not None:
            if "import" not in note:
                receiver.close()
                what = f"a migration into namespace {self.backend.namespace!r} of {self.backend.url} is not finished"
                raise Conflict(what, "Run it again, which ends it, or import into another namespace")
            receiver.drop()  # what an import that was killed left; it begins anew
            receiver = self.backend.open_staging()
        try:
            head = self.source.fill(receiver, self.reason, self.author, self._progress)
            receiver.finish(head)
        except BaseException:
            receiver.drop()
            raise
        return self._imported(self.backend.head())

    def plan(self) -> ImportReport:
        """Return what it would do: as `preview`, or of a new namespace how much it would hold. Reads all of it."""
        if self.is_new:
            other = self._there()
            return self._imported(other.head(), None, "", len(other.marks()))
        self.refresh()
        return self._imported(self.head, self.preview())

    def _imported(
        self, head: Head, diff: Diff | None = None, checkpoint: str = "", marks: int | None = None
    ) -> ImportReport:
        skipped = self.source.skipped
        marks = len(self.backend.marks()) if marks is None else marks
        return ImportReport(
            self.source.words, self.how, head.revision, head.count, marks, diff, checkpoint,
            tuple(name for name in skipped if name), len(skipped),
        )  # fmt: skip
