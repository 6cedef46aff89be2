"""Acts of a user to whom a store does not belong."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from stateview.cli.program import main

NOBODY = 65534


def open_way(folder: Path) -> None:
    """Let other users pass to a folder."""
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)


def as_another_user(folder: Path, act: Callable[[], str]) -> str:
    """What an act returns that another user does, who can pass to a folder, or the error that it ends with.

    Who may become no one else does it with no more rights to what is in the folder than others have. What the act
    imports has to be imported before: another user may not even do that.
    """
    open_way(folder)  # each time: another run of tests closes the folder above all
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            _become_another(modes)
            os.write(writing, act().encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    for path, mode in modes.items():
        if path.exists():
            path.chmod(stat.S_IMODE(mode))
    return told


def _become_another(modes: dict[Path, int]) -> None:
    try:
        os.setgroups([])
    except PermissionError:
        for path, mode in reversed(modes.items()):  # what is inside first, to which the way is still open
            path.chmod((mode & 0o007) * 0o111)
        return
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def told(words: list[str]) -> str:
    """The exit code of a command line on the first line, then all that it says."""
    with io.StringIO() as text, contextlib.redirect_stderr(text), _redirect_bytes() as data:
        code = main(words)
        return f"{code}\n{data.getvalue().decode()}\n{text.getvalue()}"


@contextlib.contextmanager
def _redirect_bytes() -> Iterator[io.BytesIO]:
    """Standard output as bytes."""
    data = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(data, write_through=True)) as text:
        yield data
        text.detach()
