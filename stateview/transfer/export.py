"""Export a namespace to a file: as JSON Lines with its history, or as a plain JSON object."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from .. import codec
from ..backends.files.durable_files import remove, temporary
from ..backends.protocol import Backend, CheckpointRecord, Head, ProgressCount, Version
from ..backends.stored_values import PLAIN, is_sealed, user_key_of
from ..errors import Conflict, InvalidArgument, InvalidName, KeyNotFound, see
from ..maintenance.history import commit_of, iter_commits, marks_up_to
from ..model import Commit, to_micros
from ..states.matching.patterns import Selection
from ..states.missing import check_exists
from ..states.steady import again, snapshot
from ..states.view import StateView, is_live, missing_key, read_names, resolve
from .files import OutputFile, output_file, read_file, write_durable
from .formats import jsonl
from .formats.jsonl_reader import JsonlReader

if TYPE_CHECKING:
    from ..sealing.keys import UserKey

MAX_ATTEMPTS = 5  # of an export, if writers outrun the kept history
VERSIONS_PER_PAGE = 4000
KEYS_PER_REPORT = 1000
_NO_REVISION = 10**15  # above all revisions
_LAYOUTS = ("jsonl", "json")


class ExportReport(Struct, frozen=True):
    """Report what an export wrote. For the layout `json`, `versions` counts the keys.

    `reading` says of which moments the values are, if they are not all of one: see `KeepsPresentAlone`.
    """

    layout: str
    namespace: str
    revision: int
    versions: int
    commits: int = 0
    checkpoints: int = 0
    bytes: int = 0
    reading: str = ""


class FileForm(NamedTuple):
    """Say how a file is written: compressed, and sealed with a key."""

    zipped: bool
    user_key: UserKey | None


def _user_key(backend: Backend) -> UserKey | None:
    """Return the key that seals a file with values of a namespace; None if the namespace is plain."""
    backend.head()  # learns whether the namespace is encrypted
    values = getattr(backend, "values", PLAIN)
    if values.plain:
        return None
    values.check_open()
    return user_key_of(backend)


def export(
    backend: Backend, target: OutputFile, layout: str | None = None, at: str | int | None = None,
    keys: Iterable[str] | str | None = None, overwrite: bool = False, progress: ProgressCount | None = None,
    plain: bool = False,
) -> ExportReport:  # fmt: skip
    """Export as `StateManager.export` does."""
    path = os.fspath(target) if isinstance(target, (str, os.PathLike)) else ""
    if target == "":
        raise InvalidName("the name of the file is empty", "Give a name that ends in .jsonl or .json")
    layout = _choose_layout(path, layout, at is not None or keys is not None)
    if keys is not None:
        keys = [keys] if isinstance(keys, str) else list(keys)
    form = FileForm(path.endswith(".gz"), None if plain else _user_key(backend))
    if form.user_key is not None and layout == "json":
        what = f"namespace {backend.namespace!r} is encrypted, and plain JSON would show its values"
        raise InvalidArgument(what, "Give --plain (plain=True), or export JSON Lines, which are sealed")
    report = progress or (lambda _done, _total: None)
    with output_file(target, overwrite, in_memory=plain and is_sealed(backend)) as name:
        if layout == "jsonl":
            exported = again(True, lambda: _export_jsonl(backend, name, form, report))
        else:
            live = at is None or is_live(at)
            exported = again(live, lambda: _export_json(backend, name, form, at, keys, report))
        size = os.path.getsize(name)
    return msgspec.structs.replace(exported, bytes=size)


def _choose_layout(path: str, layout: str | None, is_selection: bool) -> str:
    """Return the requested layout, else the layout that the path's ending names, else a default.

    Args:
        path: the path of the file; "" if it has none.
        layout: the requested layout, or None.
        is_selection: whether a past state or certain keys are exported, which only plain JSON can hold.

    Raises:
        InvalidName: the layout is unknown, or does not fit.

    """
    stem = path.removesuffix(".gz")
    layout = layout or next((known for known in _LAYOUTS if stem.endswith(f".{known}")), None)
    if layout is None and stem:
        raise InvalidName(
            f"{path!r} ends neither in .jsonl nor in .json", "Give a name with one of these endings, or --as (layout=)"
        )
    layout = layout or ("json" if is_selection else "jsonl")
    if layout not in _LAYOUTS:
        raise InvalidName(f"there is no layout {layout!r} to export", "The layouts are jsonl and json")
    if is_selection and layout == "jsonl":
        raise InvalidName(
            "a past state, or a choice of keys, can be exported as plain JSON only", "Give a name that ends in .json"
        )
    return layout


def _require_head(backend: Backend) -> Head:
    head = backend.head()
    check_exists(backend, head)
    return head


# --- JSON Lines -------------------------------------------------------------------------------------------------------


def _export_jsonl(backend: Backend, name: str, form: FileForm, progress: ProgressCount) -> ExportReport:
    """Write everything that is kept as of one revision, while others may write.

    Where the backend has no snapshot, later versions are left out. The versions that they superseded are kept until the
    floor passes them. If the floor rises during the export, the file is written again with the last floor: all states
    from it on were kept throughout.
    """
    with snapshot(backend, whole=True) as state:
        return _export_state(state, name, form, progress)


def _export_state(backend: Backend, name: str, form: FileForm, progress: ProgressCount) -> ExportReport:
    for _ in range(MAX_ATTEMPTS):
        head = _require_head(backend)
        marks = marks_up_to(backend, head.revision)
        header = _header(backend, head)
        with write_durable(name, *form) as out:
            commits = iter_commits(backend, head.revision + 1)
            counts = jsonl.write(out, header, commits, marks, _versions(backend, head, progress))
        after = backend.head()
        if after.lineage != head.lineage:
            what = f"namespace {backend.namespace!r} was dropped or replaced during the export"
            raise Conflict(what, "Export it again")
        kept = {(mark.name, mark.revision) for mark in backend.marks()}
        if after.floor <= head.revision and all((mark.name, mark.revision) in kept for mark in marks):
            if after.floor > head.floor:
                counts = _raise_floor(name, form, after.floor)
            return ExportReport(
                "jsonl", backend.namespace, head.revision, counts.versions, counts.commits, counts.checkpoints,
                reading=getattr(backend, "reading", ""),
            )  # fmt: skip
    raise Conflict(
        f"writers made more revisions of namespace {backend.namespace!r} during the export than its history keeps",
        "Export a checkpoint as plain JSON (--at), or stop the writers for a while",
    )


def _header(backend: Backend, head: Head) -> jsonl.Header:
    # In some backends the time of the head is that of a later checkpoint, so the time of the commit is used
    commit = commit_of(backend, head.revision)
    time = to_micros(commit.time) if commit is not None else head.time if head.revision else 0
    return jsonl.Header(jsonl.FORMAT, backend.namespace, head.lineage, int(head.revision), head.floor, time)


def _versions(backend: Backend, head: Head, progress: ProgressCount) -> Iterator[Version]:
    after, live = ("", 0), 0
    while page := backend.versions_page(after, VERSIONS_PER_PAGE):
        for version in page:
            live += not version.until and version.value is not None
            if version.revision <= head.revision:
                yield version
        # Later versions of a key are skipped: a key that is written all the time would never end
        last = page[-1]
        after = last.key, last.revision if last.revision <= head.revision else _NO_REVISION
        progress(live, head.count)


def _raise_floor(name: str, form: FileForm, floor: int) -> jsonl.Counts:
    """Write an export again with a higher floor, without the versions that are unreachable from it."""
    with read_file(name, form.user_key is not None, form.user_key, name) as content:
        file: Any = gzip.GzipFile(fileobj=content) if form.zipped else content
        reader = JsonlReader(file, name, floor)
        header = msgspec.structs.replace(reader.header, floor=floor)
        commits: list[Commit] = []
        marks: list[CheckpointRecord] = []
        first: list[Version] = []
        records = reader.records()
        for record in records:
            if isinstance(record, Commit):
                commits.append(record)
            elif isinstance(record, CheckpointRecord):
                marks.append(record)
            else:
                first.append(record)  # all records after the first version are versions
                break
        versions = chain(first, (record for record in records if isinstance(record, Version)))
        copy = temporary(name)
        try:
            with write_durable(copy, *form) as out:
                counts = jsonl.write(out, header, commits, marks, versions)
            os.replace(copy, name)
        finally:
            remove(copy)
    return counts


# --- plain JSON -------------------------------------------------------------------------------------------------------


def _export_json(
    backend: Backend,
    name: str,
    form: FileForm,
    at: str | int | None,
    keys: Iterable[str] | str | None,
    progress: ProgressCount,
) -> ExportReport:
    """Write `{key: value}` with sorted keys, indented by two spaces, so that a git diff shows each changed line."""
    ref = "live" if at is None else at
    selection = Selection(keys)
    count = 0
    with snapshot(backend, whole=True) as state, write_durable(name, *form) as out:
        head = _require_head(state)
        point = resolve(state, ref)
        view = StateView(state, point, str(ref))
        found = {version.key for version in read_names(state, point, selection, "")}
        for missing in (name for name in selection.exact() if name not in found):
            raise missing_key(state, missing, f" at {ref}", point)
        for version in view.raw_entries(keys=keys):
            assert version.value is not None
            block = codec.pretty(
                msgspec.json.encode({version.key: Raw(version.value)}), what=f"the value of {version.key[:60]!r}"
            )
            out.write((b",\n" if count else b"{\n") + block[2:-2])  # without the braces and their line ends
            count += 1
            if count % KEYS_PER_REPORT == 0:
                progress(count, head.count)
        out.write(b"\n}\n" if count else b"{}\n")
        reading = getattr(state, "reading", "")
    if keys is not None and not count:
        raise KeyNotFound(f"no key matches {' '.join(keys)!r} at {ref}", see("keys"))
    return ExportReport("json", backend.namespace, point.revision, count, reading=reading)
