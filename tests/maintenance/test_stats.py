"""A namespace in numbers, against what was written; the commands `stats` and `stats --all`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import REDIS
from forked import forked

from stateview import StateManager
from stateview.backends.protocol import CommitRequest, Write
from stateview.cli.render import Style, render
from stateview.maintenance.stats import GrowthBucket, Stats
from stateview.model import to_datetime, to_micros

START = to_micros(datetime(2026, 3, 1, 22, 30, tzinfo=UTC))
HOUR = 3_600_000_000
HOSTILE = "a\x1b[31m\u202eb\n[/c]"


@pytest.fixture
def state(store_url: str, folder: Path) -> Iterator[StateManager]:
    with StateManager(store_url, "main") as manager:
        yield manager


def commit(state: StateManager, time: int, **values: str | None) -> None:
    writes = {key: Write(None if value is None else value.encode()) for key, value in values.items()}
    state.backend.commit(CommitRequest(writes, time=time))


def test_it_counts_what_was_written(state: StateManager) -> None:
    """Against a record of all versions, through deletes, checkpoints and pruning."""
    chance = random.Random(3)
    live: dict[str, str] = {}
    past: list[tuple[str, str | None]] = []
    for _ in range(60):
        writes: dict[str, str | None] = {}
        for key in chance.sample("abcdefgh", 3):
            gone = chance.random() < 0.3
            if gone and key not in live:
                continue
            writes[key] = None if gone else str(chance.randrange(10 ** chance.randrange(1, 30)))
        if not writes:
            continue
        commit(state, 0, **writes)
        for key, value in writes.items():
            if key in live:
                past.append((key, live.pop(key)))
            if value is None:
                past.append((key, None))
            else:
                live[key] = value
    state.checkpoint("mine")
    state.checkpoint()
    found = state.stats()
    assert (found.keys, found.bytes) == (len(live), sum(map(len, live.values())))
    assert (found.versions, found.history) == (len(past), sum(len(value or "") for _, value in past))
    assert (found.checkpoints, found.automatic) == (2, 1)
    head = state.head()
    assert (found.revision, found.floor, found.newest) == (head.revision, 0, to_datetime(head.time))
    log = state.log(1000)
    assert (found.commits, found.oldest) == (len(log), log[-1].time)
    written = sum(len(value or "") for value in live.values()) + found.history
    assert sum(part.bytes for part in found.growth) == written
    assert sum(part.keys for part in found.growth) == sum(one.keys for one in log)
    ranked = sorted(live, key=lambda key: (-len(live[key]), key))
    assert [one.size for one in found.largest] == [len(live[key]) for key in ranked][:10]
    state.prune("*", keep=0)
    state.prune((), keep=5, history=True)
    after = state.stats()
    assert (after.keys, after.bytes, after.largest) == (found.keys, found.bytes, found.largest)
    assert (after.floor, after.commits) == (head.revision - 5, 5)
    assert (after.checkpoints, after.automatic) == (0, 0)
    kept = [row.size for row in state.rows() if row.revision > after.floor]
    assert sum(part.bytes for part in after.growth) >= sum(kept)
    assert after.versions < found.versions


def test_growth_is_by_the_hour_of_two_days_and_else_by_the_day(state: StateManager) -> None:
    commit(state, START, a='"1"', b='"22"')
    commit(state, START + HOUR // 3, a='"333"')
    commit(state, START + 2 * HOUR, c="4", b=None)
    found = state.stats()
    first = datetime(2026, 3, 1, 22, tzinfo=UTC)
    assert found.period == "hour"
    assert found.growth == (GrowthBucket(first, 2, 3, 12), GrowthBucket(first + timedelta(hours=2), 1, 2, 1))
    commit(state, START + 60 * HOUR, d="55")
    found = state.stats()
    day = datetime(2026, 3, 1, tzinfo=UTC)
    assert found.period == "day"
    assert [(part.start, part.bytes) for part in found.growth] == [
        (day, 12), (day + timedelta(days=1), 1), (day + timedelta(days=3), 2)
    ]  # fmt: skip


def test_the_largest_are_the_ten_largest(state: StateManager) -> None:
    sizes = {f"k{number:03}": (number * 37) % 101 for number in range(100)}
    with state.transaction() as tx:
        for key, size in sizes.items():
            tx.save(key, "x" * size)
    largest = state.stats().largest
    assert [one.size - 2 for one in largest] == sorted(sizes.values(), reverse=True)[:10]
    assert all(sizes[one.key] == one.size - 2 for one in largest)


def test_more_keys_than_a_page_are_all_counted(state: StateManager) -> None:
    for _ in range(2):
        with state.transaction() as tx:
            for number in range(11_000):
                tx.save(f"k{number:05}", number)
    found = state.stats()
    assert (found.keys, found.versions) == (11_000, 11_000)
    assert found.bytes == found.history == sum(len(str(number)) for number in range(11_000))


def test_a_namespace_that_is_not_there_is_all_zero(state: StateManager) -> None:
    found = state.stats()
    assert (found.revision, found.keys, found.bytes, found.versions, found.checkpoints) == (0, 0, 0, 0, 0)
    assert (found.oldest, found.newest, found.largest, found.growth) == (None, None, (), ())
    assert state.namespaces() == []


def test_what_it_takes_is_what_lies_there(state: StateManager, kind: str) -> None:
    state.save("k", "x" * 200_000)
    state.checkpoint("c")
    found = state.stats().space
    assert found is not None
    assert 200_000 < found < 2_000_000
    if not kind.startswith("redis"):
        folder = Path(state.backend.folder)  # type: ignore[attr-defined]
        names = [path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl", ".db") or "-wal" in path.name]
        assert found == sum(path.stat().st_size for path in names)


def test_it_reads_only(state: StateManager, store_url: str) -> None:
    state.save("k", 1)
    with StateManager(store_url, "main", read_only=True) as reader:
        assert reader.stats().keys == 1


def test_it_can_be_stopped_by_its_progress(state: StateManager) -> None:
    class Stopped(Exception):
        pass

    def stop(_text: str) -> None:
        raise Stopped

    with state.transaction() as tx:
        for number in range(20_001):
            tx.save(f"k{number:05}", number)
    with pytest.raises(Stopped):
        state.stats(progress=stop)


@pytest.mark.parametrize("server", REDIS or ["redis"])
def test_a_user_who_may_not_ask_for_memory_gets_all_the_rest(redis_server: Callable[[str], str], server: str) -> None:
    url = redis_server(server)
    with redis.Redis.from_url(url) as admin:
        admin.execute_command("ACL", "SETUSER", "shy", "on", ">pw", "~*", "&*", "+@all", "-memory")
        try:
            with StateManager(url.replace("redis://", "redis://shy:pw@") + "/0", "shy") as state:
                state.save("k", 1)
                found = state.stats()
                assert (found.keys, found.space) == (1, None)
                assert "pw" not in found.store
                state.backend.drop()
        finally:
            admin.execute_command("ACL", "DELUSER", "shy")


# --- the command ---------------------------------------------------------------------------------------------------


def run(*words: str) -> str:
    done = forked(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_gives_data_to_scripts_and_lines_to_people(folder: Path) -> None:
    with StateManager("json", "default") as state:
        state.save("long", "x" * 5000)
        state.save(HOSTILE * 40, 1)
        data: dict[str, Any] = json.loads(run("stats"))
        assert set(data) == set(Stats.__struct_fields__)
        assert (data["keys"], data["revision"], data["largest"][0]) == (2, 2, {"key": "long", "size": 5002})
        assert datetime.fromisoformat(data["newest"]) == to_datetime(state.head().time)
    shown = run("stats", "--format", "pretty")
    assert "5.0 kB  long" in shown
    assert "the last 20 and those of the last 30 days" in shown
    assert not {"\x1b", "\u202e"} & set(shown)
    assert max(map(len, shown.splitlines())) < 120


def test_all_namespaces_are_a_table(folder: Path) -> None:
    for name, keys in (("a", 1), ("b", 3)):
        with StateManager("json", name) as state:
            for number in range(keys):
                state.save(f"k{number}", number)
    rows: list[dict[str, Any]] = json.loads(run("stats", "--all", "--format", "json"))
    assert [(row["namespace"], row["keys"], row["revision"]) for row in rows] == [("a", 1, 1), ("b", 3, 3)]
    assert "namespace" in run("stats", "--all", "--format", "table")


def test_what_is_not_known_is_said_to_be(folder: Path) -> None:
    from stateview.cli.commands.maintenance import _stats_lines
    from stateview.cli.results import Record

    with StateManager("json", "main") as state:
        found = state.stats()
        from msgspec.structs import replace

        unknown = replace(found, space=None, store="redis://localhost:6379/0")
        text = "".join(render(Record(data={}, lines=_stats_lines(state, unknown)), Style("pretty")))
    assert "unknown: redis://localhost:6379/0 does not report it" in text
