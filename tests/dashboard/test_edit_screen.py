"""Editing, adding, renaming, deleting and expiring keys on the dashboard; races, refusals, and `$EDITOR`."""

import asyncio
import shutil
import stat
import sys
import textwrap
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from terminal import Terminal
from textual.screen import Screen
from textual.widgets import Input, Label

from stateview import StateManager, codec
from stateview.dashboard import app as app_module
from stateview.dashboard.actions.value_edit import INLINE_CHARACTERS, Draft, as_text, save_words, validate
from stateview.dashboard.app import Dashboard
from stateview.dashboard.dialogs.confirm import Confirm
from stateview.dashboard.dialogs.key_actions import delete, expire, parse_seconds, rename
from stateview.dashboard.dialogs.prompt import PromptDialog
from stateview.dashboard.screens.edit import EditScreen, add, edit
from stateview.dashboard.screens.edit_conflict import ConflictDiff, ConflictScreen
from stateview.dashboard.widgets.value.json_editor import JsonEdit

HOSTILE = "\x1b[31mred\x07 [/bold] \u202eabc\x9b31m\u2028\x7f end"


class Bare(Dashboard):
    """The dashboard without its main screen."""

    CSS_PATH = Path(app_module.__file__).with_name("app.tcss")

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.told = []

    def get_default_screen(self):
        return Screen(id="_default")

    def on_ready(self, event):
        event.prevent_default()

    def notify_user(self, text, *, wrong=False):
        self.told.append(text)
        super().notify_user(text, wrong=wrong)


@pytest.fixture(params=["json", "sqlite"])
def state(request, tmp_path):
    """What another process sees."""
    with StateManager(f"{request.param}:{tmp_path}/store", "ns") as manager:
        yield manager


@asynccontextmanager
async def running(state, size=(80, 24), **options):
    read_only = options.pop("read_only", False)
    url = state._opened["backend"]
    app = Bare(StateManager(url, "ns", read_only=read_only), **options)
    async with app.run_test(size=size) as pilot:
        yield app, pilot


async def until(pilot, test):
    """Wait until something is so."""
    deadline = time.monotonic() + 20
    while not test():
        assert time.monotonic() < deadline, pilot.app.told
        await pilot.pause()
        await asyncio.sleep(0.005)
    await pilot.pause()


def on(app, screen):
    return lambda: isinstance(app.screen, screen) and app.screen.is_mounted and bool(app.screen.query("KeyBar, Label"))


async def opened(app, pilot, key, editor=False):
    edit(app, key, editor)
    await until(pilot, on(app, EditScreen))
    return app.screen


def said(screen, name="verdict"):
    return screen.query_one(f"#{name}", Label).render().plain


async def write(pilot, screen, text):
    screen.query_one(JsonEdit).text = text
    await until(pilot, lambda: screen.query_one(JsonEdit).verdict is not None)


def run(scenario):
    asyncio.run(scenario())


# --- text and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [HOSTILE, {HOSTILE: [HOSTILE, 1.5, None]}, "é世界", 7**9000, {}, "\U000e0001\ud7ff"], ids=range(6)
)
def test_a_value_as_text_comes_back_equal_and_holds_nothing_unseen(value):
    text = as_text(codec.encode(value))
    assert text.replace("\n", "").isprintable()
    assert codec.decode(validate(text).data) == value


def test_what_is_wrong_with_a_text_is_said_with_its_place():
    assert validate('{"a": 1,\n "b": }').place == (1, 6)
    assert "line 2, column 7" in validate('{"a": 1,\n "b": }').message
    assert validate(" ").message == 'a JSON value is missing; write a string in "quotes"'
    assert "twice" in validate('{"a": 1, "a": 2}').message
    assert validate("NaN").data is None and validate('"\\ud800"').data is None and validate("1e999").data is None
    assert validate("[" * 300 + "]" * 300).data is None and validate("[" * 100_000).data is None
    assert validate('{"a": [1, 2]}').message == "object of 1 · 11 B"
    assert validate("9" * 5000).data == b"9" * 5000


