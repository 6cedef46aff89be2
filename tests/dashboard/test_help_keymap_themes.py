"""Help, keys that are given to other acts, themes, NO_COLOR; and that none of it costs time before it is opened."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dashboard_host import Host, screen_text, shown, until
from textual.binding import Binding
from textual.color import Color
from textual.pilot import Pilot
from textual.screen import Screen

from stateview import StateManager
from stateview.cli.exit_codes import UsageError
from stateview.dashboard.dialogs.confirm import Confirm
from stateview.dashboard.display import themes
from stateview.dashboard.input import keymap
from stateview.dashboard.screens.help import HelpScreen
from stateview.dashboard.widgets.text_list import TextList
from stateview.dashboard.widgets.virtual_list import VirtualList
from stateview.errors import InvalidName
from stateview.settings import Settings


class Rows(TextList):
    BINDINGS = [Binding("e", "edit", "Edit", id="rows.edit"), Binding("x", "x", "Not now", id="rows.off")]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__([f"[/]{n}" for n in range(9)])
        self.edited = 0

    def action_edit(self) -> None:
        self.edited += 1

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return None if action == "x" else True


class Looking(Screen[None]):
    HELP = "What [/] it is for,\nin two lines."
    BINDINGS = [  # noqa: RUF012
        Binding("d", "diff", "Diff", id="looking.diff"),
        Binding("slash", "filter", "Filter", show=False, id="looking.filter"),
        Binding("r,ctrl+r", "restore", "Restore", id="looking.restore"),
    ]

    def compose(self) -> Any:
        yield Rows()


@pytest.fixture
def url(new_store: Callable[[str], str]) -> str:
    url = new_store("sqlite")
    with StateManager(url, "work") as state:
        state.save("k", 1)
    return url


def run(url: str, flow: Callable[[Pilot[None], Host], Any], size: tuple[int, int] = (80, 24)) -> None:
    async def go() -> None:
        app = Host(StateManager(url, "work"), {"store": url, "namespace": "work"})
        async with app.run_test(size=size) as pilot:
            app.push_screen(Looking())
            await pilot.pause()
            await flow(pilot, app)

    asyncio.run(asyncio.wait_for(go(), 60))


def help_lines(app: Host) -> list[str]:
    assert isinstance(app.screen, HelpScreen)
    return list(app.screen.list.lines)


def line_of(rows: list[str], text: str) -> str:
    return next(row for row in rows if text in row)


# --- help ------------------------------------------------------------------------------------------------------------


def test_the_help_of_a_key_is_in_words() -> None:
    names = {action.description for action in keymap.actions() if re.search(r"[a-z][A-Z]", action.description)}
    assert not names  # such as the name of a class


def test_help_lists_the_keys_that_work_on_the_screen_under_it_in_groups(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Host) -> None:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        rows = help_lines(app)
        assert rows[:2] == [" What [/] it is for, in two lines.", ""]
        heads = [row for row in rows if row and row[0] != " "]
        assert heads == ["Move", "Look", "Act", "App", "Names for [keys], on every screen"]
        assert {*line_of(rows, "list.down").replace(",", "").split()} == {"j", "↓", "Down", "list.down"}
        assert line_of(rows, "looking.filter").split()[:2] == ["/", "Filter"]
        assert line_of(rows, "looking.restore").split()[:3] == ["r,", "ctrl+r", "Restore"]
        assert "(not now)" in line_of(rows, "rows.off")
        assert rows.index(line_of(rows, "looking.diff")) < rows.index("Act") < rows.index(line_of(rows, "rows.edit"))
        for act, command in (("looking.diff", "stateview diff [BEFORE]"), ("looking.restore", "stateview restore REF")):
            assert command in rows[rows.index(line_of(rows, act)) + 1]
        assert line_of(rows, "app.quit").split()[:2] == ["q", "Quit"]

    run(url, flow)


@pytest.mark.parametrize("size", [(60, 15), (240, 70)])
def test_help_scrolls_is_searched_and_goes_back(url: str, size: tuple[int, int]) -> None:
    async def flow(pilot: Pilot[None], app: Host) -> None:
        await pilot.press("question_mark")
        await shown(pilot, "What [/] it is for, in two lines.", "Move", '[keys] "NAME" = "KEY"')
        assert not [row for row in help_lines(app)[: help_lines(app).index("App")] if len(row) > 58 and size[0] == 60]
        await pilot.press("slash", *"looking.rest", "enter")
        await pilot.pause()
        assert "Restore" in screen_text(app)
        await pilot.press("question_mark")
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, Looking)

    run(url, flow, size)


def test_help_shows_the_keys_that_were_given_and_they_work(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Host) -> None:
        app.set_keymap({"rows.edit": "ctrl+e,f5", "app.help": "f1", "list.down": "s"})
        await pilot.press("e")
        assert app.screen.query_one(Rows).edited == 0
        await pilot.press("ctrl+e", "f5", "s")
        assert (app.screen.query_one(Rows).edited, app.screen.query_one(Rows).cursor) == (2, 1)
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        rows = help_lines(app)
        assert {*line_of(rows, "rows.edit").replace(",", "").split()} == {"ctrl+e", "f5", "Edit", "rows.edit"}
        assert line_of(rows, "list.down").split()[0] == "s"
        names = rows[rows.index("Names for [keys], on every screen") :]
        assert line_of(names, "app.help").split()[:2] == ["app.help", "f1"]

    run(url, flow)


# --- keys ------------------------------------------------------------------------------------------------------------


def settings(**keys: Any) -> Settings:
    return Settings("/x/stateview.toml", {"keys": keys} if keys else {})


def test_every_binding_has_a_name_and_a_description() -> None:
    for owner in keymap._classes():
        for binding in keymap._bindings(owner):
            assert binding.id, f"{owner.__name__}: {binding.key}"
            assert binding.description, binding.id


def test_keys_are_taken_as_a_person_writes_them() -> None:
    given = {
        "app.help": "f1", "list.down": "n, ctrl+n", "app.command": ";", "list.up": ["?", ","], "app.quit": "Q",
        "list.first": "alt+!", "list.last": "space", "app.done": "question_mark",
    }  # fmt: skip
    assert keymap.keymap_of(settings(**given)) == {
        "app.help": "f1",
        "list.down": "n,ctrl+n",
        "app.command": "semicolon",
        "list.up": "question_mark,comma",
        "app.quit": "Q",
        "list.first": "alt+exclamation_mark",
        "list.last": "space",
        "app.done": "question_mark",
    }


def test_without_keys_nothing_is_imported() -> None:
    code = (
        "import sys; from stateview.dashboard.input.keymap import keymap_of; from stateview.settings import Settings;"
        "assert keymap_of(Settings('', {})) == {}; print([m for m in sys.modules if 'dashboard.' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['stateview.dashboard.input', 'stateview.dashboard.input.keymap']"


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("app.hlep", "f1", "Did you mean app.help"),
        ("down", "n", "list.down"),
        ("nothing at all", "n", "lists all actions at its end"),
        ("app.help", "crtl+h", "'crtl+h' is no key"),
        ("app.help", "", "'' is no key"),
        ("app.help", "F99", "'F99' is no key"),
        ("app.help", "ctrl+H", "Write 'ctrl+h'"),
        ("app.help", "a,,b", "'' is no key"),
        ("app.help", "\x1b[", "is no key"),
    ],
)
def test_a_wrong_name_or_key_is_said_with_what_is_near(name: str, key: str, said: str) -> None:
    with pytest.raises(InvalidName) as error:
        keymap.keymap_of(settings(**{name: key}))
    assert said in str(error.value)
    assert str(error.value).startswith("/x/stateview.toml: [keys] ")
    assert "\x1b" not in str(error.value)


def test_a_key_with_two_acts_is_told(url: str) -> None:
    assert keymap.clashes({"list.down": "j,ctrl+j"}) == []  # two keys of one act are none
    found = keymap.clashes({"app.help": "q"})
    assert [(one.key, one.other) for one in found] == [("q", "app.quit")]
    # swapped, both have their own
    assert keymap.clashes({"app.help": "q", "app.quit": "question_mark"}) == []
    assert ("j", "list.down") in [(one.key, one.other) for one in keymap.clashes({"app.help": "j"})]

    async def flow(pilot: Pilot[None], app: Host) -> None:
        keymap.apply(app, {"app.help": "q"})
        await pilot.pause()
        assert "the key q is both app.help and app.quit" in app.told()[-1]

    run(url, flow)


# --- themes ----------------------------------------------------------------------------------------------------------


def variables(name: str) -> dict[str, str]:
    theme = themes.BUILTIN_THEMES[name]
    return {**theme.to_color_system().generate(), **theme.variables}


def channel(value: int) -> float:
    part = value / 255
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


def linear(text: str) -> tuple[float, float, float]:
    colour = Color.parse(text)
    return channel(colour.r), channel(colour.g), channel(colour.b)


def ratio(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2."""
    light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (linear(one), linear(other)))
    return (light[1] + 0.05) / (light[0] + 0.05)


