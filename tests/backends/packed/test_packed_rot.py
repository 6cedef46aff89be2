"""Damaged deltas: an error with a name, never a wrong value; what is lost is named, and nothing else is lost."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
import redis
from conftest import REDIS
from packed_history import Kept, Texts, deltas
from stress import first, stressed

from stateview import ABSENT, BackendError, Damaged, StateManager
from stateview.backends.redis import packing
from stateview.backends.sqlite.connections import page_checksums

VERSIONS = 40
EVERY = 5  # a checkpoint
HISTORY = "stateview:{ns}:history"
WORDS = ("refs", "base", "place", "size")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process has the database open, for whose look at it `recover` would wait."""
    monkeypatch.setattr("stateview.backends.sqlite.read_cache.TRUST_SECONDS", 0.0)


def fill(url: str) -> dict[int, Any]:
    """A key with many versions, all but the last few of which are deltas; its values by revision."""
    texts, values = Texts(random.Random(2), 40, 20), {}
    with StateManager(url, "ns") as state:
        while len(values) < VERSIONS:
            value = texts.next("k")
            if isinstance(value, list):
                values[state.save("k", value)] = value
                if len(values) % EVERY == 0:
                    state.checkpoint(f"c{len(values)}")
        state.compact(0)
    return values


def field(revision: int) -> bytes:
    return b"k\0%016d" % revision


class Record:
    """A linked version of a Redis server in parts."""

    def __init__(self, stored: bytes) -> None:
        match = re.match(rb"(\*\d+ \d+ \d+ [PW])(\d+) (\d+) (\d+) (\d+) ", stored)
        assert match
        self.start = match[1]
        self.header = dict(zip(WORDS, map(int, match.groups()[1:]), strict=True))
        self.data = stored[match.end() :]

    def stored(self) -> bytes:
        return self.start + b"".join(b"%d " % self.header[word] for word in WORDS) + self.data


def damage(url: str, revision: int, what: str, to: int) -> None:
    """Change a delta: a byte in its data or a number in its header, or remove it. All checksums below are as right."""
    kind, _, place = url.partition(":")
    if kind == "sqlite":
        path = str(Path(place) / "ns" / "state.db")
        with closing(apsw.Connection(path, vfs=page_checksums.vfs())) as db:
            here = f"WHERE key = 'k' AND revision = {revision}"
            if what == "gone":
                db.execute(f"DELETE FROM packed {here}")
            elif what == "data":
                data = bytearray(db.execute(f"SELECT data FROM packed {here}").get)
                data[to % len(data)] ^= 1
                db.execute(f"UPDATE packed SET data = ? {here}", (bytes(data),))
            else:
                db.execute(f"UPDATE packed SET {what} = {to} {here}")
        return
    with redis.Redis.from_url(url) as client:
        if what == "gone":
            client.hdel(HISTORY, field(revision))
            return
        record = Record(client.hget(HISTORY, field(revision)))
        if what == "data":
            record.data = bytes(byte ^ (number == to % len(record.data)) for number, byte in enumerate(record.data))
        else:
            record.header[what] = to
        client.hset(HISTORY, field(revision), record.stored())


def relative_to(found: dict[tuple[str, int], Kept], revision: int) -> set[int]:
    """The versions that cannot be read without one of them, and this."""
    out = {revision}
    for _, older in sorted(found, reverse=True):
        if found["k", older].base in out:
            out.add(older)
    return out


def unreadable(url: str, values: dict[int, Any]) -> set[int]:
    """The versions that are an error to read; all others are right, by each way to read them."""
    wrong = set()
    with StateManager(url, "ns") as state:
        for revision, value in values.items():
            for read in (
                lambda revision=revision: state.load("k", at=revision),
                lambda revision=revision: state.at(revision).load("k"),
                lambda revision=revision: next(iter(state.at(revision).entries())).value,
            ):
                try:
                    assert read() == value, revision
                except Damaged as error:
                    assert "recover" in str(error)
                    wrong.add(revision)
    return wrong


