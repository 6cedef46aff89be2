"""Who did what, and when: the filters of log, the authors in history, the commit that deleted a value."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stateview import Commit, KeyNotFound, RefNotFound, StateManager
from stateview.cli.definition import COMMANDS, GLOBALS
from stateview.maintenance.history import CommitFilter, find_commits
from stateview.states.matching.patterns import Selection
from stateview.states.moments import bounds

pytestmark = pytest.mark.usefixtures("folder")


def revisions(commits: list[Commit]) -> list[int]:
    return [commit.revision for commit in commits]


@pytest.fixture
def state(store_url: str) -> Iterator[StateManager]:
    """Eight commits by two authors and nobody."""
    with StateManager(store_url, "w", author="") as state:
        ann, bob = (StateManager(store_url, "w", author=name) for name in ("ann", "bob"))
        ann.save("a", 1, reason="build one")  # 1
        bob.save("task:1", 1)
        bob.save("task:2", 1, reason="build two")  # 3
        state.checkpoint("half")
        with ann.transaction("both") as transaction:  # 4
            transaction.save("a", 2)
            transaction.save("task:1", 2)
        state.save("other", 1)
        bob.delete("a")  # 6
        ann.save("a[0]", 1)
        ann.save("a0", 1)  # 8
        yield state
        ann.close()
        bob.close()


def test_the_filters_of_the_log(state: StateManager) -> None:
    log = state.log
    wanted: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [8, 7, 6, 5, 4, 3, 2, 1]),
        ({"by": "ann"}, [8, 7, 4, 1]), ({"by": "an"}, []), ({"by": ["a*", "bob"]}, [8, 7, 6, 4, 3, 2, 1]),
        ({"by": ""}, [5]), ({"by": "*"}, [8, 7, 6, 5, 4, 3, 2, 1]),
        ({"key": "a"}, [6, 4, 1]), ({"key": ["a", "other", "a"]}, [6, 5, 4, 1]), ({"key": "task:*"}, [4, 3, 2]),
        ({"key": ["task:*", "a"]}, [6, 4, 3, 2, 1]), ({"key": "a[0]"}, [7]), ({"key": "none"}, []), ({"key": []}, []),
        ({"since": "half"}, [8, 7, 6, 5, 4]), ({"since": 6}, [8, 7]), ({"since": "live~2"}, [8, 7]),
        ({"until": "half"}, [3, 2, 1]), ({"until": 0}, []), ({"since": 2, "until": "half"}, [3]),
        ({"since": "live"}, []), ({"until": 3, "below": 3}, [2, 1]),
        ({"grep": "build"}, [3, 1]), ({"grep": "BUILD"}, []), ({"by": "bob", "key": "task:1", "grep": "save"}, [2]),
        ({"by": "ann", "limit": 2}, [8, 7]), ({"by": "ann", "limit": 2, "below": 7}, [4, 1]),
        ({"since": "1h"}, [8, 7, 6, 5, 4, 3, 2, 1]), ({"until": timedelta(hours=1)}, []),
        ({"since": datetime.now(UTC) + timedelta(hours=1)}, []), ({"until": "2020-01-01"}, []),
        ({"since": "2020-01-01T10:00", "limit": 1}, [8]),
    ]  # fmt: skip
    for filters, numbers in wanted:
        assert revisions(log(**filters)) == numbers, filters
    moment = log(1, below=5)[0].time
    assert revisions(log(since=moment)) == [8, 7, 6, 5, 4] and revisions(log(until=moment)) == [4, 3, 2, 1]
    assert revisions(log(since=moment.isoformat(), key="a")) == [6, 4]
    with pytest.raises(RefNotFound, match=r"'hlaf'.*half"):
        log(since="hlaf")
    assert {number: commit.author for number, commit in state.commits([1, 6, 99, 6, 2**63 - 1]).items()} == {
        1: "ann",
        6: "bob",
    }


def test_the_filters_of_history(state: StateManager) -> None:
    moment = {commit.revision: commit.time for commit in state.log()}
    wanted: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [6, 4, 1]), ({"by": "ann"}, [4, 1]), ({"by": ["b*"]}, [6]), ({"by": ""}, []), ({"grep": "b"}, [4, 1]),
        ({"since": "half"}, [6, 4]), ({"since": 4}, [6]), ({"until": "half"}, [1]), ({"until": 4}, [4, 1]),
        ({"until": 0}, []), ({"since": moment[4]}, [6, 4]), ({"until": moment[4]}, [4, 1]),
        ({"since": "1h"}, [6, 4, 1]), ({"since": f"@{moment[6].isoformat()}"}, [6]),
        ({"until": moment[6] - timedelta(microseconds=1)}, [4, 1]),
        ({"until": "@1h"}, []), ({"since": "2999-01-01"}, []), ({"until": "2999-01-01"}, [6, 4, 1]),
        ({"below": 6}, [4, 1]), ({"below": 6, "limit": 1}, [4]), ({"limit": 1, "by": "ann", "below": 4}, [1]),
        ({"since": 1, "until": 5, "by": "ann", "grep": "both"}, [4]),
    ]  # fmt: skip
    for filters, numbers in wanted:
        assert [entry.revision for entry in state.history("a", **filters)] == numbers, filters
    assert [entry.revision for entry in state.history("a", 1, until=5)] == [state.at(5).entry("a").revision]
    with pytest.raises(RefNotFound, match="hlaf"):
        state.history("a", since="hlaf")
    assert state.history("never", since="1h", by="ann") == []


def test_the_history_of_what_only_a_checkpoint_keeps(state: StateManager) -> None:
    """Its commit is gone, so its own time counts, and it has no author."""
    first = state.history("a")[-1].time
    state.compact(5)
    assert [entry.revision for entry in state.history("a")] == [6, 4, 1]
    assert [entry.revision for entry in state.history("a", since=first)] == [6, 4, 1]
    assert [entry.revision for entry in state.history("a", until=first)] == [1]
    assert state.history("a", until=first - timedelta(microseconds=1)) == []
    assert [entry.revision for entry in state.history("a", since=first + timedelta(microseconds=1))] == [6, 4]
    assert [entry.revision for entry in state.history("a", by="*")] == [6, 4, 1]
    assert state.history("a", by="ann") == [] and state.log(until=first) == []


def test_a_page_reads_the_commits_of_its_versions_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with StateManager("sqlite:s", "w", author="ann") as state:
        for number in range(40):
            state.save("k", number)
        reads = []
        original = state.backend.commits

        def commits(limit: int = 100, below: int = 0) -> list[Commit]:
            reads.append(limit)
            return original(limit, below)

        monkeypatch.setattr(state.backend, "commits", commits)
        assert len(state.history("k", 5, by="ann")) == 5 and len(reads) == 1
        assert [entry.revision for entry in state.history("k", since=38)] == [40, 39]


def test_a_time_without_a_zone_is_local(state: StateManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Python's datetimes as in texts, with or without `@`."""
    moment = state.log(1, below=5)[0].time
    monkeypatch.setenv("TZ", "XYZ-9")
    time.tzset()
    local = (moment + timedelta(hours=9)).replace(tzinfo=None)
    for since in (local, local.isoformat(), f"@{local.isoformat()}"):
        assert revisions(state.log(since=since)) == [8, 7, 6, 5, 4], since
    monkeypatch.undo()
    time.tzset()


