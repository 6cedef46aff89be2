"""Damage of every kind: never a silently wrong value, and a report of `recover()` that is true."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from plain_sqlite import plain_sqlite
from stress import first, stressed, stride

from stateview import BackendError, Damaged, KeyNotFound, ReadOnly, RefNotFound, StateManager
from stateview.codec import canonical

STEPS = [
    ("save", "a", "alpha"), ("save", "b", {"list": [1, 2.5, None], "text": "é"}), ("mark", "one"), ("delete", "b"),
    ("save", "a", "beta"), ("mark", "two"), ("save", "c", [True, False]), ("save", "a", "gamma"),
]  # fmt: skip
REFS = ["live", "one", "two"]


def build(url):
    """A store with a known past; the right content of every ref."""
    right, now = {}, {}
    with StateManager(url, "ns") as state:
        for act, name, *value in STEPS:
            if act == "save":
                state.save(name, value[0])
                now = {**now, name: value[0]}
            elif act == "delete":
                state.delete(name)
                now = {key: old for key, old in now.items() if key != name}
            else:
                state.checkpoint(name)
                right[name] = now
            right[state.revision] = now
    return {**right, "live": now}


def content(url, ref):
    """All that a ref shows, listed and by name, which must agree."""
    with StateManager(url, "ns") as state:
        view = state.at(ref)
        found = {entry.key: entry.value for entry in view.entries()}
        for key in ("a", "b", "c"):
            one = state.load(key, "absent") if ref == "live" else view.load(key, "absent")
            assert canonical(one) == canonical(found.get(key, "absent"))
        return found


def check_reads(url, right, refs=REFS, gone=Damaged):
    """Every ref shows what it should, or is an error."""
    for ref in refs:
        try:
            assert canonical(content(url, ref)) == canonical(right[ref]), ref
        except (Damaged, gone):
            continue


def check_recovery(url, right, folder):
    """What the report says is mended reads right, what it does not name is right, and the store is sound afterwards."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with StateManager(url, "ns") as state:
        report = state.recover()
    lost = " ".join(f"{one.subject} {one.found} {one.done}" for one in report.problems if not one.mended)
    for ref in REFS:
        try:
            found = content(url, ref)
        except RefNotFound:
            found = None
        if found is not None and canonical(found) == canonical(right[ref]):
            continue
        assert not report.ok, (ref, found, report)
        for key in ("a", "b", "c"):
            if found is not None and canonical(found.get(key, "absent")) != canonical(right[ref].get(key, "absent")):
                named = (
                    repr(key) in lost or "state.json" in lost or "keys are not known" in lost or "everything" in lost
                )
                assert named, (ref, key, report)
                earlier = [old.get(key, "absent") for old in right.values()]
                assert canonical(found.get(key, "absent")) in map(canonical, [*earlier, "absent"])
        assert found is not None or repr(ref) in lost or "everything" in lost or "checkpoints, whose" in lost, report
    for path in report.kept:
        assert Path(path).read_bytes() == before[Path(path.partition(".damaged-")[0])]
    with StateManager(url, "ns") as state:
        assert state.recover().problems == ()
        revision = state.revision
        assert revision >= report.revision
        assert state.save("after", 1) == revision + 1
        assert state.load("after") == 1
        state.undo()
        assert "after" not in state.list_keys()
    return report


class Store:
    """A built store whose files can be damaged, and put back."""

    def __init__(self, kind, folder):
        self.url = f"{kind}:{folder / 'store'}"
        self.right = build(self.url)
        self.folder = folder / "store" / "ns"
        self.files = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in self.folder.rglob("*.*")}

    def path(self, name):
        return self.folder / name

    def put_back(self):
        for path in list(self.folder.rglob("*")):
            if path.is_file() and path not in self.files:
                path.unlink()
        for path, (data, mtime) in self.files.items():
            path.write_bytes(data)
            os.utime(path, ns=(mtime, mtime))

    def damage(self, name, data, rot=False):
        """Put other bytes into a file; `rot` leaves its time as it was."""
        self.put_back()
        path = self.path(name)
        path.write_bytes(data)
        if rot:
            os.utime(path, ns=(self.files[path][1],) * 2)

    def check(self, name, data, rot=False, gone=Damaged):
        self.damage(name, data, rot)
        check_reads(self.url, self.right, gone=gone)
        self.damage(name, data, rot)
        return check_recovery(self.url, self.right, self.folder)


