"""Complete a command line, and print the completion scripts of bash, zsh and fish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from .. import codec, settings
from ..backends.names_only import names_only
from ..errors import InvalidName, Sealed, StateException
from ..model import SealedValue
from ..refs import DAYS
from ..states.conditions import OPERATORS
from ..states.values.pointers import escape_token, resolve_pointer
from .context import Context
from .definition import BY_NAME, COMMANDS, GLOBALS, Command
from .parser import options_of
from .results import Text
from .values import type_name

MAX_CANDIDATES = 100  # more would slow down the menu
MAX_TIMES = 20  # commits whose times are offered
_DIVIDERS = ":/."  # characters that end a segment of a key
_LAST = "\U0010ffff" * 256  # a segment and this sort after every key that starts with the segment

Candidate = tuple[str, str]

_BASH = """\
_stateview() {
    local line token reply i words=() n=-1 rest=${COMP_LINE:0:COMP_POINT}
    COMPREPLY=()
    # bash also ends words at ':', '=' and '@'. What no space parts is joined again.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        [[ $n -lt 0 || $rest == [[:space:]]* ]] && words[++n]=
        rest=${rest#"${rest%%[![:space:]]*}"}
        token=${COMP_WORDS[i]}
        [[ $i -eq COMP_CWORD ]] && token=$rest
        words[n]+=$token
        rest=${rest#"$token"}
    done
    reply=$(stateview _complete -- "${words[@]:1}" 2>/dev/null) || return 0
    # It keeps the part of the word before the one that it asks about, so that part is cut off each candidate.
    local cut=${words[n]%"$2"}
    while IFS=$'\\t' read -r line _; do
        [[ -n $line ]] && COMPREPLY+=("$(printf '%q' "${line#"$cut"}")")
    done <<< "$reply"
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:/] ]] && compopt -o nospace
    return 0
}
complete -F _stateview stateview
"""

_ZSH = """\
#compdef stateview
_stateview() {
    local -a lines plain described
    local line
    lines=("${(@f)$(stateview _complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in $lines; do
        plain+=("${line%%$'\\t'*}")
        described+=("${line//$'\\t'/  -- }")
    done
    (( ${#plain} )) && compadd -l -d described -- $plain
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _stateview stateview
"""

_FISH = """\
function __stateview_complete
    set -l words (commandline -opc) (commandline -ct)
    stateview _complete -- $words[2..-1] 2>/dev/null
end
complete -c stateview -f -a '(__stateview_complete)'
"""


def print_script(context: Context, args: dict[str, Any]) -> Text:
    """`completion SHELL`."""
    return Text(text={"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[args["shell"]])


def complete(context: Context, args: dict[str, Any]) -> Text:
    """`_complete -- WORD…`: print a line for each candidate, with its help after a tab."""
    words = args.get("words", [])
    words = words[1:] if words[:1] == ["--"] else words
    lines = [f"{text}\t{help}\n" for text, help in candidates(words) if text.isprintable()]
    return Text(text="".join(lines))


def candidates(words: list[str], context: Context | None = None) -> list[Candidate]:
    """Return the candidates for the last word, each with a short help.

    Args:
        words: the words of the line; the last one, possibly empty, is being typed.
        context: the context of the shell. None: open the store that the words name, ignore its errors, and close it.

    """
    *before, word = words or [""]
    options, command, position, pending = _parse(before)
    if pending:
        return _complete_kind(pending, word, options, context)
    if word.startswith("-"):
        return _complete_option(word, command, options, context, _act(command, before))
    if command is None:
        return _commands(word, context is not None)
    if command.args:
        arg = command.args[min(position, len(command.args) - 1)]
        if (arg.kind == "pointer" and position == 1) or (arg.kind == "condition" and word.startswith("/")):
            return _complete_kind("pointer", word, {**options, "key": before[-1]}, context)
        if arg.kind == "condition" and not (before and before[-1] in OPERATORS):
            return [(sign, "") for sign in OPERATORS if sign.startswith(word)]
        if command.acts and position == 0:
            helps = {act.name: act.help for act in reversed(command.acts)}
            return [(act, helps[act]) for act in arg.kind[7:].split(",") if act.startswith(word)]
        if command.acts and arg.name not in _act(command, before):
            return []
        if position < len(command.args) or arg.many:
            return _complete_kind(arg.kind, word, options, context)
    return []


def _act(command: Command | None, before: list[str]) -> tuple[str, ...]:
    """Return the options and arguments that the act in the line takes."""
    acts = command.acts if command is not None else ()
    return next((act.takes for act in acts if act.name in before), ())


def _complete_option(
    word: str, command: Command | None, options: dict[str, Any], context: Context | None, takes: tuple[str, ...]
) -> list[Candidate]:
    spellings = options_of(command)
    name, equals, value = word.partition("=")
    if equals and name in spellings:
        values = _complete_kind(spellings[name].kind, value, options, context)
        return [(f"{name}={text}", help) for text, help in values]
    refused = set(command.refuses) if command is not None else set()
    if command is not None and command.acts:
        refused |= {arg.name for arg in command.args}.union(option.name for option in command.options).difference(takes)
    helps = {
        spelling: option.help
        for spelling, option in spellings.items()
        if spelling.startswith("--") and option.name not in refused
    }
    return [(spelling, help) for spelling, help in sorted(helps.items()) if spelling.startswith(word)]


def _commands(word: str, shell: bool) -> list[Candidate]:
    commands = (command for command in COMMANDS if not command.hidden and (shell or not command.shell))
    return [(command.name, command.help) for command in commands if command.name.startswith(word)]


def _parse(before: list[str]) -> tuple[dict[str, Any], Command | None, int, str]:
    """Return the options so far, the command, its number of arguments, and the kind of a value that must follow."""
    options: dict[str, Any] = {}
    command: Command | None = None
    position, pending, pending_name = 0, "", ""
    for word in before:
        if pending:
            options[pending_name] = word
            pending = ""
        elif word.startswith("-") and len(word) > 1:
            name, equals, value = word.partition("=")
            option = options_of(command).get(name)
            if option is not None and equals:
                options[option.name] = value
            elif option is not None and option.kind != "flag":
                pending = f"choice:{','.join(option.choices)}" if option.choices else option.kind
                pending_name = option.name
        elif command is None:
            command = BY_NAME.get(word)
        else:
            position += 1
    return options, command, position, pending


def _complete_kind(kind: str, word: str, options: dict[str, Any], context: Context | None) -> list[Candidate]:
    if kind.startswith("choice:"):
        return [(choice, "") for choice in kind.removeprefix("choice:").split(",") if choice.startswith(word)]
    if kind == "command":
        return _commands(word, shell=True)
    if kind == "pointer" and "key" in options:
        return _query(lambda store: _paths(store, options["key"], word), options, context)
    source = _SOURCES.get(kind)
    return [] if source is None else _query(lambda store: source(store, word), options, context)


def _query(
    query: Callable[[Context], Iterator[Candidate]], options: dict[str, Any], context: Context | None
) -> list[Candidate]:
    """Query the store of the context, or the store that the line's own options name.

    Errors of the context's store are raised: the shell shows them. Errors of another store give no candidates, since
    an error would be printed into the line that is being typed.
    """
    names = {option.name for option in GLOBALS} - {"format", "yes", "help", "quiet"}
    target = {name: value for name, value in options.items() if name in names}
    if context is not None and not target:
        return list(islice(query(context), MAX_CANDIDATES))
    other = Context({**(context.options if context else {}), **target, "read_only": True, "quiet": True})
    try:
        return list(islice(query(other), MAX_CANDIDATES))
    except (StateException, OSError):
        return []
    finally:
        other.close()


def _keys(context: Context, word: str) -> Iterator[Candidate]:
    """Yield keys by segment, like folders: `wf:` gives `wf:93:` once for all keys below it. O(candidates log n)."""
    backend, after = names_only(context.manager.backend), ""
    for _ in range(MAX_CANDIDATES):
        page = backend.scan(word, after, 2)
        if not page:
            return
        key = page[0].key
        end = min((at for sign in _DIVIDERS if (at := key.find(sign, len(word))) >= 0), default=-1) + 1
        segment = key[:end]
        if end and len(page) > 1 and page[1].key.startswith(segment):
            yield segment, "…"
            after = segment + _LAST
        else:
            value = page[0].value
            size = f"{value.size:,} bytes, sealed" if isinstance(value, SealedValue) else f"{len(value or b''):,} bytes"
            yield key, f"revision {page[0].revision}, {size}"
            after = key


def _paths(context: Context, key: str, word: str) -> Iterator[Candidate]:
    """Yield the JSON Pointers one step below the pointer that is being typed."""
    base = word[: word.rfind("/")]
    try:
        value = resolve_pointer(context.manager.load(key, None), base)
    except (InvalidName, Sealed):
        return  # nothing starts with what is typed, or nobody may read it
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for step, item in items:
        path = f"{base}/{escape_token(step)}"
        if path.startswith(word):
            yield path, type_name(item) if isinstance(item, (dict, list)) else codec.encode(item).decode()[:40]


def _refs(context: Context, word: str) -> Iterator[Candidate]:
    yield from _checkpoints(context, word)
    if "live".startswith(word):
        yield "live", "the current state"
    if word.startswith("@"):
        times = [(f"@{text}", help) for text, help in _times(context, word[1:])]
        yield from (time for time in times if time[0].startswith(word))


def _times(context: Context, typed: str) -> Iterator[Candidate]:
    """Yield ages, days, and the times of the newest commits."""
    for unit, name in (("m", "minutes"), ("h", "hours"), ("d", "days"), ("w", "weeks")):
        number = typed if typed.isdecimal() else "2"
        yield f"{number}{unit}", f"{number} {name} ago"
    yield from ((day, f"when {day} began") for day in DAYS)
    for commit in context.manager.log(MAX_TIMES):
        yield commit.time.isoformat(), f"revision {commit.revision} {commit.reason}".strip()


def _checkpoints(context: Context, word: str) -> Iterator[Candidate]:
    for mark in reversed(context.manager.checkpoints(all="@" in word)):
        if mark.ref.startswith(word):
            yield mark.ref, f"{mark.time:%Y-%m-%d %H:%M:%S} {mark.note}".strip()


def _namespaces(context: Context, word: str) -> Iterator[Candidate]:
    return ((name, "") for name in context.manager.namespaces() if name.startswith(word))


def _stores(context: Context, word: str) -> Iterator[Candidate]:
    from ..backends import BUILT_IN, mask, registered

    named = {name: mask(url) for name, url in settings.find().stores().items()}
    stores = {kind.name: kind.title for kind in BUILT_IN.values()} | dict.fromkeys(registered(), "") | named
    return ((name, help) for name, help in stores.items() if name.startswith(word))


def _labels(context: Context, word: str) -> Iterator[Candidate]:
    """Yield the labels of the keys of a namespace. They can be read without a key."""
    for key in context.manager.encryption.status().keys:
        if key.label.startswith(word):
            yield key.label, f"{key.kind}, {key.created:%Y-%m-%d}, id {key.id}"


def _runs(context: Context, word: str) -> Iterator[Candidate]:
    from ..workflow import control

    return ((one.name, one.state) for one in control.runs(context.manager) if one.name.startswith(word))


def _runs_and_steps(context: Context, word: str) -> Iterator[Candidate]:
    """Yield runs, and the steps of all runs: which of the two is meant, the word before tells a person."""
    from ..workflow import control

    yield from _runs(context, word)
    for run in control.runs(context.manager):
        for step in control.steps(context.manager, run.name):
            if step.name.startswith(word):
                yield step.name, f"{run.name}: {step.state}"


_SOURCES: dict[str, Callable[[Context, str], Iterator[Candidate]]] = {
    "key": _keys,
    "pattern": _keys,
    "ref": _refs,
    "checkpoint": _checkpoints,
    "namespace": _namespaces,
    "label": _labels,
    "run": _runs,
    "run-or-step": _runs_and_steps,
    "store": _stores,
}
