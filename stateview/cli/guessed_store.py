"""The store that a user names by a path alone: its content tells what it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .. import settings
from ..backends import find_kind, is_bare
from ..manager import StateManager

if TYPE_CHECKING:
    from ..backends.foreign.guess import Guess


def _guess(store: str) -> Guess | None:
    """Return what a path was found to be; None for a store URL, a kind, and a store of the `stateview.toml`."""
    scheme, colon, _ = store.partition(":")
    is_path = not (colon and find_kind(scheme)) and not is_bare(store) and os.path.exists(store)
    if not is_path or store in settings.find().stores():
        return None
    from ..backends.foreign.guess import guess

    return guess(store)


def _told(store: str, found: Guess) -> str:
    return f"{store} is {found.found}: {found.url}"


def url_of(store: str) -> tuple[str, str]:
    """Return the store URL that a path stands for, and what was guessed; the text itself and "" if it is no path."""
    found = _guess(store)
    return (store, "") if found is None else (found.url, _told(store, found))


def with_store(options: dict[str, Any], store: str | None, first: bool = True) -> tuple[dict[str, Any], str]:
    """Return the options of a command with the store of its argument, and what was guessed about it; "" for nothing.

    A path is no store URL, no kind, and no store of the `stateview.toml`. What was guessed chooses a namespace, too, if
    nothing else does: the one of the path, else that of another program's store that has only this one.

    Args:
        options: the global options of the command line.
        store: the argument; None: the store of the options.
        first: whether the store's first namespace is chosen, where it has none of the default name.

    """
    store = options.get("store") if store is None else store
    if store is None:
        return dict(options), ""
    options = {**options, "store": store}
    found = _guess(store)
    if found is None:
        return options, ""
    options["store"] = found.url
    told = _told(store, found)
    if options.get("namespace") or os.environ.get("STATEVIEW_NAMESPACE"):
        return options, told
    namespace = found.namespace
    if namespace is None and (first or found.is_foreign):
        with StateManager(found.url, read_only=True, quiet=True) as manager:
            names = manager.namespaces()
        is_chosen = names and manager.namespace not in names and (first or len(names) == 1)
        namespace = names[0] if is_chosen else None
    if namespace is not None:
        options["namespace"] = namespace
        told += f", namespace {namespace}"
    return options, told
