"""What a client knows of a namespace: the newest answer of the server, which each later command takes along."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from ....arguments import time_of

MAX_ANSWERS = 1000  # that a client remembers, to tell the first that the server has lost


class Answer(NamedTuple):
    """The lineage, the revision and the time of the last commit, and the three as scripts take and give them."""

    text: bytes
    lineage: bytes
    revision: int
    time: int


class Answers:
    """The newest answer of a server, and the commits that this client knows.

    A server that lacks the commit of the newest answer has lost commits: it is another one, or was restarted or
    emptied. The client says so once, and begins anew.
    """

    def __init__(self) -> None:
        self.newest: Answer | None = None
        self._known: deque[Answer] = deque(maxlen=MAX_ANSWERS)
        self._lost = range(0)  # revisions of commits that may be lost
        self._met: set[tuple[str, int]] = set()  # those of them that the server has given since, of a key or of none

    def add(self, text: bytes) -> Answer:
        """Parse an answer, and remember it unless a newer one is known."""
        newest = self.newest
        if newest is not None and text == newest.text:
            return newest
        lineage, revision, moment = text.split(b" ")
        answer = Answer(text, lineage, int(revision), int(moment))
        if lineage and (newest is None or answer.revision > newest.revision):
            self.newest = answer
            self._known.append(answer)
        self.meet(answer.revision)
        return answer

    def meet(self, revision: int, key: str = "") -> None:
        """Take note that the server has given the version of a key, or a commit, of a revision."""
        if self._lost and revision in self._lost:
            self._met.add((key, revision))

    def is_lost(self, revision: int, key: str = "") -> bool:
        """Return whether a number without a time may be that of a lost commit. The server compares a time itself.

        It is not lost if the server has given it since, as the revision of this key.
        """
        return revision in self._lost and not time_of(revision) and (key, revision) not in self._met

    def known(self) -> list[Answer]:
        """Return the answers that this client remembers, oldest first."""
        return list(self._known)

    def begin_anew(self, lost: range = range(0)) -> None:
        """Forget all answers. The commits of the revisions `lost` may be lost."""
        self.newest = None
        self._known.clear()
        self._lost, self._met = lost, set()
