"""Backends by store URL: the built-in ones, and those that another package registers by an entry point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stateview import InvalidName, StateManager
from stateview.backends import BUILT_IN, Store, find_kind, is_bare, kind_of, parse_store, registered

PLUGIN = """
from stateview.backends import BackendKind, open_backend

def make(store, namespace, **options):  # wraps another kind
    made = open_backend(f"json:{store.place}", namespace, **options)
    made.opened_with = options
    return made

KIND = BackendKind("folder", "a folder", make, ("folder",), None, ("state.json",))
WRONG = "no kind"
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that is installed in a folder of its own, with three entry points, of which two are wrong."""
    site = tmp_path / "site"
    metadata = site / "folder_plugin-1.dist-info"
    metadata.mkdir(parents=True)
    (site / "folder_plugin.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: folder-plugin\nVersion: 1\n")
    points = "folder = folder_plugin:KIND\nwrong = folder_plugin:WRONG\ngone = folder_plugin_that_is_gone:KIND\n"
    (metadata / "entry_points.txt").write_text(f"[stateview.backends]\n{points}")
    monkeypatch.syspath_prepend(site)
    return tmp_path


@pytest.mark.parametrize(
    ("url", "store"),
    [
        ("json:a", Store("json", "a", "json:a")),
        ("sqlite://a b", Store("sqlite", "a b", "sqlite:a b")),
        ("json", Store("json", ".claude/state", "json:.claude/state")),
        ("redis://u:p@h/1", Store("redis", "redis://u:p@h/1", "redis://u:***@h/1")),
        ("unix:///run/redis.sock", Store("redis", "unix:///run/redis.sock", "unix:///run/redis.sock")),
    ],
)
def test_a_url_is_taken_apart(url: str, store: Store) -> None:
    assert parse_store(url) == store
    assert kind_of(store) is BUILT_IN[store.kind]


@pytest.mark.parametrize("url", ["", ":", "json:", "redis:", "redis:h", "rediss", "unknown", "unknown:a", "sqlite:"])
def test_what_is_no_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidName, match="is not a store"):
        parse_store(url)


def test_a_registered_backend_is_opened_by_its_url(plugin: Path) -> None:
    assert {"folder", "gone", "wrong"} <= {*registered()}
    place = str(plugin / "state")
    with StateManager(f"folder:{place}", "main", durability="normal", history=5) as state:
        assert state.save("k", [1]) == 1
        made: Any = state.backend
        assert made.opened_with == {"read_only": False, "history": 5}
    with StateManager(f"json:{place}", "main") as state:
        assert state.load("k") == [1]
    assert not is_bare("folder")
    with pytest.raises(InvalidName, match=r"is not a store.*folder:…"):
        parse_store("folder")


@pytest.mark.parametrize(
    ("scheme", "message"),
    [("wrong", "'wrong' .folder_plugin:WRONG. is no BackendKind"), ("gone", "cannot be loaded: No module named")],
)
def test_a_registration_that_is_wrong_is_named(plugin: Path, scheme: str, message: str) -> None:
    with pytest.raises(InvalidName, match=message):
        find_kind(scheme)
    assert parse_store("json:a").kind == "json"
