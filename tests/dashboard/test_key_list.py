"""The dashboard's list of keys: where its rows come from, and what a person sees of them."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import conftest
import pytest
from rich.cells import cell_len
from rich.style import Style
from textual.app import App
from wcwidth import wcwidth

from stateview import StateManager
from stateview.backends.protocol import CommitRequest, KeySummary, Write
from stateview.backends.sqlite.connections import page_checksums as sqlite_pages
from stateview.dashboard.data import filtered_key_source as list_source
from stateview.dashboard.data import key_source as source
from stateview.dashboard.data.background import BackgroundExecutor
from stateview.dashboard.data.filtered_key_source import FilteredKeys
from stateview.dashboard.data.filters.ranked_keys import RankedKeys
from stateview.dashboard.data.key_filter import Filter
from stateview.dashboard.data.key_source import KeyRange, Prefetch, open_source
from stateview.dashboard.display.key_row import Columns, paint_key, start_of
from stateview.dashboard.display.text import RowBuilder
from stateview.dashboard.widgets.filter_bar import FilterBar
from stateview.dashboard.widgets.key_list import KeyList
from stateview.errors import Damaged, StateException
from stateview.states.matching.ranking import is_subsequence, ranker, score

HOSTILE = [
    "\x1b]0;title\x07\x1b[31m",
    "[/red]",
    "[bold]x",
    "a\nb\r\tc",
    "\u202eevil\u2066",
    "\x9b31m",
    "家" * 300,
    "👩‍👩‍👧‍👦" * 30,
]


def fill(manager, keys, value=lambda key: {"of": key}):
    """Save many keys in one commit."""
    manager.backend.commit(
        CommitRequest({key: Write(json.dumps(value(key), ensure_ascii=False).encode()) for key in keys})
    )


@pytest.fixture
def manager(store_url):
    with StateManager(store_url, "one") as found:
        yield found


@pytest.fixture
def here(new_store):
    """A manager where the kind of store makes no difference."""
    with StateManager(new_store("sqlite"), "one") as found:
        yield found


def numbered(count):
    return [f"run:{number:06d}:step" for number in range(count)]


# --- ranges ----------------------------------------------------------------------------------------------------


def learn(found):
    """Let a source do all its work in the background, without its rests."""
    parts = [found._first, found._others] if isinstance(found, RankedKeys) else [found]
    while found.work(lambda: False) is not None:
        for part in parts:
            part._pace.rest_until = 0.0


def check(found, keys):
    """Every rank and page of a source is what a sorted list of its keys says."""
    learn(found)
    total = found.page(0, 10**6).total
    assert total == len(keys)
    for start in {0, 1, len(keys) // 3, len(keys) // 2, max(0, len(keys) - 5), len(keys) + 7}:
        page = found.page(start, 20)
        first = max(0, min(start, len(keys) - 1)) if len(keys) > 20 else page.start
        assert page.start <= first
        assert [row.key for row in page.rows] == keys[page.start : page.start + len(page.rows)]
        assert page.start + len(page.rows) >= min(len(keys), start + 20)
    for key in [*keys[:: max(1, len(keys) // 7)], "", "zzz", "run:00050", "a"]:
        page = found.page_around(key, 10, 10) if key else found.page(0, 10)
        place = sum(other < key for other in keys)
        assert page.start == max(0, min(place, len(keys)) - 10)
        assert page.place == place
        assert [row.key for row in page.rows] == keys[max(0, place - 10) : place + 10]


@pytest.mark.parametrize("count", [0, 3, 19, 700])
def test_any_part_of_a_range_is_reached_by_its_rank_and_by_its_key(manager, monkeypatch, count):
    monkeypatch.setattr(source, "KEYS_PER_ANCHOR", 32)
    keys = sorted([*numbered(count), "é1", "é2", "\U0010ffff\U0010ffff", "\U0010fffe"][: count + 4 if count else 0])
    if keys:
        fill(manager, keys)
    for prefix in ("", "run:", "run:0001", "é", "\U0010ffff"):
        found = KeyRange(manager, None, prefix)
        sought = [key for key in keys if key.startswith(prefix)]
        assert [row.key for row in found.page(0, 10).rows] == sought[:10]
        half = len(sought) // 2
        page = found.page(half, 5)
        assert [row.key for row in page.rows] == sought[page.start : page.start + 5]
        if sought:
            assert found.rank(sought[half]) == half
        learn(found)
        assert found.page(0, 10).total == len(sought)
    check(KeyRange(manager), keys)


def test_ranks_and_pages_follow_what_others_write(manager, monkeypatch):
    monkeypatch.setattr(source, "KEYS_PER_ANCHOR", 16)
    dice = random.Random(4)
    keys = set(numbered(300))
    fill(manager, keys)
    found, part = KeyRange(manager), KeyRange(manager, None, "run:0001")
    for one in (found, part):
        learn(one)
    for turn in range(12):
        new = {f"run:{dice.randrange(10**6):06d}:new" for _ in range(dice.choice([1, 5, 60]))}
        gone = set(dice.sample(sorted(keys), min(len(keys), dice.choice([0, 3, 40]))))
        same = set(dice.sample(sorted(keys - gone), 5))
        writes = {key: Write(b"1") for key in new | same} | {key: Write(None) for key in gone - new}
        manager.backend.commit(CommitRequest(writes))
        keys = (keys - gone) | new
        for one in (found, part):
            one.invalidate(None if turn % 4 == 3 else sorted(writes))
        check(found, sorted(keys))
        learn(part)
        assert part.page(0, 5).total == sum(key.startswith("run:0001") for key in keys)


def test_a_namespace_that_grows_gets_anchors_where_it_grew(manager, monkeypatch):
    monkeypatch.setattr(source, "KEYS_PER_ANCHOR", 16)
    found = KeyRange(manager)
    learn(found)
    keys = numbered(500)
    for start in range(0, 500, 50):
        fill(manager, keys[start : start + 50])
        found.invalidate(keys[start : start + 50])
        check(found, keys[: start + 50])
    assert manager.backend.kind == "redis" or len(found._anchors) == len(keys) // 16


def test_a_past_state_is_listed_as_it_was(manager, monkeypatch):
    monkeypatch.setattr(source, "KEYS_PER_ANCHOR", 16)
    keys = numbered(200)
    fill(manager, keys)
    manager.checkpoint("before")
    fill(manager, ["a", "run:000100:x", "zz"])
    manager.delete("run:000000:step")
    check(KeyRange(manager, "before"), keys)
    check(KeyRange(manager, "live~1"), sorted([*keys, "a", "run:000100:x", "zz"]))
    past = KeyRange(manager, "live~1")
    past.page(0, 1)
    manager.save("b", 1)
    assert "b" not in [row.key for row in past.page(0, 1000).rows], "a ref is looked up once"
    assert len(past.page(0, 1000).rows) == 203


def test_pages_read_before_anything_is_learnt_are_true_at_a_hundred_thousand_keys(here):
    keys = numbered(100_000)
    fill(here, keys, lambda _: 1)
    found = KeyRange(here)
    for start in (0, 99_950, 50_000, 73_211):
        page = found.page(start, 100)
        assert [row.key for row in page.rows] == keys[page.start : page.start + 100]
    assert not found._anchors
    learn(found)
    assert len(found._anchors) == 100_000 // source.KEYS_PER_ANCHOR
    assert [row.key for row in found.page(73_211, 3).rows] == keys[73_211:73_214]


def test_correcting_takes_a_tenth_of_a_core_at_most(here):
    fill(here, numbered(60_000), lambda _: 1)
    found = KeyRange(here)
    learn(found)
    started, busy = time.monotonic(), time.thread_time()
    while time.monotonic() - started < 1.5:
        found.invalidate(None)
        rest = found.work(lambda: False)
        time.sleep(0.01 if rest is None else min(rest, 0.1))
    assert time.thread_time() - busy < 0.2 * (time.monotonic() - started)


# --- filters and orders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", ("prefix", "", "")),
        ("run:", ("word", "run:", "")),
        ("run:*", ("prefix", "run:", "run:")),
        ("run:*x", ("glob", "run:*x", "run:")),
        ("*", ("prefix", "", "")),
        ("~ab", ("fuzzy", "ab", "")),
        ("=ab", ("values", "ab", "")),
    ],
)
def test_what_is_typed_says_which_filter_it_is(typed, expected):
    assert tuple(Filter.parse(typed)) == expected


def expected_rows(manager, text, order):
    """By brute force."""
    kind, sought, _ = Filter.parse(text)
    rank = ranker(sought)
    tests = {
        "word": lambda entry: rank(entry.key) is not None,
        "prefix": lambda entry: entry.key.startswith(sought),
        "glob": lambda entry: fnmatchcase(entry.key, sought),
        "fuzzy": lambda entry: is_subsequence(sought, entry.key),
        "values": lambda entry: sought in json.dumps(entry.value),
    }
    found = [entry for entry in manager.at("live").entries() if tests[kind](entry)]

    def length(entry):
        return len(json.dumps(entry.value, separators=(",", ":"), ensure_ascii=False).encode())

    keys = {
        "key": lambda entry: (
            rank(entry.key) if kind == "word" else -score(sought, entry.key) if kind == "fuzzy" else 0, entry.key
        ),
        "newest": lambda entry: (-entry.time.timestamp(), -entry.revision, entry.key),
        "oldest": lambda entry: (entry.time.timestamp(), entry.revision, entry.key),
        "largest": lambda entry: (-length(entry), entry.key),
        "smallest": lambda entry: (length(entry), entry.key),
    }  # fmt: skip
    return [entry.key for entry in sorted(found, key=keys[order])]


def rows_of(found):
    learn(found)
    return [row.key for row in found.page(0, 10**6).rows]


@pytest.mark.parametrize("text", ["", "b", "7", "a1", "b*", "*7*", "[ab]?1", "~a1", "=77"])
def test_filters_and_orders_find_the_same_as_looking_at_everything(manager, text):
    for letter in "abc":
        fill(manager, [f"{letter}:{number}" for number in range(40)], lambda key: "x" * int(key[2:]) + key[2:] * 2)
    for order in source.ORDERS:
        assert rows_of(open_source(manager, None, text, order)) == expected_rows(manager, text, order)


@pytest.mark.parametrize("text", ["", "a1", "*7*", "~a1", "=7"])
@pytest.mark.parametrize("order", ["key", "newest", "oldest", "largest", "smallest"])
@pytest.mark.parametrize("limit", [30, 10_000])
def test_what_others_write_is_put_in_and_taken_out(here, text, order, limit):
    dice = random.Random(text + order)
    keys = {f"{dice.choice('abc')}:{number}" for number in range(150)}
    fill(here, keys, lambda key: "x" * dice.randrange(40) + key[2:])
    found = FilteredKeys(here, None, text, order, limit)
    learn(found)
    for turn in range(8):
        new = {f"{dice.choice('abc')}:{dice.randrange(400)}" for _ in range(dice.choice([1, 8]))}
        gone = set(dice.sample(sorted(keys - new), dice.choice([0, 2, 30 if turn == 3 else 5])))
        fill(here, new, lambda key: "x" * dice.randrange(40) + key[2:])
        here.backend.commit(CommitRequest({key: Write(None) for key in gone}))
        keys = (keys | new) - gone
        found.invalidate(None if turn == 6 else sorted(new | gone))
        expected = expected_rows(here, text, order)
        rows = rows_of(found)
        assert rows == expected[: len(rows)]
        assert len(rows) > 0.9 * min(limit, len(expected)) - 1
        assert found._listed.count == len(expected)
        if len(expected) > len(rows):
            assert found.status() == [f"first {len(rows):,} of {len(expected):,}"]


def test_a_list_holds_the_first_ten_thousand_and_counts_all(here):
    fill(here, numbered(12_345), lambda _: 1)
    found = open_source(here, None, "*step", "key")
    assert len(rows_of(found)) == list_source.MAX_ROWS == 10_000
    assert found.status() == ["first 10,000 of 12,345"]


def test_a_search_says_how_far_it_is_and_can_be_ended(here, monkeypatch):
    monkeypatch.setattr(list_source, "SEARCH_SECONDS", 1e-9)
    fill(here, numbered(5000), lambda _: 1)
    found = open_source(here, None, "*1:step")
    assert found.is_searching
    while not found.page(0, 10).rows:
        assert found.work(lambda: False) == 0.0
    assert found.status() == ["20% searched, esc stops"]
    found.cancel()
    held = found.page(0, 1000).rows
    assert found.work(lambda: False) is None
    assert not found.is_searching
    assert found.page(0, 1000).rows == held
    assert found.status() == ["stopped at 20%"]
    here.delete(held[0].key)
    found.invalidate([held[0].key])
    learn(found)
    assert found.page(0, 1000).rows == held[1:]


@pytest.mark.parametrize("limit", [50, 10_000])
def test_what_changes_while_it_is_searched_is_found_once(here, monkeypatch, limit):
    monkeypatch.setattr(list_source, "SEARCH_SECONDS", 1e-9)
    fill(here, numbered(3000), lambda _: 1)
    found = FilteredKeys(here, None, "*9:*", "newest", limit)
    found.work(lambda: False)  # the first thousand
    behind, ahead = "run:000009:step", "run:002009:step"
    for key in (behind, ahead):
        here.save(key, 2)
    here.save("run:000009:new", 3)
    here.delete("run:002019:step")
    found.invalidate([behind, ahead, "run:000009:new", "run:002019:step"])
    rows = rows_of(found)
    assert rows[:3] == ["run:000009:new", ahead, behind]
    assert len(rows) == len(set(rows)) == min(limit, 300)
    assert found._listed.count == 300


def test_a_damaged_value_does_not_end_a_search_and_is_told(new_store):
    url = new_store("sqlite")
    with StateManager(url, "one") as manager:
        fill(manager, [f"{number:03d}" for number in range(300)], lambda key: f"value {key} " + "x" * 400)
        manager.checkpoint("c")
    with sqlite_pages.connect(str(Path(url.removeprefix("sqlite:")) / "one" / "state.db")) as database:
        database.execute("UPDATE entries SET value = replace(value, '150', '1x0') WHERE key = '150'")
    database.close()
    with StateManager(url, "one") as manager:
        with pytest.raises(Damaged):
            manager.load("150")
        found = open_source(manager, None, "=value 1")
        assert rows_of(found) == [f"{number:03d}" for number in range(100, 200) if number != 150]
        assert found.status() == ["1 damaged, not searched"]


def test_a_past_state_is_searched_as_it_was(manager):
    fill(manager, ["a1", "a2", "b1"])
    manager.checkpoint("before")
    manager.delete("a1")
    assert rows_of(open_source(manager, "before", "*1")) == ["a1", "b1"]
    assert rows_of(open_source(manager, "before", "=a", "newest")) == ["a1", "a2"]


# --- lines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("past", [False, True])
def test_a_line_has_what_its_width_allows(past):
    for width in range(20, 240):
        columns = Columns.of(width, past)
        assert 2 + sum(columns) == width
        assert columns.key >= min(20, width - 11)
    assert Columns.of(38, past)[1:] == (0, 9, 0, 0)
    assert Columns.of(46, past).value >= 12
    assert Columns.of(160, past).value > 60


def test_what_is_masked_is_not_in_the_start_of_a_value():
    def start(key, text):
        return start_of(KeySummary(key, len(text), text.encode()[:160], 1, 0), ("*token*",))

    assert start("my_TOKEN", '"abc"') == "••••••"
    assert start("a", '{"user":"x","api_token":"abc","z":1}') == '{"user":"x","api_token":••••••'
    assert start("a", r'{"\u0074oken" : "abc"}') == r'{"\u0074oken" :••••••'
    assert start("a", r'{"\ud800token":"abc"}').endswith("••••••")
    assert start("a", '{"x":"token"}') == '{"x":"token"}'
    assert start("é" * 200, '"' + "é" * 200).startswith('"éé'), "a character that is cut is left out"


# --- on the screen ---------------------------------------------------------------------------------------------


class Host(App):
    BINDINGS = (("slash", "search", "Filter"), ("escape", "outer", "Back"))

    def __init__(self, manager, redact=(), prefetch=None, at=None):
        super().__init__()
        self.reader = BackgroundExecutor()
        self.redact = redact
        self.manager, self.prefetch, self.at = manager, prefetch, at
        self.failures, self.seen, self.chosen, self.outer = [], [], [], 0

    def compose(self):
        yield FilterBar()
        yield KeyList()

    def on_mount(self):
        keys = self.query_one(KeyList)
        keys.focus()
        keys.show(self.prefetch.source if self.prefetch else KeyRange(self.manager, self.at), self.prefetch)

    def on_filter_bar_typed(self, event):
        self.query_one(KeyList).filter(event.text)

    def on_filter_bar_left(self):
        self.query_one(KeyList).focus()

    def on_key_list_highlighted(self, event):
        self.seen.append(event.key)

    def on_key_list_chosen(self, event):
        self.chosen.append(event.key)

    def on_virtual_list_failed(self, event):
        self.failures.append(event.error)

    def action_search(self):
        self.query_one(FilterBar).open()

    def action_outer(self):
        self.outer += 1

    def on_unmount(self):
        self.reader.close()


class Screen:
    """What a test does with a list on a screen."""

    def __init__(self, app, pilot):
        self.app, self.pilot, self.press = app, pilot, pilot.press
        self.keys = app.query_one(KeyList)

    @property
    def lines(self):
        return [self.keys.render_line(y).text for y in range(self.keys.size.height)]

    async def until(self, true, what=""):
        deadline = time.monotonic() + 10
        while True:
            await self.pilot.pause(0.01)
            try:
                if true():
                    return
            except (IndexError, AttributeError):
                pass
            assert time.monotonic() < deadline, f"{what}\n{self.keys.status}\n" + "\n".join(self.lines)

    async def at(self, key):
        await self.until(lambda: self.keys.key == key, f"not at {key}, but at {self.keys.key}")

    async def status(self, text):
        await self.until(lambda: self.keys.status == text, f"not {text}, but {self.keys.status}")

    def line_of_cursor(self):
        return self.keys.cursor - self.keys.scroll_offset.y


@asynccontextmanager
async def shown(manager, size=(100, 20), **given):
    app = Host(manager, **given)
    async with app.run_test(size=size) as pilot:
        screen = Screen(app, pilot)
        await screen.until(lambda: screen.keys._window.version is not None)
        yield screen


def test_a_hundred_thousand_keys_are_walked_and_few_are_held(here):
    names = numbered(100_000)
    fill(here, names, lambda _: {"i": 1})

    async def walk():
        async with shown(here) as screen:
            await screen.status("1/100,000")
            height = screen.keys.size.height
            await screen.press("end")
            await screen.at(names[-1])
            assert names[-1] in screen.lines[-1]
            await screen.status("100,000/100,000")
            await screen.press("home", "pagedown")
            await screen.at(names[height // 2 * 2])
            screen.keys.scroll_to(y=50_000, animate=False)
            await screen.until(lambda: names[50_000] in screen.lines[0])
            assert names[50_000 + height - 1] in screen.lines[-1]
            assert screen.keys.key == names[height // 2 * 2], "the cursor stays on its key"
            for _ in range(40):
                await screen.press("pagedown")
            await screen.until(lambda: screen.keys.key == names[screen.keys.cursor])
            assert len(screen.keys._window.rows) < 1000
            await screen.press("j")
            await screen.at(names[screen.keys.cursor])

    asyncio.run(walk())


def test_the_scroll_bar_is_dragged_to_the_middle(here):
    names = numbered(20_000)
    fill(here, names, lambda _: 1)

    async def drag():
        async with shown(here, (80, 24)) as screen:
            await screen.until(lambda: screen.keys.vertical_scrollbar.region.height)
            assert screen.keys.line_width == 79, "nothing is painted under the scroll bar"
            bar = screen.keys.vertical_scrollbar.region
            await screen.pilot.mouse_down(offset=(bar.x, bar.y))
            for y in range(bar.y, bar.y + bar.height // 2):
                await screen.pilot.hover(offset=(bar.x, y))
            await screen.pilot.mouse_up(offset=(bar.x, bar.y + bar.height // 2))
            await screen.until(lambda: 8000 < screen.keys.scroll_offset.y < 12_000)
            await screen.until(lambda: names[screen.keys.scroll_offset.y] in screen.lines[0])

    asyncio.run(drag())


def test_the_cursor_stays_on_its_key_and_its_line_while_others_write(manager):
    fill(manager, numbered(600))

    async def write():
        async with shown(manager) as screen:
            screen.keys.go_to("run:000300:step")
            await screen.at("run:000300:step")
            line = screen.line_of_cursor()
            above, below = screen.lines[line - 1][3:40], screen.lines[line + 1][3:40]
            for key in ["a", "b", "run:000010:x", "zz"]:
                manager.save(key, 1)
            screen.keys.invalidate(["a", "b", "run:000010:x", "zz"])
            await screen.status("304/604")
            assert screen.keys.key == "run:000300:step"
            assert screen.line_of_cursor() == line
            assert (screen.lines[line - 1][3:40], screen.lines[line + 1][3:40]) == (above, below)
            for key in ["a", "b", "run:000000:step", "run:000001:step", "zz"]:
                manager.delete(key)
            screen.keys.invalidate(None)
            await screen.status("300/599")
            assert screen.keys.key == "run:000300:step"
            assert screen.line_of_cursor() == line
            manager.delete("run:000300:step")
            screen.keys.invalidate(["run:000300:step"])
            await screen.at("run:000301:step")
            assert screen.line_of_cursor() == line
            await screen.until(lambda: screen.app.seen[-1] == "run:000301:step")
            await screen.press("end")
            await screen.at("run:000599:step")
            manager.delete("run:000599:step")
            screen.keys.invalidate(["run:000599:step"])
            await screen.at("run:000598:step")
            await screen.status("597/597")

    asyncio.run(write())


def test_a_cursor_out_of_sight_stays_on_its_key_too(manager):
    fill(manager, numbered(3000))

    async def write():
        async with shown(manager) as screen:
            screen.keys.go_to("run:000100:step")
            await screen.at("run:000100:step")
            screen.keys.scroll_to(y=2000, animate=False)
            await screen.until(lambda: "run:002000" in screen.lines[0])
            manager.save("aa", 1)
            screen.keys.invalidate(["aa"])
            await screen.status("102/3,001")
            assert "run:002000" in screen.lines[0], "what is seen stays"
            assert screen.keys.key == "run:000100:step"
            manager.delete("run:000100:step")
            screen.keys.invalidate(None)
            await screen.at("run:000101:step")
            await screen.press("j")
            await screen.at("run:000102:step")
            await screen.until(lambda: "run:000102" in screen.lines[screen.line_of_cursor()])

    asyncio.run(write())


def test_a_row_that_was_just_written_is_marked_for_a_moment(here):
    fill(here, numbered(10))

    async def write():
        async with shown(here) as screen:
            assert not any("•" in line for line in screen.lines)
            here.save("run:000003:step", "new")
            here.save("run:000003:x", 1)
            screen.keys.invalidate(["run:000003:step", "run:000003:x"])
            await screen.until(lambda: "•" in screen.lines[3] and "•" in screen.lines[4])
            assert '"new"' in screen.lines[3]
            assert sum("•" in line for line in screen.lines) == 2
            await screen.until(lambda: not any("•" in line for line in screen.lines))

    asyncio.run(write())


def test_keys_are_marked_and_marks_are_by_key(here):
    fill(here, numbered(10))

    async def mark():
        async with shown(here) as screen:
            await screen.press("space", "j", "space")
            assert screen.keys.marked == {"run:000000:step", "run:000002:step"}
            assert [("✓" in line) for line in screen.lines[:4]] == [True, False, True, False]
            await screen.status("4/10 · 2 marked")
            here.save("a", 1)
            screen.keys.invalidate(["a"])
            await screen.until(lambda: "✓" in screen.lines[3])
            await screen.press("k", "space")
            assert screen.keys.marked == {"run:000000:step"}
            screen.keys.unmark()
            assert not any("✓" in line for line in screen.lines)

    asyncio.run(mark())


def test_a_filter_is_typed_kept_and_cleared(manager):
    fill(manager, [*numbered(3000), "other:1", "other:2"])

    async def type_():
        async with shown(manager) as screen:
            await screen.press("slash", *"run:0012*")
            await screen.status("1/100")
            await screen.at("run:001200:step")
            await screen.press("enter", "j")
            assert screen.app.focused is screen.keys
            await screen.at("run:001201:step")
            assert screen.app.query_one(FilterBar).display
            await screen.press("slash", "escape")
            await screen.status("1,204/3,002")
            assert screen.keys.key == "run:001201:step", "the cursor stays on its key when the filter goes"
            assert not screen.app.query_one(FilterBar).display
            await screen.press("slash", *"*er:?")
            await screen.status("1/2")
            await screen.press("escape", "slash", *"~o2")
            await screen.until(lambda: "other:2" in screen.lines[0])
            await screen.press("escape", "slash", *"=other:1")
            await screen.status("1/1")
            await screen.at("other:1")
            await screen.press("escape", "slash", *"xyz")
            await screen.until(lambda: "no key matches 'xyz'" in screen.lines[0])
            await screen.status("no keys")
            assert any("=x" in line for line in screen.lines)
            assert screen.keys.key is None

    asyncio.run(type_())


def test_the_matched_letters_are_seen(here):
    fill(here, ["the_step", "sxxtep"])

    async def look():
        async with shown(here) as screen:
            screen.keys.filter("~step")
            await screen.until(lambda: "the_step" in screen.lines[0])
            strip = screen.keys.render_line(1)
            mark = screen.keys.style_of("mark")
            assert (
                "".join(part.text for part in strip if part.style.bold and part.style.color == mark.color).strip()
                == "step"
            )

    asyncio.run(look())


def test_the_order_goes_round_and_follows_what_is_written(manager):
    for number, key in enumerate(["b", "d", "a", "c"]):
        manager.save(key, "x" * (number * 3 % 4))

    def order(screen):
        return "".join(line[3] for line in screen.lines if line[3:4].strip())

    async def sort():
        async with shown(manager) as screen:
            for word, keys in [("newest", "cadb"), ("oldest", "bdac"), ("largest", "dacb"), ("smallest", "bcad")]:
                await screen.press("s")
                await screen.until(lambda keys=keys: order(screen) == keys)
                await screen.status(f"1/4 · {word} first")
                assert screen.keys.key == keys[0]
            manager.save("d", "")
            screen.keys.invalidate(["d"])
            await screen.until(lambda: order(screen) == "bdca")
            await screen.press("s")
            await screen.status("1/4") if screen.keys.key == "a" else await screen.at("b")
            await screen.press("s")
            await screen.until(lambda: order(screen) == "dcab")
            manager.save("a", "again")
            screen.keys.invalidate(["a"])
            await screen.until(lambda: order(screen) == "adcb")
            assert screen.keys.key == "d", "the cursor stays on its key"

    asyncio.run(sort())


def test_escape_ends_a_search_and_only_then_goes_further(here, monkeypatch):
    monkeypatch.setattr(list_source, "KEYS_PER_PAGE", 50)
    fill(here, numbered(50_000), lambda _: 1)

    async def stop():
        async with shown(here) as screen:
            screen.keys.filter("=1")
            found = "run:000000:step"  # what was found is there while the search goes on
            await screen.until(lambda: "searched, esc stops" in screen.keys.status and screen.keys.key == found)
            await screen.press("escape")
            await screen.until(lambda: "stopped at" in screen.keys.status)
            assert screen.app.outer == 0
            assert 0 < screen.keys.count < 10_000
            await screen.press("escape")
            assert screen.app.outer == 1

    asyncio.run(stop())


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (120, 40), (240, 70)])
def test_hostile_keys_and_values_are_inert_and_every_line_fits(here, size):
    keys = [*HOSTILE, "k" * 1024, *(f"é{key}"[:250] for key in HOSTILE)]
    fill(here, keys, lambda key: {"\x1b[2J": "\u202e[/]" + key * 3})
    here.save("\x1b[0m expires", 1, ttl=5000)

    async def look():
        async with shown(here, size, redact=("*none*",)) as screen:
            for text in ("", "~e", "*[[]*", "=/"):
                screen.keys.filter(text)
                await screen.until(
                    lambda text=text: screen.keys.source.text == text and not screen.keys.source.is_searching
                )
                await screen.pilot.pause(0.2)
                for line in screen.lines:
                    assert line.isprintable()
                    assert cell_len(line) == screen.keys.line_width
            screen.keys.filter("\x1b[/]")
            await screen.status("no keys")
            assert all(line.isprintable() for line in screen.lines)
            await screen.press("slash", "[", "/", "\x1b"[:0] or "x")

    asyncio.run(look())


def test_a_key_keeps_its_end_and_a_narrow_line_its_size(here):
    fill(here, ["k" * 100 + ":end"], lambda _: "x" * 2000)
    here.save("short", 1, ttl=7300)

    async def look():
        async with shown(here, (40, 15)) as screen:
            assert screen.lines[0].rstrip().endswith(":end   2.0 kB")
            assert screen.lines[0][3] == "…"
            await screen.pilot.resize_terminal(120, 30)
            await screen.until(lambda: "r1" in screen.lines[0] and '"xxx' in screen.lines[0])
            assert "⏱ 2 h" in screen.lines[1]
            await screen.pilot.resize_terminal(60, 15)
            await screen.until(lambda: "⏱ 2 h" in screen.lines[1])
            assert len(screen.lines) == 15

    asyncio.run(look())


def test_values_that_are_to_be_masked_are(here):
    fill(here, ["api_token", "user"], lambda key: {"password": "abc"} if key == "user" else "abc")

    async def look():
        async with shown(here, redact=("*TOKEN*", "pass*")) as screen:
            assert "••••••" in screen.lines[0] and "••••••" in screen.lines[1]
            assert not any("abc" in line for line in screen.lines)

    asyncio.run(look())


def test_a_past_state_does_not_move(manager):
    fill(manager, numbered(50))
    manager.checkpoint("before")
    manager.save("a", 1)

    async def look():
        async with shown(manager, at="before") as screen:
            await screen.status("1/50")
            screen.keys.invalidate(["a"])
            screen.keys.invalidate(None)
            await screen.pilot.pause(0.4)
            assert screen.keys.status == "1/50"
            await screen.press("j", "j")
            screen.keys.show(KeyRange(manager))
            await screen.status("4/51")
            assert screen.keys.key == "run:000002:step", "the cursor stays on its key when one goes to another state"

    asyncio.run(look())


def test_an_empty_namespace_says_where_it_is_and_how_to_begin(manager):
    async def look():
        async with shown(manager, (160, 20)) as screen:
            await screen.until(lambda: "has no keys yet" in screen.lines[0])
            assert manager.url in screen.lines[1]
            first = next(number for number, line in enumerate(screen.lines) if "import StateManager" in line)
            code = "\n".join(line.strip() for line in screen.lines[first : first + 3])
            if manager.backend.kind != "redis":  # whose URL is shown without its password
                exec(code, {})
                screen.keys.invalidate(["greeting"])
                await screen.at("greeting")

    asyncio.run(look())


def test_a_read_that_fails_keeps_the_rows_and_tells(new_store):
    url = new_store("sqlite")
    manager = StateManager(url, "one")
    fill(manager, numbered(5000))
    folder = Path(url.removeprefix("sqlite:")) / "one"

    async def lose():
        async with shown(manager) as screen:
            rows = [line[:40] for line in screen.lines]
            os.rename(folder, f"{folder}-kept")  # with what is in the WAL
            folder.mkdir()
            (folder / "state.db").write_bytes(b"not a database at all" * 500)
            screen.keys.invalidate(None)
            await screen.until(lambda: screen.app.failures)
            assert all(isinstance(error, StateException) for error in screen.app.failures)
            assert [line[:40] for line in screen.lines] == rows
            await screen.press("end")
            await screen.until(lambda: "⋯" in screen.lines[0])
            os.rename(folder, f"{folder}-bad")
            os.rename(f"{folder}-kept", folder)
            screen.keys.invalidate(None)
            await screen.at("run:004999:step")

    asyncio.run(lose())


def test_the_first_page_that_was_read_meanwhile_is_shown_at_once(here):
    fill(here, numbered(1000))

    async def look():
        prefetch = Prefetch(here)
        assert len(prefetch.page().rows) == 256
        here.save("a", 1)  # after it was read
        async with shown(here, prefetch=prefetch) as screen:
            assert "run:000000" in screen.lines[0]
            screen.keys.invalidate(["a"])
            await screen.status("2/1,001")

    asyncio.run(look())


def test_a_first_page_that_cannot_be_read_is_told(new_store):
    url = new_store("sqlite")
    folder = Path(url.removeprefix("sqlite:")) / "one"
    folder.mkdir(parents=True)
    (folder / "state.db").write_bytes(b"not a database at all" * 500)
    manager = StateManager(url, "one")

    async def look():
        prefetch = Prefetch(manager)
        app = Host(manager, prefetch=prefetch)
        async with app.run_test() as pilot:
            screen = Screen(app, pilot)
            await screen.until(lambda: app.failures)
            assert "could not be read" in screen.lines[0]
            assert screen.keys.key is None

    asyncio.run(look())


FIRST_FRAME = """
import sys
from stateview import StateManager
from stateview.dashboard.app import Dashboard
from stateview.dashboard.data.key_source import Prefetch