def test_the_command_that_saves_takes_any_key_and_value():
    from stateview.cli.parser import parse

    for key in ("k", "-k", "--json", "a b"):
        for text in (b"-5", b'"--"', b"{}"):
            bound = parse(save_words(key, text, Draft("", 7, time.monotonic() + 60)))
            assert (bound.arguments["key"], bound.arguments["value"]) == (key, text.decode())
            assert bound.arguments["expected"] == 7 and 59 < bound.arguments["ttl"] <= 60


def test_times():
    assert [parse_seconds(one) for one in ("90", "15m", " 2h", "7d", "1.5s")] == [90, 900, 7200, 604_800, 1.5]
    assert [parse_seconds(one) for one in ("", "x", "-1", "0", "nan", "inf", "1y", "1e11")] == [None] * 8


# --- editing in place ----------------------------------------------------------------------------------------------


def test_a_value_is_edited_checked_and_saved(state):
    state.save("k", {"a": 1})

    async def scenario():
        async with running(state) as (app, pilot):
            screen = await opened(app, pilot, "k")
            assert screen.query_one(JsonEdit).text == '{\n  "a": 1\n}'
            await pilot.press("down", "down", "end", "backspace", "x")
            await until(pilot, lambda: "column 1" in said(screen))
            assert "line 3, column 1" in said(screen)
            await pilot.press("ctrl+s")
            await until(pilot, lambda: not screen._busy)
            assert app.screen is screen and screen.query_one(JsonEdit).cursor_location == (2, 0)
            await pilot.press("delete", "}")
            await until(pilot, lambda: "object of 1" in said(screen))
            await write(pilot, screen, '{"a": 2}')
            assert "stateview save --json --expected 1 k" in said(screen, "line")
            await pilot.press("ctrl+s")
            await until(pilot, lambda: app.told)
            assert app.told[-1] == "saved k · r2 · z undoes it"
            assert app.screen is not screen
            assert app.acts.done[-1].line == "stateview save --json --expected 1 k '{\"a\":2}'"

    run(scenario)
    assert state.load("k") == {"a": 2}


def test_leaving_asks_only_where_something_would_be_lost(state):
    state.save("k", 1)

    async def scenario():
        async with running(state) as (app, pilot):
            screen = await opened(app, pilot, "k")
            await pilot.press("escape")
            assert app.screen is not screen
            screen = await opened(app, pilot, "k")
            await pilot.press("2", "escape")
            await until(pilot, on(app, Confirm))
            await pilot.press("enter")
            assert isinstance(app.screen, Confirm)
            await pilot.press("n")
            assert app.screen is screen and screen.text == "21"
            await pilot.press("escape")
            await until(pilot, on(app, Confirm))
            await pilot.press("y")
            await until(pilot, lambda: not isinstance(app.screen, (EditScreen, Confirm)))

    run(scenario)
    assert state.load("k") == 1


def test_quitting_asks_too_where_something_would_be_lost(state):
    state.save("k", 1)

    async def scenario():
        async with running(state) as (app, pilot):
            screen = await opened(app, pilot, "k")
            for quit in ("ctrl+c", "ctrl+q"):
                await pilot.press("2", quit)
                await until(pilot, on(app, Confirm))
                await pilot.press(quit, "n")
                await until(pilot, lambda: app.screen is screen)
            assert app.is_running
            await pilot.press("ctrl+c")
            await until(pilot, on(app, Confirm))
            await pilot.press("y")
            assert app._exit

    run(scenario)


def test_an_expiry_is_kept_and_that_is_said(state):
    state.save("k", 1, ttl=3600)

    async def scenario():
        async with running(state) as (app, pilot):
            screen = await opened(app, pilot, "k")
            assert "expires in 59 min" in said(screen, "note")
            await pilot.press("2", "ctrl+s")
            await until(pilot, lambda: app.told)

    run(scenario)
    assert state.load("k") == 21
    assert 3500 < state.entry("k").ttl <= 3600


