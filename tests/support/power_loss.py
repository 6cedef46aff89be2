"""What a loss of power leaves of files: the system calls of a program are recorded, and their effects are lost in part.

A disk keeps what was synced. Of what a file got since, each write is there, gone, or there up to some sector. Of a
folder's names that were made, moved or removed since, a first part is kept, since file systems log them in order.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

SECTOR_BYTES = 512
_CALLS = (
    "openat,creat,write,pwrite64,writev,pwritev,lseek,ftruncate,truncate,fallocate,fsync,fdatasync,sync_file_range,"
    "rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,symlinkat,mkdir,mkdirat,rmdir,"
    "copy_file_range,sendfile,splice,utimensat"
)
_LINE = re.compile(r" *(\w+)\((.*)\) += (-?\d+)")
_DESCRIPTOR = re.compile(r"(\d+)<((?:\\x[0-9a-f]{2})*|[^>]*)>(\(deleted\))?")
_TIME = re.compile(r"tv_sec=(\d+), ?tv_nsec=(\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class Call(NamedTuple):
    """A system call that succeeded: the file, the paths or bytes it was given, its other arguments and its result."""

    name: str
    descriptor: int
    path: str
    texts: tuple[bytes, ...]
    rest: tuple[str, ...]
    result: int


def is_traceable() -> bool:
    """Return whether system calls can be recorded here: `strace` is there, and may trace."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


