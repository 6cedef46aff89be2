"""What a page of `serve` may not do: use a file or a program of the server, or open a store that it does not list."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

from ...backends import mask
from ...cli.commands.explain import words_of
from ...cli.definition import Command
from ...cli.exit_codes import UsageError
from ...cli.parser import options_of, parse

TERMINAL_HINT = "Use a terminal there"
_DOWNLOAD = "'export' alone shows the text, and S there saves it as a download"


def check_command(
    command: Command, arguments: dict[str, Any], options: dict[str, Any], stores: Collection[str]
) -> None:
    """Check the arguments of a command by their kinds in the table of commands.

    Args:
        command: the command.
        arguments: its arguments and options.
        options: the global options of its line.
        stores: the stores that the page may open.

    Raises:
        UsageError: the line names a file or a store of the server, or would write a file or run a program there.

    """
    if command.local:
        raise on_server(f"'{command.name}'")
    for option in {option.name: option for option in options_of(command).values()}.values():
        name = option.name.replace("-", "_")
        given = [values[name] for values in (arguments, options) if values.get(name)]  # both can name a store
        if given and option.local:
            raise on_server(f"--{option.name}")
        for word in itertools.chain.from_iterable(one if isinstance(one, list) else [one] for one in given):
            if option.kind == "store":
                check_store(word, stores)
            elif option.kind == "path" and word != "-":
                raise on_server("a file", _DOWNLOAD if command.name == "export" else TERMINAL_HINT)
            elif option.kind == "value" and word[:1] == "@" != word and not arguments.get("string"):
                raise on_server(word[:60], "Give the value")
        if given and option.kind == "line":
            inner = parse(words_of(given[0]))
            if inner.command is not None:
                check_command(inner.command, inner.arguments, inner.globals, stores)


def check_store(store: str, stores: Collection[str]) -> None:
    """Check that a page may open a store.

    Raises:
        UsageError: the store is none of the page's. The hint lists them.

    """
    if store not in stores:
        raise UsageError(
            f"{mask(store)[:60]} is refused in a browser: the server would open it",
            f"Choose one of {', '.join(sorted(map(mask, stores)))}",
        )


def on_server(what: str, hint: str = TERMINAL_HINT) -> UsageError:
    """Build the error about what is of the server's machine, such as a file."""
    return UsageError(f"{what} is refused in a browser: it would be on the server", hint)