def test_nothing_is_opened_that_may_not_be_written(state):
    state.save("k", 1)
    state.save("api_token", 1)
    state.save("conf", {"list": [{"Token": "s3cret"}]})
    state.checkpoint("c")

    async def scenario():
        async with running(state, read_only=True) as (app, pilot):
            for act in (lambda: edit(app, "k"), lambda: add(app), lambda: rename(app, "k"), lambda: expire(app, "k"),
                        lambda: delete(app, ["k"]), lambda: delete(app, ["k", "conf"])):  # fmt: skip
                app.told.clear()
                before = app.screen
                act()
                await until(pilot, lambda: app.told)
                assert "reading only" in app.told[-1] and app.screen is before
        async with running(state, redact=("*token*",)) as (app, pilot):
            for key, why in (
                ("api_token", "edit api_token"),
                ("conf", "/list/0/Token"),
                ("gone", "does not exist any more"),
            ):
                app.told.clear()
                edit(app, key)
                await until(pilot, lambda: app.told)
                assert why in app.told[-1] and "s3cret" not in app.told[-1]
                assert not isinstance(app.screen, EditScreen)
        async with running(state, at="c") as (app, _):
            edit(app, "k")
            assert "as of c" in app.told[-1]

    run(scenario)


def test_a_new_key_is_checked_as_it_is_typed(state):
    state.save("there", "theirs")

    async def scenario():
        async with running(state, size=(60, 15)) as (app, pilot):
            add(app)
            await until(pilot, on(app, EditScreen))
            screen = app.screen
            await pilot.press("ctrl+s")
            await until(pilot, lambda: not screen._busy)
            assert app.screen is screen
            screen.query_one(Input).value = "x" * 1025
            await until(pilot, lambda: "1,024" in said(screen))
            screen.query_one(Input).value = "there"
            await pilot.press("enter")
            await write(pilot, screen, '"mine"')
            await until(pilot, lambda: "--expected 0 there" in said(screen, "line"))
            await pilot.press("ctrl+s")
            await until(pilot, on(app, ConflictScreen))
            await pilot.press("e")
            await until(pilot, lambda: app.screen is screen)
            screen.query_one(Input).value = "-new*"
            await until(pilot, lambda: "--expected 0 -- '-new*'" in said(screen, "line"))
            await pilot.press("ctrl+s")
            await until(pilot, lambda: app.told)
            assert "saved -new*" in app.told[-1]

    run(scenario)
    assert state.load("-new*") == "mine" and state.load("there") == "theirs"


def test_hostile_values_and_keys_are_edited_without_a_terminal_obeying_them(state):
    state.save(HOSTILE, {HOSTILE: HOSTILE})

    async def scenario():
        async with running(state, size=(60, 15)) as (app, pilot):
            screen = await opened(app, pilot, HOSTILE)
            painted = [strip.text for strip in app.screen._compositor.render_strips()]
            assert "".join(painted).isprintable()
            field = screen.query_one(JsonEdit)
            field.insert('"\x1b[31m\u202e\x9b"')
            await pilot.pause()
            painted = [strip.text for strip in app.screen._compositor.render_strips()]
            assert "".join(painted).isprintable()
            field.undo()
            await pilot.press("end", "enter", *'"x": 1,', "ctrl+s")
            await until(pilot, lambda: app.told)

    run(scenario)
    assert state.load(HOSTILE) == {"x": 1, HOSTILE: HOSTILE}


def test_colours_follow_the_text():
    async def scenario(state):
        async with running(state) as (app, pilot):
            screen = await opened(app, pilot, "k")
            await write(pilot, screen, '{"key": "va\\"l", "n": -1.5e3, "t": [true, null]}')
            field = screen.query_one(JsonEdit)
            text = field.get_line(0)
            marked = {text.plain[span.start : span.end] for span in text.spans}
            assert marked == {'"key"', '"va\\"l"', '"n"', "-1.5e3", '"t"', "true", "null"}

    import tempfile

    with tempfile.TemporaryDirectory() as folder, StateManager(f"sqlite:{folder}/s", "ns") as state:
        state.save("k", 1)
        asyncio.run(scenario(state))