TEXTS = ("foreground", "text", "text-muted", "text-primary", "text-secondary", "text-accent", "text-success")
TEXTS += ("text-warning", "text-error", "footer-key-foreground")
GROUNDS = ("background", "surface", "panel", "block-cursor-blurred-background")


@pytest.mark.parametrize("name", ["stateview-dark", "stateview-light"])
def test_every_text_of_our_themes_is_read_on_every_ground(name: str) -> None:
    found = variables(name)
    low = [(text, on, ratio(found[text], found[on])) for text in TEXTS for on in GROUNDS]
    low += [("block-cursor-foreground", "", ratio(found["block-cursor-foreground"], found["block-cursor-background"]))]
    low += [("background", on, ratio(found["background"], found[on])) for on in ("warning", "error")]
    assert [one for one in low if one[2] < 4.5] == []


# Viénot, Brettel and Mollon (1999) and, for blue, Machado, Oliveira and Fernandes (2009); on linear RGB.
BLIND = {
    "protanopia": ((0.11238, 0.88762, 0), (0.11238, 0.88762, 0), (0.00401, -0.00401, 1)),
    "deuteranopia": ((0.29275, 0.70725, 0), (0.29275, 0.70725, 0), (-0.02234, 0.02234, 1)),
    "tritanopia": ((1.2555, -0.0767, -0.1788), (-0.0784, 0.9308, 0.1476), (0.0047, 0.6913, 0.3039)),
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
}


