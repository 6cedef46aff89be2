"""What can be done on the screen one is on: every key that works there, and the command line that each act equals."""

from __future__ import annotations

from textwrap import wrap
from typing import ClassVar

from textual.app import App
from textual.binding import ActiveBinding, Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen

from ...cli.definition import BY_NAME
from ..input import keymap
from ..widgets.text_list import TextList
from .text_base import TextScreen

GROUPS = ("Move", "Look", "Act", "App")
_ACTS = frozenset(
    "save delete checkpoint restore undo redo fork edit editor add rename expire apply mark migrate recover prune"  # noqa: SIM905
    " compact export import revert take stop".split()
)
_MOVES = frozenset(
    "down up half page first last open left right pane next previous parent child sibling enter back focus".split()  # noqa: SIM905
)
_EQUALS = {"add": "save", "editor": "edit"}  # the act's name: the command's, where they differ
_OURS = ("text", "output", "done", "list", "menu", "ask", "confirm", "command", "help")  # no command equals these
_SCROLLING = ("scroll_", "page_")  # Textual's own, under the keys of every list
_KEY_COLUMNS = 16  # columns for the keys


class HelpRow:
    """An act in the list: its keys, and what is said of it."""

    def __init__(self, active: ActiveBinding) -> None:
        binding = active.binding
        self.keys = [shown(binding)]
        self.description = binding.description or binding.action.partition("(")[0].replace("_", " ")
        self.id = binding.id or ""
        self.enabled = active.enabled
        self.group = _group(binding, active.node)
        self.command = _command(binding)


def shown(binding: Binding) -> str:
    """Return a key as a person writes it, such as `ctrl+d`, `?`, `↓`."""
    from textual.keys import format_key

    modifiers, key = binding.parse_key()
    return "+".join([*modifiers, format_key(key)])


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
    if not name or name in _OURS or word == "help" or word not in BY_NAME or BY_NAME[word].shell:
        return ""
    return f"stateview {BY_NAME[word].usage}"


class HelpScreen(TextScreen):
    """The help of the screen under it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,q", "back", "Back", show=False, id="help.back"),
    ]
    HELP = "The keys of the screen you came from. / searches, esc goes back."

    def _under(self) -> Screen[object]:
        stack = self.app.screen_stack
        place = stack.index(self) if self in stack else len(stack)
        return stack[max(0, place - 1)]

    def heading(self) -> str:
        """Return the title."""
        return "Help: the keys that work here"

    def body(self) -> TextList:
        """All of it."""
        return TextList(self._lines(self._under()), _role)

    def state(self) -> str:
        """How keys are changed."""
        return 'other keys: [keys] "NAME" = "KEY" in stateview.toml'

    def _lines(self, screen: Screen[object]) -> list[str]:
        said = screen.HELP or (type(screen).__doc__ or "").strip().split("\n")[0]  # a screen of Textual has no help
        width = self.app.size.width
        lines = [f" {one}" for one in wrap(" ".join(said.split()), max(20, width - 4))]
        room = max(16, min(24, width - _KEY_COLUMNS - 24))
        acts = list(_acts(screen).values())
        for group in GROUPS:
            inside = [one for one in acts if one.group == group]
            if inside:
                lines += ["", group]
            for one in inside:
                lines += _rows(one, room)
        lines += ["", "Names for [keys], on every screen"]
        for name, keys, description in sorted({(one.id, one.keys, one.description) for one in keymap.known()}):
            keys_ = self.app._keymap.get(name, keys)
            lines.append(f"  {name:<24} {keys_.replace(',', ', '):<16} {description}")
        return lines


def _acts(screen: Screen[object]) -> dict[tuple[object, ...], HelpRow]:
    acts: dict[tuple[object, ...], HelpRow] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if binding.system or (not binding.id and binding.action.startswith(_SCROLLING)):
            continue
        key = binding.id or binding.action, id(active.node)
        if key in acts:
            acts[key].keys.append(shown(binding))
        else:
            acts[key] = HelpRow(active)
    return acts


def _rows(one: HelpRow, room: int) -> list[str]:
    keys = ", ".join(dict.fromkeys(one.keys))
    off = "" if one.enabled else " (not now)"
    rows = [f"  {keys:<{_KEY_COLUMNS}} {one.description + off:<{room}} {one.id}".rstrip()]
    if one.command:
        rows.append(f"  {'':<{_KEY_COLUMNS}} {one.command}")
    return rows


def _role(text: str) -> str:
    if text and text[0] != " ":
        return "mark"
    return "dim" if text.lstrip().startswith("stateview ") else ""
