"""Commands on an encrypted namespace that no key opens: names and times are listed, a value is an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stateview import Damaged, KeyMissing, KeyWrong, StateManager
from stateview.cli.completion import candidates
from stateview.model import SealedText, SealedValue
from stateview.sealing.keys import UserKey

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("folder")
KEY, OTHER = UserKey.generate().printed(), UserKey.generate().printed()
MARKER = "unmistakable"


@pytest.fixture
def kind() -> str:
    return "sqlite"


all_kinds = pytest.mark.parametrize("kind", ["json", "sqlite", "redis"])


@pytest.fixture
def locked(kind: str, new_store: Callable[[str], str], redis_kind: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a namespace with whole and packed versions, a delete and texts, opened without a key."""
    url = new_store(redis_kind if kind == "redis" else kind)
    with StateManager(url, encryption_key=KEY, author=MARKER) as state:
        for length in (40, 41):
            state.save("a:list", [{"step": step, "text": MARKER} for step in range(length)], reason=MARKER)
            state.save("gone", MARKER)
        state.checkpoint("cp", note=MARKER)
        state.delete("gone")
    monkeypatch.setenv("STATEVIEW_STORE", url)
    return url


@pytest.fixture
def redis_kind() -> str:
    from conftest import REDIS

    return next(iter(REDIS), "redis")


def rows(run: Run, *words: str) -> list[dict[str, object]]:
    code, out, _ = run(*words, "--format", "json")
    assert code == 0, words
    assert MARKER not in out
    listed: list[dict[str, object]] = json.loads(out)
    return listed


@all_kinds
def test_lists_show_names_times_and_sizes_and_say_that_the_rest_is_sealed(run: Run, locked: str) -> None:
    (key,) = rows(run, "keys")
    assert (key["key"], key["revision"], key["sealed"]) == ("a:list", 3, True)
    assert isinstance(key["bytes"], int)
    assert key["bytes"] > 0
    assert rows(run, "keys", "a*", "--at", "1")[0]["sealed"] is True

    newest, older, *_ = rows(run, "history", "gone")
    assert (newest["revision"], newest["deleted"], newest["sealed"]) == (5, True, True)
    assert (older["revision"], older["sealed"]) == (4, True)
    assert "value" not in older
    assert "reason" not in older
    assert older["bytes"]
    assert [row["bytes"] > 0 for row in rows(run, "history", "a:list")] == [True, True]  # type: ignore[operator]

    commits = rows(run, "log")
    assert [row["revision"] for row in commits] == [5, 4, 3, 2, 1]
    assert all(row["sealed"] and "reason" not in row and "author" not in row for row in commits)
    assert [row["revision"] for row in rows(run, "log", "--key", "a:list")] == [3, 1]
    (mark,) = rows(run, "checkpoints")
    assert (mark["name"], mark["sealed"], "note" in mark) == ("cp", True, False)
    assert rows(run, "namespaces")[0]["keys"] == 1

    code, out, _ = run("stats", "--format", "json")
    assert (code, json.loads(out)["sealed"], json.loads(out)["versions"]) == (0, True, 4)
    (finding,) = [row for row in rows(run, "doctor") if row["severity"] == "note"]
    assert "encrypted" in str(finding["found"])

    for words in ("keys", "log", "history gone", "checkpoints"):
        code, out, _ = run(*words.split(), "--format", "table")
        assert (code, "(sealed)" in out) == (0, True), words


@all_kinds
def test_what_needs_no_value_can_be_asked(run: Run, locked: str) -> None:
    assert run("assert", "a:list", "exists")[0] == 0
    assert run("assert", "gone", "exists")[0] == 1
    assert run("assert", "gone", "exists", "--at", "cp")[0] == 0
    assert run("wait", "a:list", "exists")[0] == 0
    assert candidates(["load", "a:l"]) == [("a:list", candidates(["load", "a:l"])[0][1])]
    assert candidates(["load", "a:l"])[0][1].startswith("revision 3, ")
    assert not candidates(["load", "a:l"])[0][1].startswith("revision 3, 0 bytes")
    assert candidates(["load", "a:l"])[0][1].endswith("bytes, sealed")
    assert candidates(["load", "a:list", "/"]) == []
    assert "(sealed)" in candidates(["diff", "c"])[0][1]


