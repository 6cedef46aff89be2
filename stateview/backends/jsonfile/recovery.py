"""The recovery of a JSON namespace: read every sound line and file, and write the files that follow from others.

A line of the history is sound by its checksum; state.json and a checkpoint's file are sound by the digest that the
history holds. While the history is whole, all other files follow from it. `maintenance.lost_commits` decides what is
lost if the history itself is damaged.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from ...errors import Damaged, InvalidName
from ...model import Commit, Problem, check_checkpoint, now
from ..deltas import Chain
from ..files.durable_files import (
    backup_damaged_file,
    fsync_folder,
    makedirs_durable,
    remove_stale_temporary_files,
    replaced_path,
    temporary,
    write_temporary,
)
from ..legacy import json_files
from ..protocol import CheckpointRecord, Head, LogSalvage, Restored, StoredVersion, Version, WholeState
from ..state_match import matching_revisions
from ..stored_values import are_sealed, lost_keyring_error
from . import document
from .history import History, as_kept
from .records import (
    BaseVersion,
    CommitRecord,
    PackedVersion,
    check_checksum,
    decode_record,
    digest,
    file_digest,
    written,
)
from .transfer import JSONStagedImport

if TYPE_CHECKING:
    from .backend import JSONBackend

Entries = dict[str, Version]


class JSONRecovery:
    """A `RecoverySession` of a folder. The caller holds the lock of the folder."""

    def __init__(self, backend: JSONBackend) -> None:
        self.problems: list[Problem] = []
        self.kept: list[str] = []
        self._backend = backend
        self._is_rewritten = False
        self._history = History()  # the sound lines
        self._lines: list[CommitRecord] = []  # the commits among them
        self._sound: list[bytes] = []  # these lines, each once, in their order
        self._aside: list[Version] = []  # sound versions of lines that hold others which cannot be read
        self._disorder = ""  # what is wrong with the order of the lines, where all are sound
        self._bad_end: list[bytes] = []  # the damaged lines after the last sound one
        self._digests: dict[int, str] = {}  # of state.json at revisions
        self._stored_reasons: set[str] = set()
        self._origins: dict[tuple[str, bytes | None], int] = {}  # of stored forms that are valid for one revision
        self._parsed: dict[str, Entries | None] = {}  # the entries of files, by digest
        self._salvage = LogSalvage(subject=self._relative(backend.history_path), damage="")
        self._salvage.live_subject = self._relative(backend.state_path)

    def repair(self) -> None:
        """Read the history. While it is whole, write the files that follow from it."""
        backend = self._backend
        folder = os.path.join(backend.folder, "checkpoints")
        if not any(map(os.path.exists, (backend.state_path, backend.history_path, folder))):
            return
        for name in remove_stale_temporary_files(folder):  # the lock has removed those of the other folder
            self._note(os.path.join(folder, name), "left over from a process that is gone", "removed", "leftover")
        if os.path.exists(backend.history_path):
            self._read_history()
            if self._history.last is None and not os.path.exists(backend.state_path) and not self._is_history_missing():
                self._salvage.damage = ""  # a first commit that was never acknowledged
                return
        elif self._is_history_missing():
            self._choose_values([])  # what the files hold may be sealed
            self._salvage.damage = "it is missing"
        if self._salvage.damage:
            return
        if self._disorder:
            self._put_in_order()
        if os.path.exists(backend.history_path):
            self._repair_state()
            self._repair_checkpoints()
        backend._refresh()  # adopts older data, or says which file is wrong

    def salvage(self) -> LogSalvage | None:
        """Return the sound lines and files, if the history is damaged."""
        if self._is_rewritten or not self._salvage.damage:
            return None
        salvage, history = self._salvage, self._history
        salvage.head = Head(history.revision, 0, -1, history.floor, history.lineage)
        salvage.versions = [
            StoredVersion(one.key, one.value, one.revision, one.time, one.expires)
            for versions in (*history.versions.values(), self._aside)
            for one in map(history.whole, versions)
        ]
        salvage.commits, salvage.marks = history.commits, list(history.marks)
        salvage.states = self._checkpoint_states()
        salvage.digests = frozenset(self._digests)
        salvage.confirms = self._confirms
        self._read_state()
        if not history.values.plain:
            entries = (version for state in salvage.states for version in (state.entries or {}).values())
            found = (*salvage.versions, *(salvage.live or {}).values(), *entries)
            self._origins = {(version.key, version.value): version.revision for version in found}
        return salvage

    def rewrite(self, restored: Restored) -> None:
        """Build the files beside the namespace, and rename them into it: the history last, which makes them count."""
        name = os.path.basename(temporary(self._backend.history_path))
        stage = JSONStagedImport(self._backend, name, is_stored=True)
        try:
            stage.fileless = {mark.name for mark in self._history.marks if not self._history.has_file(mark.name)}
            self._stored_reasons = {commit.reason for commit in self._history.commits}
            versions = restored.versions if self._backend.values.plain else map(self._resealed, restored.versions)
            stage.put(versions, map(self._stored, restored.commits), restored.marks, note={})
            self._replace(stage.build(restored.head))
        finally:
            stage.drop()
            self._is_rewritten = True
            self._backend._live = self._backend._history = None

    def _resealed(self, version: StoredVersion) -> StoredVersion:
        """Return a version in the stored form for its revision, which may not be the revision that it had."""
        origin = self._origins.get((version.key, version.value), version.revision)
        if version.value is None or origin == version.revision:
            return version
        value = self._backend.values.unpack(version.value, version.key, origin)
        return self._backend.values.pack_version(msgspec.structs.replace(version, value=value))

    def _stored(self, commit: Commit) -> Commit:
        """Return a commit with its texts in the stored form, which those of sound lines are in already."""
        return commit if commit.reason in self._stored_reasons else self._backend.values.pack_commit(commit)

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self._backend.root)

    def _note(self, path: str, found: str, done: str, code: str) -> None:
        self.problems.append(Problem(self._relative(path), found, done, True, code))

    def _keep(self, path: str) -> str:
        self.kept.append(backup_damaged_file(path))
        return f"the damaged file is kept as {os.path.basename(self.kept[-1])}"

    # --- the history -------------------------------------------------------------------------------------------

    def _is_history_missing(self) -> bool:
        """Whether another file refers to the history."""
        backend = self._backend
        state = None
        if os.path.exists(backend.state_path):
            with open(backend.state_path, "rb") as file:
                state = file.read()
        return bool(json_files.refers_to_history(backend.folder, state))

    def _read_history(self) -> None:
        """Read every sound line, in the order in which they were written, and find gaps between them."""
        salvage = self._salvage
        with open(self._backend.history_path, "rb") as file:
            raw = file.readlines()
        if raw and not raw[-1].endswith(b"\n"):
            if check_checksum(raw[-1][:-1]) is None:
                raw.pop()  # of a commit that was never acknowledged
            else:
                salvage.damage = "the end of the last line is not what was written"
        places: dict[bytes, int] = {}
        bad = []
        for number, line in enumerate(raw):
            if check_checksum(line[:-1]) is None:
                bad.append(number)
            else:
                places.setdefault(line[:-1], number)
        sound = sorted(places, key=_order)
        self._choose_values(sound)
        if bad or not _has_all_bases(sound):
            self._history.elsewhere = self._values_of_files()
            if unreadable := self._find_unreadable(sound):
                bad = sorted([*bad, *map(places.pop, unreadable)])
                sound = [line for line in sound if line in places]
        self._sound = sound
        self._take_lines(sound)
        if bad:
            lines = f"{len(bad)} lines are" if len(bad) > 1 else "a line is"
            salvage.damage = f"{lines} not what was written"
            self._bad_end = [raw[number] for number in bad if number > max(places.values(), default=-1)]
            salvage.unread_end = len(self._bad_end)
            first = min((places[text] for text in sound if _order(text)[1] > self._history.floor), default=len(raw))
            bad = [number for number in bad if not _is_header(raw[number], number)]
            salvage.checkpoints_lost = bool(bad)
            if self._history.floor and any(number < first for number in bad):
                salvage.gaps.insert(0, (-1, self._history.floor))
        elif salvage.gaps:
            salvage.damage = salvage.damage or "lines are missing"
        elif sound != [line[:-1] for line in raw]:
            self._disorder = "lines are doubled, or not in their order"
        self._look_at_end()

    def _choose_values(self, sound: list[bytes]) -> None:
        """Choose the form of values: a sealed commit needs the keyring."""
        commits = filter(None, map(_commit_record, sound))
        sealed = next((commit for commit in commits if commit.is_sealed()), None)
        keyring = self._backend._read_keyring()
        _, entries = self._load(self._backend.state_path)
        if keyring is None and are_sealed(one.value for one in (entries or {}).values() if one.value is not None):
            raise lost_keyring_error(self._backend.folder)
        self._backend._choose_values(keyring, sealed)
        self._history.values = self._backend.values

    def _values_of_files(self) -> dict[tuple[str, int], Version]:
        """Return the entries of state.json and of the checkpoints' files, by key and revision."""
        folder = os.path.join(self._backend.folder, "checkpoints")
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        values: dict[tuple[str, int], Version] = {}
        for path in (self._backend.state_path, *(os.path.join(folder, name) for name in names)):
            _, entries = self._load(path) if path.endswith(".json") else ("", None)
            for version in (entries or {}).values():
                if version.value is not None:
                    values[version.key, version.revision] = version
        return values

    def _find_unreadable(self, sound: list[bytes]) -> list[bytes]:
        """Return the lines with a delta whose chain leads to a version that is damaged, or in no line and no file.

        What else these lines hold is kept aside, for the salvage, and since other deltas may be relative to it.
        """
        elsewhere = self._history.elsewhere
        kept = dict(elsewhere)
        chain = Chain(lambda key, revision: as_kept(kept[key, revision], self._history.values))
        unreadable = []
        for line in reversed(sound):  # a delta is relative to a later version
            versions, readable = _versions_in(line), []
            for one in versions:
                place = one.key, one.revision
                if one.value is not None:
                    kept[place] = one
                try:
                    if isinstance(one, PackedVersion):
                        chain.value(*place)
                    readable.append(one)
                except (KeyError, ValueError):
                    del kept[place]
                    if place in elsewhere:
                        kept[place] = elsewhere[place]
            if len(readable) < len(versions):
                unreadable.append(line)
                self._aside += readable
                places = ((one.key, one.revision) for one in readable if one.value is not None)
                elsewhere.update((place, kept[place]) for place in places)
        return unreadable

    def _take_lines(self, sound: list[bytes]) -> None:
        """Make a history of the sound lines, and note the revisions of missing lines."""
        history, salvage = self._history, self._salvage
        for text in sound:
            if (line := _commit_record(text)) is None:
                history.append_line(text)
            else:
                self._lines.append(line)
        history.floor = here = max([history.floor, *(line.floor for line in self._lines)])
        for line in self._lines:
            last = history.last
            if last is not None and line.writes() and line.rev <= last.rev:
                found, done = f"two commits have revision {line.rev}", "the later one is not used"
                salvage.losses.append(Problem(salvage.subject, found, done, False, "doubled-revision"))
                salvage.damage = "lines are of another history"
                continue
            after = line.rev - (line.writes() or not line.digest)  # the revision that it followed
            apart = last is not None and line.before and last.digest not in ("", line.before)
            if line.rev > history.floor and (after > here or apart):
                salvage.gaps.append((here, after))
            if line.writes() and line.before:
                self._digests[after] = line.before
            if line.digest:
                self._digests[line.rev] = line.digest
            history.lineage = line.lineage or history.lineage
            history.add(line)
            here = max(here, line.rev)
        history.revision = here

    def _look_at_end(self) -> None:
        """Whether the last line exists, and leads to state.json; whether it names all checkpoints."""
        salvage, last = self._salvage, self._history.last
        if last is None:
            salvage.damage = salvage.damage or "it holds no commit"
        elif not last.digest:
            salvage.damage = salvage.damage or "its last line is missing"
            found = "the line that names the checkpoints is missing"
            done = "checkpoints are taken from their files; those without a file are lost"
            salvage.losses.append(Problem(salvage.subject, found, done, False, "lost-checkpoint-line"))
        _, state = self._load(self._backend.state_path)
        ahead = last is not None and any(version.revision > last.rev for version in (state or {}).values())
        if last is not None and ahead:
            salvage.damage = salvage.damage or f"it ends at revision {last.rev}, before state.json"
        salvage.end_missing = last is None or not last.digest or ahead
        if not salvage.damage and any(map(self._is_unnamed, self._checkpoint_states())):
            salvage.damage = "it does not name all checkpoints that have files"

    def _is_unnamed(self, state: WholeState) -> bool:
        """Whether a checkpoint's file belongs to a checkpoint that the history does not name, or no longer names."""
        history, mark = self._history, state.checkpoint
        if state.proven or history.marks.newest(mark.name) is None:
            return not state.proven
        if not history.has_file(mark.name):
            return False
        whole = {key: [*map(history.whole, versions)] for key, versions in history.versions.items()}
        return any(
            revision >= history.floor
            for revision in matching_revisions(whole, state.entries, mark.time, history.revision)
        )

    def _put_in_order(self) -> None:
        """Write the lines in their order, each once: none is missing."""
        done = self._keep(self._backend.history_path)
        self._write_history([line + b"\n" for line in self._sound])
        self._note(self._backend.history_path, self._disorder, f"put in order, nothing is lost; {done}", "disorder")

    def _write_history(self, lines: list[bytes]) -> None:
        path, folder = self._backend.history_path, self._backend.folder
        self._backend._rename([(write_temporary(path, b"".join(lines)), replaced_path(path, folder))])

    # --- the other files ---------------------------------------------------------------------------------------

    def _load(self, path: str) -> tuple[str, Entries | None]:
        """Return the digest of a file and its entries: "" and None if it is missing, None if it does not parse."""
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return "", None
        found = digest(data)
        if found not in self._parsed:
            try:
                self._parsed[found] = document.parse_edited(data, path, now())
            except Damaged:
                self._parsed[found] = None
        return found, self._parsed[found]

    def _confirms(self, revision: int, entries: Entries) -> bool:
        return digest(document.serialize(entries, {})) == self._digests.get(revision)

    def _read_state(self) -> None:
        """Read state.json, and look for a digest that confirms it. A state.json that cannot be read is kept."""
        path, salvage, last = self._backend.state_path, self._salvage, self._history.last
        found, entries = self._load(path)
        if entries is None:
            if found:
                self._keep(path)
            return
        if last is not None and not salvage.end_missing and found in (last.digest, last.before):
            salvage.live_proof = "digest"
            if found != last.digest:  # the last commit was cut off before it wrote state.json
                entries = entries | {version.key: version for version in written(last)}
        else:
            leads = b'"digest":"%s"' % found.encode()  # a match of 32 digits is no chance
            number = b'"rev":%d,' % (self._history.revision + 1)
            if any(leads in line and number in line and line.count(b'{"sum":') < 2 for line in self._bad_end):
                salvage.live_proof = "next"
        salvage.live = {key: version for key, version in entries.items() if version.value is not None}

    def _checkpoint_states(self) -> list[WholeState]:
        """Read the states of all checkpoint files, except those of a name's former checkpoints."""
        history, folder = self._history, os.path.join(self._backend.folder, "checkpoints")
        states = []
        for file_name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            name, end = os.path.splitext(file_name)
            path = os.path.join(folder, file_name)
            try:
                check_checkpoint(name)
                found, entries = self._load(path) if end == ".json" else ("", None)
            except (InvalidName, IsADirectoryError):
                continue
            mark = history.marks.newest(name)
            if entries is None:
                continue
            if mark is not None and history.digests.get((name, mark.revision)) == found:
                states.append(WholeState(entries, mark, True))
            elif (name, found) not in history.files:
                states.append(WholeState(entries, CheckpointRecord(name, 0, json_files.modified(path)), False))
        return states

    def _repair_state(self) -> None:
        """Write state.json anew from a whole history, if it is damaged or missing."""
        backend, history = self._backend, self._history
        last = history.last
        assert last is not None
        try:
            backend._refresh()  # takes in an edit by hand, and finishes a commit that was cut off
            return
        except Damaged as error:
            found = error.message
        live = {key: versions[-1] for key, versions in history.versions.items() if versions[-1].value is not None}
        done = self._keep(backend.state_path) if os.path.exists(backend.state_path) else "it was missing"
        data = document.serialize(live, {})
        path = replaced_path(backend.state_path, backend.folder)
        backend._rename([(write_temporary(backend.state_path, data, last.mtime + 1), path)])
        if digest(data) != last.digest:
            self._keep(backend.history_path)
            last = msgspec.structs.replace(last, digest=digest(data), mtime=last.mtime + 1, count=len(live))
            self._write_history(history.to_lines(last))
        done = f"rebuilt from the history, revision {last.rev}; {done}"
        self._note(backend.state_path, found, done, "live-rebuilt")

    def _repair_checkpoints(self) -> None:
        """Write each checkpoint's file anew from a whole history, if it is damaged or missing."""
        backend = self._backend
        backend._live = backend._history = None
        history = backend._past()
        for mark in {mark.name: mark for mark in history.marks}.values():
            if (expected := history.digests.get((mark.name, mark.revision))) and history.has_file(mark.name):
                self._repair_checkpoint(mark, history, expected)

    def _repair_checkpoint(self, mark: CheckpointRecord, history: History, expected: str) -> None:
        path = self._backend._checkpoint_path(mark.name)
        found, done = "missing", "rebuilt from the history"
        if (present := file_digest(path)) is not None:
            if present == expected:
                return
            found = "not what was written"
            if history.wrote(mark.name, present):
                found = "of an earlier checkpoint of this name"
            else:
                done = f"{done}; {self._keep(path)}"
        data = document.serialize(history.state_at(mark.point), {})
        makedirs_durable(os.path.dirname(path))
        os.rename(write_temporary(path, data), replaced_path(path, self._backend.folder))
        self._note(path, found, done, "checkpoint-file")

    # --- the new files -----------------------------------------------------------------------------------------

    def _replace(self, stage: str) -> None:
        """Rename the files of a stage into the namespace, and keep each damaged file that they replace."""
        backend, folder = self._backend, os.path.join(self._backend.folder, "checkpoints")
        if os.path.exists(backend.history_path):
            self._keep(backend.history_path)
        makedirs_durable(folder)
        sound = {state.checkpoint.name for state in self._salvage.states}
        for name in sorted(os.listdir(os.path.join(stage, "checkpoints"))):
            path, new = os.path.join(folder, name), os.path.join(stage, "checkpoints", name)
            if os.path.exists(path) and not _is_same(path, new) and name[: -len(".json")] not in sound:
                done = f"rebuilt from the history; {self._keep(path)}"
                self._note(path, "not what was written", done, "checkpoint-file")
            elif not os.path.exists(path):
                self._note(path, "missing", "rebuilt from the history", "checkpoint-file")
            os.rename(new, replaced_path(path, stage))
        state = os.path.join(stage, "state.json")
        live = self._salvage.live
        if live is not None and not self._salvage.live_proof and self._load(state)[1] != live:
            self._keep(backend.state_path)
        fsync_folder(folder)
        backend._rename([(state, replaced_path(backend.state_path, stage))])
        backend._rename([(os.path.join(stage, "history.jsonl"), replaced_path(backend.history_path, stage))])