def test_a_checkpoint_comes_before_a_time_of_the_same_spelling(state: StateManager) -> None:
    state.checkpoint("2026-11-28", at=6)
    state.checkpoint("2h", at=5)
    assert (revisions(state.log(since="2026-11-28")), revisions(state.log(since="2h"))) == ([8, 7], [8, 7, 6])


def test_the_log_stops_early_and_reads_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    with StateManager("sqlite:s", "w") as state:
        for number in range(30):
            state.save(f"k{number % 10}", number, reason="x" if number == 2 else "")
        monkeypatch.setattr("stateview.maintenance.history.COMMITS_PER_PAGE", 10)
        read: list[int] = []
        original = state.backend.commits

        def commits(limit: int = 100, below: int = 0) -> list[Commit]:
            page = original(limit, below)
            read.append(len(page))
            return page

        monkeypatch.setattr(state.backend, "commits", commits)
        assert revisions(state.log(grep="x")) == [3] and sum(read) == 30
        read.clear()
        assert revisions(state.log(since=25, grep="k")) == [30, 29, 28, 27, 26] and sum(read) == 11, (
            "one of them for the ref"
        )
        read.clear()
        assert len(state.log(3, grep="save")) == 3 and sum(read) == 10
        read.clear()
        assert revisions(state.log(key="k4")) == [25, 15, 5] and len(read) == 1, "near commits come in one page"


