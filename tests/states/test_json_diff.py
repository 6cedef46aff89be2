"""Structural diffs: exact, minimal where it is promised, and bounded in time."""

import copy
import random
import time

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_sqlite import plain_sqlite

import stateview
from stateview import ABSENT, Damaged, KeyNotFound, RefNotFound, StateManager
from stateview.codec import canonical
from stateview.states.changes import SIGNS, Diff
from stateview.states.values.json_diff import align, apply_selected, compare, json_patch, line_diff
from stateview.states.values.pointers import escape_token, resolve_pointer

scalars = st.sampled_from([None, True, False, 0, 1, 1.0, 0.0, -0.0, "", "a", "b", "a/b", "~1", 10**30])
names = st.sampled_from(["", "a", "b", "~", "/", "~1", "0", "-", "é"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(names, inner, max_size=4), max_leaves=30
)
lists = st.lists(st.integers(0, 4) | st.lists(st.integers(0, 2), max_size=2), max_size=12)


@given(values | lists, values | lists)
def test_a_patch_gives_exactly_the_other_value(before, after):
    patch = json_patch(before, after)
    kept = canonical(before), canonical(after)
    assert canonical(jsonpatch.apply_patch(before, patch)) == kept[1]
    assert (canonical(before), canonical(after)) == kept
    assert (not compare(before, after)) == (not patch) == (kept[0] == kept[1])


@given(values, st.data())
def test_every_path_points_at_what_it_says(before, data):
    after = data.draw(st.just(copy.deepcopy(before)) | values)
    for path, kind, old, new in compare(before, after):
        if kind == "removed":
            assert resolve_pointer(before, path) is old
            assert new is ABSENT
        else:
            assert resolve_pointer(after, path) is new
            assert (old is ABSENT) == (kind == "added")


def merged(before, after, taken, was="", at=""):
    """What `apply_some` must give, by another way: the two values are walked side by side, without any index moved."""

    def took(kind, path):
        return SIGNS[kind] + path in taken

    if isinstance(before, dict) and isinstance(after, dict):
        out = {}
        for key, old in before.items():
            step = "/" + escape_token(key)
            if key in after:
                out[key] = merged(old, after[key], taken, was + step, at + step)
            elif not took("removed", was + step):
                out[key] = old
        added = (key for key in after if key not in before and took("added", f"{at}/{escape_token(key)}"))
        return out | {key: after[key] for key in added}
    if isinstance(before, list) and isinstance(after, list):
        out = []
        for tag, i1, i2, j1, j2 in align(list(map(canonical, before)), list(map(canonical, after))):
            if tag == "equal":
                out += before[i1:i2]
                continue
            both = min(i2 - i1, j2 - j1)
            for i, j in zip(range(i1, i2), range(j1, j2), strict=False):
                out.append(merged(before[i], after[j], taken, f"{was}/{i}", f"{at}/{j}"))
            out += [before[i] for i in range(i1 + both, i2) if not took("removed", f"{was}/{i}")]
            out += [after[j] for j in range(j1 + both, j2) if took("added", f"{at}/{j}")]
        return out
    return after if took("changed", at) else before


nested = st.lists(st.integers(0, 3) | st.lists(st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=3), max_size=4))


@given(values | lists | nested, values | lists | nested, st.data())
def test_any_choice_of_the_changes_is_made_and_the_rest_is_left(before, after, data):
    changes = [SIGNS[change.kind] + change.path for change in compare(before, after)]
    assert len(set(changes)) == len(changes)
    chosen = data.draw(st.sets(st.sampled_from(changes)) if changes else st.just(set()))
    kept = canonical(before), canonical(after)
    some = apply_selected(before, after, chosen)
    assert canonical(some) == canonical(merged(before, after, chosen))
    assert canonical(apply_selected(before, after, changes)) == kept[1]
    assert canonical(apply_selected(before, after, [])) == kept[0]
    assert canonical(apply_selected(some, after, [change.path for change in compare(some, after)])) == kept[1]
    assert (canonical(before), canonical(after)) == kept


