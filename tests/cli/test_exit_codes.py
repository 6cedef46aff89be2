"""One rule: a name that is missing exits with 1; a search or a glob that matches nothing exits with 0 and says so."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stateview import KeyNotFound, StateManager

pytestmark = pytest.mark.usefixtures("folder")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def state() -> Iterator[StateManager]:
    with StateManager("json", "default") as state:
        state.save("phase", 1)
        state.checkpoint("cp")
        state.save("phase", 2)
        yield state


@pytest.mark.parametrize(
    "line",
    [
        "find nothing", "find --jsonpath $.nothing", "keys 'x*'", "keys nothing", "log --by nobody",
        "log --key nothing", "delete 'x*'", "diff cp --keys 'x*'", "restore cp --keys 'x*'",
        "restore cp --keys 'x*' --dry-run", "export --as json --keys 'x*'", "export f.json --keys 'x*'",
        "prune 'x*'", "checkpoints -n empty", "keys -n empty", "shell -c begin -c \"delete 'x*'\" -c rollback",
    ],
)  # fmt: skip
def test_a_search_or_a_glob_without_a_match_exits_with_0_and_says_so(line: str, state: StateManager, run: Run) -> None:
    StateManager("json", "empty").checkpoint("x")
    StateManager("json", "empty").delete_checkpoint("x")
    code, out, err = run(*shlex.split(line))
    assert (code, out) == (0, "") and err.strip(), (code, out, err)
    assert state.revision == 2 and state.list_checkpoints() == ["cp"]
    assert not Path("f.json").exists()


@pytest.mark.parametrize(
    "line",
    [
        "load nothing", "entry nothing", "history nothing", "blame nothing", "delete nothing", "delete phase nothing",
        "delete 'x*' nothing", "rename nothing new", "expire nothing 9", "diff cp --keys nothing",
        "diff cp --keys nothing --keys phase", "restore cp --keys nothing", "restore cp --keys nothing --keys 'ph*'",
        "export --as json --keys nothing", "export --as json --keys nothing --keys phase", "load phase --at nothing",
        "checkpoint nothing --delete", "prune nothing", "log --since nothing", "import nothing.json",
        "shell -c begin -c 'delete nothing'",
    ],
)  # fmt: skip
def test_a_name_that_is_missing_exits_with_1_and_changes_nothing(line: str, state: StateManager, run: Run) -> None:
    code, out, err = run(*shlex.split(line))
    assert code == 1 and "nothing" in err and not out.strip("{}\n"), (code, out, err)
    assert (state.revision, state.load("phase")) == (2, 2)


def test_a_glob_without_a_match_is_named_beside_what_was_deleted(state: StateManager, run: Run) -> None:
    code, out, err = run("delete", "phase", "x*", "--yes", "--format", "json")
    assert (code, json.loads(out)) == (0, {"deleted": ["phase"]}) and "no key matches 'x*'" in err


def test_a_redis_without_matching_strings(redis_server: Callable[[str], str], run: Run) -> None:
    import redis
    from redis_servers import find

    url = f"{redis_server(next(iter(find())))}/11"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        client.set("app:1", "1")
    for more in ([], ["--dry-run"]):
        code, _, err = run("import", url, "--pattern", "nothing:*", *more)
        assert code == 0 and "nothing was imported" in err
        assert run("import", url, "--pattern", "nothing", *more)[0] == 1
    assert StateManager("json").namespaces() == []


def test_compact_drops_nothing_that_can_be_read(store_url: str) -> None:
    with StateManager(store_url, "w") as state:
        for number in range(5):
            state.save("k", number)
        state.checkpoint("cp", at=1)
        assert state.compact() == 0
        assert [state.load("k", at=number) for number in range(1, 6)] == [0, 1, 2, 3, 4]
        assert (state.head().floor, len(state.log())) == (0, 5)
        state.undo()
        assert state.compact(floor=state.revision) > 0
        assert (state.load("k"), state.load("k", at="cp"), state.head().floor) == (3, 0, 6)
        assert len(state.history("k")) == 2
        state.delete_checkpoint("cp")
        assert state.compact() == 1, "the version that only the checkpoint needed"


def test_an_export_of_a_missing_name_writes_no_file(state: StateManager) -> None:
    with pytest.raises(KeyNotFound, match=r"'phsae'.*Did you mean 'phase'"):
        state.export("f.json", keys=["phase", "phsae"])
    assert not Path("f.json").exists()