@pytest.fixture
def json_store(tmp_path):
    return Store("json", tmp_path)


@pytest.fixture
def sqlite_store(tmp_path):
    return Store("sqlite", tmp_path)


@pytest.fixture
def alone(monkeypatch):
    """No other process has the database open, for whose look at it `recover` would wait: hundreds of times."""
    monkeypatch.setattr("stateview.backends.sqlite.backend.TRUST_SECONDS", 0.0)


def flipped(data, place, bit):
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


# --- nothing wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_nothing_wrong(tmp_path, kind):
    store = Store(kind, tmp_path)
    with StateManager(store.url, "ns") as state:
        report = state.recover()
        assert (report.ok, report.problems, report.kept) == (True, (), ())
        assert report.revision == state.revision == 6
    assert {path: path.read_bytes() for path in store.folder.rglob("*.*")} == {
        path: data for path, (data, _) in store.files.items()
    }
    with StateManager(store.url, "never") as state:
        assert (state.recover().ok, state.recover().revision) == (True, 0)
    with StateManager(store.url, "ns", read_only=True) as state, pytest.raises(ReadOnly):
        state.recover()


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_leftovers_of_a_process_that_is_gone(tmp_path, kind):
    store = Store(kind, tmp_path)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    left = [store.path(f"x.tmp-{ended.pid}-1")]
    if kind == "json":
        left.append(store.path(f"checkpoints/one.json.tmp-{ended.pid}-1"))
    stage = store.path(f"y.tmp-{ended.pid}-1")  # of a recovery that was killed
    stage.mkdir()
    (stage / "file").touch()
    mine = store.path(f"x.tmp-{os.getpid()}-1")
    for path in (mine, *left):
        path.touch()
    with StateManager(store.url, "ns") as state:
        report = state.recover()
    assert report.ok
    assert {problem.done for problem in report.problems} == {"removed"}
    assert left[-1].name in {Path(problem.subject).name for problem in report.problems}
    assert not stage.exists()
    assert mine.exists()
    assert not any(path.exists() for path in left)


# --- JSON files ---------------------------------------------------------------------------------------------------

PARTS = range(4)


@pytest.mark.parametrize("part", first(PARTS))
@pytest.mark.parametrize("name", ["state.json", "history.jsonl"])
def test_json_cut_off_at_every_byte(json_store, name, part):
    data = json_store.files[json_store.path(name)][0]
    # A checkpoint whose whole line is missing at the end is one that was never acknowledged.
    gone = RefNotFound if name == "history.jsonl" else Damaged
    for cut in range(part * stride(5), len(data), len(PARTS) * stride(5)):
        json_store.check(name, data[:cut], gone=gone)


@pytest.mark.parametrize("flips", [40, *stressed(120)])
@pytest.mark.parametrize("name", ["state.json", "history.jsonl"])
def test_json_bits_flipped(json_store, name, flips):
    data = json_store.files[json_store.path(name)][0]
    chance = random.Random(name)
    for _ in range(flips):
        report = json_store.check(name, flipped(data, chance.randrange(len(data)), chance.randrange(8)), rot=True)
        assert len(report.problems) > 0


@pytest.mark.parametrize("bit", range(8))
def test_json_every_newline_flipped(json_store, bit):
    data = json_store.files[json_store.path("history.jsonl")][0]
    for place in (place for place, byte in enumerate(data) if byte == 10):
        json_store.check("history.jsonl", flipped(data, place, bit), rot=True)


