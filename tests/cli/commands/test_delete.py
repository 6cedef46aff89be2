"""`delete --prefix`: all keys under a prefix go in one commit, after a question."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from forked import forked

from stateview import StateManager
from stateview.cli.completion import candidates

Run = Callable[..., tuple[int, str, str]]
KEYS = ["job", "job:1", "job:2", "job[1", "other"]


@pytest.fixture
def state(store_url: str, folder: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[StateManager]:
    """A namespace with keys, which is that of the environment."""
    monkeypatch.setenv("STATEVIEW_STORE", store_url)
    monkeypatch.setenv("STATEVIEW_NAMESPACE", "ns")
    with StateManager(store_url, "ns") as manager:
        with manager.transaction("setup") as tx:
            for key in KEYS:
                tx.save(key, key)
        yield manager


def test_a_prefix_is_deleted_in_one_commit_after_a_yes(state: StateManager, run: Run) -> None:
    code, _, err = run("delete", "--prefix", "job:")
    assert code == 5 and "delete 2 keys of ns with the prefix 'job:'? Give --yes" in " ".join(err.split())
    assert state.list_keys() == KEYS
    code, out, err = run("delete", "--prefix", "job:", "--yes", "--author", "ann", "--format", "json")
    assert (code, json.loads(out)) == (0, {"deleted": ["job:1", "job:2"]})
    assert "deleted 2 keys - 'stateview undo' takes it back" in err
    commit = state.log(1)[0]
    assert (commit.revision, commit.author, commit.reason) == (2, "ann", "delete prefix job:")
    assert run("undo")[0] == 0 and state.list_keys() == KEYS
    code, _, err = run("delete", "--prefix", "job[", "-y", "--reason", "tidy")  # no glob
    assert code == 0 and "deleted job[1" in err and state.log(1)[0].reason == "tidy"


def test_a_prefix_without_a_key_is_said_and_a_missing_namespace_is_an_error(state: StateManager, run: Run) -> None:
    code, out, err = run("delete", "--prefix", "jobs", "--format", "json")
    assert (code, json.loads(out)) == (0, {"deleted": []}) and "no key has the prefix 'jobs'" in err
    assert run("delete", "--prefix", "x", "-n", "never")[0] == 1 and state.revision == 1


def test_a_prefix_that_was_written_since_a_revision_is_kept(state: StateManager, run: Run) -> None:
    state.save("job:2", "new")
    code, _, err = run("delete", "--prefix", "job:", "--previewed", "1", "--yes")
    assert code == 4 and "'job:2' was written since revision 1" in err and state.list_keys() == KEYS
    assert run("delete", "--prefix", "job:", "--previewed", "2", "--yes")[0] == 0
    assert state.list_keys() == ["job", "job[1", "other"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing was chosen. Give keys, globs, or --prefix PREFIX"),
        (["--prefix", ""], "--prefix '' would delete every key"),
        (["job", "--prefix", "job:"], "exclude each other"),
        (["--prefix", "job:", "--expected", "1"], "exclude each other"),
    ],
)
def test_what_no_delete_can_mean_is_refused(state: StateManager, run: Run, words: list[str], said: str) -> None:
    code, _, err = run("delete", "--yes", *words)
    assert code == 2 and said in err and state.list_keys() == KEYS


def test_the_shell_deletes_a_prefix_also_in_a_transaction(state: StateManager) -> None:
    lines = ["begin", "save job:3 1", "delete --prefix job: --yes", "keys", "delete --prefix none", "commit"]
    done = forked("shell", stdin="\n".join(lines))
    assert done.returncode == 0, done
    assert done.stdout.split() == ["job", "job[1", "other"]
    assert "will delete 3 keys" in done.stderr and "no key has the prefix 'none'" in done.stderr
    assert state.list_keys() == ["job", "job[1", "other"] and state.revision == 2
    refused = forked("shell", "-c", "begin", "-c", "delete --prefix job")
    assert refused.returncode == 5 and "delete 2 keys with the prefix 'job'?" in refused.stderr


def test_a_prefix_is_completed_by_segments(state: StateManager) -> None:
    assert [text for text, _ in candidates(["delete", "--prefix", "job:"])] == ["job:1", "job:2"]
    assert "--prefix" in [text for text, _ in candidates(["delete", "--p"])]
