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


class _Recovery:
    """See `RecoverySession`."""

    def __init__(self, backend: RedisBackend) -> None:
        self.backend = backend
        self.problems: list[Problem] = []
        self.kept: list[str] = []
        self.aside = backend._keys[13]
        self.gone: dict[bytes, int] = {}  # keys whose entry is lost, and which revision wrote it, 0 if unknown
        self.holes: list[tuple[bytes, int, int]] = []  # versions that are lost: key, revision, and until which one
        self.strange: list[bytes] = []  # members of touched that are none of ours

    def note(self, subject: str, found: str, done: str, mended: bool = True) -> None:
        self.problems.append(Problem(subject, found, done, mended))

    def salvage(self) -> Salvage | None:
        """Nothing: `repair` has decided and written all."""
        return None

    def rewrite(self, restored: Restored) -> None:
        """Never called: `salvage` returns nothing."""
        raise NotImplementedError

    def repair(self) -> None:
        """Mend the keys."""
        backend = self.backend
        self.mend_registry()
        self.mend_types()
        self.mend_head()
        if backend._with_retry(lambda client: client.exists(backend._keys[0])):
            self.mend_lists(bare=False)
            listed = self.find_bare()
            self.set_aside_versions()
            self.set_aside_entries()
            self.find_lost(listed)
            self.mend_lists(bare=True)
            self.mend_marks()
            self.mend_chains()
            self.mend_touched()
            self.mend_commits()
            self.tell_marks()
            self.delete_gone()
            if backend._registry(lambda client: client.sadd(REGISTRY, backend.namespace)):
                self.note(f"namespace {backend.namespace!r}", f"it was not in {REGISTRY}", "added")
        if backend._tracking is not None:
            backend._tracking.forget()

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

    def set_aside_entries(self) -> None:
        """Take out the entries that cannot be read."""
        backend = self.backend
        last = backend.head().revision
        bad = {name: (packed, wrong) for name, packed in backend._entries()
               if (wrong := unreadable_entry(backend, name, packed, last))}  # fmt: skip
        for name, (packed, wrong) in sorted(bad.items()):
            if not backend._eval(mends.SET_ASIDE, "live", name, packed):
                continue
            done = f"set aside in {self.aside}; its earlier versions are in its history"
            self.note(f"key {_shown(name)}", wrong, done, False)
            if _is_key(name):
                self.gone[name] = 0
        self.keep_aside(bool(bad))

    def set_aside_older(self, newest: dict[bytes, int]) -> None:
        """Take out the entries that say to be older than what was written to their keys: which of both is not known."""
        backend, used = self.backend, False
        newest = dict(newest)
        for chunk in _chunks(name for name, _ in scan(backend, 1)):
            for key in backend._eval(mends.STALE, *chunk):
                newest[key] = max(newest.get(key, 0), self.kept_newest(key))
        for key, revision in newest.items():
            packed = backend._with_retry(lambda client, key=key: client.hget(backend._keys[1], key))  # type: ignore[misc]
            if (
                packed
                and int(packed.split(b" ", 1)[0]) <= revision
                and backend._eval(mends.SET_ASIDE, "live", key, packed)
            ):
                found = f"it is of revision {int(packed.split(b' ', 1)[0])}, and was written by {revision}"
                self.note(f"key {_shown(key)}", found, f"set aside in {self.aside}", False)
                self.gone[key] = 0
                used = True
        self.keep_aside(used)

    def kept_newest(self, key: bytes) -> int:
        """The newest revision of a key in the history, 0 where there is none."""
        low, high = b"[" + key + b"\0", b"(" + key + b"\0:"
        found = self.backend._with_retry(lambda client: client.zrevrangebylex(self.backend._keys[5], high, low, 0, 1))
        return int(found[0][-16:]) if found else 0

    def keep_aside(self, used: bool) -> None:
        if used and self.aside not in self.kept:
            self.kept.append(self.aside)

    def set_aside_versions(self) -> None:
        """Take out the past versions that cannot be read."""
        backend = self.backend
        bad = {name: (packed, wrong) for name, packed in scan(backend, 4)
               if (wrong := unreadable_version(name, packed))}  # fmt: skip
        lost = []
        for name, (packed, wrong) in sorted(bad.items()):
            if backend._eval(mends.SET_ASIDE, "history", name, packed):
                key, _, revision = name.rpartition(b"\0")
                subject = f"revision {int(revision)} of key {_shown(key)}" if revision.isdigit() else _shown(name)
                self.note(subject, wrong, f"set aside in {self.aside}", False)
                lost += [(key, int(revision))] if _is_version(name) else []
        self.keep_aside(bool(bad))
        self.fill_holes(lost)

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

    def find_lost(self, listed: tuple[set[bytes], set[bytes]]) -> None:
        """Tell which entries and versions are missing: those that are listed, and those that were written."""
        backend, last = self.backend, self.backend.head().revision
        entries, fields = listed
        pasts = {(field[:-17], int(field[-16:])) for field in fields if int(field[-16:]) <= last}
        written = set()
        for chunk in _chunks(row for row, _ in scan(backend, 7)):
            for row in backend._eval(UNMET, *chunk):
                if _is_version(row[16:] + b"\0" + row[:16]) and int(row[:16]) <= last:
                    written.add((row[16:], int(row[:16])))
                else:
                    self.strange.append(row)
        self.set_aside_older(_newest(pasts | written))
        newest = _newest(written - pasts)
        lives = {key: newest.get(key, 0) for key in entries | self.gone.keys()}
        ends = self.fill_holes(pasts | written | {(key, revision) for key, revision in lives.items() if revision})
        deletes = {(key, revision) for key, revision in pasts & ends.keys()
                   if not ends[key, revision] and key not in lives}  # fmt: skip
        self.holes = [hole for hole in self.holes if hole[:2] not in deletes]
        self.tell_lost(entries, sorted(ends.keys() - lives.items() - deletes), deletes)
        self.gone = lives

    def tell_lost(
        self, entries: set[bytes], versions: list[tuple[bytes, int]], deletes: set[tuple[bytes, int]]
    ) -> None:
        if entries:
            found = (
                f"{_counted(len(entries), 'key')} listed, and without an entry: {_some(map(_shown, sorted(entries)))}"
            )
            self.note("the live state", found, "lost; what is left of earlier versions is in the history", False)
        if versions:
            said = _some(f"{_shown(key)} at revision {revision}" for key, revision in versions)
            found = f"{_counted(len(versions), 'version')} missing: {said}"
            self.note("the history", found, "lost; a state that showed them is without these keys now", False)
        if deletes:
            said = _some(f"of {_shown(key)} at revision {revision}" for key, revision in sorted(deletes))
            found = f"{_counted(len(deletes), 'delete')} missing: {said}"
            self.note("the history", found, "put back: nothing but a delete is in the history with nothing after it")

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

    def mend_chains(self) -> None:
        """A version was superseded by the next one of its key, where that is still there."""
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
            versions = self.kept_of(key.encode())
            floor = backend.head().floor  # after that: what was forgotten meanwhile lies below it
            for one, other in _breaks(versions, floor, whole=True):
                if other is None:
                    dangling.append(one)
                else:
                    mended += self.close(one, other.revision)
        if mended:
            found = f"{mended} versions did not hand over to the next"
            self.note("the history", found, "made to end where the next begins")
        self.mend_ends(dangling)

    def mend_ends(self, dangling: list[StoredVersion]) -> None:
        """The last versions of keys that were superseded by what is not there, and is not forgotten either."""
        last = self.backend.head().revision
        lost = [one for one in dangling if one.revision < one.until <= last]
        ends = self.fill_holes((one.key.encode(), one.until) for one in lost)
        self.tell_lost(set(), sorted(ends), set())
        for one in dangling:
            if one in lost or not self.close(one, 0):
                continue
            subject, found = f"key {_shown(one.key.encode())}", "what superseded its last version was never written"
            if one.value is None:
                self.note(subject, found, "it is deleted still")
            else:
                self.gone[one.key.encode()] = 0
                self.note(
                    subject, found, f"since when it is gone is lost: until now it shows revision {one.revision}", False
                )

    def kept_of(self, key: bytes) -> list[StoredVersion]:
        """All versions of a key."""
        found: list[StoredVersion] = []
        while not found or found[-1].until:  # one that stands is the last
            page = self.backend.versions_page(
                (key.decode(), found[-1].revision if found else 0), MEMBERS_PER_SCRIPT, [key.decode()]
            )
            if not page:
                break
            found += page
        return found

    def close(self, one: StoredVersion, until: int) -> int:
        backend = self.backend
        name = one.key.encode() + b"\0%016d" % one.revision
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

    def fill_holes(self, lost: Iterable[tuple[bytes, int]]) -> dict[tuple[bytes, int], int]:
        """In states that showed what is lost the key is absent. Of each that is: what superseded it, 0 if nothing."""
        found = {}
        for chunk in _chunks(sorted(lost, reverse=True)):
            ends = self.backend._eval(mends.HOLE, *(word for pair in chunk for word in pair))
            found.update({pair: int(end) for pair, end in zip(chunk, ends, strict=True) if end >= 0})
        self.holes += [(key, revision, end) for (key, revision), end in found.items()]
        return found

    def tell_marks(self) -> None:
        """Which checkpoints showed what is lost, as far as what is left tells."""
        for key, revision in self.gone.items():
            if not revision:  # written before all that is known of what was written, and after what is in the history
                self.holes.append((key, max((one.until for one in self.kept_of(key)), default=0), 0))
        for mark in self.backend.marks() if self.holes else ():
            seen = {key for key, low, end in self.holes if low <= mark.revision and (not end or mark.revision < end)}
            if seen:
                found = f"it showed, as far as is known, {_some(map(_shown, sorted(seen)))}"
                self.note(f"checkpoint {mark.name!r}", found, "lost there: no other copy of it exists", False)

    def delete_gone(self) -> None:
        """Say so in the log, where that does not take away what was saved meanwhile."""
        for chunk in _chunks(sorted(key.decode() for key in self.gone), DELETES_PER_COMMIT):
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