@given(values | lists | nested, values | lists | nested, st.integers(0, 20))
def test_the_first_few_changes_are_the_first_few_operations_of_the_patch(before, after, count):
    chosen = [SIGNS[change.kind] + change.path for change in compare(before, after)][:count]
    patch = json_patch(before, after)[:count]
    assert canonical(apply_selected(before, after, chosen)) == canonical(jsonpatch.apply_patch(before, patch))


@pytest.mark.parametrize(
    ("before", "after", "chosen", "expected"),
    [
        ([1, 2, 3, 4], [2, 3, 4, 5], ["/3"], [1, 2, 3, 4, 5]),
        ([1, 2, 3, 4], [2, 3, 4, 5], ["/0"], [2, 3, 4]),
        ([1, 2, 3], [9, 1, 8, 2, 7, 3], ["/2"], [1, 8, 2, 3]),
        ({"t": [{"s": 1}, {"s": 2}]}, {"t": [0, {"s": 1}, {"s": 3}]}, ["/t/2/s"], {"t": [{"s": 1}, {"s": 3}]}),
        ([0, [1, 2, 3]], [9, 0, [1, 3]], ["/1/1"], [0, [1, 3]]),
        ([1, 2, 3, 4, 5], [1, 3, 4, 9, 5], ["-/1"], [1, 3, 4, 5]),
        ([1, 2, 3], [1, 3, 4], ["/1", "/2"], [1, 3, 4]),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, ["/a", "/c"], {"b": 2, "c": 4}),
        (1, 2, [""], 2),
        (1, 2, ["~"], 2),
        (ABSENT, 2, [""], 2),
        (2, ABSENT, [""], ABSENT),
        (2, ABSENT, [], 2),
    ],
    ids=range(13),
)
def test_some_changes(before, after, chosen, expected):
    assert apply_selected(before, after, chosen) == expected


def test_a_pointer_that_two_changes_share_means_both_and_with_a_sign_one():
    before, after = [0, 0, 3, 0], [3, 2, 1, 2]
    changes = [SIGNS[change.kind] + change.path for change in compare(before, after)]
    assert changes == ["-/0", "-/1", "~/1", "+/2", "+/3"]
    assert apply_selected(before, after, ["/1"]) == [0, 3, 2]
    assert apply_selected(before, after, ["-/1"]) == [0, 3, 0]
    assert apply_selected(before, after, ["~/1"]) == [0, 0, 3, 2]


@pytest.mark.parametrize("pointer", ["/2", "/1/x", "", "1", "+/1", "-/0", "/01"])
def test_a_pointer_of_no_change_is_an_error_that_names_it(pointer):
    with pytest.raises(KeyNotFound, match="no change at"):
        apply_selected([1, 2, 3], [1, 3], ["/1", pointer])


@given(st.lists(st.integers(0, 5), max_size=40), st.lists(st.integers(0, 5), max_size=40))
def test_align_covers_both_sides_in_order(before, after):
    check_codes(before, after, align(before, after))


def check_codes(before, after, codes):
    i, j, last = 0, 0, ""
    for tag, i1, i2, j1, j2 in codes:
        assert (i1, j1) == (i, j)
        assert tag != "equal" or (tag != last and before[i1:i2] == after[j1:j2])
        assert {"insert": i1 == i2, "delete": j1 == j2}.get(tag, i1 < i2 and j1 < j2)
        i, j, last = i2, j2, tag
    assert (i, j) == (len(before), len(after))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1, 1, []),
        (1, 1.0, [("", "changed", 1, 1.0)]),
        (1, True, [("", "changed", 1, True)]),
        (0.0, -0.0, [("", "changed", 0.0, -0.0)]),
        (None, False, [("", "changed", None, False)]),
        ([], {}, [("", "changed", [], {})]),
        ({"a": 1}, {"a": 1, "b": None}, [("/b", "added", ABSENT, None)]),
        ({"a": None}, {}, [("/a", "removed", None, ABSENT)]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, [("/a/b/1", "changed", 2, 3)]),
        ({"a/b": 1, "~": 2}, {"a/b": 2, "~": 3}, [("/a~1b", "changed", 1, 2), ("/~0", "changed", 2, 3)]),
        ({"": 1}, {"": 2}, [("/", "changed", 1, 2)]),
        ([1, 2, 3], [1, 3], [("/1", "removed", 2, ABSENT)]),
        ([1, 3], [1, 2, 3], [("/1", "added", ABSENT, 2)]),
        ([1, 2, 3], [3, 1, 2], [("/0", "added", ABSENT, 3), ("/2", "removed", 3, ABSENT)]),
        ([{"id": 1}, {"id": 2}], [{"id": 1, "x": 0}, {"id": 2}], [("/0/x", "added", ABSENT, 0)]),
        ({"b": 1, "a": 2}, {"a": 2, "b": 1}, []),
        ("a\nb", "a\nc", [("", "changed", "a\nb", "a\nc")]),
        ([10**5000], [10**5000 + 1], [("/0", "changed", 10**5000, 10**5000 + 1)]),
    ],
    ids=range(18),
)
def test_kinds_and_paths(before, after, expected):
    assert [tuple(change) for change in compare(before, after)] == expected