def lab(rgb: tuple[float, float, float]) -> tuple[float, float, float]:
    r, g, b = (min(1.0, max(0.0, one)) for one in rgb)
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    x, y, z = (one ** (1 / 3) if one > 0.008856 else 7.787 * one + 16 / 116 for one in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("name", ["stateview-dark", "stateview-light"])
@pytest.mark.parametrize("kind", BLIND)
def test_added_removed_and_changed_are_told_apart_by_the_colour_blind(name: str, kind: str) -> None:
    found = variables(name)

    def seen(role: str) -> tuple[float, float, float]:
        rgb = linear(found[role])
        r, g, b = (sum(weight * part for weight, part in zip(row, rgb, strict=True)) for row in BLIND[kind])
        return lab((r, g, b))

    roles = ("text-success", "text-error", "text-warning")
    pairs = [(one, other) for number, one in enumerate(roles) for other in roles[number + 1 :]]
    distances = {
        pair: sum((a - b) ** 2 for a, b in zip(seen(pair[0]), seen(pair[1]), strict=True)) ** 0.5 for pair in pairs
    }
    assert min(distances.values()) > 25, distances


def painted(app: Host) -> set[str]:
    """The colours that the terminal is sent: `default`, `color(N)` of its own, or `#rrggbb`."""
    found = set()
    for strip in app.screen._compositor.render_strips():
        for segment in strip:
            for one in (segment.style and segment.style.color, segment.style and segment.style.bgcolor):
                found.add("none" if one is None else one.name)
    return found


async def look_around(pilot: Pilot[None], app: Host) -> list[set[str]]:
    seen = [painted(app)]
    app.push_screen(Confirm(["sure?"], "stateview x"))
    await shown(pilot, "sure?")
    seen.append(painted(app))
    await pilot.press("n")
    for action, text in ((app.action_help, "Help"), (app.action_command, ":"), (app.action_done, "nothing was done")):
        below = app.screen
        action()
        await until(pilot, lambda below=below: app.screen is not below)
        await shown(pilot, text)
        seen.append(painted(app))
        await pilot.press("escape")
        await until(pilot, lambda below=below: app.screen is below)
    return seen


def test_the_terminal_theme_sends_only_the_terminals_own_colours(url: str) -> None:
    async def flow(pilot: Pilot[None], app: Host) -> None:
        themes.apply(app, "terminal")
        await until(pilot, lambda: "default" in painted(app))
        for colours in await look_around(pilot, app):
            assert not [one for one in colours if one.startswith("#")]
            assert "default" in colours

    run(url, flow)


@pytest.mark.parametrize("theme", ["stateview-dark", "textual-light", "terminal"])
def test_under_no_color_nothing_but_the_terminals_default_is_sent(
    url: str, theme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def flow(pilot: Pilot[None], app: Host) -> None:
        themes.apply(app, theme)

        def cursor_is_reversed() -> bool:
            cursor = app.screen._compositor.render_strips()[0]
            return any(segment.style and segment.style.reverse and "[/]0" in segment.text for segment in cursor)

        await until(pilot, cursor_is_reversed)
        for colours in await look_around(pilot, app):
            assert colours <= {"default", "none"}

    run(url, flow)


@pytest.mark.parametrize("name", themes.names())
def test_every_theme_shows_all_our_screens(url: str, name: str) -> None:
    async def flow(pilot: Pilot[None], app: Host) -> None:
        themes.apply(app, name)
        await pilot.pause()
        await look_around(pilot, app)
        assert app.theme == name

    run(url, flow)


def test_dim_text_can_be_read_in_every_theme(url: str) -> None:
    """WCAG's contrast of 4.5 at least, against the background of the list."""

    def luminance(color: Color) -> float:
        parts = [part / 255 for part in color.rgb]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    async def flow(pilot: Pilot[None], app: Host) -> None:
        await app.push_screen(HelpScreen())
        shown = app.screen.query_one(VirtualList)
        for name in themes.names():
            themes.apply(app, name)
            await pilot.pause()
            if not app.current_theme.ansi:
                dim = themes.component_style(shown, "list--dim").color
                assert dim is not None
                light, dark = sorted(map(luminance, (Color.from_rich_color(dim), shown.background_colors[1])))[::-1]
                assert (light + 0.05) / (dark + 0.05) > 4.5, name

    run(url, flow)


def test_the_theme_is_the_given_one_else_the_files_else_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("TEXTUAL_THEME", raising=False)
    file = Settings("/x/stateview.toml", {"theme": "nord"})
    assert themes.theme_of(None, Settings("", {})) == "stateview-dark"
    monkeypatch.setenv("TEXTUAL_THEME", "dracula")
    assert themes.theme_of(None, Settings("", {})) == "dracula"
    assert themes.theme_of(None, file) == "nord"
    assert themes.theme_of("terminal", file) == "terminal"
    monkeypatch.setenv("NO_COLOR", "1")
    assert themes.theme_of("nord", file) == "terminal"


@pytest.mark.parametrize(
    ("given", "file", "environment", "where"),
    [
        ("x", {}, "", "--theme"),
        (None, {"theme": "x"}, "", "/x/stateview.toml: theme"),
        (None, {}, "x", "TEXTUAL_THEME"),
    ],
)
def test_an_unknown_theme_is_an_error_with_the_names(
    given: str | None, file: dict[str, Any], environment: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTUAL_THEME", environment)
    with pytest.raises(UsageError) as error:
        themes.theme_of(given, Settings("/x/stateview.toml", file))
    assert str(error.value).startswith(f"{where}: there is no theme 'x'. Choose one of stateview-dark, ")


def test_the_environment_may_name_one_of_our_themes() -> None:
    code = (
        "from stateview.dashboard.app import Dashboard; from stateview import StateManager;"
        "from stateview.dashboard.display.themes import theme_of; from stateview.settings import Settings;"
        "app = Dashboard(StateManager('json:/nowhere', 'n'), theme=theme_of(None, Settings('', {})));"
        "app.theme = 'stateview-light'; print(theme_of(None, Settings('', {})), app.current_theme.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"TEXTUAL_THEME": "stateview-light", "PATH": ""},
    )  # fmt: skip
    assert done.stdout.split() == ["stateview-light"] * 2


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_nothing_of_this_is_imported_before_it_is_opened() -> None:
    code = "import sys, stateview.dashboard.app; print('\\n'.join(m for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("\n"))
    late = (
        "dialogs.",
        "screens.",
        "actions.command_line",
        "actions.suspend",
        "display.result_redaction",
        "widgets.text_list",
        "widgets.line_input",
    )
    assert not [one for one in loaded if one.startswith(tuple(f"stateview.dashboard.{name}" for name in late))]
    assert not loaded & {"stateview.cli.program.completion"}


def test_the_program_says_a_wrong_key_or_theme_before_it_takes_the_screen(folder: Path) -> None:
    from terminal import Terminal

    (folder / "stateview.toml").write_text('[keys]\n"app.hepl" = "f1"\n')
    program = Terminal("dashboard")
    program.until("Did you mean app.help")
    assert program.end() == 2