# --- races ---------------------------------------------------------------------------------------------------------


async def raced(app, pilot, state, write_theirs):
    """An editor whose save finds that another was first."""
    screen = await opened(app, pilot, "k")
    write_theirs()
    await write(pilot, screen, '{"a": "mine", "text": "one\\ntwo\\n"}')
    await pilot.press("ctrl+s")
    await until(pilot, on(app, ConflictScreen))
    return screen


def differences(app):
    view = app.screen.query_one(ConflictDiff)
    return "\n".join(text for _, text in view._rows)


def test_of_a_race_both_are_shown_and_mine_can_be_saved_over_theirs(state):
    state.save("k", {"a": 1, "text": "one\n"})
    other = StateManager(state._opened["backend"], "ns", author="ann")

    async def scenario():
        async with running(state) as (app, pilot):
            await raced(app, pilot, state, lambda: other.save("k", {"a": "theirs", "text": "one\n"}, ttl=500))
            assert '/a  "theirs" → "mine"' in differences(app) and "two" in differences(app)
            assert "ann" in app.screen.query(Label).first().render().plain
            other.save("k", {"a": "again"})  # and another race
            await pilot.press("m")
            await until(pilot, lambda: isinstance(app.screen, ConflictScreen) and "again" in differences(app))
            await pilot.press("m")
            await until(pilot, lambda: any("saved k · r4" in one for one in app.told))

    run(scenario)
    assert state.load("k")["a"] == "mine"


def test_of_a_race_theirs_can_be_taken_and_mine_is_in_the_clipboard(state):
    state.save("k", {"a": 1})

    async def scenario():
        async with running(state, size=(60, 15)) as (app, pilot):
            await raced(app, pilot, state, lambda: state.save("k", {"a": 2}))
            await pilot.press("t")
            await until(pilot, lambda: app.told)
            assert "clipboard" in app.told[-1] and '"mine"' in app.clipboard
            assert not isinstance(app.screen, (EditScreen, ConflictScreen))

    run(scenario)
    assert state.load("k") == {"a": 2}


def test_of_a_race_in_a_page_mine_is_downloaded_if_it_is_long(state, monkeypatch):
    state.save("k", {"a": 1})
    delivered = []
    monkeypatch.setattr("stateview.dashboard.screens.edit.CLIPBOARD_CHARACTERS", 5)
    monkeypatch.setattr(Bare, "is_web", True)
    monkeypatch.setattr(Bare, "deliver_text", lambda _, file, **_names: delivered.append(file.read()))

    async def scenario():
        async with running(state, size=(60, 15)) as (app, pilot):
            await raced(app, pilot, state, lambda: state.save("k", {"a": 2}))
            await pilot.press("t")
            await until(pilot, lambda: app.told)
            assert "downloaded" in app.told[-1] and '"mine"' in delivered[0]

    run(scenario)


def test_of_a_race_one_can_go_on_editing(state):
    state.save("k", {"a": 1})

    async def scenario():
        async with running(state) as (app, pilot):
            screen = await raced(app, pilot, state, lambda: state.save("k", {"a": 2}))
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is screen)
            assert "mine" in screen.text
            await write(pilot, screen, '{"a": 3}')
            await pilot.press("ctrl+s")
            await until(pilot, lambda: app.told)

    run(scenario)
    assert state.load("k") == {"a": 3}


def test_a_key_deleted_meanwhile_is_a_race_too(state):
    state.save("k", {"a": 1})

    async def scenario():
        async with running(state) as (app, pilot):
            await raced(app, pilot, state, lambda: state.delete("k"))
            assert "deleted" in differences(app)
            await pilot.press("m")
            await until(pilot, lambda: app.told)

    run(scenario)
    assert state.load("k")["a"] == "mine"


