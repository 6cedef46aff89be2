"""`recover()` of a JSON namespace: state.json, its history and the checkpoints' files, each mended from the others.

A line of the history is sound by its checksum, state.json and a checkpoint's file by the digest in the history. Where
the line that holds a digest is itself the damaged one, each entry is compared with the line that wrote it; what
nothing confirms is said.
"""

from __future__ import annotations

import os
from bisect import bisect_left, insort
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from ...errors import Damaged, InvalidName
from ...model import Commit, Problem, check_checkpoint, now, to_datetime, to_micros
from ..common import backup_damaged_file, fsync_folder, makedirs_durable, remove_stale_temporary_files, write_temporary
from ..protocol import CheckpointRecord, Restored, Salvage, StateAt, Version
from . import document
from .history import (
    BaseVersion,
    CheckpointEntry,
    CommitRecord,
    History,
    ValueRecord,
    check_checksum,
    checkpoint_entry,
    digest,
    latest,
    written,
)

if TYPE_CHECKING:
    from .backend import JSONBackend

Entries = dict[str, Version]
MARKS = "checkpoints that it told of are taken from their files, and of those without one nothing is known"


def _live(history: History) -> Entries:
    return {key: versions[-1] for key, versions in history.versions.items() if versions[-1].value is not None}


def _shown(history: History, revision: int) -> Entries:
    """The last version of every key up to a revision, deletes and what has expired since included."""
    found = ((key, latest(versions, revision)) for key, versions in history.versions.items())
    return {key: version for key, version in found if version is not None}


def _at(history: History, revision: int, time: int = 0) -> Entries:
    found = ((key, history.version_at(key, StateAt(revision, time))) for key in history.versions)
    return {key: version for key, version in found if version is not None}


def _lead(line: CommitRecord, shown: Entries, content: Entries) -> None:
    """Make a commit's line lead from one state to another."""
    for key, version in content.items():
        if shown.get(key) != version:
            assert version.value is not None
            line.set[key] = ValueRecord(Raw(version.value), version.expires, version.time)
    line.delete = sorted(shown.keys() - content.keys())
    line.keys = len(line.set) + len(line.delete)