def test_json_state_removed(json_store):
    json_store.path("state.json").unlink()
    with StateManager(json_store.url, "ns") as state, pytest.raises(Damaged, match=r"missing.*recover"):
        state.load("a")
    report = check_recovery(json_store.url, json_store.right, json_store.folder)
    assert report.ok
    assert content(json_store.url, "live") == json_store.right["live"]


def test_json_state_rotten_is_mended_from_the_history(json_store):
    data = json_store.files[json_store.path("state.json")][0]
    json_store.damage("state.json", data.replace(b"gamma", b"gamme"), rot=True)
    with StateManager(json_store.url, "ns") as state, pytest.raises(Damaged):
        state.load("c")
    report = check_recovery(json_store.url, json_store.right, json_store.folder)
    assert report.ok
    assert "state.json" in report.problems[0].subject
    assert b"gamme" in Path(report.kept[0]).read_bytes()


def test_json_a_bad_middle_line_costs_no_value(json_store):
    lines = json_store.files[json_store.path("history.jsonl")][0].splitlines(keepends=True)
    for number in range(len(lines) - 1):
        bad = [*lines[:number], lines[number].replace(b'"', b"'", 3), *lines[number + 1 :]]
        report = json_store.check("history.jsonl", b"".join(bad), rot=True)
        assert content(json_store.url, "live") == json_store.right["live"]
        assert content(json_store.url, "one") == json_store.right["one"]
        assert content(json_store.url, "two") == json_store.right["two"]
        assert report.kept


def test_json_a_line_cut_out_is_damage(json_store):
    lines = json_store.files[json_store.path("history.jsonl")][0].splitlines(keepends=True)
    for number in range(len(lines)):
        json_store.check("history.jsonl", b"".join(lines[:number] + lines[number + 1 :]), rot=True, gone=RefNotFound)


def test_json_an_unfinished_line_was_never_acknowledged(json_store):
    data = json_store.files[json_store.path("history.jsonl")][0]
    json_store.damage("history.jsonl", data + b'{"sum":"0123456789abcdef","rev":7,"time')
    check_reads(json_store.url, json_store.right, gone=AssertionError)
    assert content(json_store.url, "live") == json_store.right["live"]
    report = check_recovery(json_store.url, json_store.right, json_store.folder)
    assert report.problems == ()


def test_json_history_and_state_both_bad(json_store):
    history = json_store.files[json_store.path("history.jsonl")][0]
    state = json_store.files[json_store.path("state.json")][0]
    places = [place for place in range(len(history)) if history[place : place + 7] == b'{"sum":']
    for place in places[1:]:
        json_store.damage("history.jsonl", flipped(history, place + 40, 0), rot=True)
        path = json_store.path("state.json")
        path.write_bytes(state.replace(b"gamma", b"gamme"))
        os.utime(path, ns=(json_store.files[path][1],) * 2)
        with StateManager(json_store.url, "ns") as manager:
            report = manager.recover()
        assert not report.ok
        assert any("state.json" in problem.subject for problem in report.problems if not problem.mended)
        shown = " ".join(problem.found + problem.done for problem in report.problems if not problem.mended)
        found = content(json_store.url, "live")
        assert found.get("a") != "gamme" or "'a'" in shown


@pytest.mark.parametrize("how", ["missing", "damaged", "cut"])
def test_json_checkpoint_files(json_store, how):
    path = json_store.path("checkpoints/one.json")
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:20] if how == "cut" else data.replace(b"alpha", b"alphA"))
    assert content(json_store.url, "one") == json_store.right["one"]
    report = check_recovery(json_store.url, json_store.right, json_store.folder)
    assert report.ok
    assert "one.json" in report.problems[0].subject
    assert len(report.kept) == (how != "missing")
    assert path.read_bytes() == data


