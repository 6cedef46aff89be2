"""The `[keys]` table of stateview.toml: key bindings by action id, checked before the first screen opens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ...errors import InvalidName

if TYPE_CHECKING:
    from textual.binding import Binding

    from ...settings import Settings
    from ..app import Dashboard

_MODIFIERS = ("ctrl", "shift", "alt", "super", "hyper", "meta")
_LISTS = "list."  # actions of every list: a list usually has the focus, so its keys win over those of the screen


class RemappableAction(NamedTuple):
    """An action that keys can be bound to: its id, default keys, description, and the class that binds it."""

    id: str
    keys: str
    description: str
    owner: type


def actions() -> list[RemappableAction]:
    """List all actions with an id, by class. The first call imports every screen, widget and dialog: about 50 ms."""
    by_id: dict[tuple[str, type], RemappableAction] = {}
    for owner in _classes():
        for binding in _bindings(owner):
            if binding.id:
                by_id.setdefault(
                    (binding.id, owner), RemappableAction(binding.id, binding.key, binding.description, owner)
                )
    return list(by_id.values())


def _classes() -> Iterator[type]:
    from importlib import import_module
    from pkgutil import walk_packages

    packages = [import_module(f"stateview.dashboard.{name}") for name in ("screens", "widgets", "dialogs")]
    modules = [info.name for package in packages for info in walk_packages(package.__path__, f"{package.__name__}.")]
    for name in ("stateview.dashboard.app", *modules):
        module = import_module(name)
        for member in vars(module).values():
            if isinstance(member, type) and member.__module__ == name and "BINDINGS" in vars(member):
                yield member


def _bindings(owner: type) -> list[Binding]:
    from textual.binding import Binding

    return [binding for binding in vars(owner)["BINDINGS"] if isinstance(binding, Binding)]


def keymap_of(config: Settings) -> dict[str, str]:
    """Return the `[keys]` of a stateview.toml as a Textual keymap: action id to keys. An empty table costs nothing.

    Raises:
        InvalidName: an unknown action id or an unknown key; the message names similar ids.

    """
    keys = config.keys()
    return check(keys, config.path) if keys else {}


def check(keys: Mapping[str, Sequence[str]], path: str) -> dict[str, str]:
    """Convert the `[keys]` of the file at `path`. Raises as `keymap_of`."""
    from difflib import get_close_matches

    ids = {action.id for action in actions()}
    keymap = {}
    for name, texts in keys.items():
        if name not in ids:
            near = get_close_matches(name, ids, 3, 0.5) or sorted(id_ for id_ in ids if name in id_)[:3]
            hint = f"Did you mean {' or '.join(near)}? " if near else ""
            raise InvalidName(
                f"{path}: [keys] {name[:60]!r} is no action", f"{hint}'?' in the dashboard lists all actions at its end"
            )
        # a comma separates keys, but a text that is a single comma is the comma key
        parts = [part.strip() for text in texts for part in ([text] if text == "," else text.split(","))]
        keymap[name] = ",".join(" ".join(_key(key, name, path) for key in part.split() or [part]) for part in parts)
    return keymap


def _key(text: str, name: str, path: str) -> str:
    """Convert a key to Textual's name for it."""
    from textual.keys import Keys, _character_to_key, key_to_character

    *modifiers, key = text.split("+") if len(text) > 1 else [text]
    wrong = [modifier for modifier in modifiers if modifier not in _MODIFIERS]
    if len(key) == 1 and key.isprintable() and not wrong:
        if modifiers and key.isupper():
            hint = "+".join([*modifiers, key.lower()])
            raise InvalidName(f"{path}: [keys] {name}: no terminal sends {text!r}", f"Write {hint!r}")
        return "+".join([*modifiers, _character_to_key(key)])
    named = {member.value for member in Keys} | {f"f{number}" for number in range(1, 25)}
    if key and not wrong and (key in named or text in named or key_to_character(key) is not None):
        return text
    raise InvalidName(
        f"{path}: [keys] {name}: {text[:40]!r} is no key",
        "Write a letter, or a key such as ctrl+e, f5, space, pagedown",
    )


class KeyConflict(NamedTuple):
    """A key that is bound to two actions of one class, or to an action and a list. It may begin a chord of one."""

    key: str
    id: str
    other: str

    def __str__(self) -> str:
        return f"the key {self.key} is both {self.id} and {self.other}: only one of them gets it"


def clashes(keymap: Mapping[str, str]) -> list[KeyConflict]:
    """List the keys of a keymap that another action of the same class has, or a list that may have the focus.

    Textual's own check runs at each key press, and reports an action with two keys as a conflict with itself.
    """
    from textual.keys import _normalize_key_list

    if not keymap:
        return []
    all_actions = actions()
    keys = {action: set(keymap.get(action.id, _normalize_key_list(action.keys)).split(",")) for action in all_actions}
    conflicts: dict[tuple[str, ...], KeyConflict] = {}
    for action in all_actions:
        for other in all_actions:
            related = issubclass(action.owner, other.owner) or issubclass(other.owner, action.owner)
            lists = _LISTS in (action.id[: len(_LISTS)], other.id[: len(_LISTS)])
            if action.id not in keymap or action.id == other.id or not (related or lists):
                continue
            begun = {key.partition(" ")[0] for key in keys[action] if " " in key}  # those that begin a chord
            for key in (keys[action] | begun) & keys[other]:
                conflicts.setdefault((key, *sorted((action.id, other.id))), KeyConflict(key, action.id, other.id))
    return list(conflicts.values())


def apply(app: Dashboard, keymap: Mapping[str, str]) -> None:
    """Bind the keys in a running app, and show a notice for each conflict."""
    if not keymap:
        return
    app.set_keymap(keymap)
    app.chords.use(keymap)
    for conflict in clashes(keymap):
        app.notify_user(f"stateview.toml: {conflict}", wrong=True)
