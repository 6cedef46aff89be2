"""`recover()` of a Redis namespace: lists are made to agree with what is held; what cannot be read is set aside.

Others may write meanwhile: each step is a script that looks again before it changes anything.
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
from ...model import Problem, check_key
from ..protocol import CommitRequest, Restored, Salvage, StoredVersion, Write
from . import recovery_scripts as mends
from . import scripts
from .doctor import (
    MEMBERS_PER_SCRIPT,
    REGISTRY,
    UNMET,
    WRONG_TYPE,
    disagreements,
    newest_commit,
    read_head,
    read_marks,
    registry_type,
    scan,
    types,
    unreadable_commit,
    unreadable_entry,
    unreadable_mark,
    unreadable_version,
)

if TYPE_CHECKING:
    from .backend import RedisBackend

NAMED_IN_REPORT = 10  # names that one line of the report tells
DELETES_PER_COMMIT = 10_000  # of one commit
_HEAD = re.compile(rb"stateview:\{([A-Za-z0-9_-][A-Za-z0-9._-]{0,127})\}:head")
_LOST = "recovered: what was said of this commit is lost"


def _chunks(items: Iterable[Any], size: int = MEMBERS_PER_SCRIPT) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _shown(name: bytes) -> str:
    return repr(name.decode(errors="replace")[:60])


def _some(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    more = f", and {len(listed) - NAMED_IN_REPORT:,} more" if len(listed) > NAMED_IN_REPORT else ""
    return ", ".join(listed[:NAMED_IN_REPORT]) + more


def _newest(versions: Iterable[tuple[bytes, int]]) -> dict[bytes, int]:
    return dict(sorted(versions))  # the last of each key stays


def _counted(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count:,} {what}s are"


def _is_key(name: bytes) -> bool:
    try:
        check_key(name.decode())
    except ValueError:
        return False
    return True


def _is_version(field: bytes) -> bool:
    """Whether it may be a field of the history."""
    key, nul, digits = field.rpartition(b"\0")
    return bool(nul) and _is_key(key) and len(digits) == 16 and digits.isdigit() and int(digits) > 0


class RedisRecovery:
    """See `RecoverySession`. Others may write meanwhile: each step is a script that looks again before it changes."""

    def __init__(self, backend: RedisBackend) -> None:
        self.problems: list[Problem] = []
        self.kept: list[str] = []
        self.backend = backend
        self.aside = backend._keys[13]
        self.held: dict[tuple[bytes, int], int] = {}  # until which revision the versions of a salvage were live
        self.steps = self.mend()

    def note(self, subject: str, found: str, done: str, mended: bool = True, code: str = "") -> None:
        """Add a line to the report."""
        self.problems.append(Problem(subject, found, done, mended, code))

    def repair(self) -> None:
        """Mend the list of namespaces, the types of the keys, and the head: without them no script runs."""
        self.mend_registry()
        self.mend_types()
        self.mend_head()

    def salvage(self) -> Salvage | None:
        """Go on to the next keys of which something is missing."""
        return next(self.steps, None)

    def rewrite(self, restored: Restored) -> None:
        """Put deletes in the place of lost versions, correct where versions end, and delete keys that are lost."""
        absent: list[tuple[bytes, int]] = []
        for version in restored.versions:
            name = version.key.encode()
            until = self.held.get((name, version.revision))
            if until is None:
                absent.append((name, version.revision))
            elif until != version.until:
                self.close(name, version.revision, version.until)
        for chunk in _chunks(sorted(absent, reverse=True)):
            self.backend._eval(mends.HOLE, *(word for pair in chunk for word in pair))
        self.delete(restored.missing)

    def mend(self) -> Iterator[Salvage]:
        """All that is mended while there is a head. Yields what must be decided about states."""
        backend = self.backend
        if backend._with_retry(lambda client: client.exists(backend._keys[0])):
            self.mend_lists(bare=False)
            self.mend_marks()
            damaged = self.find_damaged()
            if damaged.written or damaged.listed:
                yield self.fill(damaged, damaged.listed | {key for key, _ in damaged.written})
            self.mend_lists(bare=True)
            dangling = self.mend_chains()
            damaged = self.find_unended(dangling)
            if keys := damaged.listed | {one.key for one in dangling}:
                yield self.fill(damaged, keys)
            self.mend_touched()
            self.mend_commits()
            if backend._registry(lambda client: client.sadd(REGISTRY, backend.namespace)):
                self.note(f"namespace {backend.namespace!r}", f"it was not in {REGISTRY}", "added")
        if backend._tracking is not None:
            backend._tracking.forget()

    def fill(self, salvage: Salvage, keys: set[str]) -> Salvage:
        """Add to a salvage the head, the checkpoints, and what is held of some keys, without the values."""
        self.held = {}
        for chunk in _chunks(sorted(key.encode() for key in keys)):
            reply = self.backend._eval(mends.VERSIONS_OF, *chunk)
            for name, revision, until, moment, kind in zip(*[iter(reply)] * 5, strict=True):
                value = None if kind == b"D" else b""
                version = StoredVersion(name.decode(), value, int(revision), int(moment), 0, int(until))
                salvage.versions.append(version)
                self.held[name, version.revision] = version.until
        salvage.head = msgspec.structs.replace(self.backend.head(), count=-1)
        salvage.marks = self.backend.marks()
        return salvage

    def find_damaged(self) -> Salvage:
        """Set unreadable entries and versions aside, and find all that is mentioned and not held."""
        entries, fields = self.find_bare()
        last = self.backend.head().revision
        past = {(field[:-17], int(field[-16:])) for field in fields}
        past |= self.set_aside_versions()
        entries |= self.set_aside_entries()
        written = self.find_unmet()
        entries |= self.set_aside_older(_newest(past | written))
        salvage = Salvage(subject="", damage="", in_place=True)
        salvage.past = {(key.decode(), revision) for key, revision in past if revision <= last}
        salvage.written = salvage.past | {(key.decode(), revision) for key, revision in written}
        salvage.listed = {key.decode() for key in entries}
        return salvage

    def find_unmet(self) -> set[tuple[bytes, int]]:
        """The writes that `touched` mentions and of which there is no version."""
        last = self.backend.head().revision
        written = set()
        self.strange: list[bytes] = []  # members that no commit wrote
        for chunk in _chunks(row for row, _ in scan(self.backend, 7)):
            for row in self.backend._eval(UNMET, *chunk):
                if _is_version(row[16:] + b"\0" + row[:16]) and int(row[:16]) <= last:
                    written.add((row[16:], int(row[:16])))
                else:
                    self.strange.append(row)
        return written

    def place(self, name: str) -> str:
        """A key of the same slot under which nothing lies, for what was found in one of ours."""
        backend = self.backend
        start = place = f"{backend._prefix}damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}:{name}"
        number = 1
        while backend._with_retry(lambda client, place=place: client.exists(place)):  # type: ignore[misc]
            place = f"{start}-{(number := number + 1)}"
        self.kept.append(place)
        return place

    def mend_registry(self) -> None:
        """The list of namespaces is made anew from those that are there. O(keys of the server) then."""
        backend = self.backend
        if not (kind := registry_type(backend)):
            return
        place = f"{{{REGISTRY}}}:damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"  # in the same slot
        backend._with_retry(lambda client: client.rename(REGISTRY, place))
        self.kept.append(place)
        heads = backend._with_retry(lambda client: list(client.scan_iter(match="stateview:{*}:head", count=5000)))
        found = [match[1] for head in heads if (match := _HEAD.fullmatch(head))]
        if found:
            backend._with_retry(lambda client: client.sadd(REGISTRY, *found))
        done = f"made anew from the {len(found)} namespaces that are there; it is kept as {place}"
        self.note(REGISTRY, f"it was a {kind}, not a set", done)

    def mend_types(self) -> None:
        """Put aside what is of another type than ours, and keep what would go by itself."""
        backend = self.backend
        for finding in types(backend):
            name = finding.subject.removeprefix(backend._prefix)
            if finding.code == WRONG_TYPE:
                place = self.place(name)
                backend._with_retry(lambda client, key=finding.subject, to=place: client.rename(key, to))  # type: ignore[misc]
                again = name in ("index", "expiry", "hindex", "hexpiry", "touched", "tokens", "older")
                done = "made anew from the entries and their history" if again else "what was in it is lost"
                self.note(finding.subject, finding.found, f"{done}; it is kept as {place}", again)
            else:
                backend._with_retry(lambda client, key=finding.subject: client.persist(key))  # type: ignore[misc]
                self.note(finding.subject, finding.found, "it stays now")

    def mend_head(self) -> None:
        """The revision is that of the newest that is there; what cannot be told from anything is said."""
        backend = self.backend
        newest, _ = newest_commit(backend)
        head = read_head(backend)
        if head is not None and not scripts.unreadable_head(head) and newest <= int(head.get(b"revision", newest)):
            return
        head = head or {}
        revisions = [newest]
        starts = (packed.split(b" ", 1)[0] for _, packed in backend._entries())
        revisions += [int(start) for start in starts if start.isdigit()]
        revisions += [int(name[-16:]) for name, _ in scan(backend, 4) if name[-16:].isdigit()]
        top = max(revisions, default=0)
        seconds, micros = backend._with_retry(lambda client: client.time())
        fields: dict[str, Any] = {"revision": top, "time": seconds * 1_000_000 + micros, "floor": top, "format": 1}
        for name in ("time", "floor"):
            if head.get(name.encode(), b"").isdigit() and (name == "time" or int(head[name.encode()]) <= top):
                fields[name] = int(head[name.encode()])
        lineage = head.get(b"lineage", b"").decode(errors="replace")
        fields["lineage"] = lineage if lineage.isalnum() else "recovered"
        backend._with_retry(lambda client: client.hset(backend._keys[0], mapping=fields))
        said = f"made anew: revision {top} is the newest there is"
        whole = fields["floor"] != top and lineage == fields["lineage"]
        self.note(backend._keys[0], "it was not what was written", said if whole else
                  f"{said}; older states are read only where a checkpoint names them", whole)  # fmt: skip

    def set_aside_entries(self) -> set[bytes]:
        """Take out the entries that cannot be read; return their keys."""
        backend = self.backend
        last = backend.head().revision
        bad = {name: (packed, wrong) for name, packed in backend._entries()
               if (wrong := unreadable_entry(backend, name, packed, last))}  # fmt: skip
        keys = set()
        for name, (packed, wrong) in sorted(bad.items()):
            if backend._eval(mends.SET_ASIDE, "live", name, packed):
                done = f"set aside in {self.aside}; its earlier versions are in its history"
                self.note(f"key {_shown(name)}", wrong, done, False, "set-aside")
                keys |= {name} if _is_key(name) else set()
        self.keep_aside(bool(bad))
        return keys

    def set_aside_older(self, newest: dict[bytes, int]) -> set[bytes]:
        """Take out the entries that are not newer than the last write of their key; return their keys."""
        backend, keys = self.backend, set()
        for chunk in _chunks(name for name, _ in scan(backend, 1)):
            for key in backend._eval(mends.STALE, *chunk):
                newest[key] = max(newest.get(key, 0), self.kept_newest(key))
        for key, revision in newest.items():
            packed = backend._with_retry(lambda client, key=key: client.hget(backend._keys[1], key))  # type: ignore[misc]
            held = int(packed.split(b" ", 1)[0]) if packed else revision + 1
            if held <= revision and backend._eval(mends.SET_ASIDE, "live", key, packed):
                found = f"its entry is of revision {held}, and revision {revision} wrote it last"
                self.note(f"key {_shown(key)}", found, f"set aside in {self.aside}", False, "set-aside")
                keys.add(key)
        self.keep_aside(bool(keys))
        return keys

    def kept_newest(self, key: bytes) -> int:
        """The newest revision of a key in the history, 0 where there is none."""
        low, high = b"[" + key + b"\0", b"(" + key + b"\0:"
        found = self.backend._with_retry(lambda client: client.zrevrangebylex(self.backend._keys[5], high, low, 0, 1))
        return int(found[0][-16:]) if found else 0

    def keep_aside(self, used: bool) -> None:
        """Report the hash of what was set aside among the originals, once."""
        if used and self.aside not in self.kept:
            self.kept.append(self.aside)

    def set_aside_versions(self) -> set[tuple[bytes, int]]:
        """Take out the past versions that cannot be read; return their keys and revisions."""
        backend = self.backend
        bad = {name: (packed, wrong) for name, packed in scan(backend, 4)
               if (wrong := unreadable_version(name, packed))}  # fmt: skip
        lost = set()
        for name, (packed, wrong) in sorted(bad.items()):
            if backend._eval(mends.SET_ASIDE, "history", name, packed):
                key, _, revision = name.rpartition(b"\0")
                subject = f"revision {int(revision)} of key {_shown(key)}" if revision.isdigit() else _shown(name)
                self.note(subject, wrong, f"set aside in {self.aside}", False, "set-aside")
                lost |= {(key, int(revision))} if _is_version(name) else set()
        self.keep_aside(bool(bad))
        return lost

    def mend_lists(self, bare: bool) -> None:
        """Make indexes and expiries say what is held; `bare`: only where it is not held, else only where it is."""
        backend = self.backend
        for kind, places, what in (("live", (1, 2, 3), "the key index"), ("history", (4, 5, 6), "the history's index")):
            mended, kept = 0, ""
            for place in places:
                for chunk in _chunks(name for name, _ in scan(backend, place)):
                    wrong = [name for name, said in disagreements(backend, kind, chunk).items()
                             if (said == "bare") == bare]  # fmt: skip
                    if wrong and bare and not kept:
                        kept = self.keep_lists(places[1:])
                    if wrong:
                        mended += int(backend._eval(mends.MEND, kind, *wrong))
            if mended:
                found = f"of {mended} names it did not say what is held"
                done = f"made to agree with the {'entries' if kind == 'live' else 'versions'}"
                self.note(what, found, done + (f"; as it was it is kept as {kept}" if kept else ""))

    def keep_lists(self, places: Iterable[int]) -> str:
        """Copy lists aside, before names are taken out of them; the name of the first copy."""
        names = []
        for place in places:
            if self.backend._with_retry(lambda client, place=place: client.exists(self.backend._keys[place])):  # type: ignore[misc]
                names.append(self.place(scripts.NAMES[place]))
                self.backend._with_retry(lambda client, place=place: client.copy(self.backend._keys[place], names[-1]))  # type: ignore[misc]
        return names[0]

    def find_bare(self) -> tuple[set[bytes], set[bytes]]:
        """The keys, and the fields of the history, that are listed and not there."""
        found = []
        for kind, places, is_ours in (("live", (2, 3), _is_key), ("history", (5, 6), _is_version)):
            names: set[bytes] = set()
            for place in places:
                for chunk in _chunks(name for name, _ in scan(self.backend, place)):
                    bare = (name for name, said in disagreements(self.backend, kind, chunk).items() if said == "bare")
                    names.update(name for name in bare if is_ours(name))
            found.append(names)
        return found[0], found[1]

    def mend_marks(self) -> None:
        """Give checkpoints their places back; those of which nothing is known any more are lost."""
        backend = self.backend
        scores, said = read_marks(backend)
        for member in sorted(scores.keys() | {name for name in said if b"@" in name}):
            if not unreadable_mark(member, said.get(member), scores.get(member)):
                continue
            name, _, revision = (part.decode(errors="replace") for part in member.rpartition(b"@"))
            score = int(revision) if revision.isdigit() else -1
            placed = not unreadable_mark(member, said.get(member), score)
            if not backend._eval(mends.MARK, member, said.get(member, b""), score if placed else -1):
                continue  # changed meanwhile
            if placed:
                self.note(f"checkpoint {name[:128]!r}", "it was not where its revision is", "put back")
            else:
                done = f"lost; 'stateview checkpoint {name[:128]} --at {revision[:16]}' makes it anew"
                self.note(f"checkpoint {name[:128]!r}", "what was said of it is not what was written", done, False)
        if backend._eval(mends.COUNT):
            self.note(backend._keys[10], "how many checkpoints have a name was not right", "counted anew")

    def mend_chains(self) -> list[StoredVersion]:
        """End each version where the next of its key begins; return last versions that end where nothing begins."""
        backend, mended = self.backend, 0
        doubtful: list[str] = []
        before: StoredVersion | None = None
        after = ("", 0)
        floor = backend.head().floor
        while page := backend.versions_page(after, MEMBERS_PER_SCRIPT):
            doubtful += [one.key for one, _ in _breaks([before, *page] if before else page, floor)]
            before = page[-1]
            after = (before.key, before.revision)
        doubtful += [one.key for one, _ in _breaks([before] if before else [], floor, whole=True)]
        dangling: list[StoredVersion] = []
        for key in dict.fromkeys(doubtful):  # again, since others may have written between two pages
            versions = self.kept_of(key)
            floor = backend.head().floor  # after that: a version that was pruned meanwhile lies below it
            for one, following in _breaks(versions, floor, whole=True):
                if following is None:
                    dangling.append(one)
                else:
                    mended += self.close(one.key.encode(), one.revision, following.revision)
        if mended:
            found = f"{mended} versions did not end where the next begins"
            self.note("the history", found, "corrected from the next version", code="chains")
        return dangling

    def find_unended(self, dangling: list[StoredVersion]) -> Salvage:
        """Of last versions that end where nothing begins, those whose end was never written."""
        last = self.backend.head().revision
        salvage = Salvage(subject="", damage="", in_place=True)
        for one in list(dangling):
            if one.revision < one.until <= last:
                continue  # the version that superseded it is lost
            dangling.remove(one)
            if not self.close(one.key.encode(), one.revision, 0):
                continue
            subject = f"key {_shown(one.key.encode())}"
            found = f"its last version ends at revision {one.until}, which was never written"
            if one.value is None:
                self.note(subject, found, "it is deleted still", code="chains")
            else:
                done = f"when it was deleted is lost: until now it shows revision {one.revision}"
                self.note(subject, found, done, False, "chains")
                salvage.listed.add(one.key)
        return salvage

    def kept_of(self, key: str) -> list[StoredVersion]:
        """All versions of a key."""
        found: list[StoredVersion] = []
        while not found or found[-1].until:  # a version without an end is the last
            page = self.backend.versions_page((key, found[-1].revision if found else 0), MEMBERS_PER_SCRIPT, [key])
            if not page:
                break
            found += page
        return found

    def close(self, key: bytes, revision: int, until: int) -> int:
        """Correct the revision that superseded a version; 0 where the version is not in the history."""
        backend = self.backend
        name = key + b"\0%016d" % revision
        packed = backend._with_retry(lambda client: client.hget(backend._keys[4], name))
        if packed is None:
            return 0
        rest = packed.partition(b" ")[2]
        return int(backend._eval(mends.CLOSE, name, packed, b"%d " % until + rest))

    def mend_touched(self) -> None:
        """Which revision wrote what is told by the versions that are there."""
        backend = self.backend
        added = gone = 0
        for chunk in _chunks(row for row, score in scan(backend, 7) if score):  # it is in byte order only where it is 0
            places = dict.fromkeys(chunk, 0)
            added += backend._with_retry(lambda client, to=places: client.zadd(backend._keys[7], to, xx=True, ch=True))  # type: ignore[misc]
        for chunk in _chunks(self.strange):
            gone += int(backend._eval(mends.UNTOUCH, *chunk))
        for kind, place in (("live", 1), ("history", 4)):
            for chunk in _chunks(name for name, _ in scan(backend, place)):
                added += int(backend._eval(mends.TOUCH, kind, *chunk))
        if added or gone:
            found = f"{added} writes were not known, {gone} were that are not there"
            self.note("what changed", found, "made to agree with the versions")

    def mend_commits(self) -> None:
        """Every revision has a record; where that is lost, one that says so, with the time of what it wrote."""
        backend, head = self.backend, self.backend.head()
        bad = {name: packed for name, packed in scan(backend, 8) if unreadable_commit(name, packed)}
        start, end = f'[{json.dumps(_LOST)},"",', ",0,0,0]"
        filled: list[int] = []
        for chunk in _chunks(range(head.floor + 1, head.revision + 1)):
            pairs = [text for revision in chunk for text in (str(revision), bad.pop(b"%d" % revision, b""))]
            filled += map(int, backend._eval(mends.FILL, start, end, *pairs))
        for name in bad:
            backend._with_retry(lambda client, name=name: client.hdel(backend._keys[8], name))  # type: ignore[misc]
        short: dict[int, int] = {}
        for chunk in _chunks(range(head.floor + 1, head.revision + 1)):
            reply = backend._eval(mends.SHORT, *chunk)
            short.update(zip(reply[::2], reply[1::2], strict=True))
        if short:
            found = f"{_counted(sum(short.values()), 'key')} left without a name, written by revision "
            done = f"lost, and so in the checkpoints that come after; what the log said is set aside in {self.aside}"
            self.note("keys that are not known", found + _some(map(str, sorted(short))), done, False)
            self.keep_aside(True)
        if filled:
            some = ", ".join(map(str, sorted(filled)[:10])) + (" …" if len(filled) > 10 else "")
            what = f"commits of {len(filled)} revisions" if len(filled) > 1 else "commit of revision"
            self.note(backend._keys[8], f"the {what} {some} could not be read, or were missing",
                      "who did them and why is lost; what they wrote is there", False)  # fmt: skip

    def delete(self, keys: Iterable[str]) -> None:
        """Delete keys that are lost by a commit, where that does not delete what was saved meanwhile."""
        for chunk in _chunks(sorted(keys), DELETES_PER_COMMIT):
            while absent := sorted(set(chunk) - self.backend.read(chunk).keys()):
                batch = CommitRequest(dict.fromkeys(absent, Write(None)), expected=dict.fromkeys(absent, 0),
                              reason="recover: deleted what is lost")  # fmt: skip
                try:
                    self.backend.commit(batch)
                    break
                except Conflict:
                    continue


def _breaks(
    versions: list[StoredVersion], floor: int, whole: bool = False
) -> Iterator[tuple[StoredVersion, StoredVersion | None]]:
    """Versions that were superseded neither by the next of their key, which comes with them, nor by what is forgotten.

    `whole`: there is nothing after the last.
    """
    for one, other in pairwise([*versions, None] if whole else versions):
        assert one is not None
        if other is None or one.key != other.key:
            if one.until and not one.revision < one.until <= floor:
                yield one, None
        elif one.until != other.revision and not one.revision < one.until <= min(floor, other.revision):
            yield one, other