@pytest.mark.parametrize("gone", [(), ("state.json",), ("checkpoints/one.json", "checkpoints/two.json")], ids=str)
def test_json_a_history_that_is_missing_is_damage_and_revisions_go_on(json_store, gone):
    for name in ("history.jsonl", *gone):
        json_store.path(name).unlink()
    for act in (lambda state: state.load("a", None), lambda state: state.save("a", 1), lambda state: state.list_keys()):
        with (
            StateManager(json_store.url, "ns") as state,
            pytest.raises(Damaged, match=r"history\.jsonl is missing.*recover"),
        ):
            act(state)
    with StateManager(json_store.url, "ns") as state:
        report = state.recover()
        assert not report.ok
        assert "it is missing" in str(report.problems)
        assert state.revision > (4 if "state.json" in gone else 6)
    for ref in REFS:
        if ref == "live" and "state.json" in gone:
            assert any("state.json" in one.subject for one in report.problems if not one.mended)
        elif ref == "live" or not gone or "state.json" in gone:
            assert content(json_store.url, ref) == json_store.right[ref]
            assert any(repr(ref) in one.subject or ref == "live" for one in report.problems)
    with StateManager(json_store.url, "ns") as state:
        assert state.recover().problems == ()


def test_json_older_data_whose_values_speak_of_revisions_is_adopted(tmp_path):
    folder = tmp_path / "ns"
    folder.mkdir()
    text = '{"a": {"value": {"revision": 3}, "timestamp": "2025-01-01T00:00:00"}}'
    (folder / "state.json").write_text(text)
    with StateManager(f"json:{tmp_path}", "ns") as state:
        assert state.load("a") == {"revision": 3}


# --- SQLite -------------------------------------------------------------------------------------------------------

DB = "state.db"


@pytest.mark.parametrize("part", first(range(8)))
def test_sqlite_bits_flipped(sqlite_store, alone, part):
    data = sqlite_store.files[sqlite_store.path(DB)][0]
    chance = random.Random(part)
    used = [place for place, byte in enumerate(data) if byte or chance.random() < 0.01]
    for place in chance.sample(used, 45):
        damaged = flipped(data, place, chance.randrange(8))
        sqlite_store.damage(DB, damaged)
        try:
            check_reads(sqlite_store.url, sqlite_store.right)
            sqlite_store.damage(DB, damaged)
            check_recovery(sqlite_store.url, sqlite_store.right, sqlite_store.folder)
        except BackendError as error:
            assert "Upgrade stateview" in str(error)  # the one field that a later format may hold another number in


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"junk"])
def test_sqlite_every_page_overwritten(sqlite_store, alone, filler):
    data = sqlite_store.files[sqlite_store.path(DB)][0]
    page = (filler * 4096)[:4096]
    for start in range(0, len(data), 4096):
        sqlite_store.check(DB, data[:start] + page + data[start + 4096 :])


def test_sqlite_cut_off(sqlite_store, alone):
    data = sqlite_store.files[sqlite_store.path(DB)][0]
    for cut in [1, 15, 16, 99, 100, 511, 512, 4095, *range(4096, len(data), 2048), len(data) - 1]:
        sqlite_store.check(DB, data[:cut])


@pytest.mark.parametrize("size", [16, 100, 4096])
def test_sqlite_header_destroyed_costs_nothing(sqlite_store, size):
    data = sqlite_store.files[sqlite_store.path(DB)][0]
    sqlite_store.damage(DB, b"\xa5" * size + data[size:])
    with StateManager(sqlite_store.url, "ns") as state, pytest.raises(Damaged):
        state.load("a")
    report = check_recovery(sqlite_store.url, sqlite_store.right, sqlite_store.folder)
    assert report.ok, report
    for ref in REFS:
        assert content(sqlite_store.url, ref) == sqlite_store.right[ref]


@pytest.mark.parametrize(("place", "bit"), [(18, 6), (19, 6), (47, 6), (59, 1), (70, 0), (100, 3), (103, 1), (105, 2)])
def test_sqlite_a_bit_of_the_header(sqlite_store, place, bit):
    sqlite_store.check(DB, flipped(sqlite_store.files[sqlite_store.path(DB)][0], place, bit))
    for ref in REFS:
        assert content(sqlite_store.url, ref) == sqlite_store.right[ref]