def kept(state: StateManager) -> dict[int, Any]:
    return {one.revision: one.value for one in state.history("k", 1000) if one.value is not ABSENT}


def check_recovery(url: str, values: dict[int, Any], lost: set[int]) -> None:
    """Nothing but `lost` is gone, and each of these is named."""
    with StateManager(url, "ns") as state:
        report = state.recover()
        said = [f"{one.subject} {one.found} {one.done}" for one in report.problems if not one.mended]
        assert report.ok is not bool(lost), report
        named = {int(number) for text in said for number in re.findall(r"revision (\d+)", text)}
        assert named == lost, report
        assert kept(state) == {revision: value for revision, value in values.items() if revision not in lost}
        for mark in state.checkpoints():
            if mark.revision in lost:
                assert any(repr(mark.name) in text for text in said), (mark, said)
                assert state.list_keys(at=mark.ref) == []
            else:
                assert state.load("k", at=mark.ref) == values[mark.revision]
        assert [one for one in state.doctor().findings if one.severity == "error"] == []
        assert state.recover().problems == ()


def go_on(url: str, right: dict[int, Any]) -> None:
    """Later commits pack and unpack as before. Some recoveries know no more than what checkpoints show."""
    right = {revision: value for revision, value in right.items() if revision % EVERY == 0}
    with StateManager(url, "ns") as state:
        value = right[max(right)]
        for number in range(40):
            value = [*value, f"more {number}"]
            right[state.save("k", value)] = value
        state.compact(0)
        found = kept(state)
        assert {revision: found[revision] for revision in right} == right
        assert [one for one in state.doctor().findings if one.severity == "error"] == []


DAMAGES = [
    ("data", 30),
    ("gone", 0),
    ("base", 20),
    ("base", 39),
    ("base", 0),
    ("base", 3),
    ("base", 999),
    ("size", 700),
]


@pytest.mark.parametrize(("what", "to"), [DAMAGES[0], *stressed(*DAMAGES[1:])])
@pytest.mark.parametrize("kind", ["sqlite", *stressed(*REDIS)])
def test_a_damaged_delta_costs_only_what_is_relative_to_it(store_url: str, kind: str, what: str, to: int) -> None:
    values = fill(store_url)
    lost = relative_to(deltas(store_url), 16)
    assert 1 < len(lost) < VERSIONS - 5
    damage(store_url, 16, what, to)
    wrong = unreadable(store_url, values)
    assert wrong <= lost or (what == "gone" and kind != "sqlite")  # there any member that is missing is noticed
    assert 16 in wrong
    with StateManager(store_url, "ns") as state:
        assert [one for one in state.doctor().findings if one.severity == "error"]
    check_recovery(store_url, values, lost)
    go_on(store_url, {revision: value for revision, value in values.items() if revision not in lost})


@pytest.mark.parametrize(("what", "to"), [("place", 0), ("place", 16), ("place", 17), ("place", 10**6)])
@pytest.mark.parametrize("kind", stressed("sqlite", *REDIS))
def test_a_place_only_says_which_deltas_are_rebased(store_url: str, kind: str, what: str, to: int) -> None:
    values = fill(store_url)
    damage(store_url, 20, what, to)
    assert unreadable(store_url, values) == set()
    go_on(store_url, values)


@pytest.mark.parametrize("kind", REDIS)
@pytest.mark.parametrize("to", first([0, 2, 9]))
def test_a_wrong_count_of_references_is_named_and_corrected(store_url: str, to: int) -> None:
    values = fill(store_url)
    found = deltas(store_url)
    assert found["k", 20].refs == 1
    damage(store_url, 20, "refs", to)
    assert unreadable(store_url, values) == set()
    with StateManager(store_url, "ns") as state:
        assert "delta-references" in {one.code for one in state.doctor().findings if one.severity == "error"}
        report = state.recover()
        assert report.ok
        assert "delta-references" in {one.code for one in report.problems}
        assert deltas(store_url) == found
        assert state.doctor().ok
    go_on(store_url, values)


