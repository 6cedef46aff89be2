"""The recorded session of the README: `python screenshots/session.py`. Needs chromium only with `--frames FOLDER`.

The programs are the real ones, in a pseudo-terminal: a workflow that crashes and resumes, the shell, the dashboard.
A frame is taken when the screen shows what it is to show, so a fast and a slow machine take the same frames. The
clock of the programs stands still, and the names of process and host are set, so that each recording is the same.
"""

from __future__ import annotations

import argparse
import html
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "support"))

from terminal import Terminal  # noqa: E402

COLUMNS, ROWS = 100, 28
CELL, LINE, MARGIN, BAR = 8.4, 18, 14, 30  # pixels: a character, a line, around the screen, above it
FRONT, BACK = "#d8dee9", "#1b1f27"
PALETTE = {
    "black": "#3b4252", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b", "blue": "#61afef",
    "magenta": "#c678dd", "cyan": "#56b6c2", "white": "#d8dee9", "brightblack": "#7f8899",
    "brightred": "#ef7f88", "brightgreen": "#a9d48a",
    "brightbrown": "#f0d08c", "brightblue": "#7abfff", "brightmagenta": "#d68be8", "brightcyan": "#6fd0dc",
    "brightwhite": "#ffffff",
}  # fmt: skip
CLOCK = """\
import itertools, os, sys, time
_start, _calls = int(os.environ["SESSION_TIME"]) * 10**9, itertools.count(1)
time.time_ns = lambda: _start + 1000 * next(_calls)
time.time = lambda: time.time_ns() / 10**9
import datetime
class Still(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return _real.fromtimestamp(time.time(), tz)
_real, datetime.datetime = datetime.datetime, Still
if "report.py" in sys.orig_argv:  # durations of steps, process and host are in its records
    import threading
    _ticks, _main = itertools.count(1), threading.main_thread()
    _last = [0]
    def _tick():
        if threading.current_thread() is _main:
            _last[0] = next(_ticks)
        return _last[0] / 100
    time.monotonic = _tick
    os.getpid = lambda: 4242
    _uname = os.uname()
    os.uname = lambda: os.uname_result(("Linux", "laptop", *_uname[2:]))
"""
BEGIN = 1796031000  # 2026-11-30 09:30 UTC

Cell = tuple[str, str, str, bool]


