"""A key of a namespace that is gone (evicted, deleted by a tool): an error that names it, never an empty answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import permutations
from typing import Any

import pytest
import redis
from conftest import REDIS

from stateview import Damaged, HistoryPruned, RefNotFound, StateManager
from stateview.backends.protocol import CommitRequest, Write
from stateview.backends.redis.scripts.common import NAMES
from stateview.maintenance.doctor import diagnose, examined

P = "stateview:{main}:"
PARTS = [name for name in NAMES if name not in ("older", "damaged", "touched")]
UNMARKED = {"expiry", "hexpiry", "tokens"}  # parts that nothing but the flags of the head tells of
PAIRS = [("live", "index"), ("history", "hindex"), ("marks", "notes"), ("expiry", "hexpiry"), ("index", "writes")]


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    return new_store(next(iter(REDIS)))


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with redis.Redis.from_url(url) as found:
        yield found


def test_an_examined_backend_reads_no_missing_part_as_empty(url: str, client: Any) -> None:
    with StateManager(url, "main") as state:
        fill(state)
    with StateManager(url, "main", read_only=True) as reader:
        client.delete(f"{P}live")
        for _ in range(2):
            with pytest.raises(Damaged, match="live"):
                reader.backend.read(["k0"])
            assert "part-missing" in {finding.code for finding in diagnose(examined(reader.backend))}
        assert reader.doctor().revision == 10


def fill(state: StateManager) -> None:
    for number in range(5):
        state.save(f"k{number}", number)
    state.save("count", 41)
    state.save("brief", "b", ttl=3600)
    state.checkpoint("c")
    state.save("k1", "x")
    state.save("brief", "c", ttl=3600)
    state.delete("k4")


def answers(state: StateManager) -> dict[str, Callable[[], Any]]:
    """Questions that change nothing, each the first of its manager."""
    return {
        "load": lambda: state.load("k1", "DEFAULT"),
        "load of a key that is absent": lambda: state.load("k4", "DEFAULT"),
        "load at": lambda: state.load("k1", "DEFAULT", at="c"),
        "in": lambda: "k1" in state,
        "list_keys": state.list_keys,
        "list_keys at": lambda: state.list_keys(at="c"),
        "rows": lambda: [row.key for row in state.rows()],
        "rows at": lambda: [row.key for row in state.rows(at=1)],
        "count": state.count,
        "count of a range": lambda: state.count("b", "d"),
        "head": lambda: state.head().count,
        "diff": lambda: [change.key for change in state.diff("c")],
        "log": lambda: [commit.revision for commit in state.log()],
        "history": lambda: [version.revision for version in state.history("k1")],
        "checkpoints": state.list_checkpoints,
        "entries": lambda: [entry.value for entry in state.at("live").entries()],
        "export": lambda: [entry.value for entry in state.at("c").entries()],
        "compare": lambda: len(state.backend.versions_page()),
        "superseded": lambda: len(state.backend.superseded()),
        "namespaces": state.namespaces,
    }


WRITES: dict[str, tuple[Callable[[StateManager], Any], Any]] = {
    "update": (lambda state: state.update("count", lambda value: value + 1, 0), 42),
    "save expecting nothing": (lambda state: state.save("new", 1, expected=0), 11),
    "save": (lambda state: state.save("k1", 1), 11),
    "save for a while": (lambda state: state.save("brief", 1, ttl=60), 11),
    "delete": (lambda state: state.delete("k1"), True),
    "checkpoint": (lambda state: state.checkpoint("d"), "d"),
    "move a checkpoint": (lambda state: state.checkpoint("c"), "c"),
    "delete a checkpoint": (lambda state: state.delete_checkpoint("c"), None),
    "compact": (lambda state: state.backend.compact(5), None),
}


def ask(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except Damaged as error:
        assert "recover" in str(error)
        return Damaged


def forget_flags(client: Any) -> None:
    """What a release writes that knows no flags."""
    client.hset(P + "head", "touch", client.hget(P + "head", "touch").split(b" ")[0])


@pytest.mark.parametrize("part", PARTS)
def test_no_answer_is_wrong_without_a_part(url: str, client: Any, part: str) -> None:
    with StateManager(url, "main") as state:
        fill(state)
        right = {name: question() for name, question in answers(state).items()}
        client.delete(P + part)
        said = {name: ask(question) for name, question in answers(state).items()}
        assert all(said[name] in (right[name], Damaged) for name in right), said
        written = {name: ask(lambda write=write: write(state)) for name, (write, _) in WRITES.items()}
        assert Damaged in (*said.values(), *written.values())


@pytest.mark.parametrize("flags", [True, False], ids=["", "of an earlier release"])
@pytest.mark.parametrize("gone", [*((part,) for part in PARTS), *PAIRS], ids="+".join)
def test_the_first_act_that_meets_a_loss_is_refused_and_recover_ends_it(
    url: str, client: Any, gone: tuple[str, ...], flags: bool
) -> None:
    if not flags and (gone in PAIRS or UNMARKED.intersection(gone)):
        pytest.skip("only flags tell of it")
    with StateManager(url, "main") as early:
        fill(early)
        right = {name: question() for name, question in answers(early).items()}
        if not flags:
            forget_flags(client)
        client.delete(*(P + part for part in gone))
        before = {key: client.dump(key) for key in client.scan_iter()}
        for name, answer in right.items():
            with StateManager(url, "main") as fresh:
                for state in (fresh, early):
                    said = ask(answers(state)[name])
                    assert said in (answer, Damaged), (name, said)
        for name, (write, expected) in WRITES.items():
            with StateManager(url, "main") as fresh:
                said = ask(lambda: write(fresh))  # noqa: B023
            if said is Damaged:
                assert {key: client.dump(key) for key in client.scan_iter()} == before, name
                continue
            assert expected in (said, None), (name, said)
            for key, dumped in before.items():
                client.restore(key, 0, dumped, replace=True)
        with StateManager(url, "main") as fresh:
            named = {one.subject for one in fresh.doctor().findings if one.severity == "error"}
            assert named & {P + part for part in gone}
            fresh.recover()
            assert [one for one in fresh.doctor().findings if one.severity == "error"] == []
            assert fresh.recover().problems == ()
            for question in answers(fresh).values():
                with suppress(RefNotFound, HistoryPruned):  # the checkpoint, or the floor, was lost
                    question()
            assert fresh.save("after", 1) == fresh.revision


def test_a_part_that_is_gone_is_named_with_its_key(url: str, client: Any) -> None:
    with StateManager(url, "main") as state:
        fill(state)
        client.delete(P + "index")
        with pytest.raises(Damaged, match=r"stateview:\{main\}:index is gone"):
            state.list_keys()


def test_a_commit_that_does_not_meet_a_lost_part_does_not_hide_the_loss(url: str, client: Any) -> None:
    with StateManager(url, "main") as state:
        fill(state)
        client.delete(P + "marks", P + "notes")
        for number in range(3):
            assert state.save("k1", number)
        for act in (lambda: state.delete("brief"), lambda: state.save("brief", 1), lambda: state.save("k2", 1, ttl=60)):
            with suppress(Damaged):
                act()
        for act in (state.list_checkpoints, lambda: state.checkpoint("c"), lambda: state.backend.compact(9)):
            with pytest.raises(Damaged, match="marks"):
                act()


def test_a_commit_that_is_sent_again_after_its_tokens_were_lost_is_not_applied_twice(url: str, client: Any) -> None:
    with StateManager(url, "main") as state:
        request = CommitRequest({"k": Write(b"1")}, token="once")
        assert state.backend.commit(request).revision == state.backend.commit(request).revision == 1
        client.delete(P + "tokens")
        with pytest.raises(Damaged, match="tokens"):
            state.backend.commit(request)
        report = state.recover()
        assert report.ok
        assert [problem.subject for problem in report.problems] == [P + "tokens"]


def test_parts_become_empty_and_full_again_without_an_error(url: str, client: Any) -> None:
    """Every order of acts that empty a part or fill it, with the flags of each commit checked against the parts."""
    with StateManager(url, "main") as state:
        acts: list[Callable[[], Any]] = [
            lambda: state.save("k", 1), lambda: state.save("k", 2, ttl=60), lambda: state.delete("k"),
            lambda: state.checkpoint("c"), lambda: state.delete_checkpoint("c"), state.compact,
            lambda: state.save("e", 1, ttl=1e-6), lambda: state.save("k", 3), state.backend.drop,
        ]  # fmt: skip
        for one, other in permutations(acts, 2):
            for act in (one, other):
                with suppress(RefNotFound):  # no such checkpoint
                    act()
                check_flags(client)


def check_flags(client: Any) -> None:
    head = client.hgetall(P + "head")
    if not head:
        return
    _, flags, _ = head[b"touch"].replace(b"@", b" ").split(b" ", 2)
    assert len(flags) == 12
    for name, flag in zip(NAMES[1:13], flags.decode(), strict=True):
        assert client.exists(P + name) == int(flag), name


def test_trimming_keeps_the_flags(url: str, client: Any) -> None:
    with StateManager(url, "main", history=10) as state:
        for number in range(60):
            state.save(f"k{number % 3}", number, ttl=60 if number < 20 else None)
            if number % 7 == 0:
                state.delete("k1")
            check_flags(client)
        assert state.head().floor > 20
        state.compact()
        check_flags(client)
        assert state.load("k2") == 59


def test_a_list_of_namespaces_that_is_gone_is_no_empty_list(url: str, client: Any) -> None:
    with StateManager(url, "main") as state, StateManager(url, "never") as never:
        state.save("k", 1)
        client.delete("stateview:namespaces")
        with pytest.raises(Damaged, match="stateview:namespaces"):
            state.namespaces()
        state.recover()
        assert state.namespaces() == never.namespaces() == ["main"]


def test_a_record_that_is_not_what_was_written_is_named(url: str, client: Any) -> None:
    with StateManager(url, "main") as state:
        fill(state)
        client.hset(P + "notes", "c@7", "x")
        client.hset(P + "commits", "5", "x")
        with pytest.raises(Damaged, match=r"c@7.*recover"):
            state.list_checkpoints()
        with pytest.raises(Damaged, match=r"revision 5.*recover"):
            state.log()


def test_history_that_compact_empties_by_one_large_version_is_no_damage(url: str) -> None:
    with StateManager(url, "main") as state:
        state.save("k", "x" * 9_200_000)
        state.save("k", 1)
        state.compact(state.revision)
        assert [version.value for version in state.history("k")] == [1]
        state.save("k", 2)
        assert all(one.code != "part-missing" for one in state.doctor().findings)


def test_recover_tells_only_of_parts_that_were_gone_before(url: str, client: Any) -> None:
    with StateManager(url, "main") as state:
        state.save("k", 1)
        client.hset(f"{P}live", "k", "garbage")
        assert all(problem.code != "part-missing" for problem in state.recover().problems)


def test_an_exception_in_a_recovery_leaves_no_reply_to_the_next_call(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between a command and its reply."""
    with StateManager(url, "main") as state:
        state.save("a", "A")
        state.save("b", "B")
        read = redis.connection.Connection.read_response

        def interrupted(*_arguments: Any, **_options: Any) -> Any:
            raise KeyboardInterrupt

        with state.backend.open_recovery() as session:
            monkeypatch.setattr(redis.connection.Connection, "read_response", interrupted)
            with pytest.raises(KeyboardInterrupt):
                session.repair()
        monkeypatch.setattr(redis.connection.Connection, "read_response", read)
        assert state.load("b", fresh=True) == "B"
        assert state.load("a", fresh=True) == "A"


def test_namespaces_beside_the_first_save_of_another_client(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with StateManager(url, "main") as state, StateManager(url, "main") as other:
        registered = state.backend._registered  # type: ignore[attr-defined]
        looks = []

        def slow() -> set[str]:
            names: set[str] = registered()
            if not looks:
                other.save("k", 1)
            looks.append(names)
            return names

        monkeypatch.setattr(state.backend, "_registered", slow)
        assert state.namespaces() == ["main"]
        assert len(looks) == 2