def tell(app):
    rows = ["".join(one.text for one in strip) for strip in app.screen._compositor.render_strips()]
    print(any("key-0000" in row for row in rows), "redis" in sys.modules)
    app.exit()

Dashboard.on_ready = tell
manager = StateManager(sys.argv[1], "one")
prefetch = Prefetch(manager, fork=True)
prefetch.page()
Dashboard(manager, prefetch=prefetch).run(headless=True, size=(120, 40))
"""


def test_the_first_frame_waits_for_no_read_but_that_of_its_keys(new_store):
    url = new_store(conftest.KINDS[2])
    with StateManager(url, "one") as manager:
        fill(manager, [f"key-{number:04}" for number in range(50)])
    done = subprocess.run([sys.executable, "-c", FIRST_FRAME, url], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], "the keys are there, and the library is not imported"


APART = """
import sys
from stateview import StateException, StateManager
from stateview.dashboard.data.forked_read import read_in_fork
from stateview.dashboard.data.key_source import Page, Prefetch

url, nowhere = sys.argv[1:]
manager = StateManager(url, "one")
page = Prefetch(manager, fork=True).page()
assert "redis" not in sys.modules, "it was imported here"
assert page == Prefetch(manager).page() and len(page.rows) == 256 and page.total == 1000
assert "redis" in sys.modules
assert read_in_fork(lambda: Page(0, [], 0, 0, 0), Page)() == Page(0, [], 0, 0, 0)
assert read_in_fork(lambda: 1 / 0, int)() is None
try:
    Prefetch(StateManager(nowhere, "one", timeout=0.3), fork=True).page()
