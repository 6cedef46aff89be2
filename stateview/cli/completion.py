"""Complete a command line, and print the completion scripts of bash, zsh and fish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from .. import codec, settings
from ..backends.names_only import names_only
from ..errors import InvalidName, Sealed, StateException
from ..model import SealedValue
from ..refs import DAYS
from ..states.conditions import OPERATORS
from ..states.matching.name_search import NameSearch
from ..states.values.pointers import escape_token, resolve_pointer
from .context import Context
from .definition import BY_NAME, COMMANDS, GLOBALS, Command
from .key_names import AFTER_SEGMENT, Candidate, keys_with, segment_end
from .parser import options_of
from .results import Text
from .values import type_name

MAX_CANDIDATES = 100  # more would slow down the menu
MAX_TIMES = 20  # commits whose times are offered

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
    local cut=${words[n]%"$2"} inside=()
    while IFS=$'\\t' read -r line _; do
        if [[ -n $line && $line == "${words[n]}"* ]]; then
            COMPREPLY+=("$(printf '%q' "${line#"$cut"}")")
        elif [[ -n $line && $line == "$cut"* ]]; then
            inside+=("$(printf '%q' "${line#"$cut"}")")
        fi
    done <<< "$reply"
    # Of several that only contain the word, bash would put what they have in common in its place. A blank has nothing.
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then
        COMPREPLY=("${inside[@]}")
        [[ ${#inside[@]} -gt 1 ]] && COMPREPLY+=(" ")
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:/] ]] && compopt -o nospace
    return 0
}
complete -F _stateview stateview
"""

_ZSH = """\
#compdef stateview
_stateview() {
    local -a lines plain described starting told
    local line word=${(Q)words[CURRENT]}
    lines=("${(@f)$(stateview _complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in $lines; do
        plain+=("${line%%$'\\t'*}")
        described+=("${line//$'\\t'/  -- }")
        if [[ ${plain[-1]} == "$word"* ]]; then
            starting+=("${plain[-1]}")
            told+=("${described[-1]}")
        fi
    done
    if (( ${#starting} )); then
        compadd -l -d told -- $starting
    elif (( ${#plain} )); then
        # They only contain the word: zsh is not to drop them, nor to put what they have in common in its place.
        (( ${#plain} > 1 )) && compstate[insert]=menu
        compadd -U -V inside -l -d described -- $plain
    fi
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
    if before and before[0] in BY_NAME and BY_NAME[before[0]].args[:1] and BY_NAME[before[0]].args[0].kind == "line":
        return candidates(words[1:], context)
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
            return matching(word, [(sign, "") for sign in OPERATORS])
        if command.acts and position == 0:
            helps = {act.name: act.help for act in reversed(command.acts)}
            return matching(word, [(act, helps[act]) for act in arg.kind[7:].split(",")])
        if command.acts and arg.name not in _act(command, before):
            return []
        if position < len(command.args) or arg.many:
            return _complete_kind(arg.kind, word, options, context)
    return []


def store_of(words: list[str]) -> str:
    """Return the store that the options of a line name, which `candidates` opens. Empty if they name none."""
    return str(_parse(words[:-1])[0].get("store", ""))


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
    return matching(word, sorted(helps.items()))


def matching(word: str, offered: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that match a word, the best first: see `NameSearch`. Equals keep their order."""
    return [offered[number] for number in NameSearch([text for text, _ in offered])(word)]


def _commands(word: str, shell: bool) -> list[Candidate]:
    commands = (command for command in COMMANDS if not command.hidden and (shell or not command.shell))
    return matching(word, [(command.name, command.help) for command in commands])


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
        return matching(word, [(choice, "") for choice in kind.removeprefix("choice:").split(",")])
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
    """Yield the keys that start with a word, and then those of a sample that have it inside. O(candidates log n)."""
    found = False
    for candidate in _keys_from_start(context, word):
        found = True
        yield candidate
    yield from keys_with(context.manager, word, similar=not found)


def _keys_from_start(context: Context, word: str) -> Iterator[Candidate]:
    """Yield keys by segment, like folders: `wf:` gives `wf:93:` once for all keys below it."""
    backend, after = names_only(context.manager.backend), ""
    for _ in range(MAX_CANDIDATES):
        page = backend.scan(word, after, 2)
        if not page:
            return
        key = page[0].key
        end = segment_end(key, len(word))
        segment = key[:end]
        if end and len(page) > 1 and page[1].key.startswith(segment):
            yield segment, "…"
            after = segment + AFTER_SEGMENT
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
    below = [(escape_token(step), item) for step, item in items]
    for number in NameSearch([step for step, _ in below])(word[len(base) + 1 :]):
        step, item = below[number]
        help = type_name(item) if isinstance(item, (dict, list)) else codec.encode(item).decode()[:40]
        yield f"{base}/{step}", help


def _refs(context: Context, word: str) -> Iterator[Candidate]:
    offered = [*_all_checkpoints(context, word), ("live", "the current state")]
    if word.startswith("@"):
        offered += [
            time for text, help in _times(context, word[1:]) if (time := (f"@{text}", help))[0].startswith(word)
        ]
    yield from matching(word, offered)


def _times(context: Context, typed: str) -> Iterator[Candidate]:
    """Yield ages, days, and the times of the newest commits."""
    for unit, name in (("m", "minutes"), ("h", "hours"), ("d", "days"), ("w", "weeks")):
        number = typed if typed.isdecimal() else "2"
        yield f"{number}{unit}", f"{number} {name} ago"
    yield from ((day, f"when {day} began") for day in DAYS)
    for commit in context.manager.log(MAX_TIMES):
        yield commit.time.isoformat(), f"revision {commit.revision} {commit.reason}".strip()


def _checkpoints(context: Context, word: str) -> Iterator[Candidate]:
    yield from matching(word, _all_checkpoints(context, word))


def _all_checkpoints(context: Context, word: str) -> list[Candidate]:
    """Return the checkpoints, the newest first. The earlier states of moved ones only if the word asks for them."""
    marks = reversed(context.manager.checkpoints(all="@" in word))
    return [(mark.ref, f"{mark.time:%Y-%m-%d %H:%M:%S} {mark.note}".strip()) for mark in marks]


def _namespaces(context: Context, word: str) -> Iterator[Candidate]:
    yield from matching(word, [(name, "") for name in context.manager.namespaces()])


def _stores(context: Context, word: str) -> Iterator[Candidate]:
    from ..backends import BUILT_IN, mask, registered

    named = {name: mask(url) for name, url in settings.find().stores().items()}
    stores = {kind.name: kind.title for kind in BUILT_IN.values()} | dict.fromkeys(registered(), "") | named
    yield from matching(word, list(stores.items()))


def _labels(context: Context, word: str) -> Iterator[Candidate]:
    """Yield the labels of the keys of a namespace. They can be read without a key."""
    keys = context.manager.encryption.status().keys
    yield from matching(word, [(key.label, f"{key.kind}, {key.created:%Y-%m-%d}, id {key.id}") for key in keys])


def _runs(context: Context, word: str) -> Iterator[Candidate]:
    from ..workflow import control

    yield from matching(word, [(one.name, one.state) for one in control.runs(context.manager)])


def _runs_and_steps(context: Context, word: str) -> Iterator[Candidate]:
    """Yield runs, and the steps of all runs: which of the two is meant, the word before tells a person."""
    from ..workflow import control

    runs = control.runs(context.manager)
    offered = [(run.name, str(run.state)) for run in runs]
    for run in runs:
        offered += [(one.name, f"{run.name}: {one.state}") for one in control.steps(context.manager, run.name)]
    yield from matching(word, offered)


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
