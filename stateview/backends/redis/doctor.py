"""`doctor()` of a Redis namespace: whether the namespace's keys agree with each other.

Others may write meanwhile. So what seems wrong is checked again by one script, in one state.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from ... import codec
from ...errors import BackendUnavailable, Damaged, InvalidName, StateException, run
from ...model import Finding, check_key
from ..deltas import Chain
from ..files.staging import ASIDE, replaced_finding, unfinished_finding
from ..protocol import ProgressText
from . import packing
from .connections.client import escape_match
from .connections.contact import REGISTRY
from .scripts.common import COMMON, KINDS, NAMES, unreadable_head
from .scripts.read import MARKS_AND_NOTES, MISSING
from .scripts.recovery import DISORDER
from .server_checks import check_clock, check_server

if TYPE_CHECKING:
    from .backend import RedisBackend

RECOVER = run("recover")
WRONG_TYPE = "wrong-type"
_MEMBERS = {  # of the pages of each list: the shape, and what stands between two of them
    "hindex": (re.compile(rb"[^\0]+\0\d{16}"), b""), "writes": (re.compile(rb"[^\0]+"), b"\0"),
}  # fmt: skip
MEMBERS_PER_SCRIPT = 500  # a script that runs long keeps all other clients waiting
TYPES = dict.fromkeys(NAMES, "zset") | dict.fromkeys(
    ("head", "live", "history", "commits", "notes", "tokens", "older", "damaged", "touched"), "hash"
)

# fmt: off
LOOK = COMMON + """
-- Compare a hash with its index and its expiries. ARGV: 'live' or 'history', then keys, or fields of the history.
-- Returns the names about which they disagree, each with a word for the disagreement.
local where, order, times = live, index, expiry
if ARGV[1] == 'history' then where, order, times = history, hindex, hexpiry end
local low = tonumber(call('HGET', head, 'floor') or 0)  -- `writes` lists the writes above the floor or a checkpoint
low = math.min(low, tonumber(call('ZRANGE', marks, 0, 0, 'WITHSCORES')[2]) or low)
local out = {}
for i = 2, #ARGV do
  local packed = call('HGET', where, ARGV[i])
  local listed, score = order == hindex and is_listed(hindex, ARGV[i]), call('ZSCORE', times, ARGV[i])
  if order == index then listed = tonumber(call('ZSCORE', index, ARGV[i])) end
  local expires = packed and string.match(packed, '^%*?%d+ %d+ (%d+) ')
  local wrong
  if not packed then
    if listed or score then wrong = 'bare' end
  elseif not expires then wrong = 'unreadable'
  elseif listed ~= (order == hindex or 0) then wrong = 'unlisted'
  elseif (expires ~= '0') ~= (score and true or false) or (score and tonumber(score) ~= tonumber(expires)) then
    wrong = 'expiry'
  else
    local r, key = string.match(packed, '^%d+'), ARGV[i]
    if where == history then r, key = string.sub(ARGV[i], -16), string.sub(ARGV[i], 1, -18) end
    r = tonumber(r)
    if r and r > low and not is_listed(writes, pad(r) .. key) then wrong = 'untouched' end
  end
  if wrong then out[#out + 1] = ARGV[i]; out[#out + 1] = wrong end
end
return out
"""

UNMET = COMMON + """
-- Return the writes whose version is missing. ARGV: members of writes.
local out = {}
for _, row in ipairs(ARGV) do
  local r, key = string.sub(row, 1, 16), string.sub(row, 17)
  if is_listed(writes, row) and call('HEXISTS', history, key .. '\\0' .. r) == 0 and
    tonumber(string.match(call('HGET', live, key) or '', '^(%d+) ')) ~= tonumber(r) then
    out[#out + 1] = row
  end
end
return out
"""

# fmt: on

# By the word of the script LOOK: the code of the finding, and what was found.
_DISAGREEMENTS = {
    "bare": ("value-missing", "{} are indexed, and their values are missing"),
    "unlisted": ("not-indexed", "{} are missing from the index"),
    "unreadable": ("unreadable", "{} are not what was written"),
    "untouched": ("write-not-listed", "{} are missing from the list of writes"),
    "expiry": ("wrong-expiry", "{} are indexed with another expiry than their own"),
}
_MARK_PROBLEMS = {
    "checkpoint-unreadable": "its record is not what was written",
    "checkpoint-misplaced": "the index has another revision than its name",
}


def diagnose(backend: RedisBackend, progress: ProgressText) -> Iterator[Finding]:
    """Yield the findings about a namespace and its server."""
    backend = backend.examined()
    try:
        yield from check_server(backend)
        if kind := registry_type(backend):
            meaning = "another program wrote it; namespaces cannot be listed, and no new one can be made"
            yield Finding("error", REGISTRY, f"it is a {kind}, not a set", meaning, RECOVER, "registry-type")
        type_findings = list(types(backend))
        yield from type_findings
        if any(finding.code == WRONG_TYPE for finding in type_findings):
            return
        head = read_head(backend)
        if head is None or unreadable_head(head):
            found, meaning = "it is not what was written", "nothing can be read or written"
            yield Finding("error", backend._keys[0], found, meaning, RECOVER, "head-unreadable")
            return
        yield from check_clock(backend)
        yield from _check_migrations(backend, progress)
        if not head:
            return
        backend._choose_values(head)  # another client may have changed the keyring since
        yield from _check_parts(backend)
        yield from _check_pages(backend)
        yield from _check_entries(backend, progress)
        yield from _check_history(backend, progress)
        yield from _check_touched(backend, progress)
        yield from _check_marks(backend)
        yield from _check_commits(backend, progress)
        yield from _check_surroundings(backend)
    except StateException as error:
        meaning = "some or all of the stored data could not be checked"
        code = "unavailable" if isinstance(error, BackendUnavailable) else "unreadable"
        yield Finding("error", backend.url, error.message, meaning, error.next_steps, code)


# --- the keys and the head ---------------------------------------------------------------------------------------


def registry_type(backend: RedisBackend) -> str:
    """Return the type of the list of namespaces, if it is not a set; "" if it is a set or does not exist."""
    kind: str = backend._with_retry(lambda client: client.type(REGISTRY)).decode()
    return "" if kind in ("set", "none") else kind


def types(backend: RedisBackend) -> Iterator[Finding]:
    """Yield a finding for each key of another type, and for each key that the server will remove."""

    def act(client: Any) -> list[Any]:
        return [(client.type(key), client.pttl(key)) for key in backend._keys]

    for key, name, (kind, left) in zip(backend._keys, NAMES, backend._with_retry(act), strict=True):
        is_earlier = name == "touched" and kind == b"zset"  # before format 4
        if kind.decode() not in ("none", TYPES[name]) and not is_earlier:
            found = f"it is a {kind.decode()}, not a {TYPES[name]}"
            meaning = "another program wrote it; its content is lost"
            yield Finding("error", key, found, meaning, RECOVER, WRONG_TYPE)
        elif left >= 0:
            found = f"the server will remove it in {left / 1000:,.0f} s"
            meaning = "another program set an expiry; state is lost then"
            yield Finding("error", key, found, meaning, RECOVER, "expiry-set")


def read_head(backend: RedisBackend) -> dict[bytes, bytes] | None:
    """Return the head, empty if the namespace does not exist; None if the head is missing and other keys exist."""
    existing = backend._with_retry(
        lambda client: client.exists(*backend._keys[1:])
    )  # first: a first commit writes all of them
    head: dict[bytes, bytes] = backend._with_retry(lambda client: client.hgetall(backend._keys[0]))
    return head if head or not existing else None


def scan(backend: RedisBackend, place: int) -> Iterator[tuple[bytes, Any]]:
    """Yield all members of a hash or a sorted set with their values or scores, some of them twice.

    Of a list in pages these are the members of its pages.
    """
    name, key = NAMES[place], backend._keys[place]
    if name == "writes" and backend._with_retry(lambda client: client.type(backend._keys[-1])) == b"zset":
        key = backend._keys[-1]  # before format 4
    command = "hscan" if TYPES[name] == "hash" else "zscan"
    cursor: Any = 0
    while True:
        cursor, page = backend._with_retry(
            lambda client, at=cursor: getattr(client, command)(key, at, count=MEMBERS_PER_SCRIPT)  # type: ignore[misc]
        )
        for member, value in page.items() if isinstance(page, dict) else page:
            for part in _split_page(name, member) if name in _MEMBERS else (member,):
                yield part, value
        if not cursor:
            return


def _split_page(name: str, page: bytes) -> list[bytes]:
    """Return the members of a page of a list; the page itself if another program wrote it."""
    shape, separator = _MEMBERS[name]
    found = shape.findall(page)
    return found if separator.join(found) == page else [page]


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, MEMBERS_PER_SCRIPT)):
        yield chunk


def missing_parts(backend: RedisBackend) -> list[str]:
    """Return the names of the parts that lack members which they had."""
    with backend._session() as session:
        places = backend._with_retry(lambda client: backend._run(client, session, MISSING, [], whole=True))
    return [NAMES[place - 1] for place in places]


def _check_parts(backend: RedisBackend) -> Iterator[Finding]:
    for name in missing_parts(backend):
        key = backend._prefix + name
        count = "HLEN" if TYPES[name] == "hash" else "ZCARD"
        left = backend._with_retry(lambda client, key=key, count=count: client.execute_command(count, key))  # type: ignore[misc]
        found = f"it lacks members that it had; {left:,} are left" if left else "it is gone"
        meaning = "the server evicted it, or another program deleted it; what needs it is an error"
        yield Finding("error", key, found, meaning, RECOVER, "part-missing")


def disordered_pages(backend: RedisBackend, name: str) -> int:
    """Return how many pages of a list are out of order: a member of them may not be found."""
    wrong, after = 0, b""
    while True:
        count, after = backend._eval(DISORDER, NAMES.index(name) + 1, after, MEMBERS_PER_SCRIPT)
        wrong += int(count)
        if not after:
            return wrong


def _check_pages(backend: RedisBackend) -> Iterator[Finding]:
    for name in _MEMBERS:
        if wrong := disordered_pages(backend, name):
            found = f"{wrong:,} of its pages are out of order"
            meaning = "reads of earlier states may miss a version"
            yield Finding("error", backend._prefix + name, found, meaning, RECOVER, "pages-disordered")


# --- indexes -----------------------------------------------------------------------------------------------------


def disagreements(backend: RedisBackend, kind: str, names: list[bytes]) -> dict[bytes, str]:
    """Return the keys, or fields of the history, about which hash and index disagree, each with a word of LOOK."""
    reply = backend._eval(LOOK, kind, *names)
    return {name: wrong.decode() for name, wrong in zip(reply[::2], reply[1::2], strict=True)}


def _check_index(
    backend: RedisBackend, kind: str, places: tuple[int, ...], progress: ProgressText
) -> Iterator[Finding]:
    """Compare a hash with its index and its expiries: the keys at `places`, the hash first."""
    counts: dict[str, int] = {}
    first: dict[str, bytes] = {}
    seen = 0
    for place in places:
        for chunk in _chunks(name for name, _ in scan(backend, place)):
            for name, wrong in disagreements(backend, kind, chunk).items():
                if place == places[0] or wrong == "bare":  # the hash lists all other names
                    counts[wrong] = counts.get(wrong, 0) + 1
                    first.setdefault(wrong, name)
            seen += len(chunk)
            progress(f"{kind}: {seen:,} names")
    for wrong, count in counts.items():
        code, text = _DISAGREEMENTS[wrong]
        example = first[wrong].split(b"\0")[0].decode(errors="replace")[:60]
        counted = f"{count:,} {'entries' if kind == 'live' else 'versions'}"
        found = f"{text.format(counted)}, for example {example!r}"
        meaning = "a list, a count and a read may contradict each other"
        yield Finding("error", f"{backend._prefix}{kind}", found, meaning, RECOVER, code)


# --- entries and versions ----------------------------------------------------------------------------------------


def _check_entries(backend: RedisBackend, progress: ProgressText) -> Iterator[Finding]:
    last = backend.head().revision

    def problems() -> Iterator[str]:
        for name, packed in backend._entries():
            if problem := unreadable_entry(backend, name, packed, last):
                current = backend._with_retry(lambda client, name=name: client.hget(backend._keys[1], name))  # type: ignore[misc]
                if current == packed:
                    yield problem

    yield from _unreadable(backend, "live", "entries", problems())
    yield from _check_index(backend, "live", (1, 2, 3), progress)


def _unreadable(backend: RedisBackend, name: str, what: str, problems: Iterator[str]) -> Iterator[Finding]:
    """Count the problems of a hash in one finding, with the first problem as the example."""
    if example := next(problems, ""):
        count = 1 + sum(1 for _ in problems)
        found = f"{count} {what} cannot be read, for example: {example}"
        subject, meaning = f"{backend._prefix}{name}", "another program wrote it"
        yield Finding("error", subject, found, meaning, RECOVER, f"{what}-unreadable")


def unreadable_entry(backend: RedisBackend, name: bytes, packed: bytes, last: int) -> str:
    """Return why an entry cannot be read; "" if it can be read.

    Args:
        backend: the backend.
        name: the name of the entry: an encoded key.
        packed: the entry as it is stored.
        last: a revision that the namespace has reached.

    """
    try:
        key = check_key(name.decode())
        if backend.values.error is not None:  # no key opens the values
            backend._split(key, packed)
            return ""
        version = backend._entry_version(key, packed)
        codec.decode(version.value or b"", f"the value of {key[:60]!r}")
    except UnicodeDecodeError:
        return "it is not a key"
    except (Damaged, InvalidName) as error:
        return error.message
    if version.revision > last and version.revision > (now := backend.head().revision):
        return f"{key[:60]!r} has revision {version.revision}, and the last revision is {now}"
    return ""


def _check_history(backend: RedisBackend, progress: ProgressText) -> Iterator[Finding]:
    problems = (problem for _, _, problem in unreadable_versions(backend))
    yield from _unreadable(backend, "history", "versions", problems)
    if wrong := packing.miscounted(backend):
        found = f"{len(wrong)} versions have a wrong count of the deltas that are relative to them"
        meaning = "a version that others need may be removed, or one stays that nobody needs"
        yield Finding("error", f"{backend._prefix}history", found, meaning, RECOVER, "delta-references")
    yield from _check_index(backend, "history", (4, 5, 6), progress)


def unreadable_versions(backend: RedisBackend) -> Iterator[tuple[bytes, bytes, str]]:
    """Yield the fields of the history that cannot be read, what is stored there, and why."""
    linked: list[bytes] = []
    doubtful: list[bytes] = []
    for name, record in scan(backend, 4):
        if record[:1] == b"*" and not _problem_of_field(name):
            linked.append(name)
        elif _problem_of_version(backend, name, record):
            doubtful.append(name)
    for chunk in _chunks(sorted(linked, reverse=True)):  # newer versions first: older ones are relative to them
        chain = packing.chain_of(backend, chunk)
        doubtful += (name for name in chunk if _problem_of_version(backend, name, b"*", chain))
    if doubtful:
        backend._learn_keyring()
    for name in doubtful:  # again: another client may have sealed them under another data key meanwhile
        record = backend._with_retry(lambda client, name=name: client.hget(backend._keys[4], name))  # type: ignore[misc]
        if record is not None:
            is_linked = record[:1] == b"*" and not _problem_of_field(name)
            again = packing.chain_of(backend, [name]) if is_linked else None
            if problem := _problem_of_version(backend, name, record, again):
                yield name, record, problem


def _problem_of_field(name: bytes) -> str:
    """Return why a name cannot be a field of the history; "" if it can be."""
    key, nul, revision = name.rpartition(b"\0")
    try:
        if not nul or len(revision) != 16 or not revision.isdigit():
            raise ValueError
        check_key(key.decode())
    except InvalidName as error:
        return error.message
    except ValueError:
        return f"{name[:60]!r} is not what was written"
    return ""


def _problem_of_version(backend: RedisBackend, name: bytes, record: bytes, chain: Chain | None = None) -> str:
    """Return why a version cannot be read; "" if it can be read. `chain` reads it if it is linked."""
    if problem := _problem_of_field(name):
        return problem
    field, _, revision = name.rpartition(b"\0")
    key, value = field.decode(), None
    try:
        if chain is not None:
            if backend.values.error is None:
                value = packing.value_of(backend, chain, key, int(revision))
        else:
            until, moment, expires, rest = record.split(b" ", 3)
            int(until), int(moment), int(expires)
            if rest[:1] == b"V":
                if backend.values.error is None:
                    value = backend._unpacked(rest[1:], key, int(revision))
            elif rest != b"D":
                raise ValueError
        if value is not None:
            codec.decode(value, f"a version of {key[:60]!r}")
    except Damaged as error:
        return error.message
    except ValueError:
        return f"{name[:60]!r} is not what was written"
    return ""


# --- checkpoints -------------------------------------------------------------------------------------------------


def unreadable_mark(member: bytes, packed: bytes | None, score: float | None) -> str:
    """Return the code of what is wrong with a checkpoint; "" if it can be read."""
    name, _, revision = member.rpartition(b"@")
    parts = (packed or b"").split(b" ", 3)
    if (
        not name
        or not revision.isdigit()
        or len(parts) != 4
        or not all(part.isdigit() for part in parts[:3])
        or int(parts[2]) >= len(KINDS)
    ):
        return "checkpoint-unreadable"
    return "" if score == int(revision) else "checkpoint-misplaced"


def read_marks(backend: RedisBackend) -> tuple[dict[bytes, float], dict[bytes, bytes]]:
    """Return the revisions of the checkpoints by the index, and their records, of one state."""
    indexed, records = backend._eval(MARKS_AND_NOTES)
    scores = {name: float(score) for name, score in zip(indexed[::2], indexed[1::2], strict=True)}
    return scores, dict(zip(records[::2], records[1::2], strict=True))


def _check_marks(backend: RedisBackend) -> Iterator[Finding]:
    scores, notes = read_marks(backend)
    members = {name for name in notes if b"@" in name}
    for member in sorted(members | scores.keys()):
        if code := unreadable_mark(member, notes.get(member), scores.get(member)):
            subject = f"checkpoint {member.decode(errors='replace')[:140]!r}"
            meaning = "it cannot be read, or its state may be pruned too early"
            yield Finding("error", subject, _MARK_PROBLEMS[code], meaning, RECOVER, code)
    names = Counter(member.rpartition(b"@")[0] for member in members)
    if {name: b"%d" % count for name, count in names.items()} != {
        name.removeprefix(b"name:"): count for name, count in notes.items() if name.startswith(b"name:")
    }:
        found = "the number of checkpoints of a name is wrong"
        meaning = "a free name may be refused, or a taken name accepted"
        yield Finding("error", backend._keys[10], found, meaning, RECOVER, "checkpoint-count")
    orders = [notes[member].partition(b" ")[0] for member in members]
    last = max((int(order) for order in orders if order.isdigit()), default=0)
    if not (order := notes.get(b"sequence", b"0")).isdigit() or int(order) < last:
        found = "the counter of checkpoints is wrong"
        meaning = "no checkpoint can be made, or the list is out of order"
        yield Finding("error", backend._keys[10], found, meaning, RECOVER, "checkpoint-sequence")


# --- commits -----------------------------------------------------------------------------------------------------


def unreadable_commit(revision: bytes, packed: bytes) -> bool:
    """Return whether the record of a commit cannot be read."""
    moment, _, encoded = packed.partition(b" ")
    try:
        fields = msgspec.json.decode(encoded, type=tuple[str, str, int, int, int, int])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return True
    return not (revision.isdigit() and moment.isdigit() and fields)


def newest_commit(backend: RedisBackend) -> tuple[int, list[bytes]]:
    """Return the highest revision with a record (0 if there is none), and the revisions with an unreadable record."""
    newest, bad = 0, set()
    for name, packed in scan(backend, 8):
        if unreadable_commit(name, packed):
            bad.add(name)
        else:
            newest = max(newest, int(name))
    return newest, sorted(bad)


def _check_commits(backend: RedisBackend, progress: ProgressText) -> Iterator[Finding]:
    progress("the commits")
    newest, bad = newest_commit(backend)
    if newest > (revision := backend.head().revision):
        found = f"its revision is {revision}, and commit {newest} exists"
        meaning = "the next commit would replace that commit"
        yield Finding("error", backend._keys[0], found, meaning, RECOVER, "head-behind")
    if bad:
        example = bad[0].decode(errors="replace")[:20]
        found = f"{len(bad)} records of commits cannot be read, for example of revision {example}"
        subject = f"{backend._prefix}commits"
        yield Finding("error", subject, found, "the log cannot be read", RECOVER, "commits-unreadable")


def _check_touched(backend: RedisBackend, progress: ProgressText) -> Iterator[Finding]:
    progress("the list of writes")
    last = backend.head().revision
    count, example = 0, b""
    for chunk in _chunks(row for row, _ in scan(backend, 7)):
        for row in backend._eval(UNMET, *chunk):
            if not (row[:16].isdigit() and int(row[:16]) > last):
                count, example = count + 1, example or row[16:]
    if count:
        key = example.decode(errors="replace")[:60]
        found = f"{count} writes are listed whose version is missing, for example of {key!r}"
        subject = f"{backend._prefix}writes"
        yield Finding("error", subject, found, "the values that they wrote are missing", RECOVER, "version-missing")


# --- other keys --------------------------------------------------------------------------------------------------


def _check_surroundings(backend: RedisBackend) -> Iterator[Finding]:
    """Check the list of namespaces, and the data that `recover` set aside."""
    if not registry_type(backend) and not backend._with_retry(
        lambda client: client.sismember(REGISTRY, backend.namespace)
    ):
        found = f"it is not in {REGISTRY}"
        subject = f"namespace {backend.namespace!r}"
        yield Finding("error", subject, found, "no list of namespaces shows it", RECOVER, "not-registered")
    if count := backend._with_retry(lambda client: client.hlen(backend._keys[13])):
        found = f"{count} entries that 'recover' set aside"
        remedy = f"DEL '{backend._keys[13]}' when you need none of them"
        yield Finding("note", backend._keys[13], found, "they take memory", remedy, "set-aside")


def _check_migrations(backend: RedisBackend, progress: ProgressText) -> Iterator[Finding]:
    """Report what copies into the namespace left: staged data, replaced namespaces. O(keys of the server), by SCAN."""
    progress("the remains of migrations")
    receiver = f"{backend._prefix}migrating:receiver"
    if backend._with_retry(lambda client: client.exists(receiver)):
        remedy = f"Run the migration or the import again, or UNLINK the keys {backend._prefix}migrating:*"
        yield unfinished_finding(receiver, remedy)
    head = escape_match(backend._prefix + ASIDE) + "*:head"
    for name in sorted(backend._with_retry(lambda client: list(client.scan_iter(match=head, count=5000)))):
        subject = name.decode().removesuffix("head") + "*"
        yield replaced_finding(subject, "UNLINK these keys when you need none of them")
