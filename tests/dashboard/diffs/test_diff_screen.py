"""The diff screen, on real stores: what it lists, how it moves, and what it does with what is too large or hostile."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import conftest
import jsonpatch
import pytest
from dashboard_host import answered, compared, line_with, lines, run, screen_text, shown, until, write
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot

from stateview import StateManager
from stateview.arguments import KeyName
from stateview.dashboard.actions.patch_export import write_patch
from stateview.dashboard.actions.pickers import choose_namespace
from stateview.dashboard.app import Dashboard
from stateview.dashboard.data.diff_model import (
    KINDS,
    NONE,
    PARTLY,
    WHOLE,
    DiffFilter,
    DiffIndex,
    DiffProgress,
    DiffSides,
    RecheckResult,
    collect,
    selectors,
    side,
)
from stateview.dashboard.data.diff_rows import MAX_ROWS, Layout, places_of, rows_of, stops_of
from stateview.dashboard.data.diff_spans import LINE_CHARACTERS, StyledSpan, words, wrap
from stateview.dashboard.dialogs.prompt import PromptDialog
from stateview.dashboard.screens.diff import DiffScreen, distinct_names
from stateview.dashboard.widgets.diff_view import DiffView
from stateview.dashboard.widgets.line_input import LineInput
from stateview.model import ABSENT, Kind
from stateview.states.changes import Change
from stateview.states.values.json_diff import compare

TEXT = "the quick brown fox\njumps over\nthe lazy dog\n" + "\n".join(f"line {n}" for n in range(30))
FLOWS = conftest.KINDS[:3]  # one of each


def seen(*_: object) -> bool:
    return False


def seed(url: str) -> StateManager:
    """A checkpoint, and since then one key added, one removed and two changed."""
    manager = StateManager(url, "work")
    manager.save("job", {"tokens": 347, "tags": ["a", "b"], "meta": {"err": None, "steps": [{"id": 1}, {"id": 2}]}})
    manager.save("notes", TEXT)
    manager.save("gone", {"x": 1})
    manager.save("same", 1)
    manager.checkpoint("before-fix")
    manager.save("job", {"tokens": 512, "tags": ["a", "x", "b"], "meta": {"steps": [{"id": 1}, {"id": 3}]}})
    manager.save("notes", TEXT.replace("brown", "red").replace("dog", "cat"))
    manager.delete("gone")
    manager.save("fresh", [1, 2])
    return manager


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    return new_store("sqlite")


def sides_of(manager: StateManager, before: str, after: str = "live") -> DiffSides:
    return DiffSides(side(manager.backend, before), side(manager.backend, after))


def test_a_side_keeps_a_ref_that_later_means_the_same_state(url: str) -> None:
    with seed(url) as manager:
        backend = manager.backend
        refs = {ref: side(backend, ref).ref for ref in ("live", "live~1", 3, "before-fix", "before-fix~1", "@0s~2")}
        assert refs == {
            "live": "8", "live~1": "7", 3: "3", "before-fix": "before-fix@4", "before-fix~1": "3", "@0s~2": "6",
        }  # fmt: skip
        ref = side(backend, "@0s").ref
        manager.save("later", 1)
        assert ref.startswith("@20") and manager.at(ref).revision == 8


# --- what is held ----------------------------------------------------------------------------------------------------


def found_of(kinds: dict[str, Kind], mark: int = NONE) -> DiffIndex:
    found = DiffIndex(mark)
    for key in sorted(kinds):
        found.extend([key], bytes([KINDS.index(kinds[key])]))
    return found


def check_counts(found: DiffIndex) -> None:
    for kind in KINDS:
        for mark in (NONE, PARTLY, WHOLE):
            places = range(len(found))
            assert found.count(kind, mark) == sum(found.kind(at) == kind and found.mark(at) == mark for at in places)
    assert set(found.marked_keys(PARTLY)) == set(found.partly)


STATES = st.dictionaries(st.text(max_size=2), st.sampled_from(KINDS), max_size=12)


@given(STATES, st.dictionaries(st.text(max_size=2), st.sampled_from([*KINDS, None]), max_size=6), st.data())
def test_what_is_looked_at_again_takes_its_place_and_keeps_its_mark(
    kinds: dict[str, Kind], again: dict[str, Kind | None], data: st.DataObject
) -> None:
    found = found_of(kinds, WHOLE)
    for at in range(len(found)):
        mark = data.draw(st.sampled_from([NONE, PARTLY, WHOLE]))
        found.set_mark(at, mark, {"/a"} if mark == PARTLY else None)
    marks = {key: found.mark(at) for at, key in enumerate(found.keys)}
    check_counts(found)
    kept = {key: chosen for key, chosen in found.partly.items() if key not in again or again[key] == "changed"}
    fresh = found.merge(RecheckResult(None, again, kept))  # type: ignore[arg-type]
    expected = {key: kind for key, kind in {**kinds, **again}.items() if kind is not None}
    assert found.keys == sorted(expected)
    assert [found.kind(at) for at in range(len(found))] == [expected[key] for key in found.keys]
    assert fresh == sum(key not in kinds and kind is not None for key, kind in again.items())
    for at, key in enumerate(found.keys):
        lost = marks.get(key) == PARTLY and key not in kept
        assert found.mark(at) == (NONE if lost else marks.get(key, NONE))
    check_counts(found)


@given(STATES, st.sampled_from([NONE, WHOLE, None]), st.booleans())
def test_marking_all_none_and_the_others(kinds: dict[str, Kind], mark: int | None, some: bool) -> None:
    found = found_of(kinds)
    for at in range(0, len(found), 2):
        found.set_mark(at, WHOLE)
    before = [found.mark(at) for at in range(len(found))]
    chosen = range(0, len(found), 3) if some else range(len(found))
    found.set_marks(mark, chosen if some else None)
    for at, old in enumerate(before):
        wanted = mark if mark is not None else NONE if old else WHOLE
        assert found.mark(at) == (wanted if at in chosen else old)
    check_counts(found)


def test_marks_are_taken_over_by_what_is_listed_anew() -> None:
    old = found_of({"a": "added", "b": "changed", "c": "removed"}, WHOLE)
    old.set_mark(0, NONE)
    old.set_mark(1, PARTLY, {"/x"})
    new = DiffIndex(WHOLE)
    new.earlier = old
    new.extend(["a", "aa", "b", "c"], bytes([0, 0, 2, 1]))
    assert [new.mark(at) for at in range(4)] == [NONE, WHOLE, PARTLY, WHOLE]
    assert new.partly == {"b": {"/x"}}
    check_counts(new)


@given(STATES, st.sets(st.sampled_from(KINDS)), st.sampled_from(["", "a", "A", "*a", "?", "[ab]*", "["]))
def test_a_filter_shows_the_same_however_it_is_stepped(kinds: dict[str, Kind], some: set[Kind], text: str) -> None:
    found = found_of(kinds)
    at_once, stepped = DiffFilter(found, frozenset(some), text), DiffFilter(found, frozenset(some), text)
    at_once.advance(10_000)
    while not stepped.done:
        stepped.advance(1)
    assert list(at_once) == list(stepped)
    assert all(found.kind(place) in some for place in at_once)
    if text == "a":
        assert [found.keys[place] for place in at_once] == [
            key for key in found.keys if kinds[key] in some and "a" in key.lower()
        ]
    for place in range(len(found)):
        index = at_once.find(place)
        assert all(one < place for one in list(at_once)[:index]) and all(one >= place for one in list(at_once)[index:])


@pytest.mark.parametrize("step", [1, 2, 10])
def test_a_filter_that_is_the_name_of_a_key_that_differs_shows_that_key_alone(step: int) -> None:
    found = found_of({"a0": "added", "aX": "added"})
    shown = DiffFilter(found, text="a[0X]")
    shown.advance(step)
    assert [found.keys[place] for place in shown] == ["a0", "aX"][:step]
    found.extend(["a[0X]", "a[1]"], bytes([0, 0]))
    while not shown.done:
        shown.advance(step)
    assert [found.keys[place] for place in shown] == ["a[0X]"]
    hidden = DiffFilter(found, frozenset(["removed"]), "a[0X]")
    hidden.advance(10)
    assert not list(hidden)


def test_the_first_change_is_told_at_once_and_the_rest_in_batches() -> None:
    told: list[int] = []
    collect((Change(f"k{n:06}", "added", ABSENT, 1) for n in range(5000)), lambda keys, kinds: told.append(len(keys)))
    assert told[0] == 1
    assert sum(told) == 5000
    assert len(told) < 200


# --- lines -----------------------------------------------------------------------------------------------------------


def painted(
    before: Any, after: Any, width: int = 80, split: bool = False, hidden: Callable[..., bool] = seen
) -> list[str]:
    kind: Kind = "added" if before is ABSENT else "removed" if after is ABSENT else "changed"
    change = Change("k", kind, before, after)
    places, whole = places_of(change, lambda: False)
    layout = Layout(width, split)
    out = []
    for row in rows_of("k", places, whole, layout, hidden):
        text = row.sign + " " + "".join(part.text for part in row.left)
        if row.right is not None:
            text = f"{text:{layout.half}} | {row.right_sign} " + "".join(part.text for part in row.right)
        out.append(text)
    return out


def test_a_place_stands_on_one_line_where_that_has_room_and_else_on_several() -> None:
    assert painted({"a": 1, "b": 2}, {"a": 1, "b": 3}) == ["~ /b  2 → 3"]
    assert painted({"a": 1}, {"a": 1, "b": "x"}) == ['+ /b  "x"']
    assert painted(1, 2) == ["~ (the whole value)  1 → 2"]
    old, new = "same words here " * 4 + "old", "same words here " * 4 + "new"
    assert painted(old, new, 60) == [
        "~ (the whole value)",
        '− "same words here same words here same words here same ',
        '  words here old"',
        '+ "same words here same words here same words here same ',
        '  words here new"',
    ]


@pytest.mark.parametrize("split", [False, True])
def test_of_a_wrapped_line_only_the_beginning_has_a_sign_and_all_of_it_differs(split: bool) -> None:
    old = ["same", "these words are in both of the two lines " * 6 + "old", "also the same " * 20, "last"]
    new = [*old[:1], old[1].replace("old", "new"), *old[2:3], "end", "more"]
    places = compare("\n".join(old), "\n".join(new))
    rows = rows_of("k", places, True, Layout(60, split), seen)
    texts = ["".join(part.text for part in row.left) for row in rows]
    assert sum(row.sign == "−" for row in rows) == 2  # one for each line that went
    assert sum("+" in (row.sign, row.right_sign) and not row.head for row in rows) == 3
    first = next(at for at, row in enumerate(rows) if row.sign == "−")
    rest = [row for row in rows[first + 1 :] if row.goes_on]
    assert rest and {row.sign for row in rest} == {" "} == {row.right_sign for row in rest}
    in_both = ["also the same" in text for text in texts]
    assert any(row.goes_on for row, both in zip(rows, in_both, strict=True) if both)
    assert not any(row.differs for row, both in zip(rows, in_both, strict=True) if both)
    assert all(row.differs for row, text in zip(rows, texts, strict=True) if "words" in text or "both of" in text)
    assert len(stops_of(rows)) == 2


def test_lines_are_parted_between_words_where_one_ends_near_and_else_anywhere() -> None:
    def parted(text: str, width: int, indent: int = 0) -> list[str]:
        return ["".join(part.text for part in row) for row in wrap((StyledSpan(text),), width, indent)]

    assert parted("the quick brown fox", 12) == ["the quick ", "brown fox"]
    assert parted("the quick brown fox", 11, 2) == ["the quick ", "brown fox"]
    assert parted("the quick brown fox", 11, 4) == ["the quick ", "brown ", "fox"]
    assert parted("a bcdefghijklmnop", 12) == ["a bcdefghijk", "lmnop"]  # the word began too far back
    assert parted("漢字 漢字漢字", 8) == ["漢字 漢", "字漢字"]
    assert parted("漢字漢 字漢字", 8) == ["漢字漢 ", "字漢字"]


def test_before_each_changed_stretch_of_a_text_stand_its_lines() -> None:
    old = [f"line {number}" for number in range(1, 1301)]
    new = [*old[:50], "fifty-one", *old[51:90], "between", *old[90:1200], *old[1205:]]
    for split in (False, True):
        rows = rows_of("k", compare("\n".join(old), "\n".join(new)), True, Layout(80, split), seen)
        where = [at for at, row in enumerate(rows) if row.sign == "@"]
        assert [rows[at].left[0].text for at in where] == ["51 → 51", "91 → 91", "1,201 → 1,202"]
        assert stops_of(rows) == [at + 1 for at in where]  # the title is none: it says only that the text changed
        assert [rows[at].left[0].text for at in (*stops_of(rows)[::2],)] == ["line 51", "line 1201"]


def test_the_words_that_differ_are_marked() -> None:
    old, new = words("the quick brown fox", "the quick red fox")
    assert [part.text for part in old if part.marked] == ["brown"]
    assert [part.text for part in new if part.marked] == ["red"]
    assert "".join(part.text for part in old) == "the quick brown fox"
    assert words("abc", "xyz") == ((StyledSpan("abc", "removed"),), (StyledSpan("xyz", "added"),))


def test_a_text_is_compared_line_by_line_and_its_changed_lines_stand_side_by_side() -> None:
    before, after = TEXT, TEXT.replace("brown", "red")
    assert painted(before, after)[:3] == [
        "~ (the whole value)  33 → 33 lines",
        "@ 1 → 1",
        "− the quick brown fox",
    ]
    assert painted(before, after)[3] == "+ the quick red fox"
    assert "27" in painted(before, after)[-2] or any("equal lines" in line for line in painted(before, after))
    split = painted(before, after, 80, split=True)
    assert split[2].startswith("− the quick brown fox") and split[2].endswith("| + the quick red fox")


def test_of_two_long_lines_what_lies_around_their_first_difference_is_shown() -> None:
    before = "x" * 5_000_000 + "OLD" + "y" * 5_000_000
    after = "x" * 5_000_000 + "NEW" + "y" * 5_000_000
    start = time.monotonic()
    text = "\n".join(painted(before, after))
    assert time.monotonic() - start < 20  # not the square of the length
    assert "OLD" in text and "NEW" in text and "10,000,003 characters" in text
    assert len(text) < 6 * LINE_CHARACTERS


@given(st.text(max_size=60) | st.text("ab 漢\u0301", max_size=60), st.integers(4, 30), st.integers(0, 2))
def test_wrapping_loses_nothing_and_fits(text: str, width: int, indent: int) -> None:
    from rich.cells import cell_len

    from stateview.cli.render import escape_control_characters

    rows = wrap((StyledSpan(text[:20], "a"), StyledSpan(text[20:], "b", True)), width, indent)
    assert "".join(part.text for row in rows for part in row) == escape_control_characters(text)
    assert "".join(part.text for row in rows for part in row if part.marked) == escape_control_characters(text[20:])
    widths = [cell_len("".join(part.text for part in row)) for row in rows]
    assert widths[0] <= width and all(one <= width - indent for one in widths[1:])


def test_what_is_shown_of_a_change_is_bounded() -> None:
    many = painted({"a": list(range(50_000))}, {"a": [n + 1_000_000 for n in range(50_000)]})
    assert len(many) <= MAX_ROWS + 1
    assert len(painted(ABSENT, list(range(1_000_000)))) < 1_000
    deep: Any = 1
    for _ in range(199):
        deep = [deep]
    assert len(painted(ABSENT, deep)) < 1_000
    assert all(len(line) < 3000 for line in painted(ABSENT, {"k" * 100_000: "v" * 1_000_000}))
    assert len(painted(1, 10**5000, 80)) < 100
    assert "bits" in painted(ABSENT, 10**100_000)[0]


def test_what_is_redacted_is_masked_wherever_it_stands() -> None:
    def hidden(name: str, *_: object) -> bool:
        return "token" in name

    secret = {"user": {"token": "s3cret"}, "n": 1}
    for before, after in ((ABSENT, secret), (secret, ABSENT), ({"user": 1}, secret), (secret, {**secret, "n": 2})):
        assert "s3cret" not in "\n".join(painted(before, after, hidden=hidden))
    assert painted({"token": "s3cret"}, {"token": "other"}, hidden=hidden) == ["~ /token  •••••• → ••••••"]
    change = Change("token", "changed", "s3cret", "other")
    assert "s3cret" not in str(rows_of("token", change.paths, True, Layout(80), hidden))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, JSON, st.integers(20, 120), st.booleans())
def test_every_place_has_a_line_of_its_own(before: Any, after: Any, width: int, split: bool) -> None:
    places = compare(before, after)
    rows = rows_of("k", places, True, Layout(width, split), seen)
    assert [row.place for row in rows if row.head] == list(range(len(places)))
    assert len(set(selectors(places))) == len(places)


def test_a_choice_of_many_keys_takes_each_by_its_name_alone() -> None:
    from stateview.states.matching.patterns import Selection

    keys = [f"a[{n}]*?" for n in range(20_000)]
    chosen = Selection(map(KeyName, keys))
    start = time.monotonic()
    assert all(map(chosen, keys)) and not chosen("a[1]x?")
    assert time.monotonic() - start < 20  # not each pattern for each key
    assert chosen.exact() == keys


# --- the screen ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow_kind", FLOWS)
def test_keys_that_differ_are_listed_with_their_kind_and_their_change_beside(
    flow_kind: str, new_store: Callable[[str], str]
) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        pilot.app.push_screen(DiffScreen("before-fix"))
        await shown(pilot, "Diff  before-fix → live   +1 −1 ~2", "+ fresh", "− gone", "~ job", "~ notes", "[1,2]")
        await shown(pilot, "CLI: stateview diff before-fix live")
        await pilot.press("j", "j")
        await shown(pilot, "~ /tokens  347 → 512", '+ /tags/1  "x"', "− /meta/err  null", "~ /meta/steps/1/id  2 → 3")
        await pilot.press("j")
        await shown(pilot, "− the quick brown fox", "+ the quick red fox")
        assert "same" not in screen_text(pilot.app)

    run(seed(new_store(flow_kind)), flow)


def test_next_and_previous_go_from_place_to_place_and_on_to_the_next_key(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("before-fix")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count == 4 and screen.view.change)
        went = []
        for key in "]" * 6 + "[" * 6:
            await pilot.press(key)
            await until(pilot, lambda: screen.view.key == screen.keys.key and not screen.view.busy)
            went.append((screen.keys.key, screen.view.place))
        there = [("gone", 0), *(("job", n) for n in range(4)), ("notes", 0)]
        assert went == [*there, *there[-2::-1], ("fresh", 0)]
        await pilot.press("[")
        await until(pilot, lambda: "this is the first change" in pilot.app.told())

    run(seed(url), flow)


@pytest.mark.parametrize("split", [False, True])
def test_next_and_previous_stop_at_each_changed_stretch_of_a_long_text(url: str, split: bool) -> None:
    manager = StateManager(url, "work")
    old = [f"line {number}" for number in range(200)]
    manager.save("spec", {"text": "\n".join(old), "tries": 1})
    manager.checkpoint("start")
    new = [*old[:50], "fifty", "fifty-one", *old[52:120], *old[121:]]
    manager.save("spec", {"text": "\n".join(new), "tries": 2})

    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("start")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.view.change)
        if split:
            await pilot.press("t")
            await until(pilot, lambda: not screen.view.busy)
        wanted = ["line 50", "line 120", "/tries"]
        seen = []
        for key in ("", "]", "]", "[", "["):
            await pilot.press(*key)
            text = "".join(part.text for part in screen.view._rows[screen.view.cursor].left)
            seen.append(next((word for word in wanted if word in text), ""))
            await shown(pilot, f"{wanted.index(seen[-1]) + 1} of 3 · r1 → r2 · spec")
        assert seen == [*wanted, *wanted[-2::-1]]
        assert "/text" in screen_text(pilot.app), "the title is on the screen too"

    run(manager, flow, (140, 30))


def test_the_counter_says_where_one_is_on_every_line(url: str) -> None:
    manager = StateManager(url, "work")
    old = [f"line {number}" for number in range(60)]
    manager.save("spec", {"a": 1, "text": "\n".join(old)})
    manager.checkpoint("start")
    manager.save("spec", {"a": 2, "text": "\n".join([*old[:20], "x", *old[21:50], "y", *old[51:]])})

    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("start")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.view.change)
        view, at = screen.view, []
        await pilot.press("enter")
        for _ in range(view.count):
            at.append(view.stop[0])
            await pilot.press("j")
        assert at == sorted(at) and set(at) == {1, 2, 3}
        assert at.index(2) == 1  # the title of the text belongs to its first stretch
        assert view.stop == (3, 3)

    run(manager, flow)


def test_side_by_side_and_back_the_cursor_keeps_its_line(url: str) -> None:
    manager = StateManager(url, "work")
    old = [f"line {number} has a few words, so that half the screen is not enough" for number in range(200)]
    manager.save("spec", {"a": 1, "text": "\n".join(old), "z": 1})
    manager.checkpoint("start")
    new = [text.replace("few", "good few") if n % 40 in (5, 6, 7) else text for n, text in enumerate(old)]
    new.insert(170, "one that was not there")
    manager.save("spec", {"a": 2, "text": "\n".join(new), "z": 2})

    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("start")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.view.change)
        view = screen.view

        def under() -> str:
            row = view._rows[view.cursor]
            return "".join(part.text for part in row.left or row.right or ()).partition("  ")[0]

        for step in range(view.stop[1]):
            before, stop = under(), view.stop
            assert stop[0] == step + 1
            if 0 < step < 7:  # all of what changed is seen, with its number
                changed = screen_text(pilot.app)
                assert "@ " in changed and ("+ one" in changed or changed.count("a good few") in (2, 3))
            for _ in range(2):
                await pilot.press("t")
                await until(pilot, lambda: not view.busy)
                assert view.stop == stop and under()[:8] == before[:8]
                top = view.scroll_offset.y
                assert top <= view.cursor < top + view.size.height
            await pilot.press("]")
        assert step == 7
        await pilot.press("t")
        await until(pilot, lambda: not view.busy)
        await pilot.press("enter", "j")  # the two sides of /z, which have no line of their own one under the other
        await pilot.press("t")
        await until(pilot, lambda: not view.busy)
        assert view.stop == (8, 8) and under() == "/z"
        await pilot.press("[", "[")
        while not under().startswith("line 166 has a good few"):  # the second of three lines, as it became
            await pilot.press("j")
        await pilot.press("t")
        await until(pilot, lambda: not view.busy)
        assert under().startswith("line 166")

    run(manager, flow, (140, 12))


def test_under_80_columns_stepping_shows_what_one_steps_to_and_esc_goes_back_to_the_list(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("before-fix")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count == 4 and screen.view.change and screen.run.state == "whole")
        await until(pilot, lambda: not screen.view.busy)
        assert not screen.view.display or not screen.query_one("#right").display
        await pilot.press("]")
        await until(pilot, lambda: screen.keys.key == screen.view.key == "gone" and not screen.view.busy)
        await pilot.press("]")
        await shown(pilot, "/tokens  347 → 512", "1 of 4 · r")
        assert screen.focused is screen.view
        await pilot.press("escape")
        await shown(pilot, "+ fresh", "~ job")
        assert pilot.app.screen is screen and screen.focused is screen.keys and screen.keys.key == "job"
        await pilot.resize_terminal(100, 20)
        await pilot.press("]")
        assert screen.focused is screen.keys  # both are seen: the focus stays where it is

    run(seed(url), flow, (60, 15))


def test_kinds_are_shown_or_left_out_and_a_filter_finds_keys(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("before-fix")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count == 4)
        await compared(pilot)
        await pilot.press("~")
        assert [screen.index.keys[place] for place in screen.keys.filter] == ["fresh", "gone"]
        await shown(pilot, "(~2)", "2 shown")
        await pilot.press("+", "-")
        await shown(pilot, "all kinds are hidden; + - ~ show them")
        await pilot.press("+", "-", "~", "j", "j", "/", *"O")
        await shown(pilot, "no key matches; esc clears")
        await pilot.press("backspace", *"o?*")
        await until(pilot, lambda: screen.keys.count == 0)
        await pilot.press("backspace", "backspace")
        await until(
            pilot, lambda: [screen.index.keys[place] for place in screen.keys.filter] == ["gone", "job", "notes"]
        )
        await pilot.press("enter")
        assert screen.focused is screen.keys
        await pilot.press("escape")
        assert screen.keys.count == 4 and pilot.app.screen is screen
        await pilot.press("escape")
        assert pilot.app.screen is not screen

    run(seed(url), flow)


def test_the_cursor_stays_on_its_key_when_the_filter_changes(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("before-fix")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count == 4)
        await pilot.press("j", "j", "j", "+")
        assert screen.keys.key == "notes"
        await pilot.press("+")
        assert screen.keys.key == "notes"

    run(seed(url), flow)


def test_side_by_side_where_there_is_room_and_said_where_there_is_not(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("before-fix")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count == 4)
        await pilot.press("G", "t")
        await until(pilot, lambda: "│+ the quick red fox" in line_with(pilot.app, "− the quick brown fox"))
        await pilot.resize_terminal(90, 24)
        await shown(pilot, "split needs 100 columns", "+ the quick red fox")
        assert "red fox" not in line_with(pilot.app, "− the quick brown fox")
        await pilot.resize_terminal(140, 24)
        await until(pilot, lambda: "│+ the quick red fox" in line_with(pilot.app, "− the quick brown fox"))
        await pilot.press("t")
        await until(pilot, lambda: "red fox" not in line_with(pilot.app, "− the quick brown fox"))

    run(seed(url), flow)


def test_changed_words_are_seen_without_colours(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def flow(pilot: Pilot[None]) -> None:
        pilot.app.push_screen(DiffScreen("before-fix"))
        await until(pilot, lambda: pilot.app.screen.keys.count == 4)  # type: ignore[attr-defined]
        await pilot.press("G")
        await shown(pilot, "− the quick brown fox")
        strips = pilot.app.screen._compositor.render_strips()
        reversed_ = [segment.text for strip in strips for segment in strip if segment.style and segment.style.reverse]
        assert "brown" in reversed_ and "red" in reversed_

    run(seed(url), flow)


def test_identical_states_are_said_to_be(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        pilot.app.push_screen(DiffScreen("live", "live"))
        await shown(pilot, "live and live are identical", "nothing differs", "S Save a patch")
        assert "Restore" not in screen_text(pilot.app)
        await pilot.press("r")
        await pilot.pause(0.1)
        assert isinstance(pilot.app.screen, DiffScreen)

    run(seed(url), flow)


def test_bringing_back_is_offered_only_where_there_is_an_earlier_state_of_the_namespace(url: str) -> None:
    manager = seed(url)
    manager.fork("copy", at="before-fix")

    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("live", other=StateManager(url, "copy", read_only=True))
        pilot.app.push_screen(screen)
        await shown(pilot, "Diff  work:live → copy:live", "space marks keys to take", "P Take")
        await pilot.press("r")
        await pilot.pause(0.1)
        assert pilot.app.screen is screen
        assert "Restore" not in screen_text(pilot.app)
        await pilot.press("escape")
        screen = DiffScreen("live", here=StateManager(url, "copy"), other=StateManager(url, "copy"))
        pilot.app.push_screen(screen)
        await shown(pilot, "S Save a patch")
        await pilot.press("space", "a", "i", "r", "P")
        await pilot.pause(0.1)
        assert pilot.app.screen is screen and not screen.index.marked
        text = screen_text(pilot.app)
        assert "marks keys" not in text and "Take" not in text and "Mark" not in text
        await pilot.press("escape")
        screen = DiffScreen("before-fix", other=StateManager(url, "copy", read_only=True))
        pilot.app.push_screen(screen)
        await shown(pilot, "work:before-fix and copy:live are identical", "space marks keys", "r Restore")

    run(manager, flow)


def test_the_command_line_is_copied_and_the_footer_and_the_help_say_so(url: str) -> None:
    copied: list[str] = []

    async def flow(pilot: Pilot[None]) -> None:
        pilot.app.copy_to_clipboard = copied.append  # type: ignore[method-assign]
        pilot.app.push_screen(DiffScreen("before-fix"))
        await shown(pilot, "CLI: stateview diff before-fix live", "y Copy CLI")
        await pilot.press("y")
        await until(pilot, lambda: "copied the command line" in pilot.app.told())
        assert copied == ["stateview diff before-fix live"]
        await pilot.press("?")
        await shown(pilot, "Copy CLI", "diff.copy")

    run(seed(url), flow, (120, 60))


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (("red", "redis://:***@h:6379/0"), ("blue", "redis://:***@h:6379/1"), "red/ blue/"),
        (("json", "json:/home/a/.claude/state"), ("red", "redis://h:6379/0"), "state/ red/"),
        (("json:x", "json:/home/a/one"), ("sqlite:/home/b/two", "sqlite:/home/b/two"), "one/ two/"),
        (("json:x", "json:/home/a/x"), ("json:/home/b/x", "json:/home/b/x"), "a/x/ b/x/"),
        (("json:/x", "json:/x"), ("json:/y/x", "json:/y/x"), "json:/x/ y/x/"),
        (("json", "json:/a/s"), ("sqlite", "sqlite:/a/s"), "json:/a/s/ sqlite:/a/s/"),
        (("redis", "redis://u:***@h:6379/0"), ("redis://h2/0", "redis://h2/0"), "h:6379/0/ h2/0/"),
        (("redis", "redis://h/0"), ("rediss://h/0", "rediss://h/0"), "redis://h/0/ rediss://h/0/"),
        (("unix:", "unix:///a.sock?db=1"), ("unix:", "unix:///a.sock?db=2"), "/a.sock?db=1/ /a.sock?db=2/"),
        (("s", "json:/a/s"), ("json:/b/s", "json:/b/s"), "json:/a/s/ b/s/"),
    ],
)
def test_stores_get_short_distinct_names(one: tuple[str, str], other: tuple[str, str], said: str) -> None:
    assert " ".join(distinct_names(one, other)) == said


def test_what_a_store_is_called_is_short_and_holds_no_password() -> None:
    url = "redis://:se@c/ret@" + "h" * 100 + "/0"
    for name in distinct_names((url, url), ("json", "json:/" + "p" * 100)):
        assert len(name) <= 31 and "se@c" not in name and name.startswith("…")


def test_a_state_that_is_not_there_is_said_with_the_next_step_and_sought_again(url: str) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("later")
        pilot.app.push_screen(screen)
        await shown(pilot, "there is no checkpoint 'later'", "R reloads")
        with StateManager(url, "work") as other:
            other.checkpoint("later", at="before-fix")
        screen.reload()
        await shown(pilot, "+1 −1 ~2")
        assert "there is no checkpoint" not in screen_text(pilot.app)

    run(manager, flow)


def test_history_that_is_no_longer_kept_is_said(url: str) -> None:
    manager = seed(url)
    manager.compact(manager.revision)

    async def flow(pilot: Pilot[None]) -> None:
        pilot.app.push_screen(DiffScreen("1", "live"))
        await shown(pilot, "R reloads")
        assert "kept" in screen_text(pilot.app)

    run(manager, flow)


def test_a_store_that_is_lost_and_back_is_said_and_the_old_rows_stay(new_store: Callable[[str], str]) -> None:
    url = new_store("sqlite")
    manager = seed(url)
    path = Path(url.partition(":")[2]) / "work"

    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("before-fix")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count == 4 and screen.view.change)
        manager.close()
        path.rename(path.with_name("away"))
        path.write_text("not a folder")
        await pilot.press("j", "j")
        await until(pilot, lambda: screen.view.error_text)
        assert screen.keys.count == 4
        await pilot.press("space")
        screen.reload()
        await shown(pilot, "R reloads · esc leaves", "+ fresh")
        screen.reload()
        await until(pilot, lambda: screen.run.state == "failed")
        path.unlink()
        path.with_name("away").rename(path)
        screen.reload()
        await until(pilot, lambda: screen.run.state == "whole")
        assert "R reloads" not in screen_text(pilot.app)
        assert screen.keys.key == "notes" and list(screen.index.marked_keys(WHOLE)) == ["job"]

    run(manager, flow)


def test_when_live_has_moved_on_it_is_said_and_the_list_stays_until_it_is_looked_at_again(url: str) -> None:
    manager = seed(url)

    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("before-fix")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count == 4 and screen.run.state == "whole")
        write(url, another=1, fresh=ABSENT)
        screen.namespace_changed(manager.head(), ["another", "fresh"])
        await shown(pilot, "live has 2 new commits: R reloads", "+1 −1 ~2", "[1,2]")
        screen.reload()
        await until(pilot, lambda: screen.index.keys == ["another", "gone", "job", "notes"])
        assert "moved on" not in screen_text(pilot.app)

    run(manager, flow)


def test_another_namespace_or_store_is_compared_and_closed_with_the_screen(
    url: str, new_store: Callable[[str], str], tmp_path: Path
) -> None:
    manager = seed(url)
    manager.fork("copy")
    write(url, "copy", same=2)
    elsewhere = new_store("json")
    write(elsewhere, "work", same=1, extra=[])

    async def flow(pilot: Pilot[None]) -> None:
        pilot.app.push_screen(DiffScreen("live", "live", other=StateManager(url, "copy", read_only=True)))
        await shown(pilot, "Diff  work:live → copy:live   +0 −0 ~1", "--with-namespace copy", "1 → 2")
        await compared(pilot)
        await pilot.press("escape")
        other = StateManager(elsewhere, "work", read_only=True)
        screen = DiffScreen("before-fix", "live", other=other, store="json:else")
        pilot.app.push_screen(screen)
        await shown(pilot, "+1 −3 ~0", "--with-store json:else")
        ends = [Path(one.partition(":")[2]).parts[-2:] for one in (url, elsewhere)]
        ends = [one[ends[0][1] != ends[1][1] :] for one in ends]  # no more of them than tells them apart
        await shown(pilot, f"Diff  {'/'.join(ends[0])}/work:before-fix → {'/'.join(ends[1])}/work:live ")
        write(url, same=3)
        screen.namespace_changed(manager.head())
        assert "moved on" not in screen_text(pilot.app)  # neither side is live here

    run(manager, flow)


async def type_store(pilot: Pilot[None], text: str) -> None:
    """Choose to type a store where stores or namespaces are asked for, and type it."""
    await shown(pilot, "another store…")
    await pilot.press(*"another", "enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, PromptDialog))
    pilot.app.screen.query_one(LineInput).value = text
    await pilot.press("enter")


@pytest.mark.parametrize("listed", [1, 2])
@pytest.mark.parametrize("kind", [*FLOWS, "folder"])
def test_a_store_that_no_list_holds_can_be_typed(
    url: str, new_store: Callable[[str], str], kind: str, listed: int
) -> None:
    elsewhere = new_store("json" if kind == "folder" else kind)
    write(elsewhere, "work", same=1, extra=[])
    typed = elsewhere.partition(":")[2] if kind == "folder" else elsewhere

    async def flow(pilot: Pilot[None]) -> None:
        board = pilot.app
        assert isinstance(board, Dashboard)
        choose_namespace(board, "live")
        await type_store(pilot, typed)
        await shown(pilot, "Diff of live with", "work")
        await pilot.press("enter")
        await shown(pilot, "/work:live → ", "+1 −3 ~0", "--with-store", "extra")
        assert "marks keys to restore" not in screen_text(board)

    stores = [(url, url), ("prod", "prod  json:else")][:listed]
    run(seed(url), flow, stores=stores, store=url)


def test_a_typed_store_that_cannot_be_read_is_told_and_asked_for_again(url: str, tmp_path: Path) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        board = pilot.app
        assert isinstance(board, Dashboard)
        choose_namespace(board, "live")
        await type_store(pilot, "postgres://u:s3cret@h/db")
        await shown(pilot, "is not a store")
        assert "is not a store" in screen_text(board) and isinstance(board.screen, PromptDialog)
        for text, said in ((str(tmp_path), "there is no other namespace"), ("redis://:s3cret@localhost:1/0", "1")):
            board.screen.query_one(LineInput).value = text
            await pilot.press("enter")
            await until(pilot, lambda said=said: any(said in one for one in board.told()))  # type: ignore[misc]
            await until(pilot, lambda: isinstance(board.screen, PromptDialog) and bool(board.screen.query(LineInput)))
            assert board.screen.query_one(LineInput).value == text
            assert not any("s3cret" in one for one in board.told())
        await pilot.press("escape")
        assert not isinstance(board.screen, PromptDialog)

    run(seed(url), flow)


def test_the_password_of_a_typed_store_is_not_shown(url: str, new_store: Callable[[str], str]) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        store = "redis://:s3cret@localhost:1/0"
        pilot.app.push_screen(DiffScreen("live", other=StateManager(store, "work", timeout=0.1), store=store))
        await shown(pilot, "--with-store 'redis://:***@localhost:1/0'", "localhost:1/0/work:live", "R reloads")
        assert "s3cret" not in screen_text(pilot.app)

    run(seed(url), flow)


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (100, 30), (160, 50)])
def test_long_lines_are_wrapped_and_not_cut_beside_a_scroll_bar(url: str, size: tuple[int, int]) -> None:
    manager = seed(url)
    texts = [f"Line {number}: the quick brown fox jumps over the lazy dog, and then some more" for number in range(60)]
    manager.save("text", "\n".join(texts))
    texts[::3] = [text.upper() for text in texts[::3]]
    manager.save("text", "\n".join(texts))

    async def flow(pilot: Pilot[None]) -> None:
        pilot.app.push_screen(DiffScreen("live~1"))
        await shown(pilot, "~ text")
        view = pilot.app.screen.query_one(DiffView)
        if size[0] < 80:
            await pilot.press("enter")
        await shown(pilot, "LINE 0")
        await until(pilot, lambda: view.show_vertical_scrollbar)

        def painted() -> str:
            return "".join("".join(part.text for part in view.render_line(y))[1:].strip("−+ ") for y in range(1, 10))

        for text in ("Line 0: the quick brown fox jumps over the lazy dog", texts[0]):
            await until(pilot, lambda text=text: text.replace(" ", "") in painted().replace(" ", ""))
        assert "…" not in painted()

    run(manager, flow, size)


def test_a_patch_is_written_and_nothing_is_overwritten_unasked(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manager = seed(url)
    before = {entry.key: entry.value for entry in manager.at("before-fix").entries()}
    after = {entry.key: entry.value for entry in manager.at("live").entries()}

    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("before-fix")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count == 4 and screen.run.state == "whole")
        await pilot.press("S")
        await shown(pilot, "diff before-fix live --patch > change.json")
        await pilot.press("enter")
        await until(pilot, lambda: any("wrote 4 keys" in text for text in pilot.app.told()))
        assert jsonpatch.apply_patch(before, json.loads(Path("change.json").read_text())) == after
        assert os.stat("change.json").st_mode & 0o077 == 0
        Path("change.json").write_text("mine")
        await pilot.press("S", "enter")
        await shown(pilot, "exists already")
        await pilot.press("enter")
        await pilot.press("n")
        await until(pilot, lambda: pilot.app.screen is screen)
        assert Path("change.json").read_text() == "mine"
        await pilot.press("S", "enter")
        await shown(pilot, "exists already")
        await pilot.press("y")
        await until(pilot, lambda: Path("change.json").read_text() not in ("mine", ""))
        await answered(pilot)
        assert jsonpatch.apply_patch(before, json.loads(Path("change.json").read_text())) == after
        assert os.listdir() == ["change.json"]

    run(manager, flow)


def test_a_patch_that_is_stopped_or_fails_leaves_no_file(url: str, tmp_path: Path) -> None:
    manager = seed(url)
    sides, path = sides_of(manager, "before-fix"), tmp_path / "change.json"
    with pytest.raises(Exception, match="stopped"):
        write_patch(str(path), sides, None, False, DiffProgress(lambda: True))
    with pytest.raises(FileNotFoundError):
        write_patch(str(tmp_path / "no" / "x"), sides, None, False, DiffProgress())
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_patch(str(path), sides, None, False, DiffProgress())
    with pytest.raises(Exception, match="stopped"):
        write_patch(str(path), sides, None, True, DiffProgress(lambda: True))
    assert path.read_text() == "mine" and os.listdir(tmp_path) == ["change.json"]
    deep: Any = 1
    for _ in range(199):
        deep = [deep]
    manager.save("deep", deep)
    assert write_patch(str(path), sides_of(manager, "before-fix"), None, True, DiffProgress()) == 5
    manager.close()


def test_marked_keys_are_what_a_restore_previews(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("before-fix")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count == 4)
        await compared(pilot)
        await pilot.press("space", "j", "space", "r")
        await shown(pilot, "Restore  before-fix → live", "2 of 2 marked", "− fresh", "~ job")
        assert "notes" not in screen_text(pilot.app)
        await compared(pilot)
        await pilot.press("y")
        await until(pilot, lambda: pilot.app.screen is screen and screen.index.keys == ["gone", "notes"])

    run(seed(url), flow)


# --- much, large and hostile -----------------------------------------------------------------------------------------


def many(url: str, count: int) -> StateManager:
    manager = StateManager(url, "work")
    manager.save("k", 0)
    manager.checkpoint("start")
    for start in range(0, count, 20_000):
        with manager.transaction() as transaction:
            for number in range(start, min(count, start + 20_000)):
                transaction.save(f"run:{number:07}", {"tokens": number})
    return manager


def test_a_hundred_thousand_changes_come_in_while_one_looks_and_can_be_stopped(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = many(url, 100_000)
    looked = threading.Event()

    def collect_while_looked_at(changes: Iterable[Change], put: Callable[[list[str], bytes], None]) -> None:
        def pause(keys: list[str], kinds: bytes) -> None:
            put(keys, kinds)
            if keys[0] > "run:0000000":  # the first comes alone
                looked.wait(60)  # however fast it is, or slow the screen, it has not ended by then

        collect(changes, pause)

    monkeypatch.setattr("stateview.dashboard.screens.diff_stream.collect", collect_while_looked_at)

    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("start")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count > 1)
        assert screen.run.state == "running"
        await pilot.press("escape")
        stopped = screen.keys.count
        assert screen.run.state == "stopped" and pilot.app.screen is screen and stopped < 100_000
        await shown(pilot, "stopped before the end (R reloads)")
        looked.set()
        await pilot.pause(0.3)
        assert screen.keys.count == stopped
        await pilot.press("j")
        screen.reload()
        await until(pilot, lambda: screen.run.state == "whole")
        assert len(screen.index) == screen.index.count("added") == 100_000
        assert screen.keys.key == "run:0000001"
        await pilot.press("G")
        await shown(pilot, "run:0099999")
        await pilot.press("/", *"777")
        await until(pilot, lambda: screen.keys.filter.done)
        assert screen.keys.count == sum("777" in f"{number:07}" for number in range(100_000))
        await pilot.press("escape", "escape")
        assert pilot.app.screen is not screen

    run(manager, flow)


def test_a_value_of_many_megabytes_is_compared_aside_and_given_up_when_one_goes_on(url: str) -> None:
    manager = StateManager(url, "work")
    manager.save("a", list(range(300_000)))
    manager.save("b", 1)
    manager.save("c", "x" * 30_000_000)
    manager.checkpoint("start")
    manager.save("a", list(range(1, 300_001)))
    manager.save("b", 2)
    manager.save("c", "x" * 29_999_999 + "y")

    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("start")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count == 3)
        await pilot.pause(0.2)
        await pilot.press("j")
        await shown(pilot, "1 → 2")
        await pilot.press("j")
        await shown(pilot, "(30,000,000", "xy ")
        assert all(len(line) <= 120 for line in lines(pilot.app))
        await pilot.press("k", "k")
        await shown(pilot, "+ /299999  300000")

    run(manager, flow)


HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "[/]",
    "[bold]x[/bold]",
    "a\nb",
    "\u202eevil",
    "\x07\x9b31m",
    "w" * 1024,
    "漢字" * 100,
    "é\u0301",
]


@pytest.mark.parametrize(
    ("size", "split"), [((60, 15), False), ((80, 24), True), ((120, 30), False), ((240, 70), True)]
)
def test_hostile_data_is_painted_inert_at_every_size(url: str, size: tuple[int, int], split: bool) -> None:
    manager = StateManager(url, "work")
    for number, text in enumerate(HOSTILE):
        manager.save(text, {text: [text, number], "long": text * 50})
    manager.checkpoint("start")
    for number, text in enumerate(HOSTILE):
        manager.save(text, {text: [text + "!", number], "long": text * 50 + "\n" + text, text + "2": text})
        manager.save(text[:1000] + "new", text)

    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("start")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count == 2 * len(HOSTILE))
        if split:
            await pilot.press("t")
        for _ in range(20):
            await pilot.press("]")
            await until(pilot, lambda: screen.view.change and screen.view.key == screen.keys.key)
            for segment in (one for strip in screen._compositor.render_strips() for one in strip):
                assert segment.control or segment.text.isprintable(), repr(segment.text)
        await pilot.press("enter", "G", "/", *"new", "enter")
        await until(pilot, lambda: screen.keys.count == len(HOSTILE))

    run(manager, flow, size)


def test_redacted_values_are_masked_in_list_and_change(url: str) -> None:
    manager = StateManager(url, "work")
    manager.save("api-token", "s3cret-1")
    manager.save("job", {"token": "s3cret-2", "n": 1})
    manager.checkpoint("start")
    manager.save("api-token", "s3cret-3")
    manager.save("job", {"token": "s3cret-4", "n": 2})
    manager.save("new", {"token": "s3cret-5"})

    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("start")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count == 3)
        for _ in range(3):
            await shown(pilot, "••••••")
            await pilot.pause(0.2)
            assert "s3cret" not in screen_text(pilot.app)
            await pilot.press("j")

    run(manager, flow, redact=("*token*",))


def test_a_step_that_comes_before_the_change_is_made_when_it_is_there(url: str) -> None:
    async def flow(pilot: Pilot[None]) -> None:
        screen = DiffScreen("before-fix")
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.keys.count == 4)
        screen.keys.cursor = 2
        screen.action_step(1)
        await until(pilot, lambda: screen.view.place == 1)
        assert screen.keys.key == "job"

    run(seed(url), flow)