except StateException as error:
    print(error)
"""


def test_the_first_page_is_read_in_another_process_where_the_library_takes_long(new_store):
    url = new_store(conftest.KINDS[2])
    with StateManager(url, "one") as manager:
        fill(manager, [*numbered(999), "run:000000:é\t\u202e"])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", APART, url, "redis://127.0.0.1:1/0"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")  # what was raised in the other process is not told twice
    assert "127.0.0.1:1/0 does not answer" in done.stdout


def test_enter_chooses_the_key(here):
    fill(here, numbered(3))

    async def choose():
        async with shown(here) as screen:
            await screen.press("j", "enter")
            await screen.until(lambda: screen.app.chosen == ["run:000001:step"])

    asyncio.run(choose())


def test_many_writers_leave_the_list_whole(manager):
    """What is seen is in order, nothing twice, whatever comes in while one moves."""
    fill(manager, numbered(2000))
    dice = random.Random(7)

    async def move():
        async with shown(manager) as screen:
            for turn in range(25):
                keys = [f"run:{dice.randrange(2000):06d}:{dice.randrange(5)}" for _ in range(20)]
                manager.backend.commit(
                    CommitRequest({key: Write(b"1" if dice.random() < 0.7 else None) for key in keys})
                )
                screen.keys.invalidate(sorted(set(keys)))
                await screen.press(dice.choice(["pagedown", "pageup", "end", "home", "j", "ctrl+d"]))
                if turn % 5 == 0:
                    screen.keys.scroll_to(y=dice.randrange(2000), animate=False)
                rows = [row.key for row in screen.keys._window.rows]
                assert rows == sorted(set(rows))
            names = manager.list_keys()
            screen.keys.invalidate(None)
            await screen.until(lambda: screen.keys.total == len(names) and screen.keys.key == names[screen.keys.cursor])
            top = screen.keys.scroll_offset.y
            await screen.until(lambda: names[top] in screen.lines[0])
            rows, start = screen.keys._window.rows, screen.keys._window.start
            assert [row.key for row in rows] == names[start : start + len(rows)]

    asyncio.run(move())


def test_no_emoji_shifts_a_row_wherever_its_style_changes():
    keys = [
        "\u26a0\ufe0f ab",
        "\u26a0x",
        "\u26a0",
        "a\ufe0fb",
        "1\ufe0f\u20e3",
        "\U0001f44d\U0001f3fd b",
        "\U0001f44d",
        "e\u0301x",
        "\u8868\u26a0\ufe0f" * 9,
    ]
    for key in keys:
        for above in keys:
            for typed in ("", "~b", "~x"):
                for width in (12, 30):
                    cells = RowBuilder(width, Style())
                    paint_key(cells, width, key, above, Filter.parse(typed), lambda _: Style())
                    segments = cells.fill()
                    text = "".join(segment.text for segment in segments)
                    apart = sum(cell_len(segment.text) for segment in segments)
                    assert (apart, cell_len(text)) == (width, width), (key, above, typed, segments)
                    if "\U0001f3fd" not in text:  # older terminals paint a skin tone as a character of its own
                        assert sum(map(wcwidth, text)) == width, (key, above, segments)