@pytest.mark.parametrize("flips", [2, *stressed(12)])
@pytest.mark.parametrize("kind", REDIS)
def test_a_flipped_bit_of_a_linked_version_is_an_error_or_harmless(store_url: str, flips: int) -> None:
    """From the kind of a version on: what comes before it has no checksum in any version."""
    values, chance = fill(store_url), random.Random(6)
    with redis.Redis.from_url(store_url) as client:
        before = {key: client.dump(key) for key in client.scan_iter()}
        records = {name: record for name, record in client.hgetall(HISTORY).items() if b" P" in record[:60]}
        noticed = 0
        for _ in range(flips):
            name, record = chance.choice(list(records.items()))
            place = record.index(b"P") + chance.randrange(chance.choice((12, len(record) - record.index(b"P"))))
            changed = bytearray(record)
            changed[place] ^= 1 << chance.randrange(8)
            client.hset(HISTORY, name, bytes(changed))
            wrong = unreadable(store_url, values)
            with StateManager(store_url, "ns") as state:
                errors = [one for one in state.doctor().findings if one.severity == "error"]
                assert errors or not wrong, (name, changed)
                noticed += bool(errors)
                report = state.recover()
                assert report.ok is not bool(wrong), (name, changed, report)
                said = " ".join(f"{one.subject} {one.found}" for one in report.problems if not one.mended)
                after = kept(state)
                for revision, value in values.items():
                    assert after.get(revision) == value or f"revision {revision}" in said, (name, changed, revision)
                assert state.recover().problems == ()
                assert state.doctor().ok
            client.delete(*client.scan_iter())
            for key, dumped in before.items():
                client.restore(key, 0, dumped)
    assert noticed >= flips / 2


def check_files(url: str, values: dict[int, Any], number: int, change: Callable[[bytes], bytes]) -> None:
    """Change a line of a history with deltas: all is an error; what it takes along is lost, and nothing else."""
    path = Path(url.partition(":")[2]) / "ns" / "history.jsonl"
    lines, time = path.read_bytes().splitlines(keepends=True), path.stat().st_mtime_ns
    found = deltas(url)
    path.write_bytes(b"".join([*lines[:number], change(lines[number]), *lines[number + 1 :]]))
    os.utime(path, ns=(time, time))
    assert unreadable(url, values) >= set(range(1, VERSIONS))
    in_files = {revision for revision in values if revision % EVERY == 0}
    lost: set[int] = set()
    for revision in sorted(values, reverse=True):
        base = found["k", revision].base if ("k", revision) in found else 0
        if revision not in in_files and (revision == number or base in lost):
            lost.add(revision)
    with StateManager(url, "ns") as state:
        assert [one for one in state.doctor().findings if one.severity == "error"]
        report = state.recover()
        assert not report.ok
        after = kept(state)
        assert all(after[revision] == values[revision] for revision in after)
        assert values.keys() - after.keys() == lost, (number, sorted(values.keys() - after.keys()), sorted(lost))
        for mark in state.checkpoints():
            assert state.load("k", at=mark.ref) == values[mark.revision]
        assert state.recover().problems == ()
        assert state.doctor().ok


@pytest.mark.parametrize("number", first([18, 1, 15, 16, 17, 32, 39], 1))
@pytest.mark.parametrize("kind", ["json"])
def test_a_damaged_line_costs_only_what_is_relative_to_it(store_url: str, number: int) -> None:
    values = fill(store_url)
    check_files(store_url, values, number, lambda line: line.replace(b'"data":"', b'"data":"A'))


