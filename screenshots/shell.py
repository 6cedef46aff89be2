"""Makes shell.svg, the README's picture: the real shell on the demo's store, driven in a terminal, as it was painted.

python screenshots/shell.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.text import Text

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "support"))

from terminal import Terminal  # noqa: E402

COLUMNS, ROWS = 96, 34


def picture(terminal: Terminal, title: str) -> str:
    """Return the screen as SVG."""
    with open(os.devnull, "w") as nowhere:
        console = Console(width=COLUMNS, record=True, file=nowhere, force_terminal=True, color_system="truecolor")
        for row in range(ROWS):
            line = Text()
            for column in range(COLUMNS):
                cell = terminal.screen.buffer[row][column]
                line.append(cell.data, style(cell.fg, cell.bg, cell.bold, cell.reverse))
            console.print(line, end="\n", soft_wrap=True)
        return console.export_svg(title=title)


def style(front: str, back: str, bold: bool, reverse: bool) -> Style:
    """Return the style of a terminal's cell for rich."""

    def colour(name: str) -> str | None:
        if name == "default":
            return None
        if re.fullmatch(r"[0-9a-f]{6}", name):
            return f"#{name}"
        return f"bright_{name[6:]}" if name.startswith("bright") else {"brown": "yellow"}.get(name, name)

    return Style(color=colour(front), bgcolor=colour(back), bold=bold, reverse=reverse)


def at_prompt(text: str) -> bool:
    """Whether the shell waits for a line."""
    return text.rstrip().endswith(">")


def main() -> None:
    """Drive the shell and write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "stateview", "demo"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        os.chdir(Path(folder) / "stateview-demo")
        terminal = Terminal("shell", columns=COLUMNS, rows=ROWS, XDG_STATE_HOME=folder, PAGER="cat")
        terminal.until("import-orders@")
        terminal.type("diff after_planning\r")
        terminal.until(lambda text: "keys differ" in text and at_prompt(text))
        terminal.type("bisect job /limits/tokens > 1000000\r")
        terminal.until(lambda text: "reads" in text and at_prompt(text))
        terminal.type("load task:03 /")
        terminal.until(lambda text: text.count("/tries") == 2)
        (HERE / "shell.svg").write_text(picture(terminal, "stateview shell"))
        terminal.kill()


if __name__ == "__main__":
    main()
