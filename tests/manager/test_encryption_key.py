"""Encryption through the public API: arguments, environment and settings."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from stateview import StateManager
from stateview.errors import InvalidArgument, InvalidName, KeyMissing, KeyWrong
from stateview.sealing.keys import UserKey

KEY, OTHER = UserKey.generate().printed(), UserKey.generate().printed()
kinds = pytest.mark.parametrize("kind", ["json", "sqlite"])


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATEVIEW_KEY", raising=False)


@kinds
def test_each_source_of_the_key_opens_the_namespace(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{kind}:{tmp_path}/store"
    with StateManager(url, "main", encryption_key=KEY) as state:
        state.save("k", "unmistakable")
    (tmp_path / "stateview.toml").write_text(
        f'[stores.sealed]\nurl = "{url}"\nnamespace = "main"\nencryption_key = "${{PROD_KEY}}"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROD_KEY", KEY)
    with StateManager("sealed") as state:
        assert state.load("k") == "unmistakable"
    monkeypatch.setenv("STATEVIEW_KEY", OTHER)
    with StateManager("sealed") as state:  # the key of the store comes before that of all stores
        assert state.load("k") == "unmistakable"
    with StateManager(url, "main", encryption_key=KEY) as state:
        assert state.load("k") == "unmistakable"
    with StateManager(url, "main") as state, pytest.raises(KeyWrong):
        state.load("k")
    monkeypatch.delenv("STATEVIEW_KEY")
    with StateManager(url, "main") as state:
        for act in (lambda: state.load("k"), lambda: state.save("k", 1), lambda: state.checkpoint("c")):
            with pytest.raises(KeyMissing):
                act()
        assert [row.key for row in state.rows() if row.sealed] == ["k"]


def test_a_file_holds_no_key_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stateview.toml").write_text(f'[stores.sealed]\nurl = "json:x"\nencryption_key = "{KEY}"\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidName, match="must be the name of a variable") as caught:
        StateManager("sealed")
    assert KEY not in str(caught.value)


def test_a_key_that_is_none_is_refused_at_once_and_not_shown(tmp_path: Path) -> None:
    for wrong in ("", "secret words", KEY[:-1]):
        with pytest.raises(InvalidArgument) as caught:
            StateManager(f"json:{tmp_path}", "main", encryption_key=wrong)
        assert not wrong or wrong not in str(caught.value)
    with pytest.raises(InvalidArgument, match="give a string, not bytes"):
        StateManager(f"json:{tmp_path}", "main", encryption_key=b"secret")  # type: ignore[arg-type]


@kinds
def test_plain_data_is_read_and_not_mixed_with_sealed(tmp_path: Path, kind: str) -> None:
    url = f"{kind}:{tmp_path}"
    with StateManager(url, "main") as state:
        state.save("k", 1)
    with StateManager(url, "main", encryption_key=KEY) as state:
        assert state.load("k") == 1
        with pytest.raises(InvalidArgument, match="stateview key on"):
            state.save("k", 2)
        assert state.load("k") == 1
    with StateManager(url, "main") as state:
        state.save("k", 3)


@kinds
def test_a_fork_and_a_copy_are_sealed_too(tmp_path: Path, kind: str) -> None:
    url = f"{kind}:{tmp_path}/one"
    with StateManager(url, "main", encryption_key=KEY) as state:
        state.save("k", "unmistakable")
        state.checkpoint("c", note="unmistakable")
        state.fork("other", at="c").close()
        state.migrate_to(f"{kind}:{tmp_path}/two")
    for place, namespace in (("one", "other"), ("two", "main")):
        with StateManager(f"{kind}:{tmp_path}/{place}", namespace, encryption_key=KEY) as copy:
            assert copy.load("k") == "unmistakable"
            assert copy.doctor().ok
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if b"unmistakable" in path.read_bytes()] == []


def test_a_pickle_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StateManager(f"json:{tmp_path}", "main", encryption_key=KEY) as state:
        state.save("k", 1)
        pickled = pickle.dumps(state)
        assert KEY not in repr(state)
    assert KEY.encode() not in pickled
    monkeypatch.setenv("STATEVIEW_KEY", KEY)
    with pickle.loads(pickled) as copy:
        assert copy.load("k") == 1