@pytest.mark.parametrize("url", ["json:s", "sqlite:s"])
def test_the_log_ends_where_others_commits_have_raised_the_floor(url: str) -> None:
    with StateManager(url, "w", history=5) as state:
        for number in range(8):
            state.save(f"k{number}", number)
        wanted = CommitFilter(Selection(), Selection("k*"), "", *bounds(state.backend, None, None))
        found = find_commits(state.backend, wanted)
        assert next(found).revision == 8
        for number in range(20):
            state.save("other", number)
        assert revisions(list(found)) == []


def test_the_command_lists_by_the_same_filters(
    state: StateManager, store_url: str, run: Callable[..., tuple[int, str, str]]
) -> None:
    def listed(*words: str) -> list[int]:
        code, out, err = run("-s", store_url, "-n", "w", "log", "--format", "json", *words)
        assert code == 0, err
        return [row["revision"] for row in json.loads(out)]

    assert listed("--by", "ann", "--by", "bob", "--key", "a") == [6, 4, 1]
    assert listed("--since", "half", "--until", "6", "--grep", "delete") == [6]
    code, out, err = run("-s", store_url, "-n", "w", "log", "--by", "nobody")
    assert (code, out) == (0, "") and "no commit matches in namespace 'w'" in err
    assert run("-s", store_url, "-n", "w", "log", "--since", "hlaf")[0] == 1
    done = run("-s", store_url, "-n", "w", "shell", "-c", "history a --by ann --since @yesterday --below 4")
    assert done[0] == 0 and done[1].startswith("1\t"), done
    code, out, err = run("-s", store_url, "-n", "w", "history", "a", "--grep", "nothing")
    assert (code, out) == (0, "") and "no version of key 'a' matches" in err
    assert run("-s", store_url, "-n", "w", "history", "never", "--grep", "x")[0] == 1
    assert run("-s", store_url, "-n", "w", "log", "--since", "a b")[0] == 2


def test_history_names_author_and_reason(
    state: StateManager, store_url: str, run: Callable[..., tuple[int, str, str]]
) -> None:
    rows = json.loads(run("-s", store_url, "-n", "w", "history", "a", "--format", "json")[1])
    assert [(row["revision"], row["author"], row["reason"]) for row in rows] == [
        (6, "bob", "delete a"), (4, "ann", "both"), (1, "ann", "build one"),
    ]  # fmt: skip
    lines = run("-s", store_url, "-n", "w", "history", "a")[1].splitlines()
    assert lines[1].split("\t")[0] == "4" and lines[1].split("\t")[2:] == ["2", "ann", "both"]