def test_one_insertion_deletion_or_move_in_a_long_list_of_objects():
    tasks = [{"id": number, "name": f"task {number}", "done": number % 2 == 0} for number in range(1000)]
    new = {"id": -1, "name": "new", "done": False}
    assert [tuple(c) for c in compare(tasks, [*tasks[:500], new, *tasks[500:]])] == [("/500", "added", ABSENT, new)]
    assert [tuple(c) for c in compare(tasks, tasks[:500] + tasks[501:])] == [("/500", "removed", tasks[500], ABSENT)]
    moved = [*tasks[:100], *tasks[101:900], tasks[100], *tasks[900:]]
    assert [(c.path, c.kind) for c in compare(tasks, moved)] == [("/100", "removed"), ("/899", "added")]
    assert canonical(jsonpatch.apply_patch(tasks, json_patch(tasks, moved))) == canonical(moved)
    edited = copy.deepcopy(tasks)
    edited[7]["name"] = "seven"
    assert [tuple(c) for c in compare(tasks, edited)] == [("/7/name", "changed", "task 7", "seven")]


def test_scattered_edits_in_a_large_list_are_found_in_bounded_time():
    chance = random.Random(1)
    before = [{"n": number, "text": str(chance.random())} for number in range(20_000)]
    after = copy.deepcopy(before)
    edits = sorted(chance.sample(range(20_000), 300), reverse=True)
    for turn, place in enumerate(edits):
        if turn % 3 == 0:
            del after[place]
        elif turn % 3 == 1:
            after.insert(place, {"n": -turn})
        else:
            after[place]["text"] = "edited"
    started = time.monotonic()
    changes = compare(before, after)
    assert time.monotonic() - started < 40
    assert 295 <= len(changes) <= 310
    patched = jsonpatch.apply_patch(before, json_patch(before, after))
    assert canonical(patched) == canonical(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([0, 1] * 10_000, [1, 0] * 10_000),
        ([0] * 20_000, [0, 1] * 10_000),
        (list(range(20_000)), list(range(20_000, 0, -1))),
        ([n % 7 for n in range(20_000)], [n % 5 for n in range(20_000)]),
        ([n if n % 500 == 0 else 0 for n in range(10_000)], [n if n % 500 == 0 else n % 2 for n in range(10_000)]),
        ([0] * 499 + [9] + [0] * 499, ([0, 1] * 250)[:499] + [9] + [0, 1] * 250),
    ],
    ids=["shifted", "alike", "reversed", "periods", "many hard stretches", "one anchor"],
)
def test_hard_lists_take_bounded_time(before, after):
    started = time.monotonic()
    codes = align(before, after)
    assert time.monotonic() - started < 40
    check_codes(before, after, codes)


@pytest.mark.parametrize("token", ["", "a", "~", "/", "~1", "~0", "~01", "a/b~c", "//", "0", "-"])
def test_pointers_escape(token):
    assert resolve_pointer({token: {token: 7}}, f"/{escape_token(token)}/{escape_token(token)}") == 7


