"""Folders of diskcache, looked into where they lie: written by the library, and changed by hand."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
from dashboard_host import shown

from stateview import StateManager, codec
from stateview.backends.foreign import present
from stateview.backends.foreign.diskcache import DiskCache
from stateview.backends.protocol import SUMMARY_BYTES, StateAt
from stateview.cli.program import main
from stateview.dashboard.app import Dashboard
from stateview.errors import BackendError, Damaged, HistoryPruned, KeyNotFound, NamespaceNotFound, ReadOnly
from stateview.shell.session import Shell
from stateview.states import compare
from stateview.transfer import export, version_pages

diskcache = pytest.importorskip("diskcache")

KEYS: list[Any] = [
    "a", "b/c", "\x1b[31m", "ü", "\U0001f600", "$x", "$", "%41", "", "nul\0k", "k" * 1000, "k" * 1001, "~", "#",
    0, 5, 9, 10, 99, -1, -7, -10, 2**63 - 1, -(2**63), 1.5, -2.25, 1e300, b"", b"by\0", b"\xff", b"x" * 500, b"x" * 501,
    ("t", 1), None, True, ("long", "x" * 2000),
]  # fmt: skip


def fill(cache: Any, items: dict[Any, Any]) -> None:
    for key, value in items.items():
        cache[key] = value


def opened(folder: Path, namespace: str = "default") -> StateManager:
    return StateManager(f"diskcache:{folder}", namespace)


def test_each_key_of_any_type_has_one_name_and_pages_are_in_order(folder: Path) -> None:
    with diskcache.Cache(folder / "c") as cache:
        for number, key in enumerate(KEYS):
            cache[key] = number
        count = len(cache)
    state = opened(folder / "c")
    keys = state.list_keys()
    assert keys == sorted(set(keys)) and len(keys) == count == state.head().count
    assert sorted(state.load(key) for key in keys) == sorted(cache[key] for key in cache)
    assert state.load("$int/0000000000000000010") == KEYS.index(10)
    assert state.load("$str/$x") == KEYS.index("$x")
    rows = [row.key for row in state.rows(limit=99)]
    assert rows == keys
    for at in range(0, count, 3):
        assert [row.key for row in state.rows(skip=at, limit=5)] == keys[at : at + 5]
        assert [row.key for row in state.rows(after=keys[at], limit=4)] == keys[at + 1 : at + 5]
        assert [row.key for row in state.rows(before=keys[at], limit=4, backwards=True)] == keys[max(0, at - 4) : at]
        assert state.count(keys[at], keys[-1]) == count - at - 1
        for cut in (1, 7, 15):
            prefix = keys[at][:cut]
            assert [row.key for row in state.rows(prefix)] == [key for key in keys if key.startswith(prefix)]
    assert state.doctor().ok
    for absent in ("$int/5", "$int/" + "9" * 19, "$bytes/zz", "$odd/x", "$float/1", "$str/x", "nope", "$"):
        assert absent not in state


def test_values_are_shown_by_their_mode_and_files_are_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with diskcache.Cache(folder / "c") as cache:
        cache["text"], cache["long"] = "x", "ü" * 50_000
        cache["bytes"], cache["file"] = b"\xff", b"\xff" * 50_000
        cache["pickle"], cache["pickles"] = {"a": 1}, list(range(50_000))
        cache.set("late", 1, expire=1000)
        cache.set("gone", 1, expire=-1)
    before = sorted(path for path in (folder / "c").rglob("*"))
    state = opened(folder / "c")
    assert state.load("long") == "ü" * 50_000
    assert state.load("bytes") == {"$bytes": {"bytes": 1, "base64": "/w=="}}
    with closing(sqlite3.connect(folder / "c" / "cache.db")) as db:
        (file,) = db.execute("SELECT filename FROM Cache WHERE key = 'file'").fetchone()
    assert state.load("file")["$opaque"] == {"type": "bytes in a file", "bytes": 50_000, "file": file}
    assert state.load("pickle")["$opaque"]["type"] == "pickle"
    assert state.load("pickles")["$opaque"]["type"] == "pickle in a file"
    assert state.list_keys() == ["bytes", "file", "late", "long", "pickle", "pickles", "text"]
    assert 900 < (state.ttl("late") or 0) <= 1000 if hasattr(state, "ttl") else True
    rows = {row.key: row for row in state.rows()}
    assert rows["long"].size == 100_002 and rows["long"].start.startswith('"üü'.encode())
    store = f"diskcache:{folder / 'c'}"
    for words in (["namespaces"], ["log"], ["checkpoints"], ["diff", "live", "live"], ["export", "out.jsonl"]):
        assert main(["-s", store, *words]) == 0
    assert main(["-s", "json:copy", "import", store]) == 0
    assert StateManager("json:copy").load("text") == "x"
    with pytest.raises(ReadOnly):
        state.save("k", 1)
    assert sorted(path for path in (folder / "c").rglob("*")) == before
    capsys.readouterr()


def test_a_new_value_of_the_same_size_is_a_change_even_where_it_is_not_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MAX_BYTES", 100_000)
    state = opened(folder / "c")
    with diskcache.Cache(folder / "c") as cache:
        for name, start in (("before", 0), ("after", 1)):
            cache["bytes"], cache["pickle"] = bytes([start]) * 50_000, [start] * 50_000
            cache["text"] = str(start) * 150_000
            seen = {key: state.load(key)["$opaque"] for key in state.list_keys()}
            assert (seen["text"]["type"], seen["text"]["bytes"]) == ("text in a file", 150_000)
            state.export(f"{name}.json")
    before, after = (json.loads(Path(f"{name}.json").read_bytes()) for name in ("before", "after"))
    assert before.keys() == after.keys() and all(before[key] != after[key] for key in before)


def test_only_the_present_is_kept_and_a_change_is_seen(folder: Path) -> None:
    with diskcache.Cache(folder / "c") as cache:
        cache["a"] = 1
        state = opened(folder / "c")
        first = state.revision
        cache["b"] = 2
        assert (state.list_keys(), state.load("b")) == (["a", "b"], 2)
        assert state.revision > first
        with pytest.raises(HistoryPruned, match="present state alone"):
            state.backend.changed_keys(StateAt(first, 0), StateAt(state.revision, 0))


def test_a_watch_ends_at_a_change_and_says_why(folder: Path) -> None:
    with diskcache.Cache(folder / "c") as cache:
        cache["a"] = 1
        state = opened(folder / "c")
        changes = state._looks("live", None, 60.0, 0.05)
        assert next(changes) is None
        cache["a"] = 2
        started = time.monotonic()
        with pytest.raises(BackendError, match="present state alone"):
            list(changes)
        assert time.monotonic() - started < 5


def test_the_dashboard_follows_what_the_owner_writes(folder: Path) -> None:
    async def follow(cache: Any) -> None:
        async with Dashboard(opened(folder / "c"), {}, None).run_test(size=(100, 30)) as pilot:
            await shown(pilot, "first")
            cache["second"] = 2
            await shown(pilot, "first", "second")

    with diskcache.Cache(folder / "c") as cache:
        cache["first"] = 1
        asyncio.run(asyncio.wait_for(follow(cache), 60))


def test_an_export_and_a_copy_are_of_one_state_while_the_owner_writes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (compare, export):
        monkeypatch.setattr(module, "KEYS_PER_PAGE" if module is compare else "VERSIONS_PER_PAGE", 2)
    monkeypatch.setattr(version_pages, "VERSIONS_PER_PAGE", 2)
    read, store, moments = DiskCache.encoded, f"diskcache:{folder / 'c'}", count(1)
    with diskcache.Cache(folder / "c") as cache:

        def write(number: int) -> None:
            fill(cache, {f"k{one}": number for one in range(4)} | {f"new{number}": 1, "large": str(number) * 50_000})

        def act(backend: DiskCache, *arguments: Any) -> list[Any]:
            write(next(moments))
            cache.pop("only")
            return read(backend, *arguments)

        write(0)
        cache["only"] = "0" * 50_000
        monkeypatch.setattr(DiskCache, "encoded", act)
        assert main(["-s", store, "export", "out.json"]) == 0
        found = json.loads(Path("out.json").read_bytes())
        assert {found[f"k{number}"] for number in range(4)} == {0} and "new1" not in found
        assert found["large"][:1] in "123456789", "a file that is gone is read as it is now"
        assert "only" not in found
        assert main(["-s", store, "export", "out.jsonl"]) == 0
        assert main(["migrate", store, "json:copy"]) == 0
        assert len({StateManager("json:copy").load(f"k{number}") for number in range(4)}) == 1
    assert "moments" not in capsys.readouterr().err


def test_a_copy_of_a_cache_that_each_write_opens_and_closes_says_that_it_is_of_several_moments(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "VERSIONS_PER_PAGE", 2)
    read, moments = DiskCache.encoded, count()

    def act(backend: DiskCache, *arguments: Any) -> list[Any]:
        with diskcache.Cache(folder / "c") as cache:
            fill(cache, {f"k{number}": next(moments) for number in range(9)})
        return read(backend, *arguments)

    with diskcache.Cache(folder / "c") as cache:
        fill(cache, dict.fromkeys(("k0", "k1", "k2", "k3"), 0))
    monkeypatch.setattr(DiskCache, "encoded", act)
    assert main(["-s", f"diskcache:{folder / 'c'}", "export", "out.jsonl"]) == 0
    assert "the values are of several moments" in capsys.readouterr().err


def test_a_list_reads_the_values_that_it_shows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with diskcache.Cache(folder / "c") as cache:
        fill(cache, {f"k{number}": "x" * 50_000 for number in range(9)})
    read, limits = DiskCache._content, list[int]()

    def act(backend: DiskCache, stored: Any, limit: int) -> Any:
        limits.append(limit)
        return read(backend, stored, limit)

    monkeypatch.setattr(DiskCache, "_content", act)
    for words in (["keys", "-l", "3"], ["keys", "--prefix", "k", "-l", "3"]):
        assert main(["-s", f"diskcache:{folder / 'c'}", *words]) == 0
        assert limits == [SUMMARY_BYTES] * 3
        limits.clear()


def test_few_large_values_are_held_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with diskcache.Cache(folder / "c") as cache:
        fill(cache, {f"k{number}": "x" * 50_000 for number in range(9)})
    monkeypatch.setattr(present, "PAGE_BYTES", 90_000)
    read, held = DiskCache.encoded, list[int]()

    def act(backend: DiskCache, *arguments: Any) -> list[Any]:
        found = read(backend, *arguments)
        held.append(len(found))
        return found

    monkeypatch.setattr(DiskCache, "encoded", act)
    state = opened(folder / "c")
    assert [entry.key for entry in state.entries()] == [f"k{number}" for number in range(9)]
    assert len(list(state.at("live").entries(limit=5))) == 5
    state.export("out.jsonl")
    assert max(held) == 2


def test_the_last_page_costs_what_the_first_one_costs(folder: Path) -> None:
    with diskcache.Cache(folder / "c") as cache, cache.transact():
        fill(cache, {f"k{number:04}": 1 for number in range(400)} | dict.fromkeys(range(400), 1))
    state, steps = opened(folder / "c"), list[int]()
    state.list_keys()

    def cost(after: str) -> int:
        steps.clear()
        assert len(state.backend.scan("", after, 9)) == 9
        return len(steps)

    cast("DiskCache", state.backend)._file._connection().set_progress_handler(lambda: bool(steps.append(1)), 10)
    first, last = cost(""), cost("k0390")
    assert last < 1.5 * first
    assert cost("$int/" + "1".zfill(19)) < 1.5 * first


def test_shards_and_json_disks(folder: Path) -> None:
    with diskcache.FanoutCache(folder / "f", shards=2) as cache:
        cache["a"] = 1
    assert opened(folder / "f").namespaces() == ["000", "001"]
    (note,) = [found for found in opened(folder / "f", "000").doctor().findings if found.code == "foreign-store"]
    assert "a shard of a FanoutCache" in note.found
    assert [opened(folder / "f", name).list_keys() for name in ("000", "001")].count(["a"]) == 1
    with diskcache.Cache(folder / "j", disk=diskcache.JSONDisk, disk_compress_level=6) as cache:
        cache["k"], cache["big"] = {"a": [1]}, "x" * 5_000_000
    state = opened(folder / "j")
    assert sorted(len(str(state.load(key))) for key in state.list_keys()) == [10, 5_000_000]


def test_words_about_writing_fit_a_store_that_is_only_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with diskcache.Cache(folder / "c") as cache:
        cache["a"] = 1
    store = f"diskcache:{folder / 'c'}"
    assert main(["-s", store, "checkpoints"]) == 0
    assert "creates" not in capsys.readouterr().err
    for words in (["undo"], ["save", "k", "1"], ["delete", "a"], ["restore", "1"]):
        assert main(["-s", store, "explain", *words]) == 0
        told = capsys.readouterr().out
        assert "It would change nothing" in told and "only reads" in told and "takes it back" not in told
    shell = Shell({"namespace": "run-1"})
    shell.run(f"connect {store}")
    assert "namespace default, 1 key" in capsys.readouterr().err
    with pytest.raises(ReadOnly, match="only reads"):
        shell.run("begin")
    assert shell.transaction is None
    shell.shutdown()
    with diskcache.FanoutCache(folder / "f", shards=2):
        shell.run(f"connect diskcache:{folder / 'f'}")
    assert "which does not exist. The store has 000, 001: 'use NAME' opens one" in capsys.readouterr().err
    shell.shutdown()


def test_hostile_rows_open_nothing_outside_and_execute_nothing(folder: Path) -> None:
    (folder / "secret").write_text("secret")
    with diskcache.Cache(folder / "c") as cache:
        for key in ("up", "absolute", "link", "pipe", "missing"):
            cache[key] = "x"
    os.symlink(folder / "secret", folder / "c" / "link.val")
    os.mkfifo(folder / "c" / "pipe.val")
    with closing(sqlite3.connect(folder / "c" / "cache.db")) as db, db:
        files = {"up": "../secret", "absolute": str(folder / "secret"), "link": "link.val", "pipe": "pipe.val",
                 "missing": "00/11/22.val"}  # fmt: skip
        for key, file in files.items():
            db.execute("UPDATE Cache SET mode = 3, filename = ?, store_time = 9e999 WHERE key = ?", (file, key))
    state = opened(folder / "c")
    assert all("$opaque" in state.load(key) for key in files)
    assert len(state.rows()) == len(files)
    (folder / "c" / "cache.db").write_bytes((folder / "c" / "cache.db").read_bytes()[:5000])
    for end in ("-wal", "-shm"):
        (folder / "c" / f"cache.db{end}").unlink(missing_ok=True)
    with pytest.raises(Damaged, match="integrity_check"):
        state.list_keys()
    with pytest.raises(NamespaceNotFound):
        opened(folder / "c", "000").load("up")
    with pytest.raises(KeyNotFound, match="there is no folder"):
        opened(folder / "none").list_keys()


@pytest.mark.stress
def test_a_page_of_a_million_keys_reads_no_value(folder: Path) -> None:
    with diskcache.Cache(folder / "c") as cache, cache.transact():
        cache._sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) INSERT INTO Cache"
            "(key, raw, store_time, mode, value, size) SELECT 'user:' || i, 1, 1, 1, i, 0 FROM n"
        )
    state = opened(folder / "c")
    assert state.head().count == 1_000_000
    assert [row.key for row in state.rows(limit=2)] == ["user:1", "user:10"]
    assert state.rows(limit=1, backwards=True)[0].key == "user:999999"
    assert state.rows(after="user:5", limit=1)[0].key == "user:50"