def test_two_dashboards_that_save_the_same_have_no_race(state):
    state.save("k", {"a": 1})

    async def scenario():
        async with running(state) as (app, pilot):
            screen = await opened(app, pilot, "k")
            state.save("k", {"a": 2})
            await write(pilot, screen, '{"a":   2}')
            await pilot.press("ctrl+s")
            await until(pilot, lambda: app.told)
            assert "the same value" in app.told[-1]

    run(scenario)
    assert state.revision == 2


def test_what_another_wrote_is_shown_masked_and_mine_can_be_saved(state):
    state.save("k", 1)

    async def scenario():
        async with running(state, redact=("*token*",)) as (app, pilot):
            screen = await opened(app, pilot, "k")
            await write(pilot, screen, "3")
            state.save("k", {"api_token": "secret"})
            await pilot.press("ctrl+s")
            await until(pilot, on(app, ConflictScreen))
            assert "secret" not in differences(app) and "••••••" in differences(app)
            await pilot.press("m")
            await until(pilot, lambda: state.load("k") == 3)

    run(scenario)


def test_what_another_writes_is_told_while_one_edits(state):
    state.save("k", 1)

    async def scenario():
        async with running(state) as (app, pilot):
            screen = await opened(app, pilot, "k")
            state.save("other", 1)
            screen.namespace_changed(state.head(), ["other"])
            await pilot.pause()
            assert said(screen, "note") == ""
            state.save("k", 2)
            screen.namespace_changed(state.head(), ["k"])
            await until(pilot, lambda: "another process has written" in said(screen, "note"))
            state.delete("k")
            screen.namespace_changed(state.head(), None)
            await until(pilot, lambda: "another process has deleted" in said(screen, "note"))

    run(scenario)


# --- rename, expiry, delete ----------------------------------------------------------------------------------------


def test_a_key_is_renamed_and_a_name_that_is_taken_is_asked_for_again(state):
    state.save("old", 1)
    state.save("taken", 2)

    async def scenario():
        async with running(state) as (app, pilot):
            rename(app, "old")
            await until(pilot, on(app, PromptDialog))
            assert "the present name" in said(app.screen, "message")
            app.screen.query_one(Input).value = "taken"
            await pilot.press("enter")
            await until(pilot, lambda: app.told and isinstance(app.screen, PromptDialog))
            app.screen.query_one(Input).value = "-new"
            await pilot.pause()
            assert said(app.screen, "line") == "stateview rename -- old -new"
            await pilot.press("enter")
            await until(pilot, lambda: "z undoes it" in app.told[-1])

    run(scenario)
    assert state.list_keys() == ["-new", "taken"]


def test_a_name_under_which_a_masked_value_would_be_shown_is_said(state):
    state.save("api-token", "s3cret")

    async def scenario():
        async with running(state, redact=("*token*",)) as (app, pilot):
            rename(app, "api-token")
            await until(pilot, on(app, PromptDialog))
            for name, told in (("api-key", True), ("old-token", False)):
                app.screen.query_one(Input).value = name
                await pilot.pause()
                assert ("the screen will show its value" in said(app.screen, "message")) is told

    run(scenario)


def test_an_expiry_is_set_and_taken_away(state):
    state.save("k", 1)

    async def scenario():
        async with running(state, size=(60, 15)) as (app, pilot):
            for typed in ("2h", "never"):
                expire(app, "k")
                await until(pilot, on(app, PromptDialog))
                await pilot.press("x", "enter")
                assert "90 (seconds)" in said(app.screen, "message")
                await pilot.press("backspace", *typed)
                assert said(app.screen, "line") == f"stateview expire k {typed}"
                app.told.clear()
                await pilot.press("enter")
                await until(pilot, lambda: app.told)
                assert "z undoes it" in app.told[-1]
                ttl = state.entry("k").ttl
                assert (7100 < ttl <= 7200) if typed == "2h" else ttl is None

    run(scenario)


