"""An error in the middle of an act says what was done: "Nothing was changed" only where nothing was."""

from __future__ import annotations

import errno
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
import redis
import stress
from conftest import KINDS

from stateview import StateException, StateManager
from stateview.backends.files.durable_files import file_error
from stateview.errors import NOTHING_CHANGED, tells_what_was_done, was_committed

DOCUMENT = b'{"a": "imported", "c": 3}'


def filled(url: str) -> None:
    chance = random.Random(1)  # what does not compress takes space in the history too
    with StateManager(url, "n") as state:
        for number in range(12):
            state.save("ab"[number % 2], [number, chance.randbytes(1500).hex()])
            if number % 4 == 0:
                state.checkpoint("named")
                state.checkpoint()


def look(url: str) -> list[Any]:
    with StateManager(url, "n", read_only=True) as state:
        head = state.head()
        return [
            head.revision, head.floor, state.backend.marks(), state.log(1000), list(state.at("live").entries()),
            state.namespaces(),
        ]  # fmt: skip


ACTS: dict[str, Callable[[StateManager], object]] = {
    "save": lambda state: state.save("a", "y" * 9000),
    "save_many": lambda state: state.save_many({"a": "y" * 9000, "b": "y" * 9000, "c": 1}, batch_size=1),
    "checkpoint": lambda state: state.checkpoint("named"),
    "delete_checkpoint": lambda state: state.delete_checkpoint("named"),
    "delete_checkpoints": lambda state: state.delete_checkpoints(["named", "auto_*"]),
    "rename_checkpoint": lambda state: state.rename_checkpoint("named", "other"),
    "restore": lambda state: state.restore_checkpoint("named@1"),
    "undo": lambda state: state.undo(),
    "prune": lambda state: state.prune(keep=0, history=True),
    "compact": lambda state: state.compact(),
    "import": lambda state: state.import_from(io.BytesIO(DOCUMENT), how="replace"),
    "fork": lambda state: state.fork("other"),
}
# A database beyond its free pages; what is smaller never fails for space
GROWS = ("save", "save_many", "restore", "undo", "import")
GROWS_REDIS = (*GROWS, "checkpoint", "fork")  # a server that is full refuses all commands that may take memory


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[list[int]]:
    """Fail at one call that makes something durable: the one of this number."""
    calls = [0]

    def broken(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("fsync", "rename", "replace", "mkdir", "ftruncate"):
            patch.setattr(os, name, broken(getattr(os, name)))
        yield calls


@pytest.mark.parametrize("act", stress.only(ACTS, "prune"))
def test_json_at_each_step(act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = told = 0
    while True:
        number += 1
        url = f"json:{tmp_path / str(number)}"
        filled(url)
        before = look(url)
        with StateManager(url, "n") as state, failing(monkeypatch, number) as calls:
            try:
                ACTS[act](state)
            except StateException as error:
                failure = error
            else:
                if calls[0] < number:
                    break
                continue
        told += 1
        if NOTHING_CHANGED in failure.next_steps:
            assert look(url) == before, (number, failure)
        else:
            assert look(url) != before, (number, failure)
        if act == "save":
            assert was_committed(failure) == (look(url) != before)
    assert told


@pytest.mark.parametrize("act", GROWS)
def test_sqlite_at_each_size(act: str, tmp_path: Path) -> None:
    told = 0
    for spare in range(8):
        url = f"sqlite:{tmp_path / str(spare)}"
        filled(url)
        database = tmp_path / str(spare) / "n" / "state.db"
        before = look(url)
        pages = os.stat(database).st_size // 4096 + spare

        def limit(connection: apsw.Connection, pages: int = pages) -> None:
            connection.execute(f"PRAGMA max_page_count = {pages}")

        apsw.connection_hooks.append(limit)
        try:
            with StateManager(url, "n") as state:
                ACTS[act](state)
        except StateException as error:
            told += 1
            assert (NOTHING_CHANGED in error.next_steps) == (look(url) == before), error
        finally:
            apsw.connection_hooks.remove(limit)
    assert told


@pytest.mark.parametrize("act", GROWS_REDIS)
def test_redis_that_is_full(act: str, new_store: Callable[[str], str]) -> None:
    url = new_store(KINDS[2])
    filled(url)
    before = look(url)
    with redis.Redis.from_url(url) as client, StateManager(url, "n", timeout=1) as state:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(StateException) as caught:
                ACTS[act](state)
        finally:
            client.config_set("maxmemory", 0)
    assert NOTHING_CHANGED in caught.value.next_steps and look(url) == before


def test_an_older_layout_is_adopted_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number, calls = 0, [1]
    while calls[0] >= number:
        number += 1
        folder = tmp_path / str(number) / "n"
        (folder / "checkpoints").mkdir(parents=True)
        for day, name in enumerate(("checkpoints/one", "checkpoints/two", "state"), 1):
            entry = {"value": name, "timestamp": f"2024-01-0{day}T00:00:00"}
            (folder / f"{name}.json").write_text(json.dumps({"a": entry}))
        failure: StateException | None = None
        with StateManager(f"json:{folder.parent}", "n") as state, failing(monkeypatch, number) as calls:
            try:
                state.load("a")
            except StateException as error:
                failure = error
        with StateManager(f"json:{folder.parent}", "n") as state:
            if failure is not None and NOTHING_CHANGED in failure.next_steps:
                assert not (folder / "history.jsonl").exists()
            assert state.load("a") == "state"
            assert {name: state.load("a", at=name) for name in state.list_checkpoints()} == {
                "one": "checkpoints/one", "two": "checkpoints/two",
            }  # fmt: skip


def test_a_prune_tells_how_far_it_came(store_url: str) -> None:
    filled(store_url)

    def progress(text: str) -> None:
        if "versions read" in text:
            raise file_error(OSError(errno.ENOSPC, "full"), "the file")

    with StateManager(store_url, "n") as state:
        with pytest.raises(StateException) as caught:
            state.prune(keep=0, progress=progress)
        assert caught.value.next_steps[0] == "Checkpoints deleted so far: 3"
        assert NOTHING_CHANGED not in str(caught.value)


def test_what_an_inner_step_says_gives_way_to_the_whole_act() -> None:
    with pytest.raises(StateException) as caught, tells_what_was_done(lambda: "One is done"):
        raise StateException("no", (NOTHING_CHANGED, "Try again"))
    assert str(caught.value) == "no. One is done. Try again"
    with pytest.raises(StateException) as caught, tells_what_was_done(lambda: ""):
        raise StateException("no", NOTHING_CHANGED)
    assert str(caught.value) == f"no. {NOTHING_CHANGED}"
