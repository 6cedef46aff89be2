"""What a page of `serve` may not do with its server's files, programs and stores: of every command and option."""

from __future__ import annotations

from typing import Any

import pytest

from stateview.cli.definition import COMMANDS, Command, Option
from stateview.cli.exit_codes import UsageError
from stateview.cli.parser import options_of
from stateview.dashboard.actions.command_line import Candidate, argument_candidates, parse_line, refusal
from stateview.dashboard.actions.page_access import check_command
from stateview.dashboard.actions.runner import ActionContext
from stateview.manager import StateManager

STORES = ["prod", "sqlite:state"]
# A new command, option or kind is in none of these lists. Decide whether it can name a file, a program or a store.
COMMANDS_OF_A_PAGE = frozenset(
    "append assert bisect blame checkpoint checkpoints compact completion connect delete diff doctor drop entry exit"  # noqa: SIM905
    " expire explain export find fork help history import increment keys load log merge migrate namespaces patch plot"
    " prune recover redo rename restore revert run save stats undo use wait watch".split()
)
KINDS_OF_THE_STORE = frozenset(
    "key pattern pointer ref revision checkpoint namespace run run-or-step condition int duration choice"  # noqa: SIM905
    " command".split()
)
FLAGS = frozenset(
    "all delete dry-run exit-code force help history json merge newest-first no-pager pager patch plain quiet read-only"  # noqa: SIM905
    " regex replace skip skip-conflicts string summary table yes".split()
)
TEXTS = frozenset(
    "author by duration grep jsonpath new note older-than path pattern reason rename seconds strip-prefix to".split()  # noqa: SIM905
)
REFUSED = {
    "path": "/etc/passwd",
    "store": "sqlite:elsewhere",
    "value": "@/etc/passwd",
    "line": "import /etc/passwd",
}


def of_a_page() -> list[Command]:
    return [command for command in COMMANDS if not refusal(command, True)]


def test_each_command_is_decided() -> None:
    assert {command.name for command in of_a_page()} == COMMANDS_OF_A_PAGE


@pytest.mark.parametrize("command", of_a_page(), ids=lambda command: command.name)
def test_each_option_that_can_name_a_file_or_a_store_is_refused_and_each_other_is_decided(command: Command) -> None:
    options = {option.name: option for option in options_of(command).values()}.values()
    undecided = [option.name for option in options if not is_refused(command, option) and not is_harmless(option)]
    assert undecided == []


def is_refused(command: Command, option: Option) -> bool:
    if not option.local and option.kind not in REFUSED:
        return False
    given: Any = True if option.kind == "flag" else REFUSED[option.kind]
    with pytest.raises(UsageError, match="refused in a browser"):
        check_command(command, {option.name.replace("-", "_"): [given] if option.many else given}, {}, STORES)
    return True


def is_harmless(option: Option) -> bool:
    named = {"flag": FLAGS, "text": TEXTS}.get(option.kind)
    return option.kind.partition(":")[0] in KINDS_OF_THE_STORE if named is None else option.name in named


LINES = (
    "export /tmp/out.json", "export -- out", "export --file out", "import in.jsonl", "import redis://localhost:6379/0",
    "import --from in.jsonl",
    "import -", "migrate prod sqlite:new --switch", "migrate prod sqlite:new", "migrate prod prod --switch", "demo",
    "diff 1 --with-store json:/etc", "restore 1 --from-store sqlite:x --keys k", "-s sqlite:/x keys", "doctor json:/x",
    "-s json:/x doctor prod",
    "connect sqlite:/x", "init", "edit k", "shell", "key new", "key rotate --key-file f", "source f", "serve",
    "_complete -- -s sqlite:/x keys", "explain import f", "explain -s sqlite:/x keys", "explain 'export f'",
    "explain explain export f", "patch k @f", "merge k @f", "append k @f", "save k @f", "keys > f", "keys | cat", "!id",
)  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=map(str, range(len(LINES))))
def test_a_line_of_a_page_reaches_nothing_of_the_server(line: str) -> None:
    with pytest.raises(UsageError):
        parse_line(line, STORES)


@pytest.mark.parametrize(
    "line",
    ("export", "export -", "-s prod keys", "diff 1 --with-store prod", "migrate prod sqlite:state", "connect prod"),
)
def test_a_page_reaches_what_it_lists(line: str) -> None:
    assert parse_line(line, STORES).command is not None


def test_the_hint_masks_passwords() -> None:
    with pytest.raises(UsageError) as caught:
        parse_line("-s redis://:secret1@h/0 keys", ["redis://:secret2@h/0"])
    assert "secret" not in str(caught.value) and "redis://:***@h/0" in str(caught.value)


def test_a_page_completes_nothing_of_another_store(tmp_path: Any) -> None:
    with StateManager(f"sqlite:{tmp_path / 'other'}", "work") as other:
        other.save("hidden", 1)
    with StateManager(f"sqlite:{tmp_path / 'own'}", "work") as own:
        own.save("seen", 1)
        words = ["-s", other.url, "load", ""]
        context = ActionContext(own, {"namespace": "work"})
        assert [one.text for one in argument_candidates(words, context, None)] == ["hidden"]
        with pytest.raises(UsageError, match="refused in a browser"):
            argument_candidates(words, context, [own.url])
        assert argument_candidates(["export", ""], context, [own.url]) == []  # and no file of the server
        seen: list[Candidate] = argument_candidates(["load", ""], context, [own.url])
        assert [one.text for one in seen] == ["seen"]
