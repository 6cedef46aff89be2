"""Take in what others wrote into the files of a JSON namespace: edits by hand, and older layouts."""

from __future__ import annotations

import os

import msgspec

from ...errors import Damaged, tells_what_was_done
from ...model import now
from ..files.durable_files import check_links, file_error, makedirs_durable, replaced_path, write_temporary
from ..notes import say
from ..protocol import CommitRequest, Head, Write
from . import document
from .history import History
from .reader import LEGACY_LINEAGE, LoadedState, Signature
from .records import digest, file_digest
from .writer import Writer

_CONVERTED = "The older layout was converted, and the next call completes its files"
_NO_DIGEST = "-"  # of a state that never was in a state.json


def settle(backend: Writer) -> LoadedState:
    """Take in an edit by hand, under the lock.

    state.json is neither that of the last commit nor that of the one before.

    Raises:
        Damaged: the file was not edited but damaged, or the edit is not valid.

    """
    history = backend._read_history()
    line = history.last
    if line is None:
        raise Damaged(f"{backend.history_path} holds no commit, but there is a {backend.state_path}", document.RECOVER)
    signature = backend._signature()
    if signature is None:
        raise Damaged(f"{backend.state_path} is missing, and its history exists", document.RECOVER)
    if not document.is_edited(signature[0], line.mtime):
        raise Damaged(f"{backend.state_path} is not what was last written, and was not edited since", document.RECOVER)
    with open(backend.state_path, "rb") as file:
        data = file.read()
    edited = document.parse_edited(data, backend.state_path, now())
    if any(version.revision > line.rev for version in edited.values()):
        raise Damaged(f"{backend.history_path} ends at revision {line.rev}, and state.json is later", document.RECOVER)
    before = history.live()
    head = Head(line.rev, line.time, len(before), line.floor, line.lineage)
    live = LoadedState(signature, head, dict(before), line)
    request = CommitRequest(writes=document.edits(before, edited), reason="edited outside")
    request = _stored_edits(backend, request, line.rev + 1)
    if not backend._may_write():  # show the commit of the edit, in a history that is read anew after this one
        moment = max(now(), line.time + 1)
        record = backend._record(line, request, line.rev, line.rev + bool(request.writes), moment, moment)
        record.digest = _NO_DIGEST
        history.add(record)
        history.first, history.signature = b"", signature[3:]
        live.entries = history.live()
        is_edited = history.revision > line.rev
        live.head = Head(history.revision, moment, len(live.entries), line.floor, line.lineage, is_edited)
        return live
    if request.writes:
        keys = f"{len(request.writes)} key{'s' if len(request.writes) > 1 else ''}"
        say(
            f"{backend.state_path} was edited outside; taken in as revision {line.rev + 1} ({keys})"
            " - 'stateview undo' takes it back"
        )
    live.replaced = digest(data)
    return backend._apply(live, request)


def _stored_edits(backend: Writer, request: CommitRequest, revision: int) -> CommitRequest:
    """Return a request with the stored forms of edits by hand. `Damaged` if a value is not in the stored form."""
    writes: dict[str, Write] = {}
    for key, write in request.writes.items():
        try:
            opened = None if write.value is None else backend.values.unpack(write.value, key, revision)
        except Damaged as error:
            what = f"{backend.state_path}: the entry {key[:60]!r}: {error.message}"
            raise Damaged(what, error.next_steps) from error
        writes[key] = msgspec.structs.replace(write, value=opened)
    return backend._packed(msgspec.structs.replace(request, writes=writes), revision)


def adopt(backend: Writer, data: bytes, signature: Signature | None) -> LoadedState | None:
    """Load a namespace without a history: a new one, or data of an older layout, which is converted under the lock.

    Returns None if the lock is needed.
    """
    from ..legacy import json_files
    from ..legacy.adoption import LegacyState, adoption_requests

    if signature is None:
        check_links(backend.root, backend.folder, backend.state_path, backend.history_path)
    states: list[LegacyState] = []
    if file := json_files.refers_to_history(backend.folder, data if signature is not None else None):
        if os.path.exists(backend.history_path):
            return None  # another process has just made the namespace, and its first checkpoint
        raise Damaged(f"{backend.history_path} is missing, but {file} refers to it", document.RECOVER)
    if signature is not None:
        states = json_files.read_state_file(backend.folder, data)
    elif backend.namespace == "default":
        states = json_files.read_key_files(backend.root)
    if not states:
        return LoadedState(None, Head(), {})
    may_write = backend._may_write()
    if may_write and not backend._locked:
        return None
    history = History(os.urandom(16).hex() if may_write else LEGACY_LINEAGE, backend.values)
    for plain in adoption_requests(states):
        revision = history.revision
        request = backend._packed(plain, revision + 1)
        moment = request.time or now()
        record = backend._record(history.last, request, revision, revision + bool(request.writes), moment, moment)
        record.digest = _NO_DIGEST
        history.add(record)
    if may_write:
        return _convert(backend, history, data, signature)
    backend._history = history
    entries = history.live()
    return LoadedState(signature, Head(history.revision, now(), len(entries), 0, LEGACY_LINEAGE), entries)


def _convert(backend: Writer, history: History, data: bytes, signature: Signature | None) -> LoadedState | None:
    """Write the files of a namespace of an older layout, of which `history` was made. Call it under the lock.

    The history comes first, and at once: only the older files hold the later states until then.
    """
    replaced = digest(data) if signature is not None else ""
    if history.last is None:
        return LoadedState(signature, Head(), {}, replaced=replaced)
    renames = []
    entries = history.live()
    content = document.serialize(entries, {})
    last = msgspec.structs.replace(history.last, digest=digest(content), before="", count=len(entries))
    last.replaced, last.before_mtime = replaced, signature[0] if signature is not None else 0
    try:
        for mark in {mark.name: mark for mark in history.marks}.values():
            state = document.serialize(history.state_at(mark.point), {})
            history.digests[mark.name, mark.revision] = digest(state)
            path = backend._checkpoint_path(mark.name)
            makedirs_durable(os.path.dirname(path))
            if (former := file_digest(path)) is not None:
                last.left.append((mark.name, former))
            path = replaced_path(path, backend.folder)
            renames.append((write_temporary(backend._temporary_stem(mark.name), state), path))
        path = replaced_path(backend.state_path, backend.folder)
        renames.append((write_temporary(backend.state_path, content, last.mtime), path))
        lines = b"".join(history.to_lines(last, settled=False))
        path = replaced_path(backend.history_path, backend.folder)
        with tells_what_was_done(lambda: _CONVERTED if os.path.exists(path) else ""):
            try:
                backend._rename([(write_temporary(backend.history_path, lines), path)])
                backend._rename(renames)
            except OSError as error:
                raise file_error(error, backend.folder) from error
    finally:
        backend._abandon(renames)
    return backend._read()