def test_blame_of_what_was_deleted_is_the_commit_that_deleted_it(
    state: StateManager, store_url: str, run: Callable[..., tuple[int, str, str]]
) -> None:
    assert (state.blame("a").revision, state.blame("a").author) == (6, "bob")
    record = json.loads(run("-s", store_url, "-n", "w", "blame", "a", "--format", "json")[1])
    assert (record["revision"], record["author"], record["deleted"]) == (6, "bob", True)
    assert "deleted" not in json.loads(run("-s", store_url, "-n", "w", "blame", "a0", "--format", "json")[1])
    state.save("job", {"x": 1, "tasks": [1, 2]})  # 9
    state.save("job", {"x": 2, "tasks": [1]})  # 10
    state.save("job", {"y": 2, "tasks": [1]})  # 11
    assert [state.blame("job", path).revision for path in ("/x", "/tasks/1", "/tasks/0", "/y")] == [11, 10, 9, 11]
    state.delete("job")  # 12
    assert [state.blame("job", path).revision for path in ("", "/x", "/tasks/1", "/y")] == [12, 11, 10, 12]
    assert [state.blame("a", at=at).revision for at in (5, "half", "live~7", 6)] == [4, 1, 4, 6]
    assert [state.blame("job", path, at="live~1").revision for path in ("/x", "/tasks/1", "/y")] == [11, 10, 11]
    record = json.loads(run("-s", store_url, "-n", "w", "blame", "a", "--at", "half", "--format", "json")[1])
    assert (record["revision"], record["author"], "deleted" in record) == (1, "ann", False)
    with pytest.raises(KeyNotFound, match="job"):
        state.blame("job", at="half")
    with pytest.raises(RefNotFound, match="nope"):
        state.blame("a", at="nope")
    for key, path in (("job", "/never"), ("never", ""), ("never", "/x")):
        with pytest.raises(KeyNotFound, match="never"):
            state.blame(key, path)
    state.undo()  # 13 brings the key back
    assert [state.blame("job", path).revision for path in ("/y", "/x")] == [11, 11]
    state.redo()  # 14 deletes it again, as 12 did
    assert state.blame("job").revision == 12
    state.save("new", {"a": 1})  # 15
    state.undo()  # 16 removes it, and no other commit did
    assert state.blame("new").revision == 16 and state.blame("new", "/a").revision == 16


def test_blame_of_an_expired_key_is_the_commit_that_set_the_expiry(store_url: str) -> None:
    with StateManager(store_url, "w", author="ann") as ann, StateManager(store_url, "w", author="bob") as bob:
        ann.save("lease", {"by": 1}, ttl=0.01)
        time.sleep(0.05)
        assert "lease" not in ann
        assert (ann.blame("lease").revision, ann.blame("lease", "/by").author) == (1, "ann")
        bob.save("other", 1)  # clears the expired entry away
        assert (ann.blame("lease").revision, ann.blame("lease").author) == (1, "ann")


# --- numbers of options -----------------------------------------------------------------------------------------------


def test_a_limit_of_0_lists_nothing_and_says_nothing(run: Callable[..., tuple[int, str, str]]) -> None:
    state = StateManager("json")
    state.save("k", 1)
    state.save("gone", 1)
    state.delete("gone")
    for words in ("keys", "keys --prefix x", "log", "find k", "history k", "history gone"):
        assert run(*words.split(), "--limit", "0") == (0, "", ""), words
    assert run("history", "never", "--limit", "0")[0] == 1
    assert run("shell", "-c", "begin", "-c", "keys --limit 0")[1] == ""


def test_the_zeros_before_a_number_are_no_digits_of_it(run: Callable[..., tuple[int, str, str]]) -> None:
    StateManager("json").save("k", 1)
    assert run("keys", "--limit", "0" * 30 + "1")[:2] == (0, "k\n")
    assert run("keys", "--limit", "0" * 30 + "9" * 20)[0] == 2


# --- options that would be ignored ---------------------------------------------------------------------------------


