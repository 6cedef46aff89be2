"""Changes inside a value: places, JSON Patch (RFC 6902), merge patches (RFC 7396)."""

import json
import threading
from pathlib import Path

import pytest

from stateview import Conflict, InvalidArgument, InvalidName, KeyNotFound, NotSerializable, StateManager
from stateview.states.values.patches import apply_patch, is_equal, merge_patch

PAIRS = json.loads((Path(__file__).parent.parent / "data" / "json_patch_pairs.json").read_text())


def op(act, path, value=None, **more):
    return {"op": act, "path": path, **({"value": value} if act in ("add", "replace", "test") else {}), **more}


# Appendix A of RFC 6902, by section
RFC_6902 = [
    ({"foo": "bar"}, [op("add", "/baz", "qux")], {"baz": "qux", "foo": "bar"}),
    ({"foo": ["bar", "baz"]}, [op("add", "/foo/1", "qux")], {"foo": ["bar", "qux", "baz"]}),
    ({"baz": "qux", "foo": "bar"}, [op("remove", "/baz")], {"foo": "bar"}),
    ({"foo": ["bar", "qux", "baz"]}, [op("remove", "/foo/1")], {"foo": ["bar", "baz"]}),
    ({"baz": "qux", "foo": "bar"}, [op("replace", "/baz", "boo")], {"baz": "boo", "foo": "bar"}),
    (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [op("move", "/qux/thud", **{"from": "/foo/waldo"})],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    ({"foo": ["all", "grass", "cows", "eat"]}, [op("move", "/foo/3", **{"from": "/foo/1"})],
     {"foo": ["all", "cows", "eat", "grass"]}),
    ({"baz": "qux", "foo": ["a", 2, "c"]}, [op("test", "/baz", "qux"), op("test", "/foo/1", 2)],
     {"baz": "qux", "foo": ["a", 2, "c"]}),
    ({"baz": "qux"}, [op("test", "/baz", "bar")], Conflict),
    ({"foo": "bar"}, [op("add", "/child", {"grandchild": {}})], {"foo": "bar", "child": {"grandchild": {}}}),
    ({"foo": "bar"}, [op("add", "/baz", "qux", xyz=123)], {"foo": "bar", "baz": "qux"}),
    ({"foo": "bar"}, [op("add", "/baz/bat", "qux")], KeyNotFound),
    ({"/": 9, "~1": 10}, [op("test", "/~01", 10)], {"/": 9, "~1": 10}),
    ({"/": 9, "~1": 10}, [op("test", "/~01", "10")], Conflict),
    ({"foo": ["bar"]}, [op("add", "/foo/-", ["abc", "def"])], {"foo": ["bar", ["abc", "def"]]}),
]  # fmt: skip
OTHERS = [
    ([1], [op("add", "/1", 2)], [1, 2]),
    ([1], [op("add", "/2", 2)], KeyNotFound),
    ([1], [op("add", "/01", 2)], KeyNotFound),
    ([1], [op("replace", "/-", 2)], KeyNotFound),
    ({"a": 1}, [op("replace", "/b", 2)], KeyNotFound),
    ({"a": 1}, [op("replace", "", [2])], [2]),
    ({"a": 1}, [op("add", "", None)], None),
    ({"a": 1}, [op("remove", "")], InvalidArgument),
    ({"a": 1}, [op("remove", "/a/b")], KeyNotFound),
    ({"a": {"b": 1}}, [op("move", "/a/b/c", **{"from": "/a/b"})], InvalidArgument),
    ({"a": {"b": 1}}, [op("move", "/a", **{"from": "/a"})], {"a": {"b": 1}}),
    ({"a": {"b": 1}}, [op("move", "/a", **{"from": "/a/b"})], {"a": 1}),
    ({"a": [1]}, [op("copy", "/b", **{"from": "/a"}), op("add", "/b/-", 2)], {"a": [1], "b": [1, 2]}),
    ({"": 1}, [op("replace", "/", 2)], {"": 2}),
    ({"a": True}, [op("test", "/a", 1)], Conflict),
    ({"a": 1}, [op("test", "/a", 1.0)], {"a": 1}),
    ({"a": 10**30}, [op("test", "/a", 10**30 + 1)], Conflict),
    ({}, [op("add", "a", 1)], InvalidName),
    ({}, [{"op": "add", "path": "/a"}], InvalidArgument),
    ({}, [{"op": "add", "path": 5, "value": 1}], InvalidArgument),
    ({}, [{"op": "copy", "path": "/a"}], InvalidArgument),
    ({}, [{"op": "spam", "path": "/a"}], InvalidArgument),
    ({}, [{"op": ["add"], "path": "/a"}], InvalidArgument),
    ({}, [5], InvalidArgument),
    ({}, {"op": "add"}, InvalidArgument),
    ({"a": 1}, [], {"a": 1}),
]


@pytest.mark.parametrize(("before", "operations", "after"), [*RFC_6902, *OTHERS])
def test_a_json_patch(before, operations, after):
    value = json.loads(json.dumps(before))
    if isinstance(after, type):
        with pytest.raises(after):
            apply_patch(value, operations, "k")
    else:
        found = apply_patch(value, json.loads(json.dumps(operations)), "k")
        assert is_equal(found, after) and json.dumps(found) is not None


# Appendix A of RFC 7396
@pytest.mark.parametrize(
    ("value", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch(value, patch, merged):
    assert merge_patch(value, patch) == merged


def test_the_patches_of_diffs_lead_to_the_other_state(store_url):
    with StateManager(store_url, "ns") as state:
        for before, after in PAIRS:
            state.save("k", before)
            state.checkpoint("c")
            state.save("k", after)
            patch = [each | {"path": each["path"].removeprefix("/k")} for each in state.diff("c").as_json_patch()]
            state.save("k", before)
            assert is_equal(state.patch("k", patch), after)


def test_a_place_a_patch_and_a_merge_are_one_commit_each_and_keep_the_expiry(store_url):
    with StateManager(store_url, "ns") as state:
        state.save("config", {"limits": {"tokens": 3}, "tags": ["a"]}, ttl=3600)
        assert state.save("config", 5, path="/limits/tokens") == 2
        assert state.save("config", "b", path="/tags/-", reason="tagged") == 3
        assert state.update("config", lambda n: n + 1, path="/limits/tokens") == 6
        assert state.update("config", lambda n: n + 1, 0, path="/limits/tries") == 1
        assert state.merge("config", {"limits": {"tries": None}}) == {"limits": {"tokens": 6}, "tags": ["a", "b"]}
        assert state.patch("config", [op("remove", "/tags/0")]) == {"limits": {"tokens": 6}, "tags": ["b"]}
        assert 3500 < state.entry("config").ttl <= 3600
        assert [commit.reason for commit in state.log(7)][:6] == [
            "patch config", "merge config", "update config#/limits/tries", "update config#/limits/tokens", "tagged",
            "save config#/limits/tokens",
        ]  # fmt: skip
        state.save("config", 7, path="/limits/tokens", ttl=60)
        assert state.entry("config").ttl <= 60


def test_what_is_refused_changes_nothing(store_url):
    with StateManager(store_url, "ns") as state:
        state.save("k", {"a": [1], "b": "text"})
        for act, error in (
            (lambda: state.save("k", 1, path="/x/y"), KeyNotFound),
            (lambda: state.save("k", 1, path="/a/1"), KeyNotFound),
            (lambda: state.save("k", 1, path="/b/c"), KeyNotFound),
            (lambda: state.save("k", 1, path="a"), InvalidName),
            (lambda: state.save("k", {1}, path="/a"), NotSerializable),
            (lambda: state.save("none", 1, path="/a"), KeyNotFound),
            (lambda: state.save("k", 1, path="/a/0", expected=7), Conflict),
            (lambda: state.update("k", lambda n: n, path="/x"), KeyNotFound),
            (lambda: state.update("k", lambda n: n, 0, path="/a/7"), KeyNotFound),
            (lambda: state.patch("k", [op("remove", "/a"), op("test", "/b", "other")]), Conflict),
            (lambda: state.patch("none", []), KeyNotFound),
            (lambda: state.patch("k", [], expected=7), Conflict),
            (lambda: state.merge("k", {"a": {1}}), NotSerializable),
            (lambda: state.merge("k", {}, expected=7), Conflict),
            (lambda: state.expire("k", 60, expected=7), Conflict),
            (lambda: state.rename("k", "l", expected=7), Conflict),
        ):
            with pytest.raises(error):
                act()
            assert (state.revision, state.load("k")) == (1, {"a": [1], "b": "text"})


def test_threads_lose_no_change_inside_a_value(store_url):
    with StateManager(store_url, "ns") as state:
        state.save("k", {"n": 0, "names": []})

        def work(name):
            for number in range(10):
                state.update("k", lambda n: n + 1, path="/n")
                state.save("k", f"{name}{number}", path="/names/-")
                state.merge("k", {name: number})
                state.patch("k", [op("add", f"/{name}{number}", 1)])

        threads = [threading.Thread(target=work, args=(name,)) for name in "xyz"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        value = state.load("k")
        assert (value["n"], len(value["names"]), value["x"], len(value)) == (30, 30, 9, 2 + 3 + 30)
        assert state.revision == 1 + 3 * 40


def test_inside_a_transaction(store_url):
    with StateManager(store_url, "ns") as state:
        state.save("k", {"n": 1, "l": []}, ttl=3600)
        with state.transaction() as tx:
            tx.save("k", 2, path="/n")
            tx.update("k", lambda n: n * 10, path="/n")
            assert tx.update("k", lambda n: n + 1, 5, path="/m") == 6
            tx.save("k", "a", path="/l/-")
            assert tx.patch("k", [op("test", "/n", 20), op("remove", "/m")]) == {"n": 20, "l": ["a"]}
            assert tx.merge("k", {"l": None}) == {"n": 20}
            with pytest.raises(KeyNotFound):
                tx.merge("none", {})
        assert (state.load("k"), state.revision) == ({"n": 20}, 2)
        assert 3500 < state.entry("k").ttl <= 3600
        with pytest.raises(Conflict), state.transaction() as tx:
            tx.merge("k", {"n": 1})
            state.save("k", 0)
