"""The table of commands: names, arguments, options, help, examples, and where each one's handler is.

Nothing is imported here that a single command does not need. An argument may be given by position or as an option of
its name; its `kind` says how it is read and completed.
"""

from __future__ import annotations

from typing import NamedTuple


class Arg(NamedTuple):
    """A positional argument, which may also be given as `--NAME` or as one of `also`. `many` takes the rest."""

    name: str
    kind: str
    help: str
    required: bool = True
    many: bool = False
    also: tuple[str, ...] = ()


class Option(NamedTuple):
    """A named option. A `kind` of "flag" takes no value; `many` may be given more than once."""

    name: str
    kind: str
    help: str
    short: str = ""
    many: bool = False
    choices: tuple[str, ...] = ()


class Command(NamedTuple):
    """A command. `handler` is `MODULE:FUNCTION` in this package, called with a context and the bound arguments.

    One that is for the `shell` only makes no sense in a process of its own.
    """

    name: str
    handler: str
    help: str
    args: tuple[Arg, ...] = ()
    options: tuple[Option, ...] = ()
    aliases: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    more: str = ""
    hidden: bool = False
    shell: bool = False

    @property
    def usage(self) -> str:
        """The command with its arguments, such as `save KEY VALUE [options]`."""
        words = [self.name]
        for arg in self.args:
            word = arg.name.upper() + ("…" if arg.many else "")
            words.append(word if arg.required else f"[{word}]")
        return " ".join([*words, *(["[options]"] if self.options else [])])


FORMATS = ("pretty", "json", "jsonl", "raw", "table")

GLOBALS = (
    Option("store", "store", "store URL, json, sqlite, redis, or a name in stateview.toml [env STATEVIEW_STORE]", "-s"),
    Option("namespace", "namespace", "namespace [env STATEVIEW_NAMESPACE]", "-n"),
    Option("format", "choice", "how results are printed", choices=FORMATS),
    Option("read-only", "flag", "refuse every write"),
    Option("yes", "flag", "do not ask", "-y"),
    Option("author", "text", "who, for the log [env STATEVIEW_AUTHOR]"),
    Option("help", "flag", "help on the command", "-h"),
)

_KEY = Arg("key", "key", "the key")
_REF = Arg("ref", "ref", "a checkpoint, NAME@REVISION, a revision, live or live~N", also=("checkpoint",))
_AT = Option("at", "ref", "the state to read: a checkpoint, a revision, live~N (default: live)")
_KEYS = Option("keys", "pattern", "only these keys, by name or glob; may be repeated", "-k", many=True)
_LIMIT = Option("limit", "int", "at most so many (default: 100)", "-l")
_EXPECTED = Option("expected", "int", "only if live is at this revision")
_PREVIEWED = Option("previewed", "int", "only if nothing that it writes was written after this revision")
_AT_REVISION = Option("expected", "int", "only if the key is at this revision")
_REASON = Option("reason", "text", "why, for the log")
_DRY_RUN = Option("dry-run", "flag", "only show what would change")

_OLDER_THAN = Option("older-than", "text", "only what is older: a number and s, m, h, d or w, such as 30d")

_CONDITION = Arg("condition", "condition", "[PATH] OPERATOR [VALUE]", many=True)
_OPERATORS = (
    "Operators: == != < <= > >=, contains, matches (a regular expression), exists, missing.\n"
    "VALUE is JSON where it is valid, else a string. PATH is a JSON Pointer into the value."
)