AUTHORED = {  # a command line of each command that makes a commit, in an order in which they can run
    "append": "append list 1", "increment": "increment count", "merge": "merge count 1", "patch": "patch list []",
    "save": "save k 1", "rename": "rename k j", "expire": "expire j 60", "delete": "delete j", "undo": "undo",
    "redo": "redo", "restore": "restore 1", "revert": "revert --commit live",
    "import": "import new.json --merge", "fork": "fork other",
}  # fmt: skip
SESSIONS = {"edit", "shell", "dashboard", "serve"}  # the author of what is done there
MARKS = {"migrate"}  # the author of its safety checkpoint
ACTS = {"run"}  # the author of `reset` and `retry`: tests/cli/commands/test_run_commands.py


def test_each_command_names_its_author_in_the_log_or_refuses_one(run: Callable[..., tuple[int, str, str]]) -> None:
    """A command that makes no commit would ignore the author."""
    for command in COMMANDS:
        if not command.shell and not command.hidden:
            makes_a_commit = command.name in {*AUTHORED, *SESSIONS, *MARKS, *ACTS}
            assert ("author" in command.refuses) != makes_a_commit, command.name
    Path("new.json").write_text('{"new": 1}')
    for name, line in AUTHORED.items():
        assert run("-s", "json:s", "-n", "w", "--author", name, *line.split())[0] == 0
        with StateManager("json:s", "other" if name == "fork" else "w") as state:
            assert state.log(1)[0].author == name


def test_no_reading_command_ignores_an_author(run: Callable[..., tuple[int, str, str]]) -> None:
    StateManager("json:s").save("k", 1)
    for words in (["load", "k"], ["log"], ["history", "k"], ["find", "x"], ["namespaces"], ["checkpoint", "c"]):
        code, out, err = run("-s", "json:s", "--author", "ann", *words)
        assert (code, out) == (2, "") and "--author" in err and "log --by NAME" in err
        assert run("-s", "json:s", "shell", "-c", " ".join([*words, "--author", "ann"]))[0] == 2
        assert run("-s", "json:s", "--author", "ann", "shell", "-c", " ".join(words))[0] == 0, "the session's author"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("stats --all -n x", "--namespace"), ("demo -s json", "--store"),
        ("migrate json sqlite -s json", "--store"), ("migrate json sqlite --all -n x", "--namespace"),
        ("checkpoint c --delete --note x", "--note"), ("checkpoint c --rename d --at 1", "--at"),
        ("checkpoint c --delete --rename d", "--rename"), ("delete k --expected 1 --previewed 1", "--previewed"),
        ("diff live --patch --summary", "--summary"), ("find --jsonpath $ --in keys", "--in"),
        ("find --jsonpath $ --regex", "--regex"), ("assert live == 1 --at 1", "--at"),
        ("serve --format json", "--format"),
        ("shell -c begin -c 'delete k --reason x'", "--reason"),
    ],
)  # fmt: skip
def test_an_option_that_would_be_ignored_is_refused(
    words: str, named: str, run: Callable[..., tuple[int, str, str]]
) -> None:
    import shlex

    StateManager("json").save("k", 1)
    code, out, err = run(*shlex.split(words))
    assert (code, out) == (2, "") and named in err, err
    assert StateManager("json").revision == 1


def test_what_is_refused_or_excluded_is_an_option() -> None:
    names = {option.name for option in GLOBALS}
    for command in COMMANDS:
        own = {option.name for option in command.options} | {arg.name for arg in command.args}
        assert names.issuperset(command.refuses), command.name
        assert own | names >= {name for pair in command.excludes for name in pair}, command.name


def test_blame_of_what_expired_says_so(store_url: str, run: Callable[..., tuple[int, str, str]]) -> None:
    with StateManager(store_url, "w") as state:
        state.save("e", 1, ttl=0.01, reason="brief")
        time.sleep(0.02)
        assert state.find_blame("e").outcome == "expired"
        code, out, _ = run("-s", store_url, "-n", "w", "blame", "e", "--format", "json")
        assert (code, json.loads(out)["expired"]) == (0, True)
        assert "deleted" not in json.loads(out)
        state.save("other", 1)
        assert state.find_blame("e").outcome == "expired"