@pytest.mark.parametrize(
    ("kind", "key"), [("json", None), ("sqlite", OTHER), ("redis", None)], ids=["json", "sqlite", "redis"]
)
def test_what_needs_a_value_is_an_error_that_names_the_next_step(
    run: Run, locked: str, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key is not None:
        monkeypatch.setenv("STATEVIEW_KEY", key)
    commands = (
        "load a:list", "entry a:list", "diff cp", "diff 1 3", "find x", "blame a:list /0", "export -", "export x.jsonl",
        "restore cp --dry-run", "restore cp --yes", "undo", "fork other", "save k 1", "delete a:list", "checkpoint c",
        "checkpoint --delete cp", "rename a:list b", "expire a:list 7", "log --grep x", "log --by x", "compact",
        "assert a:list == 1", "bisect a:list == 1", "prune cp --yes",
    )  # fmt: skip
    with StateManager(locked) as state:
        before = state.head(), state.list_checkpoints(), state.namespaces()
    for words in commands:
        code, out, err = run(*words.split())
        assert (code, out) == (3, ""), words
        assert "STATEVIEW_KEY" in err, words
        assert "key status'" in err, words
    with StateManager(locked) as state:
        assert (state.head(), state.list_checkpoints(), state.namespaces()) == before


def test_the_library_tells_names_and_refuses_values(locked: str) -> None:
    with StateManager(locked) as state:
        assert state.list_keys() == ["a:list"]
        assert state.list_keys(at="cp") == ["a:list", "gone"]
        assert ("a:list" in state, "gone" in state, "gone" in state.at("cp")) == (True, False, True)
        assert isinstance(state.log()[0].reason, SealedText)
        with pytest.raises(KeyMissing):
            state.history("a:list")
        value = state.history("a:list", sealed=True)[0].value
        assert isinstance(value, SealedValue)
        assert value.size > 0
        for refused in (lambda: state.load("a:list"), lambda: list(state.at("cp").entries())):
            with pytest.raises(KeyMissing):
                refused()
    with StateManager(locked, encryption_key=OTHER) as state, pytest.raises(KeyWrong):
        state.load("a:list")


@all_kinds
def test_a_namespace_whose_encryption_has_begun_is_listed(
    kind: str, new_store: Callable[[str], str], redis_kind: str
) -> None:
    url = new_store(redis_kind if kind == "redis" else kind)
    with StateManager(url) as plain:
        for number in range(20):
            plain.save("k", [f"{number}"] * 300, reason=MARKER)

    class StoppedError(Exception):
        pass

    def stop(_done: int, _total: int) -> None:
        raise StoppedError

    with StateManager(url, encryption_key=KEY) as state, pytest.raises(StoppedError):
        state.encryption.turn_on(progress=stop)
    with StateManager(url) as locked:
        assert locked.encryption.status().state == "sealing"
        assert locked.list_keys() == locked.list_keys(at=7) == ["k"]
        versions = locked.history("k", sealed=True)
        assert len(versions) == 20
        assert all(isinstance(version.value, SealedValue) and version.value.size for version in versions)
        assert locked.doctor().ok
        with pytest.raises(KeyMissing):
            locked.load("k")


def test_recover_without_the_history_needs_the_key_and_seals_what_it_keeps(run: Run, tmp_path: Path) -> None:
    url, folder = f"json:{tmp_path}/s", tmp_path / "s" / "default"
    with StateManager(url, encryption_key=KEY) as state:
        state.save("k", MARKER)
    (folder / "history.jsonl").unlink()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    code, _, err = run("-s", url, "recover", "--yes")
    assert (code, "STATEVIEW_KEY" in err) == (3, True)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    with StateManager(url, encryption_key=KEY) as state:
        state.recover()
        assert state.load("k") == MARKER


def test_doctor_reports_an_edit_by_hand_that_no_key_can_take_in(run: Run, tmp_path: Path) -> None:
    url, path = f"json:{tmp_path}/s", tmp_path / "s" / "default" / "state.json"
    with StateManager(url, encryption_key=KEY) as state:
        state.save("k", MARKER)
        state.save("l", MARKER)
    entries = json.loads(path.read_bytes())
    entries["l"]["value"] = entries["k"]["value"]
    path.write_text(json.dumps(entries))
    found = rows(run, "-s", url, "doctor")
    assert [row["severity"] for row in found] == ["warning", "note"]


@all_kinds
def test_recover_without_a_key_says_that_the_values_were_not_checked(
    run: Run, kind: str, new_store: Callable[[str], str], redis_kind: str
) -> None:
    url = new_store(redis_kind if kind == "redis" else kind)
    with StateManager(url, encryption_key=KEY) as state:
        state.save("k", MARKER)
    code, _, err = run("-s", url, "recover")
    assert (code, "is sound" in err, "sealed, and were not checked" in err) == (0, True, True), err
    with StateManager(url, encryption_key=KEY) as state:
        assert (state.recover().sealed, state.load("k")) == (False, MARKER)


@pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])
def test_recover_names_a_damaged_keyring(tmp_path: Path, key: str | None) -> None:
    with StateManager(f"json:{tmp_path}", encryption_key=KEY) as state:
        state.save("k", MARKER)
    (tmp_path / "default" / "keyring.json").write_text("{}")
    with StateManager(f"json:{tmp_path}", encryption_key=key) as state:
        assert [(one.code, one.mended) for one in state.recover().problems] == [("keyring", False)]


def test_recover_makes_no_plain_namespace_of_sealed_values(tmp_path: Path) -> None:
    with StateManager(f"json:{tmp_path}", encryption_key=KEY) as state:
        state.save("k", MARKER)
    for name in ("keyring.json", "history.jsonl"):
        (tmp_path / "default" / name).unlink()
    before = (tmp_path / "default" / "state.json").read_bytes()
    for key in (None, KEY):
        with (
            StateManager(f"json:{tmp_path}", encryption_key=key) as state,
            pytest.raises(Damaged, match="keyring is lost"),
        ):
            state.recover()
    assert (tmp_path / "default" / "state.json").read_bytes() == before
