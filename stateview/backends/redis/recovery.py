"""The recovery of a Redis namespace: rebuild indexes, set unreadable data aside, find missing versions.

A namespace is repaired in place, since others write to it meanwhile: each step is a script that looks again before it
changes anything. `maintenance.lost_versions` decides which values are lost.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from ...errors import Conflict
from ...model import Problem, check_key, name_first
from ..protocol import CommitRequest, Restored, Salvage, StoredVersion, Write
from ..stored_values import are_sealed, lost_keyring_error
from . import packing
from .connections.contact import REGISTRY
from .doctor import (
    MEMBERS_PER_SCRIPT,
    UNMET,
    WRONG_TYPE,
    disagreements,
    disordered_pages,
    missing_parts,
    newest_commit,
    read_head,
    read_marks,
    registry_type,
    scan,
    types,
    unreadable_commit,
    unreadable_entry,
    unreadable_mark,
    unreadable_versions,
)
from .maintenance import merge_pages
from .scripts import recovery as repairs
from .scripts.commit import UPGRADE
from .scripts.common import NAMES, unreadable_head
from .scripts.transfer import RECORD

if TYPE_CHECKING:
    from .backend import RedisBackend

DELETES_PER_COMMIT = 10_000
_HEAD = re.compile(rb"stateview:\{([A-Za-z0-9_-][A-Za-z0-9._-]{0,127})\}:head")
_CONTENTS = {  # what a part holds that nothing else tells
    "live": "the values", "index": "the values", "expiry": "when entries expire",
    "history": "the earlier versions", "hindex": "the earlier versions", "hexpiry": "when earlier versions expired",
    "writes": "which keys each revision wrote", "commits": "author and reason of the commits",
    "marks": "the checkpoints", "notes": "the checkpoints",
}  # fmt: skip
_LOST = "recovered: the record of this commit is lost"
_SAMPLE_ENTRIES = 100


def _chunks(items: Iterable[Any], size: int = MEMBERS_PER_SCRIPT) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _shown(name: bytes) -> str:
    return repr(name.decode(errors="replace")[:60])


def _newest(versions: Iterable[tuple[bytes, int]]) -> dict[bytes, int]:
    """Return the newest revision of each key."""
    return dict(sorted(versions))  # later pairs replace earlier ones


def _counted(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count:,} {what}s are"


def _is_key(name: bytes) -> bool:
    try:
        check_key(name.decode())
    except ValueError:
        return False
    return True


def _is_version(field: bytes) -> bool:
    """Whether a name can be a field of the history."""
    key, nul, digits = field.rpartition(b"\0")
    return bool(nul) and _is_key(key) and len(digits) == 16 and digits.isdigit() and int(digits) > 0


class RedisRecovery:
    """A `RecoverySession` that repairs a namespace in place, step by step, while other clients write to it."""

    def __init__(self, backend: RedisBackend) -> None:
        self.problems: list[Problem] = []
        self.kept: list[str] = []
        self._backend = backend
        self._aside = backend._keys[13]
        self._held: dict[tuple[bytes, int], int] = {}  # which revision superseded each version of a salvage
        self._missing: list[str] = []  # keys whose live value is lost
        self._strange: list[bytes] = []  # members of `writes` that no commit wrote
        self._steps = self._run()

    def _note(self, subject: str, found: str, done: str, mended: bool = True, code: str = "") -> None:
        """Add a line to the report."""
        self.problems.append(Problem(subject, found, done, mended, code))

    def repair(self) -> None:
        """Repair the list of namespaces, the types of the keys, and the head: without them no script runs.

        Raises:
            Damaged: the namespace is sealed, and its head with the keyring is lost. Nothing was changed.

        """
        self._check_keyring()
        self._rebuild_registry()
        self._repair_types()
        self._repair_head()

    def salvage(self) -> Salvage | None:
        """Go on with the repair, up to the next keys whose lost values must be decided on."""
        return next(self._steps, None)

    def rewrite(self, restored: Restored) -> None:
        """Replace each lost version by a delete, and correct which revision superseded the other versions."""
        absent: list[tuple[bytes, int]] = []
        for version in restored.versions:
            name = version.key.encode()
            until = self._held.get((name, version.revision))
            if until is None:
                absent.append((name, version.revision))
            elif until != version.until:
                self._close(name, version.revision, version.until)
        for chunk in _chunks(sorted(absent, reverse=True)):
            self._backend._eval(repairs.PUT_DELETES, *(word for pair in chunk for word in pair))
        self._missing += restored.missing

    def _run(self) -> Iterator[Salvage]:
        """Repair everything below the head; yield the keys whose lost values must be decided on."""
        backend = self._backend
        if backend._with_retry(lambda client: client.exists(backend._keys[0])):
            backend._eval(UPGRADE)
            gone = missing_parts(backend)  # before the repair sets damaged members aside
            self._repair_pages()
            self._repair_lists(bare=False)
            self._repair_checkpoints()
            damaged = self._find_damaged()
            if damaged.written or damaged.listed:
                yield self._fill(damaged, damaged.listed | {key for key, _ in damaged.written})
            self._repair_lists(bare=True)
            if wrong := packing.miscounted(backend, correct=True):
                found = f"{len(wrong)} versions had a wrong count of the deltas that are relative to them"
                self._note("the history", found, "counted again", code="delta-references")
            dangling = self._repair_chains()
            damaged = self._find_unended(dangling)
            if keys := damaged.listed | {version.key for version in dangling}:
                yield self._fill(damaged, keys)
            self._repair_touched()
            self._repair_commits()
            self._count_parts(gone)
            self._delete(self._missing)
            if backend._registry(lambda client: client.sadd(REGISTRY, backend.namespace)):
                self._note(f"namespace {backend.namespace!r}", f"it was not in {REGISTRY}", "added")
        if (tracking := backend._link.tracking) is not None:
            tracking.forget()

    def _fill(self, salvage: Salvage, keys: set[str]) -> Salvage:
        """Add to a salvage the head, the checkpoints, and the versions of some keys, without their values."""
        self._held = {}
        for chunk in _chunks(sorted(key.encode() for key in keys)):
            reply = self._backend._eval(repairs.VERSIONS_OF, *chunk)
            for name, revision, until, moment, kind in zip(*[iter(reply)] * 5, strict=True):
                value = None if kind == b"D" else b""
                version = StoredVersion(name.decode(), value, int(revision), int(moment), 0, int(until))
                salvage.versions.append(version)
                self._held[name, version.revision] = version.until
        salvage.head = msgspec.structs.replace(self._backend.head(), count=-1)
        salvage.marks = self._backend.marks()
        return salvage

    def _find_damaged(self) -> Salvage:
        """Set unreadable entries and versions aside, and find the writes whose entry or version is missing."""
        entries, fields = self._find_bare()
        last = self._backend.head().revision
        past = {(field[:-17], int(field[-16:])) for field in fields}
        past |= self._set_aside_versions()
        entries |= self._set_aside_entries()
        written = self._find_unmet()
        entries |= self._set_aside_older(_newest(past | written))
        salvage = Salvage(subject="", damage="", in_place=True)
        salvage.past = {(key.decode(), revision) for key, revision in past if revision <= last}
        salvage.written = salvage.past | {(key.decode(), revision) for key, revision in written}
        salvage.listed = {key.decode() for key in entries}
        return salvage

    def _find_unmet(self) -> set[tuple[bytes, int]]:
        """Return the writes that `writes` names and whose version is missing."""
        last = self._backend.head().revision
        written = set()
        for chunk in _chunks(row for row, _ in scan(self._backend, 7)):
            for row in self._backend._eval(UNMET, *chunk):
                if _is_version(row[16:] + b"\0" + row[:16]) and int(row[:16]) <= last:
                    written.add((row[16:], int(row[:16])))
                else:
                    self._strange.append(row)
        return written

    def _check_keyring(self) -> None:
        """Refuse to repair sealed values without the keyring: the repaired namespace would be plain."""
        backend = self._backend
        head, live = backend._keys[:2]
        kinds = [backend._with_retry(lambda client, key=key: client.type(key)) for key in (head, live)]  # type: ignore[misc]
        if kinds[0] == b"hash" and backend._with_retry(lambda client: client.hexists(head, "keyring")):
            return
        if kinds[1] != b"hash":
            return
        records = [packed.split(b" ", 3) for _, packed in islice(backend._entries(), _SAMPLE_ENTRIES)]
        if are_sealed(record[3] for record in records if len(record) == 4):
            raise lost_keyring_error(backend.url)

    def _spare_key(self, name: str) -> str:
        """Return an unused name in the same slot, under which a damaged key is kept."""
        backend = self._backend
        start = place = f"{backend._prefix}damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}:{name}"
        number = 1
        while backend._with_retry(lambda client, place=place: client.exists(place)):  # type: ignore[misc]
            place = f"{start}-{(number := number + 1)}"
        self.kept.append(place)
        return place

    def _rebuild_registry(self) -> None:
        """Rebuild the list of namespaces from the heads, if it has another type. O(keys of the server) then."""
        backend = self._backend
        if not (kind := registry_type(backend)):
            return
        place = f"{{{REGISTRY}}}:damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"  # in the same slot
        backend._with_retry(lambda client: client.rename(REGISTRY, place))
        self.kept.append(place)
        heads = backend._with_retry(lambda client: list(client.scan_iter(match="stateview:{*}:head", count=5000)))
        found = [match[1] for head in heads if (match := _HEAD.fullmatch(head))]
        if found:
            backend._with_retry(lambda client: client.sadd(REGISTRY, *found))
        done = f"rebuilt from the {len(found)} namespaces of the server; the original is kept as {place}"
        self._note(REGISTRY, f"it was a {kind}, not a set", done)

    def _repair_types(self) -> None:
        """Rename keys of a wrong type aside, and remove expiries that another program set on keys."""
        backend = self._backend
        for finding in types(backend):
            name = finding.subject.removeprefix(backend._prefix)
            if finding.code == WRONG_TYPE:
                place = self._spare_key(name)
                backend._with_retry(lambda client, key=finding.subject, to=place: client.rename(key, to))  # type: ignore[misc]
                derived = name in ("index", "expiry", "hindex", "hexpiry", "writes", "tokens", "older", "touched")
                done = "rebuilt from the entries and their history" if derived else "its content is lost"
                self._note(finding.subject, finding.found, f"{done}; the original is kept as {place}", derived)
            else:
                backend._with_retry(lambda client, key=finding.subject: client.persist(key))  # type: ignore[misc]
                self._note(finding.subject, finding.found, "the expiry was removed")

    def _repair_head(self) -> None:
        """Rebuild an unreadable head from the highest revision that anything has."""
        backend = self._backend
        newest, _ = newest_commit(backend)
        head = read_head(backend)
        if head is not None and not unreadable_head(head) and newest <= int(head.get(b"revision", newest)):
            return
        head = head or {}
        revisions = [newest]
        starts = (packed.split(b" ", 1)[0] for _, packed in backend._entries())
        revisions += [int(start) for start in starts if start.isdigit()]
        revisions += [int(name[-16:]) for name, _ in scan(backend, 4) if name[-16:].isdigit()]
        top = max(revisions, default=0)
        seconds, micros = backend._with_retry(lambda client: client.time())
        moment = seconds * 1_000_000 + micros
        fields: dict[str, Any] = {"revision": top, "time": moment, "floor": top}
        fields["format"] = 5 if head.get(b"keyring") else 4
        for name in ("time", "floor"):
            if head.get(name.encode(), b"").isdigit() and (name == "time" or int(head[name.encode()]) <= top):
                fields[name] = int(head[name.encode()])
        lineage = head.get(b"lineage", b"").decode(errors="replace")
        fields["lineage"] = lineage if lineage.isalnum() else "recovered"
        backend._with_retry(lambda client: client.hset(backend._keys[0], mapping=fields))
        done = f"rebuilt: revision {top} is the highest that exists"
        whole = fields["floor"] != top and lineage == fields["lineage"]
        self._note(backend._keys[0], "it was not what was written", done if whole else
                  f"{done}; older states are readable only through a checkpoint", whole)  # fmt: skip

    def _set_aside_entries(self) -> set[bytes]:
        """Move unreadable entries aside; return their keys."""
        backend = self._backend
        last = backend.head().revision
        bad = {name: (packed, wrong) for name, packed in backend._entries()
               if (wrong := unreadable_entry(backend, name, packed, last))}  # fmt: skip
        keys = set()
        for name, (packed, wrong) in sorted(bad.items()):
            if backend._eval(repairs.SET_ASIDE, "live", name, packed):
                done = f"set aside in {self._aside}; its earlier versions are in its history"
                self._note(f"key {_shown(name)}", wrong, done, False, "set-aside")
                keys |= {name} if _is_key(name) else set()
        self._note_aside(bool(bad))
        return keys

    def _set_aside_older(self, newest: dict[bytes, int]) -> set[bytes]:
        """Move entries aside that are older than the last write of their key; return their keys."""
        backend, keys = self._backend, set()
        for chunk in _chunks(name for name, _ in scan(backend, 1)):
            for key in backend._eval(repairs.STALE, *chunk):
                newest[key] = max(newest.get(key, 0), self._newest_past(key))
        for key, revision in newest.items():
            packed = backend._with_retry(lambda client, key=key: client.hget(backend._keys[1], key))  # type: ignore[misc]
            entry_revision = int(packed.split(b" ", 1)[0]) if packed else revision + 1
            if entry_revision <= revision and backend._eval(repairs.SET_ASIDE, "live", key, packed):
                found = f"its entry is of revision {entry_revision}, and revision {revision} wrote it last"
                self._note(f"key {_shown(key)}", found, f"set aside in {self._aside}", False, "set-aside")
                keys.add(key)
        self._note_aside(bool(keys))
        return keys

    def _newest_past(self, key: bytes) -> int:
        """Return the newest revision of a key in the history, 0 where it has none."""
        found = self._backend._eval(repairs.VERSIONS_OF, key)
        return max((int(found[at]) for at in range(1, len(found), 5) if found[at + 3] != b"L"), default=0)

    def _note_aside(self, used: bool) -> None:
        """Report the hash of what was set aside among the originals, once."""
        if used and self._aside not in self.kept:
            self.kept.append(self._aside)

    def _set_aside_versions(self) -> set[tuple[bytes, int]]:
        """Move unreadable past versions aside; return their keys and revisions."""
        backend = self._backend
        bad = {name: (record, wrong) for name, record, wrong in unreadable_versions(backend)}
        lost = set()
        for name, (record, wrong) in sorted(bad.items()):
            if backend._eval(repairs.SET_ASIDE, "history", name, record):
                key, _, revision = name.rpartition(b"\0")
                subject = f"revision {int(revision)} of key {_shown(key)}" if revision.isdigit() else _shown(name)
                self._note(subject, wrong, f"set aside in {self._aside}", False, "set-aside")
                lost |= {(key, int(revision))} if _is_version(name) else set()
        self._note_aside(bool(bad))
        return lost

    def _repair_pages(self) -> None:
        """Put the pages of lists in order."""
        backend = self._backend
        for name, what in (("hindex", "the history's index"), ("writes", "what changed")):
            if wrong := disordered_pages(backend, name):
                backend._eval(repairs.REBUILD_PAGES, NAMES.index(name) + 1)
                merge_pages(backend)
                self._note(what, f"{wrong:,} of its pages were out of order", "put in order")

    def _repair_lists(self, bare: bool) -> None:
        """Make indexes agree with their hash: with `bare` names that the hash lacks, else names that it holds."""
        backend = self._backend
        for kind, places, what in (("live", (1, 2, 3), "the key index"), ("history", (4, 5, 6), "the history's index")):
            mended, kept = 0, ""
            for place in places:
                for chunk in _chunks(name for name, _ in scan(backend, place)):
                    wrong = [name for name, difference in disagreements(backend, kind, chunk).items()
                             if (difference == "bare") == bare]  # fmt: skip
                    if wrong and bare and not kept:
                        kept = self._copy_lists(places[1:])
                    if wrong:
                        mended += int(backend._eval(repairs.REPAIR_INDEX, kind, *wrong))
            if mended:
                found = f"{mended} of its names did not agree with the hash"
                done = f"rebuilt from the {'entries' if kind == 'live' else 'versions'}"
                self._note(what, found, done + (f"; the original is kept as {kept}" if kept else ""))

    def _copy_lists(self, places: Iterable[int]) -> str:
        """Copy lists aside before names are removed from them; return the name of the first copy."""
        names = []
        for key, name in ((self._backend._keys[place], NAMES[place]) for place in places):
            if self._backend._with_retry(lambda client, key=key: client.exists(key)):  # type: ignore[misc]
                names.append(self._spare_key(name))
                self._backend._with_retry(lambda client, key=key: client.copy(key, names[-1]))  # type: ignore[misc]
        return names[0]

    def _find_bare(self) -> tuple[set[bytes], set[bytes]]:
        """Return the keys, and the fields of the history, that an index lists and the hash lacks."""
        found = []
        for kind, places, is_ours in (("live", (2, 3), _is_key), ("history", (5, 6), _is_version)):
            names: set[bytes] = set()
            for place in places:
                for chunk in _chunks(name for name, _ in scan(self._backend, place)):
                    bare = (
                        name
                        for name, difference in disagreements(self._backend, kind, chunk).items()
                        if difference == "bare"
                    )
                    names.update(name for name in bare if is_ours(name))
            found.append(names)
        return found[0], found[1]

    def _repair_checkpoints(self) -> None:
        """Correct the revisions of checkpoints; remove checkpoints whose record is lost, and report them."""
        backend = self._backend
        scores, records = read_marks(backend)
        for member in sorted(scores.keys() | {name for name in records if b"@" in name}):
            if not unreadable_mark(member, records.get(member), scores.get(member)):
                continue
            name, _, revision = (part.decode(errors="replace") for part in member.rpartition(b"@"))
            score = int(revision) if revision.isdigit() else -1
            placed = not unreadable_mark(member, records.get(member), score)
            if not backend._eval(repairs.PLACE_CHECKPOINT, member, records.get(member, b""), score if placed else -1):
                continue  # changed meanwhile
            if placed:
                self._note(f"checkpoint {name[:128]!r}", "it had another place than its revision", "corrected")
            else:
                done = f"lost; 'stateview checkpoint {name[:128]} --at {revision[:16]}' creates it again"
                self._note(f"checkpoint {name[:128]!r}", "its record is not what was written", done, False)
        if backend._eval(repairs.COUNT_CHECKPOINTS):
            self._note(backend._keys[10], "the number of checkpoints of a name was wrong", "counted again")

    def _repair_chains(self) -> list[StoredVersion]:
        """Link each version to the next of its key; return last versions that a missing version superseded."""
        backend, mended = self._backend, 0
        doubtful: list[str] = []
        before: StoredVersion | None = None
        after = ("", 0)
        floor = backend.head().floor
        while page := backend.versions_page(after, MEMBERS_PER_SCRIPT):
            doubtful += [version.key for version, _ in _breaks([before, *page] if before else page, floor)]
            before = page[-1]
            after = (before.key, before.revision)
        doubtful += [version.key for version, _ in _breaks([before] if before else [], floor, whole=True)]
        dangling: list[StoredVersion] = []
        for key in dict.fromkeys(doubtful):  # again, since others may have written between two pages
            versions = self._versions_of(key)
            floor = backend.head().floor  # after that: a version that was pruned meanwhile lies below it
            for version, following in _breaks(versions, floor, whole=True):
                if following is None:
                    dangling.append(version)
                else:
                    mended += self._close(version.key.encode(), version.revision, following.revision)
        if mended:
            found = f"{mended} versions did not end where the next begins"
            self._note("the history", found, "corrected from the next version", code="chains")
        return dangling

    def _find_unended(self, dangling: list[StoredVersion]) -> Salvage:
        """Correct dangling versions that no revision superseded, and take them from the list."""
        last = self._backend.head().revision
        salvage = Salvage(subject="", damage="", in_place=True)
        for version in list(dangling):
            if version.revision < version.until <= last:
                continue  # the version that superseded it is lost
            dangling.remove(version)
            if not self._close(version.key.encode(), version.revision, 0):
                continue
            subject = f"key {_shown(version.key.encode())}"
            found = f"its last version ends at revision {version.until}, which was never written"
            if version.value is None:
                self._note(subject, found, "it is deleted still", code="chains")
            else:
                done = f"when it was deleted is lost: until now it shows revision {version.revision}"
                self._note(subject, found, done, False, "chains")
                salvage.listed.add(version.key)
        return salvage

    def _versions_of(self, key: str) -> list[StoredVersion]:
        """Read all versions of a key."""
        found: list[StoredVersion] = []
        while not found or found[-1].until:  # a version without an end is the last
            page = self._backend.versions_page((key, found[-1].revision if found else 0), MEMBERS_PER_SCRIPT, [key])
            if not page:
                break
            found += page
        return found

    def _close(self, key: bytes, revision: int, until: int) -> int:
        """Correct the revision that superseded a version; 0 where the version is not in the history."""
        backend = self._backend
        name = key + b"\0%016d" % revision
        record = backend._with_retry(lambda client: client.hget(backend._keys[4], name))
        if record is None:
            return 0
        start = b"*%d " if record[:1] == b"*" else b"%d "
        return int(backend._eval(repairs.SET_END, name, record, start % until + record.partition(b" ")[2]))

    def _repair_touched(self) -> None:
        """Rebuild `writes` from the versions."""
        backend = self._backend
        added = gone = 0
        for chunk in _chunks(self._strange):
            gone += int(backend._eval(repairs.UNTOUCH, *chunk))
        for kind, place in (("live", 1), ("history", 4)):
            for chunk in _chunks(name for name, _ in scan(backend, place)):
                added += int(backend._eval(repairs.TOUCH, kind, *chunk))
        if added or gone:
            found = f"{added} writes were missing, {gone} were listed that no commit made"
            self._note("what changed", found, "rebuilt from the versions")

    def _repair_commits(self) -> None:
        """Replace each lost record by a record that says so, with the time of a written value."""
        backend, head = self._backend, self._backend.head()
        bad = {name: packed for name, packed in scan(backend, 8) if unreadable_commit(name, packed)}
        lost = "" if backend.values.sealed else _LOST  # a text would have to be sealed for each revision
        start, end = f'[{json.dumps(lost)},"",', ",0,0,0]"
        filled: list[int] = []
        for chunk in _chunks(range(head.floor + 1, head.revision + 1)):
            pairs = [text for revision in chunk for text in (str(revision), bad.pop(b"%d" % revision, b""))]
            filled += map(int, backend._eval(repairs.FILL_RECORDS, start, end, *pairs))
        for name in bad:
            backend._with_retry(lambda client, name=name: client.hdel(backend._keys[8], name))  # type: ignore[misc]
        short: dict[int, int] = {}
        for chunk in _chunks(range(head.floor + 1, head.revision + 1)):
            reply = backend._eval(repairs.UNNAMED_KEYS, *chunk)
            short.update(zip(reply[::2], reply[1::2], strict=True))
        if short:
            found = f"{_counted(sum(short.values()), 'key')} left without a name, written by revision "
            done = f"lost, and so in the checkpoints that come after; what the log said is set aside in {self._aside}"
            self._note("keys that are not known", found + name_first(map(str, sorted(short))), done, False)
            self._note_aside(True)
        if filled:
            some = name_first(map(str, sorted(filled)))
            what = f"commits of {len(filled)} revisions" if len(filled) > 1 else "commit of revision"
            self._note(backend._keys[8], f"the {what} {some} could not be read, or were missing",
                      "lost: author and reason; the values are intact", False)  # fmt: skip

    def _count_parts(self, gone: list[str]) -> None:
        """Report those of the parts gone that nothing else brought back or told of, and count what there is."""
        backend = self._backend
        for name in filter(gone.__contains__, missing_parts(backend)):
            key = backend._prefix + name
            if backend._with_retry(lambda client, key=key: client.exists(key)):  # type: ignore[misc]
                continue  # what it lacks is reported one by one
            if name in ("tokens", "older"):
                done = "made anew; a commit that a client sends again just now may be applied twice"
                self._note(key, "it was gone", done, code="part-missing")
            else:
                self._note(key, "it is gone", f"lost: {_CONTENTS[name]}", False, "part-missing")
        backend._eval(RECORD)

    def _delete(self, keys: Iterable[str]) -> None:
        """Delete lost keys by a commit, except keys that were saved meanwhile."""
        for chunk in _chunks(sorted(keys), DELETES_PER_COMMIT):
            while absent := sorted(set(chunk) - self._backend.read(chunk).keys()):
                batch = CommitRequest(dict.fromkeys(absent, Write(None)), expected=dict.fromkeys(absent, 0),
                              reason="recover: deleted what is lost")  # fmt: skip
                try:
                    self._backend.commit(batch)
                    break
                except Conflict:
                    continue


def _breaks(
    versions: list[StoredVersion], floor: int, whole: bool = False
) -> Iterator[tuple[StoredVersion, StoredVersion | None]]:
    """Yield the versions that were superseded neither by the next version of their key nor by a pruned version.

    Each comes with the next version. `whole`: no version follows the last version.
    """
    for version, following in pairwise([*versions, None] if whole else versions):
        assert version is not None
        if following is None or version.key != following.key:
            if version.until and not version.revision < version.until <= floor:
                yield version, None
        elif version.until != following.revision and not version.revision < version.until <= min(
            floor, following.revision
        ):
            yield version, following
