"""Standard input. A module of its own: `save KEY -` needs nothing else of this package."""

from __future__ import annotations

import os
import sys
from typing import BinaryIO

from ..errors import InvalidName


def standard_input(hint: str) -> BinaryIO:
    """Return standard input, for bytes.

    Raises:
        InvalidName: it is closed. The command line opens devnull in its place, which would read as empty.

    """
    if sys.stdin is None or sys.stdin.closed or getattr(sys.stdin, "name", "") == os.devnull:
        raise InvalidName("standard input is closed", hint)
    return sys.stdin.buffer
