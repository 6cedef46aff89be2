"""Say where the checkpoints of a LangGraph thread lie: namespace, keys and names of checkpoints."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

from stateview import StateManager

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_MAX_NAME = 128
_MAX_ID = 64
_ENCODED = "thread."  # of a thread whose ID is no name of a namespace
_HASHED = "thread-sha256."
_PART = re.compile(r"(sub/[^/]+/)?(checkpoint|ch/.+|w/[^/]+/[^/]+)", re.DOTALL)
THREAD = "thread"  # the key with a thread's ID, in a namespace whose name does not tell it


def namespace_of(thread: str) -> str:
    """Return the name of the namespace of a thread. Two threads never share a name.

    An ID that is a name stays as it is. Of any other, `@` for instance becomes `.40`. A long one becomes a digest.
    """
    if _is_name(thread) and not thread.startswith((_ENCODED, _HASHED)):
        return thread
    name = _ENCODED + _spell(thread)
    return name if len(name) <= _MAX_NAME else _HASHED + _digest(thread)


def thread_of(namespace: str) -> str | None:
    """Return the thread whose namespace has this name; None if the name does not tell it."""
    if namespace.startswith(_HASHED):
        return None
    if not namespace.startswith(_ENCODED):
        return namespace
    return _read(namespace.removeprefix(_ENCODED))


def quote(text: str) -> str:
    """Return a text as a part of a key, between slashes."""
    return text.replace("%", "%25").replace("/", "%2F")


def unquote(text: str) -> str:
    """Return the text that `quote` was given."""
    return text.replace("%2F", "/").replace("%25", "%")


class Place(NamedTuple):
    """Where one graph or subgraph of a thread is kept.

    Attributes:
        state: the manager of the namespace.
        thread: the ID of the thread.
        graph: LangGraph's `checkpoint_ns`: "" for the graph itself, or the path of a subgraph.
        root: the start of all keys of the thread.
        shared: whether the namespace holds other threads too.

    """

    state: StateManager
    thread: str
    graph: str
    root: str = ""
    shared: bool = False

    @property
    def prefix(self) -> str:
        """Return the start of the keys of this graph."""
        return f"{self.root}sub/{quote(self.graph)}/" if self.graph else self.root

    @property
    def record(self) -> str:
        """Return the key of the checkpoint itself, without the values of its channels."""
        return f"{self.prefix}checkpoint"

    @property
    def channels(self) -> str:
        """Return the start of the keys of channels."""
        return f"{self.prefix}ch/"

    def holds(self, key: str) -> bool:
        """Return whether a key is of this thread, by its name."""
        has_id = not self.shared and thread_of(self.state.namespace) is None
        return _PART.fullmatch(key.removeprefix(self.root)) is not None or (has_id and key == THREAD)

    def is_shown_by(self, key: str) -> bool:
        """Return whether a key shows by its name that this thread exists, though its graph has no checkpoint yet."""
        part = _PART.fullmatch(key.removeprefix(self.root))
        return part is not None and (part[1] is not None or part[2].startswith("w/"))

    def writes(self, checkpoint: str) -> str:
        """Return the start of the keys of the writes that belong to a checkpoint."""
        return f"{self.prefix}w/{quote(checkpoint)}/"

    def name(self, checkpoint: str) -> str:
        """Return the name of a checkpoint: `c-ID`, and after a point what tells the graph, and the thread."""
        plain = checkpoint and len(checkpoint) <= _MAX_ID and _PLAIN.issuperset(checkpoint)
        stem = f"c-{checkpoint}" if plain else f"x-{_digest(checkpoint)}"
        scope = self._scope
        if not scope:
            return stem
        name = f"{stem}.{_spell(scope)}"
        return name if len(name) <= _MAX_NAME else f"{stem}..{_digest(scope)}"

    @property
    def _scope(self) -> str:
        return f"{quote(self.thread)}/{self.graph}" if self.shared else self.graph

    def graph_of(self, name: str, known: dict[str, str]) -> str | None:
        """Return the graph of a checkpoint of this thread by its name; None if it is no such checkpoint.

        Args:
            name: the name of a checkpoint.
            known: graphs by the digest of their scope, for names that are too long to tell the graph.

        """
        if not name.startswith(("c-", "x-")):
            return None
        _, point, spelled = name.partition(".")
        if spelled.startswith("."):
            return known.get(spelled[1:])
        if self.shared and not spelled.startswith(_spelled_start(self.thread)):
            return None
        scope = _read(spelled) if point else ""
        return scope if scope is None or not self.shared else scope.partition("/")[2]

    @property
    def digest(self) -> str:
        """Return what stands in the name of a checkpoint for a long scope."""
        return _digest(self._scope)


def _is_name(text: str) -> bool:
    return 1 <= len(text) <= _MAX_NAME and text[0] != "." and all(sign in _PLAIN or sign == "." for sign in text)


def _spell(text: str) -> str:
    """Return a text in letters, digits, `_`, `-`, and `.` with two digits for each other byte."""
    data = text.encode("utf-8", "surrogatepass")
    return "".join(chr(byte) if chr(byte) in _PLAIN else f".{byte:02x}" for byte in data)


@lru_cache(256)
def _spelled_start(thread: str) -> str:
    """Return what the names of checkpoints of a thread have after their first point, in a namespace of many threads."""
    return _spell(f"{quote(thread)}/")


def _read(spelled: str) -> str | None:
    """Return the text that `_spell` was given; None for what it never returns."""
    first, *rest = spelled.split(".")
    try:
        data = first.encode() + b"".join(bytes.fromhex(part[:2]) + part[2:].encode() for part in rest)
        text = data.decode("utf-8", "surrogatepass")
    except ValueError:
        return None
    return text if _spell(text) == spelled else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]
