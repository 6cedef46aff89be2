"""The table of commands: name, group, handler, help, arguments, options and examples.

Every command line imports this module, so it imports nothing else of the package. The table is one file: a search for
a command's name finds all of it, and one import loads it. An argument can be given by position or as an option of its
name. Its `kind` decides how it is parsed and completed.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace


class Arg(Struct, frozen=True, gc=False):
    """A positional argument, which can also be given as `--NAME` or as one of `also`. `many` takes all that follow."""

    name: str
    kind: str
    help: str
    required: bool = True
    many: bool = False
    also: tuple[str, ...] = ()


class Option(Struct, frozen=True, gc=False):
    """A named option. The kind "flag" takes no value. `many` can be given more than once. `local`: as of a command."""

    name: str
    kind: str
    help: str
    short: str = ""
    many: bool = False
    choices: tuple[str, ...] = ()
    local: bool = False


class Act(Struct, frozen=True, gc=False):
    """What the first argument of a command can be. `takes` names the other arguments and options that it can have."""

    name: str
    usage: str
    help: str
    takes: tuple[str, ...] = ()
    requires: str = ""


class Command(Struct, frozen=True, gc=False):
    """A command of the command line, the shell and the dashboard.

    `group` is its heading in lists of commands. `handler` is `MODULE:FUNCTION` in this package; it is imported when the
    command runs, and called with a context and the parsed arguments. `shell` marks a command that only the shell has.
    `refuses` names the global options that could not change what the command does; `excludes` the pairs of options of
    which one would be ignored, each with the options that make both count. No option is ignored in silence. `acts` are
    the words that the first argument can be, for a command that does several things. `explain` says `effect`, what a
    command without a dry run changes, and `back`, what takes the change back. `local` marks what writes a file or runs
    a program of its machine, whatever its arguments: a page of `serve` refuses it, as it refuses arguments of the kind
    "path", each `@FILE`, and stores that it does not list.
    """

    name: str
    group: str
    handler: str
    help: str
    args: tuple[Arg, ...] = ()
    options: tuple[Option, ...] = ()
    aliases: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    more: str = ""
    hidden: bool = False
    shell: bool = False
    refuses: tuple[str, ...] = ()
    excludes: tuple[tuple[str, ...], ...] = ()
    acts: tuple[Act, ...] = ()
    effect: str = ""
    back: str = ""
    local: bool = False

    @property
    def usage(self) -> str:
        """Return the command with its arguments, such as `save KEY VALUE [options]`."""
        return self.synopsis + (" [options]" if self.options else "")

    @property
    def synopsis(self) -> str:
        """Return the command with its arguments, without the mention of options."""
        words = [self.name]
        for arg in self.args:
            word = arg.name.upper() + ("…" if arg.many else "")
            words.append(word if arg.required else f"[{word}]")
        return " ".join(words)


KEYS = "Keys and values"
STATES = "Checkpoints and history"
CONDITIONS = "Conditions"
STORES = "Stores and namespaces"
MAINTENANCE = "Maintenance"
INTERFACES = "Interfaces"
HELP = "Help"
SHELL = "Only in the shell"

GROUPS = (KEYS, STATES, CONDITIONS, STORES, MAINTENANCE, INTERFACES, HELP, SHELL)  # in the order of lists

FORMATS = ("pretty", "json", "jsonl", "raw", "table")

GLOBALS = (
    Option("store", "store", "store URL, json, sqlite, redis, or a name in stateview.toml [env STATEVIEW_STORE]", "-s"),
    Option("namespace", "namespace", "namespace [env STATEVIEW_NAMESPACE]", "-n"),
    Option("format", "choice", "format of the output", choices=FORMATS),
    Option("read-only", "flag", "refuse every write"),
    Option("yes", "flag", "answer yes to every question", "-y"),
    Option("author", "text", "author of the commits, for the log [env STATEVIEW_AUTHOR]"),
    Option("quiet", "flag", "print no notes about which store is used or made [env STATEVIEW_QUIET]", "-q"),
    Option("help", "flag", "print the help of the command", "-h"),
)

FOREIGN = (
    "A store can be another program's, which is only read: langgraph-sqlite:PATH, crewai:PATH, diskcache:PATH or\n"
    "redis-keys://HOST:PORT/DB. Of a file or folder the PATH alone is enough: its content tells what it is."
)
READS_ALONE = "It changes nothing."
BY_UNDO, BY_REDO, FOR_GOOD = "'undo' takes it back.", "'redo' takes it back.", "Nothing takes it back."
_READS = ("author",)  # the command makes no commit that could have an author
_KEY = Arg("key", "key", "the key")
_REF = Arg("ref", "ref", "a checkpoint, NAME@REVISION, a revision, live~N, or a time: @2h", also=("checkpoint",))
_STORE = Arg("store", "store", "the store (default: as for every command)", required=False)
_AT = Option("at", "ref", "the state to read: a checkpoint, a revision, live~N, @2h (default: live)")
_KEYS = Option("keys", "pattern", "only these keys, by name or else by glob; may be repeated", "-k", many=True)
_LIMIT = Option("limit", "int", "list at most N (default: 100)", "-l")
_EXPECTED = Option("expected", "revision", "fail unless live is at this revision")
_PREVIEWED = Option("previewed", "int", "fail if any key it would write has changed since this revision")
_AT_REVISION = Option("expected", "revision", "fail unless the key is at this revision")
_REASON = Option("reason", "text", "reason of the commit, for the log")
_DRY_RUN = Option("dry-run", "flag", "only show what would change")
_PAGER = (
    Option("pager", "flag", "open the diff on the full screen, with the keys of the dashboard, even if it fits"),
    Option("no-pager", "flag", "print the diff, even if it does not fit the screen"),
)
_FILTERS = (
    _LIMIT,
    Option("below", "int", "only revisions below this one"),
    Option("by", "text", "only those by this author, by name or glob; may be repeated", many=True),
    Option("since", "ref", "only those after this state, or from this time on: 2h (ago), 2026-11-28T10:00"),
    Option("until", "ref", "only those up to this state or time"),
    Option("grep", "text", "only those with this text in the reason of their commit"),
)
_TIMES = (
    "Times are those of refs, with or without the @. Without a zone they are local. A checkpoint's name comes before\n"
    "a time of the same spelling."
)
_OLDER_THAN = Option(
    "older-than", "text", "only checkpoints older than this: a number and s, m, h, d or w, such as 30d"
)

_ACTS = (
    Act("new", "new", "print a new random key, which opens nothing yet"),
    Act("status", "status", "tell whether the namespace is encrypted, and which keys open it"),
    Act("on", "on [--label]", "encrypt a namespace that has data, with the key in use", ("label",)),
    Act("off", "off", "make an encrypted namespace plain"),
    Act(
        "add",
        "add [--label] [--key-file, --passphrase]",
        "let another key open the namespace: print a new one, or take one",
        ("label", "key-file", "passphrase"),
    ),
    Act("remove", "remove NAME", "let a key no longer open the namespace", ("name",), "name"),
    Act(
        "rotate",
        "rotate [--key-file, --passphrase]",
        "replace the key in use: print a new one, or take one",
        ("data", "key-file", "passphrase"),
    ),
    Act("rotate", "rotate --data [--key-file]", "seal all with a new data key, so that removed keys open nothing"),
)

_RUN_ACTS = (
    Act("status", "status", "list the runs: where each is, since when, and in which process"),
    Act("steps", "steps [RUN]", "list the steps of a run: state, tries, seconds, items, error", ("name",)),
    Act("retry", "retry STEP [--run]", "let the next run do this step again", ("name", "run"), "name"),
    Act("reset", "reset STEP [--run]", "let the next run do this step and all after it again", ("name", "run"), "name"),
    Act("unlock", "unlock [RUN]", "take a run away from its process, which can then write no more", ("name",)),
)

PLACE = Arg("key", "key", "a key, or KEY#POINTER for a place inside its value")
PLACES = (
    "KEY#POINTER is a place inside the value of KEY, by a JSON Pointer; - appends to an array. The rest of the value\n"
    "and its expiry stay. A key that contains #/ comes first."
)
_KEPT = "It is one commit, which loses no change of another writer. The expiry stays."

_CONDITION = Arg("condition", "condition", "[PATH] OPERATOR [VALUE]", many=True)
_OPERATORS = (
    "Operators: == != < <= > >=, contains, matches (a regular expression), exists, missing.\n"
    "VALUE is JSON if it is valid JSON, otherwise a string. PATH is a JSON Pointer into the value."
)

COMMANDS = (
    # --- keys and values ---------------------------------------------------------------------------------------------
    Command(
        "save",
        KEYS,
        "cli.commands.keys:save",
        "save a value under a key",
        (PLACE, Arg("value", "value", "JSON, otherwise a string; - reads standard input, @FILE reads a file")),
        (
            Option("string", "flag", "save the value as a string, even if it is valid JSON"),
            Option("json", "flag", "fail unless the value is valid JSON"),
            Option("ttl", "duration", "let the key expire after this time: 90 (seconds), 15m, 2h or 7d"),
            Option("expected", "revision", "fail unless the key is at this revision; 0: fail if the key exists"),
            _DRY_RUN,
            _REASON,
        ),
        ("set",),
        (
            "save phase building",
            "save job '{\"tasks\": [1, 2]}'",
            "save port --string 8080",
            "save report @report.json",
            "save 'job#/limits/tokens' 5",
        ),
        more=PLACES,
        back=BY_UNDO,
    ),
    Command(
        "load",
        KEYS,
        "cli.commands.keys:load",
        "print the value of a key",
        (_KEY, Arg("path", "pointer", "a JSON Pointer into the value, such as /tasks/0/name", required=False)),
        (_AT, Option("default", "value", "print this if there is no value")),
        ("get",),
        ("load job", "load job /tasks/0/name", "load phase --at after_planning", "load phase --at @2h"),
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "delete",
        KEYS,
        "cli.commands.keys:delete",
        "delete keys and keep their history",
        (Arg("key", "key", "keys, else globs", required=False, many=True),),
        (
            Option("prefix", "key", "instead: all keys that start with this text, which is no glob"),
            _AT_REVISION,
            _PREVIEWED,
            _DRY_RUN,
            _REASON,
        ),
        ("del",),
        ("delete phase", "delete 'tmp:*' --yes", "delete --prefix tmp: --yes"),
        more="It is one commit, and 'undo' takes it back. With a glob or --prefix it asks; a script needs --yes.\n"
        "--dry-run shows the keys that would go.",
        excludes=(("expected", "previewed"), ("key", "prefix"), ("expected", "prefix")),
        back=BY_UNDO,
    ),
    Command(
        "rename",
        KEYS,
        "cli.commands.keys:rename",
        "rename a key",
        (_KEY, Arg("new", "text", "its new name, which no other key may have")),
        (_AT_REVISION, _DRY_RUN, _REASON),
        examples=("rename task:1 task:01",),
        more="A rename is one commit and keeps the expiry. Earlier versions stay in the history of the old name.",
        back=BY_UNDO,
    ),
    Command(
        "expire",
        KEYS,
        "cli.commands.keys:expire",
        "set or clear the expiry of a key",
        (_KEY, Arg("duration", "text", "time from now: 90 (seconds), 15m, 2h or 7d; or never", also=("seconds",))),
        (_AT_REVISION, _DRY_RUN, _REASON),
        examples=("expire lease 60", "expire lease 7d", "expire lease never"),
        back=BY_UNDO,
    ),
    Command(
        "patch",
        KEYS,
        "cli.commands.places:patch",
        "apply a JSON Patch (RFC 6902) to a value",
        (_KEY, Arg("value", "value", "an array of operations; - reads standard input, @FILE reads a file")),
        (_AT_REVISION, _DRY_RUN, _REASON),
        examples=('patch job \'[{"op": "add", "path": "/tries", "value": 2}]\'',),
        more=_KEPT,
        back=BY_UNDO,
    ),
    Command(
        "merge",
        KEYS,
        "cli.commands.places:merge",
        "merge a patch into a value (RFC 7396): null removes a member",
        (_KEY, Arg("value", "value", "JSON; - reads standard input, @FILE reads a file")),
        (_AT_REVISION, _DRY_RUN, _REASON),
        examples=('merge job \'{"limits": {"tokens": 5}, "error": null}\'',),
        more=_KEPT,
        back=BY_UNDO,
    ),
    Command(
        "increment",
        KEYS,
        "cli.commands.places:increment",
        "add to a number, and print the new number",
        (PLACE, Arg("by", "value", "the number to add (default: 1)", required=False)),
        (_DRY_RUN, _REASON),
        examples=("increment count", "increment 'job#/tries' 2"),
        more=f"What is not there yet begins with 0. {_KEPT}",
        back=BY_UNDO,
    ),
    Command(
        "append",
        KEYS,
        "cli.commands.places:append",
        "append a value to an array",
        (PLACE, Arg("value", "value", "JSON, otherwise a string; - reads standard input, @FILE reads a file")),
        (
            Option("string", "flag", "append the value as a string, even if it is valid JSON"),
            Option("json", "flag", "fail unless the value is valid JSON"),
            _DRY_RUN,
            _REASON,
        ),
        examples=("append notes started", "append 'job#/tags' urgent"),
        more=f"What is not there yet begins with an empty array. {_KEPT}",
        back=BY_UNDO,
    ),
    Command(
        "keys",
        KEYS,
        "cli.commands.keys:keys",
        "list the keys",
        (Arg("pattern", "pattern", "a glob such as 'task:*'", required=False),),
        (
            _AT,
            Option("prefix", "key", "only keys that start with this text"),
            replace(_LIMIT, help="list at most N (default: all)"),
        ),
        ("ls",),
        ("keys", "keys 'task:*' --at before_build", "keys --format table"),
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "entry",
        KEYS,
        "cli.commands.keys:entry",
        "print a value with its revision, time and expiry",
        (_KEY,),
        (_AT,),
        examples=("entry phase", "entry phase --format json"),
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "find",
        KEYS,
        "cli.commands.search:find",
        "search keys and values",
        (Arg("pattern", "text", "text, or a glob such as '*fail*'", required=False),),
        (
            Option("regex", "flag", "read the pattern as a regular expression"),
            Option("jsonpath", "text", "search the values that this JSONPath (RFC 9535) selects, such as '$..state'"),
            Option(
                "in", "choice", "search only keys, or only values (default: both)", choices=("keys", "values", "both")
            ),
            _KEYS,
            _AT,
            replace(_LIMIT, help="stop after N matches"),
        ),
        examples=(
            "find failed",
            "find '^task:0[1-3]$' --regex --in keys",
            "find --jsonpath '$..state' --keys 'task:*'",
        ),
        more="In values, the names of members are searched too. A match is shown with its JSON Pointer, for\n"
        "'load KEY PATH'. Long values are shortened around the match; --format json, jsonl or raw prints them whole.\n"
        "A regular expression that backtracks for over a second of CPU time is stopped, with exit code 2.",
        refuses=_READS,
        excludes=(("in", "jsonpath"),),
        effect=READS_ALONE,
    ),
    Command(
        "edit",
        KEYS,
        "cli.commands.edit:edit",
        "edit a value in $EDITOR",
        (_KEY,),
        examples=("edit job",),
        more="If the edited text is not valid JSON, the editor can be opened again. If another writer has changed the\n"
        "key meanwhile, nothing is written.",
        effect="It opens the value in $EDITOR, and saves what is made of it as one commit, which 'undo' takes back.",
        local=True,
    ),
    # --- checkpoints and history -------------------------------------------------------------------------------------
    Command(
        "checkpoint",
        STATES,
        "cli.commands.checkpoints:checkpoint",
        "create, rename or delete a checkpoint",
        (Arg("name", "checkpoint", "its name (default: auto_YYYYMMDD_HHMMSS)", required=False),),
        (
            Option("note", "text", "a short description"),
            replace(_AT, help="the state to name: a checkpoint, a revision, live~N, @2h (default: live)"),
            Option("delete", "flag", "delete the checkpoint; the state itself is kept"),
            Option("rename", "text", "rename the checkpoint to this name"),
            _DRY_RUN,
        ),
        ("cp",),
        ("checkpoint after_planning --note 'plan approved'", "checkpoint early --at 12", "checkpoint early --delete"),
        more="An existing name moves to the new state. The earlier state stays reachable as NAME@REVISION.",
        refuses=_READS,
        excludes=(("delete", "rename"), ("delete", "note"), ("delete", "at"), ("rename", "note"), ("rename", "at")),
    ),
    Command(
        "checkpoints",
        STATES,
        "cli.commands.checkpoints:checkpoints",
        "list the checkpoints, oldest first",
        options=(
            Option("all", "flag", "also list the earlier states of moved checkpoints, as NAME@REVISION"),
            Option("newest-first", "flag", "begin with the checkpoint that was made last"),
            replace(_LIMIT, help="list at most N (default: all)"),
        ),
        examples=("checkpoints", "checkpoints --newest-first --limit 5", "checkpoints --all --format table"),
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "diff",
        STATES,
        "cli.commands.checkpoints:diff",
        "show the changes between two states",
        (
            Arg("before", "ref", "the earlier state", required=False),
            Arg("after", "ref", "the later state (default: live)", required=False),
        ),
        (
            _KEYS,
            Option("patch", "flag", "print a JSON Patch (RFC 6902)"),
            Option("summary", "flag", "print only the keys and the counts"),
            Option("exit-code", "flag", "exit with 1 if there is a difference"),
            Option("with-namespace", "namespace", "take the later state from this namespace"),
            Option("with-store", "store", "take the later state from this store"),
            *_PAGER,
        ),
        examples=(
            "diff after_planning",
            "diff 12 live~1 --keys 'task:*'",
            "diff @yesterday @2h",
            "diff live --with-namespace staging",
            "diff after_planning --patch > change.json",
        ),
        more="At a terminal, a diff that does not fit opens on the full screen: ] goes through it, and q returns.\n"
        "Inside a transaction of the shell, the later state has its writes, and 'diff' alone shows what 'commit'\n"
        "would change.",
        refuses=_READS,
        excludes=(("patch", "summary"), ("pager", "no-pager"), ("patch", "pager"), ("summary", "pager")),
        effect=READS_ALONE,
    ),
    Command(
        "restore",
        STATES,
        "cli.commands.checkpoints:restore",
        "restore all or some keys to a state, as a new commit",
        (_REF,),
        (
            _KEYS,
            Option("path", "text", "restore only this change, as KEY#POINTER; may be repeated", many=True),
            Option("from-namespace", "namespace", "take the keys from a state of this namespace"),
            Option("from-store", "store", "take the keys from a state in this store"),
            _DRY_RUN,
            _EXPECTED,
            _PREVIEWED,
            _REASON,
            *_PAGER,
        ),
        examples=(
            "restore after_planning",
            "restore after_planning --keys 'task:*' --dry-run",
            "restore after_planning --path job#/tasks/0/state",
            "restore live --from-namespace staging --keys job",
        ),
        more="It first makes a checkpoint before_restore_…; 'undo' takes the restore back. At a terminal it shows the\n"
        "diff and asks; a diff that does not fit opens on the full screen, where y restores what is marked, and q\n"
        "leaves. In a script it does not ask, since nothing is lost.\n"
        "--path takes a pointer that --dry-run printed. If a removal and another change of one array share a pointer,\n"
        "it means both. With the printed sign before it (job#-/tasks/1) it means that change alone.\n"
        "--from-namespace and --from-store need --keys or --path. A chosen key that the other state lacks is deleted.",
        excludes=(
            ("pager", "no-pager"),
            ("pager", "path"),
            ("pager", "dry-run"),
            ("pager", "expected"),
            ("pager", "previewed"),
        ),
        back=BY_UNDO,
    ),
    Command(
        "revert",
        STATES,
        "cli.commands.checkpoints:revert",
        "take back one earlier commit, or bring one key back to an earlier revision",
        (
            Arg("key", "key", "the key to bring back", required=False),
            Arg("revision", "ref", "the state to bring it back to", required=False),
        ),
        (
            Option("commit", "ref", "take back the commit of this revision, and leave all later commits in place"),
            Option("skip-conflicts", "flag", "leave out the keys of the commit that were changed since"),
            _DRY_RUN,
            _EXPECTED,
            _PREVIEWED,
            _REASON,
            *_PAGER,
        ),
        examples=("revert --commit 12 --dry-run", "revert --commit 12 --skip-conflicts", "revert phase 12"),
        more="Each key that the commit wrote goes back to what it was before, if nobody has changed it since. If one\n"
        "was changed since, nothing is done, and it is named: --skip-conflicts leaves it out.\n"
        "It first makes a checkpoint before_revert_… (of a key: before_restore_…); 'undo' takes the revert back.\n"
        "'undo' alone takes back the last commit. At a terminal revert shows the diff and asks; a diff that does not\n"
        "fit opens on the full screen, where y goes ahead and q leaves.",
        excludes=(
            ("key", "commit"),
            ("key", "skip-conflicts"),
            ("key", "reason"),
            ("pager", "no-pager"),
            ("pager", "dry-run"),
            ("pager", "expected"),
            ("pager", "previewed"),
        ),
        back=BY_UNDO,
    ),
    Command(
        "undo",
        STATES,
        "cli.commands.checkpoints:undo",
        "undo the last commit that is not undone yet",
        options=(_DRY_RUN, _EXPECTED),
        examples=("undo", "undo --dry-run"),
        back=BY_REDO,
    ),
    Command(
        "redo",
        STATES,
        "cli.commands.checkpoints:redo",
        "redo the commit that was undone last",
        options=(_DRY_RUN, _EXPECTED),
        examples=("redo", "redo --dry-run"),
        back=BY_UNDO,
    ),
    Command(
        "log",
        STATES,
        "cli.commands.checkpoints:log",
        "list the commits, newest first",
        options=(
            *_FILTERS,
            Option("key", "pattern", "only commits that wrote this key, by name or glob; may be repeated", "-k", True),
        ),
        examples=("log --limit 20", "log --by 'agent-*' --since 2h", "log --key job --grep build"),
        more=_TIMES,
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "history",
        STATES,
        "cli.commands.checkpoints:history",
        "list the versions of a key, newest first",
        (_KEY,),
        _FILTERS,
        examples=("history phase", "history phase --by 'agent-*' --since yesterday"),
        more=_TIMES,
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "plot",
        STATES,
        "cli.commands.plot:plot",
        "draw a number over its history",
        (PLACE,),
        (replace(_LIMIT, help="draw at most the newest N versions (default: 1000)"), *_FILTERS[1:]),
        examples=("plot job#/limits/tokens", "plot 'job#/limits/tokens' --since yesterday --format jsonl"),
        more="A pipe gets the revisions, times and values. In a column of several versions, ░ goes from the least\n"
        "to the greatest.\n" + _TIMES,
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "blame",
        STATES,
        "cli.commands.checkpoints:blame",
        "show the commit that last changed a value, or a part of it",
        (_KEY, Arg("path", "pointer", "a JSON Pointer into the value", required=False)),
        (_AT,),
        examples=("blame job /tasks/0/state",),
        more="Of what was deleted it shows the commit that deleted it, and says so: deleted true. Of what expired it\n"
        "shows the commit that set the expiry: expired true.",
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "run",
        STATES,
        "cli.commands.runs:run",
        "list the runs of workflows and their steps, and have steps done again",
        (
            Arg("act", f"choice:{','.join(act.name for act in _RUN_ACTS)}", "what to do, see below"),
            Arg("name", "run-or-step", "of steps and unlock: the run; of retry and reset: the step", required=False),
        ),
        (Option("run", "run", "of retry and reset: the run (default: the only one)"),),
        examples=("run status", "run steps nightly", "run reset clean", "run unlock nightly"),
        more="'retry' and 'reset' are one commit, which 'undo' takes back. They are refused while the run goes on.\n"
        "What the steps wrote elsewhere stays; 'restore RUN.STEP' brings back the whole state after a step.",
        acts=_RUN_ACTS,
        effect="'status' and 'steps' change nothing. 'retry' and 'reset' are one commit, which 'undo' takes back.",
    ),
    # --- conditions --------------------------------------------------------------------------------------------------
    Command(
        "assert",
        CONDITIONS,
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
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "wait",
        CONDITIONS,
        "cli.commands.assertions:wait",
        "wait until a condition is true",
        (_KEY, _CONDITION),
        (Option("timeout", "duration", "wait at most this time: 90 (seconds), 15m, 2h (default: 30)"),),
        examples=("wait phase == done --timeout 60", "wait job /tasks/0/state != running"),
        more=_OPERATORS,
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "bisect",
        CONDITIONS,
        "cli.commands.assertions:bisect",
        "find the commit that first made a condition true",
        (_KEY, _CONDITION),
        (
            Option("since", "ref", "the earliest state to read (default: the oldest revision kept)"),
            Option("until", "ref", "a state in which the condition is true (default: live)"),
        ),
        examples=("bisect job /limits/tokens '>' 1000000", "bisect error exists"),
        more="It reads O(log n) states, and assumes that the condition stays true once it is true.\n" + _OPERATORS,
        refuses=_READS,
        effect=READS_ALONE,
    ),
    # --- stores and namespaces ---------------------------------------------------------------------------------------
    Command(
        "init",
        STORES,
        "cli.commands.stores:init",
        "choose the store and namespace of this folder",
        (
            Arg("backend", "store", "json, sqlite, redis or a store URL (default: json)", required=False),
            Arg("namespace", "namespace", "the namespace (default: default)", required=False),
        ),
        examples=("init json workflow-123", "init sqlite:./state --namespace build"),
        more="It writes stateview.toml into this folder. Commands in this folder and below use that file. It writes\n"
        "no password: at a terminal it asks for an environment variable; in a script give ${VARIABLE} in the URL.",
        refuses=_READS,
        effect="It writes stateview.toml in this folder. It changes no state.",
        local=True,
    ),
    Command(
        "namespaces",
        STORES,
        "cli.commands.stores:namespaces",
        "list the namespaces of the store",
        examples=("namespaces", "namespaces -s runs.sqlite", "namespaces --format json"),
        more="The column problem says why a namespace cannot be read. The exit code is then that of the first error.\n"
        + FOREIGN,
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "fork",
        STORES,
        "cli.commands.stores:fork",
        "copy this namespace, at a given state, into a new one",
        (Arg("to", "text", "the name of the new namespace"),),
        (replace(_AT, help="the state to copy: a checkpoint, a revision, live~N, @2h (default: live)"), _DRY_RUN),
        examples=("fork experiment --at after_planning",),
    ),
    Command(
        "drop",
        STORES,
        "cli.commands.stores:drop",
        "remove this namespace for good: values, checkpoints and history",
        options=(replace(_DRY_RUN, help="only show what the namespace holds"),),
        examples=("drop -n experiment --dry-run", "drop -n experiment --yes"),
        more="Nothing brings the namespace back: 'export' it first. At a terminal it shows the contents, and asks\n"
        "you to type the name. In a script it needs --yes. A later write makes a new namespace of this name.",
        refuses=_READS,
        back=FOR_GOOD,
    ),
    Command(
        "watch",
        STORES,
        "cli.commands.watch:watch",
        "print the changes of every writer as they are committed",
        (Arg("what", "pattern", "keys or globs; with /POINTER or KEY#POINTER only these places", False, True),),
        (
            _KEYS,
            Option("table", "flag", "at a terminal, keep a table of them up to date, until Ctrl-C"),
            Option("since", "ref", "begin with the changes since this state (default: live)"),
            Option("timeout", "duration", "stop after this time without a change: 90 (seconds), 15m, 2h"),
            Option("count", "int", "stop after N changes"),
        ),
        examples=(
            "watch",
            "watch --keys 'task:*' --format jsonl",
            "watch --table 'task:*' /state /tries",
            "watch --table job#/limits/tokens phase",
        ),
        more="A /POINTER is a column of each key, and KEY#POINTER a row of its own. The sign before a row says what\n"
        "happened to it: + came, - went, ~ changed. Without a terminal, each change of a place is a line.",
        refuses=_READS,
        excludes=(("table", "since"), ("table", "count")),
        effect=READS_ALONE,
    ),
    Command(
        "migrate",
        STORES,
        "cli.commands.migrate:migrate",
        "copy a namespace into another store, with its checkpoints and history",
        (
            Arg("from", "store", "the store to read"),
            Arg("to", "store", "the store to write"),
        ),
        (
            Option("all", "flag", "copy all namespaces of the store"),
            Option("dry-run", "flag", "read everything, and only report what would be copied"),
            Option(
                "force", "flag", "replace a different namespace in the destination, and keep the replaced one aside"
            ),
            Option("switch", "flag", "then make the destination the store of this folder's stateview.toml", local=True),
        ),
        examples=(
            "migrate --from json --to sqlite --switch",
            "migrate sqlite:./state redis://localhost:6379/0 -n build",
            "migrate json sqlite --all --format json",
            "migrate langgraph-sqlite:runs.sqlite sqlite:state --all",
        ),
        more="The source is not changed, and other programs may write to it meanwhile. The copy becomes visible after\n"
        "it has been read back and compared. If the migration is interrupted, run it again: it continues.\n"
        "With --format json each line is progress or a report.",
        refuses=("store",),
        excludes=(("namespace", "all", "switch"),),
    ),
    Command(
        "export",
        STORES,
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
            replace(_AT, help="the state to export, as json: a checkpoint, a revision, live~N, @2h"),
            replace(_KEYS, help="only these keys, as json, by name or glob; may be repeated"),
            Option("plain", "flag", "of an encrypted namespace: write plain text, not a sealed file"),
        ),
        examples=(
            "export backup.jsonl.gz",
            "export state.json --at after_planning",
            "export --as json --keys 'task:*'",
        ),
        more="The export is of one revision, even if others write meanwhile. The file is written whole or not at all.\n"
        "An existing file is overwritten only with --yes, or after a yes at the terminal.\n"
        "JSON Lines of an encrypted namespace are sealed with the key in use; 'import' needs this key.",
        refuses=_READS,
        effect="It writes a file. It changes no state.",
    ),
    Command(
        "import",
        STORES,
        "cli.commands.export_import:import_",
        "import an export, a JSON object, an older layout, or keys of any Redis",
        (
            Arg(
                "source",
                "path",
                "a file, a folder, -: standard input, redis://HOST:PORT/DB, or a store of another program",
                also=("from",),
            ),
        ),
        (
            Option("merge", "flag", "into an existing namespace: write the keys of the source, keep all others"),
            Option("replace", "flag", "into an existing namespace: make all keys as they are in the source"),
            _DRY_RUN,
            Option("force", "flag", "also import an older export, or one of another namespace's history"),
            Option("as", "choice", "format of the file (default: detected)", choices=("jsonl", "json", "state")),
            Option("pattern", "text", "import the keys of a Redis that match, such as 'app:*'"),
            Option("strip-prefix", "text", "remove this prefix from the names of those keys"),
            Option("string", "flag", "import values that are not JSON as strings"),
            Option("skip", "flag", "leave out keys whose type is not string"),
            *_PAGER,
        ),
        examples=(
            "import backup.jsonl.gz -n copy",
            "import state.json --merge --dry-run",
            "import backup.jsonl --replace",
            "import redis://localhost:6379/0 --pattern 'app:*' --strip-prefix app: -n app",
            "import --from langgraph-sqlite:runs.sqlite -n run-1",
        ),
        more="A new namespace gets all history that the file contains. Into an existing namespace, the import is one\n"
        "commit, and 'undo' takes it back; --replace first makes a checkpoint before_import_…. At a terminal it shows\n"
        "the diff and asks; a diff that does not fit opens on the full screen, where y goes ahead and q leaves. In a\n"
        "script it does not ask, since nothing is lost. From a Redis without --pattern it imports the keys state:NS:*\n"
        "and checkpoint:NS:* of the older layout. A sealed file is opened with the key in STATEVIEW_FILE_KEY, else\n"
        "with the key in use.\n" + FOREIGN,
        excludes=(("pager", "no-pager"), ("pager", "dry-run")),
        back=BY_UNDO,
    ),
    # --- maintenance -------------------------------------------------------------------------------------------------
    Command(
        "doctor",
        MAINTENANCE,
        "cli.commands.health:doctor",
        "check the namespace and report problems, without changing anything",
        (_STORE,),
        examples=("doctor", "doctor --format json", "doctor redis://localhost:6379/0 -n build"),
        more="Each finding says what it means and what to do. An error is damage, or data that cannot be read: exit\n"
        "code 3. A warning is a risk to data that is intact now. A note is information. Both exit with 0.",
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "recover",
        MAINTENANCE,
        "cli.commands.health:recover",
        "check the namespace and repair what can be repaired",
        more="A damaged file is kept beside the repaired one, under a name with the time. No value is guessed.",
        examples=("recover",),
        refuses=_READS,
        effect="It repairs what 'doctor' reports as damage. 'doctor' changes nothing, so run it first.",
    ),
    Command(
        "prune",
        MAINTENANCE,
        "cli.commands.maintenance:prune",
        "delete old checkpoints, and with --history old revisions, and free their space",
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
            Option("keep", "int", "always keep the newest N"),
            _OLDER_THAN,
            Option("history", "flag", "apply the same limits to the revisions of the history"),
            replace(_DRY_RUN, help="only show what would be deleted, and about how much space that frees"),
        ),
        examples=(
            "prune --keep 20 --dry-run",
            "prune --older-than 30d --history --yes",
            "prune 'nightly_*' --keep 7 --older-than 2w",
        ),
        more="Automatic checkpoints are auto_… and before_… with a time. Others are deleted only if PATTERN names\n"
        "them. With both --keep and --older-than, a checkpoint is deleted only if both select it. Data that a\n"
        "remaining checkpoint needs is kept. Pruning cannot be undone. At a terminal it shows what it would delete,\n"
        "and asks. In a script it needs --yes.",
        refuses=_READS,
        back=FOR_GOOD,
    ),
    Command(
        "compact",
        MAINTENANCE,
        "cli.commands.maintenance:compact",
        "free unused space; with --keep or --older-than, also drop old history",
        options=(
            Option("keep", "int", "drop the history except the newest N revisions"),
            replace(_OLDER_THAN, help="drop history older than this: a number and s, m, h, d or w, such as 30d"),
            replace(_DRY_RUN, help="only show what would be dropped, and about how much space that frees"),
        ),
        examples=("compact", "compact --keep 1000 --dry-run", "compact --older-than 12w --yes"),
        more="Without --keep and --older-than it removes only unreachable data, and does not ask. Data that a\n"
        "checkpoint needs is always kept. Writers may continue, except while SQLite rewrites its file at the end.",
        refuses=_READS,
        back=FOR_GOOD,
    ),
    Command(
        "stats",
        MAINTENANCE,
        "cli.commands.maintenance:stats",
        "show the size of the namespace: keys, history, checkpoints, largest values, growth, disk space",
        options=(Option("all", "flag", "print a table of all namespaces of the store"),),
        examples=("stats", "stats --format json", "stats --all --format table"),
        more="Sizes are in bytes, of the encoded values. It lists all keys, and does not read their values.\n"
        "With --all the column problem says why a namespace cannot be read.",
        refuses=_READS,
        excludes=(("namespace", "all"),),
        effect=READS_ALONE,
    ),
    Command(
        "key",
        MAINTENANCE,
        "cli.commands.encryption:key",
        "encrypt the namespace, and manage the keys that open it",
        (
            Arg("act", f"choice:{','.join(dict.fromkeys(act.name for act in _ACTS))}", "what to do, see below"),
            Arg("name", "label", "of remove: the label or id of the key", required=False),
        ),
        (
            Option("label", "text", "of on and add: the name of the key"),
            Option(
                "key-file",
                "path",
                "take the key from this file; -: from standard input, or ask for it. Of rotate --data: the other keys",
                many=True,
            ),
            Option("passphrase", "flag", "ask for a passphrase, which is the key"),
            Option("data", "flag", "of rotate: make a new data key, and rewrite everything"),
        ),
        examples=(
            "key new > key.txt",
            "key status",
            "key add --label laptop > laptop.txt",
            "key rotate --key-file new.txt",
            "key rotate --data --key-file laptop.txt",
        ),
        more="The key in use comes from STATEVIEW_KEY, or from the store's encryption_key in stateview.toml. A key is\n"
        "never an argument. A key file holds what 'key new' printed, or passphrase: and words. A new key is printed\n"
        "before it opens anything: if it cannot be printed, nothing is changed. 'on', 'off' and 'rotate --data'\n"
        "rewrite all that is stored, while others read and write. If they are killed, repeat the command. 'off' asks;\n"
        "in a script it needs --yes.",
        refuses=_READS,
        excludes=(("key-file", "passphrase"), ("data", "passphrase")),
        acts=_ACTS,
        effect="'new' and 'status' change nothing. The others change how the namespace is encrypted, and no value.",
        local=True,
    ),
    # --- interfaces --------------------------------------------------------------------------------------------------
    Command(
        "shell",
        INTERFACES,
        "shell.command:start",
        "open an interactive shell, or run a script of commands",
        (_STORE,),
        (
            Option("file", "path", "run the lines of this file", "-f"),
            Option("command", "text", "run this line; may be repeated", "-c", many=True),
            Option("keep-going", "flag", "continue after an error; the exit code is still that of the first error"),
        ),
        examples=("shell", "shell -f check.sv", "shell -c 'use staging' -c 'assert phase == done'"),
        more="Without -f and -c it reads lines from standard input. It prompts only at a terminal.",
        effect="It opens a prompt, or runs a script. What its lines do, 'explain' tells of each line.",
        local=True,
    ),
    Command(
        "dashboard",
        INTERFACES,
        "dashboard.command:start",
        "open the dashboard: browse, compare and restore states",
        (_STORE,),
        (
            Option("at", "ref", "open at this state instead of live"),
            Option("theme", "text", "the colours [stateview.toml: theme]"),
        ),
        ("ui",),
        (
            "dashboard",
            "dashboard sqlite:./state -n staging",
            "dashboard runs.sqlite",
            "ui prod --read-only",
            "dashboard --at after_planning",
        ),
        more="At a terminal, 'stateview' alone opens it too. '?' lists its keys. Each action shows its command line.",
        refuses=("format",),
        effect="It opens the dashboard. Whatever writes there asks first, or can be undone with z.",
        local=True,
    ),
    Command(
        "serve",
        INTERFACES,
        "dashboard.web.command:serve",
        "serve the dashboard as a web page",
        (_STORE,),
        (
            Option("host", "text", "address to listen on (default: 127.0.0.1)"),
            Option("port", "int", "port (default: 8642; 0: any free port)"),
            Option("write", "flag", "allow writes; without it the page is read-only"),
            Option("open", "flag", "open the page in a browser"),
        ),
        examples=("serve", "serve --open", "serve prod --port 0", "serve --write"),
        more="It prints a URL with a token, lists the open pages, and runs until Ctrl-C. The URL lets one browser in;\n"
        "u, or without a terminal SIGUSR1, prints a new one for another browser. Whoever has the URL can read the\n"
        "state, and with --write change it. The connection is not encrypted: use --host only in a network that you\n"
        "trust. A page shows no secrets, such as passwords, without --write.",
        refuses=("format",),
        effect="It serves the dashboard. Its page changes something only with --write.",
        local=True,
    ),
    # --- help --------------------------------------------------------------------------------------------------------
    Command(
        "help",
        HELP,
        "cli.commands.help:show",
        "list the commands, or explain one of them",
        (Arg("command", "command", "the command", required=False),),
        examples=("help restore",),
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "explain",
        HELP,
        "cli.commands.explain:explain",
        "say in words what a command would do, and show what it would change",
        (Arg("line", "line", "a command with its arguments, as you would type it", many=True),),
        examples=("explain restore after_planning", "explain delete 'tmp:*'", "--format json explain prune --keep 5"),
        more="It changes nothing: it does what --dry-run does. Options of its own, such as --format, stand before it.",
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "demo",
        HELP,
        "cli.commands.demo:demo",
        "create a small example store and show the main commands on it",
        (Arg("folder", "path", "the folder to create (default: stateview-demo)", required=False),),
        examples=("demo",),
        refuses=("store", "namespace", "read-only", *_READS),
        effect="It makes a folder with a store of its own. It changes no other state.",
        local=True,
    ),
    Command(
        "completion",
        HELP,
        "cli.completion:print_script",
        "print the completion script for bash, zsh or fish",
        (Arg("shell", "choice:bash,zsh,fish", "bash, zsh or fish"),),
        examples=('eval "$(stateview completion bash)"', "stateview completion fish | source"),
        refuses=_READS,
        effect=READS_ALONE,
    ),
    Command(
        "_complete",
        HELP,
        "cli.completion:complete",
        "print the candidates for the last word of a line",
        (Arg("words", "raw", "the words so far", False, True),),
        hidden=True,
        local=True,
    ),
    # --- only in the shell -------------------------------------------------------------------------------------------
    Command(
        "use",
        SHELL,
        "shell.commands:use",
        "switch to another namespace",
        (Arg("namespace", "namespace", "the namespace"),),
        examples=("use staging",),
        shell=True,
    ),
    Command(
        "connect",
        SHELL,
        "shell.commands:connect",
        "switch to another store",
        (Arg("store", "store", "store URL, json, sqlite, redis, or a name in stateview.toml"),),
        examples=("connect sqlite:./state", "connect prod"),
        shell=True,
    ),
    Command(
        "begin",
        SHELL,
        "shell.commands:begin",
        "begin a transaction",
        examples=("begin",),
        shell=True,
        more="Until 'commit' or 'rollback', save, load, delete and keys work on the transaction. diff, log and\n"
        "history show its writes, as revision 0.",
    ),
    Command(
        "commit",
        SHELL,
        "shell.commands:commit",
        "commit the transaction",
        options=(_REASON,),
        examples=("commit",),
        shell=True,
    ),
    Command(
        "rollback", SHELL, "shell.commands:rollback", "discard the transaction", examples=("rollback",), shell=True
    ),
    Command(
        "option",
        SHELL,
        "shell.commands:option",
        "show or set an option of the shell",
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
        SHELL,
        "shell.commands:alias",
        "list the aliases, or define one for the beginning of a line",
        (
            Arg("name", "text", "the alias", required=False),
            Arg("words", "raw", "the words that it stands for; without them the alias is deleted", False, True),
        ),
        examples=("alias", "alias back restore after_planning --keys job"),
        shell=True,
    ),
    Command(
        "source",
        SHELL,
        "shell.commands:source",
        "run the lines of a file",
        (Arg("file", "path", "the file"),),
        examples=("source check.sv",),
        shell=True,
        local=True,
    ),
    Command(
        "exit", SHELL, "shell.commands:leave", "leave the shell", aliases=("quit",), examples=("exit",), shell=True
    ),
)

BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}
