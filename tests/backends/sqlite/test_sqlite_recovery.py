"""A SQLite database that is short of pages, or has what is not its own beside it: what is there is found, and told."""

from __future__ import annotations

import random
from pathlib import Path

import apsw
import pytest
from other_user import as_another_user, told

from stateview import RecoveryReport, RefNotFound, StateManager

PAGE = 4096
REFS = ("live", "one", "two", "three")
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process has the database open, for whose look at it `recover` would wait."""
    monkeypatch.setattr("stateview.backends.sqlite.backend.TRUST_SECONDS", 0.0)


def content(state: StateManager, ref: str) -> dict[str, object]:
    return {entry.key: entry.value for entry in state.at(ref).entries()}


class Store:
    """A namespace with three checkpoints, all that it showed, and its database's bytes."""

    def __init__(self, folder: Path, count: int) -> None:
        self.url = f"sqlite:{folder}"
        self.path = folder / "ns" / "state.db"
        with StateManager(self.url, "ns") as state:
            with state.transaction() as many:
                for number in range(count):
                    many.save(f"k:{number:05}", {"n": number, "text": "x" * 40})
            state.save("ключ 🔑", [1, 2])
            state.save("tmp", 1, ttl=3600)
            state.checkpoint("one", note="a note")
            state.save("k:00001", "changed")
            state.delete("k:00002")
            state.checkpoint("two")
            state.save("k:00003", "changed too")
            state.save("more", None)
            state.checkpoint("three")
            state.save("last", 1)
            state.delete("more")
            self.right = {ref: content(state, ref) for ref in REFS}
            self.log = state.log()
        self.data = self.path.read_bytes()

    def damage(self, data: bytes) -> None:
        for left in self.path.parent.glob("state.db*"):
            left.unlink()
        self.path.write_bytes(data)

    def root(self, name: str) -> int:
        db = apsw.Connection(f"file:{self.path}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            return int(db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).get)
        finally:
            db.close()

    def recover(self) -> RecoveryReport:
        """Recover; what is not as it was is named, what is named may be missed, and nothing is left to mend."""
        before = self.path.read_bytes()
        with StateManager(self.url, "ns") as state:
            report = state.recover()
            lost = " ".join(one.subject for one in report.problems if not one.mended)
            unknown = "keys are not known" in lost or "everything" in lost
            for ref in REFS:
                try:
                    found = content(state, ref)
                except RefNotFound:
                    assert repr(ref) in lost or "checkpoints, whose" in lost, (ref, report)
                    continue
                wrong = {key for key in {*found, *self.right[ref]} if found.get(key) != self.right[ref].get(key)}
                assert unknown or all(repr(key) in lost for key in wrong), (ref, report)
            assert [one for one in state.doctor().findings if one.severity == "error"] == []
            assert state.recover().problems == ()
        assert [Path(kept).read_bytes() for kept in report.kept] == [before] * len(report.kept)
        return report

    def check_all_there(self, report: RecoveryReport) -> None:
        assert report.ok, report
        with StateManager(self.url, "ns") as state:
            assert {ref: content(state, ref) for ref in REFS} == self.right
            assert state.log()[1:] == self.log


def lost(report: RecoveryReport) -> list[str]:
    return [one.subject for one in report.problems if not one.mended]


# --- short of pages -----------------------------------------------------------------------------------------------


def test_of_a_small_database_all_is_found_that_lies_before_the_cut(tmp_path: Path) -> None:
    store = Store(tmp_path, 30)
    entries, versions, commits, marks = map(store.root, ("entries", "versions", "commits", "marks"))
    assert len(store.data) == 14 * PAGE
    for cut in range(len(store.data) - PAGE // 2, PAGE, -PAGE // 2):
        store.damage(store.data[:cut])
        whole = cut // PAGE
        report = store.recover()
        with StateManager(store.url, "ns") as state:
            if whole >= marks:
                store.check_all_there(report)
            if whole >= entries:
                assert content(state, "live") == store.right["live"], cut
            if entries <= whole < commits:
                assert not report.ok
                assert not any("nothing in it could be read" in one.done for one in report.problems)
            if versions <= whole:
                assert [entry.value for entry in state.history("k:00001")][:1] == ["changed"]


def test_a_large_database_short_of_its_last_pages(tmp_path: Path) -> None:
    store = Store(tmp_path, 2000)
    chance = random.Random(1)
    for cut in (1, 100, PAGE, PAGE + 1, *(chance.randrange(len(store.data)) for _ in range(15))):
        store.damage(store.data[:-cut])
        store.recover()


def test_no_key_is_told_of_that_never_was(tmp_path: Path) -> None:
    """The rows of `touched` have no checksum of their own: of a page that is cut off or rotten none counts."""
    store = Store(tmp_path, 2000)
    store.damage(store.data[:-100])
    store.check_all_there(store.recover())
    start = store.data.rindex(b"k:01999", 0, len(store.data))
    told = [start]
    while (start := store.data.rfind(b"k:0", 0, start)) > 0 and len(told) < 300:
        told.append(start)
    for place in told[::50]:
        store.damage(store.data[: place + 5] + b"\xff" + store.data[place + 6 :])
        assert [what for what in lost(store.recover()) if "\\x" in what or "\ufffd" in what] == []


def test_a_database_without_checksums_of_its_pages_that_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stateview.backends.sqlite.connections.page_checksums.vfs", lambda: None)
    for count, cut in ((30, PAGE), (30, 3 * PAGE), (2000, 100)):
        store = Store(tmp_path / f"{count}-{cut}", count)
        store.damage(store.data[:-cut])
        store.check_all_there(store.recover())


def test_a_table_that_is_gone_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path, 30)
    place = (store.root("meta") - 1) * PAGE
    store.damage(store.data[:place] + bytes(PAGE) + store.data[place + PAGE :])
    assert "1 row of the table meta" in lost(store.recover())
    with StateManager(store.url, "ns") as state:
        assert content(state, "live") == store.right["live"]


def test_a_page_that_was_written_in_the_place_of_another(tmp_path: Path) -> None:
    """Its checksum is right. Nothing of it is taken for what should be there, and nothing without bound."""
    store = Store(tmp_path, 5)
    for source in map(store.root, ("entries_expires", "touched", "marks")):
        page = store.data[(source - 1) * PAGE : source * PAGE]
        for place in range(PAGE, len(store.data), PAGE):
            store.damage(store.data[:place] + page + store.data[place + PAGE :])
            if store.data[place : place + PAGE] != page:
                store.recover()


# --- what lies beside it ------------------------------------------------------------------------------------------


def test_junk_in_the_place_of_the_log_holds_no_commits(tmp_path: Path) -> None:
    store = Store(tmp_path, 30)
    junk = random.Random(1).randbytes(12_000)
    store.path.with_name("state.db-wal").write_bytes(junk)
    with StateManager(store.url, "ns") as state:
        assert state.doctor().findings == ()
        assert content(state, "live") == store.right["live"]
        assert state.recover().problems == ()
        assert state.doctor().findings == ()


@pytest.mark.parametrize(
    ("journal", "words"),
    [(random.Random(2).randbytes(12_000), "in the place of a rollback journal, and is none"),
     (bytes.fromhex("d9d505f920a163d7") + bytes(504), "a rollback journal lies beside it")],
    ids=["junk", "a journal"],
)  # fmt: skip
def test_a_rollback_journal_is_said_once_and_gone_after_recover(tmp_path: Path, journal: bytes, words: str) -> None:
    store = Store(tmp_path, 30)
    beside = store.path.with_name("state.db-journal")
    beside.write_bytes(journal)
    with StateManager(store.url, "ns") as state:
        (finding,) = state.doctor().findings
        assert words in finding.found
        assert "recover" in finding.remedy
        assert beside.read_bytes() == journal
        state.recover()
        assert state.doctor().findings == ()
        assert {ref: content(state, ref) for ref in REFS} == store.right
    assert not beside.exists()


def test_an_empty_journal_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path, 30)
    store.path.with_name("state.db-journal").touch()
    with StateManager(store.url, "ns") as state:
        assert state.doctor().findings == ()


# --- another user -------------------------------------------------------------------------------------------------


def test_who_may_not_write_is_told_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", 3)
    where = ["-s", f"sqlite:{tmp_path / 'store'}", "-n", "ns"]

    def by_another(*words: str) -> tuple[str, str]:
        told([*where, *words])  # imports what it takes
        code, _, text = as_another_user(tmp_path, lambda: told([*where, *words])).partition("\n")
        return code, text

    folder = store.path.parent
    code, text = by_another("recover")
    assert (code, f"{folder}: this user may not write to it" in text) == ("3", True), text
    for command in (["keys"], ["load", "last"], ["log"], ["stats"], ["export", "-"]):
        code, text = by_another(*command)
        assert code == "0" or (code == "3" and "--read-only" in text), text
    assert by_another("--read-only", "load", "last") == ("0", "1\n\n")
    folder.chmod(0o777)  # but not the lock in it
    code, text = by_another("recover")
    assert (code, f"{folder / 'lock'}: Permission denied" in text) == ("3", True), text
