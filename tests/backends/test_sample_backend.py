"""A backend that another package adds: installed by a folder with its metadata, used through the public names alone."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace

from stateview import StateManager
from stateview.backends import find_kind, open_backend, registered
from stateview.backends.protocol import Backend
from stateview.backends.stored_values import PLAIN, StoredValues
from stateview.cli.program import main
from stateview.errors import InvalidName, ReadOnly
from stateview.manager import migrate
from stateview.testing import BackendContract, delete, mark, save

SAMPLE = Path(__file__).parent.parent / "support" / "sample_backend"
NUMBERS = count(1)

pytestmark = pytest.mark.usefixtures("installed", "folder")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `pip install` would: the package and its `.dist-info` lie in a folder of `sys.path`."""
    monkeypatch.syspath_prepend(SAMPLE)


@pytest.fixture
def url(installed: None) -> Iterator[str]:
    """The URL of an empty store, which goes with the test."""
    from sample_backend.namespace import STORES

    name = f"s{next(NUMBERS)}"
    yield f"memory:{name}"
    STORES.pop(name, None)


@pytest.fixture
def state(url: str) -> StateManager:
    manager = StateManager(url, "main")
    manager.save("user", {"name": "Ann", "roles": ["admin"]})
    manager.save("count", 1)
    manager.checkpoint("planned")
    manager.save("count", 2)
    manager.save("more", None)
    return manager


class Sealed(StoredValues):
    """Store each value as base64 with its key, so that a value that misses the seam is found out."""

    plain = False

    def pack(self, value: bytes, key: str, revision: int) -> bytes:
        return b'"%s"' % base64.b64encode(b"%b\0%d\0%b" % (key.encode(), revision, value))

    def unpack(self, stored: bytes, key: str, revision: int) -> bytes:
        owner, number, value = base64.b64decode(stored[1:-1], validate=True).split(b"\0", 2)
        assert (owner, int(number)) == (key.encode(), revision)
        return value


class TestMemory(BackendContract):
    values = PLAIN

    @pytest.fixture
    def store(self, url: str) -> str:
        return url

    def open(self, store: str, namespace: str, **options: object) -> Backend:
        return open_backend(store, namespace, values=self.values, **options)

    def stored(self, store: str, namespace: str, key: str) -> bytes | None:
        from sample_backend.namespace import STORES

        last = STORES[store.partition(":")[2]][namespace].versions[key][-1]
        return None if last.value is None else self.values.unpack(last.value, key, last.revision)

    def damage(self, store: str, namespace: str, key: str) -> None:
        from sample_backend.namespace import STORES

        kept = STORES[store.partition(":")[2]][namespace].versions[key]
        kept[-1] = replace(kept[-1], value=b'"other"')

    def size(self, store: str, namespace: str) -> int:
        from sample_backend.namespace import STORES

        kept = getattr(STORES.get(store.partition(":")[2], {}).get(namespace), "versions", {})
        return sum(100 + len(one.value or b"") for versions in kept.values() for one in versions)


@pytest.mark.stress
class TestSealedMemory(TestMemory):
    """The whole contract once more: every value passes the seam on its way in and out."""

    values = Sealed()

    def test_what_is_stored_is_the_packed_form(self, store: str, backend: Backend) -> None:
        from sample_backend.namespace import STORES

        save(backend, "k", b"[1]")
        delete(backend, "k")
        staging = backend.open_staging()
        staging.put(backend.versions_page(), note={})
        staging.close()
        namespaces = STORES[store.partition(":")[2]]
        for name in ("main", ".main"):
            assert [one.value for one in namespaces[name].versions["k"]] == [Sealed().pack(b"[1]", "k", 1), None]


def test_the_package_is_found_by_its_metadata() -> None:
    (point,) = importlib.metadata.entry_points(group="stateview.backends", name="memory")
    assert (point.value, point.dist.name) == ("sample_backend:KIND", "stateview-sample-backend")
    assert "memory" in registered()
    kind = find_kind("memory")
    assert kind is not None
    assert not kind.in_folder


def test_a_store_is_opened_by_its_url(url: str) -> None:
    with StateManager(url, "main") as state:
        assert state.save("k", [1]) == 1
        assert (state.url, repr(state)) == (url, f"<StateManager {url} namespace 'main'>")
        assert [one.value for one in open_backend(url, "main").scan()] == [b"[1]"]
        with StateManager(url, "main", read_only=True) as reader, pytest.raises(ReadOnly):
            reader.save("k", 2)
    assert StateManager(url, "main").load("k") == [1]
    for wrong in ("memory", "memory:"):
        with pytest.raises(InvalidName):
            open_backend(wrong, "main")


