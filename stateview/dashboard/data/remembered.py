"""What the dashboard remembers from session to session, in a private file. It holds nothing of the store."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress

import msgspec

from ...settings import user_state_path


class Remembered(msgspec.Struct):
    """The choices of a user.

    Attributes:
        shares: of the first of two panes whose border was moved, by the name of the border.
        tree: whether keys are listed as a tree.

    """

    shares: dict[str, float] = {}
    tree: bool = False


def remembered_path() -> str:
    """Return the path of the file: `$XDG_STATE_HOME/stateview/dashboard.json`."""
    return user_state_path("dashboard.json")


class Memory:
    """Reads the choices once, and writes each new one.

    Args:
        path: of the file; "" keeps them in memory.

    """

    def __init__(self, path: str = "") -> None:
        self._path = path
        self.choices = Remembered()
        # A file of a later version, or a damaged one, must not keep the dashboard from starting: it begins anew.
        with suppress(OSError, msgspec.MsgspecError):
            if path:
                with open(path, "rb") as file:
                    self.choices = msgspec.json.decode(file.read(), type=Remembered)

    def save(self) -> None:
        """Write the choices to the file, which only its owner can read.

        Raises:
            OSError: the file cannot be written.

        """
        if not self._path:
            return
        folder = os.path.dirname(self._path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix="dashboard-")  # of mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(self.choices, enc_hook=int))
            os.replace(temporary, self._path)
        except OSError:
            os.unlink(temporary)
            raise
