"""`recover()` of a JSON namespace: state.json, its history and the checkpoints' files, each mended from the others."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from ..errors import Damaged
from ..model import Problem, RecoveryReport, now
from . import json_document as document
from .base import Mark, Point, Version
from .json_history import History, Line, MarkLine, Set, digest, unseal
from .shared import fsync_folder, keep_damaged, make_folders, sweep, write_temporary

if TYPE_CHECKING:
    from .json_file import JSONBackend


def recover(backend: JSONBackend) -> RecoveryReport:
    """Check and mend; call it under the lock. See `Backend.recover`."""
    if not os.path.exists(backend.state_path) and not os.path.exists(backend.history_path):
        return RecoveryReport(backend.namespace, 0)
    return _Recovery(backend).run()


class _Recovery:
    def __init__(self, backend: JSONBackend) -> None:
        self.backend = backend
        self.problems: list[Problem] = []
        self.kept: list[str] = []
        self.lost: list[Mark] = []

    def note(self, subject: str, found: str, done: str, mended: bool = True) -> None:
        self.problems.append(Problem(os.path.relpath(subject, self.backend.root), found, done, mended))

    def keep(self, path: str) -> str:
        self.kept.append(keep_damaged(path))
        return f"the damaged file is kept as {os.path.basename(self.kept[-1])}"

    def run(self) -> RecoveryReport:
        backend = self.backend
        for name in sweep(backend.folder):
            self.note(os.path.join(backend.folder, name), "left over from a process that is gone", "removed")
        if not os.path.exists(backend.history_path):
            live = backend._refresh()  # adopts, or raises the Damaged that says where the file is wrong
            return RecoveryReport(backend.namespace, live.head.revision, tuple(self.problems), tuple(self.kept))
        history, seen, torn = self.read_history()
        if torn:
            self.mend_history(history, seen)
        else:
            self.mend_state(history)
        self.mend_checkpoints()
        revision = backend._refresh().head.revision
        return RecoveryReport(backend.namespace, revision, tuple(self.problems), tuple(self.kept))

    def read_history(self) -> tuple[History, int, bool]:
        """What the history says up to the first bad line, the highest revision seen at all, and if one was bad."""
        history, seen, torn = History(), 0, False
        later: dict[str, Mark] = {}
        with open(self.backend.history_path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break  # never acknowledged
                data = unseal(line[:-1])
                if data is None:
                    torn = True
                elif not torn:
                    history.take(line[:-1])
                    seen = max(seen, history.revision)
                elif data.startswith(b'{"rev"'):
                    record = msgspec.json.decode(data, type=Line)
                    seen = max(seen, record.rev)
                    for mark in record.marks:
                        later[mark.name] = Mark(mark.name, mark.revision, mark.time, mark.note)
                        history.digests[mark.name, mark.revision] = mark.digest
        self.lost = list(later.values())
        return history, seen, torn or history.last is None

    def state(self, expected: str) -> tuple[dict[str, Version] | None, bytes]:
        """state.json if it is what the digest says, or, without one, if it parses."""
        try:
            with open(self.backend.state_path, "rb") as file:
                data = file.read()
            if expected and digest(data) != expected:
                return None, data
            return document.parse_edited(data, self.backend.state_path, now()), data
        except (FileNotFoundError, Damaged):
            return None, b""

    def mend_state(self, history: History) -> None:
        """The history is whole: it says what state.json must hold."""
        backend, last = self.backend, history.last
        assert last is not None
        try:
            backend._refresh()  # takes in an edit by hand, and finishes a commit that was cut off
            return
        except Damaged as error:
            found = error.message
        live = {key: versions[-1] for key, versions in history.versions.items() if versions[-1].value is not None}
        done = self.keep(backend.state_path) if os.path.exists(backend.state_path) else "it was made anew"
        data = document.dump(live, {})
        os.rename(write_temporary(backend.state_path, data, last.mtime + 1), backend.state_path)
        fsync_folder(backend.folder)
        if digest(data) != last.digest:
            fresh = msgspec.structs.replace(last, digest=digest(data), mtime=last.mtime + 1, count=len(live))
            self.rewrite(history, fresh)
        self.note(backend.state_path, found, f"written anew from the history, revision {last.rev}; {done}")

    def mend_history(self, history: History, seen: int) -> None:
        """A line of the history is bad: what came before it stands, state.json says what is live."""
        backend = self.backend
        reached = history.revision
        live, data = self.state("")
        done = self.keep(backend.history_path)
        if live is None:
            live = {key: versions[-1] for key, versions in history.versions.items() if versions[-1].value is not None}
            if os.path.exists(backend.state_path):
                self.keep(backend.state_path)
            self.note(backend.state_path, "damaged together with the history",
                      f"taken back to revision {reached}; what was written after it is lost", mended=False)  # fmt: skip
        before = {key: versions[-1] for key, versions in history.versions.items() if versions[-1].value is not None}
        revision = max([seen, *(version.revision for version in live.values())]) + 1
        line = Line(revision, now(), "", reason="recovered")
        for key, version in live.items():
            if before.get(key) != version:
                assert version.value is not None
                line.set[key] = Set(Raw(version.value), version.expires, version.time)
        line.delete = sorted(before.keys() - live.keys())
        line.keys = len(line.set) + len(line.delete)
        history.lineage = history.lineage or secrets.token_hex(16)
        self.mend_marks(history, reached, line)
        history.add(line)
        live = {key: versions[-1] for key, versions in history.versions.items() if versions[-1].value is not None}
        data = document.dump(live, {})
        line.digest, line.count, line.mtime = digest(data), len(live), now() * 1000
        os.rename(write_temporary(backend.state_path, data, line.mtime), backend.state_path)
        self.rewrite(history, line)
        self.note(backend.history_path, "a line is not what was written",
                  f"history kept up to revision {reached}, the live state is revision {revision}; {done}")  # fmt: skip

    def mend_marks(self, history: History, reached: int, line: Line) -> None:
        """Checkpoints made after the bad line: their files, where sound, become revisions again."""
        base = reached
        for mark in sorted(self.lost, key=lambda mark: mark.revision):
            path = self.backend._checkpoint_path(mark.name)
            try:
                with open(path, "rb") as file:
                    data = file.read()
                if digest(data) != history.digests.get((mark.name, mark.revision)):
                    raise Damaged("its file is not what was written")
                content = document.parse(data, path)
            except (FileNotFoundError, Damaged) as error:
                self.note(path, f"checkpoint {mark.name!r} could not be read: {error}", "it is lost", mended=False)
                continue
            step = Line(max(mark.revision, base), mark.time, "", reason=f"recovered checkpoint {mark.name}")
            point = Point(history.revision, 0)
            now_there = {key: history.at(key, point) for key in history.versions}
            if step.rev > history.revision:
                for key, version in content.items():
                    if now_there.get(key) != version and version.value is not None:
                        step.set[key] = Set(Raw(version.value), version.expires, version.time)
                step.delete = [key for key, old in now_there.items() if old is not None and key not in content]
                step.keys = len(step.set) + len(step.delete)
            elif {key: old for key, old in now_there.items() if old is not None} != content:
                self.note(path, f"checkpoint {mark.name!r} lies in the damaged part", "it is lost", mended=False)
                continue
            step.marks = [MarkLine(mark.name, step.rev, mark.time, mark.note, digest(data))]
            history.add(step)
            base = step.rev
            self.note(path, f"checkpoint {mark.name!r} lay in the damaged part", "mended from its file")
        line.rev = max(line.rev, history.revision + 1)

    def rewrite(self, history: History, last: Line) -> None:
        """Write the history anew."""
        backend = self.backend
        if os.path.exists(backend.history_path):
            self.keep(backend.history_path)
        data = b"".join(history.dump(last))
        os.rename(write_temporary(backend.history_path, data), backend.history_path)
        fsync_folder(backend.folder)

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
            point = Point(mark.revision, mark.time)
            at = ((key, history.at(key, point)) for key in history.versions)
            data = document.dump({key: version for key, version in at if version is not None}, {})
            os.rename(write_temporary(path, data), path)
            self.note(path, found, f"written anew from the history{done}")