class _Recovery:
    """See `RecoverySession`."""

    def __init__(self, backend: JSONBackend) -> None:
        self.backend = backend
        self.problems: list[Problem] = []
        self.kept: list[str] = []
        self.sound: list[bytes] = []  # the history's sound lines, each once, in their order
        self.lines: list[CommitRecord] = []  # the commits among them
        self.history = History()  # what they say
        self.end: CommitRecord | None = None  # the last of them, if state.json should be what it says
        self.reached = 0  # its revision
        self.floor = 0  # as the sound lines have it
        self.known = 0  # from there up to here all is known, and from the new floor on
        self.trailing: list[bytes] = []  # bad lines after it
        self.gaps: list[tuple[int, int]] = []  # the revisions before and after lines that are gone
        self.broken: list[tuple[int, int]] = []  # those of them that leave states unknown
        self.digests: dict[int, str] = {}  # of state.json at revisions
        self.proven = False  # whether the live state is
        self.led = False  # whether it is what the first bad line at the end led to
        self.found = ""  # what is wrong with the history
        self.unexplained = False  # whether there are bad lines beside the first
        self.disorder = ""  # what is wrong only with its order

    def note(self, subject: str, found: str, done: str, mended: bool = True) -> None:
        self.problems.append(Problem(os.path.relpath(subject, self.backend.root), found, done, mended))

    def keep(self, path: str) -> str:
        self.kept.append(backup_damaged_file(path))
        return f"the damaged file is kept as {os.path.basename(self.kept[-1])}"

    def salvage(self) -> Salvage | None:
        """Nothing: `repair` has decided and written all."""
        return None

    def rewrite(self, restored: Restored) -> None:
        """Never called: `salvage` returns nothing."""
        raise NotImplementedError

    def repair(self) -> None:
        """Mend the files."""
        backend = self.backend
        places = (backend.state_path, backend.history_path, os.path.join(backend.folder, "checkpoints"))
        if not any(map(os.path.exists, places)):
            return
        folder = os.path.join(backend.folder, "checkpoints")  # the lock has seen to the other one
        for name in remove_stale_temporary_files(folder):
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
                if self.disorder:
                    self.put_in_order()
                self.mend_state()
            self.mend_checkpoints()
        backend._refresh()  # without a history: adopts, or says where the file is wrong

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
        """Take in every sound line, in the order in which they were written, and find what is gone between them."""
        path = self.backend.history_path
        with open(path, "rb") as file:
            raw = file.readlines()
        if raw and not raw[-1].endswith(b"\n"):
            if check_checksum(raw[-1][:-1]) is None:
                raw.pop()  # of a commit that was never acknowledged
            else:
                self.found = "the end of the last line is not what was written"
        places: dict[bytes, int] = {}
        bad = []
        for number, line in enumerate(raw):
            if check_checksum(line[:-1]) is None:
                bad.append(number)
            else:
                places.setdefault(line[:-1], number)
        self.sound = sorted(places, key=_order)
        self.take_lines()
        if bad:
            many = f"{len(bad)} lines are" if len(bad) > 1 else "a line is"
            self.found = f"{many} not what was written"
            self.trailing = [raw[number] for number in bad if number > max(places.values(), default=-1)]
            first = min((places[text] for text in self.sound if _order(text)[1] > self.history.floor), default=len(raw))
            bad = [number for number in bad if not _is_header(raw[number], number)]
            self.unexplained = bool(bad)
            if self.history.floor and any(number < first for number in bad):
                self.gaps.insert(0, (-1, self.history.floor))  # of what is kept from before the floor
        elif self.gaps:
            self.found = self.found or "lines are missing"
        elif self.sound != [line[:-1] for line in raw]:
            self.disorder = "lines are doubled, or not in their order"
        self.look_at_end()

    def take_lines(self) -> None:
        """Make the history of the sound lines, and note the revisions of which lines are gone."""
        history = self.history
        for text in self.sound:
            if (line := _line(text)) is None:
                history.append_line(text)
            else:
                self.lines.append(line)
        history.floor = max([history.floor, *(line.floor for line in self.lines)])
        here = self.floor = history.floor
        for line in self.lines:
            last = history.last
            if last is not None and line.writes() and line.rev <= last.rev:
                found = f"two commits are of revision {line.rev}"
                self.note(self.backend.history_path, found, "the later of them is not taken in", mended=False)
                self.found = "lines are of another history"
                continue
            after = line.rev - (line.writes() or not line.digest)  # the revision that it followed
            apart = last is not None and line.before and last.digest not in ("", line.before)
            if line.rev > history.floor and (after > here or apart):
                self.gaps.append((here, after))
            if line.writes() and line.before:
                self.digests[after] = line.before
            if line.digest:
                self.digests[line.rev] = line.digest
            history.lineage = line.lineage or history.lineage
            history.add(line)
            here = max(here, line.rev)
        history.revision = self.reached = self.known = here

    def look_at_end(self) -> None:
        """Whether the last line is there, and leads to state.json."""
        last = self.history.last
        if last is None:
            self.found = self.found or "it holds no commit"
        elif last.digest:
            self.end = last
        else:
            self.found = self.found or "its last line is missing"
            found = "the line that names the checkpoints is missing"
            self.note(self.backend.history_path, found, MARKS, mended=False)
        try:
            with open(self.backend.state_path, "rb") as file:
                state = document.parse_edited(file.read(), self.backend.state_path, now())
        except (FileNotFoundError, Damaged):
            state = {}
        if last is not None and any(version.revision > last.rev for version in state.values()):
            self.found, self.end = self.found or f"it ends at revision {last.rev}, before state.json", None
        if not self.found and self.orphans():
            self.found = "it does not know of checkpoints that have files"

    def put_in_order(self) -> None:
        """Nothing is gone: every line is there, at another place or twice."""
        done = self.keep(self.backend.history_path)
        self.write_history([line + b"\n" for line in self.sound])
        self.note(self.backend.history_path, self.disorder, f"put in order, nothing is lost; {done}")

    def mend_history(self) -> None:
        """Make one of the sound lines and what state.json and the checkpoints' files prove of the revisions between."""
        backend, history = self.backend, self.history
        done = self.keep(backend.history_path) if os.path.exists(backend.history_path) else "what it told is lost"
        history.lineage = history.lineage or os.urandom(16).hex()
        for mark, content in self.files():
            self.learn(mark.revision, content, mark.time)
        live = self.find_live()
        if self.proven:
            self.learn(self.reached, live, 0)
        closed = [after - before < 2 and self.proves(after) for before, after in self.gaps]
        for (before, after), whole in zip(self.gaps, closed, strict=True):
            if whole and after > before:
                self.fill_in(after)
        floor = self.find_floor(closed)
        self.broken = [gap for gap, whole in zip(self.gaps, closed, strict=True) if not whole]
        self.known = self.broken[0][0] if self.broken else history.revision
        history.floor = history.revision + 1 if floor is None else floor
        self.mend_marks()
        unknown = 0 if self.proven else 1 if self.led else len(self.trailing)
        seen = max([self.reached + unknown, *(version.revision for version in live.values())])
        line = self.recovered(live, seen)
        if floor is None or not self.runs_on():
            history.floor = history.revision  # checkpoints still show theirs
        data = document.serialize(_live(history), {})
        line.digest, line.count, line.mtime = digest(data), len(live), now() * 1000
        os.rename(write_temporary(backend.state_path, data, line.mtime), backend.state_path)
        self.write_history(history.to_lines(line))
        self.tell(done, seen)

    def recovered(self, live: Entries, seen: int) -> CommitRecord:
        """A commit that leads to the live state, where there must be one; else only what tells of state.json."""
        history = self.history
        line = CommitRecord(history.revision, now(), "", reason="recovered")
        _lead(line, _live(history), live)
        if self.led and history.revision == self.reached:
            line.rev += 1  # what is recovered is what that line had written
            history.add(line)
        elif line.writes() or seen > history.revision or history.floor > history.revision:
            line.rev = max(seen, history.revision) + 1
            history.add(line)
        return line

    def tell(self, done: str, seen: int) -> None:
        """Report which revisions are lost, and what of them."""
        history, path = self.history, self.backend.history_path
        end = [(self.reached, seen)] if seen > self.reached else []
        first = max(min([before for before, _ in [*self.gaps, *end]], default=self.reached), 0)
        kept = f"sound up to revision {first}" + (", and sound lines after it are kept" if self.gaps else "")
        self.note(path, self.found, f"{kept}; the live state is revision {history.revision}; {done}")
        for before, after in [*self.gaps, *end]:
            which = f"revision {after}" if after == before + 1 else f"revisions {before + 1} to {after}"
            found = f"{which} lay in what is not sound"
            lost = "lost: its time, reason and author; its state is as "
            if (before, after) in self.gaps and (before, after) not in self.broken:
                lost += "it was, which its digest proves"
            elif (before, after) in end and self.led:
                lost += "state.json has it, which its digest proves"
            else:
                lost = "lost: what was written, when and why; states are known "
                lost += f"from revision {history.floor} on, before it only where a checkpoint has them"
            if before < 0:
                found = "of what was kept from before the floor, some lay in what is not sound"
            elif after == before:
                found = f"what came after revision {before} does not follow it"
            if after > before or (before, after) in self.broken:
                self.note(path, found, f"{lost}; {MARKS}", mended=False)
        if self.unexplained and not self.gaps and not end:
            self.note(path, "the bad lines made no revision, but made or deleted checkpoints", MARKS, mended=False)

    def learn(self, revision: int, shown: Entries, time: int) -> None:
        """Put in what a whole state, which is known by its digest, tells of commits whose lines are lost."""
        history = self.history
        for key, version in shown.items():
            versions = history.versions.setdefault(key, [])
            if version.revision not in {one.revision for one in versions}:
                insort(versions, version, key=lambda one: one.revision)
        lost = [number for before, after in self.gaps for number in range(before + 1, after + 1) if number <= revision]
        for key, versions in history.versions.items():
            found = latest(versions, revision)
            if key in shown or found is None or not found.visible(time):
                continue
            if lost and lost[-1] > found.revision:  # one of them deleted it
                insort(versions, Version(key, None, lost[-1], self.time_of(lost[-1])), key=lambda one: one.revision)

    def time_of(self, revision: int) -> int:
        """When a commit was that is lost: as its entries have it, or that of the commit before."""
        history = self.history
        found = [one.time for versions in history.versions.values() for one in versions if one.revision == revision]
        return max(found or (line.time for line in self.lines if line.rev <= revision), default=0)

    def fill_in(self, revision: int) -> None:
        """The log tells that there was a commit of which no more is known than what it wrote."""
        history = self.history
        keys = sum(one.revision == revision for versions in history.versions.values() for one in versions)
        commit = Commit(revision, to_datetime(self.time_of(revision)), "recovered: its line was lost", "", keys)
        insort(history.commits, commit, key=lambda one: one.revision)

    def proves(self, revision: int) -> bool:
        """Whether the state of a revision, put together of what is known, has the digest that a sound line names."""
        if revision not in self.digests:
            return False
        state = {key: one for key, one in _shown(self.history, revision).items() if one.value is not None}
        return digest(document.serialize(state, {})) == self.digests[revision]

    def find_floor(self, closed: list[bool]) -> int | None:
        """From which revision on every state is known in spite of the gaps; None where not even the last is.

        Once a state is proven, the sound lines lead from it to all that follow, up to the next gap.
        """
        for place in reversed(range(len(self.gaps))):
            if closed[place]:
                continue
            following = self.gaps[place + 1] if place + 1 < len(self.gaps) else None
            until = following[0] if following else self.history.revision
            numbers = sorted(number for number in self.digests if self.gaps[place][1] <= number <= until)
            first = bisect_left(numbers, True, key=self.proves)
            if first < len(numbers):
                return numbers[first]
            return following[1] if following else None
        return self.history.floor

    def runs_on(self) -> bool:
        """Whether the log has every revision above the floor."""
        history = self.history
        above = [commit.revision for commit in history.commits if commit.revision > history.floor]
        return above == list(range(history.floor + 1, history.revision + 1))

    def find_live(self) -> Entries:
        """The live state, of state.json and the sound lines; `proven` where a digest says that it is right."""
        backend, history = self.backend, self.history
        try:
            with open(backend.state_path, "rb") as file:
                data = file.read()
            state = document.parse_edited(data, backend.state_path, now())
        except (FileNotFoundError, Damaged):
            data, state = b"", {}
        if self.end is not None and data and digest(data) in (self.end.digest, self.end.before):
            self.proven = True
            if digest(data) != self.end.digest:
                state.update((version.key, version) for version in written(self.end))
            return {key: version for key, version in state.items() if version.value is not None}
        if data:
            leads = b'"digest":"%s"' % digest(data).encode()  # no chance makes these 32 digits
            number = b'"rev":%d,' % (self.reached + 1)
            if any(leads in line and number in line and line.count(b'{"sum":') < 2 for line in self.trailing):
                self.led = True
                return state
            return self.confirm(state)
        if os.path.exists(backend.state_path):
            self.keep(backend.state_path)
        if not self.trailing and self.end is not None and self.proves(self.reached):
            self.proven = True
            self.note(backend.state_path, "missing or damaged, as is the history", "written anew from the history")
            return _live(history)
        starts = [before for before, _ in self.gaps]
        proven = (revision for revision in [self.reached, *reversed(starts)] if self.proves(revision))
        revision = max(next(proven, min([self.reached, *starts])), 0)
        done = f"taken back to revision {revision}; what was written after it is lost, but for what checkpoints show"
        self.note(backend.state_path, "missing or damaged, as is the history", done, mended=False)
        return {key: found for key, found in _shown(history, revision).items() if found.value is not None}

    def confirm(self, state: Entries) -> Entries:
        """A state.json whose digest is lost, entry by entry as the sound lines have it."""
        backend, history = self.backend, self.history
        sound = {(one.key, one.revision): one for versions in history.versions.values() for one in versions}
        known = {line.rev for line in self.lines}
        unsure = history.floor if any(before < 0 for before, _ in self.gaps) else 0  # up to there, any may be lost
        out, doubtful, wrong = {}, [], []
        for key, version in state.items():
            if sound.get((key, version.revision)) == version:
                out[key] = version
            elif version.revision <= unsure or (version.revision > history.floor and version.revision not in known):
                out[key] = version
                doubtful.append(key)
            else:
                wrong.append(key)
        for key, newest in _live(history).items():
            if key in wrong:
                out[key] = newest
            elif key not in state or (key not in doubtful and state[key].revision < newest.revision):
                doubtful.append(key)
        if wrong:
            done = f"{self.keep(backend.state_path)}; keys taken from the history: {_names(wrong)}"
            self.note(backend.state_path, "not what was written, as is the history", done, mended=False)
        if doubtful:
            self.note(backend.state_path, f"nothing confirms it for the keys {_names(doubtful)}",
                      "they are as state.json has them: look at them", mended=False)  # fmt: skip
        return out

    # --- checkpoints -------------------------------------------------------------------------------------------

    def files(self) -> list[tuple[CheckpointRecord, Entries]]:
        """The checkpoints whose files are what a sound line says that was written."""
        out = []
        for mark in {mark.name: mark for mark in self.history.marks}.values():
            path = self.backend._checkpoint_path(mark.name)
            try:
                with open(path, "rb") as file:
                    data = file.read()
                if digest(data) == self.history.digests.get((mark.name, mark.revision)):
                    out.append((mark, document.parse_edited(data, path, now())))
            except (FileNotFoundError, Damaged):
                continue  # who needs it says what is wrong with it
        return sorted(out, key=lambda item: item[0].revision)

    def mend_marks(self) -> None:
        """Checkpoints whose state may be lost, or whose line is: from the sound revisions, or their own files."""
        history = self.history
        shown = {(mark.name, mark.revision): content for mark, content in self.files()}
        lost = []
        for mark in history.marks:
            content = shown.get((mark.name, mark.revision))
            if mark.revision <= self.known or mark.revision >= history.floor:
                continue
            if content is None or _at(history, mark.revision, mark.time) != content:
                lost.append(mark)
        history.marks = [mark for mark in history.marks if mark not in lost]
        for mark in lost:
            self.mend_mark(mark, shown.get((mark.name, mark.revision)))
        for name in self.orphans():
            self.adopt_mark(name)

    def orphans(self) -> list[str]:
        """Checkpoints that have a sound file of which no sound line tells."""
        history, folder = self.history, os.path.join(self.backend.folder, "checkpoints")
        named = {mark.name for mark in history.marks}
        told = {(name, file) for (name, _), file in history.digests.items()}
        out = []
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            stem, end = os.path.splitext(name)
            if end != ".json":
                continue
            path = os.path.join(folder, name)
            try:
                check_checkpoint(stem)
                with open(path, "rb") as file:
                    data = file.read()
                content = document.parse_edited(data, path, now())
            except (InvalidName, Damaged, IsADirectoryError):
                continue
            # One of a name that has another checkpoint may as well be damage, if it is of no state that was there
            if (stem, digest(data)) not in told and (stem not in named or self.same(content, document.modified(path))):
                out.append(stem)
        return out

    def same(self, content: Entries, time: int) -> list[int]:
        """The known revisions whose states are this one. O(versions + revisions)."""
        history = self.history
        low, high = max((one.revision for one in content.values()), default=0), self.reached
        if low > high or content.keys() - history.versions.keys():
            return []
        steps = [0] * (high - low + 2)  # by how many more, or fewer, keys it differs than at the revision before
        for key, versions in history.versions.items():
            for version, following in pairwise([Version(key, None, 0, 0), *versions, None]):
                assert version is not None
                start = max(version.revision, low)
                end = min(following.revision, high + 1) if following is not None else high + 1
                if start < end and content.get(key) != (version if version.visible(time) else None):
                    steps[start - low] += 1
                    steps[end - low] -= 1
        alike = (low + place for place, differ in enumerate(accumulate(steps[:-1])) if not differ)
        return [revision for revision in alike if self.floor <= revision <= self.known or revision >= history.floor]

    def mend_mark(self, mark: CheckpointRecord, content: Entries | None) -> None:
        """A checkpoint whose revision cannot be read any more: its file's content as a revision of its own."""
        path = self.backend._checkpoint_path(mark.name)
        found = f"checkpoint {mark.name!r} (revision {mark.revision}) is of a state that is lost"
        if content is None:
            self.note(path, f"{found}, and its file cannot serve", "it is lost", mended=False)
            return
        file = self.history.digests[mark.name, mark.revision]
        revision = self.add_state(checkpoint_entry(mark, file), content)
        self.note(path, found, f"mended from its file, as revision {revision}")

    def adopt_mark(self, name: str) -> None:
        """A checkpoint of which only its file tells: what its line told else is lost."""
        history, path = self.history, self.backend._checkpoint_path(name)
        with open(path, "rb") as file:
            data = file.read()
        content = document.parse_edited(data, path, now())
        mark = CheckpointEntry(name, 0, document.modified(path), "", digest(data))
        found = f"of checkpoint {name!r} only its file is there, no sound line of the history"
        lost = "lost are its note, if it had one, and its time, for which that of the file stands"
        same = self.same(content, mark.time)
        if not same:
            revision = self.add_state(mark, content)
            self.note(path, f"{found}, and nothing confirms it", f"taken as revision {revision}, as its file has it: "
                      f"look at it; {lost}", mended=False)  # fmt: skip
            return
        commits = {commit.revision: to_micros(commit.time) for commit in history.commits}
        mark.revision = max((one for one in same if commits.get(one, 0) <= mark.time), default=same[0])
        history.marks.append(CheckpointRecord(name, mark.revision, mark.time))
        history.digests[name, mark.revision] = mark.digest
        history.marks.sort(key=lambda one: one.time)
        which = f"revision {mark.revision}"
        if len(same) > 1:
            which += f", or another of {same[0]} to {same[-1]} that shows the same"
        self.note(path, found, f"its state is whole: {which}; {lost}", mended=False)

    def add_state(self, mark: CheckpointEntry, content: Entries) -> int:
        """A commit that leads to a state, and its checkpoint. Returns its revision."""
        history = self.history
        shown = _at(history, history.revision, mark.time)
        top = max((version.revision for version in content.values()), default=0)
        step = CommitRecord(max(mark.revision, top, history.revision + 1), mark.time, "")
        step.reason = f"recovered checkpoint {mark.name}"
        step.marks = [msgspec.structs.replace(mark, revision=step.rev)]
        _lead(step, shown, content)
        history.add(step)
        return step.rev

    def write_history(self, lines: list[bytes]) -> None:
        """Write the history anew, in place of the damaged one."""
        path = self.backend.history_path
        os.rename(write_temporary(path, b"".join(lines)), path)
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
        data = document.serialize(live, {})
        os.rename(write_temporary(backend.state_path, data, last.mtime + 1), backend.state_path)
        fsync_folder(backend.folder)
        if digest(data) != last.digest:
            self.keep(backend.history_path)
            last = msgspec.structs.replace(last, digest=digest(data), mtime=last.mtime + 1, count=len(live))
            self.write_history(history.to_lines(last))
        self.note(backend.state_path, found, f"written anew from the history, revision {last.rev}; {done}")

    def mend_checkpoints(self) -> None:
        """Every checkpoint's file must be there and be what the history says."""
        backend = self.backend
        backend._live = backend._history = None
        history = backend._past()
        newest = {mark.name: mark for mark in history.marks}
        makedirs_durable(os.path.join(backend.folder, "checkpoints"))
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
            data = document.serialize(_at(history, mark.revision, mark.time), {})
            os.rename(write_temporary(path, data), path)
            self.note(path, found, f"written anew from the history{done}")


def _line(text: bytes) -> CommitRecord | None:
    """A sound line, if it is a commit's."""
    data = check_checksum(text)
    return msgspec.json.decode(data, type=CommitRecord) if data is not None and data.startswith(b'{"rev"') else None


def _order(text: bytes) -> tuple[int, int, int]:
    """By what sound lines are in the order in which they were written: revision, kind, time."""
    if (line := _line(text)) is not None:
        return line.rev, 2 if line.digest else 1, line.time
    data = check_checksum(text)
    if data is not None and data.startswith(b'{"key"'):
        return msgspec.json.decode(data, type=BaseVersion).revision, 0, 0
    return -1, 0, 0


def _is_header(line: bytes, number: int) -> bool:
    """Whether a bad line was the first one only, and what it told is told by others."""
    return number == 0 and b'"format":' in line and line.count(b'{"sum":') < 2


def _names(keys: list[str]) -> str:
    shown = ", ".join(repr(key[:60]) for key in keys[:10])
    return shown if len(keys) <= 10 else f"{shown} and {len(keys) - 10} more"
