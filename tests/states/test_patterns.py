"""Which keys a pattern chooses: a key of that very name alone, else what the glob matches; in every selection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stateview import KeyNotFound, StateManager
from stateview.cli.commands import checkpoints, keys, search
from stateview.cli.context import Context
from stateview.dashboard.data.filtered_key_source import FilteredKeys
from stateview.states.matching.patterns import KeyName, Selection, compile_globs
from stateview.states.view import diff

NAMES = ("a[0]", "a*", "a?", "[ab]", "*", "a[[]0]", "[!x]*")  # each is a key here, and as a glob matches others too
OTHERS = ("a0", "ab", "b", "a00")


@pytest.fixture
def state(store_url: str) -> Iterator[StateManager]:
    with StateManager(store_url, "work") as manager:
        with manager.transaction() as both:
            for key in (*NAMES, *OTHERS):
                both.save(key, 1)
        manager.checkpoint("c")
        with manager.transaction() as both:
            for key in (*NAMES, *OTHERS):
                both.save(key, 2)
        yield manager


@pytest.fixture
def context(state: StateManager) -> Iterator[Context]:
    context = Context({"store": state.url, "namespace": "work", "yes": True})
    yield context
    context.close()


def test_a_key_of_that_name_is_chosen_alone(state: StateManager, context: Context, tmp_path: Path) -> None:
    view = state.at("c")

    def exported(name: str, **options: Any) -> list[str]:
        target = str(tmp_path / "out.json")
        state.export(target, keys=[name], overwrite=True, **options)
        return list(json.loads(Path(target).read_text()))

    def named(rows: Any, column: int = 0) -> list[str]:
        return [row[column] for row in rows]

    ways: list[Callable[[str], list[str]]] = [
        lambda name: view.list_keys(keys=[name]),
        lambda name: state.list_keys(keys=name),
        lambda name: [entry.key for entry in view.entries(keys=[name])],
        lambda name: [change.key for change in state.diff("c", keys=[name])],
        lambda name: [change.key for change in diff(view, state.at("live"), [name])],
        lambda name: [change.key for change in state.restore_checkpoint("c", keys=[name], dry_run=True)],
        lambda name: [change.key for change in state.restore_checkpoint("c", keys=[name], dry_run=True, previewed=2)],
        exported,
        lambda name: named(keys.keys(context, {"pattern": name}).rows),
        lambda name: named(search.find(context, {"pattern": "1", "at": "c", "keys": [name]}).rows),
        lambda name: [change.key for change in checkpoints.diff(context, {"before": "c", "keys": [name]}).diff or ()],
    ]
    for name in NAMES:
        for number, way in enumerate(ways):
            assert way(name) == [name], (number, name)
    assert named(search.find(context, {"pattern": "a[0]", "in": "keys"}).rows) == ["a[0]"]
    for pattern, found in (("a0*", ["a0", "a00"]), ("?0", ["a0"]), ("a[b]", ["ab"])):
        for number, way in enumerate(ways):
            assert way(pattern) == found, (number, pattern)


@pytest.mark.parametrize("name", ["a[0]", "*"])
def test_what_is_written_is_that_key_alone(state: StateManager, context: Context, name: str) -> None:
    rest = dict.fromkeys((*NAMES, *OTHERS), 2)
    assert [change.key for change in state.restore_checkpoint("c", keys=[name])] == [name]
    assert {key: state.load(key) for key in rest} == {**rest, name: 1}
    assert [change.key for change in state.revert(name, 2)] == [name]
    state.delete(name)  # the name is a key of the checkpoint only
    assert [change.key for change in state.restore_checkpoint("c", keys=[name])] == [name]
    assert keys.delete(context, {"key": [name, "b"]}).data == {"deleted": sorted([name, "b"])}
    with state.transaction() as transaction:
        context.transaction = transaction
        transaction.save(name, 3)
        assert [row[0] for row in keys.keys(context, {"pattern": name}).rows] == [name]
        assert keys.delete(context, {"key": [name]}).data == {"deleted": [name]}
        context.transaction = None
    assert state.list_keys() == sorted({*NAMES, *OTHERS} - {name, "b"})


def test_a_revert_takes_the_key_and_not_one_that_is_named_as_its_escaped_form(state: StateManager) -> None:
    assert [change.key for change in state.revert("a[0]", 1)] == ["a[0]"]
    assert state.load("a[[]0]") == 2


def test_a_revert_of_a_key_that_is_in_neither_state_reverts_no_other(state: StateManager) -> None:
    state.save("new", 1)
    state.save("new", 2)
    with pytest.raises(KeyNotFound):
        state.revert("n*", state.revision - 1)
    assert state.load("new") == 2


def test_watch_looks_at_both_states_of_each_step(state: StateManager) -> None:
    changes = state.watch(since=state.revision, keys=["a[0]"], timeout=0.1)
    with state.transaction() as both:
        both.save("a0", 3)
        both.delete("a[0]")
    assert [(change.key, change.kind) for change in changes] == [("a[0]", "removed")]
    changes = state.watch(since=state.revision, keys=["a[0]"], timeout=0.1)
    state.save("a0", 4)  # no key is named so any more
    assert [change.key for change in changes] == ["a0"]


def test_the_filter_of_the_dashboard(state: StateManager) -> None:
    source = FilteredKeys(state, text="a[0]")

    def listed() -> list[str]:
        for _ in range(100):
            source._pace.rest_until = 0
            if source.work(lambda: False) is None:
                break
        return [row.key for row in source.page(0, 20).rows]

    assert listed() == ["a[0]"]
    state.delete("a[0]")
    source.invalidate(["a[0]"])
    assert listed() == ["a0"]
    state.save("a[0]", 1)
    source.invalidate(["a[0]"])
    assert listed() == ["a[0]"]


def test_a_selection_knows_names() -> None:
    chosen = Selection(["a[0]", "b*", KeyName("c?"), "d"]).among({"a[0]"}.intersection)
    assert [key for key in ("a[0]", "a0", "b1", "b*", "c?", "cx", "d") if chosen(key)] == [
        "a[0]",
        "b1",
        "b*",
        "c?",
        "d",
    ]
    assert chosen.exact() == ["a[0]", "c?", "d"]
    assert Selection([KeyName("x[1]y")]).prefix() == "x[1]y"
    assert Selection("a[[]0]")("a[0]") and not Selection("a[[]0]")("a0")
    asked: list[list[str]] = []
    Selection(["plain", KeyName("*")]).among(lambda names: asked.append(names) or ())
    assert not asked  # no read without a wildcard


@pytest.mark.parametrize("pattern", ["*a" * 60 + "b", "a*" * 100 + "b", "*" * 300 + "b", "*[!b]" * 40 + "b"])
def test_globs_do_not_backtrack(pattern: str) -> None:
    for ignore_case in (False, True):
        assert not compile_globs(pattern, "no", ignore_case=ignore_case).match(
            "a" * 20_000 + "c" * pattern.endswith("b")
        )