def test_a_delete_is_confirmed_by_y_alone_and_takes_only_what_it_names(state):
    for key in ("a*", "ab", "ac", "a[*]", "[x]", "x", "-d", "?"):
        state.save(key, 1)

    async def scenario():
        async with running(state, size=(60, 15)) as (app, pilot):
            delete(app, ["a*"])
            await until(pilot, on(app, Confirm))
            await pilot.press("enter", "X", "space", "d")
            assert isinstance(app.screen, Confirm)
            state.save("a*", 2)  # it is not what was asked about any more
            await pilot.press("y")
            await until(pilot, lambda: app.told)
            assert "a*" in state and "ab" in state
            app.told.clear()
            for keys in (["[x]"], ["a*", "-d", "?"]):  # the key `a[*]` is as a glob the key `a*` alone
                delete(app, keys)
                await until(pilot, on(app, Confirm))
                await pilot.press("y")
                await until(pilot, lambda: app.told)
                assert "z undoes it" in app.told[-1]
                app.told.clear()

    run(scenario)
    assert state.list_keys() == ["a[*]", "ab", "ac", "x"]
    state.undo()
    assert state.list_keys() == ["-d", "?", "a*", "a[*]", "ab", "ac", "x"]


def test_a_key_that_has_gone_is_no_pattern(state):
    for key in ("a*", "ab", "b"):
        state.save(key, 1)

    async def scenario():
        async with running(state) as (app, pilot):
            for keys in (["a*", "b"], ["a*"]):
                delete(app, keys)
                await until(pilot, on(app, Confirm))
                state.delete("a*")
                app.told.clear()
                await pilot.press("y")
                await until(pilot, lambda: app.told)
                assert "a*" in app.told[-1] and state.list_keys() == ["ab", "b"]
                state.save("a*", 1)

    run(scenario)


# --- large values, and $EDITOR -------------------------------------------------------------------------------------


def test_a_large_value_is_not_edited_in_place(state):
    state.save("k", ["x" * 100] * 4000)

    async def scenario():
        async with running(state) as (app, pilot):
            edit(app, "k")  # Pilot's terminal cannot be given away
            await until(pilot, lambda: app.told)
            assert "no terminal" in app.told[-1]
            await until(pilot, lambda: not isinstance(app.screen, EditScreen))

    run(scenario)


