"""Findings about a JSON namespace: whether state.json, its history and the checkpoints' files agree."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...errors import Damaged, Hint, NextStep, StateException, run
from ...model import Finding, ProgressMessage, Severity, now
from ..files.folder_checks import check_folder, unreadable_finding, whole_versions_finding
from ..legacy import json_files
from ..protocol import ProgressText, StateAt, Version
from . import document
from .history import History
from .records import FORMAT, check_checksum, digest, file_digest, marked, read_header
from .transfer import staged_state

if TYPE_CHECKING:
    from .backend import JSONBackend

RECOVER = run("recover")
_MAX_ATTEMPTS = 5  # inspections, while other processes write between the reads of two files
_COMMIT_SECONDS = 0.1  # seconds between two inspections, while a commit has its line and not yet all of its files
_LINES_PER_REPORT = 100


def diagnose(backend: JSONBackend, progress: ProgressText) -> Iterator[Finding]:
    """Find what is wrong with a namespace, see `Backend.diagnose`."""
    if not os.path.isdir(backend.folder):
        if json_files.find_key_files(backend.root) and backend.namespace == "default":
            yield _legacy_finding(backend, backend.root)
        return
    try:
        yield from check_folder(backend.root, backend.folder, (backend.state_path, backend.history_path))
        for attempt in range(_MAX_ATTEMPTS):
            before = backend._signature(), backend._sign_history()
            inspection = _Inspection(backend, progress)
            findings = list(inspection.run())
            if before == (backend._signature(), backend._sign_history()):
                if inspection.commit_may_be_under_way and attempt < _MAX_ATTEMPTS - 1:
                    time.sleep(_COMMIT_SECONDS)
                    continue
                yield from findings
                return
        meaning = "whether its files agree could not be checked"
        yield Finding("warning", backend.namespace, "others wrote to it all the time", meaning, "Run it again", "busy")
    except StateException as error:
        meaning = "it could not be checked"
        yield Finding("error", backend.namespace, error.message, meaning, error.next_steps, "unreadable")
    except OSError as error:
        yield unreadable_finding(backend.root, error.filename or backend.folder, error)


def _legacy_finding(backend: JSONBackend, path: str) -> Finding:
    meaning = "the first write converts it; until then it has no revisions"
    subject = os.path.relpath(path, backend.root)
    return Finding("note", subject, "it is of an older layout, without a history", meaning, "", "legacy-layout")


class _Inspection:
    """One inspection of all files of a namespace."""

    def __init__(self, backend: JSONBackend, progress: ProgressText) -> None:
        self.backend = backend
        self.progress = progress
        self.history = History()
        self.commit_may_be_under_way = False  # its checkpoint's file is written after its line

    def finding(
        self, severity: Severity, code: str, path: str, message: str, meaning: str, remedy: Hint = ""
    ) -> Finding:  # fmt: skip
        return Finding(severity, os.path.relpath(path, self.backend.root), message, meaning, remedy, code)

    def run(self) -> Iterator[Finding]:
        backend = self.backend
        state, mtime = None, 0
        if os.path.exists(backend.state_path):
            with open(backend.state_path, "rb") as file:
                state, mtime = file.read(), os.fstat(file.fileno()).st_mtime_ns
        if not os.path.exists(backend.history_path):
            yield from self.check_without_history(state)
            return
        findings = list(self.read_history(state))
        yield from findings
        if self.history.last is not None and not any(finding.severity == "error" for finding in findings):
            yield from self.check_state(state, mtime)
            yield from self.check_checkpoints()
            if read_header(backend.history_path).format < FORMAT and self.history.can_pack():
                yield whole_versions_finding(backend.root, backend.history_path)

    def check_without_history(self, state: bytes | None) -> Iterator[Finding]:
        backend = self.backend
        if witness := json_files.refers_to_history(backend.folder, state):
            yield self.finding("error", "history-missing", backend.history_path,
                               f"it is missing, and {witness} refers to its revisions",
                               "past states and the log are lost; the live state may be complete", RECOVER)  # fmt: skip
        elif state is not None:
            yield _legacy_finding(backend, backend.state_path)

    def read_history(self, state: bytes | None) -> Iterator[Finding]:
        """Check that every line has the right checksum and continues the line before it."""
        path, history = self.backend.history_path, self.history
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for number, line in enumerate(file, 1):
                sound = check_checksum(line[:-1]) is not None
                if not line.endswith(b"\n"):
                    yield from self.check_last_line(sound)
                    break
                if not sound or not history.append_line(line[:-1]):
                    code, problem = "history-line-damaged", "is not what was written"
                    if sound:
                        code, problem = "history-line-missing", "does not follow the line before it"
                    meaning = f"only the other files can restore the commits after revision {history.revision}"
                    yield self.finding("error", code, path, f"line {number} {problem}", meaning, RECOVER)
                    return
                history.end += len(line)
                if number % _LINES_PER_REPORT == 0:
                    self.progress(ProgressMessage.of(history.end, size, "bytes", os.path.basename(path)))
        if history.last is None and state is None and not json_files.refers_to_history(self.backend.folder, None):
            if history.end == size:
                yield self.finding("note", "history-line-unfinished", path, "it holds no commit yet",
                                   "its first commit was never acknowledged; the next commit replaces the file"
                                   )  # fmt: skip
        elif history.last is None:
            yield self.finding("error", "history-empty", path, "it holds no commit",
                               "it was truncated or emptied", RECOVER)  # fmt: skip
        elif not history.last.digest:
            yield self.finding("error", "history-end-missing", path, "its last line is missing",
                               "that line held the checkpoints", RECOVER)  # fmt: skip

    def check_last_line(self, sound: bool) -> Iterator[Finding]:
        """Report a last line without a newline. If its checksum is right, the newline itself was damaged."""
        path = self.backend.history_path
        if sound:
            yield self.finding("error", "history-end-damaged", path, "the end of the last line is not what was written",
                               "no data is missing, but no save can succeed", RECOVER)  # fmt: skip
        else:
            yield self.finding("note", "history-line-unfinished", path, "its last line is incomplete",
                               "its commit was never acknowledged; the next commit replaces the line")  # fmt: skip

    def check_state(self, state: bytes | None, mtime: int) -> Iterator[Finding]:
        backend, path, last = self.backend, self.backend.state_path, self.history.last
        assert last is not None
        live = self.history.live()
        state_digest = None if state is None else digest(state)
        if state_digest != last.digest and staged_state(backend.folder, last.digest) is not None:
            yield self.finding("note", "swap-unfinished", path,
                               "a migration was interrupted before it moved this file into place",
                               "nothing is missing; the next save completes the migration")  # fmt: skip
        elif state is not None and state_digest == last.digest:
            entries = document.parse(state, path)
            if entries != live or len(entries) != last.count:
                differing = sorted(key for key in entries.keys() | live.keys() if entries.get(key) != live.get(key))
                message = f"it and the history differ in {len(differing)} entries, such as {differing[:1]!r:.80}"
                yield self.finding("error", "state-mismatch", path, message,
                                   "one of the two is not what was written", RECOVER)  # fmt: skip
        elif last.is_before(state_digest or "", mtime):
            yield self.finding("note", "state-behind", path, f"it does not show revision {last.rev} yet",
                               "that commit is complete; if its process has ended, the next save updates this file"
                               )  # fmt: skip
        elif state is None:
            yield self.finding("error", "state-missing", path, "it is missing",
                               "the history holds its content", RECOVER)  # fmt: skip
        else:
            yield from self.check_edited_state(state, mtime, last.mtime)

    def check_edited_state(self, state: bytes, mtime: int, written: int) -> Iterator[Finding]:
        """Check a state.json that is not what was last written: it was edited by hand, or it is damaged."""
        path = self.backend.state_path
        if not document.is_edited(mtime, written):
            yield self.finding("error", "state-damaged", path,
                               "it is not what was last written, and was not edited since",
                               "bits have rotted, or an older file was put back; the history holds its content",
                               RECOVER)  # fmt: skip
            return
        try:
            edited = document.parse_edited(state, path, now())
        except Damaged as error:
            yield self.finding("error", "edit-invalid", path, f"it was edited, and {error.message}",
                               "nothing can be read or saved until it is corrected", error.next_steps)  # fmt: skip
            return
        if any(version.revision > self.history.revision for version in edited.values()):
            yield self.finding("error", "history-truncated", self.backend.history_path,
                               f"it ends at revision {self.history.revision}, and state.json is later",
                               "its last lines are missing", RECOVER)  # fmt: skip
            return
        yield self.finding("warning", "edited", path, "it was edited outside stateview",
                           "the next access commits the edit", NextStep("", ("undo",), " takes it back"))  # fmt: skip

    def check_checkpoints(self) -> Iterator[Finding]:
        """Check the file of each checkpoint that is the current one of its name.

        These files are copies: the checkpoints are read from the history. So a missing one is only a note.
        """
        backend, history, last = self.backend, self.history, self.history.last
        latest = frozenset[str]() if last is None or last.settled else marked(last)
        for name in dict.fromkeys(mark.name for mark in history.marks):
            mark = history.marks.newest(name)
            assert mark is not None
            self.progress(f"checkpoint {name}")
            path = backend._checkpoint_path(name)
            expected, has_file = history.digests.get((name, mark.revision)), history.has_file(name)
            meaning = "the checkpoint itself is sound: it is read from the history"
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                if not has_file:
                    continue
                self.commit_may_be_under_way |= name in latest
                yield self.finding("note", "checkpoint-file-missing", path, "it is missing", meaning, RECOVER)
                continue
            at, found = mark.point, digest(data)
            if not has_file:
                self.commit_may_be_under_way |= name in latest
                yield self.finding("note", "checkpoint-file-left", path, "its checkpoint is to have no file", meaning,
                                   run("compact", after=" removes it, unless it was edited"))  # fmt: skip
                continue
            if found == expected if expected else self.shows(data, path, at):
                continue
            if history.wrote(name, found):
                self.commit_may_be_under_way |= name in latest
                yield self.finding("note", "checkpoint-file-behind", path,
                                   "it shows an earlier checkpoint of this name", meaning, RECOVER)  # fmt: skip
            else:
                yield self.finding("error", "checkpoint-file-damaged", path, "it is not what was written",
                                   meaning, RECOVER)  # fmt: skip
        folder = os.path.join(backend.folder, "checkpoints")
        for file_name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            name, extension = os.path.splitext(file_name)
            if extension != ".json" or history.marks.newest(name) is not None:
                continue
            present = file_digest(os.path.join(folder, file_name))
            if present is None:
                continue  # removed meanwhile
            if history.wrote(name, present):
                self.commit_may_be_under_way |= name in latest
                yield self.finding("note", "checkpoint-file-left", os.path.join(folder, file_name),
                                   "it is of a checkpoint that was deleted", "the process that deleted it was killed",
                                   run("compact", after=" removes it"))  # fmt: skip
            else:
                yield self.finding("warning", "checkpoint-unknown", os.path.join(folder, file_name),
                                   "no checkpoint has this name",
                                   "it was deleted, or its line was lost; 'recover' would bring it back",
                                   "Remove the file, if the checkpoint was deleted")  # fmt: skip

    def shows(self, data: bytes, path: str, at: StateAt) -> bool:
        """Return whether a checkpoint's file shows the same values as the history."""
        try:
            content = document.parse_edited(data, path, now())
        except Damaged:
            return False
        return _values(content) == _values(self.history.state_at(at))


def _values(entries: dict[str, Version]) -> dict[str, bytes | None]:
    return {key: version.value for key, version in entries.items()}
