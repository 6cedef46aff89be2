"""Other keys for the acts of the dashboard: `[keys]` in stateview.toml, checked before anything is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ...errors import InvalidName

if TYPE_CHECKING:
    from textual.binding import Binding

    from ...settings import Settings
    from ..app import Dashboard

_MODIFIERS = ("ctrl", "shift", "alt", "super", "hyper", "meta")
_LISTS = "list."  # what every list binds; a list nearly always has the focus, so its keys win over the screen's


class RemappableAction(NamedTuple):
    """An act that a key can be given to: its name, its keys by default, what it does, and the class that binds it."""

    id: str
    keys: str
    description: str
    owner: type


def known() -> list[RemappableAction]:
    """All acts with a name, by screen. Imports every screen, widget and dialog: some 50 ms, the first time."""
    found: dict[tuple[str, type], RemappableAction] = {}
    for owner in _classes():
        for binding in _bindings(owner):
            if binding.id:
                found.setdefault(
                    (binding.id, owner), RemappableAction(binding.id, binding.key, binding.description, owner)
                )
    return list(found.values())


def _classes() -> Iterator[type]:
    from importlib import import_module
    from pkgutil import iter_modules

    parts = [import_module(f"stateview.dashboard.{name}") for name in ("screens", "widgets", "dialogs")]
    modules = [f"{part.__name__}.{one.name}" for part in parts for one in iter_modules(part.__path__)]
    for name in ("stateview.dashboard.app", *modules):
        module = import_module(name)
        for one in vars(module).values():
            if isinstance(one, type) and one.__module__ == name and "BINDINGS" in vars(one):
                yield one


def _bindings(owner: type) -> list[Binding]:
    from textual.binding import Binding

    return [one for one in vars(owner)["BINDINGS"] if isinstance(one, Binding)]


def keymap_of(found: Settings) -> dict[str, str]:
    """Return the `[keys]` of a stateview.toml as Textual takes them: act to keys. Costs nothing where there are none.

    Raises:
        InvalidName: an act that is not known, or something that is no key; the message names what is near.

    """
    keys = found.keys()
    return check(keys, found.path) if keys else {}


def check(keys: Mapping[str, Sequence[str]], where: str) -> dict[str, str]:
    """See `keymap_of`; `where` is the file."""
    from difflib import get_close_matches

    names = {one.id for one in known()}
    out = {}
    for name, listed in keys.items():
        if name not in names:
            near = get_close_matches(name, names, 3, 0.5) or sorted(one for one in names if name in one)[:3]
            hint = f"Did you mean {' or '.join(near)}? " if near else ""
            raise InvalidName(
                f"{where}: [keys] {name[:60]!r} is no act", f"{hint}'?' in the dashboard ends with a list of all"
            )
        # a lone comma is the key, elsewhere it parts keys
        parts = [part.strip() for one in listed for part in ([one] if one == "," else one.split(","))]
        out[name] = ",".join(_key(part, name, where) for part in parts)
    return out


def _key(text: str, name: str, where: str) -> str:
    """Return a key as Textual names it."""
    from textual.keys import Keys, _character_to_key, key_to_character

    *modifiers, key = text.split("+") if len(text) > 1 else [text]
    wrong = [one for one in modifiers if one not in _MODIFIERS]
    if len(key) == 1 and key.isprintable() and not wrong:
        if modifiers and key.isupper():
            hint = "+".join([*modifiers, key.lower()])
            raise InvalidName(f"{where}: [keys] {name}: no terminal sends {text!r}", f"Write {hint!r}")
        return "+".join([*modifiers, _character_to_key(key)])
    named = {one.value for one in Keys} | {f"f{number}" for number in range(1, 25)}
    if key and not wrong and (key in named or text in named or key_to_character(key) is not None):
        return text
    raise InvalidName(
        f"{where}: [keys] {name}: {text[:40]!r} is no key", "Write a letter, or such as ctrl+e, f5, space, pagedown"
    )


class KeyConflict(NamedTuple):
    """A key that was given to an act while another act of the same place has it."""

    key: str
    id: str
    other: str

    def __str__(self) -> str:
        return f"the key {self.key} is both {self.id} and {self.other}: only one of them hears it"


def clashes(keymap: Mapping[str, str]) -> list[KeyConflict]:
    """Return the keys of a keymap that another act of the same class has, or a list that has the focus.

    Textual finds these too, each time a key is pressed, and takes an act with two keys for a clash with itself.
    """
    from textual.keys import _normalize_key_list

    if not keymap:
        return []
    acts = known()
    keys = {one: set(keymap.get(one.id, _normalize_key_list(one.keys)).split(",")) for one in acts}
    found: dict[tuple[str, ...], KeyConflict] = {}
    for one in acts:
        for other in acts:
            near = issubclass(one.owner, other.owner) or issubclass(other.owner, one.owner)
            lists = _LISTS in (one.id[: len(_LISTS)], other.id[: len(_LISTS)])
            if one.id not in keymap or one.id == other.id or not (near or lists):
                continue
            for key in keys[one] & keys[other]:
                found.setdefault((key, *sorted((one.id, other.id))), KeyConflict(key, one.id, other.id))
    return list(found.values())


def apply(app: Dashboard, keymap: Mapping[str, str]) -> None:
    """Give the keys to the acts, once the app runs, and tell of those that clash."""
    if not keymap:
        return
    app.set_keymap(keymap)
    for clash in clashes(keymap):
        app.notify_user(f"stateview.toml: {clash}", wrong=True)
