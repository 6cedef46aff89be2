"""Users of a Redis server with the least rights that `references/backends.md` gives, and with less."""

import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest
import redis
import redis_servers
from conftest import REDIS

import stateview.backends.redis
from stateview import BackendError, NotReplicated, StateManager
from stateview.backends.redis.connections.reading import is_reading

DOCUMENT = Path(__file__).parents[3] / "references" / "backends.md"
LINES = dict(re.findall(r"^ACL SETUSER (\w+) (.*)$", DOCUMENT.read_text(), re.MULTILINE))
FORMER = "on >PASSWORD ~stateview:* +@read +@connection -@dangerous +eval +evalsha +script|load +time"  # of a reader


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
    assert len(list(state.diff("c", "live"))) == len(list(state.diff("live", "c")))
    with state.backend.snapshot(whole=True) as copied:
        assert copied.head().revision == state.revision
    assert [found.revision for found in state.backend.numbers(["main"])] == [state.revision]
    assert [copied.head().revision for copied in state.backend.copies(["main"])] == [state.revision]
    return state.list_keys(), state.log(), state.checkpoints(), state.namespaces(), list(state.watch(timeout=0.01))


def calls(url, kind="calls"):
    """How often the server was sent each kind of script."""
    with redis.Redis.from_url(url) as client:
        stats = client.info("commandstats")
    names = ("eval", "evalsha", "eval_ro", "evalsha_ro")
    return {name: stats.get(f"cmdstat_{name}", {}).get(kind, 0) for name in names}


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
    state.checkpoint("c")
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


@pytest.mark.parametrize("more", ["", " +info +config|get"])
def test_a_reader_reads_and_changes_nothing(url, user, more):
    with StateManager(url, "main") as owner:
        write_all(owner)
        before = owner.head()
        with StateManager(user("reader", LINES["reader"] + more), "main") as state:
            read_all(state)
            owner.save("k", 1)
            assert next(state.watch(since=before.revision, timeout=5)).key == "k"
            owner.undo()
            before = owner.head()
            codes = {finding.code for finding in state.doctor().findings if finding.severity != "note"}
            assert codes <= ({"no-persistence"} if more else set())
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


def test_a_reader_cannot_write_by_a_script_either(url, user):
    script = "return redis.call('SET', KEYS[1], 'x')"
    with redis.Redis.from_url(user("reader", LINES["reader"])) as client:
        for send in (client.eval, client.eval_ro, client.script_load):
            with pytest.raises(redis.ResponseError):
                send(script, *((1, "stateview:{main}:live") if send != client.script_load else ()))
        assert client.exists("stateview:{main}:live") == 0


def test_what_only_reads_is_sent_by_a_command_that_cannot_write(url):
    with StateManager(url, "main") as owner, StateManager(url, "main", read_only=True) as state:
        write_all(owner)
        before = calls(url)
        read_all(state)
        state.doctor()
        after = calls(url)
    assert (after["eval"], after["evalsha"]) == (before["eval"], before["evalsha"])
    assert after["evalsha_ro"] > before["evalsha_ro"] + 10


def test_a_user_with_the_rights_of_an_earlier_release_goes_on_at_one_more_trip(url, user):
    with StateManager(url, "main") as owner:
        write_all(owner)
        before = calls(url, "rejected_calls")
        with StateManager(user("former", FORMER), "main") as state:
            assert state.load("list", at=state.revision - 1) == owner.load("list", at=owner.revision - 1)
            for number in range(3):
                owner.save("k", number)
                assert state.load("k", fresh=True) == number
            assert len(list(state.backend.numbers(["main"]))) == 1
        after = calls(url, "rejected_calls")
    assert sum(after.values()) == sum(before.values()) + 1


@pytest.mark.parametrize("server", REDIS.values(), ids=REDIS)
def test_a_server_without_these_commands_takes_the_others(server):
    hidden = ("--rename-command", "EVAL_RO", "", "--rename-command", "EVALSHA_RO", "")
    with redis_servers.running(server, *hidden) as url, StateManager(url, "main") as state:
        write_all(state)
        read_all(state)
        assert [found for found in state.doctor().findings if found.severity == "error"] == []


def test_a_user_of_another_namespace_is_told_of_its_own_right(url, user):
    rights = LINES["reader"].replace("stateview:*", "stateview:{NS}:*")
    for name, line in (("one", LINES["one"]), ("reader", rights)):
        with pytest.raises(BackendError) as caught:
            StateManager(user(name, line), "other").load("k")
        assert "'eval" not in str(caught.value) and "right" in str(caught.value)


def test_what_counts_as_reading_is_what_the_server_says(url):
    found = {True: 0, False: 0}
    with redis.Redis.from_url(url) as client:
        flags = {name: data["flags"] for name, data in client.command().items()}
        for module in pkgutil.walk_packages(stateview.backends.redis.__path__, "stateview.backends.redis."):
            for name, script in vars(import_module(module.name)).items():
                if name.isupper() and isinstance(script, str) and "call(" in script:
                    commands = {word.lower() for word in re.findall(r"['\"]([A-Za-z]{3,})['\"]", script)} & flags.keys()
                    writes = [word for word in commands if "write" in flags[word]]
                    assert is_reading(script) == (not writes), (module.name, name, commands)
                    found[is_reading(script)] += 1
    assert min(found.values()) > 10


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


@pytest.mark.parametrize("command", ["time", "exists", "hgetall", "hget", "hmget", "hlen"])
@pytest.mark.parametrize("act", ["load", "list_keys", "log", "checkpoint"])
def test_a_right_that_is_missing_is_named_by_whatever_needs_it(url, user, command, act):
    with StateManager(url, "main") as owner:
        owner.save("k", 1)
    acts = {"load": lambda state: state.load("k"), "list_keys": lambda state: state.list_keys(),
            "log": lambda state: state.log(), "checkpoint": lambda state: state.checkpoint("c")}  # fmt: skip
    with StateManager(user("clumsy", f"{LINES['writer']} -{command}"), "main") as state:
        try:
            acts[act](state)
        except BackendError as error:
            assert f"+{command}" in str(error) or f"'{command}'" in str(error), error
        else:
            assert (command, act) in {("hlen", "load")}


def test_a_commit_of_a_user_who_may_not_wait_is_made_and_said_to_be(url, user):
    place = user("clumsy", f"{LINES['writer']} -wait")
    with StateManager(place, "main", wait_replicas=1, wait_timeout=0.01) as state:
        with pytest.raises(NotReplicated, match=r"The commit was made.*right") as caught:
            state.save("k", 1)
        assert (caught.value.revision, state.revision, state.load("k")) == (1, 1, 1)