def test_the_acts_of_a_manager(state: StateManager) -> None:
    assert state.load("count", at="planned") == 1
    assert [(one.key, one.kind) for one in state.diff("planned")] == [("count", "changed"), ("more", "added")]
    assert len(state.restore_checkpoint("planned")) == 2
    assert {key: state.load(key) for key in state.list_keys()} == {
        "user": {"name": "Ann", "roles": ["admin"]},
        "count": 1,
    }
    state.undo()
    assert state.load("count") == 2
    state.redo()
    assert state.load("count") == 1
    assert state.update("count", lambda number: number + 10) == 11
    assert state.blame("count").revision == state.revision
    with state.transaction() as block:
        block.save("a", 1)
        block.delete("user")
    state.rename("a", "b")
    assert [one.value for one in state.history("b")] == [1]
    assert state.stats().keys == state.head().count == 2
    assert state.prune(keep=1, history=True).versions > 0
    assert state.doctor().findings == ()
    assert state.recover().ok


def test_a_fork_is_a_namespace_of_the_same_store(state: StateManager) -> None:
    other = state.fork("other", at="planned")
    assert (other.list_keys(), other.load("count")) == (["count", "user"], 1)
    assert state.namespaces() == ["main", "other"]


def test_an_export_comes_back_whole(state: StateManager, url: str, tmp_path: Path) -> None:
    file = str(tmp_path / "main.jsonl")
    state.export(file)
    copy = StateManager(url, "copy")
    copy.import_from(file)
    assert content(copy) == content(state)
    state.save("count", 3)
    state.import_from(file, how="replace", force=True)
    assert content(state)[0] == content(copy)[0]


def content(state: StateManager) -> tuple[object, ...]:
    backend = state.backend
    return (
        [(one.key, one.value) for one in backend.scan()],
        backend.versions_page(),
        backend.marks(),
        backend.commits(),
    )


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_namespace_moves_to_a_built_in_backend_and_back(
    state: StateManager, url: str, new_store: Callable[[str], str], kind: str
) -> None:
    there = new_store(kind)
    report = state.migrate_to(there)
    assert (report.keys, report.revision, report.source) == (3, state.revision, url)
    with StateManager(there, "main") as moved:
        assert content(moved) == content(state)
        assert moved.save("count", 5) == state.revision + 1
    (back,) = migrate(there, url, namespace="main")
    assert back.replaces
    assert back.kept.startswith(f"{url}/.main-before-import-")
    assert state.load("count") == 5
    assert state.list_checkpoints() == ["planned"]
    assert migrate(there, url + "-new", all=True)[0].keys == 3
    assert state.migrate_to(url + "-new").already


def test_doctor_finds_a_damaged_value_and_recover_keeps_the_rest(state: StateManager, url: str) -> None:
    from sample_backend.namespace import STORES

    assert state.doctor().findings == ()
    assert state.recover().problems == ()
    TestMemory().damage(url, "main", "count")
    assert [(each.subject, each.code) for each in state.doctor().findings] == [("count", "damaged-value")]
    report = state.recover()
    assert [each.code for each in report.problems] == ["damaged", "lost-value"]
    (kept,) = report.kept
    assert not STORES[url.partition(":")[2]][kept].versions["count"][-1].is_sound()
    assert state.doctor().findings == ()
    assert state.list_keys() == ["more", "user"]
    assert state.load("count", at="planned") == 1
    state.save("count", 3)
    assert state.load("count") == 3


def test_the_command_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str, code: int = 0) -> str:
        assert main(["-s", url, *words]) == code
        return capsys.readouterr().out

    run("save", "k", "[1, 2]")
    run("checkpoint", "one")
    run("save", "k", "[1, 3]")
    assert json.loads(run("load", "k")) == [1, 3]
    assert "k" in run("diff", "one")
    run("restore", "one")
    run("undo")
    assert json.loads(run("load", "k", "--at", "live~1")) == [1, 2]
    assert "one" in run("checkpoints")
    assert "default" in run("namespaces")
    run("doctor")
    run("fork", "other")
    run("export", "out.jsonl")
    run("-n", "copy", "import", "out.jsonl")
    assert main(["migrate", url, "json:moved"]) == 0
    assert main(["-s", "json:moved", "load", "k"]) == 0
    assert json.loads(capsys.readouterr().out) == [1, 3]
    assert main(["-s", "memory:", "load", "k"]) == main(["-s", "unheard:x", "load", "k"]) != 0
    assert "memory:…" in capsys.readouterr().err


def test_the_store_of_a_folder(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("stateview.toml").write_text(f'store = "team"\n[stores.team]\nurl = "{url}"\nnamespace = "build"\n')
    assert main(["save", "k", "1"]) == 0
    assert StateManager(url, "build").load("k") == 1
    assert main(["init", url, "other"]) == 0
    assert f'store = "{url}"' in Path("stateview.toml").read_text()


def test_history_is_kept_for_so_many_revisions(url: str) -> None:
    with StateManager(url, "main", history=32) as state:
        for number in range(100):
            state.save("k", number)
            if number == 9:
                state.checkpoint("tenth")
        assert 32 <= 100 - state.head().floor <= 34
        assert state.load("k", at="tenth") == 9


def test_a_child_goes_on_with_a_copy(url: str) -> None:
    backend = open_backend(url, "main")
    save(backend, "k", b"1")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            mark(backend, "m")
            code = int(save(backend, "k", b"2").revision != 2)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (backend.head().revision, backend.marks()) == (1, [])