@pytest.mark.parametrize("data", [b"", b"this is no database\n" * 500], ids=["empty", "text"])
def test_sqlite_nothing_to_be_read(sqlite_store, data):
    sqlite_store.damage(DB, data)
    for act in (lambda state: state.load("a", None), lambda state: state.save("a", 1), lambda state: state.list_keys()):
        with StateManager(sqlite_store.url, "ns") as state, pytest.raises(Damaged, match=r"state\.db"):
            act(state)
    assert sqlite_store.path(DB).read_bytes() == data
    with StateManager(sqlite_store.url, "ns") as state:
        report = state.recover()
        assert not report.ok
        assert "nothing in it could be read" in report.problems[0].done
        assert Path(report.kept[0]).read_bytes() == data
        assert state.list_keys() == []


def test_sqlite_a_row_edited_with_plain_sql(sqlite_store):
    with sqlite3.connect(sqlite_store.path(DB)) as db:
        db.execute("UPDATE entries SET value = '\"forged\"' WHERE key = 'a'")
    db.close()
    with StateManager(sqlite_store.url, "ns") as state:
        with pytest.raises(Damaged, match=r"state\.db"):
            state.load("a")
        report = state.recover()
        assert [problem.subject for problem in report.problems if not problem.mended] == [
            "ns/state.db",
            "the value of key 'a'",
        ]
        with pytest.raises(KeyNotFound):
            state.load("a")
        assert state.load("c") == [True, False]
        assert state.load("a", at="two") == "beta"
        assert [entry.value for entry in state.history("a")][1:] == ["beta", "alpha"]
        state.restore_checkpoint("two", keys="a")
        assert state.load("a") == "beta"
    assert content(sqlite_store.url, "one") == sqlite_store.right["one"]


def test_sqlite_other_managers_go_on_with_the_mended_database(sqlite_store):
    with StateManager(sqlite_store.url, "ns") as other, StateManager(sqlite_store.url, "ns") as state:
        assert other.load("c") == state.load("c") == [True, False]
        with plain_sqlite(sqlite_store.path(DB)) as db:
            db.execute("UPDATE entries SET sum = 1 WHERE key = 'a'")
        with pytest.raises(Damaged, match="is not what was written"):
            other.load("a")
        assert not state.recover().ok
        other.save("a", "delta")
        assert state.load("a") == other.load("a") == "delta"
    assert content(sqlite_store.url, "live")["a"] == "delta"


def test_sqlite_commits_still_in_the_log_are_kept(tmp_path):
    url = f"sqlite:{tmp_path / 'store'}"
    with StateManager(url, "ns") as state:
        for number in range(50):
            state.save(f"k{number}", number)
        shutil.copytree(tmp_path / "store", tmp_path / "crashed")
    copied = f"sqlite:{tmp_path / 'crashed'}"
    log = tmp_path / "crashed" / "ns" / "state.db-wal"
    assert log.stat().st_size > 0
    db = sqlite3.connect(log.with_name(DB), isolation_level=None)
    db.execute("UPDATE entries SET sum = 1 WHERE key = 'k7'")
    with StateManager(copied, "ns") as state:
        assert [one.subject for one in state.recover().problems[1:]] == ["the value of key 'k7'"]
    db.close()
    with StateManager(copied, "ns") as state:
        assert {key: state.load(key) for key in state.list_keys()} == {f"k{n}": n for n in range(50) if n != 7}


def test_sqlite_a_database_of_something_else_is_left_alone(tmp_path):
    folder = tmp_path / "ns"
    folder.mkdir()
    with sqlite3.connect(folder / DB) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.execute("INSERT INTO theirs VALUES (1)")
    db.close()
    data = (folder / DB).read_bytes()
    with StateManager(f"sqlite:{tmp_path}", "ns") as state:
        for act in (lambda: state.save("a", 1), lambda: state.load("a", None), state.recover):
            with pytest.raises(Damaged, match="none of stateview"):
                act()
    assert (folder / DB).read_bytes() == data
