"""What may come next in a command line, and the scripts that ask for it from bash, zsh and fish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from .. import codec, settings
from ..errors import StateException
from ..states.pointers import escape_token, resolve_pointer
from .conditions import OPERATORS
from .context import Context
from .definition import BY_NAME, COMMANDS, GLOBALS, Command
from .parser import options_of
from .results import Text
from .values import type_name

MAX_CANDIDATES = 100  # candidates of one question: more help nobody, and cost the menu its speed
_DIVIDERS = ":/."  # where a key's segments end
_LAST = "\U0010ffff" * 256  # after every key that starts with a segment

Candidate = tuple[str, str]

_BASH = """\
_stateview() {
    local line word reply
    COMPREPLY=()
    word=${COMP_LINE:0:COMP_POINT}
    reply=$(stateview _complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return 0
    # bash takes ':' and '=' for the ends of words; what it has taken already is cut off what is offered.
    word=${word##*[[:space:]]}
    local cut=${word%"${COMP_WORDS[COMP_CWORD]}"}
    case ${COMP_WORDS[COMP_CWORD]} in :|=) cut=$word ;; esac
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


def print_script(context: Context, given: dict[str, Any]) -> Text:
    """`completion SHELL`."""
    return Text(text={"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[given["shell"]])


def complete(context: Context, given: dict[str, Any]) -> Text:
    """`_complete -- WORD…`: candidates for the last word, each a line with a tab before what it means."""
    words = given.get("words", [])
    words = words[1:] if words[:1] == ["--"] else words
    lines = [f"{text}\t{help}\n" for text, help in candidates(_joined(words)) if text.isprintable()]
    return Text(text="".join(lines))


def _joined(words: list[str]) -> list[str]:
    """Undo bash's parting of `wf:93` into `wf`, `:`, `93`, and of `--at=x`."""
    out: list[str] = []
    glue = False
    for word in words:
        if out and (glue or word in (":", "=")):
            out[-1] += word
        else:
            out.append(word)
        glue = word in (":", "=")
    return out


def candidates(words: list[str], context: Context | None = None) -> list[Candidate]:
    """What the last of the words may become, with a short help for each. Never raises for a store out of reach.

    Args:
        words: the line's words; the last is the one being typed, perhaps empty.
        context: the shell's; without one, the store that the words themselves name is opened, and closed again.

    """
    *before, word = words or [""]
    known, command, position, pending = _state(before, {})
    if pending:
        return _offer(pending, word, known, context)
    if word.startswith("-"):
        name, equals, value = word.partition("=")
        if equals and name in options_of(command):
            return [
                (f"{name}={text}", help) for text, help in _offer(options_of(command)[name].kind, value, known, context)
            ]
        found = {text: option.help for text, option in options_of(command).items() if text.startswith("--")}
        return [(text, help) for text, help in sorted(found.items()) if text.startswith(word)]
    if command is None:
        return _commands(word, context is not None)
    if command.args:
        arg = command.args[min(position, len(command.args) - 1)]
        if (arg.kind == "pointer" and position == 1) or (arg.kind == "condition" and word.startswith("/")):
            return _offer("pointer", word, {**known, "key": before[-1]}, context)
        if arg.kind == "condition" and not (before and before[-1] in OPERATORS):
            return [(one, "") for one in OPERATORS if one.startswith(word)]
        if position < len(command.args) or arg.many:
            return _offer(arg.kind, word, known, context)
    return []


def _commands(word: str, shell: bool) -> list[Candidate]:
    shown = (one for one in COMMANDS if not one.hidden and (shell or not one.shell))
    return [(one.name, one.help) for one in shown if one.name.startswith(word)]


def _state(before: list[str], known: dict[str, Any]) -> tuple[dict[str, Any], Command | None, int, str]:
    """The global options so far, the command, how many arguments it has, and the kind of a value that is due."""
    command: Command | None = None
    position, pending, pending_name = 0, "", ""
    for word in before:
        if pending:
            known[pending_name] = word
            pending = ""
        elif word.startswith("-") and len(word) > 1:
            name, equals, value = word.partition("=")
            option = options_of(command).get(name)
            if option is not None and equals:
                known[option.name] = value
            elif option is not None and option.kind != "flag":
                pending = f"choice:{','.join(option.choices)}" if option.choices else option.kind
                pending_name = option.name
        elif command is None:
            command = BY_NAME.get(word)
        else:
            position += 1
    return known, command, position, pending


def _offer(kind: str, word: str, known: dict[str, Any], context: Context | None) -> list[Candidate]:
    if kind.startswith("choice:"):
        return [(one, "") for one in kind[7:].split(",") if one.startswith(word)]
    if kind == "command":
        return _commands(word, shell=True)
    if kind == "pointer" and "key" in known:
        return _asked(lambda at: _paths(at, known["key"], word), known, context)
    source = _SOURCES.get(kind)
    return [] if source is None else _asked(lambda at: source(at, word), known, context)


def _asked(
    ask: Callable[[Context], Iterator[Candidate]], known: dict[str, Any], context: Context | None
) -> list[Candidate]:
    """The answers of a store; the shell hears of one that is out of reach, a line in another shell does not."""
    names = {option.name for option in GLOBALS}
    given = {name: value for name, value in known.items() if name in names and name not in ("format", "yes", "help")}
    if context is not None and not given:
        return list(islice(ask(context), MAX_CANDIDATES))
    other = Context({**(context.options if context else {}), **given, "read_only": True})
    try:
        return list(islice(ask(other), MAX_CANDIDATES))
    except (StateException, OSError):
        return []  # a person who presses TAB is not helped by an error in the middle of the line
    finally:
        other.close()


def _keys(context: Context, word: str) -> Iterator[Candidate]:
    """Keys by segment, like folders: `wf:` offers `wf:93:` once, however many keys are below it. O(offered log n)."""
    backend, after = context.manager.backend, ""
    for _ in range(MAX_CANDIDATES):
        page = backend.scan(word, after, 2)
        if not page:
            return
        key = page[0].key
        end = min((place for sign in _DIVIDERS if (place := key.find(sign, len(word))) >= 0), default=-1) + 1
        segment = key[:end]
        if end and len(page) > 1 and page[1].key.startswith(segment):
            yield segment, "…"
            after = segment + _LAST
        else:
            yield key, f"revision {page[0].revision}, {len(page[0].value or b''):,} bytes"
            after = key


def _paths(context: Context, key: str, word: str) -> Iterator[Candidate]:
    """JSON Pointers into a value: the next step below the one that is typed."""
    base = word[: word.rfind("/")]
    value = resolve_pointer(context.manager.load(key, None), base)
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
    for one in reversed(context.manager.checkpoints(all="@" in word)):
        if one.ref.startswith(word):
            yield one.ref, f"{one.time:%Y-%m-%d %H:%M:%S} {one.note}".strip()
    if "live".startswith(word):
        yield "live", "the present state"


def _checkpoints(context: Context, word: str) -> Iterator[Candidate]:
    return (found for found in _refs(context, word) if found[0] != "live")


def _namespaces(context: Context, word: str) -> Iterator[Candidate]:
    return ((name, "") for name in context.manager.namespaces() if name.startswith(word))


def _stores(context: Context, word: str) -> Iterator[Candidate]:
    from ..backends import BUILT_IN, mask, registered

    named = {name: mask(url) for name, url in settings.find().stores().items()}
    known = {kind.name: kind.title for kind in BUILT_IN.values()} | dict.fromkeys(registered(), "") | named
    return ((name, help) for name, help in known.items() if name.startswith(word))


_SOURCES: dict[str, Callable[[Context, str], Iterator[Candidate]]] = {
    "key": _keys,
    "pattern": _keys,
    "ref": _refs,
    "checkpoint": _checkpoints,
    "namespace": _namespaces,
    "store": _stores,
}
