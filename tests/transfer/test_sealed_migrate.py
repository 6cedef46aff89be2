"""Migration of encrypted namespaces: the copy is encrypted and says so, and a copy that would be plain is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import REDIS
from sealed_stores import KEY, OTHER_KEY
from stress import only

from stateview import BackendError, KeyMissing, KeyWrong, StateManager

Stores = Callable[[str], str]
Run = Callable[..., tuple[int, str, str]]

WORD = "unmistakable"
LARGE = random.Random(0).randbytes(2000).hex()  # so that former values are deltas
FIRST, SECOND = KEY.printed(), OTHER_KEY.printed()
KINDS = ("json", "sqlite", next(iter(REDIS), "redis"))
PAIRS = [(one, other) for one in KINDS for other in KINDS]
CYCLE = list(zip(KINDS, (*KINDS[1:], KINDS[0]), strict=True))
pytestmark = pytest.mark.usefixtures("folder")


def filled(url: str, key: str | None = FIRST) -> str:
    with StateManager(url, encryption_key=key, author=WORD) as state:
        for number in range(5):
            state.save("k", [WORD, number, LARGE], reason=WORD)
        state.checkpoint("c", note=WORD)
    return url


@pytest.mark.parametrize(("source", "target"), only(PAIRS, *CYCLE))
def test_the_copy_is_encrypted_with_the_same_key(source: str, target: str, new_store: Stores) -> None:
    origin, goal = filled(new_store(source)), new_store(target)
    for key, error in ((None, KeyMissing), (SECOND, KeyWrong)):
        with StateManager(origin, encryption_key=key) as state, pytest.raises(error):
            state.migrate_to(goal)
    with StateManager(origin, encryption_key=FIRST) as state:
        assert state.migrate_to(goal, dry_run=True).encrypted
        with StateManager(goal) as copy:
            assert copy.revision == 0
        assert state.migrate_to(goal).encrypted
        again = state.migrate_to(goal)
        assert (again.already, again.encrypted) == (True, True)
        with StateManager(goal, encryption_key=FIRST) as copy:
            assert copy.encryption.status().state == "sealed"
            assert [each.value for each in copy.history("k")] == [each.value for each in state.history("k")]
            assert copy.log() == state.log()
            assert copy.checkpoints() == state.checkpoints()
            assert copy.doctor().ok
    with StateManager(goal) as copy, pytest.raises(KeyMissing):
        copy.load("k")
    if target in ("json", "sqlite"):
        files = [path for path in Path(goal.partition(":")[2]).rglob("*") if path.is_file()]
        assert files
        assert [path for path in files if WORD.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(("source", "target"), only(CYCLE, *CYCLE[:2]))
def test_a_plain_copy_made_before_is_not_taken_for_an_encrypted_one(
    source: str, target: str, new_store: Stores
) -> None:
    origin, goal = filled(new_store(source), key=None), new_store(target)
    with StateManager(origin) as state:
        assert not state.migrate_to(goal).encrypted
    with StateManager(origin, encryption_key=FIRST) as state:
        assert not state.migrate_to(goal).encrypted, "both are plain, whatever key is given"
        state.encryption.turn_on()
        for dry_run in (True, False):
            with pytest.raises(BackendError, match="'stateview key on'"):
                state.migrate_to(goal, dry_run=dry_run)
        with StateManager(goal, encryption_key=FIRST) as copy:
            copy.encryption.turn_on()
        assert state.migrate_to(goal).encrypted


@pytest.mark.parametrize(("source", "target"), only(CYCLE, *CYCLE[:2]))
@pytest.mark.parametrize(("key", "error"), [(None, BackendError), (SECOND, KeyWrong)], ids=["plain", "other key"])
def test_force_over_a_namespace_that_the_key_does_not_open_is_refused_before_the_copy(
    source: str, target: str, key: str | None, error: type[Exception], new_store: Stores
) -> None:
    origin, goal = filled(new_store(source)), new_store(target)
    with StateManager(goal, encryption_key=key) as there:
        there.save("mine", 1)
        with StateManager(origin, encryption_key=FIRST) as state:
            for dry_run in (True, False):
                with pytest.raises(error) as caught:
                    state.migrate_to(goal, dry_run=dry_run, force=True, progress=lambda step: pytest.fail(str(step)))
                assert "resumes" not in str(caught.value)
        assert there.load("mine") == 1
        assert there.list_checkpoints() == []


def test_a_key_that_changed_at_the_source_is_named(new_store: Stores) -> None:
    origin, goal = filled(new_store("json")), new_store("sqlite")
    with StateManager(origin, encryption_key=FIRST) as state:
        state.migrate_to(goal)
        state.encryption.rotate_key(SECOND)
        with pytest.raises(KeyWrong):
            state.migrate_to(goal)


def test_the_command_says_that_the_copy_is_encrypted(
    run: Run, new_store: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, goal = filled(new_store("json")), new_store("sqlite")
    for words in (["--dry-run"], [], ["--all"]):
        code, _, err = run("migrate", origin, goal, *words)
        assert (code, "STATEVIEW_KEY" in err) == (3, True)
    monkeypatch.setenv("STATEVIEW_KEY", FIRST)
    code, out, err = run("migrate", origin, goal, "--dry-run")
    assert (code, "encrypted" in out + err) == (0, True)
    code, out, err = run("migrate", origin, goal, "--all")
    assert (code, "the copy is encrypted" in out + err) == (0, True)


@pytest.mark.parametrize("name", ["from", "to"])
def test_all_uses_the_keys_of_the_stores_in_the_settings(
    run: Run, folder: Path, name: str, new_store: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", FIRST)
    urls = {"from": filled(new_store("json")), "to": new_store("sqlite")}
    lines = [f'[stores.{each}]\nurl = "{url}"' for each, url in urls.items()]
    lines[list(urls).index(name)] += '\nencryption_key = "${SOME_KEY}"'
    (folder / "stateview.toml").write_text("\n".join(lines))
    code, out, err = run("migrate", "from", "to", "--all")
    assert (code, "the copy is encrypted" in out + err) == ((0, True) if name == "from" else (3, False)), err
