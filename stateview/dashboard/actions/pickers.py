"""Acts of the main screen that first ask which: a state, a namespace, a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ...backends import folder_kinds, is_bare, mask, parse_store
from ...errors import InvalidName
from ...manager import StateManager
from ...model import check_checkpoint, check_name, now
from ..dialogs.confirm import Confirm
from ..dialogs.menu import Menu
from ..dialogs.prompt import PromptDialog
from ..display.text import format_ago
from ..screens.diff import DiffScreen

if TYPE_CHECKING:
    from ...backends.protocol import CheckpointRecord
    from ...cli.results import Result
    from ..app import Dashboard
    from ..widgets.timeline import TimelineRow


_TYPED = ""  # instead of a store: one is to be typed
_ANOTHER = "another store…"


class StoreNamespace(NamedTuple):
    """A store, by what opens it, and a namespace there."""

    store: str
    namespace: str


def choose_state(board: Dashboard, title: str, then: Callable[[str], object]) -> None:
    """Ask for a checkpoint of the namespace, or a state a few commits back; `then` gets its ref."""
    if board.news is not None:
        _offer(board, title, then, board.news.head.revision, board.news.marks)
        return
    backend = board.manager.backend  # not told yet how it stands: at the start, or while paused or lost
    board.request(
        title, lambda _: (backend.head().revision, backend.marks()), lambda found: _offer(board, title, then, *found)
    )


def _offer(
    board: Dashboard, title: str, then: Callable[[str], object], revision: int, marks: list[CheckpointRecord]
) -> None:
    current = {mark.name: mark for mark in marks}
    choices = [
        (mark.name, mark.name, f"r{mark.revision}, {format_ago(mark.time, now())}  {mark.note}".rstrip())
        for mark in reversed(marks)
        if current[mark.name] is mark
    ]
    choices += [
        (f"live~{back}", str(revision - back), f"r{revision - back}") for back in range(1, min(9, revision) + 1)
    ]
    if not choices:
        board.notify_user("there is no other state yet: c makes a checkpoint")
        return

    def chosen(ref: str | None) -> None:
        if ref is not None:
            then(ref)

    board.push_screen(Menu(title, choices), chosen)


def choose_namespace(board: Dashboard, ref: str) -> None:
    """Ask for a store and then for a namespace, and compare a ref of the present one with its live state."""

    def chosen(store: str | None) -> None:
        if store == _TYPED:
            _type_store(board, ref)
        elif store is not None:
            board.request("diff", lambda _: _namespaces(board, [store]), lambda found: ask(store, found))

    def ask(store: str, found: list[StoreNamespace]) -> None:
        here = StoreNamespace(board.store, board.manager.namespace)
        found = [place for place in found if place != here]
        if len(board.stores) == 1:
            hint = "a URL or a path" if found else "a URL or a path; here is no other namespace: F forks this one"
            _choose_among(board, ref, found, [(_ANOTHER, StoreNamespace(_TYPED, ""), hint)])
        elif found:
            _choose_among(board, ref, found)
        else:
            board.notify_user(f"there is no other namespace in {mask(store)}; F forks this one")

    if len(board.stores) == 1:
        chosen(board.store)
    else:
        choices = [(shown, store, "") for store, shown in board.stores]
        board.push_screen(Menu("Store", [*choices, (_ANOTHER, _TYPED, "a URL or a path")]), chosen)


def _choose_among(
    board: Dashboard, ref: str, found: list[StoreNamespace], more: Sequence[tuple[str, StoreNamespace, str]] = ()
) -> None:  # fmt: skip
    def compare(place: StoreNamespace | None) -> None:
        if place is None:
            return
        if place.store == _TYPED:
            _type_store(board, ref)
            return
        other: StateManager = board.open(*place)
        board.push_screen(DiffScreen(ref, other=other, store="" if place.store == board.store else place.store))

    several = len({place.store for place in found}) > 1
    choices = [(place.namespace, place, mask(place.store) if several else "") for place in found]
    board.push_screen(Menu(f"Diff of {ref} with", [*choices, *more]), compare)


def _type_store(board: Dashboard, ref: str, initial: str = "") -> None:
    """Ask for a store that no list holds, by URL or path; why one cannot be read is told, and it is asked again."""

    def check(text: str) -> None:
        if ":" in text:
            parse_store(text.strip())

    def typed(text: str | None) -> None:
        text = (text or "").strip()
        if not text:
            return
        known = ":" in text or is_bare(text) or text in dict(board.stores)
        stores = [text] if known else [f"{kind}:{text}" for kind in folder_kinds()]

        def took(found: list[StoreNamespace]) -> None:
            here = StoreNamespace(board.store, board.manager.namespace)
            found = [place for place in found if place != here]
            if found:
                _choose_among(board, ref, found)
            else:
                again(f"there is no other namespace in {mask(text)}")

        def again(said: str | Exception) -> None:
            if isinstance(said, Exception):
                board.show_error(said, act=True)
            else:
                board.notify_user(said, wrong=True)
            _type_store(board, ref, text)

        board.request("diff", lambda _: _namespaces(board, stores), took, failed=again)

    hint = "such as sqlite:PATH, redis://HOST:PORT/DB, or a folder · esc cancels"
    board.push_screen(PromptDialog(f"Store to compare {ref} with", initial, _wrong(check), hint=hint), typed)


def _namespaces(board: Dashboard, stores: list[str]) -> list[StoreNamespace]:
    """Return the namespaces of some stores. To be called on a thread: it reads."""
    found = []
    for store in stores:
        with board.open(store, None) as manager:
            found += [StoreNamespace(store, name) for name in manager.namespaces()]
    return found


def _wrong(check: Callable[[str], object]) -> Callable[[str], str | None]:
    def wrong(text: str) -> str | None:
        try:
            check(text)
        except InvalidName as error:
            return str(error)
        return None

    return wrong


def fork(board: Dashboard, initial: str = "") -> None:
    """Ask for the name of a namespace that starts as the one that is looked at is, or was; then go there.

    What cannot be done is told, and the name asked for again. `initial` is a name to begin with.
    """
    if board.read_only:
        board.notify_user("read-only: fork would write", wrong=True)
        return
    at = ["--at", board.ref] if board.ref else []

    def named(name: str | None) -> None:
        if name is None:
            return

        def failed(error: Exception) -> None:
            board.show_error(error, act=True)
            fork(board, name)

        def forked(result: Result) -> None:
            board.notify_user(f"{result.summary}; here it is")
            board.switch_to(None, name)

        board.acts.start(["fork", name, *at], then=forked, failed=failed)

    board.push_screen(
        PromptDialog(
            f"Fork {board.manager.namespace} at {board.ref or 'live'} into",
            initial,
            check=_wrong(lambda text: check_name(text, "namespace")),
            command=lambda text: board.command_line(["fork", text, *at]),
        ),
        named,
    )


def delete_checkpoint(board: Dashboard, line: TimelineRow) -> None:
    """Ask whether to delete the checkpoint of a line of the timeline. The state itself stays as long as the history."""
    if (reason := _no_checkpoint(board, line, "delete")) is not None:
        board.notify_user(reason, wrong=True)
        return
    words = ["checkpoint", line.ref, "--delete"]
    note = ["--note", line.mark.note] if line.mark is not None and line.mark.note else []
    again = board.command_line(["checkpoint", line.ref.partition("@")[0], "--at", str(line.revision), *note])
    said = [f"Delete the checkpoint {line.ref}, revision {line.revision}?", f"{again} would name it again."]
    board.push_screen(Confirm(said, board.command_line(words)), lambda sure: board.acts.run(words) if sure else None)


def rename_checkpoint(board: Dashboard, line: TimelineRow, initial: str = "") -> None:
    """Ask for another name for the checkpoint of a line of the timeline; one that cannot be given is asked for again.

    `initial` is a name to begin with, if not with its own.
    """
    if (reason := _no_checkpoint(board, line, "rename")) is not None:
        board.notify_user(reason, wrong=True)
        return

    def words(name: str) -> list[str]:
        return ["checkpoint", line.ref, "--rename", name]

    def named(name: str | None) -> None:
        if name is None:
            return

        def failed(error: Exception) -> None:
            board.show_error(error, act=True)
            rename_checkpoint(board, line, name)

        board.acts.run(words(name), failed=failed)

    asked = PromptDialog(
        f"Rename the checkpoint {line.ref}", initial or line.ref.partition("@")[0], check=_wrong(check_checkpoint),
        command=lambda text: board.command_line(words(text)),
    )  # fmt: skip
    board.push_screen(asked, named)


def _no_checkpoint(board: Dashboard, line: TimelineRow, what: str) -> str | None:
    if board.read_only:
        return f"read-only: {what} would write"
    return None if line.mark is not None else f"no checkpoint is here to {what}; c names this state"
