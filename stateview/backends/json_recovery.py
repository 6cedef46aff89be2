"""`recover()` of a JSON namespace: state.json, its history and the checkpoints' files, each mended from the others.

A line of the history is sound by its checksum, state.json and a checkpoint's file by the digest in the history. Where
the line that holds a digest is itself the damaged one, each entry is compared with the line that wrote it; what
nothing confirms is said.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from ..errors import Damaged, InvalidName
from ..model import Problem, RecoveryReport, check_checkpoint, now
from . import json_document as document
from .base import Mark, Point, Version
from .json_history import History, Line, MarkLine, Set, digest, unseal, written
from .shared import fsync_folder, keep_damaged, make_folders, sweep, write_temporary

if TYPE_CHECKING:
    from .json_file import JSONBackend

Entries = dict[str, Version]


def recover(backend: JSONBackend) -> RecoveryReport:
    """Check and mend; call it under the lock. See `Backend.recover`."""
    places = (backend.state_path, backend.history_path, os.path.join(backend.folder, "checkpoints"))
    if not any(map(os.path.exists, places)):
        return RecoveryReport(backend.namespace, 0)
    return _Recovery(backend).run()


def _live(history: History) -> Entries:
    return {key: versions[-1] for key, versions in history.versions.items() if versions[-1].value is not None}


def _at(history: History, revision: int, time: int = 0) -> Entries:
    found = ((key, history.at(key, Point(revision, time))) for key in history.versions)
    return {key: version for key, version in found if version is not None}


class _Recovery:
    def __init__(self, backend: JSONBackend) -> None:
        self.backend = backend
        self.problems: list[Problem] = []
        self.kept: list[str] = []
        self.history = History()  # what the lines before the first bad one say
        self.later: list[Line] = []  # the sound lines after it
        self.end: Line | None = None  # the last line, if it is sound
        self.found = ""  # what is wrong with the history

    def note(self, subject: str, found: str, done: str, mended: bool = True) -> None:
        self.problems.append(Problem(os.path.relpath(subject, self.backend.root), found, done, mended))

    def keep(self, path: str) -> str:
        self.kept.append(keep_damaged(path))
        return f"the damaged file is kept as {os.path.basename(self.kept[-1])}"

    def run(self) -> RecoveryReport:
        backend = self.backend
        folder = os.path.join(backend.folder, "checkpoints")  # the lock has seen to the other one
        for name in sweep(folder):
            self.note(os.path.join(folder, name), "left over from a process that is gone", "removed")
        if self.is_missing():
            self.found = "it is missing"
            self.mend_history()
            self.mend_checkpoints()
        elif os.path.exists(backend.history_path):
            self.read_history()
            if self.found:
                self.mend_history()
            else:
                self.mend_state()
            self.mend_checkpoints()
        revision = backend._refresh().head.revision  # without a history: adopts, or says where the file is wrong
        return RecoveryReport(backend.namespace, revision, tuple(self.problems), tuple(self.kept))

    # --- the history -------------------------------------------------------------------------------------------

    def is_missing(self) -> bool:
        """Whether there is no history, though what is there tells of one."""
        backend = self.backend
        if os.path.exists(backend.history_path):
            return False
        state = None
        if os.path.exists(backend.state_path):
            with open(backend.state_path, "rb") as file:
                state = file.read()
        return bool(document.tells_of_history(backend.root, backend.namespace, state))

    def read_history(self) -> None:
        history, broken = self.history, False
        with open(self.backend.history_path, "rb") as file:
            for number, line in enumerate(file):
                data = unseal(line[:-1])
                if data is None and not line.endswith(b"\n"):
                    break  # of a commit that was never acknowledged
                if data is None:
                    self.found, self.end = "a line is not what was written", None
                    # What the first line says, every commit says too, unless the one after it runs on from it.
                    broken = broken or number > 0 or line.count(b'{"sum":') > 1
                    if broken and history.last is None:  # of what was before the floor something may be missing
                        history.versions, history.revision = {}, 0
                    continue
                if not line.endswith(b"\n"):
                    self.found = "the end of the last line is not what was written"
                self.end = msgspec.json.decode(data, type=Line) if data.startswith(b'{"rev"') else None
                if number == 1 and self.found and self.end is not None:
                    history.floor = self.end.floor
                if not broken and not history.take(line[:-1]):
                    self.found, broken = "lines are missing", True
                if broken and self.end is not None:
                    self.later.append(self.end)
        last = self.later[-1] if self.later else history.last
        if last is not None:
            history.lineage, history.floor = last.lineage or history.lineage, max(history.floor, last.floor)
        elif not self.found:
            self.found = "it holds no commit"
        if self.end is not None and not self.end.digest:
            self.found, self.end = self.found or "its last line is missing", None
            done = "those that have files are taken from these; of others, nothing is known"
            self.note(self.backend.history_path, "the line that names the checkpoints is missing", done, mended=False)
        try:
            with open(self.backend.state_path, "rb") as file:
                state = document.parse_edited(file.read(), self.backend.state_path, now())
        except (FileNotFoundError, Damaged):
            return
        if last is not None and any(version.revision > last.rev for version in state.values()):
            self.found, self.end = self.found or f"it ends at revision {last.rev}, before state.json", None
        if not self.found and self.orphans({mark.name for mark in history.marks}):
            self.found = "it does not know of checkpoints that have files"

    def mend_history(self) -> None:
        """What came before the bad line stands; of what came after, what the other files and sound lines tell."""
        backend, history = self.backend, self.history
        reached = history.revision
        done = self.keep(backend.history_path) if os.path.exists(backend.history_path) else "what it told is lost"
        live = self.salvage()
        seen = max([reached, *(line.rev for line in self.later), *(version.revision for version in live.values())])
        history.lineage = history.lineage or os.urandom(16).hex()
        self.mend_marks()
        revision = max(seen, history.revision) + 1
        line = Line(revision, now(), "", reason="recovered")
        for key, version in live.items():
            assert version.value is not None
            if _live(history).get(key) != version:
                line.set[key] = Set(Raw(version.value), version.expires, version.time)
        line.delete = sorted(_live(history).keys() - live.keys())
        line.keys = len(line.set) + len(line.delete)
        if seen > reached:
            history.floor = revision  # the revisions between are not known; checkpoints still show theirs
        history.add(line)
        data = document.dump(_live(history), {})
        line.digest, line.count, line.mtime = digest(data), len(live), now() * 1000
        os.rename(write_temporary(backend.state_path, data, line.mtime), backend.state_path)
        self.rewrite(line)
        self.note(backend.history_path, self.found,
                  f"sound up to revision {reached}; the live state is now revision {revision}; {done}")  # fmt: skip
        if seen > reached:
            gone = f"revision {seen}" if seen == reached + 1 else f"revisions {reached + 1} to {seen}"
            lost = "their log is lost, and their states, but for the last and those of checkpoints"
            self.note(backend.history_path, f"{gone} lay in what is not sound", lost, mended=False)

    def salvage(self) -> Entries:
        """The live state, of state.json and the sound lines."""
        backend, history = self.backend, self.history
        try:
            with open(backend.state_path, "rb") as file:
                data = file.read()
            state = document.parse_edited(data, backend.state_path, now())
        except (FileNotFoundError, Damaged):
            data, state = b"", {}
        if self.end is not None and data and digest(data) == self.end.digest:
            return state
        if self.end is not None and data and digest(data) == self.end.before:
            state.update((version.key, version) for version in written(self.end))
            return {key: version for key, version in state.items() if version.value is not None}
        if data:
            return self.confirm(state)
        if os.path.exists(backend.state_path):
            self.keep(backend.state_path)
        done = f"taken back to revision {history.revision}; what was written after it is lost"
        self.note(backend.state_path, "missing or damaged, as is the history", done, mended=False)
        return _live(history)

    def confirm(self, state: Entries) -> Entries:
        """A state.json whose digest is lost, entry by entry as the sound lines have it."""
        backend, history = self.backend, self.history
        reached = history.revision
        sound = {(version.key, version.revision): version for line in self.later for version in written(line)}
        sound |= {(one.key, one.revision): one for versions in history.versions.values() for one in versions}
        known = {line.rev for line in self.later}
        out, doubtful, wrong = {}, [], []
        for key, version in state.items():
            written_so = sound.get((key, version.revision))
            if written_so == version:
                out[key] = version
            elif version.revision > reached and version.revision not in known:
                out[key] = version
                doubtful.append(key)
            else:
                wrong.append(key)
        newest: Entries = {}
        for version in sorted(sound.values(), key=lambda version: version.revision):
            newest[version.key] = version
        for key, version in newest.items():
            if key in wrong and version.value is not None:
                out[key] = version
            elif key not in state and version.value is not None:
                doubtful.append(key)
        if wrong:
            done = f"{self.keep(backend.state_path)}; keys taken from the history: {_names(wrong)}"
            self.note(backend.state_path, "not what was written, as is the history", done, mended=False)
        if doubtful:
            self.note(backend.state_path, f"nothing confirms it for the keys {_names(doubtful)}",
                      "they are as state.json has them: look at them", mended=False)  # fmt: skip
        return out

    def mend_marks(self) -> None:
        """Checkpoints whose line is bad, or comes after the bad one: from the sound revisions, or their own files."""
        history = self.history
        reached = history.revision
        lost = {(mark.name, mark.revision): mark for line in self.later for mark in line.marks}
        for line in self.later:
            gone = {(name, revision) for name, revision in line.unmarks}
            history.marks = [mark for mark in history.marks if (mark.name, mark.revision) not in gone]
            lost = {key: mark for key, mark in lost.items() if key not in gone}
        named = {mark.name for mark in history.marks} | {name for name, _ in lost}
        for name in self.orphans(named):
            lost[name, 0] = MarkLine(name, 0, 0)
        for mark in sorted(lost.values(), key=lambda mark: mark.revision):
            self.mend_mark(mark, reached)

    def orphans(self, named: set[str]) -> list[str]:
        """Checkpoints that have a sound file, and no line in the history."""
        folder = os.path.join(self.backend.folder, "checkpoints")
        out = []
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            stem, end = os.path.splitext(name)
            if end == ".json" and stem not in named:
                path = os.path.join(folder, name)
                try:
                    check_checkpoint(stem)
                    with open(path, "rb") as file:
                        document.parse_edited(file.read(), path, now())
                    out.append(stem)
                except (InvalidName, Damaged, IsADirectoryError):
                    continue
        return out

    def mend_mark(self, mark: MarkLine, reached: int) -> None:
        history, path = self.history, self.backend._checkpoint_path(mark.name)
        which = f"checkpoint {mark.name!r}" + (f" (revision {mark.revision})" if mark.revision else "")
        found = f"{which} lies in the damaged part of the history"
        if 0 < mark.revision <= reached:
            history.marks.append(Mark(mark.name, mark.revision, mark.time, mark.note))
            self.note(path, found, "mended: its revision is sound")
            return
        try:
            with open(path, "rb") as file:
                data = file.read()
            if mark.revision and digest(data) != mark.digest:
                raise Damaged("its file is not what was written")
            content = document.parse_edited(data, path, now())
        except (FileNotFoundError, Damaged) as error:
            self.note(path, f"{found}, and its file cannot serve: {error}", "it is lost", mended=False)
            return
        top = max((version.revision for version in content.values()), default=0)
        time = mark.time or document.modified(path)
        same = [revision for revision in range(top, reached + 1) if _at(history, revision, time) == content]
        if same:
            history.add(_mark_line(mark, same[0], time, digest(data)))
            self.note(path, found, f"mended: it is revision {same[0]}")
            return
        now_there = _at(history, history.revision, time)
        revision = max(mark.revision, top, history.revision + 1)
        step = _mark_line(mark, revision, time, digest(data))
        step.reason = f"recovered checkpoint {mark.name}"
        for key, version in content.items():
            if now_there.get(key) != version and version.value is not None:
                step.set[key] = Set(Raw(version.value), version.expires, version.time)
        step.delete = sorted(now_there.keys() - content.keys())
        step.keys = len(step.set) + len(step.delete)
        history.add(step)
        if mark.revision:
            self.note(path, found, "mended from its file")
        else:
            self.note(path, f"{found}, and nothing confirms its file", "taken as its file has it: look at it", False)

    def rewrite(self, last: Line) -> None:
        """Write the history anew, in place of the damaged one."""
        path = self.backend.history_path
        os.rename(write_temporary(path, b"".join(self.history.dump(last))), path)
        fsync_folder(self.backend.folder)

    # --- what the history is the judge of ----------------------------------------------------------------------

    def mend_state(self) -> None:
        """The history is whole: it says what state.json must hold."""
        backend, history = self.backend, self.history
        last = history.last
        assert last is not None
        try:
            backend._refresh()  # takes in an edit by hand, and finishes a commit that was cut off
            return
        except Damaged as error:
            found = error.message
        live = _live(history)
        done = self.keep(backend.state_path) if os.path.exists(backend.state_path) else "it was missing"
        data = document.dump(live, {})
        os.rename(write_temporary(backend.state_path, data, last.mtime + 1), backend.state_path)
        fsync_folder(backend.folder)
        if digest(data) != last.digest:
            self.keep(backend.history_path)
            self.rewrite(msgspec.structs.replace(last, digest=digest(data), mtime=last.mtime + 1, count=len(live)))
        self.note(backend.state_path, found, f"written anew from the history, revision {last.rev}; {done}")

    def mend_checkpoints(self) -> None:
        """Every checkpoint's file must be there and be what the history says."""
        backend = self.backend
        backend._live = backend._history = None
        history = backend._past()
        newest = {mark.name: mark for mark in history.marks}
        make_folders(os.path.join(backend.folder, "checkpoints"))
        for mark in newest.values():
            path = backend._checkpoint_path(mark.name)
            known = history.digests.get((mark.name, mark.revision))
            try:
                with open(path, "rb") as file:
                    sound = digest(file.read()) == known
                found = "not what was written"
            except FileNotFoundError:
                sound, found = False, "missing"
            if sound or not known:
                continue
            done = f"; {self.keep(path)}" if found != "missing" else ""
            data = document.dump(_at(history, mark.revision, mark.time), {})
            os.rename(write_temporary(path, data), path)
            self.note(path, found, f"written anew from the history{done}")


def _mark_line(mark: MarkLine, revision: int, time: int, file: str) -> Line:
    return Line(revision, time, "", marks=[MarkLine(mark.name, revision, time, mark.note, file)])


def _names(keys: list[str]) -> str:
    shown = ", ".join(repr(key[:60]) for key in keys[:10])
    return shown if len(keys) <= 10 else f"{shown} and {len(keys) - 10} more"
