"""Actions of the main screen that first ask for a state, a namespace or a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ...backends import folder_kinds, is_bare, mask, parse_store
from ...backends.names_only import names_only
from ...manager import StateManager
from ...model import check_checkpoint, check_name, now
from ...refs import parse_ref
from ..dialogs.confirm import Confirm
from ..dialogs.menu import Menu
from ..dialogs.prompt import PromptDialog, validator
from ..display.text import format_ago
from ..screens.diff import DiffScreen

if TYPE_CHECKING:
    from ...backends.protocol import CheckpointRecord, Version
    from ...cli.results import Result
    from ..app import Dashboard
    from ..display.timeline_row import TimelineRow


_KEY_VERSIONS = 5  # earlier versions of a key that a restore offers
_TYPED = ""  # the choice of a menu that asks for a store, or for a state
_ANOTHER = "another store…"
_ANOTHER_STATE = "another state…"
_REFS = "@2h (ago), @yesterday, @2026-11-28T10:00, or any other ref"


class StoreNamespace(NamedTuple):
    """A store, as `Dashboard.open` takes it, and a namespace of the store."""

    store: str
    namespace: str


def choose_state(app: Dashboard, title: str, then: Callable[[str], object]) -> None:
    """Ask for a checkpoint of the namespace, for one of the last states, or for a ref. `then` takes the ref."""
    if app.news is not None:
        _open_state_menu(app, title, then, app.news.head.revision, app.news.marks)
        return
    backend = app.manager.backend  # there is no news at the start, while paused, and while the backend is lost
    app.request(
        title,
        lambda _: (backend.head().revision, backend.marks()),
        lambda head_and_marks: _open_state_menu(app, title, then, *head_and_marks),
    )


def _open_state_menu(
    app: Dashboard, title: str, then: Callable[[str], object], revision: int, marks: list[CheckpointRecord]
) -> None:
    choices = _states(revision, marks)
    if not choices:
        app.notify_user("there is no other state yet" + app.unless_read_only(": c creates a checkpoint"))
        return

    choices.append((_ANOTHER_STATE, _TYPED, _REFS))

    def chosen(ref: str | None) -> None:
        if ref == _TYPED:
            _ask_for_ref(app, title, then)
        elif ref is not None:
            then(ref)

    app.push_screen(Menu(title, choices), chosen)


def _states(revision: int, marks: list[CheckpointRecord]) -> list[tuple[str, str, str]]:
    """Return the rows of a menu of states: the checkpoints, and the last nine states before live."""
    current = {mark.name: mark for mark in marks}
    choices = [
        (mark.name, mark.name, f"r{mark.revision}, {format_ago(mark.time, now())}  {mark.note}".rstrip())
        for mark in reversed(marks)
        if current[mark.name] is mark
    ]
    return choices + [
        (f"live~{back}", str(revision - back), f"r{revision - back}") for back in range(1, min(9, revision) + 1)
    ]


def _ask_for_ref(app: Dashboard, title: str, then: Callable[[str], object]) -> None:
    def typed(text: str | None) -> None:
        if text is not None:
            then(text.strip())

    check = validator(lambda text: parse_ref(text.strip()))
    app.push_screen(PromptDialog(title, check=check, hint=f"{_REFS} · esc cancels"), typed)


def choose_two_states(app: Dashboard, then: Callable[[str, str], object]) -> None:
    """Ask for two states in one dialog. `then` takes their refs, the earlier state first."""

    def ask(found: tuple[int, list[CheckpointRecord]]) -> None:
        from ..dialogs.compare import LIVE, CompareDialog

        dialog = CompareDialog([*_states(*found), LIVE])
        app.push_screen(dialog, lambda refs: then(*refs) if refs is not None else None)

    if app.news is not None:
        ask((app.news.head.revision, app.news.marks))
    else:
        backend = app.manager.backend
        app.request("diff", lambda _: (backend.head().revision, backend.marks()), ask)


def choose_restore(app: Dashboard, key: str, ref: str | None, then: Callable[[str, list[str] | None], object]) -> None:
    """Ask whether to restore one key or all, and from which state. `then` takes the ref and the keys; None is all.

    Args:
        app: the app.
        key: the key, which is offered first.
        ref: the state on the screen; None is live. Then earlier versions of the key, and all states, are offered.
        then: opens the preview.

    """
    if ref is not None:
        choices = [(f"this key: {key}", (ref, [key]), ref), ("all keys", (ref, None), ref)]
        app.push_screen(Menu(f"Restore {ref}", choices), lambda chosen: then(*chosen) if chosen is not None else None)
        return
    backend = names_only(app.manager.backend)

    def read(_stop: object) -> tuple[list[Version], int, list[CheckpointRecord]]:
        return backend.versions(key, _KEY_VERSIONS + 1), backend.head().revision, backend.marks()

    def ask(found: tuple[list[Version], int, list[CheckpointRecord]]) -> None:
        versions, revision, marks = found
        choices: list[tuple[str, tuple[str, list[str] | None], str]] = []
        for number, version in enumerate(versions[1:], 1):
            when = f"r{version.revision}, {format_ago(version.time, now())}"
            state = str(versions[number - 1].revision - 1)  # also of a version that only a checkpoint keeps
            label = f"this key before its {'last change' if number == 1 else f'{number} last changes'}"
            choices.append((label, (state, [key]), when))
        if len(versions) == 1:
            choices.append(("this key before it was added", (str(versions[0].revision - 1), [key]), "will be deleted"))
        choices += [(f"all keys at {label}", (state, None), hint) for label, state, hint in _states(revision, marks)]
        choices.append((_ANOTHER_STATE, (_TYPED, None), _REFS))
        app.push_screen(Menu(f"Restore {key}, or all keys", choices), chosen)

    def chosen(choice: tuple[str, list[str] | None] | None) -> None:
        if choice is not None and choice[0] == _TYPED:
            _ask_for_ref(app, "Restore all keys at", lambda ref: then(ref, None))
        elif choice is not None:
            then(*choice)

    app.request("restore", read, ask)


def choose_namespace(app: Dashboard, ref: str) -> None:
    """Ask for a store and a namespace, and compare a ref of the present namespace with the live state there."""

    def store_chosen(store: str | None) -> None:
        if store == _TYPED:
            _ask_for_store(app, ref)
        elif store is not None:
            app.request("diff", lambda _: _other_namespaces(app, [store]), lambda names: choose(store, names))

    def choose(store: str, namespaces: list[StoreNamespace]) -> None:
        if len(app.stores) == 1 and not app.is_web:
            fork = app.unless_read_only(": F forks this one")
            hint = "a URL or a path" if namespaces else f"a URL or a path; here is no other namespace{fork}"
            _choose_among(app, ref, namespaces, [(_ANOTHER, StoreNamespace(_TYPED, ""), hint)])
        elif namespaces:
            _choose_among(app, ref, namespaces)
        else:
            app.notify_user(f"there is no other namespace in {mask(store)}{app.unless_read_only('; F forks this one')}")

    if len(app.stores) == 1:
        store_chosen(app.store)
    else:
        choices = [(shown, store, "") for store, shown in app.stores]
        if not app.is_web:
            choices.append((_ANOTHER, _TYPED, "a URL or a path"))
        app.push_screen(Menu("Store", choices), store_chosen)


def _choose_among(
    app: Dashboard, ref: str, namespaces: list[StoreNamespace], more: Sequence[tuple[str, StoreNamespace, str]] = ()
) -> None:  # fmt: skip
    def compare(chosen: StoreNamespace | None) -> None:
        if chosen is None:
            return
        if chosen.store == _TYPED:
            _ask_for_store(app, ref)
            return
        other: StateManager = app.open(*chosen)
        app.push_screen(DiffScreen(ref, other=other, store="" if chosen.store == app.store else chosen.store))

    several = len({namespace.store for namespace in namespaces}) > 1
    choices = [(choice.namespace, choice, mask(choice.store) if several else "") for choice in namespaces]
    app.push_screen(Menu(f"Diff of {ref} with", [*choices, *more]), compare)


def _ask_for_store(app: Dashboard, ref: str, initial: str = "") -> None:
    """Ask for the URL or path of a store. If the store cannot be read, show the error and ask again."""

    def check(text: str) -> None:
        if ":" in text:
            parse_store(text.strip())

    def typed(text: str | None) -> None:
        text = (text or "").strip()
        if not text:
            return
        complete = ":" in text or is_bare(text) or text in dict(app.stores)
        stores = [text] if complete else [f"{kind}:{text}" for kind in folder_kinds()]

        def choose(namespaces: list[StoreNamespace]) -> None:
            if namespaces:
                _choose_among(app, ref, namespaces)
            else:
                app.notify_user(f"there is no other namespace in {mask(text)}", wrong=True)
                _ask_for_store(app, ref, text)

        def failed(error: Exception) -> None:
            app.show_error(error, act=True)
            _ask_for_store(app, ref, text)

        app.request("diff", lambda _: _other_namespaces(app, stores), choose, failed=failed)

    hint = "such as sqlite:PATH, redis://HOST:PORT/DB, or a folder · esc cancels"
    app.push_screen(PromptDialog(f"Store to compare {ref} with", initial, validator(check), hint=hint), typed)


def _other_namespaces(app: Dashboard, stores: list[str]) -> list[StoreNamespace]:
    """Return the namespaces of some stores, without the present one. Reads the stores, so call it on a thread."""
    namespaces = []
    for store in stores:
        with app.open(store, None) as manager:
            namespaces += [StoreNamespace(store, name) for name in manager.namespaces()]
    present = StoreNamespace(app.store, app.manager.namespace)
    return [namespace for namespace in namespaces if namespace != present]


def fork(app: Dashboard, initial: str = "") -> None:
    """Ask for a name, copy the state that is shown into a new namespace of that name, and switch to it.

    If the copy fails, show the error and ask again. `initial` is the name to edit.
    """
    if app.read_only:
        app.notify_user("read-only: fork would write", wrong=True)
        return
    at = ["--at", app.ref] if app.ref else []

    def named(name: str | None) -> None:
        if name is None:
            return

        def failed(error: Exception) -> None:
            app.show_error(error, act=True)
            fork(app, name)

        def forked(result: Result) -> None:
            app.notify_user(f"{result.summary}; it is shown now")
            app.switch_to(None, name)

        app.acts.start(["fork", name, *at], then=forked, failed=failed)

    app.push_screen(
        PromptDialog(
            f"Fork {app.manager.namespace} at {app.ref or 'live'} into",
            initial,
            check=validator(lambda text: check_name(text, "namespace")),
            command=lambda text: app.command_line(["fork", text, *at]),
        ),
        named,
    )


def delete_checkpoint(app: Dashboard, line: TimelineRow) -> None:
    """Ask whether to delete the checkpoint of a row of the timeline. The state stays as long as the history."""
    if (reason := _checkpoint_refusal(app, line, "delete")) is not None:
        app.notify_user(reason, wrong=True)
        return
    words = ["checkpoint", line.ref, "--delete"]
    note = ["--note", line.mark.note] if line.mark is not None and line.mark.note else []
    recreate = app.command_line(["checkpoint", line.ref.partition("@")[0], "--at", str(line.revision), *note])
    question = [f"Delete the checkpoint {line.ref}, revision {line.revision}?", f"{recreate} creates it again."]
    app.push_screen(Confirm(question, app.command_line(words)), lambda sure: app.acts.run(words) if sure else None)


def rename_checkpoint(app: Dashboard, line: TimelineRow, initial: str = "") -> None:
    """Ask for another name for the checkpoint of a row of the timeline, and rename it.

    If that fails, show the error and ask again. `initial` is the name to edit, by default the present name.
    """
    if (reason := _checkpoint_refusal(app, line, "rename")) is not None:
        app.notify_user(reason, wrong=True)
        return

    def words(name: str) -> list[str]:
        return ["checkpoint", line.ref, "--rename", name]

    def named(name: str | None) -> None:
        if name is None:
            return

        def failed(error: Exception) -> None:
            app.show_error(error, act=True)
            rename_checkpoint(app, line, name)

        app.acts.run(words(name), failed=failed)

    dialog = PromptDialog(
        f"Rename the checkpoint {line.ref}", initial or line.ref.partition("@")[0], check=validator(check_checkpoint),
        command=lambda text: app.command_line(words(text)),
    )  # fmt: skip
    app.push_screen(dialog, named)


def _checkpoint_refusal(app: Dashboard, line: TimelineRow, action: str) -> str | None:
    if app.read_only:
        return f"read-only: {action} would write"
    return None if line.mark is not None else "this row is not a checkpoint: c creates a checkpoint of this state"