def _is_same(path: str, other: str) -> bool:
    with open(path, "rb") as first, open(other, "rb") as second:
        return first.read() == second.read()


def _commit_record(text: bytes) -> CommitRecord | None:
    """Decode a sound line, if it is a commit's."""
    data = check_checksum(text)
    return decode_record(data, CommitRecord) if data is not None and data.startswith(b'{"rev"') else None


def _versions_in(text: bytes) -> list[Version]:
    """Return the versions of a sound line."""
    if (line := _commit_record(text)) is not None:
        return written(line)
    data = check_checksum(text)
    return [decode_record(data, BaseVersion).version()] if data is not None and data.startswith(b'{"key"') else []


def _has_all_bases(sound: list[bytes]) -> bool:
    """Return whether each delta is relative to a version in these lines."""
    known: set[tuple[str, int]] = set()
    for line in reversed(sound):
        for one in _versions_in(line):
            if isinstance(one, PackedVersion) and one.delta.base and (one.key, one.delta.base) not in known:
                return False
            known.add((one.key, one.revision))
    return True


def _order(text: bytes) -> tuple[int, int, int]:
    """Sort sound lines as they were written: by revision, kind, time."""
    if (line := _commit_record(text)) is not None:
        return line.rev, 2 if line.digest else 1, line.time
    data = check_checksum(text)
    if data is not None and data.startswith(b'{"key"'):
        return decode_record(data, BaseVersion).revision, 0, 0
    return -1, 0, 0


def _is_header(line: bytes, number: int) -> bool:
    """Whether a bad line was only the header, whose content the other lines repeat."""
    return number == 0 and b'"format":' in line and line.count(b'{"sum":') < 2
