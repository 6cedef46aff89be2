"""The help screen: every key that works on the screen below, and the command that each action runs."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import App
from textual.binding import ActiveBinding, Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen

from ...cli.definition import BY_NAME
from ..base_screen import DashboardScreen
from ..input import keymap
from ..input.listed import is_listed
from ..widgets.text_list import TextList
from .text_base import TextScreen

if TYPE_CHECKING:
    from ..app import Dashboard

GROUPS = ("Move", "Look", "Act", "App")
_ACTS = frozenset(
    "save delete checkpoint restore undo redo fork edit editor add rename expire apply mark migrate recover prune"  # noqa: SIM905
    " compact export import revert take stop retry reset".split()
)
_MOVES = frozenset(
    "down up half page first last open left right pane next previous parent child sibling enter back focus".split()  # noqa: SIM905
)
_EQUALS = {"add": "save", "editor": "edit"}  # name of the action: name of its command, where they differ
_OURS = ("text", "output", "done", "list", "menu", "ask", "confirm", "command", "help")  # actions without a command
_SCROLLING = ("scroll_", "page_")  # Textual's own actions, which every list has on the same keys
_KEY_COLUMNS = 16
_AIM_COLUMNS = 34


class HelpRow:
    """An action in the list, with all its keys."""

    def __init__(self, active: ActiveBinding) -> None:
        binding = active.binding
        self.keys = [shown(binding)]
        self.description = binding.description or binding.action.partition("(")[0].replace("_", " ")
        self.id = binding.id or ""
        self.enabled = active.enabled
        self.group = _group(binding, active.node)
        self.command = _command(binding)


def shown(binding: Binding) -> str:
    """Format a key as users write it, such as `ctrl+d`, `?`, `↓`, or a chord such as `g f`."""
    return shown_keys(binding.key)


def shown_keys(keys: str) -> str:
    """Format a key, or the keys of a chord, as `shown` does."""
    from textual.keys import format_key

    parts = [key.split("+") for key in keys.split(" ")]
    return " ".join("+".join([*modifiers, format_key(key)]) for *modifiers, key in parts)


def _word(binding: Binding) -> str:
    name = binding.id.rpartition(".")[2] if binding.id else binding.action.partition("(")[0].rpartition(".")[2]
    return name.replace("_", "-").partition("-")[0]


def _group(binding: Binding, node: DOMNode) -> str:
    word = _word(binding)
    if (binding.id or "").startswith("list.") or word in _MOVES or word.isdigit():
        return "Move"
    if word in _ACTS:
        return "Act"
    return "App" if isinstance(node, App) else "Look"


def _command(binding: Binding) -> str:
    name = (binding.id or "").partition(".")[0]
    word = _EQUALS.get(_word(binding), _word(binding))
    if name == "steps" and (act := next((one for one in BY_NAME["run"].acts if one.name == word), None)) is not None:
        return f"stateview run {act.usage}"
    if not name or name in _OURS or word == "help" or word not in BY_NAME or BY_NAME[word].shell:
        return ""
    return f"stateview {BY_NAME[word].synopsis}"


class HelpScreen(TextScreen):
    """Lists the keys of the screen below it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "back", "Back", show=False, id="help.back"),
    ]
    HELP = "The keys of the screen below. / searches, esc goes back."

    def _under(self) -> Screen[object]:
        stack = self.app.screen_stack
        index = stack.index(self) if self in stack else len(stack)
        return stack[max(0, index - 1)]

    def heading(self) -> str:
        return "Help: the keys that work here"

    def body(self) -> TextList:
        return TextList(self._help_lines(self._under()), _role)

    def state(self) -> str:
        return 'to change a key: [keys] "NAME" = "KEY" in stateview.toml'

    def _help_lines(self, screen: Screen[object]) -> list[str]:
        text = screen.HELP or (type(screen).__doc__ or "").strip().split("\n")[0]  # a screen of Textual has no help
        width = self.app.size.width
        lines = [f" {line}" for line in wrap(" ".join(text.split()), max(20, width - 4))]
        description_columns = max(16, min(24, width - _KEY_COLUMNS - 24))
        all_ways = screen.WAYS if isinstance(screen, DashboardScreen) else ()
        ways = [(aim, keys) for aim, keys, *action in all_ways if is_listed(self.dashboard, "".join(action))]
        if ways:
            lines += ["", "How to"]
            lines += [line for way in ways for line in _way_lines(*way, width)]
        rows = help_rows(screen)
        for group in GROUPS:
            in_group = [row for row in rows if row.group == group]
            if in_group:
                lines += ["", group]
            for row in in_group:
                lines += _row_lines(row, description_columns)
        lines += ["", "Names for [keys], on every screen"]
        names = {(action.id, action.keys, action.description) for action in keymap.actions()}
        for id_, default, description in sorted(names):
            keys = self.app._keymap.get(id_, default)
            lines.append(f"  {id_:<24} {keys.replace(',', ', '):<16} {description}")
        return lines


def _way_lines(aim: str, keys: str, width: int) -> list[str]:
    """Return the lines of a way: what a user wants to do, and beside it or below it the keys."""
    beside = width >= 2 * _AIM_COLUMNS and len(aim) < _AIM_COLUMNS
    columns = _AIM_COLUMNS if width >= 2 * _AIM_COLUMNS else 2
    first, *more = wrap(keys, max(20, width - columns - 4))
    lines = [f"{'':{columns + 2}}{line}" for line in (first, *more)]
    if beside:
        lines[0] = f"  {aim:<{columns}}{first}"
        return lines
    return [f"  {aim}", *lines]


def help_rows(screen: Screen[object]) -> list[HelpRow]:
    """List the actions that can act on a screen, each with all its keys."""
    app = cast("Dashboard", screen.app)
    rows: dict[tuple[object, ...], HelpRow] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        scrolls = not binding.id and binding.action.startswith(_SCROLLING)
        if binding.system or scrolls or not is_listed(app, binding.id or ""):
            continue
        action = binding.id or binding.action, id(active.node)
        if action in rows:
            rows[action].keys.append(shown(binding))
        else:
            rows[action] = HelpRow(active)
    return list(rows.values())


def _row_lines(row: HelpRow, description_columns: int) -> list[str]:
    keys = ", ".join(dict.fromkeys(row.keys))
    off = "" if row.enabled else " (not now)"
    lines = [f"  {keys:<{_KEY_COLUMNS}} {row.description + off:<{description_columns}} {row.id}".rstrip()]
    if row.command:
        lines.append(f"  {'':<{_KEY_COLUMNS}} {row.command}")
    return lines


def _role(text: str) -> str:
    if text and text[0] != " ":
        return "mark"
    return "dim" if text.lstrip().startswith("stateview ") else ""