def recorded(command: Sequence[str], log: Path, **options: object) -> list[Call]:
    """Run a program, and return the calls that change files, and what it writes to its standard output."""
    tracer = ["strace", "-f", "-y", "-xx", "-s", "10000000", "-e", f"trace={_CALLS}", "-o", str(log), *command]
    subprocess.run(tracer, check=True, stdout=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    waiting: dict[str, str] = {}
    calls = []
    for line in log.read_text().splitlines():
        process, _, text = line.partition(" ")
        if text.endswith("<unfinished ...>"):
            waiting[process] = text.removesuffix("<unfinished ...>")
            continue
        if "<... " in text:
            text = waiting.pop(process) + text.partition("resumed>")[2]
        if (found := _LINE.match(text)) and int(found[3]) >= 0:
            calls.append(_parsed(found[1], found[2], int(found[3])))
    return calls


def _parsed(name: str, given: str, result: int) -> Call:
    descriptor = _DESCRIPTOR.match(given)
    number, path = -1, ""
    if descriptor and not descriptor[3]:
        number, path = int(descriptor[1]), _bytes(descriptor[2]).decode()
    texts = tuple(_bytes(text) for text in _TEXT.findall(given))
    rest = tuple(part.strip() for part in _TEXT.sub("", given).split(","))
    return Call(name, number, path, texts, rest, result)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") else text.encode()


class _File:
    """A file's content that is safe, and what changed it since: the place and the bytes, or the new size and None.

    A time that a program set counts as safe at once, since the program syncs the file next.
    """

    def __init__(self) -> None:
        self.safe = b""
        self.pending: list[tuple[int, bytes | None]] = []
        self.nanoseconds = 0  # of its last change, where a program set it

    def content(self, chosen: Sequence[tuple[int, bytes | None]] | None = None) -> bytes:
        data = bytearray(self.safe)
        for place, written in self.pending if chosen is None else chosen:
            if written is None:
                data[place:] = bytes(max(place - len(data), 0))
            else:
                data.extend(bytes(max(place - len(data), 0)))
                data[place : place + len(written)] = written
        return bytes(data)

    def sync(self) -> None:
        self.safe, self.pending = self.content(), []


_Names = dict[str, "_File | None"]  # of files, and None for folders


class Disk:
    """A folder of which a power loss leaves a part.

    Args:
        root: the folder, which is empty, and whose own name is safe.

    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.names: _Names = {}
        self._safe: _Names = {}
        self._renamings: dict[str, list[list[tuple[str, _File | None, bool]]]] = {}  # by folder: names that are set
        self._places: dict[int, int] = {}  # where the next write goes, by the open file's descriptor

    def apply(self, call: Call) -> bool:
        """Do what a call did; return whether it was about this folder."""
        name, _, path, texts, rest, result = call
        paths = [os.fsdecode(text) for text in texts]
        if name == "utimensat" and isinstance(file := self.names.get(path), _File):
            seconds, nanoseconds = _TIME.findall(",".join(rest))[-1]
            file.nanoseconds = int(seconds) * 1_000_000_000 + int(nanoseconds)
            return True
        if name in ("write", "writev", "pwrite64", "pwritev", "ftruncate", "lseek", "fsync", "fdatasync"):
            return self._inside(path) and self._changed(call, b"".join(texts))
        if not paths or not self._inside(paths[0]):
            return False
        if name == "openat":
            return self._opened(paths[0], rest[-1] if "O_" in rest[-1] else rest[-2], result)
        if name in ("rename", "renameat", "renameat2"):
            file = self.names.pop(paths[0])
            self._name([(paths[0], None, False), (paths[1], file, True)])
        elif name in ("unlink", "unlinkat", "rmdir"):
            self._name([(paths[0], None, False)])
        elif name in ("mkdir", "mkdirat"):
            self._name([(paths[0], None, True)])
        else:
            raise ValueError(f"the disk does not know the system call {name}: add what a loss of power does to it")
        return True

    def _inside(self, path: str) -> bool:
        return path == self.root or path.startswith(self.root + "/")

    def _opened(self, path: str, flags: str, descriptor: int) -> bool:
        is_new = "O_CREAT" in flags and path not in self.names
        if is_new:
            self._name([(path, _File(), True)])
        if isinstance(file := self.names.get(path), _File):
            if "O_TRUNC" in flags:
                file.pending.append((0, None))
            self._places[descriptor] = len(file.content()) if "O_APPEND" in flags else 0
        return is_new

    def _changed(self, call: Call, data: bytes) -> bool:
        name, descriptor, path, _, rest, result = call
        file = self.names.get(path)
        if name in ("fsync", "fdatasync"):
            if isinstance(file, _File):
                file.sync()
            else:
                self._sync_folder(path)
        elif not isinstance(file, _File):
            return False
        elif name == "lseek":
            self._places[descriptor] = result
            return False
        elif name == "ftruncate":
            file.pending.append((int(rest[1]), None))
        elif name in ("pwrite64", "pwritev"):
            file.pending.append((int(rest[-1]), data[:result]))
        else:
            place = self._places[descriptor]
            file.pending.append((place, data[:result]))
            self._places[descriptor] = place + result
        return True

    def _name(self, changes: list[tuple[str, _File | None, bool]]) -> None:
        for path, file, is_there in changes:
            if is_there:
                self.names[path] = file
            else:
                self.names.pop(path, None)
        for folder in {os.path.dirname(path) for path, _, _ in changes}:
            self._renamings.setdefault(folder, []).append(changes)

    def _sync_folder(self, folder: str) -> None:
        for changes in self._renamings.pop(folder, []):
            _set(self._safe, changes)
            for others in self._renamings.values():  # of a move between two folders both ends are safe at once
                if changes in others:
                    others.remove(changes)

    def leave(self, folder: Path, chance: random.Random, share: float) -> None:
        """Make in another folder, which is empty, what a power loss leaves now.

        Args:
            folder: the other folder.
            chance: chooses what is lost.
            share: how much of what is not safe survives: 0 nothing, 1 all.

        """
        names = dict(self._safe)
        for renamings in self._renamings.values():
            kept = len(renamings) if share == 1 else chance.randint(0, len(renamings)) if share else 0
            for changes in renamings[:kept]:
                _set(names, changes)
        contents: dict[int, bytes] = {}
        for path, file in sorted(names.items()):
            copy = folder / path.removeprefix(self.root + "/")
            if not copy.parent.is_dir():
                continue  # its folder's name is lost
            if file is None:
                copy.mkdir()
                continue
            if id(file) not in contents:
                contents[id(file)] = file.content(list(_survivors(file.pending, chance, share)))
            copy.write_bytes(contents[id(file)])
            if file.nanoseconds:
                os.utime(copy, ns=(file.nanoseconds, file.nanoseconds))


def _set(names: _Names, changes: list[tuple[str, _File | None, bool]]) -> None:
    for path, file, is_there in changes:
        if is_there:
            names[path] = file
        else:
            names.pop(path, None)


def _survivors(
    pending: list[tuple[int, bytes | None]], chance: random.Random, share: float
) -> Iterator[tuple[int, bytes | None]]:
    for place, data in pending:
        if chance.random() >= share:
            continue
        if data is not None and share < 1 and chance.random() < 0.5:  # up to the end of a sector
            end = (place + chance.randrange(len(data) + 1)) // SECTOR_BYTES * SECTOR_BYTES
            yield place, data[: max(end - place, 0)]
        else:
            yield place, data
