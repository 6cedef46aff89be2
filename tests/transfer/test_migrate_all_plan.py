"""`migrate --all --dry-run` of a Redis reads many namespaces at once, and reports what one by one would report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import REDIS
from redis_servers import until

from stateview import Conflict, Damaged, StateManager
from stateview.backends.redis import snapshot
from stateview.manager import migrate
from stateview.sealing.keys import UserKey

MANY = 30


@pytest.fixture
def url(new_store: Any) -> str:
    return str(new_store(next(iter(REDIS), "redis")))


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url) as client:
        yield client


def fill(url: str, number: int, **options: Any) -> str:
    """Make a namespace with history, a checkpoint, an expiry and a packed version; return its name."""
    name = f"ns{number:02}"
    with StateManager(url, name, **options) as state:
        state.save("list", [f"item {one} of {number}" for one in range(60)])
        state.checkpoint("c")
        state.save("list", [f"item {one} of {number}" for one in range(61)])
        state.save("brief", number, ttl=1000)
        state.delete("brief")
        state.save("é", number)
        state.save("later", [number], ttl=1000)
    return name


def told(report: Any) -> tuple[Any, ...]:
    fields = (report.namespace, report.revision, report.keys, report.versions, report.bytes, report.digest)
    return *fields, report.checkpoints, report.encrypted, report.already, report.replaces, report.dry_run


def test_it_reports_what_one_by_one_would(
    url: str, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = UserKey.generate().printed()
    names = [fill(url, number) for number in range(8)]
    fill(url, 8, encryption_key=key)
    with StateManager(url, "ns09") as state, state.transaction() as tx:  # larger than what is read at once
        for number in range(40):
            tx.save(f"k{number}", number)
    with StateManager(url, "ns10") as state:  # a checkpoint, and no key
        state.checkpoint("only")
    names += ["ns08", "ns09", "ns10"]
    monkeypatch.setattr(snapshot, "MANY_RECORDS", 39)
    monkeypatch.setattr(snapshot, "MANY", 3)
    monkeypatch.setenv("STATEVIEW_KEY", key)
    for target in (f"sqlite:{tmp_path}/new", f"sqlite:{tmp_path}/taken"):
        if target.endswith("taken"):
            migrate(url, target, namespace="ns03")
            with StateManager(target, "ns04") as state:
                state.save("k", 1)
        options: dict[str, Any] = {"dry_run": True, "force": target.endswith("taken")}
        one_by_one = [migrate(url, target, namespace=name, **options)[0] for name in names]
        before = client.info("stats")["total_connections_received"]
        whole = migrate(url, target, all=True, **options)
        opened = client.info("stats")["total_connections_received"] - before
        assert sorted(map(told, whole)) == sorted(map(told, one_by_one))
        assert opened <= 10, "the large and the sealed namespace only are opened by themselves"
    with pytest.raises(Conflict, match="ns04"):
        migrate(url, target, all=True, dry_run=True)


def test_a_namespace_that_lacks_a_part_is_named(url: str, client: redis.Redis, tmp_path: Path) -> None:
    for number in range(3):
        fill(url, number)
    client.delete("stateview:{ns01}:history")
    with pytest.raises(Damaged, match=r"ns01.*history"):
        migrate(url, f"json:{tmp_path}/new", all=True, dry_run=True)
    client.hset("stateview:{ns00}:live", "list", "not an entry")
    with pytest.raises(Damaged, match="the entry 'list'"):
        migrate(url, f"json:{tmp_path}/new", all=True, dry_run=True)


def test_nothing_is_written_and_the_source_is_not_kept_open(url: str, client: redis.Redis, tmp_path: Path) -> None:
    for number in range(MANY):
        fill(url, number)
    known = {one["id"] for one in client.client_list()}  # the test's own, and what earlier tests of the process left
    reports = migrate(url, f"sqlite:{tmp_path}/new", all=True, dry_run=True)
    assert [report.namespace for report in reports] == [f"ns{number:02}" for number in range(MANY)]
    assert not (tmp_path / "new").exists()
    until(lambda: not {one["id"] for one in client.client_list()} - known)
