"""A server that lacks commits which a manager knows: told once, by every act, and never taken for the same state."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import redis_topologies
from conftest import REDIS
from redis_proxy import RedisProxy
from redis_servers import running, until

from stateview import Conflict, KeyNotFound, LockLost, NotReplicated, Revision, Rewound, StateManager
from stateview.cli.exit_codes import ExitCode, exit_code
from stateview.cli.program import main
from stateview.model import to_datetime


@pytest.fixture(params=REDIS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(server: str, new_store: Callable[[str], str]) -> str:
    return new_store(server)


class Past:
    """The namespace `main` as it is now, to put back later: what a failover to a replica that lags does."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._dumps = {key: self._client.dump(key) for key in self._client.keys("stateview:{main}:*")}

    def put_back(self) -> None:
        self.put(self._client)
        self._client.close()

    def put(self, client: redis.Redis) -> None:
        pipe = client.pipeline()
        for key in client.keys("stateview:{main}:*"):
            pipe.delete(key)
        for key, dump in self._dumps.items():
            pipe.restore(key, 0, dump)
        pipe.execute()


@pytest.fixture
def rewind(url: str, manage: Any) -> Callable[[], None]:
    """A namespace of 6 commits and a checkpoint `c`. The call takes the commits from revision 4 on away."""
    state = manage(url, "main")
    for number in range(3):
        state.save("k", number)
    state.checkpoint("c")
    past = Past(url)
    for number in range(3, 6):
        state.save("k", number)
    return past.put_back


ACTS: dict[str, Callable[[StateManager], Any]] = {
    "load": lambda state: state.load("k"),
    "fresh load": lambda state: state.load("k", fresh=True),
    "absent key": lambda state: state.load("absent", None),
    "save": lambda state: state.save("k", 9),
    "delete": lambda state: state.delete("k"),
    "update": lambda state: state.update("n", lambda n: n + 1, default=0),
    "checkpoint": lambda state: state.checkpoint("d"),
    "revision": lambda state: state.revision,
    "list_keys": lambda state: state.list_keys(),
    "list_checkpoints": lambda state: state.list_checkpoints(),
    "diff": lambda state: list(state.diff("c")),
    "log": lambda state: state.log(),
    "history": lambda state: state.history("k"),
    "restore": lambda state: state.restore_checkpoint("c"),
    "undo": lambda state: state.undo(),
    "watch": lambda state: next(iter(state.watch(timeout=5))),
}


@pytest.mark.parametrize("act", ACTS)
def test_each_act_says_once_that_commits_are_lost_and_changes_nothing(
    url: str, manage: Any, rewind: Callable[[], None], act: str
) -> None:
    state = manage(url, "main")
    assert state.revision == 6
    rewind()
    with pytest.raises(Rewound) as caught:
        ACTS[act](state)
    assert (caught.value.lost_from, caught.value.revision) == (6, 3)
    assert exit_code(caught.value) == ExitCode.BACKEND
    with manage(url, "main") as other:
        assert (other.revision, other.load("k"), other.list_checkpoints()) == (3, 2, ["c"])
    if act == "watch":
        threading.Timer(0.2, lambda: manage(url, "main").save("late", 1)).start()
    ACTS[act](state)


def test_the_first_lost_revision_is_the_first_that_this_manager_knew(url: str, manage: Any) -> None:
    state = manage(url, "main")
    for number in range(5):
        state.save("k", number)
    past = Past(url)
    for number in range(5):
        state.save("k", number)
    past.put_back()
    with pytest.raises(Rewound, match="from revision 6 on, and is at revision 5") as caught:
        state.load("k", fresh=True)
    assert (caught.value.lost_from, caught.value.revision) == (6, 5)


@pytest.mark.parametrize("later", [3, 5])
def test_a_revision_that_is_used_again_is_another(
    url: str, manage: Any, rewind: Callable[[], None], later: int
) -> None:
    state, other = manage(url, "main"), manage(url, "main")
    assert state.entry("k").revision == 6
    rewind()
    for number in range(later):  # the last of three has the revision 6 again; of five, a later one
        other.save("k", f"other {number}")
    with pytest.raises(Rewound):
        state.save("k", "mine", expected=6)
    for _ in range(2):
        with pytest.raises(Conflict, match="was lost"):
            state.save("k", "mine", expected=6)
    assert state.load("k") == f"other {later - 1}"
    assert state.save("k", "mine", expected=state.entry("k").revision) == 4 + later


