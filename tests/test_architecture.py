"""What imports what: one direction only, and nothing heavy before it is needed."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import stress

from stateview import StateManager

ROOT = Path(__file__).parent.parent
HEAVY = [
    "cryptography",
    "textual",
    "prompt_toolkit",
    "rich",
    "redis",
    "tomlkit",
    "click",
    "apsw",
    "sqlite3",
    "asyncio",
    "ssl",
    "http",
    "langgraph",
    "langchain_core",
    "ormsgpack",
    "key_value",
]

LOAD = """
    quick_msgspec arguments backends backends.conflicts backends.files
    backends.error_places backends.files.durable_files backends.files.namespace_folders backends.fork
    backends.protocol backends.reentry backends.retries backends.stored_values
    cli cli.commands cli.commands.keys cli.context cli.definition cli.exit_codes cli.parser cli.program cli.render
    cli.results cli.values codec errors manager model settings
    states states.changes states.missing states.matching states.matching.patterns states.transaction states.view
"""
LOAD_OF = {
    "json": """
        backends.deltas backends.key_ranges backends.jsonfile backends.jsonfile.backend backends.jsonfile.document
        backends.jsonfile.history backends.jsonfile.reader backends.jsonfile.records backends.jsonfile.writer
    """,
    "sqlite": """
        backends.deltas backends.sqlite backends.sqlite.backend backends.sqlite.connections
        backends.sqlite.connections.database backends.sqlite.connections.file_locks
        backends.sqlite.connections.page_checksums backends.sqlite.connections.pool
        backends.sqlite.connections.wal_index backends.sqlite.read_cache backends.sqlite.reader
        backends.sqlite.row_checksums backends.sqlite.schema backends.sqlite.writer
    """,
}


def loaded(code, folder):
    """The modules loaded once `code` has run in an interpreter of its own."""
    code += "\nimport sys; print('\\n'.join(sys.modules))"
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("\n"))


def test_every_library_that_is_imported_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *extras["encryption"]]
    declared = {re.match(r"[\w-]+", text)[0] for text in named}
    declared |= {"langgraph", "langchain_core", "ormsgpack", "key_value"}  # of the extras `langgraph` and `keyvalue`
    text = "\n".join(path.read_text() for path in (ROOT / "stateview").rglob("*.py"))
    imported = set(re.findall(r"^ *(?:import|from) (\w+)[\w.]*(?: import .*| as .*)?$", text, re.MULTILINE))
    newer = {"compression"}  # of Python 3.14
    tests_only = {"pytest"}  # `stateview.testing`, which a backend's own tests import
    assert imported - sys.stdlib_module_names - {"stateview"} - newer - tests_only == declared


def test_a_state_manager_loads_no_terminal_library_and_no_client(tmp_path):
    found = loaded("import stateview; stateview.StateManager", tmp_path)
    assert found & set(HEAVY) == set()
    assert {name for name in found if name.startswith("stateview.backends.")} <= {
        "stateview.backends.protocol", "stateview.backends.conflicts", "stateview.backends.reentry",
        "stateview.backends.retries",
    }  # fmt: skip


def test_the_asynchronous_face_loads_little_more_than_asyncio(tmp_path):
    found = loaded("from stateview import AsyncStateManager", tmp_path)
    assert found & set(HEAVY) == {"asyncio", "ssl"}  # asyncio imports ssl
    assert [name for name in found if name.startswith(("stateview.transfer", "stateview.sealing"))] == []


@pytest.mark.parametrize(
    ("url", "allowed", "module"),
    [("json:s", set(), "jsonfile"), ("sqlite:s", {"apsw"}, "sqlite")],
    ids=["json", "sqlite"],
)
def test_a_backend_loads_itself_alone(tmp_path, url, allowed, module):
    code = f"""
from stateview import StateManager
state = StateManager({url!r}, "one")
state.save("a", [1, 2])
state.checkpoint("c")
state.save("a", [1, 3])
assert state.load("a") == [1, 3]
assert len(list(state.diff("c"))[0].paths) == 1
state.restore_checkpoint("c")
state.close()
"""
    found = loaded(code, tmp_path)
    assert f"stateview.backends.{module}" in found
    assert found & set(HEAVY) == allowed
    others = {"jsonfile", "sqlite", "redis"} - {module}
    assert found & {f"stateview.backends.{other}" for other in others} == set()
    unused = ("stateview.sealing", "stateview.backends.sealed_values", "stateview.backends.sqlite.sealing")
    assert found & {*unused, "stateview.backends.jsonfile.recovery", "stateview.backends.sqlite.recovery"} == set()


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_load_imports_few_modules(tmp_path, kind):
    """Each module takes about a quarter of a millisecond of every command."""
    with StateManager(f"{kind}:{tmp_path}", "default") as state:
        state.save("k", 1)
    found = loaded(f"from stateview.cli.program import main; main(['-s', '{kind}:{tmp_path}', 'load', 'k'])", tmp_path)
    assert found & {"typing_extensions", "inspect"} == set(), "msgspec falls back to typing"
    own = {name.removeprefix("stateview.") for name in found if name.startswith("stateview.")}
    assert own - set(f"{LOAD} {LOAD_OF[kind]}".split()) == set(), "import these where they are used"


def test_imports_point_down():
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kept" in done.stdout


def test_the_table_of_stress_tests_names_tests_that_there_are():
    texts = [path.read_text() for folder in ("tests", "stateview") for path in (ROOT / folder).rglob("*.py")]
    assert [name for name in stress.CASES if not any(f"def {name}(" in text for text in texts)] == []
