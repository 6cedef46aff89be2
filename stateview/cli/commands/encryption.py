"""Handler: key. It encrypts a namespace, and manages the keys that open it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ... import codec
from ...errors import (
    NOTHING_CHANGED,
    BackendUnavailable,
    StateException,
    run,
    see,
)
from ..context import Context
from ..exit_codes import UsageError
from ..results import ActionResult, Record, Result, plural

if TYPE_CHECKING:
    from ...maintenance.encryption import KeyStatus
    from ...manager import StateManager

_MAX_FILE_BYTES = 1 << 16
_STATES = {
    "plain": "plain: nothing is encrypted",
    "sealed": "encrypted",
    "sealing": "being encrypted, not complete: repeat 'stateview key on'",
    "unsealing": "being made plain, not complete: repeat 'stateview key off'",
    "rotating": "encrypted; the change of the data key is not complete: repeat 'stateview key rotate --data'",
}


def key(context: Context, args: dict[str, Any]) -> Result:
    """`key ACT [NAME]`."""
    act: Callable[[Context, dict[str, Any]], Result] = _ACTS[args["act"]]
    return act(context, args)


def _new(context: Context, args: dict[str, Any]) -> ActionResult:
    from ...sealing.keys import UserKey

    printed = UserKey.generate().printed()
    summary = (
        "keep it where only its users can read it, and set STATEVIEW_KEY to it; 'stateview key on' encrypts with it"
    )
    return ActionResult(summary, data={"key": printed}, name=printed)


def _status(context: Context, args: dict[str, Any]) -> Record:
    manager = context.existing
    status = manager.encryption.status()
    keys = [
        {"label": key.label, "id": key.id, "kind": key.kind, "created": key.created.isoformat()} for key in status.keys
    ]
    names = ("namespace", "state", "opens", "in_use", "data_keys")
    data = {name: getattr(status, name) for name in names} | {"keys": keys}
    return Record(data=data, lines=tuple(_status_lines(manager, status)))


def _status_lines(manager: StateManager, status: KeyStatus) -> Iterator[tuple[str, str]]:
    yield "namespace", f"{status.namespace} of {manager.url}"
    yield "state", _STATES[status.state]
    if status.state == "plain":
        yield "", "'stateview key on' encrypts it"
        return
    width = max(len(key.label) for key in status.keys)
    for index, key in enumerate(status.keys):
        used = "  in use" if key.id == status.in_use else ""
        created = f"{key.created:%Y-%m-%d %H:%M:%S}"
        yield "" if index else "keys", f"{key.label:{width}}  id {key.id}  {key.kind:10}  {created}{used}"
    opened = {None: "no key was given: set STATEVIEW_KEY", True: "yes", False: "no: it is none of these keys"}
    yield "your key opens it", opened[status.opens]


def _on(context: Context, args: dict[str, Any]) -> ActionResult:
    manager = context.manager
    label = {"label": args["label"]} if "label" in args else {}
    with _converting(context, "on"):
        count = manager.encryption.turn_on(**label, progress=_progress(context))
    summary = f"namespace {manager.namespace} is encrypted: {_rewritten(count)}. {_old_copies(manager, 'Plain copies')}"
    return ActionResult(summary, data={"rewritten": count})


def _off(context: Context, args: dict[str, Any]) -> ActionResult:
    manager = context.existing
    manager.check_writable()
    manager.encryption.check_open()
    context.confirm(f"make namespace {manager.namespace!r} of {manager.url} plain, so that nobody needs a key?")
    with _converting(context, "off"):
        count = manager.encryption.turn_off(progress=_progress(context))
    kept = "Keep the keys as long as you keep encrypted backups. Writes with a key are refused now: unset STATEVIEW_KEY"
    return ActionResult(
        f"namespace {manager.namespace} is plain: {_rewritten(count)}. {kept}", data={"rewritten": count}
    )


def _add(context: Context, args: dict[str, Any]) -> ActionResult:
    manager = _opened(context)

    def add(text: str) -> tuple[str, dict[str, Any]]:
        info = manager.encryption.add_key(text, args.get("label"))
        total = plural(len(manager.encryption.status().keys), "key")
        summary = f"the key {info.label!r}, id {info.id}, opens namespace {manager.namespace} too: it has {total}"
        return summary, {"label": info.label, "id": info.id}

    return _with_new_key(context, args, add)


def _remove(context: Context, args: dict[str, Any]) -> ActionResult:
    manager, name = _opened(context), args["name"]
    status = manager.encryption.status()
    found = next((key for key in status.keys if name in (key.id, key.label)), None)
    if found is not None and found.id == status.in_use and len(status.keys) > 1:
        context.confirm(
            f"remove {found.label!r}, the key in use? Only who has another key can read the namespace then."
        )
    manager.encryption.remove_key(name)
    left = plural(len(status.keys) - 1, "key")
    read = "What was read with it stays known: 'stateview key rotate --data' protects what it rewrites"
    return ActionResult(f"the key {name!r} opens nothing any more: {left} left. {read}", data={"removed": name})


def _rotate(context: Context, args: dict[str, Any]) -> ActionResult:
    if args.get("data"):
        return _rotate_data(context, args)
    manager = _opened(context)

    def rotate(text: str) -> tuple[str, dict[str, Any]]:
        manager.encryption.rotate_key(text)
        status = manager.encryption.status()
        label = next(key.label for key in status.keys if key.id == status.in_use)
        summary = (
            f"the key {label!r} is replaced, and the old one opens nothing any more. Set STATEVIEW_KEY to the new one"
        )
        return summary, {"label": label, "id": status.in_use}

    return _with_new_key(context, args, rotate)


def _rotate_data(context: Context, args: dict[str, Any]) -> ActionResult:
    manager = _opened(context)
    others = [text for path in args.get("key_file", ()) for text in _read_keys(context, path)]
    with _converting(context, "rotate", "--data"):
        count = manager.encryption.rotate_data_key(others, progress=_progress(context))
    copies = _old_copies(manager, "Copies under the old data key")
    summary = f"namespace {manager.namespace} has a new data key: {_rewritten(count)}. {copies}"
    return ActionResult(summary, data={"rewritten": count})


_ACTS = {
    "new": _new, "status": _status, "on": _on, "off": _off, "add": _add, "remove": _remove, "rotate": _rotate,
}  # fmt: skip


def _opened(context: Context) -> StateManager:
    """Return the manager of a namespace that can be written, and that the key in use opens."""
    manager = context.existing
    manager.check_writable()
    manager.encryption.check_open()
    return manager


def _with_new_key(
    context: Context, args: dict[str, Any], act: Callable[[str], tuple[str, dict[str, Any]]]
) -> ActionResult:
    """Act with a key that the user gives; or print a new one, and only then act with it."""
    if args.get("passphrase"):
        summary, data = act(_ask_passphrase(context))
        return ActionResult(summary, data=data)
    if paths := args.get("key_file"):
        texts = [text for path in paths for text in _read_keys(context, path)]
        if len(texts) != 1:
            raise UsageError(f"key {args['act']} takes one key, not {len(texts)}", NOTHING_CHANGED)
        summary, data = act(texts[0])
        return ActionResult(summary, data=data)
    from ...sealing.keys import UserKey

    printed = UserKey.generate().printed()

    def then() -> str:
        try:
            return act(printed)[0]
        except BackendUnavailable as error:
            error.next_steps = (*error.next_steps, see("key", "status"))
            raise
        except StateException as error:
            error.next_steps = (*error.next_steps, "The printed key opens nothing")
            raise

    return ActionResult(data={"key": printed}, name=printed, then=then)


def _ask_passphrase(context: Context) -> str:
    if context.ask_secret is None:
        hint = "Give --key-file FILE, which holds passphrase: and the words"
        raise UsageError("there is no terminal to ask for a passphrase at", hint)
    words = context.ask_secret("New passphrase")
    if context.ask_secret("The same again") != words:
        raise UsageError("the two passphrases differ", NOTHING_CHANGED)
    return f"passphrase:{words}"


def _read_keys(context: Context, path: str) -> list[str]:
    """Return the keys in a file, one a line. No error shows them."""
    if path == "-" and context.ask_secret is not None:
        return [context.ask_secret("Key")]
    name = "standard input" if path == "-" else path
    try:
        if path == "-":
            from ...transfer.standard_input import standard_input

            data = standard_input("Give the file of the key").read(_MAX_FILE_BYTES + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}", "Give a file that holds a key") from error
    try:
        lines = [line.strip() for line in codec.decode_text(data).splitlines()]
    except UnicodeDecodeError:
        lines = []
    keys = [line for line in lines if line]
    if not keys or len(data) > _MAX_FILE_BYTES:
        raise UsageError(f"{name} holds no key", "Give what 'stateview key new' printed, or passphrase:WORDS")
    return keys


def _progress(context: Context) -> Callable[[int, int], None]:
    return lambda done, total: context.progress(f"rewritten: {done:,} of {total:,}")


@contextmanager
def _converting(context: Context, *act: str) -> Iterator[None]:
    """Say after Ctrl-C how to go on."""
    from ..results import Text

    try:
        yield
    except KeyboardInterrupt:
        context.progress("")
        context.show(Text(empty=f"it is not complete. {run('key', *act, after=' again to go on').text()}"))
        raise
    context.progress("")


def _rewritten(count: int) -> str:
    return f"{count:,} stored values and texts were rewritten"


def _old_copies(manager: StateManager, which: str) -> str:
    """Say where copies may remain that were not rewritten."""
    places = "backups, file system snapshots, free blocks of the disk, swap, exports, and files kept aside"
    if manager.url.partition(":")[0] not in ("json", "sqlite"):
        places = "the server's AOF and RDB files, replicas, backups, swap, and exports"
    return f"{which} may remain where this does not reach: {places}"
