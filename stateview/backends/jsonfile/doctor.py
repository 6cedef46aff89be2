"""`doctor()` of a JSON namespace: whether state.json, its history and the checkpoints' files say the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...errors import Damaged, Hint, NextStep, StateException, run
from ...model import Finding, ProgressMessage, now
from ..folder_checks import could_not, examine_folder
from ..protocol import ProgressText, StateAt, Version
from . import document
from .history import History, check_checksum, digest
from .transfer import staged_state

if TYPE_CHECKING:
    from .backend import JSONBackend

RECOVER = run("recover")
_MAX_ATTEMPTS = 5  # looks, while others write between two files


def examine(backend: JSONBackend, say: ProgressText) -> Iterator[Finding]:
    """See `Backend.diagnose`."""
    if not os.path.isdir(backend.folder):
        if document.legacy_value_files(backend.root) and backend.namespace == "default":
            yield _older(backend, backend.root)
        return
    files = (backend.state_path, backend.history_path)
    try:
        yield from examine_folder(backend.root, backend.folder, files)
        for _ in range(_MAX_ATTEMPTS):
            before = backend._signature(), backend._sign_history()
            found = list(_Inspection(backend, say).run())
            if before == (backend._signature(), backend._sign_history()):
                yield from found
                return
        meaning = "whether its files agree could not be checked"
        yield Finding("warning", backend.namespace, "others wrote to it all the time", meaning, "Run it again")
    except StateException as error:
        yield Finding("error", backend.namespace, error.message, "it could not be checked", error.next_steps)
    except OSError as error:
        yield could_not(backend.root, error.filename or backend.folder, error)


def _older(backend: JSONBackend, path: str) -> Finding:
    subject = os.path.relpath(path, backend.root)
    meaning = "it is taken in as it is at the first write; until then there are no revisions"
    return Finding("note", subject, "it is of an older layout, without a history", meaning)


class _Inspection:
    """One look at all files."""

    def __init__(self, backend: JSONBackend, say: ProgressText) -> None:
        self.backend = backend
        self.say = say
        self.history = History()

    def finding(self, severity: str, path: str, found: str, meaning: str, remedy: Hint = "") -> Finding:
        assert severity in ("error", "warning", "note")
        return Finding(severity, os.path.relpath(path, self.backend.root), found, meaning, remedy)  # type: ignore[arg-type]

    def run(self) -> Iterator[Finding]:
        backend = self.backend
        state = None
        if os.path.exists(backend.state_path):
            with open(backend.state_path, "rb") as file:
                state = file.read()
        if not os.path.exists(backend.history_path):
            yield from self.without_history(state)
            return
        bad = list(self.read_history())
        yield from bad
        if not any(finding.severity == "error" for finding in bad):
            yield from self.look_at_state(state)
            yield from self.look_at_checkpoints()

    def without_history(self, state: bytes | None) -> Iterator[Finding]:
        backend = self.backend
        if told := document.tells_of_history(backend.root, backend.namespace, state):
            yield self.finding("error", backend.history_path, f"it is missing, and {told} tells of it",
                               "past states and the log are gone; the live state may be whole", RECOVER)  # fmt: skip
        elif state is not None:
            yield _older(backend, backend.state_path)

    def read_history(self) -> Iterator[Finding]:
        """Every line has its checksum, and goes on from the one before."""
        path, history = self.backend.history_path, self.history
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    if check_checksum(line[:-1]) is not None:
                        yield self.finding("error", path, "the end of the last line is not what was written",
                                           "nothing is missing, and nothing can be saved", RECOVER)  # fmt: skip
                    else:
                        yield self.finding("note", path, "its last line was cut off",
                                           "of a commit that never counted; the next one takes its place")  # fmt: skip
                    break
                sound = check_checksum(line[:-1]) is not None
                if not sound or not history.append_line(line[:-1]):
                    what = "does not follow the one before" if sound else "is not what was written"
                    meaning = f"what came after revision {history.revision} can only be mended from the other files"
                    yield self.finding("error", path, f"line {number} {what}", meaning, RECOVER)
                    return
                history.end += len(line)
                if number % 100 == 0:
                    self.say(ProgressMessage.of(history.end, size, "bytes", os.path.basename(path)))
        if history.last is None:
            yield self.finding("error", path, "it holds no commit", "it was cut off, or emptied", RECOVER)
        elif not history.last.digest:
            yield self.finding("error", path, "its last line is missing", "it named the checkpoints", RECOVER)

    def look_at_state(self, state: bytes | None) -> Iterator[Finding]:
        backend, path, last = self.backend, self.backend.state_path, self.history.last
        assert last is not None
        live = {key: versions[-1] for key, versions in self.history.versions.items() if versions[-1].value is not None}
        if (state is None or digest(state) != last.digest) and staged_state(backend.folder, last.digest) is not None:
            yield self.finding("note", path, "a migration was ended before its last file was in its place",
                               "nothing is missing; the next save finishes it")  # fmt: skip
        elif state is None:
            if live or last.before:
                yield self.finding("error", path, "it is missing", "the history has what was in it", RECOVER)
        elif digest(state) == last.digest:
            entries = document.parse(state, path)
            if entries != live or len(entries) != last.count:
                differ = sorted(key for key in entries.keys() | live.keys() if entries.get(key) != live.get(key))
                found = f"it and the history differ in {len(differ)} entries, such as {differ[:1]!r:.80}"
                yield self.finding("error", path, found, "one of the two is not what was written", RECOVER)
        elif digest(state) == last.before:
            yield self.finding("note", path, f"it does not show revision {last.rev} yet",
                               "that commit counts; if its process has ended, the next save finishes it")  # fmt: skip
        else:
            yield from self.edited(state, last.mtime)

    def edited(self, state: bytes, written: int) -> Iterator[Finding]:
        """state.json is of another digest: a person's doing, or not."""
        path = self.backend.state_path
        modified = os.stat(path).st_mtime_ns
        if modified == written or modified < written - 20_000_000:
            yield self.finding("error", path, "it is not what was last written, and was not edited since",
                               "bits have rotted, or a file was put back; the history has what was in it",
                               RECOVER)  # fmt: skip
            return
        try:
            edited = document.parse_edited(state, path, now())
        except Damaged as error:
            yield self.finding("error", path, f"it was edited, and {error.message}",
                               "nothing can be read or saved until it is mended", error.next_steps)  # fmt: skip
            return
        if any(version.revision > self.history.revision for version in edited.values()):
            yield self.finding("error", self.backend.history_path,
                               f"it ends at revision {self.history.revision}, and state.json is later",
                               "its last lines are missing", RECOVER)  # fmt: skip
            return
        meaning = "the next access takes the edit in as a commit"
        yield self.finding("warning", path, "it was edited outside", meaning, NextStep("", ("undo",), " takes it back"))

    def look_at_checkpoints(self) -> Iterator[Finding]:
        """The file of each checkpoint that is the current one of its name."""
        backend, history = self.backend, self.history
        folder = os.path.join(backend.folder, "checkpoints")
        newest = {mark.name: mark for mark in history.marks}
        for name, mark in newest.items():
            self.say(f"checkpoint {name}")
            path = backend._checkpoint_path(name)
            known = history.digests.get((name, mark.revision))
            meaning = "the checkpoint itself reads right, from the history"
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                yield self.finding("error", path, "it is missing", meaning, RECOVER)
                continue
            if digest(data) != known if known else not self.shows(data, path, StateAt(mark.revision, mark.time)):
                yield self.finding("error", path, "it is not what was written", meaning, RECOVER)
        for file_name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            stem, end = os.path.splitext(file_name)
            if end == ".json" and stem not in newest:
                yield self.finding("warning", os.path.join(folder, file_name), "no checkpoint has this name",
                                   "it was deleted, or what tells of it was lost: 'recover' would bring it back",
                                   "Remove the file, if the checkpoint was deleted")  # fmt: skip

    def shows(self, data: bytes, path: str, point: StateAt) -> bool:
        try:
            content = document.parse_edited(data, path, now())
        except Damaged:
            return False
        found = {key: self.history.version_at(key, point) for key in self.history.versions}
        return _values(content) == _values({key: one for key, one in found.items() if one is not None})


def _values(entries: dict[str, Version]) -> dict[str, bytes | None]:
    return {key: version.value for key, version in entries.items()}