def test_pointers_find_or_are_absent():
    value = {"a": [1, {"b": None}], "": {"": 2}, "0": "zero"}
    assert resolve_pointer(value, "") is value
    assert resolve_pointer(value, "/a/1/b") is None
    assert resolve_pointer(value, "//") == 2
    assert resolve_pointer(value, "/0") == "zero"
    for pointer in (
        "/a/2",
        "/a/-1",
        "/a/-",
        "/a/01",
        "/a/x",
        "/a/ 1",
        "/a/1/b/c",
        "/x",
        "/a/²",
        "/a/0/0",
        "/a/9" + "9" * 30,
    ):
        assert resolve_pointer(value, pointer) is ABSENT, pointer
    for pointer in ("a", "a/b", "#/a", " /a"):
        with pytest.raises(ValueError, match="JSON Pointer"):
            resolve_pointer(value, pointer)


@given(st.text("ab\n\r", max_size=60), st.text("ab\n\r", max_size=60))
def test_both_texts_can_be_rebuilt_from_a_line_diff(before, after):
    if before != after:
        rebuild(before, after, line_diff(before, after, context=10**9))
    else:
        assert [mark for mark, _ in line_diff(before, after)] == ["…"]


def rebuild(before, after, lines):
    assert "\n".join(line for mark, line in lines if mark in " -") == before
    assert "\n".join(line for mark, line in lines if mark in " +") == after


def test_line_diff_of_long_texts():
    lines = [f"line {number}" for number in range(5000)]
    other = [*lines[:100], "new", *lines[100:4000], *lines[4001:]]
    before, after = "\n".join(lines), "\n".join(other)
    rebuild(before, after, line_diff(before, after, context=10**9))
    shown = line_diff(before, after)
    assert [pair for pair in shown if pair[0] in "+-"] == [("+", "new"), ("-", "line 4000")]
    assert [line for mark, line in shown if mark == "…"] == ["97 equal lines", "3894 equal lines", "996 equal lines"]
    assert [line for mark, line in shown if mark == " "][:6] == lines[97:103]
    assert line_diff("a\nb", "a\nc", context=0) == [("…", "1 equal line"), ("-", "b"), ("+", "c")]


# --- states ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["json", "sqlite"])
def state(request, tmp_path):
    with StateManager(f"{request.param}:{tmp_path / 'store'}", "one") as manager:
        yield manager


def as_dict(view):
    return {entry.key: entry.value for entry in view.entries()}


def test_the_diff_of_two_checkpoints(state):
    state.save("same", {"a": 1})
    state.save("gone", [1])
    state.save("edited", {"list": [1, 2, 3], "n": 1})
    state.save("a/b~c", 1)
    state.checkpoint("before")
    state.delete("gone")
    state.save("edited", {"list": [1, 3], "n": 1.0})
    state.save("a/b~c", 2)
    state.save("new", None)
    state.save("same", {"a": 2})
    state.save("same", {"a": 1})
    state.checkpoint("after")
    state.save("later", 1)
    diff = state.diff("before", "after")
    assert [(change.key, change.kind) for change in diff] == [
        ("a/b~c", "changed"), ("edited", "changed"), ("gone", "removed"), ("new", "added"),
    ]  # fmt: skip
    assert len(diff) == 4
    assert diff
    assert diff.counts == {"added": 1, "removed": 1, "changed": 2}
    assert [change.key for change in diff] == [change.key for change in diff]
    edited = list(diff)[1]
    assert [tuple(one) for one in edited.paths] == [("/list/1", "removed", 2, ABSENT), ("/n", "changed", 1, 1.0)]
    assert (edited.before_revision, edited.after_revision) == (3, 6)
    gone, new = list(diff)[2:]
    assert (gone.before, gone.after, new.before, new.after) == ([1], ABSENT, ABSENT, None)
    assert [tuple(one) for one in new.paths] == [("", "added", ABSENT, None)]
    patched = jsonpatch.apply_patch(as_dict(state.at("before")), diff.as_json_patch())
    assert canonical(patched) == canonical(as_dict(state.at("after")))
    back = jsonpatch.apply_patch(as_dict(state.at("after")), state.diff("after", "before").as_json_patch())
    assert canonical(back) == canonical(as_dict(state.at("before")))
    assert [change.key for change in state.diff("after")] == ["later"]
    assert [change.key for change in state.diff("before", "after", keys="e*")] == ["edited"]
    nothing = state.diff("before", "before")
    assert (len(nothing), bool(nothing), list(nothing), nothing.as_json_patch()) == (0, False, [], [])
    with pytest.raises(RefNotFound, match="befor"):
        state.diff("befor")


