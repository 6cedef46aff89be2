"""A state machine over StateManager, against a model that keeps every revision in a plain dict.

Random acts for each kind of store: some hundred by default, over 10,000 in the stress tests. After every act, all
that a user can look at must be what the model says.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import count
from typing import Any, ClassVar, NamedTuple

import jsonpatch
import pytest
from conftest import REDIS
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from packed_history import deltas
from sealed_stores import KEY

from stateview import (
    ABSENT,
    Conflict,
    HistoryPruned,
    KeyNotFound,
    NamespaceNotFound,
    RefNotFound,
    StateManager,
    codec,
)
from stateview.backends.protocol import SUMMARY_BYTES

LENGTH = 50
# Runs for a kind of store, and how many steps they come to at least: Hypothesis ends some runs early.
RUNS, LEAST_STEPS = 12, 360

KEYS = st.sampled_from(["a", "a/b", "a~b", "ab", "b*", "b", "é", "😀", "[x]"])
LITERALS = {"b[*]": "b*", "[[]x]": "[x]", "é": "é"}  # patterns that can only be a key's own name
GLOBS = st.sampled_from(["*", "a*", "?", "*b", *LITERALS])
NAMES = st.sampled_from(["m", "n", "before"])
LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([1.0, 0.5, 10**30, "", "x", "1"])
SMALL = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc/~"), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
TEXT = " ".join(map(str, range(1200)))  # so large that JSON files pack the history after a commit
LARGE = st.builds(lambda start, inner: [TEXT[start:], inner], st.integers(0, 3), SMALL)
VALUES = st.integers(0, 3).flatmap(lambda number: LARGE if number else SMALL)  # some large values follow each other
BRIEF = 0.02  # seconds to live: on a slow machine it expires a step sooner, which the model knows from the clock
LONG = 3600.0
CLOCKS = timedelta(milliseconds=5)  # by which a server's clock may seem to differ

State = dict[str, "Held"]


class Held(NamedTuple):
    """A value in the model, and when it goes."""

    value: Any
    expires: datetime | None = None

    def visible(self, moment: datetime) -> bool:
        return self.expires is None or self.expires > moment

    @property
    def brief(self) -> bool:
        return self.expires is not None and (self.expires - datetime.now(UTC)).total_seconds() < LONG / 2


class Marked(NamedTuple):
    """A checkpoint in the model: what it showed when it was made."""

    name: str
    revision: int
    content: dict[str, Any]


def exact(value: Any) -> str:
    """Tells 1, 1.0 and True apart, as JSON does, which `==` does not."""
    return json.dumps(value, sort_keys=True)


def patched(content: dict[str, Any], operations: list[dict[str, Any]]) -> Any:
    """What jsonpatch makes of it; of a copy in which no two keys share an object."""
    return jsonpatch.apply_patch(json.loads(exact(content)), operations)


class Machine(RuleBasedStateMachine):
    store: ClassVar[str]
    numbers: ClassVar[count[int]]
    steps: ClassVar[int]
    packed: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self.namespace = f"run-{next(self.numbers)}"
        self.states: list[State] = [{}]
        self.marks: list[Marked] = []
        self.undone: list[int] = [0]  # revisions, each the content that an undo goes back to
        self.redoable: list[int] = []
        self.compacted = 0
        self.forks = 0

    @initialize(history=st.sampled_from([3, 12, 10_000]))
    def start(self, history: int) -> None:
        self.history = history
        self.state = StateManager(self.store, self.namespace, history=history)

    def teardown(self) -> None:
        if hasattr(self, "state"):
            self.state.close()
            if self.revision:
                type(self).packed += len(deltas(self.store, self.namespace))

    # --- the model ---------------------------------------------------------------------------------------------

    @property
    def live(self) -> dict[str, Any]:
        return {key: held.value for key, held in self.states[-1].items() if not held.brief}

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    def wrote(self, state: State, ordinary: bool = True) -> None:
        """A commit was made; what expires does so when the backend says."""
        for key, held in state.items():
            if held.brief and (versions := self.state.history(key, 1)) and versions[0].value is not ABSENT:
                state[key] = held._replace(expires=versions[0].expires)
        self.states.append(state)
        if ordinary:
            self.undone.append(self.revision)
            self.redoable.clear()

    def shown(self, revision: int, moment: datetime) -> dict[str, Any]:
        return {key: held.value for key, held in self.states[revision].items() if held.visible(moment)}

    def marked(self, name: str) -> None:
        """A checkpoint was made: remember what it shows, and that this is right."""
        found = next(one for one in self.state.checkpoints() if one.name == name)
        content = self.shown(found.revision, found.time)
        self.marks = [mark for mark in self.marks if (mark.name, mark.revision) != (name, found.revision)]
        self.marks.append(Marked(name, found.revision, content))

    def read(self, ref: str | int) -> dict[str, Any]:
        return {entry.key: entry.value for entry in self.state.at(ref).entries()}

    def settle(self) -> None:
        """Wait until what is about to expire is gone by any clock, so that live is what the model says."""
        for held in self.states[-1].values():
            while held.brief and held.visible(datetime.now(UTC) - CLOCKS):
                time.sleep(0.002)

    # --- after every step --------------------------------------------------------------------------------------

    def check_invariants(self, *arguments: Any, **options: Any) -> None:
        super().check_invariants(*arguments, **options)
        if hasattr(self, "state"):
            type(self).steps += 1
            self.check()

    def check(self) -> None:
        self.settle()
        live = self.live
        assert exact(self.read("live")) == exact(live)
        assert self.state.list_keys() == sorted(live)
        assert all(exact(self.state.load(key)) == exact(value) for key, value in live.items())
        head = self.state.head()
        assert (head.revision, head.count) == (self.revision, len(live))
        assert head.floor <= max(self.compacted, self.revision - self.history, 0)
        named = [(one.name, one.revision) for one in self.state.checkpoints(all=True)]
        assert named == [mark[:2] for mark in self.marks]
        current = {mark.name: mark for mark in self.marks}
        assert self.state.list_checkpoints() == [mark.name for mark in self.marks if current[mark.name] is mark]
        self.check_lists(live, None)
        for mark in self.marks:
            assert exact(self.read(f"{mark.name}@{mark.revision}")) == exact(mark.content)
        if self.marks:
            last = self.marks[-1]
            self.check_lists(last.content, f"{last.name}@{last.revision}")
            self.check_diff(last.name, last.content, "live", live)

    def check_lists(self, content: dict[str, Any], ref: str | None) -> None:
        keys = sorted(content)
        rows = self.state.rows(at=ref)
        assert [(row.key, row.size, row.start) for row in rows] == [
            (key, len(data), data[:SUMMARY_BYTES]) for key, data in ((key, codec.encode(content[key])) for key in keys)
        ]
        assert self.state.rows(after="a", limit=2, skip=1, at=ref) == [row for row in rows if row.key > "a"][1:3]
        assert self.state.rows("a", limit=2, backwards=True, at=ref) == [row for row in rows if row.key[0] == "a"][-2:]
        assert self.state.count(at=ref) == len(keys)
        assert self.state.count("a/b", "b", at=ref) == len([key for key in keys if "a/b" <= key < "b"])

    def check_diff(self, before: str, old: dict[str, Any], after: str, new: dict[str, Any]) -> None:
        for one, first, other, second in ((before, old, after, new), (after, new, before, old)):
            diff = self.state.diff(one, other)
            assert [change.key for change in diff] == sorted(
                key for key in first.keys() | second.keys()
                if key not in first or key not in second or exact(first[key]) != exact(second[key])
            )  # fmt: skip
            assert exact(patched(first, diff.as_json_patch())) == exact(second)

    # --- writing -----------------------------------------------------------------------------------------------

    @rule(key=KEYS, value=VALUES)
    def save(self, key: str, value: Any) -> None:
        assert self.state.save(key, value) == self.revision + 1
        self.wrote({**self.states[-1], key: Held(value)})

    @rule(key=KEYS, value=VALUES, mark=st.booleans())
    def save_with_ttl(self, key: str, value: Any, mark: bool) -> None:
        self.state.save(key, value, ttl=BRIEF)
        self.wrote({**self.states[-1], key: Held(value, datetime.now(UTC))})
        if mark:
            self.state.checkpoint("brief")
            self.marked("brief")

    @rule(key=KEYS, value=VALUES)
    def save_with_long_ttl(self, key: str, value: Any) -> None:
        self.state.save(key, value, ttl=LONG)
        self.wrote({**self.states[-1], key: Held(value)})
        left = self.state.entry(key).ttl
        assert left is not None
        assert LONG - 60 < left <= LONG + 1

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        there = key in self.live
        assert self.state.delete(key) is there
        if there:
            self.wrote({k: held for k, held in self.states[-1].items() if k != key})

    @rule(key=KEYS, value=VALUES)
    def save_expecting(self, key: str, value: Any) -> None:
        found = self.state.entry(key).revision if key in self.live else 0
        with pytest.raises(Conflict):
            self.state.save(key, value, expected=found + 1)
        self.state.save(key, value, expected=found)
        self.wrote({**self.states[-1], key: Held(value)})

    @rule(key=KEYS, value=VALUES)
    def update(self, key: str, value: Any) -> None:
        new = [self.live.get(key, "none"), value]
        assert self.state.update(key, lambda old: [old, value], default="none") == new
        self.wrote({**self.states[-1], key: Held(new)})

    @rule(keys=st.lists(KEYS, max_size=4), value=VALUES, fails=st.booleans())
    def transaction(self, keys: list[str], value: Any, fails: bool) -> None:
        after, wrote = {key: Held(held) for key, held in self.live.items()}, False
        try:
            with self.state.transaction() as tx:
                for number, key in enumerate(keys):
                    if number % 3 == 2:
                        assert tx.delete(key) is (key in after)
                        wrote = wrote or key in after
                        after.pop(key, None)
                    else:
                        assert exact(tx.load(key, "none")) == exact(after[key].value if key in after else "none")
                        tx.save(key, [value, number])
                        after[key], wrote = Held([value, number]), True
                assert tx.list_keys() == sorted(after)
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            return
        if wrote:
            self.wrote(after)

    # --- checkpoints -------------------------------------------------------------------------------------------

    @rule(name=NAMES)
    def checkpoint(self, name: str) -> None:
        assert self.state.checkpoint(name) == name
        self.marked(name)

    @rule()
    @precondition(lambda self: len(self.marks) < 12)
    def checkpoint_without_a_name(self) -> None:
        name = self.state.checkpoint()
        assert name.startswith("auto_")
        assert name not in {mark.name for mark in self.marks}
        self.marked(name)

    @rule(name=NAMES, back=st.integers(0, 4))
    def checkpoint_of_the_past(self, name: str, back: int) -> None:
        revision = self.revision - back
        if revision < 0 or not self.kept(revision):
            with pytest.raises(RefNotFound):
                self.state.checkpoint(name, at=f"live~{back}")
            return
        self.state.checkpoint(name, at=f"live~{back}")
        self.marked(name)

    def kept(self, revision: int) -> bool:
        return revision >= self.state.head().floor or revision in {mark.revision for mark in self.marks}

    @rule(data=st.data())
    @precondition(lambda self: self.marks)
    def delete_checkpoint(self, data: st.DataObject) -> None:
        mark = data.draw(st.sampled_from(self.marks))
        self.state.delete_checkpoint(f"{mark.name}@{mark.revision}")
        self.marks.remove(mark)

    @rule(data=st.data())
    @precondition(lambda self: self.marks)
    def rename_checkpoint(self, data: st.DataObject) -> None:
        mark = data.draw(st.sampled_from(self.marks))
        if any(other.name == "renamed" for other in self.marks):
            with pytest.raises(Conflict):
                self.state.rename_checkpoint(f"{mark.name}@{mark.revision}", "renamed")
            return
        self.state.rename_checkpoint(f"{mark.name}@{mark.revision}", "renamed")
        self.marks.remove(mark)
        self.marks.append(mark._replace(name="renamed"))

    # --- going back --------------------------------------------------------------------------------------------

    @rule(data=st.data(), globs=st.none() | st.lists(GLOBS, min_size=1, max_size=2), dry=st.booleans())
    @precondition(lambda self: self.marks)
    def restore(self, data: st.DataObject, globs: list[str] | None, dry: bool) -> None:
        mark = data.draw(st.sampled_from(self.marks))
        ref = f"{mark.name}@{mark.revision}"
        names = {mark.name for mark in self.marks}

        def chosen(key: str) -> bool:
            return globs is None or any(fnmatchcase(key, one) or key == one for one in globs)

        exactly = [LITERALS[one] for one in globs or () if one in LITERALS]
        if any(key not in self.live and key not in mark.content for key in exactly):
            with pytest.raises(KeyNotFound):
                self.state.restore_checkpoint(ref, globs, dry)
            return
        diff = self.state.restore_checkpoint(ref, globs, dry)
        after = {key: held for key, held in self.states[-1].items() if not chosen(key)}
        was = self.states[mark.revision]
        after |= {key: was[key] for key in mark.content if chosen(key)}
        if dry:
            if not any(held.brief for held in after.values()):
                want = {key: held.value for key, held in after.items()}
                assert exact(patched(self.live, diff.as_json_patch())) == exact(want)
            return
        if self.state.revision > self.revision:
            assert self.state.revision == self.revision + 1
            self.wrote(after)
            made = {one.name: one for one in self.state.checkpoints()}.keys() - names
            assert len(made) == 1
            name = made.pop()
            assert name.startswith("before_restore_")
            self.marked(name)
            self.state.delete_checkpoint(name)
            self.marks.pop()
        else:
            assert exact({key: held.value for key, held in after.items() if not held.brief}) == exact(self.live)

    @rule()
    def undo(self) -> None:
        floor = self.state.head().floor
        position = self.undone[-1]
        if position == 0:
            with pytest.raises(RefNotFound):
                self.state.undo()
            return
        target = self.undone[-2]
        if position <= floor or self.revision <= floor:
            with pytest.raises(HistoryPruned):
                self.state.undo()
            return
        self.state.undo()
        self.wrote({key: held for key, held in self.states[target].items() if not held.brief}, ordinary=False)
        self.redoable.append(position)
        self.undone.pop()

    @rule()
    def redo(self) -> None:
        if not self.redoable:
            with pytest.raises(RefNotFound):
                self.state.redo()
            return
        try:
            self.state.redo()
        except RefNotFound:
            assert self.state.head().floor > 0
            self.redoable.clear()
            return
        position = self.redoable.pop()
        self.wrote({key: held for key, held in self.states[position].items() if not held.brief}, ordinary=False)
        self.undone.append(position)

    @rule(back=st.integers(0, 20))
    def look_back(self, back: int) -> None:
        revision = self.revision - back
        if revision < 0:
            with pytest.raises(RefNotFound):
                self.state.at(f"live~{back}")
        elif self.kept(revision):
            lasting = {key: held.value for key, held in self.states[revision].items() if held.expires is None}
            found = self.read(revision)
            assert found.keys() <= self.states[revision].keys()
            assert exact({key: value for key, value in found.items() if key in lasting}) == exact(lasting)
            for key in lasting:
                assert self.state.entry(key, at=revision).revision <= revision
        else:
            with pytest.raises(HistoryPruned):
                self.read(revision)

    @rule(key=KEYS)
    def look_at_a_key(self, key: str) -> None:
        versions = self.state.history(key)
        assert [one.revision for one in versions] == sorted({one.revision for one in versions}, reverse=True)
        for one in versions:
            held = self.states[one.revision].get(key)
            if one.value is ABSENT:
                assert held is None or held.brief
            else:
                assert held is not None
                assert exact(one.value) == exact(held.value)

    @rule(data=st.data())
    @precondition(lambda self: self.marks)
    def compare_checkpoints(self, data: st.DataObject) -> None:
        one, other = data.draw(st.sampled_from(self.marks)), data.draw(st.sampled_from(self.marks))
        self.check_diff(f"{one.name}@{one.revision}", one.content, f"{other.name}@{other.revision}", other.content)

    # --- the store ---------------------------------------------------------------------------------------------

    @rule(at_mark=st.booleans())
    @precondition(lambda self: self.forks < 3)
    def fork(self, at_mark: bool) -> None:
        self.forks += 1
        ref, content = "live", self.live
        if at_mark and self.marks:
            mark = self.marks[-1]
            ref, content = f"{mark.name}@{mark.revision}", mark.content
        name = f"{self.namespace}-fork-{self.forks}"
        if not self.state.head().lineage:
            with pytest.raises(NamespaceNotFound):
                self.state.fork(name)
            return
        with self.state.fork(name, at=ref) as other:
            if not any(held.expires for held in self.states[-1 if ref == "live" else mark.revision].values()):
                assert exact({entry.key: entry.value for entry in other.at("live").entries()}) == exact(content)
            other.save("a", "theirs")
            other.checkpoint("theirs")
        with pytest.raises(Conflict):
            self.state.fork(name)

    @rule(history=st.sampled_from([3, 12, 10_000]))
    def reopen(self, history: int) -> None:
        self.state.close()
        self.history = min(self.history, history)
        self.state = StateManager(self.store, self.namespace, history=history)

    @rule(back=st.integers(0, 8))
    def compact(self, back: int) -> None:
        floor = max(0, self.revision - back)
        assert self.state.compact(floor) >= 0
        self.compacted = max(self.compacted, floor)
        assert self.state.head().floor >= floor
        assert self.state.compact(floor) == 0

    @rule()
    def recover(self) -> None:
        assert self.state.recover().problems == ()


@pytest.mark.stress
@pytest.mark.parametrize("sealed", [False, True])
def test_machine(kind: str, sealed: bool, new_store: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Run(Machine):
        store = new_store(kind)
        numbers = count()
        steps = 0
        packed = 0

    runs = RUNS // 3 if sealed or kind in list(REDIS)[1:] else RUNS
    if sealed:
        monkeypatch.setenv("STATEVIEW_KEY", KEY.printed())
    checks = settings(
        max_examples=runs, stateful_step_count=LENGTH, deadline=None, derandomize="CI" in os.environ, database=None,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    run_state_machine_as_test(Run, settings=checks)
    print(f"{kind}: {Run.steps} steps, {Run.packed} deltas left")
    assert runs < RUNS or Run.packed > 0  # a short run may happen to end without any
    assert Run.steps >= LEAST_STEPS * runs // RUNS