class Recorder:
    """Types into a terminal, and keeps what it shows: frames, each with the seconds that it stays."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.frames: list[tuple[list[str], float]] = []

    def take(self, seconds: float) -> None:
        """Keep the screen. What has not changed stays longer."""
        screen = self.terminal.screen
        rows = [row(screen.buffer[number], cursor_at(screen, number)) for number in range(ROWS)]
        if self.frames and self.frames[-1][0] == rows:
            self.frames[-1] = rows, self.frames[-1][1] + seconds
        else:
            self.frames.append((rows, seconds))

    def type(self, text: str, seen: str = "", end: str = "\r") -> None:
        """Type a line as a person does, a few letters a frame."""
        for start in range(0, len(text), 3):
            self.terminal.type(text[start : start + 3])
            typed = (seen + text[: start + 3]).rstrip()
            self.terminal.until(lambda screen, typed=typed: typed in screen)  # type: ignore[misc]
            settle(self.terminal)  # a menu may come
            self.take(0.16)
        self.take(0.5)
        self.terminal.type(end)

    def press(self, key: str, until: str | Callable[[str], bool], seconds: float = 1.2) -> None:
        """Press a key, and keep the screen that it leads to."""
        self.terminal.type(key)
        self.show(until, seconds)

    def show(self, until: str | Callable[[str], bool], seconds: float) -> None:
        """Wait for a text, and keep the screen."""
        self.terminal.until(until)
        settle(self.terminal)
        self.take(seconds)


def settle(terminal: Terminal) -> None:
    """Read until nothing more is painted for a moment."""
    while select.select([terminal.terminal], [], [], 0.5)[0] and terminal._read():
        pass


def cursor_at(screen: object, number: int) -> int:
    """Return the column of the cursor in a row, -1 without one."""
    cursor = screen.cursor  # type: ignore[attr-defined]
    return cursor.x if cursor.y == number and not cursor.hidden else -1


def row(cells: dict[int, object], cursor: int) -> str:
    """Return a row as SVG: rectangles behind, and a text for each run of one style, of the width of its columns."""
    behind, texts = "", ""
    start = 0
    while start < COLUMNS:
        style = look(cells, start, cursor)
        end = start + 1
        while end < COLUMNS and look(cells, end, cursor) == style:
            end += 1
        front, back, bold = style
        text = "".join(cells[column].data for column in range(start, end))  # type: ignore[attr-defined]
        x, width = round(start * CELL, 1), round((end - start) * CELL, 1)
        if back != BACK:
            behind += f'<rect x="{x}" y="0" width="{width}" height="{LINE}" fill="{back}"/>'
        if text.strip():
            blanks = len(text) - len(text.lstrip())
            shown = text.strip()
            x, width = round((start + blanks) * CELL, 1), round(len(shown) * CELL, 1)
            weight = ' font-weight="bold"' if bold else ""
            colour = "" if front == FRONT else f' fill="{front}"'
            texts += (
                f'<text x="{x}" y="13" textLength="{width}"{colour}{weight}>{html.escape(shown, quote=False)}</text>'
            )
        start = end
    return behind + texts


def look(cells: dict[int, object], column: int, cursor: int) -> tuple[str, str, bool]:
    """Return the colours of a cell, and whether it is bold."""
    cell = cells[column]
    front, back = colour(cell.fg, FRONT), colour(cell.bg, BACK)  # type: ignore[attr-defined]
    if cell.reverse != (column == cursor):  # type: ignore[attr-defined]
        front, back = back, front
    return front, back, cell.bold  # type: ignore[attr-defined]


def colour(name: str, default: str) -> str:
    """Return a colour of pyte for SVG."""
    return default if name == "default" else PALETTE.get(name) or f"#{name}"


def svg(frames: list[tuple[list[str], float]]) -> str:
    """Return the frames as an SVG that plays them in turn. A row that comes again is kept once."""
    width, height = round(COLUMNS * CELL + 2 * MARGIN), ROWS * LINE + MARGIN + BAR
    total = sum(seconds for _, seconds in frames)
    rows: dict[str, str] = {}
    film, steps, moment = [], [], 0.0
    for number, (lines, seconds) in enumerate(frames):
        used = [
            f'<use href="#{rows.setdefault(line, f"r{len(rows)}")}" y="{at * LINE}"/>'
            for at, line in enumerate(lines) if line
        ]  # fmt: skip
        film.append(f'<g transform="translate(0 {number * height})">{"".join(used)}</g>')
        steps.append(f"{moment / total * 100:.3f}%{{transform:translateY(-{number * height}px)}}")
        moment += seconds
    steps.append(f"100%{{transform:translateY(-{(len(frames) - 1) * height}px)}}")
    defined = "".join(f'<g id="{name}">{line}</g>' for line, name in rows.items())
    dots = "".join(
        f'<circle cx="{MARGIN + 6 + 18 * at}" cy="15" r="5" fill="{fill}"/>'
        for at, fill in enumerate(("#e06c75", "#e5c07b", "#98c379"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace" font-size="14">'
        f"<style>text{{white-space:pre}}@keyframes film{{{''.join(steps)}}}"
        f"#film{{animation:film {total:.2f}s step-end infinite}}</style>"
        f"<title>A recorded session of stateview</title><defs>{defined}</defs>"
        f'<rect width="{width}" height="{height}" rx="8" fill="{BACK}"/>{dots}'
        f'<svg x="{MARGIN}" y="{BAR}" width="{COLUMNS * CELL:.0f}" height="{ROWS * LINE}" fill="{FRONT}" '
        f'overflow="hidden"><g id="film">{"".join(film)}</g></svg></svg>\n'
    )


def record(recorder: Recorder) -> None:
    """Act the session: a crash, the resume, a diff in the shell, a restore in the dashboard."""
    terminal, show = recorder.terminal, recorder.show
    terminal.until(at_dollar(""))
    recorder.type("cat report.py", "$ ")
    show(at_dollar("published"), 4.0)
    recorder.type("python report.py 2>&1 | grep -v '^  '", "$ ")
    show(at_dollar("ConnectionError"), 2.5)
    recorder.type("clear; stateview run steps", "$ ")
    show(at_dollar("ConnectionError"), 3.0)
    recorder.type("stateview save stock_server up; python report.py", "$ ")
    show(at_dollar("published"), 3.5)

    recorder.type("clear; stateview shell", "$ ")
    show(lambda text: "Ctrl-D exits" in text and at_prompt(text), 0.8)
    terminal.type("load summ")
    show("page:summary ", 1.6)
    recorder.press("\t", "> load page:summary", 0.8)
    recorder.press("\r\r", lambda text: "drawn" in text and at_prompt(text), 1.5)
    recorder.type("checkpoint published", "> ")
    show(lambda text: "is revision" in text and at_prompt(text), 1.2)
    recorder.type("explain delete page:*", "> ")
    show(lambda text: "takes it back" in text and at_prompt(text), 3.5)
    recorder.type("delete page:* --yes", "> ")
    show(lambda text: "deleted 6 keys" in text and at_prompt(text), 1.5)
    recorder.type("diff published", "> ")
    show(lambda text: "6 keys differ" in text and at_prompt(text), 3.0)
    recorder.type("exit", "> ")
    terminal.until(at_dollar(""))

    recorder.type("clear; stateview", "$ ")
    show("published", 2.5)
    recorder.press("4", "Timeline", 1.0)
    recorder.press("}", "AS OF published", 2.5)
    recorder.press("r", "6 of 6 marked", 3.0)
    recorder.press("y", "Restored 6 keys", 3.0)
    recorder.press("\x1b", lambda text: "AS OF" not in text and "Restored" not in text, 4.0)


def at_dollar(text: str) -> Callable[[str], bool]:
    """Return a test whether the screen shows a text, and bash waits for a line."""
    return lambda screen: text in screen and screen.rstrip().endswith("$")


def at_prompt(screen: str) -> bool:
    """Whether the shell waits for a line, and has read the revision that it shows."""
    return re.search(r"@\d+>$", screen.rstrip()) is not None


def look_at(frames: list[tuple[list[str], float]], folder: Path) -> None:
    """Write each frame as a PNG."""
    for number, frame in enumerate(frames):
        source = folder / f"{number:03}.svg"
        source.write_text(svg([frame]), encoding="utf-8")
        with tempfile.TemporaryDirectory() as profile:
            subprocess.run(
                ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
                 "--window-size=870,550", f"--screenshot={source.with_suffix('.png')}", source.as_uri()],
                check=True, capture_output=True,
            )  # fmt: skip


def prepare(folder: Path) -> Iterable[tuple[str, str]]:
    """Make the folder of the session, and return the environment of its programs."""
    (folder / "clock").mkdir()
    (folder / "clock" / "sitecustomize.py").write_text(CLOCK)
    (folder / "work").mkdir()
    os.chdir(folder / "work")
    shutil.copy(HERE / "session_report.py", "report.py")
    programs = Path(sys.executable).parent
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder), "XDG_STATE_HOME": str(folder),
        "PS1": "$ ", "COLORTERM": "truecolor", "PYTHONPATH": str(folder / "clock"), "SESSION_TIME": str(BEGIN),
        "TZ": "UTC", "LANG": "C.UTF-8", "PROMPT_TOOLKIT_NO_CPR": "1",  # a late answer of the terminal moves lines
        "PROMPT_COMMAND": "SESSION_TIME=$((SESSION_TIME + 20))",
    }  # fmt: skip
    subprocess.run(
        ["stateview", "init", "sqlite:state", "report"],
        check=True,
        capture_output=True,
        env={**os.environ, **environment},
    )
    return environment.items()


def main() -> None:
    """Record the session, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path, help="also write each frame as a PNG into this folder")
    given = parser.parse_args()
    frames_folder = None if given.frames is None else given.frames.resolve()
    bash = "import os; os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])"
    with tempfile.TemporaryDirectory() as folder:
        terminal = Terminal(columns=COLUMNS, rows=ROWS, program=("-c", bash), **dict(prepare(Path(folder))))
        recorder = Recorder(terminal)
        try:
            record(recorder)
        finally:
            terminal.kill()
        os.chdir("/")
    path = HERE / "session.svg"
    path.write_text(svg(recorder.frames), encoding="utf-8")
    print(f"{path.name}: {len(recorder.frames)} frames, {path.stat().st_size / 1000:.0f} kB")
    if frames_folder is not None:
        frames_folder.mkdir(exist_ok=True)
        look_at(recorder.frames, frames_folder)


if __name__ == "__main__":
    main()