operations = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "a/b", "~"]), values | st.just(ABSENT)), min_size=1, max_size=8
)


@given(operations, operations)
def test_a_patch_of_states_gives_exactly_the_other_state(tmp_path_factory, first, second):
    for kind in ("json", "sqlite"):
        with StateManager(f"{kind}:{tmp_path_factory.mktemp('store')}", "one") as state:
            for name, steps in (("one", first), ("two", second)):
                with state.transaction() as block:
                    for key, value in steps:
                        if value is ABSENT:
                            block.delete(key)
                        else:
                            block.save(key, value)
                state.checkpoint(name)
            for one, two in (("one", "two"), ("two", "one")):
                diff = state.diff(one, two)
                patched = jsonpatch.apply_patch(as_dict(state.at(one)), diff.as_json_patch())
                assert canonical(patched) == canonical(as_dict(state.at(two)))
                assert len(diff) == len(list(diff))


def test_a_diff_streams():
    def source():
        yield stateview.Change("a", "added", ABSENT, 1)
        raise Damaged("the second cannot be read")

    diff = Diff("x", "y", source)
    assert next(iter(diff)).key == "a"
    assert bool(diff)
    with pytest.raises(Damaged):
        len(diff)
    with pytest.raises(Damaged):
        list(diff)


def test_the_first_change_comes_before_the_last_is_read(tmp_path):
    with StateManager(f"sqlite:{tmp_path}", "one") as state:
        with state.transaction() as block:
            for number in range(2000):
                block.save(f"k{number:04}", number)
        with plain_sqlite(tmp_path / "one" / "state.db") as db:
            db.execute("UPDATE entries SET sum = sum + 1 WHERE key = 'k1999'")
        changes = iter(state.diff(0))
        assert next(changes).key == "k0000"
        with pytest.raises(Damaged, match="k1999"):
            list(changes)
        empty = StateManager(f"json:{tmp_path}", "empty")
        empty.checkpoint("beginning")
        across = stateview.diff(empty.at("live"), state.at("live"))
        assert next(iter(across)).key == "k0000"
        with pytest.raises(Damaged, match="k1999"):
            list(across)


def test_across_namespaces_and_stores(tmp_path):
    a = StateManager(f"json:{tmp_path / 'a'}", "one")
    b = StateManager(f"sqlite:{tmp_path / 'b'}", "two")
    a.save("only a", 1)
    a.save("same", {"x": [1, 2.0], "y": "é"})
    a.save("differs", {"n": 1})
    a.checkpoint("x")
    a.save("differs", "later")
    b.save("same", {"y": "é", "x": [1, 2.0]})
    b.save("differs", {"n": True})
    b.save("only b", None)
    diff = stateview.diff(a.at("x"), b.at("live"))
    assert [(change.key, change.kind) for change in diff] == [
        ("differs", "changed"), ("only a", "removed"), ("only b", "added"),
    ]  # fmt: skip
    assert [tuple(one) for one in next(iter(diff)).paths] == [("/n", "changed", 1, True)]
    assert len(diff) == 3
    patched = jsonpatch.apply_patch(as_dict(a.at("x")), diff.as_json_patch())
    assert canonical(patched) == canonical(as_dict(b.at("live")))
    assert [change.key for change in stateview.diff(b.at("live"), a.at("x"), keys=["same", "only*"])] == [
        "only a",
        "only b",
    ]
    other = StateManager(f"json:{tmp_path / 'a'}", "other")
    other.save("same", 1)
    assert len(stateview.diff(a.at("x"), other.at("live"))) == 3
    assert len(stateview.diff(a.at("x"), StateManager(f"json:{tmp_path / 'a'}", "one").at("x"))) == 0