def test_typing_into_the_largest_value_that_is_edited_in_place_is_quick(state):
    state.save("k", {"a": "x y" * (INLINE_CHARACTERS // 3 - 20)})

    async def scenario():
        async with running(state) as (app, pilot):
            screen = await opened(app, pilot, "k")
            assert len(screen.text) > INLINE_CHARACTERS - 100
            await pilot.press("down", "end", "left")
            before = time.perf_counter()
            await pilot.press("z", "z", "z")
            assert time.perf_counter() - before < 5
            await pilot.press("ctrl+s")
            await until(pilot, lambda: app.told)

    run(scenario)
    assert state.load("k")["a"].count("z") == 3


PROGRAM = """
import sys
from pathlib import Path
from stateview import StateManager
from stateview.dashboard import app as app_module
from textual.screen import Screen
from stateview.dashboard.app import Dashboard
from stateview.dashboard.screens.edit import edit

class Bare(Dashboard):
    CSS_PATH = Path(app_module.__file__).with_name("app.tcss")
    BINDINGS = [("f2", "inline", ""), ("f3", "outside", "")]

    def get_default_screen(self):
        return Screen(id="_default")

    def on_ready(self, event):
        event.prevent_default()

    def action_inline(self):
        edit(self, "k")

    def action_outside(self):
        edit(self, "k", editor=True)

Bare(StateManager(sys.argv[1], "ns")).run()
"""


@pytest.fixture
def program(tmp_path):
    """A bare dashboard in a terminal, and the folder of its editor, which notes what it is given."""
    script = tmp_path / "editor.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, pathlib, sys
        path, here = pathlib.Path(sys.argv[1]), pathlib.Path({str(tmp_path)!r})
        (here / "seen").write_text(f"{{oct(path.stat().st_mode)}} {{path}}")
        (path.parent / "backup~").write_text("what editors leave")
        answer = here / "answer"
        if answer.exists():
            path.write_text(answer.read_text())
        print("in the editor; press enter")
        sys.stdin.readline()
        sys.exit(int((here / "code").read_text()) if (here / "code").exists() else 0)
        """)
    )
    (tmp_path / "program.py").write_text(PROGRAM)
    started = []

    def start(url):
        environment = {"EDITOR": f"{sys.executable} {script}", "VISUAL": ""}
        started.append(Terminal(url, program=(str(tmp_path / "program.py"),), **environment))
        return started[-1]

    yield start, tmp_path
    for terminal in started:
        terminal.kill()


def gone(folder):
    """The file that the editor saw is not there any more, nor what it left beside it; it was for its user alone."""
    mode, path = (folder / "seen").read_text().split(" ", 1)
    assert stat.S_IMODE(int(mode, 8)) == 0o600
    return not Path(path).parent.exists()


def kept(folder):
    """The text of the file that the editor saw, which is still there. Removes it."""
    path = Path((folder / "seen").read_text().split(" ", 1)[1])
    text = path.read_text()
    shutil.rmtree(path.parent)
    (folder / "seen").unlink()
    return text


def test_a_value_is_edited_in_the_editor_of_the_user(program, tmp_path):
    start, folder = program
    state = StateManager(f"sqlite:{tmp_path}/store", "ns")
    state.save("k", {"a": 1})
    terminal = start(f"sqlite:{tmp_path}/store")
    terminal.until(lambda _text: b"\x1b[?1049h" in terminal.raw)
    (folder / "answer").write_text('{"a": 2}')
    terminal.type("\x1bOR")  # f3
    terminal.until("in the editor")
    terminal.type("\n")
    terminal.until("saved k · r2")
    assert state.load("k") == {"a": 2} and gone(folder)

    (folder / "answer").write_text('{"a": ')
    terminal.type("\x1bOR")
    terminal.until("in the editor")
    terminal.type("\n")
    terminal.until("line 1, column 7")
    (folder / "answer").write_text('{"a": 3}')
    terminal.type("\x05")  # ctrl+e
    terminal.until("in the editor")
    terminal.type("\n")
    terminal.until("object of 1")
    terminal.type("\x13")  # ctrl+s
    terminal.until("saved k · r3")
    assert state.load("k") == {"a": 3} and gone(folder)

    (folder / "code").write_text("3")
    terminal.type("\x1bOR")
    terminal.until("in the editor")
    terminal.type("\x03\n")  # Ctrl-C is for the editor alone
    terminal.until("text is kept in")
    assert state.load("k") == {"a": 3} and kept(folder) == '{"a": 3}'

    (folder / "code").write_text("0")
    (folder / "answer").write_text("\ufeff4")
    terminal.type("\x1bOR")
    terminal.until(lambda _text: (folder / "seen").exists())
    terminal.type("\n")
    terminal.until("the text of the editor")
    assert state.load("k") == {"a": 3} and kept(folder) == "\ufeff4"


def test_a_large_value_goes_to_the_editor_at_once(program, tmp_path):
    start, folder = program
    state = StateManager(f"sqlite:{tmp_path}/store", "ns")
    state.save("k", ["x" * 100] * 4000)
    terminal = start(f"sqlite:{tmp_path}/store")
    terminal.until(lambda _text: b"\x1b[?1049h" in terminal.raw)
    (folder / "answer").write_text("[" + '"y",' * 100_000 + "]")
    terminal.type("\x1bOQ")  # f2
    terminal.until("in the editor")
    terminal.type("\n")
    terminal.until("line 1, column 400,002")
    (folder / "answer").write_text("[" + '"y",' * 100_000 + "1]")
    terminal.type("\x05")
    terminal.until("in the editor")
    terminal.type("\n")
    terminal.until("array of 100,001")
    terminal.type("\x13")
    terminal.until("saved k · r2")
    assert len(state.load("k")) == 100_001 and gone(folder)