BETWEEN: dict[str, Callable[[StateManager], Any]] = {
    "revision": lambda state: state.revision,
    "log": lambda state: state.log(),
    "list_keys": lambda state: state.list_keys(),
    "load of another key": lambda state: state.load("absent", None),
    "save of another key": lambda state: state.save("z", 1),
}


@pytest.mark.parametrize("kind", [Revision, int])
@pytest.mark.parametrize("act", BETWEEN)
def test_a_lost_revision_stays_lost_whatever_else_was_asked(
    url: str, manage: Any, rewind: Callable[[], None], act: str, kind: type[int]
) -> None:
    state, other = manage(url, "main"), manage(url, "main")
    read = state.entry("k").revision
    assert type(read) is Revision
    rewind()
    for number in range(3):
        other.save("k", f"other {number}")
    with pytest.raises(Rewound):
        state.load("k", fresh=True)
    BETWEEN[act](state)
    with pytest.raises(Conflict, match=r"at another commit of revision 6|was lost"):
        state.save("k", "mine", expected=read if kind is Revision else int(read))
    assert state.load("k", fresh=True) == "other 2"
    if kind is Revision:  # it knows its time, so nothing makes another commit of it
        with pytest.raises(Conflict, match="at another commit of revision"):
            state.save("k", "mine", expected=read)
        assert pickle.loads(pickle.dumps(read)).time == read.time
        given = f"6@{to_datetime(read.time).isoformat()}"
        for words in (["save", "k", "mine"], ["delete", "k", "--dry-run"], ["expire", "k", "1h"]):
            assert main(["-s", url, "-n", "main", *words, "--expected", given]) == ExitCode.CONFLICT
    assert state.save("k", "mine", expected=state.entry("k").revision) > 6


def test_undo_and_a_lock_know_another_commit_of_their_revision(url: str, manage: Any) -> None:
    state, other = manage(url, "main"), manage(url, "main")
    state.save("k", 1)
    past = Past(url)
    state.save("k", 2)
    live = state.revision
    past.put_back()
    other.save("x", "other")
    with pytest.raises(Rewound):
        state.load("k", fresh=True)
    state.list_keys()
    with pytest.raises(Conflict, match="was lost"):
        state.undo(expected=live)
    assert other.load("x") == "other"
    past = Past(url)
    mine = state.lock("job", ttl=0.6)
    mine.acquire()
    past.put_back()
    theirs = other.lock("job", ttl=30)
    with suppress(Rewound):
        other.revision
    theirs.acquire()
    until(lambda: mine.is_lost)
    assert not theirs.is_lost
    theirs.release()
    with pytest.raises(LockLost):
        mine.release()


def test_a_revision_with_its_time_serves_after_writes_that_keep_the_time_of_an_entry(url: str, manage: Any) -> None:
    state = manage(url, "main")
    state.save("k", 1)
    state.checkpoint("c")
    state.save("k", 2)
    state.restore_checkpoint("c")
    assert state.save("k", 3, expected=state.revision) == state.entry("k").revision
    state.restore_checkpoint("c")
    assert state.save("k", 4, expected=state.entry("k").revision) == state.revision
    state.expire("k", 100)
    assert state.save("k", 5, expected=state.revision)
    state.rename("k", "m")
    assert state.save("m", 6, expected=state.revision)
    assert state.undo(expected=state.revision)


def test_a_transaction_that_began_before_does_not_end_after(url: str, manage: Any, rewind: Callable[[], None]) -> None:
    state, other = manage(url, "main"), manage(url, "main")
    with pytest.raises(Conflict, match="not at revision 6 as expected"), state.transaction() as tx:
        assert tx.load("k") == 5
        tx.save("k", 6)
        rewind()
        for number in range(3):
            other.save("other", number)
        with pytest.raises(Rewound):
            state.load("k", fresh=True)
    assert state.load("k") == 2


def test_an_emptied_server_counts_from_zero_only_after_it_is_said(url: str, manage: Any) -> None:
    state = manage(url, "main")
    for _ in range(3):
        state.update("n", lambda n: n + 1, default=0)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    with pytest.raises(Rewound, match="is gone") as caught:
        state.update("n", lambda n: n + 1, default=0)
    assert (caught.value.lost_from, caught.value.revision) == (1, 0)
    assert state.update("n", lambda n: n + 1, default=0) == 1


def test_a_namespace_that_another_made_again_is_another(url: str, manage: Any) -> None:
    state, other = manage(url, "main"), manage(url, "main")
    state.save("k", 1)
    other.drop()
    other.save("k", 2)
    with pytest.raises(Rewound, match="made again"):
        state.load("k", fresh=True)
    assert state.load("k") == 2