@pytest.mark.parametrize("rotten", [False, True])
def test_of_a_line_that_cannot_be_read_in_part_the_rest_is_kept(tmp_path: Path, rotten: bool) -> None:
    """Nothing of a later line that is damaged is needed for it; with `rotten`, a checkpoint's file is wrong as well."""
    lines = [f"line {number} of many" for number in range(60)]
    url, right = f"json:{tmp_path}", {}
    with StateManager(url, "ns") as state:
        for number in range(1, 21):
            lines.append(f"more {number}")
            with state.transaction() as tx:
                tx.save("k", lines)
                if number != 13:
                    tx.save("small", number)
                    tx.save("large", [number, *lines[:30]])
            right[number] = list(lines)
            if number in (5, 12):
                state.checkpoint(f"c{number}")
        state.compact(0)
        assert ("large", 3) in deltas(url)
    if rotten:
        path = tmp_path / "ns" / "checkpoints" / "c5.json"
        path.write_bytes(path.read_bytes().replace(b"line 30 of", b"line 31 of"))
    path = tmp_path / "ns" / "history.jsonl"
    time, history = path.stat().st_mtime_ns, path.read_bytes().splitlines(keepends=True)
    history = [line.replace(b'"data":"', b'"data":"A') if b'"rev":13,' in line else line for line in history]
    path.write_bytes(b"".join(history))
    os.utime(path, ns=(time, time))
    with StateManager(url, "ns") as state:
        assert not state.recover().ok
        others = [number for number in range(1, 21) if number != 13]
        for key, value in (("small", lambda number: number), ("large", lambda number: [number, *lines[:30]])):
            found = {one.revision: one.value for one in state.history(key, 1000)}
            assert {number: found.get(number) for number in others} == {number: value(number) for number in others}
        kept_of_k = kept(state)
        lost = {*range(2 if rotten else 6, 10), 13}  # without a file of a checkpoint, a chain leads to the damaged line
        assert right.keys() - kept_of_k.keys() == lost
        assert all(kept_of_k[number] == right[number] for number in right.keys() - lost)
        assert state.load("k", at="c12") == right[12]
        assert state.doctor().ok
        assert state.recover().problems == ()


@pytest.mark.parametrize("kind", ["sqlite", *first(REDIS)])
def test_a_damaged_delta_holds_up_no_save_and_no_prune(store_url: str) -> None:
    values = fill(store_url)
    revisions = sorted(revision for _, revision in deltas(store_url))
    damage(store_url, revisions[10], "data", 3)
    lost = unreadable(store_url, values)
    assert revisions[10] in lost
    with StateManager(store_url, "ns", history=10) as state:
        value = state.load("k")
        for number in range(40):  # every 16th makes older deltas relative to it, and each prunes some
            value = [*value, f"more {number}"]
            state.save("k", value)
        state.compact(0)
        assert state.load("k") == value
        for mark in state.checkpoints():
            if mark.revision not in lost:
                assert state.load("k", at=mark.name) == values[mark.revision]


@pytest.mark.parametrize("kind", first(REDIS))
def test_a_record_that_is_no_version_is_damage_to_an_export(store_url: str, tmp_path: Path) -> None:
    fill(store_url)
    with redis.Redis.from_url(store_url) as client:
        client.hset(HISTORY, field(10), b"*rot")
    with StateManager(store_url, "ns") as state, pytest.raises(Damaged):
        state.export(str(tmp_path / "out.jsonl"))


@pytest.mark.parametrize("kind", first(REDIS))
def test_a_save_stands_although_the_packing_after_it_is_refused(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = fill(store_url)
    monkeypatch.setattr(packing, "OUTLINE", "error('OOM command not allowed')")
    with StateManager(store_url, "ns") as state:
        with pytest.raises(BackendError):
            state.compact(state.head().revision)
        value = values[VERSIONS]
        for number in range(40):
            value = [*value, f"more {number}"]
            state.save("k", value)
        assert state.load("k") == value
