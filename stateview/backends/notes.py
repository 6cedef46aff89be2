"""Notes on standard error for the person at the terminal."""

from __future__ import annotations

import sys

_said: set[str] = set()  # what `say_once` has printed in this process


def say(text: str) -> None:
    """Print a note, with control characters escaped."""
    if sys.stderr is not None:
        shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
        print(f"stateview: {shown}", file=sys.stderr, flush=True)


def say_once(text: str, about: str = "") -> None:
    """Print a note, unless this process has printed it before, or another note about the same thing."""
    if (about or text) not in _said:
        _said.add(about or text)
        say(text)
