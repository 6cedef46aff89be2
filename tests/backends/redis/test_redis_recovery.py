"""Damage of a Redis namespace: `recover()` names what is lost, keeps what was there, and leaves a sound namespace."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis
from conftest import REDIS
from redis_pages import unlist

from stateview import Damaged, StateException, StateManager
from stateview.backends.redis import recovery as redis_recovery
from stateview.cli.program import main
from stateview.model import RecoveryReport

P = "stateview:{main}:"
REGISTRY = "stateview:namespaces"


@pytest.fixture(params=list(REDIS))
def url(request: pytest.FixtureRequest, new_store: Callable[[str], str]) -> str:
    return new_store(request.param)


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with redis.Redis.from_url(url) as found:
        yield found


@pytest.fixture
def state(url: str) -> Iterator[StateManager]:
    """Revisions 1 to 8: `a` and `b` were changed, `gone` deleted, `still` written once."""
    with StateManager(url, "main") as manager:
        for key in ("a", "b", "gone", "still"):
            manager.save(key, f"{key} 1")
        manager.checkpoint("one")
        manager.save("a", "a 5")
        manager.save("b", "b 6", ttl=3600)
        manager.checkpoint("two")
        manager.delete("gone")
        manager.save("a", "a 8")
        yield manager


def field(key: str, revision: int) -> bytes:
    return key.encode() + b"\0%016d" % revision


def contents(state: StateManager) -> dict[str, dict[str, Any]]:
    refs = ["live", *(mark.ref for mark in state.checkpoints())]
    return {ref: {one.key: one.value for one in state.at(ref).entries()} for ref in refs}


def parts(*names: str) -> list[str]:
    return [P + name for name in names]


def lost(report: RecoveryReport) -> str:
    return "\n".join(f"{one.subject}: {one.found}; {one.done}" for one in report.problems if not one.mended)


def check(url: str, state: StateManager, client: Any, damage: Callable[[Any], Any]) -> RecoveryReport:
    """Damage it, and recover; every difference to what was there is said, and nothing is left to be mended."""
    right = contents(state)
    damage(client)
    with StateManager(url, "main") as fresh:
        examined = fresh.doctor()
        assert not examined.ok
        assert all("recover" in one.remedy for one in examined.findings if one.severity == "error"), examined
        report = fresh.recover()
        said = lost(report)
        after = contents(fresh)
        for ref, content in right.items():
            if ref not in after:
                assert f"checkpoint {ref!r}" in said, (ref, report)
                continue
            for key in content.keys() | after[ref].keys():
                if after[ref].get(key) != content.get(key):
                    assert repr(key) in said, (ref, key, report)
                    assert ref == "live" or f"checkpoint {ref!r}" in said, (ref, report)
        assert [one for one in fresh.doctor().findings if one.severity == "error"] == []
        assert fresh.recover().problems == ()
        assert fresh.save("after", 1) == fresh.revision > 8
    for name in report.kept:
        assert client.exists(name)
    return report


def drop_key(c: Any) -> None:
    c.hdel(P + "live", "still")
    c.zrem(P + "index", "still")


def drop_version(c: Any) -> None:
    c.hdel(P + "history", field("a", 5))
    unlist(c, P + "hindex", field("a", 5))


# What is done, what the report names as lost, and which lists it keeps as they were.
LOSSES: dict[str, tuple[Callable[[Any], Any], list[str], list[str]]] = {
    "an entry": (lambda c: c.hdel(P + "live", "still"), ["'still'", "checkpoint 'one'", "checkpoint 'two'"], ["index"]),
    "an entry that expires": (lambda c: c.hdel(P + "live", "b"), ["'b'", "checkpoint 'two'"], ["index", "expiry"]),
    "all entries": (lambda c: c.delete(P + "live"), ["key 'a'", "'b'", "'still'", "'two'"], ["index", "expiry"]),
    "entries, and their lists": (lambda c: c.delete(*parts("live", "index", "expiry")), ["'still': revision 4"], []),
    "an entry, listed nowhere": (drop_key, ["'still': revision 4", "checkpoint 'one'"], []),
    "entries that nothing tells when": (lambda c: c.delete(P + "live", P + "writes"), ["'still'", "'two'"], ["index"]),
    "the first version": (lambda c: c.hdel(P + "history", field("a", 1)), ["'a' of revision 1", "'one'"], []),
    "a version": (lambda c: c.hdel(P + "history", field("a", 5)), ["'a' of revision 5", "checkpoint 'two'"], []),
    "a version, not listed": (drop_version, ["'a' of revision 5", "checkpoint 'two'"], []),
    "the history": (lambda c: c.delete(P + "history"), ["'a' of revision 5", "'gone' of revision 3", "'one'"], []),
    "the history and its index": (lambda c: c.delete(P + "history", P + "hindex"), ["'a' of revision 1", "'one'"], []),
    "the live state's type": (lambda c: c.set(P + "live", "x"), ["'still'", "checkpoint 'two'"], ["live", "index"]),
    "all but the log": (lambda c: c.delete(*parts("head", "live", "index", "expiry")), ["'still'"], []),
}  # fmt: skip


@pytest.mark.parametrize("what", LOSSES)
def test_what_is_lost_is_named_and_what_told_of_it_is_kept(
    url: str, state: StateManager, client: Any, what: str
) -> None:
    damage, named, kept = LOSSES[what]
    report = check(url, state, client, damage)
    assert not report.ok
    for words in named:
        assert words in lost(report)
    assert {name.rpartition(":")[2] for name in report.kept} >= set(kept)
    assert all("damaged" in name for name in report.kept)


MENDED: dict[str, Callable[[Any], Any]] = {
    "a standing delete": lambda c: c.hdel(P + "history", field("gone", 7)),
    "a head without its revision": lambda c: c.hdel(P + "head", "revision"),
    "a head that is behind": lambda c: c.hset(P + "head", "revision", "3"),
    "what changed": lambda c: c.delete(P + "writes"),
    "the lists": lambda c: c.delete(P + "index", P + "expiry", P + "hindex"),
    "a registry that is a list": lambda c: (c.delete(REGISTRY), c.rpush(REGISTRY, "x")),
}


@pytest.mark.parametrize("what", MENDED)
def test_what_the_rest_tells_is_mended(url: str, state: StateManager, client: Any, what: str) -> None:
    right = contents(state)
    report = check(url, state, client, MENDED[what])
    assert report.ok, report
    state.undo()
    assert contents(state) == right


def test_an_older_copy_of_the_entries_is_not_taken_for_the_newest(url: str, state: StateManager, client: Any) -> None:
    older = client.dump(P + "live")
    state.save("a", "a 9")
    state.delete("still")
    report = check(url, state, client, lambda c: c.restore(P + "live", 0, older, replace=True))
    assert "'a'" in lost(report)
    assert client.hget(P + "damaged", "a").endswith(b'"a 8"')
    assert state.list_keys() == ["after", "b"]


def test_what_only_the_log_tells_of_is_said_to_be_lost(url: str, state: StateManager, client: Any) -> None:
    drop_key(client)
    assert unlist(client, P + "writes", b"%016dstill" % 4)
    report = state.recover()
    assert "1 key is left without a name, written by revision 4" in lost(report)
    assert client.hget(P + "damaged", b"\0commits\x004").endswith(b'"save still","",1,0,0,0]')
    assert next(one for one in state.log() if one.revision == 4).keys == 0
    assert state.doctor().ok
    assert state.recover().problems == ()


@pytest.mark.parametrize("floor", [False, True], ids=["whole history", "history forgotten"])
def test_each_single_thing_that_is_missing_is_mended_or_named(
    url: str, state: StateManager, client: Any, floor: bool
) -> None:
    if floor:
        with StateManager(url, "main", history=3) as brief:
            for number in range(4):
                brief.save("a", number)
            brief.delete("b")
            brief.save("b", "again")
            assert brief.backend.head().floor > 8
    before = {key: client.dump(key) for key in client.scan_iter()}
    harmless = [(P + "head", b"touch"), (P + "head", b"format"), (P + "touched", b"format")]
    damages: list[tuple[str, bytes]] = []
    for name in map(bytes.decode, before):
        kind = client.type(name)
        members = client.hkeys(name) if kind == b"hash" else client.zrange(name, 0, -1) if kind == b"zset" else []
        damages += [(name, one) for one in members if name != P + "tokens" and (name, one) not in harmless]
    assert len(damages) > 30
    for name, member in damages:
        client.flushdb()
        for key, dumped in before.items():
            client.restore(key, 0, dumped)
        take = client.hdel if client.type(name) == b"hash" else client.zrem
        check(url, state, client, partial(lambda take, name, member, _: take(name, member), take, name, member))


def test_the_command_fails_where_entries_are_lost(
    url: str, state: StateManager, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    client.hdel(P + "live", "still")
    assert main(["-s", url, "-n", "main", "recover"]) == 3
    assert "'still'" in capsys.readouterr().out


def test_of_many_that_are_lost_some_are_named_and_the_rest_counted(url: str, client: Any) -> None:
    with StateManager(url, "main") as state:
        with state.transaction() as tx:
            for number in range(2500):
                tx.save(f"k{number:04}", number)
        state.checkpoint("c")
        client.delete(P + "live")
        report = state.recover()
        assert "the values of 2,500 keys" in lost(report)
        assert "'k0009', and 2,490 more" in lost(report)
        assert len(lost(report)) < 1000
        assert client.zcard(report.kept[0]) == 2500
        assert state.doctor().ok


@pytest.mark.parametrize("name", ["revision", "floor", "lineage"])
def test_a_head_that_lacks_something_is_an_error_of_every_act(
    url: str, state: StateManager, client: Any, name: str
) -> None:
    client.hdel(P + "head", name)
    before = {key: client.dump(key) for key in client.scan_iter()}
    with StateManager(url, "main") as fresh:
        acts: list[Callable[[], Any]] = [
            fresh.list_keys, fresh.list_checkpoints, fresh.log, fresh.rows, lambda: fresh.load("a"),
            lambda: fresh.load("a", at="one"), lambda: fresh.history("a"), lambda: fresh.save("a", 1),
            lambda: fresh.checkpoint("c"), lambda: fresh.revision, lambda: fresh.diff("one"), fresh.stats,
        ]  # fmt: skip
        for act in acts:
            with pytest.raises(Damaged, match="recover"):
                act()
    if name != "floor":  # what was open before meets it as well
        with pytest.raises(Damaged, match="recover"):
            state.save("a", 1)
    assert {key: client.dump(key) for key in client.scan_iter()} == before


def test_a_namespace_without_its_head_is_no_empty_one(url: str, state: StateManager, client: Any) -> None:
    client.delete(P + "head", P + "live", P + "index", P + "expiry")
    with StateManager(url, "main") as fresh:
        for act in (fresh.list_keys, lambda: fresh.save("a", 1)):
            with pytest.raises(Damaged, match="recover"):
                act()
    with pytest.raises(Damaged, match="recover"):
        state.save("a", 1)


def test_a_registry_of_another_type_is_named_and_made_anew(url: str, state: StateManager, client: Any) -> None:
    with StateManager(url, "other") as other:
        other.save("k", 1)
    client.delete(REGISTRY)
    client.rpush(REGISTRY, "mine")
    with StateManager(url, "new") as new:
        for act in (new.namespaces, lambda: new.save("k", 1)):
            with pytest.raises(Damaged, match=f"{REGISTRY}.*recover"):
                act()
    errors = [one for one in state.doctor().findings if one.severity == "error"]
    assert [one.subject for one in errors] == [REGISTRY]
    report = state.recover()
    assert report.ok
    assert client.lrange(report.kept[0], 0, -1) == [b"mine"]
    assert state.namespaces() == ["main", "other"]
    assert state.doctor().ok


def test_originals_of_one_second_are_all_kept(
    url: str, state: StateManager, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_recovery.time, "strftime", lambda *_: "20260101T000000Z")
    for value in ("first", "second"):
        client.delete(P + "tokens")
        client.set(P + "tokens", value)
        state.recover()
    kept = sorted(client.keys(P + "damaged-*"))
    assert [client.get(name) for name in kept] == [b"first", b"second"]


def test_what_was_saved_again_meanwhile_is_not_deleted(
    url: str, state: StateManager, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.hdel(P + "live", "still", "a")
    delete = redis_recovery.RedisRecovery._delete

    def save_first(self: Any, keys: list[str]) -> None:
        with StateManager(url, "main") as other:
            other.save("still", "new")
        delete(self, keys)

    monkeypatch.setattr(redis_recovery.RedisRecovery, "_delete", save_first)
    assert not state.recover().ok
    assert state.load("still") == "new"
    assert "a" not in state.list_keys()
    assert state.doctor().ok


def test_a_migration_that_meets_a_registry_of_another_type_leaves_nothing_half_done(
    url: str, client: Any, new_store: Callable[[str], str]
) -> None:
    client.rpush(REGISTRY, "x")
    with StateManager(new_store("sqlite"), "moved") as source:
        source.save("k", 1)
        with pytest.raises(StateException):
            source.migrate_to(url)
        assert not [key for key in client.scan_iter("stateview:{moved}:*") if b":migrating:" not in key]
        client.delete(REGISTRY)
        assert source.migrate_to(url).resumed
    assert StateManager(url, "moved").load("k") == 1