def test_a_former_primary_behind_an_open_connection_is_no_loss(
    server: str, url: str, manage: Any, rewind: Callable[[], None]
) -> None:
    """The address leads to the present primary by now: a new connection finds every commit that the manager knows."""
    rewind()
    past, present = Past(url), manage(url, "main")
    for number in range(3):
        present.save("k", f"new {number}")
    newest = present.backend._link.answers.newest
    with running(REDIS[server]) as place, RedisProxy(url) as proxy:
        former = f"{place}/{url.rpartition('/')[2]}"
        with redis.Redis.from_url(former) as client:
            past.put(client)
        proxy.lead_to(former)
        for act in (lambda one: one.load("k"), lambda one: one.save("k", "saved") and one.load("k")):
            state = manage(proxy.url, "main", consistency="strict")
            proxy.lead_to(former)
            assert state.load("k") == 2
            proxy.lead_to(url)
            state.backend._link.answers.add(newest.text)  # as if it had been answered by the present primary
            assert act(state) in ("new 2", "saved")


def test_own_acts_that_replace_the_namespace_are_no_loss(url: str, manage: Any, tmp_path: Any) -> None:
    state = manage(url, "main")
    for number in range(3):
        state.save("k", number)
    state.export(tmp_path / "export.jsonl")
    state.save("k", 3)
    assert state.recover().ok
    assert state.load("k", fresh=True) == 3
    state.import_from(tmp_path / "export.jsonl", how="replace", force=True)
    assert state.load("k", fresh=True) == 2
    state.drop()
    with pytest.raises(KeyNotFound):
        state.load("k")
    assert state.save("k", 1) == 1


def test_threads_of_a_manager_are_told_once_in_all_or_once_each(
    url: str, manage: Any, rewind: Callable[[], None]
) -> None:
    state = manage(url, "main")
    assert state.revision == 6
    rewind()
    told = []

    def work() -> None:
        for number in range(20):
            try:
                state.save(threading.current_thread().name, number)
            except Rewound as error:
                told.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(told) <= 4
    assert state.revision == 3 + 80 - len(told)


def test_a_lock_whose_renewal_meets_the_loss_is_lost(url: str, manage: Any, rewind: Callable[[], None]) -> None:
    """The thread that renews it is the only caller that hears of the loss."""
    state = manage(url, "main")
    past = Past(url)
    with pytest.raises(LockLost, match=r"is in doubt: .* lost commits"), state.lock("deploy", ttl=0.3) as lock:
        state.save("k", "under the lock")
        past.put_back()
        until(lambda: lock.is_lost)
        state.save("k", "after the loss")
    assert state.load("k") == 5


def test_a_commit_says_how_many_replicas_confirmed_it(server: str, url: str, manage: Any, tmp_path: Path) -> None:
    state = manage(url, "main", wait_replicas=1, wait_timeout=0.05)
    with pytest.raises(NotReplicated, match=r"0 of 1 replicas confirmed revision 1 within 0\.05 s") as caught:
        state.save("k", 1)
    assert (caught.value.revision, caught.value.replicas) == (1, 0)
    assert exit_code(caught.value) == ExitCode.BACKEND
    assert state.load("k") == 1
    by_url = manage(f"{url}?wait_replicas=1&wait_timeout=0.05", "main")
    with pytest.raises(NotReplicated):
        by_url.checkpoint("c")
    assert by_url.list_checkpoints() == ["c"]
    assert manage(f"{url}?wait_replicas=1", "main", wait_replicas=0).save("k", 2) == 2
    with redis_topologies.pair(REDIS[server]) as servers:
        state = manage(servers.url, "main", wait_replicas=1, wait_timeout=30)
        assert state.save("k", 3) == 1
        assert state.migrate_to(f"json:{tmp_path}").keys == 1
        again = servers.url.replace("/0", "/1") + "?wait_replicas=1&wait_timeout=30"
        assert manage(f"json:{tmp_path}", "main").migrate_to(again).keys == 1


def test_a_strict_manager_asks_the_server_for_each_load(url: str, manage: Any) -> None:
    strict = manage(f"{url}?consistency=strict", "main")
    strict.save("k", 1)
    with redis.Redis.from_url(url) as client:
        before = client.info("commandstats")["cmdstat_evalsha_ro"]["calls"]
        assert [strict.load("k") for _ in range(20)] == [1] * 20
        assert client.info("commandstats")["cmdstat_evalsha_ro"]["calls"] - before == 20
