"""No replica confirms a commit: what was done is told as done, by every act and face."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis_topologies
from conftest import KINDS, REDIS
from dashboard_host import Host, run, until
from textual.pilot import Pilot

import stateview
from stateview import NotReplicated, StateManager
from stateview.backends.redis.backend import RedisBackend
from stateview.cli.results import ActionResult, Result

WAITS = "?wait_replicas=1&wait_timeout=0.02"


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    return new_store(KINDS[2])


@contextmanager
def waiting(state: StateManager) -> Iterator[None]:
    """Let the commits of an open manager wait for a replica, which the server has not."""
    backend: Any = state.backend
    before = backend.options
    backend.options = before._replace(wait_replicas=1, wait_timeout=0.02)
    try:
        yield
    finally:
        backend.options = before


def test_the_functions_of_the_module_tell_what_was_done(
    url: str, manage: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STATEVIEW_STORE", url + WAITS)
    monkeypatch.setenv("STATEVIEW_NAMESPACE", "main")
    assert stateview.save_state("a", 1) is True
    assert "'a' was saved: " in capfd.readouterr().err
    with pytest.raises(NotReplicated) as told:
        stateview.checkpoint()
    (name,) = manage(url, "main").list_checkpoints()
    assert f"Checkpoint {name!r} was made" in str(told.value)
    assert stateview.save_state("a", 2) is True
    assert stateview.restore_checkpoint(name) is True
    assert f"{name!r} was restored: " in capfd.readouterr().err
    assert stateview.load_state("a") == 1


def test_what_an_act_of_several_commits_has_done_counts_the_last(url: str, manage: Any) -> None:
    state = manage(url, "main")
    state.checkpoint("c")
    with waiting(state):
        with pytest.raises(NotReplicated, match="Saved so far: 2 keys, up to revision 1"):
            state.save_many({"a": 1, "b": 2, "c": 3}, batch_size=2)
        with pytest.raises(NotReplicated, match="Checkpoints deleted so far: 1"):
            state.delete_checkpoints("c")
    assert (state.list_keys(), state.list_checkpoints()) == (["a", "b"], [])


def test_a_lock_that_a_failover_may_give_to_another_is_not_held(url: str, manage: Any) -> None:
    state = manage(url, "main")
    with waiting(state), pytest.raises(NotReplicated, match="The lock was given back"), state.lock("deploy"):
        raise AssertionError("the block is not entered")
    assert state.list_keys() == []
    with manage(url, "main").lock("deploy"):
        pass


def test_a_step_that_was_done_is_not_done_again(url: str, manage: Any) -> None:
    state, calls = manage(url, "main"), []
    with pytest.raises(NotReplicated), state.run("nightly") as first, waiting(state):
        first.step("fetch", lambda: calls.append("fetch"))
    assert state.load("run/nightly/fetch")["state"] == "done"
    with state.run("nightly") as second:
        with waiting(state), pytest.raises(NotReplicated):
            calls.extend(second.each("send", ["a", "b"]))
        with pytest.raises(NotReplicated), waiting(state):
            for tx in second.step("publish"):
                tx.save("published", True)
        second.step("fetch", lambda: calls.append("fetch"))
    assert state.load("run/nightly/publish")["state"] == "done" and state.load("published") is True
    with state.run("nightly") as third:
        calls.extend(third.each("send", ["a", "b"]))
    assert calls == ["fetch", "a", "b"] and state.load("run/nightly")["state"] == "done"


def test_a_try_is_followed_by_the_next_though_no_replica_confirms_that_it_failed(url: str, manage: Any) -> None:
    state, calls = manage(url, "main"), []

    def fail_once() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError

    with pytest.raises(NotReplicated), state.run("nightly") as work, waiting(state):
        work.step("divide", fail_once, retries=1, backoff=0.01)
    assert len(calls) == 2 and state.load("run/nightly/divide")["state"] == "done"


def test_a_copy_that_no_replica_confirms_is_in_place(url: str, manage: Any, tmp_path: Path) -> None:
    source = manage(f"sqlite:{tmp_path}", "main")
    source.save_many({"a": 1, "b": 2})
    with pytest.raises(NotReplicated, match=r"revision 1 .*The copy is in place in redis") as told:
        source.migrate_to(url + WAITS)
    assert "resume" not in str(told.value)
    assert source.migrate_to(url + WAITS).already
    source.save("c", 3)
    manage(url, "main").save("theirs", 1)
    with pytest.raises(NotReplicated, match="The copy is in place in redis"):
        source.migrate_to(url + WAITS, force=True)
    assert manage(url, "main").list_keys() == ["a", "b", "c"]
    imported = manage(url + WAITS, "imported")
    for data in (b'{"k": 1}', b'{"k": 2}'):  # into a new namespace, and into one that exists
        with pytest.raises(NotReplicated):
            imported.import_from(io.BytesIO(data), how="merge")
    assert imported.load("k") == 2


def test_a_copy_whose_last_reply_was_lost_waits_for_a_replica_too(
    manage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = manage(f"sqlite:{tmp_path}", "main")
    source.save("a", 1)
    real = RedisBackend._with_retry

    def lose_reply(self: RedisBackend, act: Callable[[Any], Any], *more: Any, **options: Any) -> Any:
        found = real(self, act, *more, **options)
        if act.__qualname__ != "RedisStagedImport._rename.<locals>.act":
            return found
        self._connect().connection_pool.disconnect()
        return real(self, act, *more, **options)

    monkeypatch.setattr(RedisBackend, "_with_retry", lose_reply)
    with redis_topologies.pair(REDIS[max(REDIS)]) as servers:  # WAIT of Redis 7.0 is stricter
        servers.servers[1].signal(signal.SIGSTOP)
        with pytest.raises(NotReplicated, match="0 of 1 replicas"):
            source.migrate_to(servers.url + WAITS)
        servers.servers[1].signal(signal.SIGCONT)


def test_the_dashboard_goes_on_with_the_act_and_warns(url: str, manage: Any) -> None:
    results: list[Result] = []

    async def flow(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, Host)
        app.acts.run(["save", "k", "1"], then=results.append)
        await until(pilot, lambda: results and any("0 of 1 replicas" in text for text in app.told()))
        assert isinstance(results[0], ActionResult) and results[0].data["revision"] == 1
        assert app.acts.done[0].succeeded and app.acts.was_made_here(app.manager.log(1)[0])

    run(manage(url + WAITS, "work"), flow)
