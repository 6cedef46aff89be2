"""Import a source into a namespace: preview the changes, then commit them; or create the namespace whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ..backends.conflicts import plain_data_error
from ..backends.protocol import Backend, CheckpointWrite, CommitRequest, Head, ProgressCount, StateAt, Version, Write
from ..backends.retries import Backoff
from ..backends.stored_values import PLAIN, is_sealed, user_key_of
from ..errors import Conflict, HistoryPruned, InvalidName, NextStep, tells_what_was_done
from ..maintenance.history import commit_of
from ..states import compare as comparison
from ..states.changes import Diff
from ..states.compare import Pair
from ..states.restore import applied_diff
from ..states.retention import numbered_names, stamped_name
from ..states.steady import again, snapshot
from .import_sources import ImportSource, Options, is_older_redis, open_source
from .staged_copy import in_place
from .temporary_stores import TemporaryStores

RETRY_SECONDS = 30.0  # how long an import retries while others write to the namespace
PAUSE_SECONDS = 0.01  # between two attempts
MAX_REASON = 400  # characters of the source in the log
MAX_NOTE = 500  # characters of the note of the safety checkpoint
MAX_NAMED_KEYS = 3  # keys that an error names
_FORCE = "Give --force (force=True) to import its values"

Committer = Callable[[CommitRequest], Head]


def expect_import(backend: Backend) -> None:
    """Tell a backend that all of the older data is imported, see `AdoptsInTime`."""
    method = getattr(type(backend), "expect_import", None)  # most backends have none
    if method is not None:
        method(backend)


class ImportReport(Struct, frozen=True):
    """Report what an import did, or would do.

    `found` describes the source. `how` is `"new"`, `"merge"` or `"replace"`. `diff` has the changes of an existing
    namespace, and `checkpoint` names the checkpoint of the state before. `left_out` counts the keys that were left out,
    and `skipped` names the first of them.
    """

    found: str
    how: str
    revision: int
    keys: int
    checkpoints: int
    diff: Diff | None = None
    checkpoint: str = ""
    skipped: tuple[str, ...] = ()
    left_out: int = 0


class ImportJob:
    """An opened import: its source, the writes that it plans, and the commit.

    Args:
        backend: the namespace to import into.
        commit: commits to that namespace.
        source: what to import; see `open_source`.
        options: how to read the source.
        how: `"merge"` or `"replace"`; None for a new namespace.
        force: also import an export of another lineage, or an older export.
        author: the author in the log.
        progress: called with the amount done and the total, which is 0 if it is not known.

    Raises:
        Conflict: the namespace exists, and `how` is None; or the export is of another lineage, or older.

    """

    def __init__(
        self, backend: Backend, commit: Committer, source: Any, options: Options, how: str | None = None,
        force: bool = False, author: str = "", progress: ProgressCount | None = None,
    ) -> None:  # fmt: skip
        if how not in (None, "merge", "replace"):
            raise InvalidName(f"how={how!r}: give merge or replace")
        self.backend = backend
        self.author = author
        self.writes: dict[str, Write] = {}
        self._olds: dict[str, Version | None] = {}  # what each of them replaces
        self._outrun = False  # whether the live state was pruned while the writes were planned
        self._commit = commit
        self._progress = progress or (lambda _done, _total: None)
        self._live = StateAt(0, 0)  # the state that the writes were planned for
        self._is_planned = False
        self._source_backend: Backend | None = None
        if is_older_redis(source, options):
            expect_import(backend)
        has_own_key = options.user_key is not None
        if not has_own_key:
            options = replace(options, user_key=user_key_of(backend))
        self._stores = TemporaryStores(is_sealed(backend) or has_own_key)
        try:
            self.source: ImportSource = open_source(source, self._stores, options, backend.namespace)
            self.head = backend.head()
            self.is_new = not self.head.lineage
            self.how = how or ("new" if self.is_new else "")
            if not self.is_new:
                self._check(force)
        except BaseException:
            self._stores.close()
            raise
        self.reason = f"import {self.source.name}"[:MAX_REASON] + (f" ({how})" if how else "")

    def __enter__(self) -> ImportJob:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary copies of the source."""
        self._stores.close()

    def _check(self, force: bool) -> None:
        """Check whether the source may be imported into the existing namespace."""
        name, head, exported = self.backend.namespace, self.head, self.source.head
        source = f"{self.source.name} is {self.source.description}"
        values = getattr(self.backend, "values", PLAIN)
        if values.plain and not values.ready:  # the commit would fail, so a preview would promise too much
            raise plain_data_error(name)
        if not self.how:
            raise Conflict(
                f"namespace {name!r} of {self.backend.url} exists already: {head.count:,} keys at revision"
                f" {head.revision}; {source}",
                "Give --merge (how='merge') to write the source's keys and keep all others, --replace (how='replace')"
                " to make all keys as in the source, or another namespace",
            )
        if exported is None or force:
            return
        if exported.lineage != head.lineage:
            raise Conflict(
                f"{source}, which has another lineage ({exported.lineage[:8]}) than namespace {name!r}"
                f" ({head.lineage[:8]}): it is not an earlier or later state of this namespace",
                _FORCE,
            )
        if exported.revision < head.revision:
            restore = NextStep("Or restore that state from the history with ", ("restore", str(exported.revision)))
            raise Conflict(f"{source}, older than the live state, revision {head.revision}", (_FORCE, restore))
        live, same = commit_of(self.backend, head.revision), commit_of(self._open_source(), head.revision)
        if live is not None and same is not None and (live.time, live.reason) != (same.time, same.reason):
            raise Conflict(
                f"{source}, and its history diverged from this namespace: revision {head.revision} is a different"
                " commit in each",
                _FORCE,
            )

    def _open_source(self) -> Backend:
        """Return the source as a namespace of its own."""
        if self._source_backend is None:
            self._source_backend = self.source.backend(self._stores)
        return self._source_backend

    # --- into an existing namespace ----------------------------------------------------------------------------

    def refresh(self) -> None:
        """Plan the writes that lead from the live state to the source. O(keys); when repeated, O(changes since).

        Raises:
            Damaged: the source does not hold what its layout says.

        """
        self._outrun = False
        again(True, self._refresh)

    def _refresh(self) -> None:
        source, before = self._open_source(), self._live
        with snapshot(self.backend, whole=True) if self._outrun else nullcontext(self.backend) as state:
            self._live = StateAt(state.head().revision, state.now())
            target = StateAt(source.head().revision, self._live.time)
            changed: list[str] | None = None
            try:
                if self._is_planned:
                    changed = state.changed_keys(StateAt(before.revision, 0), StateAt(self._live.revision, 0))
            except HistoryPruned:
                self._is_planned = False
            self._outrun, was_planned, self._is_planned = True, self._is_planned, False  # if it is not read to its end
            for key in changed if was_planned and changed is not None else list(self.writes):
                self.writes.pop(key, None)
            self.writes.update(self._plan_writes(self._pairs(state, changed, target)))
        self._is_planned = True

    def _pairs(self, state: Backend, keys: list[str] | None, target: StateAt) -> Iterator[Pair]:
        """Yield the live version and the source's version of some keys; with None, of all keys."""
        source = self._open_source()
        if keys is None:
            yield from comparison.merge_join((state, self._live), (source, target))
            return
        for start in range(0, len(keys), comparison.KEYS_PER_PAGE):
            page = keys[start : start + comparison.KEYS_PER_PAGE]
            old, new = state.read(page, self._live), source.read(page, target)
            yield from ((key, old.get(key), new.get(key)) for key in page)

    def _plan_writes(self, pairs: Iterable[Pair]) -> Iterator[tuple[str, Write]]:
        for key, old, new in pairs:
            if new is None:
                if self.how == "replace" and old is not None:
                    self._olds[key] = old
                    yield key, Write(None)
            elif old is None or self._differ(key, old, new):
                self._olds[key] = old
                yield key, Write(new.value, max(1, new.expires - self._live.time) if new.expires else 0)

    def _differ(self, key: str, old: Version, new: Version) -> bool:
        if old.value != new.value and comparison.change(key, old, new) is not None:
            return True
        slack = self.source.expiry_slack
        if slack is None or old.expires == new.expires:
            return False
        return not (old.expires and new.expires) or abs(old.expires - new.expires) > slack

    def preview(self) -> Diff:
        """Return the changes that the planned writes make, streamed. Read them before the job is closed."""
        return applied_diff(self._olds, self.writes, self.head, ("live", self.source.name))

    def source_state(self) -> tuple[Backend, StateAt]:
        """Return the source as a namespace of its own, and the state that the planned writes lead to.

        Read it before the job is closed.
        """
        source = self._open_source()
        return source, StateAt(source.head().revision, self._live.time)

    def execute(self, seen: bool = False) -> ImportReport:
        """Run the import: create the namespace, or commit the planned writes. If others write, plan again and retry.

        Args:
            seen: a user has approved the preview, so a new plan with other keys is an error.

        Raises:
            Conflict: the preview was approved and would now change other keys; or others wrote during all retries.
                For a new namespace: others created it, or a migration into it is not finished.

        """
        if self.is_new:
            return self._create()
        if not self._is_planned:
            self.refresh()
        backoff = Backoff(RETRY_SECONDS, first=PAUSE_SECONDS, longest=PAUSE_SECONDS)
        names = numbered_names(stamped_name("before_import"))
        name = next(names)
        while self.writes:
            safety = CheckpointWrite(name, f"made by {self.reason}"[:MAX_NOTE], fresh=True, kind="safety")
            marks = (safety,) if self.how == "replace" else ()
            try:
                head = self._commit(
                    CommitRequest(self.writes, base=self._live.revision, reason=self.reason, marks=marks)
                )
            except Conflict:
                if not backoff.wait():
                    raise
                if any(mark.name == name for mark in self.backend.marks()):
                    name = next(names)
                self._plan_again(seen)
                continue
            applied = applied_diff(self._olds, self.writes, head, ("live", self.source.name))
            return self._report(head, applied, name if marks else "")
        return self._report(self.backend.head(), Diff("live", self.source.name, lambda: iter(())))

    def committed_revision(self) -> int | None:
        """Return the revision that an interrupted `execute` committed; None if it committed none. O(1)."""
        if self.is_new:
            head = self.backend.head()
            return head.revision if head.lineage else None
        revision = self._live.revision + 1  # the commit follows the planned state directly
        commit = commit_of(self.backend, revision) if self._is_planned else None
        return revision if commit is not None and commit.reason == self.reason else None

    def _plan_again(self, seen: bool) -> None:
        before = {key: write.value for key, write in self.writes.items()}
        self.refresh()
        after = {key: write.value for key, write in self.writes.items()}
        if seen and before != after:
            late = ", ".join(map(repr, sorted(before.keys() ^ after.keys())[:MAX_NAMED_KEYS]))
            raise Conflict(
                f"other writers changed the namespace, so that the import would now change other keys: {late}",
                "Preview the import again, then run it",
            )

    # --- into a new namespace ----------------------------------------------------------------------------------

    def _create(self) -> ImportReport:
        """Create the namespace with all data of the source, whole or not at all."""
        receiver = self.backend.open_staging()
        note = receiver.progress()
        if note is not None:
            if "import" not in note:
                receiver.close()
                what = f"a migration into namespace {self.backend.namespace!r} of {self.backend.url} is not finished"
                raise Conflict(what, "Run the migration again to finish it, or import into another namespace")
            receiver.drop()  # the data of an import that was killed
            receiver = self.backend.open_staging()
        try:
            head = self.source.fill(receiver, self.reason, self.author, self._progress)
            with tells_what_was_done(lambda: in_place(self.backend, head)):
                receiver.finish(head)
        except BaseException:
            receiver.drop()
            raise
        return self._report(self.backend.head())

    def plan(self) -> ImportReport:
        """Report what the import would do, without a change. Reads the whole source."""
        if self.is_new:
            source = self._open_source()
            return self._report(source.head(), None, "", len(source.marks()))
        self.refresh()
        return self._report(self.head, self.preview())

    def _report(
        self, head: Head, diff: Diff | None = None, checkpoint: str = "", marks: int | None = None
    ) -> ImportReport:
        skipped = self.source.skipped
        marks = len(self.backend.marks()) if marks is None else marks
        return ImportReport(
            self.source.description, self.how, head.revision, head.count, marks, diff, checkpoint,
            tuple(name for name in skipped if name), len(skipped),
        )  # fmt: skip
