"""Users of a Redis server with the least rights that `references/backends.md` gives, and with less."""

import re
from pathlib import Path

import pytest
import redis
from conftest import REDIS

from stateview import BackendError, StateManager

DOCUMENT = Path(__file__).parents[3] / "references" / "backends.md"
LINES = dict(re.findall(r"^ACL SETUSER (\w+) (.*)$", DOCUMENT.read_text(), re.MULTILINE))


@pytest.fixture(params=REDIS)
def url(new_store, request):
    return new_store(request.param)


@pytest.fixture
def user(url):
    """Makes a user with rights, and returns the URL with its login."""
    with redis.Redis.from_url(url) as admin:
        names = []

        def make(name, rights):
            names.append(name)
            admin.execute_command("ACL", "SETUSER", name, "reset", *rights.replace("NS", "main").split())
            return url.replace("://", f"://{name}:PASSWORD@")

        yield make
        admin.acl_deluser(*names)


def read_all(state):
    state.load("k", None)
    state.load_many(["k"], None)
    return state.list_keys(), state.log(), state.checkpoints(), state.namespaces(), list(state.watch(timeout=0.01))


def write_all(state):
    for number in range(40):
        state.save("list", ["x" * 50] * number)
    state.checkpoint("c")
    state.update("n", lambda number: number + 1, 0)
    with state.lock("job", ttl=5):
        state.delete("n")
    state.restore_checkpoint("c")
    state.undo()
    state.delete_checkpoint("c")
    state.compact(state.revision - 3)
    assert state.load("list", at=state.revision - 1) is not None


@pytest.mark.parametrize("name", ["writer", "one"])
def test_a_user_with_the_least_rights_does_everything(user, name):
    with StateManager(user(name, LINES[name]), "main") as state:
        write_all(state)
        read_all(state)
        state.stats()
        assert [found for found in state.doctor().findings if found.severity == "error"] == []
        assert state.recover().ok
        if name == "one":
            with pytest.raises(BackendError, match="right"):
                StateManager(user(name, LINES[name]), "other").save("k", 1)
        else:
            state.fork("other").drop()
        state.drop()


def test_a_reader_reads_and_changes_nothing(url, user):
    with StateManager(url, "main") as owner:
        write_all(owner)
        before = owner.head()
        with StateManager(user("reader", LINES["reader"]), "main") as state:
            read_all(state)
            assert state.load("list", at=state.revision - 1) == owner.load("list", at=owner.revision - 1)
            for act in (
                lambda: state.save("k", 1),
                lambda: state.checkpoint("d"),
                state.drop,
                lambda: state.compact(1),
            ):
                with pytest.raises(BackendError, match="may not run"):
                    act()
            assert (owner.head(), state.head()) == (before, before)


@pytest.mark.parametrize("command", ["zadd", "hset", "zrem", "hdel"])
def test_a_commit_without_one_right_is_refused_as_a_whole_until_the_right_is_given(url, user, command):
    with StateManager(url, "main") as owner:
        owner.save("k", 1)
        with StateManager(user("clumsy", f"{LINES['writer']} -{command}"), "main") as state:
            with pytest.raises(BackendError, match=f"may not run {command.upper()}.*Nothing was changed.*\\+{command}"):
                state.save("other", 2)
            assert owner.list_keys() == state.list_keys() == ["k"] and owner.doctor().ok
            user("clumsy", LINES["writer"])
            assert state.save("other", 2) == 2