COMMANDS = (
    Command(
        "init",
        "cli.commands.stores:init",
        "choose the store and namespace of this folder",
        (
            Arg("backend", "store", "json, sqlite, redis or a store URL (default: json)", required=False),
            Arg("namespace", "namespace", "its name (default: default)", required=False),
        ),
        examples=("init json workflow-123", "init sqlite:./state --namespace build"),
        more="Written to stateview.toml in this folder, which the commands find from here and below.",
    ),
    Command(
        "save",
        "cli.commands.keys:save",
        "save a value under a key",
        (_KEY, Arg("value", "value", "JSON, else a string; - reads standard input, @FILE a file")),
        (
            Option("string", "flag", "take the value as a string, whatever it looks like"),
            Option("json", "flag", "the value must be JSON"),
            Option("ttl", "duration", "when it expires, from now: 90 (seconds), 15m, 2h or 7d"),
            Option("expected", "int", "only if the key is at this revision; 0: only if it is absent"),
            _REASON,
        ),
        ("set",),
        (
            "save phase building",
            "save job '{\"tasks\": [1, 2]}'",
            "save port --string 8080",
            "save report @report.json",
        ),
    ),
    Command(
        "load",
        "cli.commands.keys:load",
        "print the value of a key",
        (_KEY, Arg("path", "pointer", "a JSON Pointer into the value, such as /tasks/0/name", required=False)),
        (_AT, Option("default", "value", "printed where there is no value")),
        ("get",),
        ("load job", "load job /tasks/0/name", "load phase --at after_planning"),
    ),
    Command(
        "delete",
        "cli.commands.keys:delete",
        "delete keys; their history stays",
        (Arg("key", "key", "keys or globs", many=True),),
        (_AT_REVISION, _PREVIEWED, _REASON),
        ("del",),
        ("delete phase", "delete 'tmp:*' --yes"),
    ),
    Command(
        "rename",
        "cli.commands.keys:rename",
        "give a key another name",
        (_KEY, Arg("new", "text", "its new name, under which there must be no value")),
        (_AT_REVISION, _REASON),
        examples=("rename task:1 task:01",),
        more="One commit; the expiry goes along. The earlier versions stay in the history of the old name.",
    ),
    Command(
        "expire",
        "cli.commands.keys:expire",
        "set or clear when a key expires",
        (_KEY, Arg("duration", "text", "from now: 90 (seconds), 15m, 2h or 7d; or never", also=("seconds",))),
        (_AT_REVISION, _REASON),
        examples=("expire lease 60", "expire lease 7d", "expire lease never"),
    ),
    Command(
        "keys",
        "cli.commands.keys:keys",
        "list the keys",
        (Arg("pattern", "pattern", "a glob such as 'task:*'", required=False),),
        (
            _AT,
            Option("prefix", "key", "only keys that start with this"),
            _LIMIT._replace(help="at most so many (default: all)"),
        ),
        ("ls",),
        ("keys", "keys 'task:*' --at before_build", "keys --format table"),
    ),
    Command(
        "namespaces", "cli.commands.stores:namespaces", "list the namespaces of the store", examples=("namespaces",)
    ),
    Command(
        "entry",
        "cli.commands.keys:entry",
        "a value with its revision, time and expiry",
        (_KEY,),
        (_AT,),
        examples=("entry phase", "entry phase --format json"),
    ),
    Command(
        "checkpoint",
        "cli.commands.checkpoints:checkpoint",
        "name the present state",
        (Arg("name", "checkpoint", "its name (default: auto_YYYYMMDD_HHMMSS)", required=False),),
        (
            Option("note", "text", "what it is, in a few words"),
            _AT,
            Option("delete", "flag", "delete the checkpoint; the state itself stays"),
            Option("rename", "text", "give it this name"),
        ),
        ("cp",),
        ("checkpoint after_planning --note 'plan approved'", "checkpoint early --at 12", "checkpoint early --delete"),
        more="A name that is there already moves; what it named stays reachable as NAME@REVISION.",
    ),
    Command(
        "checkpoints",
        "cli.commands.checkpoints:checkpoints",
        "list the checkpoints, oldest first",
        options=(Option("all", "flag", "also what moved names named before"),),
        examples=("checkpoints", "checkpoints --all --format table"),
    ),
    Command(
        "diff",
        "cli.commands.checkpoints:diff",
        "what changed between two states",
        (
            Arg("before", "ref", "the earlier state"),
            Arg("after", "ref", "the later one (default: live)", required=False),
        ),
        (
            _KEYS,
            Option("patch", "flag", "as a JSON Patch (RFC 6902)"),
            Option("summary", "flag", "only the keys and the counts"),
            Option("exit-code", "flag", "exit with 1 if there is a difference"),
            Option("with-namespace", "namespace", "take the later state from this namespace"),
            Option("with-store", "store", "take the later state from this store"),
        ),
        examples=(
            "diff after_planning",
            "diff 12 live~1 --keys 'task:*'",
            "diff live --with-namespace staging",
            "diff after_planning --patch > change.json",
        ),
    ),
    Command(
        "restore",
        "cli.commands.checkpoints:restore",
        "bring back a state, whole or some keys, as a new commit",
        (_REF,),
        (
            _KEYS,
            Option("path", "text", "only this change, as KEY#POINTER; may be repeated", many=True),
            _DRY_RUN,
            _EXPECTED,
            _PREVIEWED,
        ),
        examples=(
            "restore after_planning",
            "restore after_planning --keys 'task:*' --dry-run",
            "restore after_planning --path job#/tasks/0/state",
        ),
        more="A checkpoint before_restore_… is made first, and 'undo' takes it back. At a terminal it shows the diff\n"
        "and asks; in a script it goes ahead, since nothing is lost.\n"
        "--path takes the pointers that --dry-run shows. Where a removed (-) and another change of one array have the\n"
        "same, it means both; the sign before the pointer (job#-/tasks/1) means the one alone.",
    ),
    Command(
        "undo",
        "cli.commands.checkpoints:undo",
        "take back the last commit that still stands",
        options=(_DRY_RUN, _EXPECTED),
        examples=("undo", "undo --dry-run"),
    ),
    Command(
        "redo",
        "cli.commands.checkpoints:redo",
        "bring back what the last undo took away",
        options=(_DRY_RUN, _EXPECTED),
        examples=("redo", "redo --dry-run"),
    ),
    Command(
        "log",
        "cli.commands.checkpoints:log",
        "list the commits, newest first",
        options=(_LIMIT, Option("below", "int", "only revisions below this one")),
        examples=("log --limit 20",),
    ),
    Command(
        "history",
        "cli.commands.checkpoints:history",
        "list the versions of a key, newest first",
        (_KEY,),
        (_LIMIT,),
        examples=("history phase",),
    ),
    Command(
        "blame",
        "cli.commands.checkpoints:blame",
        "the commit that last changed a value, or a place inside it",
        (_KEY, Arg("path", "pointer", "a JSON Pointer into the value", required=False)),
        examples=("blame job /tasks/0/state",),
    ),
    Command(
        "fork",
        "cli.commands.stores:fork",
        "start a new namespace as this one is, or was",
        (Arg("to", "text", "the new namespace's name"),),
        (_AT,),
        examples=("fork experiment --at after_planning",),
    ),
    Command(
        "watch",
        "cli.commands.stores:watch",
        "print changes as they are committed, by anyone",
        options=(
            _KEYS,
            Option("since", "ref", "start with what changed since this state (default: live)"),
            Option("timeout", "duration", "end after so long without a change: 90 (seconds), 15m, 2h"),
            Option("count", "int", "end after so many changes"),
        ),
        examples=("watch", "watch --keys 'task:*' --format jsonl"),
    ),
    Command(
        "find",
        "cli.commands.search:find",
        "search keys and values",
        (Arg("pattern", "text", "text, or a glob such as '*fail*'", required=False),),
        (
            Option("regex", "flag", "the pattern is a regular expression"),
            Option("jsonpath", "text", "what a JSONPath (RFC 9535) finds in the values, such as '$..state'"),
            Option("in", "choice", "where to look (default: both)", choices=("keys", "values", "both")),
            _KEYS,
            _AT,
            _LIMIT._replace(help="end after so many matches"),
        ),
        examples=(
            "find failed",
            "find '^task:0[1-3]$' --regex --in keys",
            "find --jsonpath '$..state' --keys 'task:*'",
        ),
        more="Of a long value the place is shown where it was found; --format json, jsonl or raw has all of it.",
    ),
    Command(
        "assert",
        "cli.commands.assertions:check",
        "exit with 1 unless a condition is true",
        (Arg("subject", "key", "a key, or a ref to compare two states"), _CONDITION),
        (_AT,),
        examples=(
            "assert phase == building",
            "assert job /limits/errors '<' 10",
            "assert live == after_planning",
            "assert error missing",
        ),
        more=_OPERATORS,
    ),
    Command(
        "wait",
        "cli.commands.assertions:wait",
        "wait until a condition is true",
        (_KEY, _CONDITION),
        (Option("timeout", "duration", "how long to wait at most: 90 (seconds), 15m, 2h (default: 30)"),),
        examples=("wait phase == done --timeout 60", "wait job /tasks/0/state != running"),
        more=_OPERATORS,
    ),
    Command(
        "bisect",
        "cli.commands.assertions:bisect",
        "the commit that first made a condition true",
        (_KEY, _CONDITION),
        (
            Option("since", "ref", "the earliest state to look at (default: the oldest kept)"),
            Option("until", "ref", "a state in which it is true (default: live)"),
        ),
        examples=("bisect job /limits/tokens '>' 1000000", "bisect error exists"),
        more="Reads O(log n) states, so it takes the condition to stay true once it is.\n" + _OPERATORS,
    ),
    Command(
        "edit",
        "cli.commands.edit:edit",
        "edit a value in $EDITOR",
        (_KEY,),
        examples=("edit job",),
        more="What is not valid JSON comes back to be mended. If another wrote the key meanwhile, nothing is written.",
    ),
    Command(
        "shell",
        "shell.command:start",
        "a prompt to ask and script with",
        (Arg("store", "store", "the store (default: as everywhere)", required=False),),
        (
            Option("file", "path", "run the lines of a file", "-f"),
            Option("command", "text", "run this line; may be repeated", "-c", many=True),
            Option("keep-going", "flag", "go on after an error; exit with its code all the same"),
        ),
        examples=("shell", "shell -f check.sv", "shell -c 'use staging' -c 'assert phase == done'"),
        more="Without -f and -c it reads standard input; there is a prompt only at a terminal.",
    ),
    Command(
        "dashboard",
        "dashboard.command:start",
        "look at the state: browse, diff and restore",
        (Arg("store", "store", "the store (default: as everywhere)", required=False),),
        (
            Option("at", "ref", "open at this state instead of live"),
            Option("theme", "text", "its colours [stateview.toml: theme]"),
        ),
        ("ui",),
        ("dashboard", "dashboard sqlite:./state -n staging", "ui prod --read-only", "dashboard --at after_planning"),
        more="At a terminal, 'stateview' alone opens it too. '?' in it tells what can be pressed, and each act shows\n"
        "its command line.",
    ),
    Command(
        "serve",
        "dashboard.web.command:serve",
        "the dashboard as a web page",
        (Arg("store", "store", "the store (default: as everywhere)", required=False),),
        (
            Option("host", "text", "address to listen on (default: 127.0.0.1)"),
            Option("port", "int", "port (default: 8642; 0: any free one)"),
            Option("write", "flag", "allow writes; without it the page is read-only"),
            Option("open", "flag", "open it in the browser"),
        ),
        examples=("serve", "serve --open", "serve prod --port 0", "serve --write"),
        more="Prints a URL with a token, without which nothing is shown, and runs until Ctrl-C. Whoever opens the URL\n"
        "reads the state, and with --write changes it. What is sent is not encrypted: listen to other machines\n"
        "(--host) only in a network that you trust.",
    ),
    Command(
        "use",
        "shell.commands:use",
        "go to another namespace",
        (Arg("namespace", "namespace", "its name"),),
        examples=("use staging",),
        shell=True,
    ),
    Command(
        "connect",
        "shell.commands:connect",
        "go to another store",
        (Arg("store", "store", "store URL, json, sqlite, redis, or a name in stateview.toml"),),
        examples=("connect sqlite:./state", "connect prod"),
        shell=True,
    ),
    Command(
        "begin",
        "shell.commands:begin",
        "begin a transaction",
        examples=("begin",),
        shell=True,
        more="save, load, delete and keys are then of the transaction, until commit or rollback.",
    ),
    Command(
        "commit",
        "shell.commands:commit",
        "commit the transaction",
        options=(_REASON,),
        examples=("commit",),
        shell=True,
    ),
    Command("rollback", "shell.commands:rollback", "forget the transaction", examples=("rollback",), shell=True),
    Command(
        "option",
        "shell.commands:option",
        "show or set how the shell behaves",
        (
            Arg("name", "choice:format,pager,timing,editing", "format, pager, timing or editing", required=False),
            Arg(
                "value",
                "text",
                "format: a format or auto; pager, timing: on or off; editing: emacs or vi",
                required=False,
            ),
        ),
        examples=("option", "option format json", "option timing on", "option editing vi"),
        shell=True,
    ),
    Command(
        "alias",
        "shell.commands:alias",
        "name the beginning of a line",
        (
            Arg("name", "text", "the name", required=False),
            Arg("words", "raw", "what it stands for; none: forget it", required=False, many=True),
        ),
        examples=("alias", "alias back restore after_planning --keys job"),
        shell=True,
    ),
    Command(
        "source",
        "shell.commands:source",
        "run the lines of a file",
        (Arg("file", "path", "the file"),),
        examples=("source check.sv",),
        shell=True,
    ),
    Command("exit", "shell.commands:leave", "leave the shell", aliases=("quit",), examples=("exit",), shell=True),
    Command(
        "doctor",
        "cli.commands.health:doctor",
        "check all that is stored, without changing anything",
        (Arg("store", "store", "the store (default: as everywhere)", required=False),),
        examples=("doctor", "doctor --format json", "doctor redis://localhost:6379/0 -n build"),
        more="Says of each finding what it means and what to do. An error is damage, or what could not be read: exit\n"
        "code 3. A warning is sound as it is and may lose state some day; a note is good to know: exit code 0.",
    ),
    Command(
        "recover",
        "cli.commands.health:recover",
        "check the namespace, and mend what can be mended",
        more="Damaged files are kept beside, under a name with the time. No value is guessed.",
        examples=("recover",),
    ),
    Command(
        "prune",
        "cli.commands.maintenance:prune",
        "forget checkpoints, and history if asked for, and give the space back",
        (
            Arg(
                "pattern",
                "checkpoint",
                "the checkpoints to choose from, by name or glob (default: the automatic ones)",
                required=False,
                many=True,
            ),
        ),
        (
            Option("keep", "int", "not the last so many of them"),
            _OLDER_THAN,
            Option("history", "flag", "the same goes for the revisions of the history"),
            _DRY_RUN._replace(help="only show what would go, and about how much would come back"),
        ),
        examples=(
            "prune --keep 20 --dry-run",
            "prune --older-than 30d --history --yes",
            "prune 'nightly_*' --keep 7 --older-than 2w",
        ),
        more="Automatic are auto_… and before_… with a time; what a person named goes only when it is named.\n"
        "With --keep and --older-than only what both let go goes. What anything that stays needs is not touched.\n"
        "It cannot come back: at a terminal it shows what would go and asks, in a script it needs --yes.",
    ),
    Command(
        "compact",
        "cli.commands.maintenance:compact",
        "give back the space of what nothing can show any more, or forget history",
        options=(
            Option("keep", "int", "forget the history, but for the last so many revisions"),
            _OLDER_THAN._replace(help="forget the history that is older: a number and s, m, h, d or w, such as 30d"),
            _DRY_RUN._replace(help="only show what would go, and about how much would come back"),
        ),
        examples=("compact", "compact --keep 1000 --dry-run", "compact --older-than 12w --yes"),
        more="Without --keep and --older-than nothing goes that could be asked for, so it does not ask. What\n"
        "checkpoints see stays in any case. Others may write meanwhile, but for the rewriting of SQLite's file at the\n"
        "end.",
    ),
    Command(
        "stats",
        "cli.commands.maintenance:stats",
        "the namespace in numbers: keys, history, checkpoints, largest values, growth, size on disk",
        options=(Option("all", "flag", "a table of all namespaces of the store"),),
        examples=("stats", "stats --format json", "stats --all --format table"),
        more="Sizes are of values as they are encoded, in bytes. Reads through all keys, but not their values.",
    ),
    Command(
        "migrate",
        "cli.commands.migrate:migrate",
        "move a namespace into another store, with its checkpoints and history",
        (
            Arg("from", "store", "the store to read"),
            Arg("to", "store", "the store to write"),
        ),
        (
            Option("all", "flag", "all namespaces of the store"),
            Option("dry-run", "flag", "read everything, and only say what would be moved"),
            Option("force", "flag", "also over another namespace, which is kept aside, with a checkpoint in it"),
            Option("switch", "flag", "make it the store of this folder's stateview.toml afterwards"),
        ),
        examples=(
            "migrate --from json --to sqlite --switch",
            "migrate sqlite:./state redis://localhost:6379/0 -n build",
            "migrate json sqlite --all --format json",
        ),
        more="The source is not touched, and may be written to meanwhile. The copy is read back and compared before\n"
        "it is there for anyone. Interrupted or killed, run it again: it goes on where it was.\n"
        "With --format json each line is progress, or a report.",
    ),
    Command(
        "export",
        "cli.commands.export_import:export",
        "write the namespace into a file",
        (
            Arg(
                "file",
                "path",
                "FILE.jsonl or FILE.json, also with .gz (default, or -: standard output)",
                required=False,
            ),
        ),
        (
            Option(
                "as", "choice", "jsonl: with the whole history; json: {key: value}, sorted", choices=("jsonl", "json")
            ),
            _AT._replace(help="the state to export, as json: a checkpoint, a revision, live~N"),
            _KEYS._replace(help="only these keys, as json, by name or glob; may be repeated"),
        ),
        examples=(
            "export backup.jsonl.gz",
            "export state.json --at after_planning",
            "export --as json --keys 'task:*'",
        ),
        more="Of one revision, whatever others write meanwhile; the file is there whole, or not at all.\n"
        "A file that is there is overwritten only with --yes, or when a person says so.",
    ),
    Command(
        "import",
        "cli.commands.export_import:import_",
        "take in an export, a JSON object, an older layout, or any Redis",
        (Arg("source", "path", "a file, a folder, - for standard input, or redis://HOST:PORT/DB"),),
        (
            Option("merge", "flag", "into a namespace that is there: write the source's keys, leave all others"),
            Option("replace", "flag", "into a namespace that is there: make all keys as they are in the source"),
            _DRY_RUN,
            Option("force", "flag", "also an export of another lineage, or an older one"),
            Option(
                "as", "choice", "what the file is (default: what it is found to be)", choices=("jsonl", "json", "state")
            ),
            Option("pattern", "text", "of a Redis the keys that match, such as 'app:*'"),
            Option("strip-prefix", "text", "take this off the beginning of those keys"),
            Option("string", "flag", "take those values that are not JSON as text"),
            Option("skip", "flag", "leave out those keys that are no strings"),
        ),
        examples=(
            "import backup.jsonl.gz -n copy",
            "import state.json --merge --dry-run",
            "import backup.jsonl --replace",
            "import redis://localhost:6379/0 --pattern 'app:*' --strip-prefix app: -n app",
        ),
        more="A new namespace is made of it, with all history where that is in the file. In one that is there it is\n"
        "one commit, which 'undo' takes back; --replace makes a checkpoint before_import_… first. At a terminal it\n"
        "shows the diff and asks; in a script it goes ahead, since nothing is lost. Without a pattern, what is taken\n"
        "from a Redis are the keys state:NS:* and checkpoint:NS:* of the older layout.",
    ),
    Command(
        "demo",
        "cli.commands.demo:demo",
        "make a small store, and walk through the main acts on it",
        (Arg("folder", "path", "where (default: stateview-demo)", required=False),),
        examples=("demo",),
    ),
    Command(
        "completion",
        "cli.completion:print_script",
        "print the completion script of a shell",
        (Arg("shell", "choice:bash,zsh,fish", "bash, zsh or fish"),),
        examples=('eval "$(stateview completion bash)"', "stateview completion fish | source"),
    ),
    Command(
        "help",
        "cli.commands.help:show",
        "help on a command, or on all",
        (Arg("command", "command", "its name", required=False),),
        examples=("help restore",),
    ),
    Command(
        "_complete",
        "cli.completion:complete",
        "what may come next",
        (Arg("words", "raw", "the words so far", False, True),),
        hidden=True,
    ),
)

BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}
