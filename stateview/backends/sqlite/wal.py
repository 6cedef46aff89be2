"""The WAL as a file: whether commits lie in it behind a frame that has rotted, where SQLite takes it to end.

SQLite reads a WAL up to the first frame whose checksum is wrong, which after a loss of power is right: what comes then
was never acknowledged. But the frames of a commit are written when the one before is durable, so that at most one
commit can be torn: where more lie behind that frame, it may well be one that was whole. (Or several processes were
killed between writing a commit and acknowledging it.) Only the WAL itself is read: to close another descriptor of the
database, or of its index, would drop this process's locks.
"""

from __future__ import annotations

import os
import time
from struct import unpack
from typing import BinaryIO, NamedTuple

import apsw

_HEADER, _FRAME = 32, 24
_DEFAULT_PAGE_BYTES = 4096  # where the header does not tell
_COMMIT_SECONDS = 1.0  # seconds, which few disks need for a commit
_PAUSE_SECONDS = 0.02


class UnreadFrames(NamedTuple):
    """What lies in the WAL behind its end: how many commits that look whole, and from which byte on.

    Not `is_log` is what never was a WAL, or has rotted beyond telling.
    """

    commits: int
    place: int
    is_log: bool = True


def frames_after_end(connection: apsw.Connection, path: str) -> UnreadFrames:
    """Look behind what SQLite takes for the end of the WAL. O(1) where nothing is there, else O(frames there) a look.

    What is there may be a commit on its way, which its writer is making durable: then it counts a moment later, or is
    written over, and the end moves on. What is found is what stays in its place for a second.

    Raises:
        apsw.ReadOnlyError: this user may not write, as is needed to be told the end of a WAL that is not empty.

    """
    if not os.path.exists(f"{path}-wal") or not os.path.getsize(f"{path}-wal"):
        return UnreadFrames(0, 0)
    end, deadline = _end(connection), time.monotonic() + _COMMIT_SECONDS
    while True:
        try:
            with open(f"{path}-wal", "rb") as file:
                found = _look(file, end)
        except FileNotFoundError:
            return UnreadFrames(0, 0)
        is_late = time.monotonic() > deadline
        if end != _end(connection):
            return UnreadFrames(0, 0)
        if is_late or (not found.commits and found.is_log):
            return found
        time.sleep(_PAUSE_SECONDS)


def _end(connection: apsw.Connection) -> int:
    """How many frames SQLite knows of."""
    return connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]


def _look(file: BinaryIO, end: int) -> UnreadFrames:
    header = file.read(_HEADER)
    if len(header) < _HEADER:
        return UnreadFrames(0, 0)
    magic, _, size, _, *salts = unpack(">6I", header[:24])
    sound = _sum(header[:24], magic) == unpack(">2I", header[24:])
    if not sound:
        size = _DEFAULT_PAGE_BYTES
        if not _is_log(file, header):
            return UnreadFrames(0, 0, is_log=not any(header))  # zeros are what a loss of power leaves of a new one
    step = _FRAME + size
    room = (file.seek(0, 2) - _HEADER) // step
    commits, number = 0, end
    while number < room:
        file.seek(_HEADER + number * step)
        _, pages, *own = unpack(">4I", file.read(16))
        if not sound and number == end:
            salts = own  # the header is durable before the first frame is written, so that all of these counted
            commits += 1
        if own != salts:  # left over from before the WAL was begun anew, unless it is this one's salts that rotted
            following = file.read(size + 8 + 16)[-8:] if number == end else b""
            if following != header[16:24]:
                break
        commits += pages > 0
        number += 1
    return UnreadFrames(commits, _HEADER + end * step)


def _is_log(file: BinaryIO, header: bytes) -> bool:
    """Whether what has no sound header was a WAL: its first frame is what was written, or the second is.

    The checksum of a frame goes on from that of the one before, which may be what has rotted, and so may the order.
    """
    before = header[24:]
    for _ in range(2):
        frame = file.read(_FRAME + _DEFAULT_PAGE_BYTES)
        if len(frame) < _FRAME + _DEFAULT_PAGE_BYTES:
            return False
        start, expected = (unpack(">2I", part) for part in (before, frame[16:24]))
        data = frame[:8] + frame[_FRAME:]
        if any(_sum(data, order, start) == expected for order in (0, 1)):
            return True
        before = frame[16:24]
    return False


def _sum(data: bytes, magic: int, start: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """SQLite's checksum of a WAL, going on from another."""
    words = unpack(f"{'>' if magic & 1 else '<'}{len(data) // 4}I", data)
    one, other = start
    for place in range(0, len(words), 2):
        one = (one + words[place] + other) & 0xFFFFFFFF
        other = (other + words[place + 1] + one) & 0xFFFFFFFF
    return one, other
